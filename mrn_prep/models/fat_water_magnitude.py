"""Water and fat from magnitudes alone: what is left where phases are missing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._fat_water_kernel import R2STAR_MAX_PER_S, R2STAR_MIN_PER_S, Echoes
from mrn_prep.models._t2_fit import per_voxel
from mrn_prep.models._t2_kernel import rician_table
from mrn_prep.models.fat_water import (
    PDFF_MAX,
    PDFF_MIN,
    FatWaterResult,
    assemble,
    shared_echoes,
)
from mrn_prep.models.megre import FAT_PEAKS, FatPeaks
from mrn_prep.models.status import MIN_RESIDUAL_DOF, NOISE_FLOOR_SIGMA, Reason

Float = NDArray[np.float64]

ALIGNED = 0.7
"""Cosine of the fat's phase from which an echo counts as in phase, or opposed (negative)."""
PLAUSIBLE = 2.0
"""A second answer whose -2 ln(likelihood) is not worse by more than this could be true as well."""

_NON_FINITE, _NO_SIGNAL = int(Reason.NON_FINITE), int(Reason.NO_SIGNAL)
_NOT_IDENTIFIABLE = int(Reason.NOT_IDENTIFIABLE)
_APART = 0.1  # fractions that differ by less are one answer
_RHO_PER_ROW = 1.0 / 256.0
_MAX_STEPS = 150
_TOLERANCE = 1e-5  # what noise leaves is much more; without noise steps shrink quadratically
_CHUNK = 16384


def fit_fat_water_magnitude(
    signal: ArrayLike,
    te_s: ArrayLike,
    field_t: float,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    peaks: FatPeaks = FAT_PEAKS,
    n_threads: int = 1,
) -> FatWaterResult:
    r"""Fit water, fat and R2* to the magnitudes of echoes.

    .. math:: A_n = \left|W + F\,c_n\right| e^{-R_2^* T_{E,n}}

    with the fat's phasor :math:`c_n` of `mrn_prep.models.megre.fat_phasor`, by weighted least
    squares against the mean of a Rician magnitude.

    Parameters
    ----------
    signal : array, shape (..., n_echoes)
        Magnitude signal (arbitrary units).
    te_s : array, shape (n_echoes,)
        Echo times (s), increasing; two or more. Of two and of three echoes one must be near
        in phase and one near opposed.
    field_t : float
        Field strength (T).
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    sigma : float or array, shape (...), optional
        Standard deviation of the noise in each of the two channels, in the unit of the
        signal. Without it (or where it is NaN) the noise floor is not modelled, and standard
        errors come from the residuals if there are six degrees of freedom, else are NaN.
    peaks : FatPeaks
        Spectrum of fat.
    n_threads : int
        Threads to fit in.

    Returns
    -------
    FatWaterResult
        Field NaN. ``pdff_limit`` is about 0.5 with two and three echoes: fat beyond reads as
        water, and nothing in the voxel tells. With more echoes both answers are tried; where
        they fit alike (`PLAUSIBLE`) and differ the voxel is ``Reason.NOT_IDENTIFIABLE``. Other
        reasons as in `mrn_prep.models.fat_water.fit_fat_water`.

    Raises
    ------
    ValueError
        If the signal is complex, shapes disagree, there are fewer than two echoes, times do
        not increase, field strength is not positive, or two or three echoes are not near in
        phase and opposed.

    Notes
    -----
    Two echoes leave no room for R2*: it is taken as 0, and R2* and T2* are NaN
    (``t2star_status`` says too few). If the opposed echo is the first, at 1.15 ms, a rate of 40/s
    costs the fraction three percentage points. With a single peak of fat this is Dixon's
    :math:`F = (S_{in} - S_{opposed})/2`; the other peaks matter, as they neither oppose nor
    align with water.

    References
    ----------
    Dixon WT. Radiology 1984;153:189-194. (two echoes)
    Bray TJP, Bainbridge A, Lim E, Hall-Craggs MA, Zhang H. Magn Reson Med 2023.
    doi:10.1002/mrm.29493 (two answers, noise floor)

    Examples
    --------
    >>> from mrn_prep.models.megre import megre_signal
    >>> te = 0.00115 * np.arange(1, 7)
    >>> s = np.abs(megre_signal([800.0, 100.0], [200.0, 900.0], te, r2star_per_s=40.0))
    >>> fit_fat_water_magnitude(s, te, 3.0).pdff.round(5).tolist()
    [0.2, 0.9]

    Two echoes take fat for water:

    >>> two = fit_fat_water_magnitude(s[:, :2] * np.exp(40.0 * te[:2]), te[:2], 3.0)
    >>> two.pdff.round(2).tolist(), round(two.pdff_limit, 2)
    ([0.2, 0.16], 0.56)
    """
    signal = np.asarray(signal)
    if np.iscomplexobj(signal) or signal.ndim < 1:
        raise ValueError("The signal must be real magnitudes of shape (..., n_echoes).")
    echoes = shared_echoes(te_s, field_t, peaks, signal.shape[-1], least=2)
    limit = 1.0 if echoes.te_s.size > 3 else _limit(echoes)
    shape = signal.shape[:-1]
    inside = per_voxel(True if mask is None else mask, shape, "mask").astype(np.bool_)
    noise = per_voxel(np.nan if sigma is None else sigma, shape, "sigma").reshape(-1)
    flat, rows = signal.reshape(-1, signal.shape[-1]), np.flatnonzero(inside)
    status = np.full(inside.size, Reason.OUTSIDE_MASK, dtype=np.uint8)
    t2star_status = status.copy()
    maps, table = np.full((12, inside.size), np.nan), rician_table()
    fit_rate = echoes.te_s.size > 2
    starts = np.array([0.1, 0.9] if echoes.te_s.size > 3 else [0.1])

    def fit(first: int) -> None:
        part = rows[first : first + _CHUNK]
        block = np.ascontiguousarray(flat[part], dtype=np.float64)
        columns = (block, np.ascontiguousarray(noise[part]), echoes, starts, fit_rate, table)
        found, variance, converged, codes = _fit_rows(*columns)
        maps[:, part], code, t2star_code = assemble(found, variance, converged)
        refused = codes != Reason.FITTED
        code[refused] = t2star_code[refused] = codes[refused]
        maps[:, part[refused]] = np.nan
        status[part], t2star_status[part] = code, t2star_code

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(fit, range(0, rows.size, _CHUNK)))
    if not fit_rate:
        maps[6:10] = np.nan
        t2star_status[status == Reason.FITTED] = Reason.TOO_FEW
    maps[10:] = np.nan
    result = FatWaterResult(
        *[*maps.reshape(12, *shape), status.reshape(shape), t2star_status.reshape(shape)]
    )
    return replace(result, pdff_limit=limit)


