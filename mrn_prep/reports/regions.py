"""Regions on a map's grid: their outlines and the voxels of each tissue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrn_prep.inputs.rois import RegionFile
from mrn_prep.io import images

Labels = NDArray[np.int32]

# Bright enough for the dark end of every colour map; each is drawn over a dark halo.
TISSUE_COLOURS = {
    "nerve": "#ff5fa8",
    "muscle": "#ff9f45",
    "fat": "#e8cf3a",
    "artery": "#ff4d4d",
    "vein": "#5aa9ff",
    "bone": "#a9bccd",
}
_OTHERS = ("#9be564", "#c9a0ff", "#6fe3e1", "#d9b38c")
_ORDER = tuple(TISSUE_COLOURS)


@dataclass(frozen=True)
class Placed:
    """Regions of one file as numbers on their own grid."""

    labels: Labels
    affine: NDArray[np.float64]
    tissues: tuple[str, ...]
    """Tissue of label i + 1."""
    names: tuple[str, ...]
    """Name and side of label i + 1."""


def tissue_order(tissue: str) -> tuple[int, str]:
    """Return a sort key: nerves first, then the tissues as `TISSUE_COLOURS` lists them."""
    return (_ORDER.index(tissue) if tissue in _ORDER else len(_ORDER), tissue)


def tissue_colours(tissues: Sequence[str]) -> dict[str, str]:
    """Return a colour for each tissue, in their order."""
    others = sorted({t for t in tissues if t not in TISSUE_COLOURS})
    extra = {t: _OTHERS[i % len(_OTHERS)] for i, t in enumerate(others)}
    return {t: {**TISSUE_COLOURS, **extra}[t] for t in sorted(set(tissues), key=tissue_order)}


def place(record: RegionFile) -> Placed:
    """Read a region file; its labels are numbered by its own regions."""
    image = images.load(record.file)
    values = images.array(image)
    labels = np.zeros(values.shape[:3], np.int32)
    for number, region in enumerate(record.regions, start=1):
        if record.kind == "dseg":
            inside = np.round(values.reshape(labels.shape)) == region.index
        else:
            threshold = 0.5 if record.kind == "probseg" else 0
            inside = values.reshape(labels.shape) > threshold
        labels[inside] = number
    tissues = tuple(str(region.tissue or "n/a") for region in record.regions)
    names = tuple(
        " ".join(word for word in (region.name, region.side) if word != "n/a")
        for region in record.regions
    )
    return Placed(labels, np.asarray(image.affine), tissues, names)


def on_grid(placed: Placed, shape: Sequence[int], affine: NDArray[np.floating]) -> Labels:
    """Return the labels at the voxels of another grid, the nearest by world coordinates."""
    to_labels = np.linalg.inv(placed.affine) @ affine
    return np.asarray(
        ndimage.affine_transform(
            placed.labels,
            to_labels[:3, :3],
            to_labels[:3, 3],
            tuple(shape[:3]),
            order=0,
            mode="grid-constant",
            cval=0,
        )
    )


def tissue_masks(
    regions: Sequence[Placed], shape: Sequence[int], affine: NDArray[np.floating]
) -> dict[str, NDArray[np.bool_]]:
    """Return the voxels of each tissue on a grid."""
    found: dict[str, NDArray[np.bool_]] = {}
    for placed in regions:
        labels = on_grid(placed, shape, affine)
        for tissue in set(placed.tissues):
            wanted = [i for i, t in enumerate(placed.tissues, start=1) if t == tissue]
            inside = np.isin(labels, wanted)
            found[tissue] = found[tissue] | inside if tissue in found else inside
    return {t: found[t] for t in sorted(found, key=tissue_order) if found[t].any()}


def outline(labels: Labels) -> str:
    """Return the borders of the labels of a picture as an SVG path, in pixels.

    Neighbouring regions are parted, and straight pieces are one stroke.

    >>> outline(np.array([[0, 1, 1, 0]], np.int32))
    'M1 0h2M1 1h2M1 0v1M3 0v1'
    """
    return "".join(_runs(labels, "h")) + "".join(_runs(labels.T, "v"))


def _runs(labels: Labels, direction: str) -> list[str]:
    """Return strokes along the rows: where a pixel differs from the one above it."""
    padded = np.pad(labels, ((1, 1), (0, 0)))
    border = np.pad(padded[1:] != padded[:-1], ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(border, axis=1)
    strokes = []
    for (row, start), (_, stop) in zip(
        np.argwhere(change == 1), np.argwhere(change == -1), strict=True
    ):
        x, y = (start, row) if direction == "h" else (row, start)
        strokes.append(f"M{x} {y}{direction}{stop - start}")
    return strokes
