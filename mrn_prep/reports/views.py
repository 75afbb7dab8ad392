"""How a grid is shown: which slices, which way round, cut to the limb."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray

MAX_SLICES = 6
_MARGIN = 2  # voxels around the limb
_GAP = 1  # voxels between the slices of a mosaic


@dataclass(frozen=True, kw_only=True)
class View:
    """Slices of one grid, oriented as a radiologist reads them.

    The patient's right is on the left; anterior (or superior) is up.
    """

    slices: tuple[int, ...]
    swap: bool
    """Whether the grid's first axis runs vertically on the page."""
    flip: tuple[bool, bool]
    """Whether the vertical and the horizontal axis are turned round."""
    rows: slice
    columns: slice
    voxel: tuple[float, float]
    """Height and width of a voxel (mm)."""
    edges: tuple[str, str]
    """What lies left and right of the picture, such as R and L."""
    world_z: tuple[float, ...]
    """World coordinate of each slice along the axis nearest to its normal (mm)."""

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns of one slice."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def across(self, aspect: float) -> int:
        """Return how many slices stand side by side, for a mosaic about `aspect` times as wide."""
        height, width = self.tile[0] * self.voxel[0], self.tile[1] * self.voxel[1]

        def off(n: int) -> float:
            down = -(-len(self.slices) // n)
            empty = n * down - len(self.slices)
            return abs(math.log(n * width / (down * height) / aspect)) + 0.1 * empty

        return min(range(1, len(self.slices) + 1), key=off)

    def shape(self, across: int) -> tuple[int, int]:
        """Return rows and columns of the mosaic."""
        down = -(-len(self.slices) // across)
        height, width = self.tile
        return down * (height + _GAP) - _GAP, across * (width + _GAP) - _GAP

    def origin(self, position: int, across: int) -> tuple[int, int]:
        """Return row and column where a slice begins in the mosaic."""
        row, column = divmod(position, across)
        return row * (self.tile[0] + _GAP), column * (self.tile[1] + _GAP)

    def picture(self, volume: NDArray[np.generic], k: int) -> NDArray[np.generic]:
        """Return one slice of a 3D (or vector) volume the way it is shown."""
        plane = volume[:, :, k]
        if not self.swap:
            plane = plane.swapaxes(0, 1)
        plane = plane[:: -1 if self.flip[0] else 1, :: -1 if self.flip[1] else 1]
        return plane[self.rows, self.columns]

    def mosaic(self, volume: NDArray[np.generic], empty: float, across: int) -> NDArray[np.generic]:
        """Return all slices in one picture, `empty` between them."""
        out = np.full((*self.shape(across), *volume.shape[3:]), empty, volume.dtype)
        for position, k in enumerate(self.slices):
            row, column = self.origin(position, across)
            out[row : row + self.tile[0], column : column + self.tile[1]] = self.picture(volume, k)
        return out


def spread(candidates: Sequence[int], n: int = MAX_SLICES) -> tuple[int, ...]:
    """Return at most `n` of the slices, evenly spread.

    >>> spread(range(12), 4)
    (1, 4, 7, 10)
    """
    count = len(candidates)
    if count <= n:
        return tuple(candidates)
    return tuple(candidates[int((i + 0.5) * count / n)] for i in range(n))


def choose(limb: NDArray[np.bool_], wanted: Sequence[NDArray[np.bool_]]) -> tuple[int, ...]:
    """Return slices that show the first of the wanted masks that has any, else the limb."""
    for mask in (*wanted, limb):
        present = np.flatnonzero(mask.any(axis=(0, 1)))
        if present.size:
            return spread(present.tolist())
    return spread(range(limb.shape[2]))


def anchors(
    slices: Sequence[int], limb: NDArray[np.bool_], affine: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the world coordinates of the chosen slices' middles, shape (n, 3)."""
    inside = np.argwhere(limb.any(axis=2))
    middle = inside.mean(axis=0) if inside.size else (np.array(limb.shape[:2]) - 1) / 2
    points = np.array([[*middle, k, 1.0] for k in slices])
    return np.asarray(points @ affine.T)[:, :3]


def at_anchors(
    points: NDArray[np.float64], shape: Sequence[int], affine: NDArray[np.floating]
) -> tuple[int, ...]:
    """Return the slices of a grid nearest to places chosen on another."""
    inside = np.c_[points, np.ones(len(points))] @ np.linalg.inv(affine).T
    nearest = np.round(inside[:, 2]).astype(int)
    return tuple(sorted({int(k) for k in nearest if 0 <= k < shape[2]}))


def view_of(limb: NDArray[np.bool_], affine: NDArray[np.floating], slices: Sequence[int]) -> View:
    """Return the view of a grid: oriented by its affine, cut to the limb.

    Parameters
    ----------
    limb : bool array, shape (x, y, z)
        Voxels that the pictures must show.
    affine : array, shape (4, 4)
        Voxel to world (mm).
    slices
        Slices to show, along the third axis.
    """
    codes = nb.aff2axcodes(affine)
    size = np.linalg.norm(affine[:3, :3], axis=0)
    # superior is up where it lies in the slice, else anterior
    up = max((0, 1), key=lambda axis: "LRAPIS".index(codes[axis]))
    across = 1 - up
    swap = up == 0
    # the first row is superior or anterior, the first column the patient's right or anterior
    flip = (codes[up] in "SA", codes[across] in "RA")
    edges = ("R", "L") if codes[across] in "LR" else ("A", "P")
    plane = np.asarray(limb.any(axis=2))
    plane = plane if swap else plane.T
    plane = plane[:: -1 if flip[0] else 1, :: -1 if flip[1] else 1]
    normal = "LRPAIS".index(codes[2]) // 2
    origin = np.array([(n - 1) / 2 for n in limb.shape[:2]])
    return View(
        slices=tuple(slices), swap=swap, flip=flip,
        rows=_extent(np.any(plane, axis=1)), columns=_extent(np.any(plane, axis=0)),
        voxel=(float(size[up]), float(size[across])), edges=edges,
        world_z=tuple(float((affine @ [*origin, k, 1.0])[normal]) for k in slices),
    )  # fmt: skip


def _extent(present: ArrayLike) -> slice:
    present = np.asarray(present)
    found = np.flatnonzero(present)
    if not found.size:
        return slice(0, len(present))
    return slice(max(int(found[0]) - _MARGIN, 0), min(int(found[-1]) + 1 + _MARGIN, len(present)))