def _limit(echoes: Echoes) -> float:
    """Fraction at which the first of the opposed echoes (nearly) vanishes; ValueError without."""
    phasor = echoes.fat_re + 1j * echoes.fat_im
    cosine = phasor.real / np.abs(phasor)
    if not (cosine.max() > ALIGNED and cosine.min() < -ALIGNED):
        raise ValueError(
            "Of two or three magnitude echoes one must be near in phase and one near opposed "
            "(1.15 ms apart at 3 T, 2.3 ms at 1.5 T); at "
            f"{np.round(1e3 * echoes.te_s, 3).tolist()} ms the fat's phases are "
            f"{np.round(np.rad2deg(np.angle(phasor))).tolist()} degrees."
        )
    away = 1.0 - phasor[cosine < -ALIGNED]
    return float((away.real / np.abs(away) ** 2).min())


@njit(cache=True, error_model="numpy", nogil=True)
def _predict(x, echoes, sigma, table, mean, inverse, jacobian):  # type: ignore[no-untyped-def]
    """Write the mean magnitude, sigma² / variance, and derivatives by total, fraction and R2*.

    The last row is the second derivative by the fraction.
    """
    total, p, rate = x[0], x[1], x[2]
    for i in range(mean.size):
        decay = np.exp(-rate * echoes.te_s[i])
        cr, ci = echoes.fat_re[i] - 1.0, echoes.fat_im[i]
        ur, ui = 1.0 + p * cr, p * ci
        size = np.sqrt(ur * ur + ui * ui)
        amplitude, slope = total * decay * size, 1.0
        mean[i], inverse[i] = amplitude, 1.0
        if sigma > 0.0:
            rho = amplitude / sigma
            row = rho / _RHO_PER_ROW
            if row < table.shape[0] - 1:
                low = int(row)
                part = row - low
                bend = part * (table[low + 1, 1] - table[low, 1])
                slope = table[low, 1] + bend
                mean[i] = table[low, 0] + part * _RHO_PER_ROW * (table[low, 1] + 0.5 * bend)
                mean[i] *= sigma
                inverse[i] = table[low, 2] * (1.0 - part) + table[low + 1, 2] * part
            else:
                b = 1.0 / (rho * rho)
                mean[i] = amplitude * (1.0 + b * (0.5 + b * (0.125 + 0.1875 * b)))
                slope = 1.0 - b * (0.5 + b * (0.375 + 0.9375 * b))
                inverse[i] = 1.0 / (1.0 - 0.5 * b * (1.0 + b))
        jacobian[0, i] = slope * decay * size
        along, across = ur * cr + ui * ci, ur * ci - ui * cr
        size = max(size, 1e-6)
        jacobian[1, i] = slope * total * decay * along / size
        jacobian[2, i] = -slope * amplitude * echoes.te_s[i]
        jacobian[3, i] = slope * total * decay * across * across / size**3


