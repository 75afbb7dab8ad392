"""Relative B1+ from actual flip-angle imaging (AFI)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.smooth import B1_FWHM_MM, smooth_in_mask
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]

NOISE_FLOOR_SIGMA = 5.0
"""A first signal below this many sigma gives an angle that is wrong by half a radian or more."""


@dataclass(frozen=True)
class B1Result:
    """Maps of `fit_afi`, all of shape (...): the signal's without its last axis."""

    b1: Float
    """Relative B1+ (1 = nominal angle); NaN where `status` is not 0."""
    b1_se: Float
    """Standard error of `b1`; NaN where unknown."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


def afi_signal(
    m0: ArrayLike, t1_s: ArrayLike, flip_rad: ArrayLike, tr1_s: float, tr2_s: float
) -> Float:
    r"""Steady-state signals of a spoiled gradient echo with two alternating intervals.

    .. math::
        S_1 = M_0 \sin\alpha \frac{1 - E_2 + (1 - E_1) E_2 \cos\alpha}{1 - E_1 E_2 \cos^2\alpha},
        \quad
        S_2 = M_0 \sin\alpha \frac{1 - E_1 + (1 - E_2) E_1 \cos\alpha}{1 - E_1 E_2 \cos^2\alpha},
        \quad E_i = e^{-T_{R,i}/T_1}

    :math:`S_1` is read at the start of the short interval TR1, hence after the long recovery.

    Parameters
    ----------
    m0, t1_s, flip_rad : array, shape (...)
        Equilibrium signal, T2* decay included (arbitrary units), T1 (s), and the angle
        the spins saw: nominal angle times relative B1+ (rad). They broadcast.
    tr1_s, tr2_s : float
        Short and long interval (s).

    Returns
    -------
    array, shape (..., 2)
        :math:`S_1, S_2`, in the unit of `m0`.

    Notes
    -----
    Ideal spoiling; exact in TR/T1 [1]_.

    References
    ----------
    .. [1] Yarnykh VL. Magn Reson Med 2007;57:192-200. doi:10.1002/mrm.21120

    Examples
    --------
    With equal intervals both are the common spoiled gradient echo:

    >>> from mrn_prep.models.t1_vfa import spgr_signal
    >>> one = spgr_signal(1.0, 1.2, np.array([0.4]), 0.02)
    >>> bool(np.allclose(afi_signal(1.0, 1.2, 0.4, 0.02, 0.02), one, rtol=1e-12))
    True

    After the longer recovery the signal is larger:

    >>> s1, s2 = afi_signal(1.0, 1.2, np.pi / 3, 0.02, 0.1)
    >>> bool(s1 > s2)
    True
    """
    m0 = np.asarray(m0, dtype=np.float64)
    t1_s = np.asarray(t1_s, dtype=np.float64)
    flip_rad = np.asarray(flip_rad, dtype=np.float64)
    with np.errstate(divide="ignore"):  # T1 = 0 is full recovery, E = 0
        e1, e2 = np.exp(-tr1_s / t1_s), np.exp(-tr2_s / t1_s)
    cos = np.cos(flip_rad)
    scale = m0 * np.sin(flip_rad) / (1 - e1 * e2 * cos**2)
    s1 = scale * (1 - e2 + (1 - e1) * e2 * cos)
    s2 = scale * (1 - e1 + (1 - e2) * e1 * cos)
    return np.stack([s1, s2], axis=-1)


def fit_afi(
    signal: ArrayLike,
    flip_rad: float,
    tr1_s: float,
    tr2_s: float,
    mask: ArrayLike | None = None,
    t1_s: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
) -> B1Result:
    r"""Relative B1+ from the two signals of actual flip-angle imaging.

    With :math:`r = S_2/S_1`, :math:`n = T_{R,2}/T_{R,1}` and :math:`F_i = 1 - e^{-T_{R,i}/T_1}`,

    .. math:: \cos\alpha = \frac{r n - 1}{n - r}
        \quad\text{or, where T1 is known,}\quad
        \cos\alpha = \frac{F_1 - r F_2}{r F_1 (1 - F_2) - F_2 (1 - F_1)}.

    Parameters
    ----------
    signal : array, shape (..., 2)
        :math:`S_1` (read at the start of TR1), :math:`S_2` (arbitrary units).
    flip_rad : float
        Nominal flip angle (rad).
    tr1_s, tr2_s : float
        Short and long interval (s).
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    t1_s : array, broadcastable to (...), optional
        T1 (s) for the exact inversion; where it is NaN the first-order formula is used.
    sigma : float or array, broadcastable to (...), optional
        Noise standard deviation, in the unit of the signal; without it `b1_se` is NaN.

    Returns
    -------
    B1Result
        ``Reason.INVALID_RATIO`` where the cosine is not between -1 and 1,
        ``Reason.OUT_OF_RANGE`` where it is 1 or -1, and, with `sigma`,
        ``Reason.NO_SIGNAL`` where :math:`S_1` is below `NOISE_FLOOR_SIGMA`.

    Raises
    ------
    ValueError
        If the last axis is not two long, the angle is not between 0 and pi, or the
        intervals are not ``0 < tr1_s < tr2_s``.

    Notes
    -----
    The first formula [1]_ is the limit of the second for TR much shorter than T1. The
    second is the steady state of `afi_signal` solved for the angle. They differ by 0.5 %
    in the example below (fat), so that a rough T1 is good enough.

    With `sigma` the mean error of a ratio of noisy magnitudes is taken off,
    :math:`r \leftarrow r / [1 + \frac{\sigma^2}{2} (S_1^{-2} + S_2^{-2})]`: at a
    signal-to-noise ratio of 25 it would lower B1 by 0.2-0.3 %. The standard error is first
    order in `sigma`. The arccosine bends: smooth with `smooth_b1`, not the map itself.

    References
    ----------
    .. [1] Yarnykh VL. Magn Reson Med 2007;57:192-200. doi:10.1002/mrm.21120

    Examples
    --------
    >>> signal = afi_signal(500.0, 0.37, 0.8 * np.pi / 3, 0.02, 0.1)
    >>> round(float(fit_afi(signal, np.pi / 3, 0.02, 0.1).b1), 4)
    0.796
    >>> round(float(fit_afi(signal, np.pi / 3, 0.02, 0.1, t1_s=0.37).b1), 10)
    0.8
    """
    signal = np.asarray(signal, dtype=np.float64)
    if signal.ndim < 1 or signal.shape[-1] != 2:
        raise ValueError(f"AFI has two signals on the last axis, got shape {signal.shape}.")
    if not 0 < flip_rad < np.pi:
        raise ValueError(f"The flip angle must lie between 0 and pi rad, got {flip_rad}.")
    if not 0 < tr1_s < tr2_s:
        raise ValueError(
            f"AFI needs 0 < tr1_s < tr2_s (s), got {tr1_s} and {tr2_s}: are they swapped?"
        )
    shape = signal.shape[:-1]
    inside = np.broadcast_to(np.asarray(True if mask is None else mask, dtype=np.bool_), shape)
    noise = np.asarray(np.nan if sigma is None else sigma, dtype=np.float64)
    finite = np.isfinite(signal).all(axis=-1)
    s1, s2 = signal[..., 0], signal[..., 1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        r = s2 / s1
        r = np.where(noise > 0, r / (1 + 0.5 * noise**2 * (s1**-2 + s2**-2)), r)
        cos, dcos_dr = _cosine(r, tr1_s, tr2_s, t1_s)
        alpha = np.arccos(cos)
        b1_se = np.abs(dcos_dr / np.sin(alpha) / s1) * np.sqrt(1 + r**2) * noise / flip_rad
        tests = [
            (~inside, Reason.OUTSIDE_MASK),
            (~finite, Reason.NON_FINITE),
            (((s1 <= 0) & (s2 <= 0)) | (s1 < NOISE_FLOOR_SIGMA * noise), Reason.NO_SIGNAL),
            ((s1 <= 0) | ~(np.abs(cos) <= 1), Reason.INVALID_RATIO),
            (np.abs(cos) == 1, Reason.OUT_OF_RANGE),
        ]
    status = np.select(
        [test for test, _ in tests], [np.uint8(reason) for _, reason in tests], np.uint8(0)
    )
    fitted = status == Reason.FITTED
    return B1Result(
        b1=np.where(fitted, alpha / flip_rad, np.nan),
        b1_se=np.where(fitted, b1_se, np.nan),
        status=status,
    )


def smooth_b1(
    b1: ArrayLike,
    b1_se: ArrayLike,
    flip_rad: float,
    mask: ArrayLike,
    voxel_mm: tuple[float, float, float],
    fwhm_mm: float = B1_FWHM_MM,
    extrapolate_mm: float = 5.0,
) -> tuple[Float, Float]:
    r"""Smooth a B1+ map that came from an arccosine, filling its gaps and its rim.

    The cosine of the angle, :math:`\cos(b\,\alpha_{nominal})`, is what the two signals
    give nearly linearly, so its noise averages out, while that of the angle leaves a bias.

    Parameters
    ----------
    b1, b1_se : array, shape (nx, ny, nz)
        Relative B1+ and its standard error, NaN where not fitted. A `b1_se` that is NaN
        everywhere counts as unknown.
    flip_rad : float
        Nominal flip angle at which the map was measured (rad).
    mask, voxel_mm, fwhm_mm, extrapolate_mm
        As for `mrn_prep.models.smooth.smooth_in_mask`.

    Returns
    -------
    b1, b1_se : array, shape (nx, ny, nz)
        NaN beyond `extrapolate_mm`, and where the extrapolation leaves the range of a
        cosine.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = afi_signal(np.full((30, 30, 9), 1e3), 1.2, 0.7 * np.pi / 3, 0.02, 0.1)
    >>> noisy = fit_afi(signal + rng.normal(0, 3, signal.shape), np.pi / 3, 0.02, 0.1, sigma=3.0)
    >>> b1, b1_se = smooth_b1(noisy.b1, noisy.b1_se, np.pi / 3, np.isfinite(noisy.b1), (2, 2, 4))
    >>> bool(np.std(noisy.b1) > 0.05), bool(abs(b1[15, 15, 4] - 0.7) < 3 * b1_se[15, 15, 4] < 0.03)
    (True, True)
    """
    angle = np.asarray(b1, dtype=np.float64) * flip_rad
    se = np.asarray(b1_se, dtype=np.float64) * flip_rad * np.sin(angle)
    known = None if np.isnan(se).all() else se
    cos, cos_se = smooth_in_mask(
        np.cos(angle), mask, fwhm_mm, voxel_mm, se=known, extrapolate_mm=extrapolate_mm
    )
    cos = np.where(np.abs(cos) < 1, cos, np.nan)
    return np.arccos(cos) / flip_rad, cos_se / np.sqrt(1 - cos**2) / flip_rad


def _cosine(r: Float, tr1_s: float, tr2_s: float, t1_s: ArrayLike | None) -> tuple[Float, Float]:
    """Cosine of the flip angle and its derivative by the signals' ratio."""
    n = tr2_s / tr1_s
    cos: Float = (r * n - 1) / (n - r)
    dcos_dr: Float = (n**2 - 1) / (n - r) ** 2
    if t1_s is None:
        return cos, dcos_dr
    t1_s = np.asarray(t1_s, dtype=np.float64)
    e1, e2 = np.exp(-tr1_s / t1_s), np.exp(-tr2_s / t1_s)
    f1, f2 = -np.expm1(-tr1_s / t1_s), -np.expm1(-tr2_s / t1_s)
    denominator = r * f1 * e2 - f2 * e1
    known = t1_s > 0
    return (
        np.where(known, (f1 - r * f2) / denominator, cos),
        np.where(known, (f2**2 * e1 - f1**2 * e2) / denominator**2, dcos_dr),
    )


def afi_looks_swapped(signal: ArrayLike, mask: ArrayLike | None = None) -> bool:
    """Tell whether the second signal is the larger one in most of the mask.

    Parameters
    ----------
    signal : array, shape (..., 2)
        The two signals, as given to `fit_afi`.
    mask : bool array, shape (...), optional
        Where to look; everywhere by default.

    Returns
    -------
    bool
        True if :math:`S_2 > S_1` in more than half of the finite voxels: the images are in
        the wrong order, for the one read after the long interval is always the larger.

    Examples
    --------
    >>> signal = afi_signal(500.0, np.full(9, 1.2), np.pi / 3, 0.02, 0.1)
    >>> afi_looks_swapped(signal), afi_looks_swapped(signal[..., ::-1])
    (False, True)
    """
    signal = np.asarray(signal, dtype=np.float64)
    usable = np.isfinite(signal).all(axis=-1)
    if mask is not None:
        usable = usable & np.asarray(mask, dtype=np.bool_)
    s1, s2 = signal[usable, 0], signal[usable, 1]
    return bool(np.count_nonzero(s2 > s1) > 0.5 * s1.size)
