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

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

_MAX_SAMPLES = 7  # per axis; finer brings less than the mask's own uncertainty
_PURE_PROBABILITY = 0.99
_SAME_GRID_MM = 1e-3


@dataclass(frozen=True)
class Membership:
    """One region on the grid of a map.

    Attributes
    ----------
    fraction : array, shape (x, y, z)
        The part of each voxel that lies in the region, 0 to 1.
    pure : bool array, shape (x, y, z)
        Voxels that lie wholly inside, one mask voxel away from the border in plane.
    inside_image : float
        The part of the region's volume that the grid covers, 0 to 1.
    """

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
    fractions = {label: np.zeros(shape, np.float32) for label in labels}
    pure = {label: np.ones(shape, np.bool_) for label in labels}
    for index in _lookups(offsets, mask_affine, affine, shape, mask.shape):
        here, inside = _at(mask, index), _at(core, index)
        for label in labels:
            fractions[label] += here == label
            pure[label] &= inside == label
    unit = abs(np.linalg.det(affine[:3, :3])) / abs(np.linalg.det(mask_affine[:3, :3]))
    found = {}
    for label in labels:
        fraction = fractions[label] / len(offsets)
        drawn = int((mask == label).sum())
        covered = float(fraction.sum(dtype=np.float64) * unit / drawn) if drawn else 0.0
        found[label] = Membership(fraction, pure[label], min(covered, 1.0))
    return found


def probability_membership(
    probability: Float, mask_affine: Float, shape: tuple[int, ...], affine: Float
) -> Membership:
    """Return the membership of a region that is given as probabilities (``probseg``)."""
    offsets = _offsets(mask_affine, affine, probability.shape == shape)
    fraction = np.zeros(shape, np.float32)
    pure = np.ones(shape, np.bool_)
    for index in _lookups(offsets, mask_affine, affine, shape, probability.shape):
        here = _at(probability, index)
        fraction += here
        pure &= here >= _PURE_PROBABILITY
    unit = abs(np.linalg.det(affine[:3, :3])) / abs(np.linalg.det(mask_affine[:3, :3]))
    drawn = float(probability.sum(dtype=np.float64))
    fraction /= len(offsets)
    covered = float(fraction.sum(dtype=np.float64) * unit / drawn) if drawn else 0.0
    return Membership(fraction, pure, min(covered, 1.0))


def _core(mask: NDArray[np.generic], affine: Float) -> NDArray[np.generic]:
    """Erase the labels of voxels that touch another label within their slice.

    The border voxel of a drawn region is as much outside as inside. Slices
    are thick, so only in-plane neighbours count.
    """
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    slice_axis = 2 if np.allclose(sizes, sizes[2], rtol=0.01) else int(np.argmax(sizes))
    core = mask.copy()
    for axis in {0, 1, 2} - {slice_axis}:
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
    shape: tuple[int, ...],
    mask_shape: tuple[int, ...],
) -> Iterator[NDArray[np.intp]]:
    """Yield, for each sample point, the flat mask index of every voxel (-1 outside)."""
    to_mask = np.linalg.inv(mask_affine) @ affine
    i, j, k = (np.arange(n, dtype=np.float64) for n in shape)
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
