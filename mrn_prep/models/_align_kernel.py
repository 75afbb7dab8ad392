"""How much an image and a reference of another contrast say of each other, box by box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mrn_prep.models.motion import Float, Mask
from mrn_prep.models.resample import _weights

_EDGE = 0.5  # a voxel is a box: this far outside the outermost centres is still inside
_FULL = 0.25  # share of its voxels that a box must show to count
_FEWEST = 12
_SMALLEST = 18  # voxels of a box, which grows in plane where slices are thick
_ENOUGH = 200_000  # voxels; of larger limbs a part of the boxes is looked at
_EXACT = 1e-4  # part of the variance that always counts as unexplained


@dataclass(frozen=True)
class Boxes:
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


def boxes_of(
    image: Float, mask: Mask, voxel_mm: Float, to_mm: Float, size_mm: float, spacing_mm: float
) -> Boxes:
    """Cut a mask into boxes.

    Parameters
    ----------
    image : float32 array, shape (x, y, z)
        The reference, smoothed.
    mask : bool array, shape (x, y, z)
    voxel_mm : array, shape (3,)
    to_mm : array, shape (4, 4)
        From voxel indices to the centred image frame.
    size_mm : float
        Edge length of a box; more in plane where it would hold too few voxels.
    spacing_mm : float
        Voxels closer than this are thinned out.

    Returns
    -------
    Boxes
    """
    stride = np.clip((spacing_mm / voxel_mm).astype(int), 1, mask.shape)
    size = np.maximum(np.round(size_mm / voxel_mm).astype(int), stride)
    size = np.minimum(size, mask.shape)
    while np.prod(size / stride) < _SMALLEST:
        size[np.argsort(voxel_mm, kind="stable")[:2]] += 1
    looked_at = np.zeros_like(mask)
    thin = tuple(slice(None, None, step) for step in stride)
    looked_at[thin] = mask[thin]
    n_boxes = -(-np.array(mask.shape) // size)
    chosen = np.random.default_rng(0).random(n_boxes) < _ENOUGH / max(1, looked_at.sum())
    for axis in range(3):
        chosen = chosen.repeat(size[axis], axis=axis)
    looked_at &= chosen[tuple(slice(length) for length in mask.shape)]
    listed = np.argwhere(looked_at)
    box = np.ravel_multi_index(tuple((listed // size).T), tuple(n_boxes))
    order = np.argsort(box, kind="stable")
    listed = listed[order]
    starts = np.append(np.flatnonzero(np.diff(box[order], prepend=-1)), len(listed))
    at = tuple(listed.T)
    slopes = np.zeros((len(listed), 3), dtype=np.float32)
    for axis, length in enumerate(image.shape):
        if length > 1:
            slopes[:, axis] = np.gradient(image, voxel_mm[axis], axis=axis)[at]
    return Boxes(
        listed.astype(np.float32),
        (listed @ to_mm[:3, :3].T + to_mm[:3, 3]).astype(np.float32),
        image[at].astype(np.float32),
        slopes,
        starts.astype(np.int64),
        max(_FEWEST, int(_FULL * np.prod(size / stride))),
    )


@dataclass(frozen=True)
class Agreement:
    """What the boxes say of an image under one transform."""

    information: float
    r"""Sum over boxes of :math:`-\frac12 n \ln(1 - r^2)`."""
    hessian: Float
    """Its second derivatives by rotation (rad) and translation (mm), negative, shape (6, 6)."""
    scores: Float
    """First derivatives, from each box that counts, shape (n_boxes, 6)."""

    def step(self) -> Float:
        """Return the Gauss-Newton step, shape (6,)."""
        size = np.sqrt(np.diag(self.hessian))
        size = np.where(size > 0, size, 1.0)
        # a single slice says nothing of some motions: these stay where they are
        scaled = self.hessian / size / size[:, None] + 1e-6 * np.eye(6)
        step: Float = np.linalg.solve(scaled, self.scores.sum(axis=0) / size) / size
        return step

    def covariance(self) -> Float:
        """Return the covariance at the optimum, from how much boxes disagree, shape (6, 6)."""
        inverse = np.linalg.pinv(self.hessian, hermitian=True)
        n = len(self.scores)
        spread = self.scores.T @ self.scores
        covariance: Float = inverse @ spread @ inverse * n / max(n - 6, 1)
        return covariance


def agreement(coefficients: Float, boxes: Boxes, rigid: Float, to_mm: Float) -> Agreement:
    """Compare an image with the reference.

    Parameters
    ----------
    coefficients : float32 array, shape (x, y, z)
        Of cubic B-splines: voxels give the image smoothed by the spline.
    boxes : Boxes
        Of the reference, smoothed as much.
    rigid : array, shape (4, 4)
        From the reference to the image, centred image frame.
    to_mm : array, shape (4, 4)
        From voxel indices to that frame.

    Returns
    -------
    Agreement
        Derivatives are by a step that is applied after `rigid`.
    """
    n = len(boxes.starts) - 1
    hessians, scores, information = np.zeros((n, 6, 6)), np.zeros((n, 6)), np.full(n, np.nan)
    matrix = np.linalg.inv(to_mm) @ rigid @ to_mm
    _compare(
        np.ascontiguousarray(coefficients, dtype=np.float32), boxes.voxels, boxes.values,
        boxes.gradients, boxes.points_mm, boxes.starts, np.ascontiguousarray(matrix[:3]),
        np.ascontiguousarray(rigid[:3, :3]), boxes.fewest, hessians, scores, information,
    )  # fmt: skip
    told = np.isfinite(information)
    return Agreement(float(information[told].sum()), hessians.sum(axis=0), scores[told])


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


# In a box the image is I = c + g R + noise, with the reference R. A step of the pose by d
# changes I by g ∇R·d; what c and g take up of that is projected out (variable projection).


@njit(cache=True, error_model="numpy", nogil=True)
def _products(  # type: ignore[no-untyped-def]
    coefficients, voxels, values, gradients, points_mm, matrix, rotation, m
):
    """Add up products of the derivatives of R by rotation and translation, 1, R and I.

    Lower triangle; returns the number of voxels that the image shows.
    """
    index, weight = np.empty((3, 4), np.int64), np.empty((3, 4), np.float32)
    q, p, d = np.empty(9), np.empty(3), np.empty(3)
    m[:] = 0
    n = 0
    for j in range(voxels.shape[0]):
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
    return n


@njit(cache=True, error_model="numpy", nogil=True)
def _compare(  # type: ignore[no-untyped-def]
    coefficients, voxels, values, gradients, points_mm, starts, matrix, rotation, fewest,
    hessians, scores, information,
):  # fmt: skip
    m = np.empty((9, 9))
    for box in range(starts.size - 1):
        here = slice(starts[box], starts[box + 1])
        n = _products(
            coefficients, voxels[here], values[here], gradients[here], points_mm[here],
            matrix, rotation, m,
        )  # fmt: skip
        if n < fewest:
            continue
        powers = m[7, 7], m[8, 8]
        _project_out(m, 6)
        spread, total = m[7, 7], m[8, 8]
        # rounding leaves this much of a constant
        if not (spread > 1e-9 * powers[0] and total > 1e-9 * powers[1]):
            continue
        slope = m[8, 7] / spread
        _project_out(m, 7)
        left = m[8, 8] + _EXACT * total
        information[box] = 0.5 * n * np.log(total / left)
        w = n / left
        for a in range(6):
            scores[box, a] = -w * slope * m[8, a]
            for b in range(a + 1):
                hessians[box, a, b] = w * slope * slope * m[a, b]
                hessians[box, b, a] = hessians[box, a, b]
