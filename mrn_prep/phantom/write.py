"""Names, sidecars and descriptions that raw data and derivatives of the phantom share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from mrn_prep import __version__
from mrn_prep.io.atomic import write_json, write_text
from mrn_prep.io.derivatives import BIDS_VERSION
from mrn_prep.io.images import save_like
from mrn_prep.io.names import Entities, build
from mrn_prep.phantom.geometry import REGIONS, Region
from mrn_prep.phantom.grid import Grid


def write_image(
    root: Path, entities: Entities, values: ArrayLike, grid: Grid, sidecar: Mapping[str, object]
) -> str:
    """Write an image with its sidecar; return its path relative to `root`."""
    path = build({**entities, "extension": ".nii.gz"})
    save_like(values, grid.image(), root / path)
    write_json(root / path.replace(".nii.gz", ".json"), sidecar)
    return path


def write_tsv(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, object]]) -> Path:
    """Write a table; what is missing or empty becomes ``n/a``."""
    names = list(columns)
    lines = ["\t".join(names)]
    for row in rows:
        cells = (row.get(name) for name in names)
        lines.append("\t".join("n/a" if c in (None, "") else str(c) for c in cells))
    return write_text(path, "\n".join(lines) + "\n")


def write_description(root: Path, name: str, kind: str, *, tool: str, text: str) -> Path:
    """Write dataset_description.json."""
    content: dict[str, object] = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": kind,
        "License": "CC0",
        "Authors": ["The mrn_prep developers", "mrn_prep-phantom"],
        "GeneratedBy": [{"Name": tool, "Version": __version__, "Description": text}],
    }
    if kind == "derivative":
        content["SourceDatasets"] = [{"URL": "../.."}]
        content["DatasetLinks"] = {"raw": "../.."}
    return write_json(root / "dataset_description.json", content)


LABEL_COLUMNS = ("index", "name", "tissue", "side", "level", "reference")


def label_row(region: Region) -> dict[str, object]:
    """Return a region's row of a label table."""
    return {name: getattr(region, name) for name in LABEL_COLUMNS}


def label_sidecar() -> dict[str, object]:
    """Return what sidecars of label images say about the columns of their tables."""
    return {
        "tissue": {"Description": "Kind of tissue"},
        "side": {"Description": "Side of the body", "Levels": {"L": "left", "R": "right"}},
        "level": {"Description": "Height along the limb"},
        "reference": {"Description": "Muscle that the region is compared with"},
    }


def drawn() -> list[Region]:
    """Return the regions that a reader would draw."""
    return [region for region in REGIONS.values() if region.drawn]
