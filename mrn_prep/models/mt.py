"""Magnetisation transfer: its ratio (MTR) and saturation (MTsat)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.status import NOISE_FLOOR_SIGMA, Reason
from mrn_prep.models.t1_vfa import T1_MAX_S

Float = NDArray[np.float64]

RESIDUAL_B1_C = 0.4
"""The constant of Weiskopf et al. (2013), for their pulse: others need their own."""

_ITERATIONS = 8  # of the exact solution; each gains more than two digits


@dataclass(frozen=True)
class MTRResult:
    """Maps of `mtr_percent`, all of shape (...)."""

    mtr_percent: Float
    """Magnetisation transfer ratio (%); NaN where `status` is not 0."""
    mtr_se_percent: Float
    """Its standard error; NaN where unknown."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where computed."""


@dataclass(frozen=True)
class MTsatResult:
    """Maps of `fit_mtsat`, all of shape (...): the signal's without its last axis."""

    mtsat_percent: Float
    """Saturation by one pulse of nominal power (%); NaN where `status` is not 0."""
    mtsat_se_percent: Float
    """Its standard error; NaN where unknown."""
    t1_s: Float
    """T1 (s); NaN where not fitted."""
    t1_se_s: Float
    """Its standard error; NaN where unknown."""
    m0: Float
    """Equilibrium signal A, in the unit of the input; NaN where not fitted."""
    m0_se: Float
    """Its standard error; NaN where unknown."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


def mtr_percent(
    s_off: ArrayLike,
    s_on: ArrayLike,
    sigma: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> MTRResult:
    r"""Magnetisation transfer ratio.

    .. math:: \mathrm{MTR} = 100\,\frac{S_{off} - S_{on}}{S_{off}}

    Parameters
    ----------
    s_off, s_on : array, shape (...)
        Signals without and with the saturation pulse (arbitrary units).
    sigma : float or array, broadcastable to (...), optional
        Noise standard deviation, in the unit of the signal; without it the standard
        error is NaN.
    mask : bool array, shape (...), optional
        Voxels to compute; all by default.

    Returns
    -------
    MTRResult
        ``Reason.NO_SIGNAL`` where `s_off` is not positive or below `NOISE_FLOOR_SIGMA`.
        Negative values are kept: they are noise, or motion.

    Raises
    ------
    ValueError
        If the two signals differ in shape.

    Notes
    -----
    The standard error is first order in `sigma`,
    :math:`100\,\frac{\sigma}{S_{off}} \sqrt{1 + S_{on}^2 / S_{off}^2}`.

    References
    ----------
    .. [1] Wolff SD, Balaban RS. Magn Reson Med 1989;10:135-144.
       doi:10.1002/mrm.1910100113

    Examples
    --------
    >>> result = mtr_percent(200.0, 150.0, sigma=4.0)
    >>> float(result.mtr_percent), float(result.mtr_se_percent)
    (25.0, 2.5)
    """
    s_off = np.asarray(s_off, dtype=np.float64)
    s_on = np.asarray(s_on, dtype=np.float64)
    if s_off.shape != s_on.shape:
        raise ValueError(f"s_off {s_off.shape} and s_on {s_on.shape} must have one shape.")
    noise = np.asarray(np.nan if sigma is None else sigma, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        mtr = 100 * (s_off - s_on) / s_off
        mtr_se = 100 * noise / np.abs(s_off) * np.sqrt(1 + (s_on / s_off) ** 2)
        status = _first_reason(
            mask,
            s_off.shape,
            [
                (~(np.isfinite(s_off) & np.isfinite(s_on)), Reason.NON_FINITE),
                ((s_off <= 0) | (s_off < NOISE_FLOOR_SIGMA * noise), Reason.NO_SIGNAL),
            ],
        )
    mtr, mtr_se = (np.where(status == Reason.FITTED, x, np.nan) for x in (mtr, mtr_se))
    return MTRResult(mtr, mtr_se, status)


def mtsat_signal(
    m0: ArrayLike, t1_s: ArrayLike, delta_percent: ArrayLike, flip_rad: ArrayLike, tr_s: float
) -> Float:
    r"""Signal of a spoiled gradient echo with a saturation pulse, as MTsat defines it.

    .. math:: S = A\,\alpha\,\frac{R_1 T_R}{\alpha^2/2 + \delta + R_1 T_R}, \quad R_1 = 1/T_1

    Parameters
    ----------
    m0, t1_s : array, shape (...)
        Equilibrium signal A (arbitrary units) and T1 (s).
    delta_percent : array, shape (...)
        Share of the magnetisation that one pulse saturates at this voxel (%); 0 without
        a pulse. It is that of nominal power times B1 squared.
    flip_rad : array, shape (...)
        Angle the spins saw: nominal angle times relative B1+ (rad).
    tr_s : float
        Repetition time (s).

    Returns
    -------
    array, shape (...)
        Signal, in the unit of `m0`.

    Notes
    -----
    For angles and :math:`R_1 T_R` much smaller than one [1]_.

    References
    ----------
    .. [1] Helms G, Dathe H, Kallenberg K, Dechent P. Magn Reson Med 2008;60:1396-1407.
       doi:10.1002/mrm.21732

    Examples
    --------
    At small angles it is the spoiled gradient echo; a saturation of alpha^2/2 + R1 TR
    halves the signal:

    >>> from mrn_prep.models.t1_vfa import spgr_signal
    >>> one = mtsat_signal(100.0, 1.2, 0.0, 0.05, 0.03)
    >>> bool(abs(one / spgr_signal(100.0, 1.2, [0.05], 0.03)[0] - 1) < 1e-3)
    True
    >>> half = mtsat_signal(100.0, 1.2, 100 * (0.05**2 / 2 + 0.03 / 1.2), 0.05, 0.03)
    >>> bool(np.isclose(half, one / 2))
    True
    """
    m0, t1_s, alpha = (np.asarray(x, dtype=np.float64) for x in (m0, t1_s, flip_rad))
    delta = np.asarray(delta_percent, dtype=np.float64) / 100
    recovered = tr_s / t1_s
    signal: Float = m0 * alpha * recovered / (alpha**2 / 2 + delta + recovered)
    return signal


def fit_mtsat(
    signal: ArrayLike,
    flip_rad: ArrayLike,
    tr_s: ArrayLike,
    mask: ArrayLike | None = None,
    b1: ArrayLike | None = None,
    b1_se: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    exact: bool = False,
    residual_b1_c: float | None = None,
) -> MTsatResult:
    r"""MTsat, T1 and M0 from images with proton-density, T1 and MT weighting.

    With :math:`u = S\alpha/2T_R` and :math:`w = S/\alpha` of the first two images,
    :math:`\alpha` their angles times B1, and the third for the saturation,

    .. math::
        R_1 = \frac{u_{T1} - u_{PD}}{w_{PD} - w_{T1}}, \quad
        A = w_{PD} + \frac{u_{PD}}{R_1}, \quad
        \delta = \frac{1}{b^2}\left[\left(\frac{A\,\alpha_{MT}}{S_{MT}} - 1\right) R_1 T_{R,MT}
        - \frac{\alpha_{MT}^2}{2}\right] \cdot \frac{1 - C}{1 - C\,b}.

    Parameters
    ----------
    signal : array, shape (..., 3)
        Images with PD and T1 weighting, and with the saturation pulse (arbitrary units).
    flip_rad, tr_s : array, shape (3,)
        Their nominal flip angles (rad) and repetition times (s).
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    b1 : array, broadcastable to (...), optional
        Relative B1+ (1 = nominal), 1 everywhere if absent. Where it is NaN or not positive
        the voxel is not fitted.
    b1_se : array, broadcastable to (...), optional
        Standard error of `b1`, carried into the standard errors; 0 if absent.
    sigma : float or array, broadcastable to (...), optional
        Noise standard deviation, in the unit of the signal; without it the standard errors
        are NaN.
    exact : bool
        Solve the spoiled gradient echo for any angle and TR instead of its limit for small
        ones. Values of the literature are those of the limit, which is the default.
    residual_b1_c : float, optional
        C of the last factor; `RESIDUAL_B1_C` for the pulse it was measured with. Without it
        the factor is 1.

    Returns
    -------
    MTsatResult
        ``Reason.OUT_OF_RANGE`` where T1 is not between 0 and `T1_MAX_S` or M0 not positive.

    Raises
    ------
    ValueError
        If shapes disagree, the first angle or TR gives no other T1 weighting than the
        second, an angle is not between 0 and pi/2, a TR is not positive, or C not below 1.

    Notes
    -----
    R1 and A are those of the erratum [2]_. What a pulse saturates grows with its power, hence
    with :math:`b^2`, which is divided out [1]_: in the limit of small angles MTsat is then what
    the nominal angles give, whatever B1. What is left may be corrected by C [3]_.

    `exact` has :math:`\tau = 2\tan(\alpha/2)` for :math:`\alpha` and
    :math:`u = S \tau c/2T_R`, :math:`c = x \coth x`, :math:`x = R_1 T_R/2`, which is the
    spoiled gradient echo without approximation; then
    :math:`1 - \delta = S_{MT}/[S_{MT} E\cos\alpha + A (1 - E) \sin\alpha]`,
    :math:`E = e^{-R_1 T_R}`, for a pulse that leaves :math:`1 - \delta` right before each
    excitation.

    Of that train, at 6 and 21 degrees, TR 18-27 ms, T1 1.2 s and MTsat 3 %, the limit reads
    MTsat 3.5 % high.

    The standard errors are first order; B1's part is that of the limit,
    :math:`T_1 \propto b^{-2}, A \propto b^{-1}`.

    References
    ----------
    .. [1] Helms G, Dathe H, Kallenberg K, Dechent P. Magn Reson Med 2008;60:1396-1407.
       doi:10.1002/mrm.21732
    .. [2] Erratum. Magn Reson Med 2010;64:1856. doi:10.1002/mrm.22607
    .. [3] Weiskopf N, Suckling J, Williams G, et al. Front Neurosci 2013;7:95.
       doi:10.3389/fnins.2013.00095

    Examples
    --------
    >>> flips, trs = np.deg2rad([6.0, 21.0, 6.0]), (0.025, 0.025, 0.025)
    >>> signal = [mtsat_signal(900.0, 1.2, d, 0.9 * a, 0.025)
    ...           for a, d in zip(flips, (0, 0, 0.9**2 * 3.0))]
    >>> fit = fit_mtsat(signal, flips, trs, b1=0.9)
    >>> round(float(fit.mtsat_percent), 6), round(float(fit.t1_s), 6), round(float(fit.m0), 3)
    (3.0, 1.2, 900.0)
    >>> round(float(fit_mtsat(signal, flips, trs, b1=0.9, residual_b1_c=0.4).mtsat_percent), 4)
    2.8125
    """
    signal = np.asarray(signal)
    alpha = np.asarray(flip_rad, dtype=np.float64)
    tr = np.asarray(tr_s, dtype=np.float64)
    _check(signal, alpha, tr, residual_b1_c)
    shape, c = signal.shape[:-1], residual_b1_c or 0.0
    inside = np.broadcast_to(np.asarray(True if mask is None else mask, dtype=np.bool_), shape)
    given = [
        np.broadcast_to(np.asarray(default if x is None else x), shape).reshape(-1)
        for x, default in ((b1, 1.0), (b1_se, 0.0), (sigma, np.nan))
    ]
    flat, rows = signal.reshape(-1, 3), np.flatnonzero(inside)
    maps = np.full((6, inside.size), np.nan)
    status = np.full(inside.size, Reason.OUTSIDE_MASK, dtype=np.uint8)
    for first in range(0, rows.size, _CHUNK):
        part = rows[first : first + _CHUNK]
        b, b_se, noise = (np.asarray(values[part], dtype=np.float64) for values in given)
        block = np.asarray(flat[part], dtype=np.float64)
        maps[:, part], status[part] = _solve(block, alpha, tr, b, b_se, noise, c, exact)
    maps = maps.reshape(6, *shape)
    return MTsatResult(*[*(maps[i, ...] for i in range(6)), status.reshape(shape)])


_CHUNK = 65536  # voxels at a time: what is computed on the way is many times the images


def _solve(
    signal: Float, alpha: Float, tr: Float, b: Float, b_se: Float, noise: Float, c: float,
    exact: bool,
) -> tuple[Float, NDArray[np.uint8]]:  # fmt: skip
    """Return rows in the order of `MTsatResult`, and reasons, of voxels (n, 3)."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        local = b[..., np.newaxis] * alpha
        r1, m0, dr1, dm0 = _two_angles(signal, local, tr, exact)
        delta, by_r1, by_m0, by_s = _saturation(signal[..., 2], local[..., 2], tr[2], r1, m0, exact)
        factor = 100 / b**2 * (1 - c) / (1 - c * b)
        slopes = [by_r1 * x + by_m0 * y for x, y in zip(dr1, dm0, strict=True)]
        delta_se = factor * np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + by_s**2) * noise
        mtsat = factor * delta
        # in the limit the bracket goes with b squared: only the residual factor is left
        mtsat_se = np.hypot(delta_se, mtsat * c / (1 - c * b) * b_se)
        t1_se = np.hypot(np.hypot(*dr1) * noise / r1**2, 2 / (b * r1) * b_se)
        m0_se = np.hypot(np.hypot(*dm0) * noise, m0 / b * b_se)
        dark = (signal <= 0).any(axis=-1) | (signal.max(axis=-1) < NOISE_FLOOR_SIGMA * noise)
        reasons = [
            (~np.isfinite(signal).all(axis=-1), Reason.NON_FINITE),
            (~((b > 0) & np.isfinite(b) & (c * b < 1)), Reason.NO_B1),
            (dark, Reason.NO_SIGNAL),
            (~((r1 >= 1 / T1_MAX_S) & np.isfinite(r1) & (m0 > 0)), Reason.OUT_OF_RANGE),
            (~np.isfinite(mtsat), Reason.OUT_OF_RANGE),
        ]
        status = _first_reason(None, b.shape, reasons)
        maps = np.stack([mtsat, mtsat_se, 1 / r1, t1_se, m0, m0_se])
    maps[:, status != Reason.FITTED] = np.nan
    return maps, status


