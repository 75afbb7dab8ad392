"""One Gauss-Newton step of volumes towards their predictions.

Works on a list of voxels: ``values[i, j]`` is volume i at voxel j of a `Region`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mrn_prep.models.motion import N_QUADRATIC, Float, Mask, rotation_vector

_N_RIGID = 6
_OUTLYING = 3.0  # standardised residual at which a voxel's weight has fallen to a quarter


@dataclass(frozen=True)
class Region:
    """Voxels in which volumes are predicted and compared."""

    voxels: Float
    """Their indices, shape (m, 3)."""
    points_mm: Float
    """Their positions in the centred image frame, shape (m, 3)."""
    neighbours: NDArray[np.int32]
    """Number of the voxel before and after along x, y, z, shape (m, 6)."""
    spacing_mm: Float
    """Distance between these two, shape (m, 3)."""


def region_of(mask: Mask, to_mm: Float) -> Region:
    """List the voxels of a mask with their neighbours (the voxel itself where it has none).

    Parameters
    ----------
    mask : bool array, shape (x, y, z)
    to_mm : array, shape (4, 4)
        Affine from its indices to the centred image frame.

    Returns
    -------
    Region

    Examples
    --------
    >>> region_of(np.ones((3, 1, 1), bool), np.diag([2.0, 2, 2, 1])).spacing_mm[:, 0].tolist()
    [2.0, 4.0, 2.0]
    """
    voxels = np.argwhere(mask)
    number = np.full(np.array(mask.shape) + 2, -1, dtype=np.int32)
    number[tuple((voxels + 1).T)] = own = np.arange(len(voxels), dtype=np.int32)
    neighbours = np.empty((len(voxels), 6), dtype=np.int32)
    for axis in range(3):
        for side, step in enumerate((-1, 1)):
            at = voxels + 1
            at[:, axis] += step
            found = number[tuple(at.T)]
            neighbours[:, 2 * axis + side] = np.where(found >= 0, found, own)
    apart = (neighbours != own[:, None]).reshape(-1, 3, 2).sum(-1)
    return Region(
        voxels.astype(np.float32),
        (voxels @ to_mm[:3, :3].T + to_mm[:3, 3]).astype(np.float32),
        neighbours,
        (np.maximum(apart, 1) * np.diag(to_mm)[:3]).astype(np.float32),
    )


@dataclass(frozen=True)
class Step:
    """One Gauss-Newton step of every volume given; arrays start with the volume."""

    rotation_rad: Float
    """To be applied to the left of the rotation, shape (n, 3)."""
    translation_mm: Float
    eddy: Float
    """Shape (n, 10)."""
    gain: Float
    """Of the volume relative to its prediction (not a step)."""
    offset: Float
    noise: Float
    """Robust standard deviation of what is left."""


def gauss_newton(
    predicted: Float,
    observed: Float,
    rows: NDArray[np.intp],
    region: Region,
    compared: Mask,
    rotations: Float,
    translations_mm: Float,
    eddy: Float,
    gain: Float,
    offset: Float,
    noise: Float,
    pe_axis: int | None,
    n_eddy: int,
    shrinkage: float,
) -> Step:
    r"""Move volumes towards their predictions.

    Minimises :math:`\sum_j w_j (a P_j + o - I_j(\theta + \delta))^2` for the step
    :math:`\delta` of rotation, translation and eddy terms, and for gain a and offset o.
    Derivatives are taken from the prediction: those of the volume itself would share its
    noise and pull towards half voxels, where interpolation smooths most.

    Parameters
    ----------
    predicted, observed : float32 arrays, shape (rows, m)
        Predictions, and volumes resampled by the present transforms (NaN outside).
    rows : int array, shape (n,)
        Which of them are to be moved; the arrays that follow are of these alone.
    region : Region
    compared : bool array, shape (m,)
        Voxels whose difference counts.
    rotations, translations_mm, eddy, gain, offset, noise : arrays, shape (n, ...)
        Present state.
    pe_axis : int or None
    n_eddy : int
        Number of eddy coefficients: 0, `N_LINEAR` or `N_QUADRATIC`; the first, the
        shift, is left to the translation.
    shrinkage : float
        Weight of staying at rest, relative to what the images say of each parameter:
        what they determine well is shortened by that part; combinations that they do
        not show (a turn that shears along phase encoding, and the eddy field that
        shears back) do not drift.

    Returns
    -------
    Step
    """
    n_terms = max(n_eddy - 1, 0)
    k = _N_RIGID + n_terms + 2
    n = len(rows)
    hessian, gradient = np.zeros((n, k, k)), np.zeros((n, k))
    _normal_equations(
        predicted, observed, rows, region.points_mm, region.neighbours, region.spacing_mm,
        np.flatnonzero(compared), rotations, translations_mm, gain, offset, noise,
        pe_axis or 0, n_terms, hessian, gradient,
    )  # fmt: skip
    size = np.sqrt(np.einsum("nii->ni", hessian))
    size[size == 0] = 1.0
    terms = eddy[:, 1 : 1 + n_terms]
    free = np.zeros((n, 2))  # gain and offset are not held back
    present = np.concatenate([rotation_vector(rotations), translations_mm, terms, free], axis=1)
    rest = np.append(np.full(k - 2, shrinkage), [0.0, 0.0])
    scaled = hessian / size[:, :, None] / size[:, None] + np.diag(1e-4 + rest)
    pull = gradient / size + rest * size * present
    solution = -np.linalg.solve(scaled, pull[..., None])[..., 0] / size
    eddy = np.zeros((n, N_QUADRATIC))
    eddy[:, 1 : 1 + n_terms] = solution[:, _N_RIGID:-2]
    gain, offset = solution[:, -2], solution[:, -1]
    few = np.flatnonzero(compared)[:: max(1, int(compared.sum()) // 5000)]
    at = np.ix_(rows, few)
    left = gain[:, None] * predicted[at] + offset[:, None] - observed[at]
    noise = 1.4826 * np.nanmedian(np.abs(left), axis=1)
    return Step(solution[:, :3], solution[:, 3:6], eddy, gain, offset, noise)


@njit(cache=True, error_model="numpy")
def _eddy_derivatives(slope, value, p, pe, n_terms, q):  # type: ignore[no-untyped-def]
    """Fill q[6:]: stretching along phase encoding moves edges and dilutes the signal."""
    if n_terms >= 3:
        for a in range(3):
            q[6 + a] = slope * p[a]
        q[6 + pe] += value
    if n_terms == 9:
        for a in range(3):
            q[9 + a] = slope * p[a] * p[a]
        q[9 + pe] += value * 2 * p[pe]
        c = 12
        for a in range(2):
            for b in range(a + 1, 3):
                q[c] = slope * p[a] * p[b]
                if a == pe:
                    q[c] += value * p[b]
                if b == pe:
                    q[c] += value * p[a]
                c += 1


@njit(cache=True, parallel=True, error_model="numpy")
def _normal_equations(  # type: ignore[no-untyped-def]
    predicted, observed, rows, points, neighbours, spacing, listed, rotations, translations,
    gain, offset, noise, pe, n_terms, hessian, gradient,
):  # fmt: skip
    k = hessian.shape[1]
    for v in prange(rows.size):
        u = rows[v]
        r, t = rotations[v], translations[v]
        h, q = np.zeros((k, k)), np.empty(k)
        d, p = np.empty(3), np.empty(3)
        for j in listed:
            image = observed[u, j]
            if not np.isfinite(image):
                continue
            value = gain[v] * predicted[u, j]
            for a in range(3):
                d[a] = 0.0
                p[a] = 0.0
            for b in range(3):
                low, high = neighbours[j, 2 * b], neighbours[j, 2 * b + 1]
                slope = gain[v] * (predicted[u, high] - predicted[u, low]) / spacing[j, b]
                for a in range(3):
                    d[a] += r[a, b] * slope
                    p[a] += r[a, b] * points[j, b]
            q[0] = p[1] * d[2] - p[2] * d[1]
            q[1] = p[2] * d[0] - p[0] * d[2]
            q[2] = p[0] * d[1] - p[1] * d[0]
            for a in range(3):
                q[3 + a] = d[a]
                p[a] += t[a]
            _eddy_derivatives(d[pe], value, p, pe, n_terms, q)
            q[k - 2] = -predicted[u, j]
            q[k - 1] = -1.0
            miss = (value + offset[v] - image) / (_OUTLYING * noise[v])
            w = 1 / (1 + miss * miss)
            w = w * w
            for a in range(k):
                wq = w * q[a]
                gradient[v, a] += wq * image
                for b in range(a + 1):
                    h[a, b] += wq * q[b]
        for a in range(k):
            for b in range(a + 1):
                hessian[v, a, b] = h[a, b]
                hessian[v, b, a] = h[a, b]
