"""Derivatives in the output folder: names, sidecars, the data set's own files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from numpy.typing import NDArray

from mrn_prep import __version__, bids_templates
from mrn_prep.io.atomic import write_json, write_text
from mrn_prep.io.citations import citation_files
from mrn_prep.io.dataset import read_json
from mrn_prep.io.images import save_like
from mrn_prep.io.names import build
from mrn_prep.models.status import legend
from mrn_prep.outputs import FileSpec, MapSpec

BIDS_VERSION = "1.11.1"
_DERIVATIVE = Path(bids_templates.__file__).with_name("derivative")


def map_path(
    spec: MapSpec, entities: Mapping[str, str], companion: str = "", method: str = ""
) -> str:
    """Return the path of a map or of its companion (``se``, ``status``) in the data set.

    >>> from mrn_prep.outputs import OUTPUTS
    >>> map_path(OUTPUTS["t1"], {"subject": "01"}, "se")
    'sub-01/anat/sub-01_desc-se_T1map.nii.gz'
    >>> map_path(OUTPUTS["t1"], {"subject": "01"}, "se", method="ir")
    'sub-01/anat/sub-01_desc-irse_T1map.nii.gz'
    """
    desc = {"desc": method + companion} if method + companion else {}
    return build(
        {**entities, **spec.entities, **desc, "datatype": spec.datatype, "suffix": spec.suffix,
         "extension": ".nii.gz"}
    )  # fmt: skip


def file_path(spec: FileSpec, entities: Mapping[str, str]) -> str:
    """Return the path of a derivative that is not a map."""
    return build(
        {**entities, **spec.entities, "datatype": spec.datatype, "suffix": spec.suffix,
         "extension": spec.extension}
    )  # fmt: skip


def write_map(
    out_dir: str | Path,
    spec: MapSpec,
    entities: Mapping[str, str],
    image: nb.Nifti1Image,
    sidecar: Mapping[str, object],
    companion: str = "",
    method: str = "",
) -> Path:
    """Write a map (SI inside, unit of the table on disk) or a companion, with its sidecar.

    Parameters
    ----------
    out_dir
        The derivative data set.
    spec
        The map's row of the outputs table.
    entities
        What the names of the series' maps share.
    image
        The map in the models' unit.
    sidecar
        Fields beyond those that the table gives (sources, method, flags ...).
    companion
        Empty for the map itself, else ``se`` or ``status``.
    method
        Empty for the default method of the quantity, else what goes into ``desc-``.
    """
    path = Path(out_dir) / map_path(spec, entities, companion, method)
    values: NDArray[Any] = np.asanyarray(image.dataobj)
    own: dict[str, object] = dict(spec.sidecar())
    if companion == "status":
        values = values.astype(np.uint8)
        own = {
            "Description": f"Why voxels of the {spec.title} map have no value; 0 is fitted.",
            "Levels": legend(),
        }
    else:
        values = values * np.float32(spec.scale)
        if companion == "se":
            own["Description"] = f"Standard error (68 %) of the {spec.title} map."
    save_like(values, image, path)
    write_json(sidecar_path(path), {**own, "SkullStripped": False, **sidecar})
    return path


def sidecar_path(path: str | Path) -> Path:
    """Return the JSON beside an image or table."""
    path = Path(path)
    return path.with_name(path.name.split(".")[0] + ".json")


def write_dataset_files(
    out_dir: str | Path, *, raw: Path, derivatives: Mapping[str, Path], code: str = ""
) -> None:
    """Write what the data set has once: description, .bidsignore, CITATION, README.

    Existing files with the same content are left alone, so that several runs may
    write into one folder. Links that an earlier run made to other data sets stay,
    because its maps name them as sources.
    """
    out_dir = Path(out_dir)
    path = out_dir / "dataset_description.json"
    links = _earlier_links(path) | {
        name: _relative(target, out_dir) for name, target in {"raw": raw, **derivatives}.items()
    }
    description = json.loads((_DERIVATIVE / path.name).read_text(encoding="utf-8"))
    description["BIDSVersion"] = BIDS_VERSION
    description["GeneratedBy"][0]["Version"] = __version__
    if code:
        description["GeneratedBy"][0]["Container"] = {"Tag": code}
    description["SourceDatasets"] = [
        {"URL": f"bids:{name}:"} | (_identity(raw) if name == "raw" else {}) for name in links
    ]
    description["DatasetLinks"] = links
    texts = {path.name: json.dumps(description, indent=2, ensure_ascii=False) + "\n"}
    texts |= citation_files()
    for source in _DERIVATIVE.iterdir():
        name = source.name.removeprefix("dot") if source.name.startswith("dot.") else source.name
        if source.is_file() and name != path.name:
            texts[name] = source.read_text(encoding="utf-8").replace("{version}", __version__)
    for name, text in sorted(texts.items()):
        _keep_or_write(out_dir / name, text)


def _earlier_links(path: Path) -> dict[str, str]:
    try:
        links = read_json(path).get("DatasetLinks")
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in links.items()} if isinstance(links, dict) else {}


def _identity(raw: Path) -> dict[str, str]:
    """Return what names the raw data set for good: its DOI, where it has one."""
    try:
        doi = read_json(raw / "dataset_description.json").get("DatasetDOI")
    except (OSError, ValueError):
        return {}
    return {"DOI": doi} if isinstance(doi, str) else {}


def _keep_or_write(path: Path, text: str) -> None:
    if not path.exists() or path.read_bytes() != text.encode("utf-8"):
        write_text(path, text)


def _relative(path: Path, start: Path) -> str:
    """Return a relative path, so that both folders can move together."""
    return os.path.relpath(path.resolve(), start.resolve())