def _check(signal: Float, alpha: Float, tr: Float, c: float | None) -> None:
    if signal.ndim < 1 or not signal.shape[-1] == alpha.size == tr.size == 3:
        raise ValueError(
            f"MTsat has three images (PD, T1 and MT weighting), angles and repetition times; "
            f"got {signal.shape}, {alpha.shape} and {tr.shape}."
        )
    if not (np.all(alpha > 0) and np.all(alpha < np.pi / 2)):
        raise ValueError(f"Flip angles must lie between 0 and pi/2 rad, got {alpha.tolist()}.")
    if not np.all(tr > 0):
        raise ValueError(f"Repetition times must be positive (s), got {tr.tolist()}.")
    if not alpha[1] ** 2 / tr[1] > alpha[0] ** 2 / tr[0]:
        raise ValueError(
            "The second image must be the more T1-weighted one (larger angle or shorter TR): "
            f"angles {alpha[:2].tolist()} rad, TR {tr[:2].tolist()} s."
        )
    if c is not None and not 0 <= c < 1:
        raise ValueError(f"The residual B1 constant must lie in [0, 1), got {c}.")


def _first_reason(
    mask: ArrayLike | None,
    shape: tuple[int, ...],
    reasons: list[tuple[NDArray[np.bool_], Reason]],
) -> NDArray[np.uint8]:
    inside = np.broadcast_to(np.asarray(True if mask is None else mask, dtype=np.bool_), shape)
    tests = [(~inside, Reason.OUTSIDE_MASK), *reasons]
    return np.select(
        [np.broadcast_to(test, shape) for test, _ in tests],
        [np.uint8(reason) for _, reason in tests],
        np.uint8(Reason.FITTED),
    )


