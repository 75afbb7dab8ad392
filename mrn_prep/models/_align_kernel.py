"""How well an image agrees, block by block, with a reference of another contrast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mrn_prep.models.motion import Float, Mask
from mrn_prep.models.resample import _weights

_EDGE = 0.5  # a voxel is a box: this far outside the outermost centres is still inside
_FULL = 0.25  # share of a block's voxels below which it tells nothing
_FEWEST = 12


@dataclass(frozen=True)
class Blocks:
    """Voxels of the reference, sorted by the small box that they lie in."""

    voxels: Float
    """Their indices, shape (m, 3)."""
    points_mm: Float
    """Their positions in the centred image frame, shape (m, 3)."""
    values: Float
    """The reference there, shape (m,)."""
    gradients: Float
    """Its derivatives by position (per mm), shape (m, 3)."""
    starts: NDArray[np.int64]
    """Where each box begins in these lists, and where the last one ends."""
    fewest: int
    """Voxels that a box must show to count."""

    @classmethod
    def of(
        cls, image: Float, mask: Mask, voxel_mm: Float, to_mm: Float, size_mm: float, step_mm: float
    ) -> Blocks:
        """Cut the mask into boxes.

        Parameters
        ----------
        image : float32 array, shape (x, y, z)
            The reference, smoothed.
        mask : bool array, shape (x, y, z)
        voxel_mm : array, shape (3,)
        to_mm : array, shape (4, 4)
            From voxel indices to the centred image frame.
        size_mm : float
            Edge length of a box; at least one voxel.
        step_mm : float
            Voxels closer than this are thinned out.
        """
        listed = np.argwhere(mask)
        stride = np.maximum((step_mm / voxel_mm).astype(int), 1)
        listed = listed[(listed % stride == 0).all(axis=1)]
        size = np.maximum(np.round(size_mm / voxel_mm).astype(int), stride)
        box = np.ravel_multi_index(tuple((listed // size).T), tuple(np.array(mask.shape)))
        order = np.argsort(box, kind="stable")
        listed = listed[order]
        starts = np.append(np.flatnonzero(np.diff(box[order], prepend=-1)), len(listed))
        at = tuple(listed.T)
        slopes = [
            np.gradient(image, width, axis=axis)[at] if length > 1 else np.zeros(len(listed))
            for axis, (width, length) in enumerate(zip(voxel_mm, image.shape, strict=True))
        ]
        return cls(
            listed.astype(np.float32),
            (listed @ to_mm[:3, :3].T + to_mm[:3, 3]).astype(np.float32),
            image[at].astype(np.float32),
            np.stack(slopes, axis=-1).astype(np.float32),
            starts.astype(np.int64),
            max(_FEWEST, int(_FULL * np.prod(size / stride))),
        )


@dataclass(frozen=True)
class Agreement:
    """What the boxes say of an image under one transform."""

    cost: float
    r"""Sum over boxes of :math:`n \ln(1 - r^2)`."""
    hessian: Float
    """Of half the cost, by rotation (rad) and translation (mm), shape (6, 6)."""
    scores: Float
    """Gradient of half the cost from each box that counts, shape (n_boxes, 6)."""


def agreement(coefficients: Float, blocks: Blocks, rigid: Float, to_mm: Float) -> Agreement:
    """Compare an image with the reference.

    Parameters
    ----------
    coefficients : float32 array, shape (x, y, z)
        Cubic B-spline coefficients of the image.
    blocks : Blocks
        Of the reference.
    rigid : array, shape (4, 4)
        From the reference to the image, centred image frame.
    to_mm : array, shape (4, 4)
        From voxel indices to that frame.
    """
    n = len(blocks.starts) - 1
    hessians, scores, costs = np.zeros((n, 6, 6)), np.zeros((n, 6)), np.full(n, np.nan)
    matrix = np.linalg.inv(to_mm) @ rigid @ to_mm
    _compare(
        coefficients, blocks.voxels, blocks.values, blocks.gradients, blocks.points_mm,
        blocks.starts, matrix[:3], np.ascontiguousarray(rigid[:3, :3]), blocks.fewest,
        hessians, scores, costs,
    )  # fmt: skip
    counts = np.isfinite(costs)
    return Agreement(float(costs[counts].sum()), hessians.sum(axis=0), scores[counts])


@njit(cache=True, error_model="numpy", nogil=True)
def _interpolate(coefficients, p, index, weight):  # type: ignore[no-untyped-def]
    """Cubic B-spline value at a point (voxels); NaN outside the volume."""
    for r in range(3):
        if not -_EDGE <= p[r] <= coefficients.shape[r] - 1 + _EDGE:
            return np.float32(np.nan)
        _weights(p[r], coefficients.shape[r], 3, index[r], weight[r])
    total = np.float32(0)
    for i in range(4):
        plane = np.float32(0)
        for j in range(4):
            row = np.float32(0)
            for k in range(4):
                row += weight[2, k] * coefficients[index[0, i], index[1, j], index[2, k]]
            plane += weight[1, j] * row
        total += weight[0, i] * plane
    return total


@njit(cache=True, error_model="numpy", nogil=True)
def _project_out(m, pivot):  # type: ignore[no-untyped-def]
    """Take from all products (lower triangle) the part along one quantity."""
    for a in range(9):
        if a == pivot:
            continue
        along = (m[a, pivot] if a > pivot else m[pivot, a]) / m[pivot, pivot]
        for b in range(a + 1):
            if b != pivot:
                m[a, b] -= along * (m[b, pivot] if b > pivot else m[pivot, b])


@njit(cache=True, error_model="numpy", nogil=True)
def _compare(  # type: ignore[no-untyped-def]  # noqa: C901 - one pass over the boxes
    coefficients, voxels, values, gradients, points_mm, starts, matrix, rotation, fewest,
    hessians, scores, costs,
):  # fmt: skip
    index, weight = np.empty((3, 4), np.int64), np.empty((3, 4), np.float32)
    # products of: derivatives by rotation and translation, one, the reference, the image
    m, q = np.empty((9, 9)), np.empty(9)
    p, d = np.empty(3), np.empty(3)
    for box in range(starts.size - 1):
        m[:] = 0
        n = 0
        for j in range(starts[box], starts[box + 1]):
            for a in range(3):
                p[a] = matrix[a, 3]
                for b in range(3):
                    p[a] += matrix[a, b] * voxels[j, b]
            seen = _interpolate(coefficients, p, index, weight)
            if not np.isfinite(seen):
                continue
            for a in range(3):
                d[a] = 0.0
                p[a] = 0.0
                for b in range(3):
                    d[a] += rotation[a, b] * gradients[j, b]
                    p[a] += rotation[a, b] * points_mm[j, b]
            q[0] = p[1] * d[2] - p[2] * d[1]
            q[1] = p[2] * d[0] - p[0] * d[2]
            q[2] = p[0] * d[1] - p[1] * d[0]
            for a in range(3):
                q[3 + a] = d[a]
            q[6], q[7], q[8] = 1.0, values[j], seen
            for a in range(9):
                for b in range(a + 1):
                    m[a, b] += q[a] * q[b]
            n += 1
        if n < fewest:
            continue
        tiny = 1e-9 * (m[8, 8] + 1e-30)
        _project_out(m, 6)
        total, spread = m[8, 8], m[7, 7]
        if total <= tiny or spread <= 1e-9 * (values[starts[box]] ** 2 + 1e-30):
            continue
        slope = m[8, 7] / spread
        _project_out(m, 7)
        left = m[8, 8] + 1e-4 * total
        costs[box] = n * np.log(left / total)
        w = n / left
        for a in range(6):
            scores[box, a] = w * slope * m[8, a]
            for b in range(a + 1):
                hessians[box, a, b] = w * slope * slope * m[a, b]
                hessians[box, b, a] = hessians[box, a, b]
