"""What lies in the output folder for one session."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io import images, names
from mrn_prep.io.derivatives import map_path
from mrn_prep.outputs import MapSpec, find_map, method_of
from mrn_prep.reports.series import MapFile, Series, by_series


@dataclass(frozen=True, kw_only=True)
class Session:
    """Everything a participant's page is made from."""

    folder: Path
    prefix: str
    """``sub-01`` or ``sub-01_ses-01``."""
    series: tuple[Series, ...]
    problems: tuple[str, ...] = field(default=())

    def table(self, name: str) -> Path:
        """Return where a table of the session lies."""
        return self.folder / f"{self.prefix}_desc-{name}.tsv"


def read_session(out_dir: Path, subject: str, session: str | None) -> Session:
    """Find the maps of one session; what cannot be read becomes a problem, not an error."""
    parts = [f"sub-{subject}"] + ([f"ses-{session}"] if session else [])
    folder = out_dir.joinpath(*parts)
    problems: list[str] = []
    maps: list[MapFile] = []
    for path in sorted(folder.glob("*/*.nii.gz")):
        relative = path.relative_to(out_dir).as_posix()
        entities = names.parse(relative)
        spec = find_map(entities)
        if spec is None or "space" in entities:
            continue
        sidecar, fault = read_sidecar(path)
        if fault:
            problems.append(f"{relative.removesuffix('.nii.gz')}.json: {fault}")
        maps.append(
            MapFile(
                spec=spec, path=path, entities=entities, sidecar=sidecar,
                se=_companion(out_dir, spec, entities, "se"),
                status=_companion(out_dir, spec, entities, "status"),
            )
        )  # fmt: skip
    return Session(
        folder=folder, prefix="_".join(parts), series=by_series(maps), problems=tuple(problems)
    )


def read_sidecar(path: Path) -> tuple[dict[str, Any], str]:
    """Return the sidecar of an image and what is wrong with it (empty when nothing is)."""
    sidecar = path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, "the sidecar is missing"
    except (OSError, ValueError) as error:
        return {}, f"the sidecar cannot be read ({error})"
    if not isinstance(content, dict):
        return {}, "the sidecar is not a JSON object"
    return content, ""


def _companion(out_dir: Path, spec: MapSpec, entities: Mapping[str, str], what: str) -> Path | None:
    if not spec.companions:
        return None
    path = out_dir / map_path(spec, entities, what, method_of(entities, spec))
    return path if path.exists() else None


@dataclass(frozen=True)
class Volume:
    """The voxels of a file, or why there are none."""

    values: NDArray[np.float32] | None
    affine: NDArray[np.float64]
    fault: str = ""


def read_volume(path: Path) -> Volume:
    """Read an image; a page must come out whatever the file holds."""
    try:
        if path.stat().st_size == 0:
            return Volume(None, np.eye(4), "the file is empty")
        image = images.load(path)
        values = images.array(image)
        if values.ndim < 3 or 0 in values.shape:
            return Volume(None, np.eye(4), f"it has the shape {values.shape}")
        return Volume(values, np.asarray(image.affine))
    except FileNotFoundError:
        return Volume(None, np.eye(4), "it is missing")
    # truncated gzip, foreign bytes, lying headers: each raises its own kind
    except Exception as error:
        return Volume(None, np.eye(4), f"it cannot be read ({error or type(error).__name__})")