def _two_angles(
    signal: Float, alpha: Float, tr: Float, exact: bool
) -> tuple[Float, Float, tuple[Float, Float], tuple[Float, Float]]:
    """R1 and A, and their derivatives by the two signals."""
    tau = 2 * np.tan(alpha / 2) if exact else alpha
    w = signal[..., :2] / tau[..., :2]
    v = signal[..., :2] * tau[..., :2] / (2 * tr[:2])
    fall = w[..., 0] - w[..., 1]
    r1: Float = (v[..., 1] - v[..., 0]) / fall
    c, dc = np.ones_like(v), np.zeros_like(v)
    for _ in range(_ITERATIONS if exact else 0):
        # Newton's step for R1 (w_PD - w_T1) = u_T1 - u_PD, u = v c(R1)
        x = r1[..., np.newaxis] * tr[:2] / 2
        c = x / np.tanh(x)
        dc = (1 / np.tanh(x) - x / np.sinh(x) ** 2) * tr[:2] / 2
        u, du = v * c, v * dc
        r1 = r1 - (r1 * fall - u[..., 1] + u[..., 0]) / (fall - du[..., 1] + du[..., 0])
    u, du = v * c, v * dc
    slope = fall - du[..., 1] + du[..., 0]
    u_by_s, w_by_s = u / signal[..., :2], 1 / tau[..., :2]
    by_s = (u_by_s + r1[..., np.newaxis] * w_by_s) / slope[..., np.newaxis]
    dr1 = (-by_s[..., 0], by_s[..., 1])
    m0: Float = w[..., 0] + u[..., 0] / r1
    m0_by_r1 = du[..., 0] / r1 - u[..., 0] / r1**2
    dm0 = (w_by_s[..., 0] + u_by_s[..., 0] / r1 + m0_by_r1 * dr1[0], m0_by_r1 * dr1[1])
    return r1, m0, dr1, dm0


def _saturation(
    s: Float, alpha: Float, tr: float, r1: Float, m0: Float, exact: bool
) -> tuple[Float, Float, Float, Float]:
    """Compute the saturation at the voxel, and its derivatives by R1, A and the signal."""
    if not exact:
        ratio = m0 * alpha / s
        delta = (ratio - 1) * r1 * tr - alpha**2 / 2
        return delta, (ratio - 1) * tr, alpha / s * r1 * tr, -ratio / s * r1 * tr
    e, sin, cos = np.exp(-r1 * tr), np.sin(alpha), np.cos(alpha)
    whole = s * e * cos + m0 * (1 - e) * sin
    by_whole = s / whole**2  # of delta = 1 - s / whole
    by_r1 = by_whole * (m0 * sin - s * cos) * tr * e
    return 1 - s / whole, by_r1, by_whole * (1 - e) * sin, -m0 * (1 - e) * sin / whole**2
