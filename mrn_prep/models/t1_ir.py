"""T1 from inversion recovery, from signed or magnitude images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.status import MIN_RESIDUAL_DOF, NOISE_FLOOR_SIGMA, Reason
from mrn_prep.models.t1_vfa import T1_MAX_S

Float = NDArray[np.float64]

T1_MIN_S = 0.02
"""Shorter than any tissue of the body."""
TI_MAX_S = 60.0
"""No inversion time is longer; larger numbers are milliseconds."""

_GRID = 96  # T1 values of the first search, 6.7 % apart
_MAX_ITERATIONS = 50
_FITTED = int(Reason.FITTED)
_NON_FINITE = int(Reason.NON_FINITE)
_NO_SIGNAL = int(Reason.NO_SIGNAL)
_OUT_OF_RANGE = int(Reason.OUT_OF_RANGE)
_NOT_CONVERGED = int(Reason.NOT_CONVERGED)


@dataclass(frozen=True)
class IRResult:
    """Maps of `fit_ir`, all of shape (...): the signal's without its last axis."""

    t1_s: Float
    """T1 (s); NaN where `status` is not 0."""
    t1_se_s: Float
    """Standard error of T1 (s); NaN where unknown."""
    a: Float
    """Signal after full recovery, in the unit of the input; NaN where not fitted."""
    a_se: Float
    """Standard error of `a`; NaN where unknown."""
    b: Float
    """Signal right after the inversion minus `a`; NaN where not fitted."""
    b_se: Float
    """Standard error of `b`; NaN where unknown."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


def ir_signal(
    m0: ArrayLike,
    t1_s: ArrayLike,
    ti_s: ArrayLike,
    tr_s: float = np.inf,
    inversion_rad: float = np.pi,
    flip_rad: float = np.pi / 2,
) -> Float:
    r"""Steady-state signal of a repeated inversion recovery, with its sign.

    .. math:: S = M_0 \sin\alpha
        \frac{1 - (1 - \cos\theta) e^{-T_I/T_1} - \cos\theta\, e^{-T_R/T_1}}
        {1 - \cos\theta \cos\alpha\, e^{-T_R/T_1}}

    Parameters
    ----------
    m0, t1_s : array, shape (...)
        Equilibrium signal (arbitrary units) and T1 (s).
    ti_s : array, shape (n_ti,)
        Inversion times (s).
    tr_s : float
        Time from one inversion to the next (s).
    inversion_rad, flip_rad : float
        Angles of inversion and excitation (rad).

    Returns
    -------
    array, shape (..., n_ti)
        Signal, in the unit of `m0`.

    Notes
    -----
    Gradient-echo read-out, or a spin echo that is short beside T1 [1]_. Transverse
    magnetisation is gone before each pulse.

    References
    ----------
    .. [1] Barral JK, Gudmundson E, Stikov N, Etezadi-Amoli M, Stoica P, Nishimura DG. Magn
       Reson Med 2010;64:1057-1067. doi:10.1002/mrm.22497

    Examples
    --------
    The signal is zero at T1 ln 2, and after full saturation starts from zero:

    >>> bool(abs(ir_signal(100.0, 1.2, [1.2 * np.log(2)])[0]) < 1e-12)
    True
    >>> ir_signal(100.0, 1.2, [0.0, 1.2], inversion_rad=np.pi / 2).round(3).tolist()
    [0.0, 63.212]
    """
    m0 = np.asarray(m0, dtype=np.float64)[..., np.newaxis]
    t1_s = np.asarray(t1_s, dtype=np.float64)[..., np.newaxis]
    e_ti = np.exp(-np.asarray(ti_s, dtype=np.float64) / t1_s)
    e_tr = np.exp(-tr_s / t1_s)
    inverted = np.cos(inversion_rad)
    recovered = 1 - (1 - inverted) * e_ti - inverted * e_tr
    before = 1 - inverted * np.cos(flip_rad) * e_tr
    signal: Float = m0 * np.sin(flip_rad) * recovered / before
    return signal


def fit_ir(
    signal: ArrayLike,
    ti_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    signed: bool = False,
) -> IRResult:
    r"""Fit T1 to an inversion recovery by nonlinear least squares.

    .. math:: \min_{a, b, T_1} \sum_i \left(p_i S_i - a - b\,e^{-T_{I,i}/T_1}\right)^2,
        \quad p_i = \pm 1

    Parameters
    ----------
    signal : array, shape (..., n_ti)
        Signal (arbitrary units).
    ti_s : array, shape (n_ti,)
        Inversion times (s), in any order.
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    sigma : float or array, broadcastable to (...), optional
        Noise standard deviation, in the unit of the signal. Without it (or where it is
        NaN) the standard errors come from the residuals if there are nine times or more,
        else they are NaN.
    signed : bool
        True if the images carry their sign (either way round); False for magnitudes, whose
        polarity :math:`p_i` is then found.

    Returns
    -------
    IRResult
        ``Reason.OUT_OF_RANGE`` where T1 is not between `T1_MIN_S` and `T1_MAX_S`, or the
        signal does not recover through or from below zero or a smaller value (a and b of
        the same sign); a largest magnitude below `NOISE_FLOOR_SIGMA`, ``Reason.NO_SIGNAL``.

    Raises
    ------
    ValueError
        If shapes disagree, fewer than three different times are given, or a time is
        negative or beyond `TI_MAX_S`.

    Notes
    -----
    Amplitudes a and b need not be known beforehand, so neither perfect inversion nor a TR
    of many T1 is asked for [1]_. They are eliminated, which leaves a search in T1 alone:
    over a logarithmic grid, then by Newton steps between the neighbours of the best.

    The magnitudes before the smallest one belong to negative signals; both signs are tried
    for that one itself. With `sigma` the two fits are averaged with weights
    :math:`e^{-\mathrm{RSS}/2\sigma^2}`, and what they differ by is part of the standard
    error; without it the better one is kept. Where the signal nearly vanishes at one of few
    inversion times magnitudes cannot tell the two apart, and only signed images can: with
    four times and a signal-to-noise ratio of 50 the median of T1 is then up to 5 % long. With
    `sigma` the noise floor is taken off before, :math:`\sqrt{\max(S^2 - \sigma^2, 0)}`.

    The standard errors are first order in `sigma`.

    References
    ----------
    .. [1] Barral JK, Gudmundson E, Stikov N, Etezadi-Amoli M, Stoica P, Nishimura DG. Magn
       Reson Med 2010;64:1057-1067. doi:10.1002/mrm.22497

    Examples
    --------
    >>> ti_s = [0.05, 0.4, 1.2, 2.5]
    >>> signal = ir_signal(900.0, 1.2, ti_s, tr_s=3.0, inversion_rad=2.8)
    >>> fit = fit_ir(np.abs(signal), ti_s)
    >>> round(float(fit.t1_s), 6), bool(np.isclose(fit.a + fit.b * np.exp(-1), signal[2]))
    (1.2, True)
    """
    signal = np.asarray(signal)
    ti_s = np.asarray(ti_s, dtype=np.float64)
    shape = signal.shape[:-1]
    _check(signal, ti_s)
    order = np.argsort(ti_s, kind="stable")
    fitted = _per_voxel(True if mask is None else mask, shape, "mask").astype(np.bool_)
    maps, codes = _fit_voxels(
        np.ascontiguousarray(signal[fitted][..., order], dtype=np.float64),
        np.ascontiguousarray(ti_s[order]),
        np.geomspace(T1_MIN_S, T1_MAX_S, _GRID),
        _per_voxel(np.nan if sigma is None else sigma, shape, "sigma")[fitted],
        bool(signed),
    )
    status = np.full(shape, Reason.OUTSIDE_MASK, dtype=np.uint8)
    status[fitted] = codes
    out = np.full((6, *shape), np.nan)
    out[:, fitted] = maps.T
    return IRResult(
        t1_s=out[0], t1_se_s=out[1], a=out[2], a_se=out[3], b=out[4], b_se=out[5], status=status
    )


def _check(signal: NDArray[np.generic], ti_s: Float) -> None:
    if ti_s.ndim != 1 or signal.ndim < 1 or signal.shape[-1] != ti_s.size:
        raise ValueError(
            f"signal {signal.shape} and ti_s {ti_s.shape} must be (..., n_ti) and (n_ti,)."
        )
    if np.unique(ti_s).size < 3:
        raise ValueError(f"T1 needs three or more inversion times, got {ti_s.tolist()}.")
    if not np.all(ti_s >= 0):
        raise ValueError(f"Inversion times must not be negative (s), got {ti_s.tolist()}.")
    if ti_s.max() > TI_MAX_S:
        raise ValueError(
            f"Inversion times must be in seconds, got {ti_s.tolist()}: are they milliseconds?"
        )


def _per_voxel(values: ArrayLike, shape: tuple[int, ...], name: str) -> Float:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim and values.shape != shape:
        raise ValueError(f"{name} {values.shape} must have the signal's shape {shape}.")
    return np.broadcast_to(values, shape)


@njit(cache=True, error_model="numpy", nogil=True)
def _fit_voxels(signal, ti_s, grid, sigma, signed):  # type: ignore[no-untyped-def]
    n_voxels, n = signal.shape
    maps = np.full((n_voxels, 6), np.nan)
    codes = np.zeros(n_voxels, dtype=np.uint8)
    shapes = np.empty((grid.size, n))  # the centred decay of each T1, of unit length
    for g in range(grid.size):
        shapes[g] = np.exp(-ti_s / grid[g])
        shapes[g] -= shapes[g].mean()
        shapes[g] /= np.sqrt(np.sum(shapes[g] * shapes[g]))
    s = np.empty(n)
    two = np.empty((2, 6))
    for v in range(n_voxels):
        total, largest = 0.0, 0.0
        for i in range(n):
            total += signal[v, i]
            largest = max(largest, abs(signal[v, i]))
        if not np.isfinite(total):
            codes[v] = _NON_FINITE
        elif largest <= 0.0 or largest < NOISE_FLOOR_SIGMA * sigma[v]:
            codes[v] = _NO_SIGNAL
        elif signed:
            _, codes[v] = _fit_signs(signal[v], ti_s, grid, shapes, sigma[v], maps[v])
        else:
            codes[v] = _fit_magnitude(signal[v], ti_s, grid, shapes, sigma[v], maps[v], s, two)
    return maps, codes


@njit(cache=True, error_model="numpy", nogil=True)
def _fit_magnitude(m, ti_s, grid, shapes, sigma, out, s, two):  # type: ignore[no-untyped-def]
    """Fit with the smallest value positive and negative; weigh the two by their likelihood."""
    n = m.size
    smallest = 0
    for i in range(n):
        s[i] = abs(m[i])
        if sigma > 0.0:
            s[i] = np.sqrt(max(m[i] * m[i] - sigma * sigma, 0.0))
        if abs(m[i]) < abs(m[smallest]):
            smallest = i
    for i in range(smallest):
        s[i] = -s[i]
    residual, code = _fit_signs(s, ti_s, grid, shapes, sigma, two[0])
    s[smallest] = -s[smallest]
    other_residual, other_code = _fit_signs(s, ti_s, grid, shapes, sigma, two[1])
    best = 0 if residual <= other_residual else 1
    out[:] = two[best]
    if code == _FITTED and other_code == _FITTED and sigma > 0.0:
        weight = 1.0 / (1.0 + np.exp(0.5 * (residual - other_residual) / (sigma * sigma)))
        for k in range(0, 6, 2):
            out[k] = weight * two[0, k] + (1.0 - weight) * two[1, k]
            inner = weight * two[0, k + 1] ** 2 + (1.0 - weight) * two[1, k + 1] ** 2
            apart = weight * (1.0 - weight) * (two[0, k] - two[1, k]) ** 2
            out[k + 1] = np.sqrt(inner + apart)
    return code if best == 0 else other_code


@njit(cache=True, error_model="numpy", nogil=True)
def _fit_signs(s, ti_s, grid, shapes, sigma, out):  # type: ignore[no-untyped-def]
    """Fit a signal with its signs; returns its sum of squared residuals and a code."""
    t1, residual, code = _search(s, ti_s, grid, shapes)
    out[:] = np.nan
    if code == _FITTED and not _amplitudes_and_errors(s, ti_s, t1, sigma, out):
        code = _OUT_OF_RANGE
    return residual, code


@njit(cache=True, error_model="numpy", nogil=True)
def _search(s, ti_s, grid, shapes):  # type: ignore[no-untyped-def]
    """T1 at which the centred decay c explains most of s, (s.c)^2 / (c.c), and the residual."""
    n = s.size
    mean, square = s.mean(), s.var() * n
    top, at = -1.0, 0
    for g in range(grid.size):
        along = 0.0
        for i in range(n):
            along += s[i] * shapes[g, i]
        if along * along > top:
            top, at = along * along, g
    if at == 0 or at == grid.size - 1:
        return grid[at], square - top, _OUT_OF_RANGE
    low, high = 1.0 / grid[at + 1], 1.0 / grid[at - 1]
    rate = 1.0 / grid[at]
    best = top
    for _ in range(_MAX_ITERATIONS):
        e_mean, d_mean, w_mean = _mean_decay(ti_s, rate)
        se = ee = sd = ed = dd = sw = ew = 0.0
        for i in range(n):
            raw = np.exp(-rate * ti_s[i])
            e = raw - e_mean
            d = -ti_s[i] * raw - d_mean  # by the rate
            w = ti_s[i] * ti_s[i] * raw - w_mean
            centred = s[i] - mean
            se += centred * e
            ee += e * e
            sd += centred * d
            ed += e * d
            dd += d * d
            sw += centred * w
            ew += e * w
        best = se * se / ee
        # half the derivative of se^2 / ee, times ee^2 / se; and its derivative
        gradient = sd * ee - se * ed
        slope = sw * ee + sd * ed - se * (dd + ew)
        if gradient * se > 0.0:
            low = rate
        else:
            high = rate
        step = -gradient / slope
        if not (slope * se < 0.0 and low < rate + step < high):
            step = 0.5 * (low + high) - rate
        rate += step
        if abs(step) <= 1e-9 * rate:
            return 1.0 / rate, square - best, _FITTED
    return 1.0 / rate, square - best, _NOT_CONVERGED


@njit(cache=True, error_model="numpy", nogil=True)
def _mean_decay(ti_s, rate):  # type: ignore[no-untyped-def]
    """Means over the times of exp(-rate TI) and its first two derivatives by the rate."""
    e_mean = d_mean = w_mean = 0.0
    n = ti_s.size
    for i in range(n):
        e = np.exp(-rate * ti_s[i])
        e_mean += e / n
        d_mean -= ti_s[i] * e / n
        w_mean += ti_s[i] * ti_s[i] * e / n
    return e_mean, d_mean, w_mean


@njit(cache=True, error_model="numpy", nogil=True)
def _amplitudes_and_errors(s, ti_s, t1, sigma, out):  # type: ignore[no-untyped-def]
    """Write T1, a, b and their standard errors; False if the signal does not recover."""
    n = s.size
    e_mean = d_mean = mean = 0.0
    for i in range(n):
        e = np.exp(-ti_s[i] / t1)
        e_mean += e / n
        d_mean += e * ti_s[i] / (t1 * t1) / n
        mean += s[i] / n
    se = ee = ed = dd = 0.0
    for i in range(n):
        raw = np.exp(-ti_s[i] / t1)
        e, d = raw - e_mean, raw * ti_s[i] / (t1 * t1) - d_mean
        se += (s[i] - mean) * e
        ee += e * e
        ed += e * d
        dd += d * d
    b = se / ee
    a = mean - b * e_mean
    if not a * b < 0.0:
        return False
    rss = 0.0
    for i in range(n):
        rss += (s[i] - a - b * np.exp(-ti_s[i] / t1)) ** 2
    variance = sigma * sigma
    if not sigma >= 0.0:
        variance = rss / (n - 3) if n - 3 >= MIN_RESIDUAL_DOF else np.nan
    # (b, T1) is independent of the mean; a = mean - b e_mean - T1 b d_mean to first order
    det = ee * dd - ed * ed
    t1_var, b_var, covariance = ee / det / (b * b), dd / det, -ed / det / b
    slope = b * d_mean
    a_var = 1.0 / n + e_mean**2 * b_var + slope**2 * t1_var + 2.0 * e_mean * slope * covariance
    out[0], out[1] = t1, np.sqrt(variance * t1_var)
    out[2], out[3] = a, np.sqrt(variance * a_var)
    out[4], out[5] = b, np.sqrt(variance * b_var)
    return True
