"""Noise that a denoised or moved series shows, beside what its history says should be left."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage

from mrn_prep.models._dti_kernel import _logarithms, _solve_weighted
from mrn_prep.models.dti import _B_SCALE, _design
from mrn_prep.models.retained import RetainedNoise
from mrn_prep.models.status import Reason

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

_BOX = (9, 9, 3)  # voxels that share one variance
_MOST = 9.0  # of a voxel, in sigma²: outliers there say nothing of its neighbours


def residual_fraction(
    signal: Float, b_s_mm2: Float, bvecs: Float, mask: Bool, sigma: Float
) -> NDArray[np.float64]:
    r"""Variance of what a tensor leaves of the signal, over sigma², in a box around each voxel.

    .. math:: f = \Big\langle \frac{1}{\sigma^2 (n - 7)}
              \sum_i \hat S_i^2 (\ln S_i - \ln\hat S_i)^2 \Big\rangle

    Parameters
    ----------
    signal : array, shape (x, y, z, n)
        0 or less where there is none.
    b_s_mm2, bvecs : arrays, shapes (n,) and (n, 3)
    mask : bool array, shape (x, y, z)
    sigma : array, shape (x, y, z)
        Standard deviation of the noise as it was measured.

    Returns
    -------
    array, shape (x, y, z)
        About 1 for untouched noise; NaN where no voxel around has degrees of freedom.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> g = rng.normal(size=(30, 3))
    >>> g /= np.linalg.norm(g, axis=1, keepdims=True)
    >>> b = np.where(np.arange(30) < 4, 0.0, 500.0)
    >>> signal = 90 * np.exp(-b * 1e-3) + 2 * rng.normal(size=(9, 9, 9, 30))
    >>> found = residual_fraction(signal, b, g, np.ones((9, 9, 9), bool), np.full((9, 9, 9), 2.0))
    >>> bool(np.abs(found - 1).max() < 0.1)
    True
    """
    design = _design(np.asarray(b_s_mm2, float) * _B_SCALE, np.asarray(bvecs, float))
    told, count = np.zeros(mask.shape), np.zeros(mask.shape)
    pinv = np.linalg.pinv(design)
    for k in range(mask.shape[2]):  # copies in double precision stay small
        rows = np.ascontiguousarray(signal[:, :, k][mask[:, :, k]], dtype=np.float64)
        level = np.asarray(sigma[:, :, k][mask[:, :, k]], np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = _residual_variance(rows, design, pinv) / level**2
        known = np.isfinite(ratio)
        told[:, :, k][mask[:, :, k]] = np.where(known, np.minimum(ratio, _MOST), 0.0)
        count[:, :, k][mask[:, :, k]] = known
    total, share = (ndimage.uniform_filter(x, _BOX, mode="constant") for x in (told, count))
    some = share > 0.5 / np.prod(_BOX)
    return np.where(some, total / np.where(some, share, 1.0), np.nan)


def with_residuals(noise: RetainedNoise, found: Float, n: int) -> RetainedNoise:
    r"""Let the residuals speak where they tell of more noise than denoising left.

    What denoising keeps along the signal is alike in all volumes, and harms S0 alone. Volumes
    that are moved against one another do not share it any more: it appears in the residuals,
    and is missing along the signal,

    .. math:: c = |1 - l|,\quad l = (f_\mathrm{found} - f)\,n,

    up to 1. Residuals beyond what one component, the overall signal, has kept (l > 1) must have
    another cause, such as an edge that does not lie still: the noise along the signal is then
    believed again.

    Parameters
    ----------
    noise : RetainedNoise
        As denoising left it.
    found : array, shape (...)
        From `residual_fraction`; NaN where unknown.
    n : int
        Volumes in the fit.

    Returns
    -------
    RetainedNoise

    Examples
    --------
    >>> none = np.zeros((1, 1, 40))
    >>> left = RetainedNoise(np.full(2, 0.004), np.ones(2), none, np.zeros(2, int))
    >>> told = with_residuals(left, np.array([0.014, np.nan]), 40)
    >>> told.fraction.tolist(), told.coherence.round(3).tolist()
    ([0.014, 0.004], [0.6, 1.0])
    """
    fraction = np.fmax(noise.fraction, found)
    leaked = (fraction - noise.fraction) * n
    return replace(noise, fraction=fraction, coherence=np.minimum(np.abs(1.0 - leaked), 1.0))


@njit(cache=True, parallel=True, error_model="numpy")
def _residual_variance(signal, design, pinv):  # type: ignore[no-untyped-def]
    """Weighted variance of each row's residuals; NaN where there is none."""
    n_voxels, n = signal.shape
    out = np.full(n_voxels, np.nan)
    for v in prange(n_voxels):
        weight, log_s = np.ones(n), np.zeros(n)
        beta, lower = np.zeros(7), np.empty((7, 7))
        status, used = _logarithms(signal[v], log_s, weight)
        if status != _FITTED or used <= 7:
            continue
        if used == n:
            beta[:] = pinv @ log_s
        elif not _solve_weighted(design, weight, log_s, lower, beta):
            continue
        for i in range(n):
            if weight[i] > 0:
                weight[i] = np.exp(2 * np.dot(design[i], beta))
        if _solve_weighted(design, weight, log_s, lower, beta):
            out[v] = np.sum(weight * (log_s - design @ beta) ** 2) / (used - 7)
    return out


_FITTED = int(Reason.FITTED)