@njit(cache=True, error_model="numpy", nogil=True)
def _solve(weight, jacobian, residual, n_free, damping, matrix, step):  # type: ignore[no-untyped-def]
    """Write the step of the damped normal equations and, in `matrix`, their inverse.

    Without damping the inverse is the covariance for noise of 1.
    """
    n = residual.size
    for a in range(3):
        step[a] = 0.0
        for b in range(3):
            matrix[a, b] = 1.0 if a == b else 0.0
    bend = 0.0
    for i in range(n):
        bend -= weight[i] * residual[i] * jacobian[3, i]
    for a in range(n_free):
        for b in range(n_free):
            matrix[a, b] = 0.0
            for i in range(n):
                matrix[a, b] += weight[i] * jacobian[a, i] * jacobian[b, i]
        if damping > 0.0 and a == 1:  # where water and fat cancel, plain steps leap to and fro
            matrix[1, 1] += max(bend, 0.0)
        matrix[a, a] *= 1.0 + damping
    # the inverse of a symmetric 3 x 3 matrix, by cofactors
    a, b, c = matrix[0, 0], matrix[1, 0], matrix[2, 0]
    d, e, f = matrix[1, 1], matrix[2, 1], matrix[2, 2]
    aa, bb, cc = d * f - e * e, c * e - b * f, b * e - c * d
    det = a * aa + b * bb + c * cc
    if not det > 1e-12 * a * d * f:
        return False
    matrix[0, 0], matrix[1, 1], matrix[2, 2] = (
        aa / det,
        (a * f - c * c) / det,
        (a * d - b * b) / det,
    )
    matrix[0, 1] = matrix[1, 0] = bb / det
    matrix[0, 2] = matrix[2, 0] = cc / det
    matrix[1, 2] = matrix[2, 1] = (b * c - a * e) / det
    for i in range(n):
        for a in range(n_free):
            along = 0.0
            for b in range(n_free):
                along += matrix[a, b] * jacobian[b, i]
            step[a] += along * weight[i] * residual[i]
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def _search(s, echoes, sigma, table, n_free, x, room):  # type: ignore[no-untyped-def]
    """Minimise by Levenberg-Marquardt steps from x, in place.

    Returns -2 ln(likelihood) for unit sigma, the residuals' sum of squares, and whether the
    steps came to an end; leaves the inverse of the normal equations in `room`.
    """
    mean, inverse, jacobian, weight, residual, matrix, step, trial = room
    best, damping, settled, ended = np.inf, 1e-3, not sigma > 0.0, False
    trial[:] = x
    for iteration in range(_MAX_STEPS):
        _predict(trial, echoes, sigma, table, mean, inverse, jacobian)
        if iteration == 0:
            weight[:] = inverse
        cost = 0.0
        for i in range(s.size):
            cost += weight[i] * (s[i] - mean[i]) ** 2
        if cost <= best:
            x[:] = trial
            best = cost
            damping *= 0.3
        else:
            damping = max(4.0 * damping, 1e-3)
            _predict(x, echoes, sigma, table, mean, inverse, jacobian)
        if ended and not settled:  # the weights, taken at the start, are now taken near the answer
            settled, ended, best = True, False, np.inf
            weight[:] = inverse
            trial[:] = x
            continue
        for i in range(s.size):
            residual[i] = s[i] - mean[i]
        if not _solve(weight, jacobian, residual, n_free, 0.0 if ended else damping, matrix, step):
            return np.inf, np.inf, False
        if ended:
            break
        trial[0] = max(x[0] + step[0], 0.1 * x[0])
        trial[1] = min(max(x[1] + min(max(step[1], -0.2), 0.2), PDFF_MIN), PDFF_MAX)
        trial[2] = min(max(x[2] + step[2], R2STAR_MIN_PER_S), R2STAR_MAX_PER_S)
        moved = max(abs(trial[0] / x[0] - 1.0), abs(trial[1] - x[1]))
        moved = max(moved, abs(trial[2] - x[2]) * echoes.te_s[-1])
        ended = moved < (_TOLERANCE if settled else 1e-2)
    likelihood, squares = 0.0, 0.0
    for i in range(s.size):
        squares += residual[i] ** 2
        likelihood += weight[i] * residual[i] ** 2 - sigma * sigma * np.log(weight[i])
    return likelihood, squares, ended


