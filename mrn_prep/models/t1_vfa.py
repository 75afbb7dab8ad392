"""T1 from spoiled gradient echoes at several flip angles (VFA)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.status import MIN_RESIDUAL_DOF, NOISE_FLOOR_SIGMA, Reason

Float = NDArray[np.float64]

T1_MAX_S = 10.0
"""Longer than any tissue or fluid of the body; a fit beyond it is out of range."""

_MAX_ITERATIONS = 60
_E1_MIN = 1e-6
_FITTED = int(Reason.FITTED)
_OUTSIDE_MASK = int(Reason.OUTSIDE_MASK)
_NON_FINITE = int(Reason.NON_FINITE)
_NO_SIGNAL = int(Reason.NO_SIGNAL)
_NO_B1 = int(Reason.NO_B1)
_OUT_OF_RANGE = int(Reason.OUT_OF_RANGE)
_NOT_CONVERGED = int(Reason.NOT_CONVERGED)


_CHUNK = 65536  # voxels at a time, so that copies in double precision stay small


@dataclass(frozen=True)
class T1Result:
    """Maps of `fit_vfa`, all of shape (...): the signal's without its last axis."""

    t1_s: Float
    """T1 (s); NaN where `status` is not 0."""
    t1_se_s: Float
    """Standard error of T1 (s); NaN where unknown."""
    m0: Float
    """Equilibrium signal, in the unit of the input; NaN where not fitted."""
    m0_se: Float
    """Standard error of `m0`; NaN where unknown."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


def spgr_signal(m0: ArrayLike, t1_s: ArrayLike, flip_rad: ArrayLike, tr_s: float) -> Float:
    r"""Steady-state signal of a spoiled gradient echo.

    .. math:: S = M_0 \sin\alpha \frac{1 - E_1}{1 - E_1\cos\alpha},\quad E_1 = e^{-T_R/T_1}

    Parameters
    ----------
    m0, t1_s : array, shape (...)
        Equilibrium signal, T2* decay included (arbitrary units), and T1 (s).
    flip_rad : array, shape (n_flip,) or (..., n_flip)
        Angle the spins saw: nominal angle times relative B1+ (rad).
    tr_s : float
        Repetition time (s).

    Returns
    -------
    array, shape (..., n_flip)
        Signal, in the unit of `m0`.

    Notes
    -----
    Ideal spoiling, no preparation before the train [1]_.

    References
    ----------
    .. [1] Deoni SCL, Rutt BK, Peters TM. Magn Reson Med 2003;49:515-526.
       doi:10.1002/mrm.10407

    Examples
    --------
    At the Ernst angle, cos(alpha) = E1, the signal peaks at M0 sqrt((1 - E1) / (1 + E1)):

    >>> e1 = np.exp(-0.005 / 1.2)
    >>> flips = np.arccos(e1) + np.array([-0.01, 0.0, 0.01])
    >>> signal = spgr_signal(2.0, 1.2, flips, 0.005)
    >>> int(signal.argmax())
    1
    >>> bool(np.isclose(signal[1], 2.0 * np.sqrt((1 - e1) / (1 + e1))))
    True
    """
    m0 = np.asarray(m0, dtype=np.float64)[..., np.newaxis]
    t1_s = np.asarray(t1_s, dtype=np.float64)[..., np.newaxis]
    flip_rad = np.asarray(flip_rad, dtype=np.float64)
    with np.errstate(divide="ignore"):  # T1 = 0 is full recovery, E1 = 0
        e1 = np.exp(-tr_s / t1_s)
    signal: Float = m0 * np.sin(flip_rad) * (1 - e1) / (1 - e1 * np.cos(flip_rad))
    return signal


def fit_vfa(
    signal: ArrayLike,
    flip_rad: ArrayLike,
    tr_s: float,
    mask: ArrayLike | None = None,
    b1: ArrayLike | None = None,
    b1_se: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    n_threads: int = 1,
) -> T1Result:
    r"""Fit T1 and M0 to a variable-flip-angle series by nonlinear least squares.

    .. math:: \min_{M_0, E_1} \sum_i \left(S_i - M_0 \sin\alpha_i
        \frac{1 - E_1}{1 - E_1 \cos\alpha_i}\right)^2, \quad \alpha_i = b\,\alpha_i^{nominal}

    Parameters
    ----------
    signal : array, shape (..., n_flip)
        Magnitude signal (arbitrary units).
    flip_rad : array, shape (n_flip,)
        Nominal flip angles (rad).
    tr_s : float
        Repetition time (s).
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    b1 : array, shape (...), optional
        Relative B1+ (1 = nominal); 1 everywhere if absent. Where it is NaN or not
        positive the voxel is not fitted.
    b1_se : array, broadcastable to (...), optional
        Standard error of `b1`, carried into the standard errors (which are NaN where it
        is NaN); 0 if absent.
    sigma : float or array, broadcastable to (...), optional
        Noise standard deviation, in the unit of the signal. Without it (or where it is
        NaN) the standard errors come from the residuals if there are eight angles or more,
        else they are NaN.
    n_threads : int
        Threads to fit in.

    Returns
    -------
    T1Result
        T1 beyond `T1_MAX_S`, or E1 outside (0, 1), is NaN with ``Reason.OUT_OF_RANGE``;
        a largest signal below `NOISE_FLOOR_SIGMA`, with ``Reason.NO_SIGNAL``.

    Raises
    ------
    ValueError
        If shapes disagree, fewer than two different flip angles are given, an angle is
        not between 0 and pi, or `tr_s` is not positive.

    Notes
    -----
    M0 is eliminated (variable projection [1]_), which leaves a search in E1 alone: Newton
    steps from the linear solution [2]_, halved when the residual grows. With two angles
    the linear solution is exact.

    The standard errors are first order: :math:`\sigma^2 (J^TJ)^{-1}` plus
    :math:`(\partial\theta/\partial b)^2 \sigma_b^2` with
    :math:`\partial\theta/\partial b = -(J^TJ)^{-1}J^T\,\partial S/\partial b`. The error of
    B1 is taken to be independent of the noise of this series.

    References
    ----------
    .. [1] Golub GH, Pereyra V. SIAM J Numer Anal 1973;10:413-432. doi:10.1137/0710036
    .. [2] Deoni SCL, Rutt BK, Peters TM. Magn Reson Med 2003;49:515-526.
       doi:10.1002/mrm.10407

    Examples
    --------
    >>> flips = np.deg2rad([3.0, 10.0, 20.0])
    >>> fit = fit_vfa(spgr_signal(900.0, 1.2, 0.8 * flips, 0.015), flips, 0.015, b1=0.8)
    >>> round(float(fit.t1_s), 6), round(float(fit.m0), 3), int(fit.status)
    (1.2, 900.0, 0)

    A B1 read 10 % too low gives a T1 about 21 % too long:

    >>> fit = fit_vfa(spgr_signal(900.0, 1.2, flips, 0.005), flips, 0.005, b1=1 / 1.1)
    >>> round(float(fit.t1_s) / 1.2, 2)
    1.21
    """
    signal = np.asarray(signal)
    flip_rad = np.ascontiguousarray(flip_rad, dtype=np.float64)
    shape = signal.shape[:-1]
    _check(signal, flip_rad, tr_s)
    inside = np.ascontiguousarray(_per_voxel(True if mask is None else mask, shape, "mask")) > 0
    given = [
        _per_voxel(default if values is None else values, shape, name).reshape(-1)
        for values, default, name in (
            (b1, 1.0, "b1"), (b1_se, 0.0, "b1_se"), (sigma, np.nan, "sigma")
        )
    ]  # fmt: skip
    flat, inside = signal.reshape(-1, signal.shape[-1]), inside.reshape(-1)
    status = np.empty(inside.size, dtype=np.uint8)
    out = np.empty((4, inside.size))

    def fit(first: int) -> None:
        part = slice(first, first + _CHUNK)
        block = np.ascontiguousarray(flat[part], dtype=np.float64)
        columns = [np.ascontiguousarray(values[part]) for values in given]
        arguments = (block, inside[part], flip_rad, float(tr_s), *columns, first, out, status)
        _fit_voxels(*arguments)

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(fit, range(0, inside.size, _CHUNK)))
    t1_s, t1_se_s, m0, m0_se = out.reshape(4, *shape)
    return T1Result(t1_s, t1_se_s, m0, m0_se, status.reshape(shape))


def _check(signal: NDArray[np.generic], flip_rad: Float, tr_s: float) -> None:
    if flip_rad.ndim != 1 or signal.ndim < 1 or signal.shape[-1] != flip_rad.size:
        raise ValueError(
            f"signal {signal.shape} and flip_rad {flip_rad.shape} must be (..., n_flip) and "
            "(n_flip,)."
        )
    if np.unique(flip_rad).size < 2:
        raise ValueError(f"T1 needs two or more different flip angles, got {flip_rad.tolist()}.")
    if not (np.all(flip_rad > 0) and np.all(flip_rad < np.pi)):
        raise ValueError(f"Flip angles must lie between 0 and pi rad, got {flip_rad.tolist()}.")
    if not tr_s > 0:
        raise ValueError(f"The repetition time must be positive (s), got {tr_s}.")


def _per_voxel(values: ArrayLike, shape: tuple[int, ...], name: str) -> Float:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim and values.shape != shape:
        raise ValueError(f"{name} {values.shape} must have the signal's shape {shape}.")
    return np.broadcast_to(values, shape)


@njit(cache=True, error_model="numpy", nogil=True)
def _fit_voxels(  # type: ignore[no-untyped-def]
    signal, inside, flip_rad, tr_s, b1, b1_se, sigma, first, all_maps, all_codes
):
    """Write the voxels from number `first` on into `all_maps` (4, ...) and `all_codes`."""
    n_voxels, n = signal.shape
    maps, codes = all_maps[:, first : first + n_voxels], all_codes[first : first + n_voxels]
    maps[:] = np.nan
    codes[:] = _FITTED
    sin, cos, tan_half = np.empty(n), np.empty(n), np.empty(n)
    x_min, x_max = -np.expm1(-tr_s / T1_MAX_S), 1.0 - _E1_MIN
    for v in range(n_voxels):
        if not inside[v]:
            codes[v] = _OUTSIDE_MASK
            continue
        s = signal[v]
        total, largest = 0.0, 0.0
        for i in range(n):
            total += s[i]
            largest = max(largest, s[i])
        if not np.isfinite(total):
            codes[v] = _NON_FINITE
            continue
        if not (b1[v] > 0.0 and np.isfinite(b1[v])):
            codes[v] = _NO_B1
            continue
        if total <= 0.0 or largest < NOISE_FLOOR_SIGMA * sigma[v]:
            codes[v] = _NO_SIGNAL
            continue
        for i in range(n):
            t = np.tan(0.5 * b1[v] * flip_rad[i])
            tan_half[i] = t
            sin[i] = 2.0 * t / (1.0 + t * t)
            cos[i] = (1.0 - t * t) / (1.0 + t * t)
        x = _linear(s, tan_half)
        if n > 2:
            x, codes[v] = _search(s, sin, cos, tan_half, x, x_min, x_max)
        elif not (x_min <= x <= x_max):
            codes[v] = _OUT_OF_RANGE
        if codes[v] != _FITTED:
            continue
        t1 = -tr_s / np.log1p(-x)
        amplitude, x_var, amplitude_var, covariance = _errors(
            s, flip_rad, sin, cos, tan_half, x, sigma[v], b1_se[v]
        )
        if not amplitude > 0.0:
            codes[v] = _OUT_OF_RANGE
            continue
        m0 = amplitude / x
        maps[0, v] = t1
        maps[1, v] = np.sqrt(x_var) * t1 * t1 / (tr_s * (1.0 - x))
        maps[2, v] = m0
        maps[3, v] = np.sqrt(amplitude_var - 2.0 * m0 * covariance + m0 * m0 * x_var) / x


# With x = 1 - E1 and d = 1 - E1 cos a = sin(a) tan(a/2) + x cos(a), which loses no digits at
# small angles, the model is s = A g, g = sin(a) / d, A = M0 x.


@njit(cache=True, error_model="numpy", nogil=True)
def _linear(s, tan_half):  # type: ignore[no-untyped-def]
    """Slope of S tan(a/2) = A - x S / tan(a), returned as x."""
    n = s.size
    mean_h = mean_v = hh = hv = 0.0
    for i in range(n):
        t = tan_half[i]
        mean_h += s[i] * (1.0 - t * t) / (2.0 * t) / n
        mean_v += s[i] * t / n
    for i in range(n):
        t = tan_half[i]
        h = s[i] * (1.0 - t * t) / (2.0 * t) - mean_h
        hh += h * h
        hv += h * (s[i] * t - mean_v)
    return -hv / hh


@njit(cache=True, error_model="numpy", nogil=True)
def _search(s, sin, cos, tan_half, x, x_min, x_max):  # type: ignore[no-untyped-def]
    """Maximise (s.g)^2 / (g.g) over x: the least-squares fit with its amplitude eliminated."""
    if not (x_min < x < x_max):
        x = min(10.0 * x_min, 0.5)  # T1 of about 1 s
    best_x, best = x, -1.0
    for _ in range(_MAX_ITERATIONS):
        sg = gg = sh = gh = hh = sw = gw = 0.0
        for i in range(s.size):
            inverse = 1.0 / (sin[i] * tan_half[i] + x * cos[i])
            g = sin[i] * inverse
            h = g * cos[i] * inverse  # -dg/dx
            w = 2.0 * h * cos[i] * inverse  # d2g/dx2
            sg += s[i] * g
            gg += g * g
            sh += s[i] * h
            gh += g * h
            hh += h * h
            sw += s[i] * w
            gw += g * w
        if sg <= 0.0:
            return x, _OUT_OF_RANGE
        value = sg * sg / gg
        if value < best * (1.0 - 1e-13):
            x = 0.5 * (x + best_x)
            continue
        best_x, best = x, value
        gradient = sg * gh - sh * gg
        curvature = sw * gg + sh * gh - sg * (hh + gw)
        enough = 1e-6  # Newton's error is squared by each step: the next would be 1e-12
        if curvature >= 0.0:
            curvature = -sg * (hh - gh * gh / gg)  # Gauss-Newton's is never positive
            enough = 1e-9
        step = -gradient / curvature
        if (x == x_min and step < 0.0) or (x == x_max and step > 0.0):
            return x, _OUT_OF_RANGE
        x = min(max(x + step, x_min), x_max)
        if abs(step) <= enough * x:
            return x, _FITTED
    return x, _NOT_CONVERGED


@njit(cache=True, error_model="numpy", nogil=True)
def _errors(s, flip_rad, sin, cos, tan_half, x, sigma, b1_se):  # type: ignore[no-untyped-def]
    """Amplitude A, and the variances and covariance of x and A."""
    n = s.size
    sg = gg = 0.0
    for i in range(n):
        g = sin[i] / (sin[i] * tan_half[i] + x * cos[i])
        sg += s[i] * g
        gg += g * g
    a = sg / gg
    jj_ax = jj_xx = jb_a = jb_x = rss = 0.0
    for i in range(n):
        inverse = 1.0 / (sin[i] * tan_half[i] + x * cos[i])
        g = sin[i] * inverse
        ds_dx = -a * g * cos[i] * inverse
        ds_db = a * (cos[i] - (1.0 - x)) * inverse * inverse * flip_rad[i]
        jj_ax += g * ds_dx
        jj_xx += ds_dx * ds_dx
        jb_a += g * ds_db
        jb_x += ds_dx * ds_db
        rss += (s[i] - a * g) ** 2
    det = gg * jj_xx - jj_ax * jj_ax
    variance = sigma * sigma
    if not sigma >= 0.0:
        variance = rss / (n - 2) if n - 2 >= MIN_RESIDUAL_DOF else np.nan
    dx = -(gg * jb_x - jj_ax * jb_a) / det * b1_se
    da = -(jj_xx * jb_a - jj_ax * jb_x) / det * b1_se
    return (
        a,
        variance * gg / det + dx * dx,
        variance * jj_xx / det + da * da,
        -variance * jj_ax / det + da * dx,
    )
