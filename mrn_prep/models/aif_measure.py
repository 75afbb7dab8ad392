"""Input functions measured in vessels: their curve, what it is worth, and how to rescale it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.dce_concentration import (
    Acquisition,
    Concentration,
    concentration_from_signal,
)
from mrn_prep.models.dce_convolution import check_input
from mrn_prep.models.dce_semi import measure_enhancement
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]

BLOOD_T1_S = 1.65
"""T1 of arterial blood at 3 T (s) where none is given: 1.58 to 1.66 by haematocrit."""
BLOOD_T1_ERROR = 0.014
"""Its relative standard error: that of an even spread over this range."""
MIN_SNR = 10.0
"""Peak over baseline noise below which an input function is of no use."""
MIN_PEAK_TO_END = 1.5
"""Peak over the mean of the last frames below which there is no first pass."""
MIN_PEAK_MM = 1.0
"""Peak (mM) below which it is tissue or mostly tissue; blood reaches 3 to 8 at usual doses."""
MIN_VOXELS = 3
"""Fewer voxels than this are told."""
INFLOW = 1.5
"""Signal before contrast over that of blood in the steady state from which on it is inflow."""

_END_FRACTION = 0.2  # of the series, at its end
_WASH_OUT_AFTER_S = 60.0  # from the peak: recirculation is over
_MIN_WASH_OUT_FRAMES = 5
_MAX_JACKKNIFE = 200  # groups of voxels

FATAL = ("empty", "saturated", "low-snr", "no-peak", "low-peak", "no-baseline")
"""Flags with which an input function must not be used."""


@dataclass(frozen=True)
class InputFunction:
    """Concentration in blood over time, and what it is worth."""

    curve_mm: Float
    """Concentration in whole blood (mM), shape (n_frames,)."""
    t_s: Float
    """Times of the frames (s)."""
    voxels: NDArray[np.bool_] | None
    """The voxels it was taken from."""
    peak_mm: float
    """Height of the first pass (mM)."""
    peak_s: float
    """Time of the highest frame (s)."""
    arrival_s: float
    """When the bolus arrives (s); NaN where that cannot be told."""
    area_mm_s: float
    """Area under the whole curve (mM s)."""
    wash_out_per_s: float
    """Rate of the exponential fitted to the late curve (1/s); NaN where it is too short."""
    wash_out_mm: float
    """That exponential at the time of the peak (mM)."""
    snr: float
    """Peak over the standard deviation of the frames before arrival."""
    flags: tuple[str, ...]
    """What is wrong: of "empty", "saturated", "low-snr", "no-peak", "low-peak", "no-baseline",
    "few-voxels", "no-wash-out", "inflow"."""
    area_se_mm_s: float = float("nan")
    """Standard error of the area, from how much its voxels differ and the error of T1 of blood;
    NaN for a single voxel. That of B1+ and inflow are not in it."""

    @property
    def usable(self) -> bool:
        """Whether no flag forbids its use."""
        return not any(flag in FATAL for flag in self.flags)


def describe_input(
    curve_mm: ArrayLike,
    t_s: ArrayLike,
    baseline: slice,
    voxels: NDArray[np.bool_] | None = None,
    flags: tuple[str, ...] = (),
) -> InputFunction:
    r"""Describe a curve and pass judgement on it.

    Parameters
    ----------
    curve_mm : array, shape (n_frames,)
        Concentration in whole blood (mM); frames may be NaN (saturated).
    t_s : array, shape (n_frames,)
        Times (s).
    baseline : slice
        Frames before contrast.
    voxels : bool array, optional
        Where it was taken from.
    flags : tuple of str
        What is wrong with it already.

    Returns
    -------
    InputFunction
        NaN frames are filled in by straight lines, with the flag "saturated".

    Raises
    ------
    ValueError
        If the shapes disagree, times do not increase, or no frame is finite.

    Notes
    -----
    The washout is a log-linear fit, :math:`C = C_w e^{-\lambda (t - t_{peak})}`, later than 60 s
    after the peak. Peaks lower than `MIN_PEAK_TO_END` times the mean of the last fifth are
    "no-peak", lower than `MIN_SNR` times the baseline's standard deviation "low-snr", lower than
    `MIN_PEAK_MM` "low-peak".

    Examples
    --------
    >>> from mrn_prep.models.aif_population import parker_aif
    >>> t = np.arange(0.0, 300.0, 2.0)
    >>> found = describe_input(parker_aif(t, arrival_s=20.0), t, slice(0, 9))
    >>> round(found.peak_mm), round(found.arrival_s), round(60 * found.wash_out_per_s, 3)
    (6, 23, 0.169)
    >>> found.usable, describe_input(np.linspace(0, 2, 150), t, slice(0, 9)).flags
    (True, ('no-peak', 'no-wash-out'))
    """
    curve = np.array(curve_mm, dtype=np.float64)
    found = list(flags)
    t = np.asarray(t_s, dtype=np.float64)
    if curve.shape != t.shape or curve.ndim != 1 or not np.isfinite(curve).any():
        raise ValueError(f"curve {curve.shape} must have a finite value at some of t_s {t.shape}.")
    lost = ~np.isfinite(curve)
    if lost.any():
        found.append("saturated")
        curve[lost] = np.interp(t[lost], t[~lost], curve[~lost])
    curve, t = check_input(curve, t)
    before = curve[baseline]
    peak = int(np.argmax(curve))
    noise = float(before.std(ddof=1)) if before.size > 2 else float("nan")
    snr = float(curve[peak] / noise) if noise > 0 else float("inf")
    end = max(int(_END_FRACTION * t.size), 1)
    if before.size < 2 or peak < 2:
        found.append("no-baseline")
    if not snr >= MIN_SNR:
        found.append("low-snr")
    if not (curve[peak] > 0 and curve[peak] >= MIN_PEAK_TO_END * np.mean(curve[-end:])):
        found.append("no-peak")
    if not curve[peak] >= MIN_PEAK_MM:
        found.append("low-peak")
    rate, height = _wash_out(curve, t, peak)
    if not rate > 0:
        found.append("no-wash-out")
    arrival = float("nan")
    if before.size:
        size = np.array(noise if noise > 0 else 0.0)
        arrival = float(measure_enhancement(curve, t, baseline, sigma=size).arrival_s)
    if voxels is not None and np.count_nonzero(voxels) < MIN_VOXELS:
        found.append("few-voxels")
    return InputFunction(
        curve_mm=curve,
        t_s=t,
        voxels=voxels,
        peak_mm=float(curve[peak]),
        peak_s=float(t[peak]),
        arrival_s=arrival,
        area_mm_s=float(np.trapezoid(curve, t)),
        wash_out_per_s=rate,
        wash_out_mm=height,
        snr=snr,
        flags=tuple(found),
    )


def input_from_region(
    signal: ArrayLike,
    region: ArrayLike,
    t_s: ArrayLike,
    acquisition: Acquisition,
    t1_s: float = BLOOD_T1_S,
    b1: ArrayLike | None = None,
    sigma: float | None = None,
    *,
    t1_se_s: float = 0.0,
    floor_sigma: float | None = None,
    expected_baseline: ArrayLike | None = None,
) -> InputFunction:
    r"""Measure the input function in a vessel.

    .. math:: \bar S = \sqrt{\langle S^2\rangle - 2\sigma^2}

    (noise floor removed [1]_) over the voxels, frame by frame, is turned into concentration.

    Parameters
    ----------
    signal : array, shape (..., n_frames)
        Magnitude signal.
    region : bool array, shape (...)
        The vessel.
    t_s : array, shape (n_frames,)
        Times of the frames (s).
    acquisition : Acquisition
        Sequence, agent, and which frames come before contrast.
    t1_s : float
        T1 of blood (s). That of a T1 map is spoilt by inflow.
    b1 : array, shape (...), optional
        Relative B1+; its mean over the region counts.
    t1_se_s : float
        Standard error of `t1_s`.
    sigma, floor_sigma : float, optional
        Noise of each channel, in the unit of the signal; `floor_sigma` is the noise before
        denoising, whose floor the magnitudes still have.
    expected_baseline : array, shape (...), optional
        Signal of blood in the steady state before contrast (from M0). A measured one more than
        half as large again means that fresh blood flows in: flag "inflow", and the expected one
        is used.

    Returns
    -------
    InputFunction

    Raises
    ------
    ValueError
        If shapes disagree, or the region is empty or has no finite signal.

    Notes
    -----
    Averaging squares and taking off their bias removes the noise floor, which the mean of
    magnitudes would keep. The error of the area is that of the jackknife over voxels [2]_.

    References
    ----------
    .. [1] Gudbjartsson H, Patz S. Magn Reson Med 1995;34:910-914. doi:10.1002/mrm.1910340618
    .. [2] Efron B. The jackknife, the bootstrap and other resampling plans. SIAM 1982.
       doi:10.1137/1.9781611970319

    Examples
    --------
    >>> from mrn_prep.models.aif_population import parker_aif
    >>> from mrn_prep.models.dce_concentration import signal_from_concentration
    >>> acquisition = Acquisition(0.004, np.deg2rad(20), 4.5, slice(0, 8))
    >>> t = np.arange(0.0, 300.0, 2.0)
    >>> true = parker_aif(t, arrival_s=20.0)
    >>> signal = signal_from_concentration(true, np.full(5, 80.0), acquisition, 1.65)
    >>> found = input_from_region(signal, np.ones(5, bool), t, acquisition)
    >>> bool(np.allclose(found.curve_mm, true, atol=1e-9)), found.usable
    (True, True)
    """
    signal, chosen = np.asarray(signal), np.asarray(region, dtype=np.bool_)
    if signal.shape[:-1] != chosen.shape:
        raise ValueError(f"region {chosen.shape} must have the signal's shape {signal.shape[:-1]}.")
    curves = signal[chosen].astype(np.float64)
    curves = curves[np.all(np.isfinite(curves), axis=-1)]
    if not curves.size:
        raise ValueError("The region of the vessel is empty, or has no finite signal.")
    floor = next((value for value in (floor_sigma, sigma) if value is not None), 0.0)
    power = curves**2
    mean = np.sqrt(np.maximum(np.mean(power, axis=0) - 2 * floor**2, 0.0))
    flags: tuple[str, ...] = ()
    own_b1 = 1.0 if b1 is None else float(np.nanmean(np.asarray(b1, dtype=np.float64)[chosen]))
    baseline = None
    if expected_baseline is not None:
        expected = float(np.nanmean(np.asarray(expected_baseline, dtype=np.float64)[chosen]))
        if float(np.mean(mean[acquisition.baseline])) > INFLOW * expected:
            flags, baseline = ("inflow",), expected

    def convert(signals: Float, t1_s: float = t1_s) -> Concentration:
        return concentration_from_signal(
            signals, acquisition, t1_s, b1=own_b1, noise_floor=None, baseline_signal=baseline
        )

    found = convert(mean)
    if found.status not in (Reason.FITTED, Reason.SATURATED):
        raise ValueError(f"No input function: {Reason(int(found.status)).sentence}")
    described = describe_input(found.concentration_mm, t_s, acquisition.baseline, chosen, flags)
    n = min(len(power), _MAX_JACKKNIFE)
    if n < 2 or found.status != Reason.FITTED:
        return described
    # groups of voxels in turn are left out
    groups = np.array_split(power, n)
    without = np.stack([power.sum(axis=0) - g.sum(axis=0) for g in groups])
    without /= np.array([[len(power) - len(g)] for g in groups])
    left = convert(np.sqrt(np.maximum(without - 2 * floor**2, 0.0))).concentration_mm
    t = np.asarray(t_s, dtype=np.float64)
    variance = (n - 1) * float(np.var(np.trapezoid(left, t, axis=1)))
    longer = convert(mean, t1_s + t1_se_s).concentration_mm
    variance += (float(np.trapezoid(longer, t)) - described.area_mm_s) ** 2
    return replace(described, area_se_mm_s=float(np.sqrt(variance)))


def rescale_to_tail(
    curve_mm: ArrayLike, t_s: ArrayLike, reference_mm: ArrayLike, from_s: float
) -> tuple[Float, float]:
    """Rescale an input function so that its late part agrees with that of a larger vessel.

    Parameters
    ----------
    curve_mm, reference_mm : array, shape (n_frames,)
        Concentration in the artery, and in the reference, such as a large vein (mM). Late after
        the bolus both hold the same, but a narrow artery shares its voxels with tissue.
    t_s : array, shape (n_frames,)
        Times (s).
    from_s : float
        From when on they should agree (s).

    Returns
    -------
    curve : array, shape (n_frames,)
        Rescaled curve.
    factor : float
        By what it was multiplied.

    Raises
    ------
    ValueError
        If shapes disagree, or either is not positive on average after `from_s`.

    Examples
    --------
    >>> t = np.arange(0.0, 300.0, 10.0)
    >>> curve, factor = rescale_to_tail(0.6 * np.exp(-t / 500), t, np.exp(-t / 500), 120.0)
    >>> round(factor, 6)
    1.666667
    """
    curve, t = check_input(curve_mm, t_s)
    reference, _ = check_input(reference_mm, t_s)
    late = t >= from_s
    if not (late.any() and curve[late].mean() > 0 and reference[late].mean() > 0):
        raise ValueError(f"Both curves must be positive from {from_s} s on.")
    # least squares of both, as both are measured
    factor = float(np.sqrt(np.sum(reference[late] ** 2) / np.sum(curve[late] ** 2)))
    return factor * curve, factor


def rescale_to_area(curve_mm: ArrayLike, t_s: ArrayLike, area_mm_s: float) -> tuple[Float, float]:
    """Rescale an input function so that its area is a known one.

    Parameters
    ----------
    curve_mm, t_s : array, shape (n_frames,)
        Concentration (mM) and times (s).
    area_mm_s : float
        Area it should have over these times (mM s), such as that of a population's curve at this
        dose; where inflow spoils the height, the shape may still be the person's own.

    Returns
    -------
    curve : array, shape (n_frames,)
        Rescaled curve.
    factor : float
        By what it was multiplied.

    Raises
    ------
    ValueError
        If shapes disagree or an area is not positive.

    Examples
    --------
    >>> curve, factor = rescale_to_area([0.0, 2.0, 1.0], [0.0, 1.0, 2.0], 5.0)
    >>> curve, factor
    (array([0., 4., 2.]), 2.0)
    """
    curve, t = check_input(curve_mm, t_s)
    area = float(np.trapezoid(curve, t))
    if not (area > 0 and area_mm_s > 0):
        raise ValueError(f"Areas must be positive (mM s), got {area} and {area_mm_s}.")
    factor = area_mm_s / area
    return factor * curve, factor


def _wash_out(curve: Float, t: Float, peak: int) -> tuple[float, float]:
    """Rate of the late exponential, and its height at the time of the peak."""
    late = (t >= t[peak] + _WASH_OUT_AFTER_S) & (curve > 0)
    if np.count_nonzero(late) < _MIN_WASH_OUT_FRAMES:
        return float("nan"), float("nan")
    slope, level = np.polyfit(t[late] - t[peak], np.log(curve[late]), 1, w=curve[late])
    return float(-slope), float(np.exp(level))
