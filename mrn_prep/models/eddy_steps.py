"""The two halves of a motion and eddy-current iteration: predict, and register.

Both work on lists of voxels: ``values[i, j]`` is volume i at voxel j of a `Region`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage

from mrn_prep.models.dti import tensor_signal
from mrn_prep.models.motion import Float, Mask

_N_MOTION = 6


@dataclass(frozen=True)
class Region:
    """Voxels in which volumes are predicted and compared."""

    mask: Mask
    """The voxels, on the grid; dilated, so that edges of the limb have neighbours."""
    voxels: Float
    """Their indices, shape (m, 3)."""
    points_mm: Float
    """Their positions in the centred frame, shape (m, 3)."""
    neighbours: NDArray[np.int32]
    """Index in the list of the voxel before and after along each axis, shape (m, 6)."""
    spacing_mm: Float
    """Distance between these two, shape (m, 3)."""


def region_of(mask: Mask, to_mm: Float, voxel_mm: Float) -> Region:
    """List the voxels of a mask and their neighbours; where there is none, the voxel itself."""
    voxels = np.argwhere(mask)
    number = np.full(np.array(mask.shape) + 2, -1, dtype=np.int32)
    number[tuple((voxels + 1).T)] = np.arange(len(voxels))
    own = np.arange(len(voxels), dtype=np.int32)
    neighbours = np.empty((len(voxels), 6), dtype=np.int32)
    for axis in range(3):
        for side, step in enumerate((-1, 1)):
            at = voxels + 1
            at[:, axis] += step
            found = number[tuple(at.T)]
            neighbours[:, 2 * axis + side] = np.where(found >= 0, found, own)
    apart = (neighbours[:, 0::2] != own[:, None]).astype(int) + (
        neighbours[:, 1::2] != own[:, None]
    )
    points = voxels @ to_mm[:3, :3].T + to_mm[:3, 3]
    return Region(
        mask,
        voxels.astype(np.float32),
        points.astype(np.float32),
        neighbours,
        (np.maximum(apart, 1) * voxel_mm).astype(np.float32),
    )


def log_design(b_s_mm2: Float, bvecs: Float) -> Float:
    """Derivatives of ln S by the six tensor elements, shape (n, 6), from the signal equation.

    >>> log_design(np.array([1000.0]), np.array([[1.0, 0, 0]])).round(6)[0, 0]
    np.float64(-1000.0)
    """
    unit = np.eye(6) * 1e-3
    return np.log(tensor_signal(np.ones(6), unit, b_s_mm2, bvecs)).T * 1e3


def predict(
    log_signal: Float,
    design: Float,
    weights: Float,
    region: Region,
    smooth_mm: float,
    voxel_mm: Float,
    stiffness: float = 1.0,
) -> Float:
    r"""Predict every volume from the others.

    A tensor fitted in each voxel would swallow whatever misregistration is common to its
    seven unknowns. Therefore the diffusion tensor may only vary slowly over space, and the
    edges come from S0, which all volumes share:

    .. math:: \ln P_i = \ln S_0^{(-i)} + X_i \tilde D
    """
    n = len(log_signal)
    full = np.concatenate([design, np.ones((n, 1))], axis=1)
    root = np.sqrt(weights)[:, None]
    pinv = np.linalg.pinv(full * root) * root.T
    beta = pinv @ log_signal
    tensor = beta[:6]
    # energy of the signal: background and fat say little about D
    energy = np.exp(2 * np.clip(beta[6], None, None))
    smooth = _smooth_in_region(tensor, energy, region, smooth_mm / voxel_mm)
    decay = design @ smooth
    log_s0 = log_signal - decay
    total = weights @ log_s0
    share = weights.sum()
    others = (total[None] - weights[:, None] * log_s0) / (share - weights)[:, None]
    stiff = others + decay
    if stiffness < 1:
        hat = np.einsum("ij,ji->i", full, pinv)[:, None]
        free = (full @ beta - hat * log_signal) / (1 - hat)
        stiff = stiffness * stiff + (1 - stiffness) * free
    return stiff


def _smooth_in_region(values: Float, weight: Float, region: Region, sigma: Float) -> Float:
    grid = np.zeros(region.mask.shape, dtype=np.float32)

    def smooth(x: Float) -> Float:
        grid[region.mask] = x
        return ndimage.gaussian_filter(grid, sigma, mode="constant", truncate=3)[region.mask]

    below = np.maximum(smooth(weight), 1e-6 * weight.max())
    return np.stack([smooth(v * weight) / below for v in values]).astype(np.float32)


def normal_equations(
    predicted: Float,
    observed: Float,
    region: Region,
    rotations: Float,
    translations: Float,
    eddy: Float,
    gain: Float,
    offset: Float,
    scale: Float,
    pe_axis: int,
    n_eddy: int,
    core: Mask,
) -> tuple[Float, Float]:
    n = len(predicted)
    k = _N_MOTION + n_eddy + 2
    hessian = np.zeros((n, k, k))
    gradient = np.zeros((n, k))
    _normal_equations(
        predicted,
        observed,
        region.points_mm,
        region.neighbours,
        region.spacing_mm,
        rotations,
        translations,
        gain,
        offset,
        scale,
        pe_axis,
        n_eddy,
        core,
        hessian,
        gradient,
    )
    return hessian, gradient


@njit(cache=True, parallel=True, error_model="numpy")  # type: ignore[misc]
def _normal_equations(  # type: ignore[no-untyped-def]
    predicted,
    observed,
    points,
    neighbours,
    spacing,
    rotations,
    translations,
    gain,
    offset,
    scale,
    pe,
    n_eddy,
    core,
    hessian,
    gradient,
):
    n, m = predicted.shape
    k = hessian.shape[1]
    for v in prange(n):
        r = rotations[v]
        t = translations[v]
        h = np.zeros((k, k))
        g = np.zeros(k)
        q = np.empty(k)
        local = np.empty(3)
        d = np.empty(3)
        x = np.empty(3)
        for j in range(m):
            image = observed[v, j]
            if not core[j] or not np.isfinite(image):
                continue
            value = predicted[v, j]
            for a in range(3):
                low, high = neighbours[j, 2 * a], neighbours[j, 2 * a + 1]
                local[a] = gain[v] * (predicted[v, high] - predicted[v, low]) / spacing[j, a]
            for a in range(3):
                d[a] = r[a, 0] * local[0] + r[a, 1] * local[1] + r[a, 2] * local[2]
                x[a] = r[a, 0] * points[j, 0] + r[a, 1] * points[j, 1] + r[a, 2] * points[j, 2]
            q[0] = x[1] * d[2] - x[2] * d[1]
            q[1] = x[2] * d[0] - x[0] * d[2]
            q[2] = x[0] * d[1] - x[1] * d[0]
            for a in range(3):
                q[3 + a] = d[a]
                x[a] += t[a]
            if n_eddy >= 3:
                for a in range(3):
                    q[6 + a] = d[pe] * x[a]
                q[6 + pe] += gain[v] * value
            if n_eddy == 9:
                for a in range(3):
                    q[9 + a] = d[pe] * x[a] * x[a]
                q[9 + pe] += gain[v] * value * 2 * x[pe]
                c = 12
                for a in range(2):
                    for b in range(a + 1, 3):
                        q[c] = d[pe] * x[a] * x[b]
                        if a == pe:
                            q[c] += gain[v] * value * x[b]
                        if b == pe:
                            q[c] += gain[v] * value * x[a]
                        c += 1
            q[k - 2] = -value
            q[k - 1] = -1.0
            miss = (gain[v] * value + offset[v] - image) / scale[v]
            w = 1 / (1 + miss * miss / 9)
            w = w * w
            for a in range(k):
                g[a] += w * q[a] * image
                for b in range(a + 1):
                    h[a, b] += w * q[a] * q[b]
        for a in range(k):
            gradient[v, a] = g[a]
            for b in range(a + 1):
                hessian[v, a, b] = h[a, b]
                hessian[v, b, a] = h[a, b]
