"""Relative B1+ by the double angle, and from maps that a scanner has computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.b1_afi import NOISE_FLOOR_SIGMA, B1Result
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]

B1_PLAUSIBLE = (0.4, 1.4)
"""Relative B1+ between which the median of a body part lies, whatever the coil."""
B1_MAX = 3.0
"""A relative B1+ beyond it is no measurement."""

_SHARE_USABLE = 0.5  # of the mask's voxels; a map with fewer is of another body part
_RFM_ZERO, _RFM_DEG = 2048.0, 180.0 / 2048.0
_TFL_DEG = 0.1


@dataclass(frozen=True)
class ReadyB1(B1Result):
    """A `B1Result` with the unit that the values were found to be in."""

    unit: str
    """``"ratio"``, ``"percent"`` or ``"10xdegrees"``."""


def dam_signal(
    m0: ArrayLike,
    flip_rad: ArrayLike,
    t1_s: ArrayLike | None = None,
    tr_s: float | None = None,
) -> Float:
    r"""Signals of two gradient echoes, the second at twice the angle of the first.

    .. math:: S_1 = M_0 \sin\alpha \frac{1 - E}{1 - E\cos\alpha}, \quad
        S_2 = M_0 \sin 2\alpha \frac{1 - E}{1 - E\cos 2\alpha}, \quad E = e^{-T_R/T_1}

    Parameters
    ----------
    m0, flip_rad : array, shape (...)
        Equilibrium signal (arbitrary units) and the angle the spins saw in the first image:
        nominal angle times relative B1+ (rad). They broadcast.
    t1_s : array, shape (...), optional
        T1 (s); without it recovery is complete, E = 0.
    tr_s : float, optional
        Repetition time (s); needed with `t1_s`.

    Returns
    -------
    array, shape (..., 2)
        :math:`S_1, S_2` in the unit of `m0`, with their signs, for ideal spoiling [1]_.

    References
    ----------
    .. [1] Insko EK, Bolinger L. J Magn Reson A 1993;103:82-85. doi:10.1006/jmra.1993.1133

    Examples
    --------
    >>> (dam_signal(2.0, np.pi / 6) / np.sin(np.pi / 3)).round(6).tolist()
    [1.154701, 2.0]
    """
    m0 = np.asarray(m0, dtype=np.float64)
    alpha = np.asarray(flip_rad, dtype=np.float64)
    e = _recovery(t1_s, tr_s)
    s1 = m0 * np.sin(alpha) * (1 - e) / (1 - e * np.cos(alpha))
    s2 = m0 * np.sin(2 * alpha) * (1 - e) / (1 - e * np.cos(2 * alpha))
    return np.stack(np.broadcast_arrays(s1, s2), axis=-1)


def fit_dam(
    signal: ArrayLike,
    flip_rad: float,
    mask: ArrayLike | None = None,
    t1_s: ArrayLike | None = None,
    tr_s: float | None = None,
    sigma: ArrayLike | None = None,
) -> B1Result:
    r"""Relative B1+ from two images, the second at twice the angle of the first.

    With :math:`r = S_2/S_1`,

    .. math:: \cos\alpha = \frac{r}{2} \quad\text{or, where T1 is known,}\quad
        \cos\alpha = \frac{r(1 + E)}{1 + \sqrt{1 - 2 E (1 + E) r (1 - r)}},\quad
        E = e^{-T_R/T_1}.

    Parameters
    ----------
    signal : array, shape (..., 2)
        Images at the angle and at twice the angle (arbitrary units).
    flip_rad : float
        Nominal flip angle of the first image (rad).
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    t1_s : array, broadcastable to (...), optional
        T1 (s), to invert `dam_signal` exactly; where it is NaN recovery is taken as complete.
    tr_s : float, optional
        Repetition time (s); needed with `t1_s`.
    sigma : float or array, broadcastable to (...), optional
        Noise standard deviation, in the unit of the signal; without it `b1_se` is NaN.

    Returns
    -------
    B1Result
        Statuses as those of `mrn_prep.models.b1_afi.fit_afi`.

    Raises
    ------
    ValueError
        If the last axis is not two long, the angle is not between 0 and pi/2, or only one
        of `t1_s` and `tr_s` is given.

    Notes
    -----
    The first formula [1]_ is for repetition times of five T1 or more. The second is the root
    of :math:`2E(1-r)x^2 - 2x + r(1+E) = 0` that stays finite for E = 0.

    From magnitudes, angles over 90 degrees come out mirrored, at :math:`\pi - \alpha`: choose
    a nominal angle of 60 degrees or less. Ratios of noisy magnitudes are corrected as there.

    References
    ----------
    .. [1] Insko EK, Bolinger L. J Magn Reson A 1993;103:82-85. doi:10.1006/jmra.1993.1133

    Examples
    --------
    >>> round(float(fit_dam(dam_signal(500.0, 0.8 * np.pi / 3), np.pi / 3).b1), 10)
    0.8

    With TR of twice T1 only, the formula for long TR reads 11 % high:

    >>> signal = dam_signal(500.0, 0.8 * np.pi / 3, 1.2, 2.4)
    >>> round(float(fit_dam(signal, np.pi / 3).b1), 3)
    0.885
    >>> round(float(fit_dam(signal, np.pi / 3, t1_s=1.2, tr_s=2.4).b1), 10)
    0.8
    """
    signal = np.asarray(signal, dtype=np.float64)
    if signal.ndim < 1 or signal.shape[-1] != 2:
        raise ValueError(f"Double angle has two images on the last axis, got {signal.shape}.")
    if not 0 < flip_rad < np.pi / 2:
        raise ValueError(f"The smaller flip angle must lie in (0, pi/2) rad, got {flip_rad}.")
    e = _recovery(t1_s, tr_s)
    e = np.where(np.isnan(e), 0.0, e)
    noise = np.asarray(np.nan if sigma is None else sigma, dtype=np.float64)
    s1, s2 = signal[..., 0], signal[..., 1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        r = s2 / s1
        r = np.where(noise > 0, r / (1 + 0.5 * noise**2 * (s1**-2 + s2**-2)), r)
        cos = r * (1 + e) / (1 + np.sqrt(1 - 2 * e * (1 + e) * r * (1 - r)))
        dcos_dr = (1 + e - 2 * e * cos**2) / (2 - 4 * e * (1 - r) * cos)
        alpha = np.arccos(cos)
        b1_se = np.abs(dcos_dr / np.sin(alpha) / s1) * np.sqrt(1 + r**2) * noise / flip_rad
        reasons = [
            (~np.isfinite(signal).all(axis=-1), Reason.NON_FINITE),
            (((s1 <= 0) & (s2 <= 0)) | (s1 < NOISE_FLOOR_SIGMA * noise), Reason.NO_SIGNAL),
            ((s1 <= 0) | ~(np.abs(cos) <= 1), Reason.INVALID_RATIO),
            (np.abs(cos) == 1, Reason.OUT_OF_RANGE),
        ]
    return _result(alpha / flip_rad, b1_se, mask, reasons)


def dam_looks_swapped(signal: ArrayLike, flip_rad: float, mask: ArrayLike | None = None) -> bool:
    """Tell whether the two images give a plausible B1+ only when they are exchanged.

    Parameters
    ----------
    signal, flip_rad, mask
        As given to `fit_dam`.

    Returns
    -------
    bool
        True if most ratios are impossible or the median B1+ lies outside `B1_PLAUSIBLE`, while
        the exchanged images would be plausible. With a nominal angle of 50 degrees or more
        either order may be plausible, and the answer is False: at 60 the images are alike.

    Examples
    --------
    >>> signal = dam_signal(np.full(9, 500.0), 0.9 * np.pi / 4)
    >>> dam_looks_swapped(signal, np.pi / 4), dam_looks_swapped(signal[..., ::-1], np.pi / 4)
    (False, True)
    """
    signal = np.asarray(signal, dtype=np.float64)

    def plausible(images: Float) -> bool:
        fit = fit_dam(images, flip_rad, mask)
        looked_at = ~np.isin(fit.status, (Reason.OUTSIDE_MASK, Reason.NON_FINITE, Reason.NO_SIGNAL))
        fitted = fit.b1[fit.status == Reason.FITTED]
        if not fitted.size or fitted.size <= 0.5 * np.count_nonzero(looked_at):
            return False
        return bool(B1_PLAUSIBLE[0] <= np.median(fitted) <= B1_PLAUSIBLE[1])

    return not plausible(signal) and plausible(signal[..., ::-1])


def b1_from_tfl(
    values: ArrayLike,
    flip_rad: float,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
) -> B1Result:
    r"""Relative B1+ from the angle image of a TurboFLASH map (``TB1TFL``, ``acq-famp``).

    .. math:: b = \frac{v / 10}{\alpha_{nominal}} \quad\text{(both in degrees)}

    Parameters
    ----------
    values : array, shape (...)
        Ten times the angle of the preparation pulse (degrees).
    flip_rad : float
        Nominal angle of the preparation pulse (rad).
    mask : bool array, shape (...), optional
        Voxels to convert; all by default.
    sigma : float or array, broadcastable to (...), optional
        Standard error of `values`; without it `b1_se` is NaN.

    Returns
    -------
    B1Result
        ``Reason.NO_SIGNAL`` where the angle is not positive, ``Reason.OUT_OF_RANGE``
        beyond `B1_MAX`. A ValueError if the nominal angle is not between 0 and pi.

    References
    ----------
    .. [1] Chung S, Kim D, Breton E, Axel L. Magn Reson Med 2010;64:439-446.
       doi:10.1002/mrm.22423

    Examples
    --------
    >>> b1_from_tfl([800.0, 640.0, 0.0], np.deg2rad(80)).b1.round(6).tolist()
    [1.0, 0.8, nan]
    """
    return _from_angle(
        np.asarray(values, dtype=np.float64) * _TFL_DEG, _TFL_DEG, flip_rad, mask, sigma
    )


def b1_from_rfm(
    values: ArrayLike,
    flip_rad: float,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
) -> B1Result:
    r"""Relative B1+ from the angle image of a scanner's RF map (``TB1RFM``, ``acq-famp``).

    .. math:: b = \frac{(|v| - 2048) \cdot 180 / 2048}{\alpha_{nominal}}
        \quad\text{(both in degrees)}

    Parameters
    ----------
    values : array, shape (...)
        Twelve-bit angle, 2048 for 0 and 4096 for 180 degrees.
    flip_rad, mask, sigma
        As for `b1_from_tfl`, whose statuses and errors are the same.

    Returns
    -------
    B1Result

    Examples
    --------
    >>> b1_from_rfm([3072.0, -2867.2, 2048.0], np.deg2rad(90)).b1.round(6).tolist()
    [1.0, 0.8, nan]
    """
    angle = (np.abs(np.asarray(values, dtype=np.float64)) - _RFM_ZERO) * _RFM_DEG
    return _from_angle(angle, _RFM_DEG, flip_rad, mask, sigma)


def ready_b1_ratio(
    values: ArrayLike, mask: ArrayLike | None = None, flip_rad: float | None = None
) -> ReadyB1:
    """Relative B1+ from a finished map, whose unit is told from its values.

    Parameters
    ----------
    values : array, shape (...)
        Ratio (1 = nominal), percent, or ten times the angle in degrees.
    mask : bool array, shape (...), optional
        The body part; everywhere by default.
    flip_rad : float, optional
        Nominal flip angle (rad); without it ten times the angle is refused.

    Returns
    -------
    ReadyB1
        ``Reason.NO_B1`` where there is no positive value, ``Reason.OUT_OF_RANGE`` beyond
        `B1_MAX`; `b1_se` is NaN.

    Raises
    ------
    ValueError
        If fewer than half of the mask's voxels have a positive value, or if the median fits
        no unit or several, a unit fitting that puts it into `B1_PLAUSIBLE`. (Plain degrees
        are not looked for: 60 may as well be percent.)

    Examples
    --------
    >>> ready_b1_ratio([80.0, 95.0, 110.0]).b1.round(6).tolist()
    [0.8, 0.95, 1.1]
    >>> ready_b1_ratio([480.0, 570.0, 660.0], flip_rad=np.pi / 3).unit
    '10xdegrees'
    >>> ready_b1_ratio([480.0, 570.0, 660.0])
    Traceback (most recent call last):
    ValueError: The B1+ map's median of 570 is neither a ratio nor percent; as ten times \
the angle in degrees it needs the nominal flip angle.
    """
    values = np.asarray(values, dtype=np.float64)
    inside = _inside(mask, values.shape)
    usable = inside & np.isfinite(values) & (values > 0)
    if np.count_nonzero(usable) < max(1, _SHARE_USABLE * np.count_nonzero(inside)):
        raise ValueError(
            f"The B1+ map has a positive value in only {np.count_nonzero(usable)} of "
            f"{np.count_nonzero(inside)} voxels of the mask."
        )
    median = float(np.median(values[usable]))
    units = {"ratio": 1.0, "percent": 100.0}
    if flip_rad is not None:
        _check_angle(flip_rad)
        units["10xdegrees"] = float(10 * np.rad2deg(flip_rad))
    low, high = B1_PLAUSIBLE
    fitting = [unit for unit, one in units.items() if low <= median / one <= high]
    if not fitting:
        hint = "." if flip_rad is None else f" nor 10 x {np.rad2deg(flip_rad):g} degrees."
        if flip_rad is None and median > 100:
            hint = "; as ten times the angle in degrees it needs the nominal flip angle."
        raise ValueError(
            f"The B1+ map's median of {median:.4g} is neither a ratio nor percent{hint}"
        )
    if len(fitting) > 1:
        raise ValueError(
            f"The B1+ map's median of {median:.4g} may be {' or '.join(fitting)}: convert the "
            "map to a ratio."
        )
    result = _scaled(values / units[fitting[0]], np.asarray(np.nan), mask, Reason.NO_B1)
    return ReadyB1(result.b1, result.b1_se, result.status, fitting[0])


def _recovery(t1_s: ArrayLike | None, tr_s: float | None) -> Float:
    if (t1_s is None) != (tr_s is None):
        raise ValueError("t1_s and tr_s go together: give both or neither.")
    if t1_s is None or tr_s is None:
        return np.zeros(())
    t1_s = np.asarray(t1_s, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(t1_s > 0, np.exp(-tr_s / t1_s), np.nan))


def _check_angle(flip_rad: float) -> None:
    if not 0 < flip_rad < np.pi:
        raise ValueError(f"The flip angle must lie between 0 and pi rad, got {flip_rad}.")


def _from_angle(
    angle_deg: Float,
    deg_per_value: float,
    flip_rad: float,
    mask: ArrayLike | None,
    sigma: ArrayLike | None,
) -> B1Result:
    _check_angle(flip_rad)
    nominal = np.rad2deg(flip_rad)
    noise = np.asarray(np.nan if sigma is None else sigma, dtype=np.float64)
    return _scaled(angle_deg / nominal, noise * deg_per_value / nominal, mask, Reason.NO_SIGNAL)


def _scaled(b1: Float, b1_se: Float, mask: ArrayLike | None, if_not_positive: Reason) -> B1Result:
    reasons = [
        (~np.isfinite(b1), Reason.NON_FINITE),
        (b1 <= 0, if_not_positive),
        (b1 > B1_MAX, Reason.OUT_OF_RANGE),
    ]
    return _result(b1, b1_se, mask, reasons)


def _inside(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.broadcast_to(np.asarray(True if mask is None else mask, dtype=np.bool_), shape)


def _result(
    b1: Float,
    b1_se: Float,
    mask: ArrayLike | None,
    reasons: list[tuple[NDArray[np.bool_], Reason]],
) -> B1Result:
    """Take away what has a reason; the first reason of a voxel counts."""
    tests = [(~_inside(mask, b1.shape), Reason.OUTSIDE_MASK), *reasons]
    status = np.select(
        [test for test, _ in tests], [np.uint8(reason) for _, reason in tests], np.uint8(0)
    )
    fitted = status == Reason.FITTED
    return B1Result(
        b1=np.where(fitted, b1, np.nan), b1_se=np.where(fitted, b1_se, np.nan), status=status
    )
