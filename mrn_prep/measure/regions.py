"""Which voxels of a map lie in which region.

Regions are drawn on one grid and measured on another: they meet by world
coordinates, each voxel of the map being sampled finer than the mask's voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]
Box = tuple[slice, ...]

_MAX_SAMPLES = 7  # per axis; finer brings less than the mask's own uncertainty
_PURE_PROBABILITY = 0.99
_SAME_GRID_MM = 1e-3


@dataclass(frozen=True)
class Membership:
    """One region on the grid of a map.

    Attributes
    ----------
    box
        The part of the grid that the arrays cover; outside it nothing is in the region.
    fraction : array, shape of the box
        The part of each voxel that lies in the region, 0 to 1.
    pure : bool array, shape of the box
        Voxels that lie wholly inside, one mask voxel away from the border in plane.
    inside_image : float
        The part of the region's volume that the grid covers, 0 to 1.
    """

    box: Box
    fraction: Float
    pure: Bool
    inside_image: float


def memberships(
    mask: NDArray[np.generic],
    mask_affine: Float,
    labels: Sequence[int],
    shape: tuple[int, ...],
    affine: Float,
) -> Mapping[int, Membership]:
    """Return the part of each voxel of a grid that lies in each labelled region.

    Parameters
    ----------
    mask : int array, shape (a, b, c)
        Label image; for masks, label 1. Labels that are not in `labels` are ignored.
    mask_affine, affine : array, shape (4, 4)
        Voxel to world (mm) of the mask and of the map.
    labels
        The labels to look for.
    shape
        Shape of the map.
    """
    mask = np.asarray(mask)
    core = _core(mask, mask_affine)
    offsets = _offsets(mask_affine, affine, mask.shape == shape)
    drawn = dict(enumerate(find_objects(np.maximum(mask, 0)), start=1))
    found = {}
    for label in labels:
        box = _box(drawn.get(label), mask_affine, affine, shape)
        size = tuple(part.stop - part.start for part in box)
        fraction, pure = np.zeros(size, np.float32), np.ones(size, np.bool_)
        for index in _lookups(offsets, mask_affine, affine, box, mask.shape):
            fraction += _at(mask, index) == label
            pure &= _at(core, index) == label
        volume = float((mask == label).sum())
        fraction /= len(offsets)
        covered = _covered(fraction, volume, mask_affine, affine)
        found[label] = Membership(box, fraction, pure, covered)
    return found


def probability_membership(
    probability: Float, mask_affine: Float, shape: tuple[int, ...], affine: Float
) -> Membership:
    """Return the membership of a region that is given as probabilities (``probseg``)."""
    offsets = _offsets(mask_affine, affine, probability.shape == shape)
    drawn = find_objects((probability > 0).astype(np.uint8))
    box = _box(drawn[0] if drawn else None, mask_affine, affine, shape)
    size = tuple(part.stop - part.start for part in box)
    fraction, pure = np.zeros(size, np.float32), np.ones(size, np.bool_)
    for index in _lookups(offsets, mask_affine, affine, box, probability.shape):
        here = _at(probability, index)
        fraction += here
        pure &= here >= _PURE_PROBABILITY
    fraction /= len(offsets)
    volume = float(probability.sum(dtype=np.float64))
    return Membership(box, fraction, pure, _covered(fraction, volume, mask_affine, affine))


def slice_axis(affine: Float) -> int:
    """Return the axis along which the slices lie: the thickest, else the third.

    >>> slice_axis(np.diag([4.0, 0.5, 0.5, 1.0])), slice_axis(np.eye(4))
    (0, 2)
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return 2 if np.allclose(sizes, sizes[2], rtol=0.01) else int(np.argmax(sizes))


def _covered(fraction: Float, drawn: float, mask_affine: Float, affine: Float) -> float:
    """Return the part of a region's volume that the grid covers."""
    unit = abs(np.linalg.det(affine[:3, :3])) / abs(np.linalg.det(mask_affine[:3, :3]))
    return min(float(fraction.sum(dtype=np.float64) * unit / drawn), 1.0) if drawn else 0.0


def _box(drawn: Box | None, mask_affine: Float, affine: Float, shape: tuple[int, ...]) -> Box:
    """Return the part of a grid that a part of the mask reaches."""
    if drawn is None:
        return (slice(0, 0),) * 3
    corners = np.array(list(product(*((s.start - 0.5, s.stop - 0.5) for s in drawn))))
    to_grid = np.linalg.inv(affine) @ mask_affine
    reached = corners @ to_grid[:3, :3].T + to_grid[:3, 3]
    low = np.floor(reached.min(axis=0) - 0.5).astype(int)
    high = np.ceil(reached.max(axis=0) + 0.5).astype(int) + 1
    return tuple(
        slice(max(int(a), 0), max(min(int(b), n), int(a), 0))
        for a, b, n in zip(low, high, shape, strict=True)
    )


def _core(mask: NDArray[np.generic], affine: Float) -> NDArray[np.generic]:
    """Erase the labels of voxels that touch another label within their slice.

    The border voxel of a drawn region is as much outside as inside. Slices
    are thick, so only in-plane neighbours count.
    """
    core = mask.copy()
    for axis in {0, 1, 2} - {slice_axis(affine)}:
        for shift in (-1, 1):
            neighbour = np.roll(mask, shift, axis)
            edge = [slice(None)] * 3
            edge[axis] = slice(0, 1) if shift == 1 else slice(-1, None)
            neighbour[tuple(edge)] = 0
            core[neighbour != mask] = 0
    return core


def _offsets(mask_affine: Float, affine: Float, same_shape: bool) -> list[tuple[float, ...]]:
    """Return sample points within a voxel (in voxels, centre 0)."""
    if same_shape and np.allclose(mask_affine, affine, atol=_SAME_GRID_MM):
        return [(0.0, 0.0, 0.0)]
    steps = np.abs(np.linalg.inv(mask_affine)[:3, :3] @ affine[:3, :3])
    counts = np.clip(np.ceil(2 * steps.max(axis=0)), 3, _MAX_SAMPLES).astype(int)
    axes = [(np.arange(n) + 0.5) / n - 0.5 for n in counts]
    return [tuple(float(v) for v in point) for point in product(*axes)]


def _lookups(
    offsets: Sequence[tuple[float, ...]],
    mask_affine: Float,
    affine: Float,
    box: Box,
    mask_shape: tuple[int, ...],
) -> Iterator[NDArray[np.intp]]:
    """Yield, for each sample point, the flat mask index of the box's voxels (-1 outside)."""
    to_mask = np.linalg.inv(mask_affine) @ affine
    i, j, k = (np.arange(part.start, part.stop, dtype=np.float64) for part in box)
    shape = (i.size, j.size, k.size)
    for offset in offsets:
        inside = np.ones(shape, np.bool_)
        flat = np.zeros(shape, np.intp)
        for axis in range(3):
            row = to_mask[axis]
            place = np.rint(
                (row[0] * (i + offset[0]))[:, None, None]
                + (row[1] * (j + offset[1]))[None, :, None]
                + (row[2] * (k + offset[2]) + row[3])[None, None, :]
            ).astype(np.intp)
            inside &= (place >= 0) & (place < mask_shape[axis])
            flat = flat * mask_shape[axis] + place
        flat[~inside] = -1
        yield flat


def _at(values: NDArray[Any], index: NDArray[np.intp]) -> NDArray[Any]:
    """Return values at flat indices; 0 outside."""
    found = np.ascontiguousarray(values).ravel()[np.maximum(index, 0)]
    found[index < 0] = 0
    return found