@njit(cache=True, error_model="numpy", nogil=True)
def _fit_rows(signal, noise, echoes, starts, fit_rate, table):  # type: ignore[no-untyped-def]
    """Fit every row of `signal` (n_voxels, n_echoes); columns as `assemble` takes them."""
    n_voxels, n = signal.shape
    n_free = 3 if fit_rate else 2
    found, variances = np.full((n_voxels, 4), np.nan), np.full((n_voxels, 5), np.nan)
    converged, codes = np.zeros(n_voxels, np.bool_), np.zeros(n_voxels, np.uint8)
    matrix, step, x, best_x = np.empty((3, 3)), np.empty(3), np.empty(3), np.empty(3)
    room = (
        np.empty(n), np.empty(n), np.empty((4, n)), np.empty(n), np.empty(n), matrix, step,
        np.empty(3),
    )  # fmt: skip
    covariance = np.empty((3, 3))
    for v in range(n_voxels):
        s = signal[v]
        largest, total = s.max(), s.sum()
        if not np.isfinite(total):
            codes[v] = _NON_FINITE
            continue
        if total <= 0.0 or largest < NOISE_FLOOR_SIGMA * noise[v]:
            codes[v] = _NO_SIGNAL
            continue
        sigma = noise[v] if noise[v] > 0.0 else 0.0
        best, second, best_squares, ended = np.inf, np.inf, np.inf, False
        for start in starts:
            x[0], x[1], x[2] = largest, start, 40.0 if fit_rate else 0.0
            likelihood, squares, one_ended = _search(s, echoes, sigma, table, n_free, x, room)
            if likelihood < best:
                if abs(x[1] - best_x[1]) > _APART:
                    second = best
                best, best_squares, ended = likelihood, squares, one_ended
                best_x[:] = x
                covariance[:] = matrix
            elif abs(x[1] - best_x[1]) > _APART:
                second = likelihood
        if not best < np.inf:
            continue
        variance = noise[v] ** 2
        if np.isnan(variance) and n - n_free >= MIN_RESIDUAL_DOF:
            variance = best_squares / (n - n_free)
        if sigma > 0.0 and second - best < PLAUSIBLE * sigma**2:
            codes[v] = _NOT_IDENTIFIABLE
            continue
        whole, p = best_x[0], best_x[1]
        found[v, 0], found[v, 1], found[v, 3] = whole * (1.0 - p), whole * p, best_x[2]
        found[v, 2] = 0.0
        converged[v] = ended
        # W = total (1 - p), F = total p
        tt, tp, pp = covariance[0, 0], covariance[0, 1], covariance[1, 1]
        variances[v, 0] = (1 - p) ** 2 * tt - 2 * (1 - p) * whole * tp + whole**2 * pp
        variances[v, 1] = p**2 * tt + 2 * p * whole * tp + whole**2 * pp
        variances[v, 4] = p * (1 - p) * tt + (1 - 2 * p) * whole * tp - whole**2 * pp
        variances[v, 2], variances[v, 3] = 0.0, covariance[2, 2]
        for k in range(5):
            variances[v, k] *= variance
    return found, variances, converged, codes
