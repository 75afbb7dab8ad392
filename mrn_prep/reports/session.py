"""What lies in the output folder for one session: maps, grouped by series."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io import images, names
from mrn_prep.outputs import MapSpec, find_map, of_modality

_NOT_SERIES = frozenset(
    {"subject", "session", "datatype", "suffix", "extension", "model", "param", "desc"}
)
_SHORT = {"acquisition": "acq", "ceagent": "ce", "reconstruction": "rec", "direction": "dir"}


@dataclass(frozen=True, kw_only=True)
class MapFile:
    """A map, its sidecar and its companions."""

    spec: MapSpec
    path: Path
    sidecar: Mapping[str, Any]
    se: Path | None
    status: Path | None
    method: str
    """The ``desc`` of a map that is not by the modality's default method, or empty."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Validity flags of the sidecar."""
        return tuple(map(str, _listed(self.sidecar.get("ValidityFlags"))))


@dataclass(frozen=True, kw_only=True)
class Series:
    """The maps that one series gave."""

    modality: str
    run: str
    """Entities that tell it from others of its kind, such as ``acq-fast run-1``."""
    maps: tuple[MapFile, ...]
    missing: tuple[MapSpec, ...]
    """Maps of the same fit that should stand here and do not."""

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of any of its maps, in order of appearance."""
        return tuple(dict.fromkeys(flag for map_ in self.maps for flag in map_.flags))

    @property
    def anchor(self) -> str:
        """Name that links can point to."""
        return "-".join(["series", self.modality, *self.run.replace("-", "").split()])

    def sidecar_values(self, key: str) -> list[Any]:
        """Return the different values of one sidecar key over the series' maps."""
        found: list[Any] = []
        for map_ in self.maps:
            for value in _listed(map_.sidecar.get(key)):
                if value not in found:
                    found.append(value)
        return found


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


def _listed(value: object) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def read_session(out_dir: Path, subject: str, session: str | None) -> Session:
    """Find the maps of one session; what cannot be read becomes a problem, not an error."""
    parts = [f"sub-{subject}"] + ([f"ses-{session}"] if session else [])
    folder = out_dir.joinpath(*parts)
    problems: list[str] = []
    grouped: dict[tuple[str, str], list[MapFile]] = {}
    for path in sorted(folder.glob("*/*.nii.gz")):
        relative = path.relative_to(out_dir).as_posix()
        entities = names.parse(relative)
        spec = find_map(entities)
        if spec is None or "space" in entities:
            continue
        sidecar, fault = read_sidecar(path)
        if fault:
            problems.append(f"{relative.removesuffix('.nii.gz')}.json: {fault}")
        map_ = MapFile(
            spec=spec, path=path, sidecar=sidecar, method=entities.get("desc", ""),
            se=_companion(out_dir, entities, "se"),
            status=_companion(out_dir, entities, "status"),
        )  # fmt: skip
        run = " ".join(
            f"{_SHORT.get(name, name)}-{value}"
            for name, value in entities.items()
            if name not in _NOT_SERIES
        )
        grouped.setdefault((spec.modality, run), []).append(map_)
    series = [_series(*key, maps) for key, maps in grouped.items()]
    return Session(
        folder=folder, prefix="_".join(parts), series=tuple(sorted(series, key=_series_order)),
        problems=tuple(problems),
    )  # fmt: skip


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


def _companion(out_dir: Path, entities: Mapping[str, str], what: str) -> Path | None:
    path = out_dir / names.build({**entities, "desc": entities.get("desc", "") + what})
    return path if path.exists() else None


def _series(modality: str, run: str, maps: Sequence[MapFile]) -> Series:
    order = {spec.key: i for i, spec in enumerate(of_modality(modality))}
    here = {map_.spec.key for map_ in maps if not map_.method}
    # only maps of a fit that was made are missed: a series need not have every model
    fits = {map_.spec.entities.get("model") for map_ in maps if not map_.method}
    missing = tuple(
        spec
        for spec in of_modality(modality)
        if spec.key not in here and spec.companions and spec.entities.get("model") in fits
    )
    placed = tuple(sorted(maps, key=lambda m: (order[m.spec.key], m.method)))
    return Series(modality=modality, run=run, maps=placed, missing=missing)


_MODALITY_ORDER = ("b1", "t1", "t2", "fatwater", "mt", "dwi", "dce")


def _series_order(series: Series) -> tuple[int, str, str]:
    known = series.modality in _MODALITY_ORDER
    rank = _MODALITY_ORDER.index(series.modality) if known else len(_MODALITY_ORDER)
    return rank, series.modality, series.run


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
