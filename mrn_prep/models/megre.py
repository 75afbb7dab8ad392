"""Water and fat in the echoes of a multi-echo gradient echo (MEGRE): forward model and phase."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]

GAMMA_BAR_MHZ_PER_T = 42.577478518
"""Gyromagnetic ratio of the proton over 2π (MHz/T)."""


class FatPeaks(NamedTuple):
    """Spectrum of fat."""

    ppm: tuple[float, ...]
    """Chemical shifts relative to water (ppm); most are negative."""
    amplitude: tuple[float, ...]
    """Relative amplitudes; only their ratios count."""


FAT_PEAKS = FatPeaks(
    ppm=(-3.80, -3.40, -3.10, -2.68, -2.46, -1.95, -0.50, 0.49, 0.59),
    amplitude=(0.088, 0.642, 0.058, 0.062, 0.058, 0.006, 0.039, 0.010, 0.037),
)
"""Triglycerides of liver fat: Hamilton G, Yokoo T, Bydder M, et al. NMR Biomed 2011;24:784-790.

doi:10.1002/nbm.1622. Published multi-peak spectra differ from one another by a few percent of the
fat fraction, a single peak by a quarter (Wang X, Hernando D, Reeder SB. Magn Reson Med
2016;75:845-851, doi:10.1002/mrm.25681).
"""


def fat_phasor(te_s: ArrayLike, field_t: float, peaks: FatPeaks = FAT_PEAKS) -> Complex:
    r"""Signal of unit fat relative to water on resonance.

    .. math:: c(T_E) = \sum_p a_p\, e^{i 2\pi f_p T_E},\quad \sum_p a_p = 1,\quad
        f_p = \bar\gamma B_0 \delta_p

    Parameters
    ----------
    te_s : array, shape (n,)
        Echo times (s).
    field_t : float
        Field strength (T).
    peaks : FatPeaks
        Spectrum of fat.

    Returns
    -------
    complex array, shape (n,)

    Raises
    ------
    ValueError
        If the field is not positive, or the peaks are none or do not pair.

    Examples
    --------
    A single peak at -3.4 ppm opposes water after 1.151 ms at 3 T:

    >>> single = FatPeaks((-3.4,), (1.0,))
    >>> fat_phasor([0.0, 0.0011513], 3.0, single).round(3).tolist()
    [(1+0j), (-1-0j)]

    Its phase falls with time, as fat precesses more slowly than water:

    >>> bool(np.angle(fat_phasor(0.0005, 3.0)) < 0)
    True
    """
    if not (np.isfinite(field_t) and field_t > 0):
        raise ValueError(f"The field strength must be positive (T), got {field_t}.")
    ppm, amplitude = np.asarray(peaks.ppm, np.float64), np.asarray(peaks.amplitude, np.float64)
    if ppm.ndim != 1 or not ppm.size or ppm.shape != amplitude.shape or not amplitude.sum() > 0:
        raise ValueError(f"Shifts and amplitudes of fat must pair, got {peaks}.")
    turns = np.multiply.outer(np.asarray(te_s, np.float64), ppm * GAMMA_BAR_MHZ_PER_T * field_t)
    phasor: Complex = np.exp(2j * np.pi * turns) @ (amplitude / amplitude.sum())
    return phasor


def megre_signal(
    water: ArrayLike,
    fat: ArrayLike,
    te_s: ArrayLike,
    *,
    field_hz: ArrayLike = 0.0,
    r2star_per_s: ArrayLike = 0.0,
    phase_rad: ArrayLike = 0.0,
    field_t: float = 3.0,
    peaks: FatPeaks = FAT_PEAKS,
) -> Complex:
    r"""Complex signal of water and fat at the echoes.

    .. math:: s(T_E) = \left(W + F\,c(T_E)\right) e^{i 2\pi\psi T_E}\, e^{-R_2^* T_E}\, e^{i\varphi}

    with the fat's phasor :math:`c` of `fat_phasor`.

    Parameters
    ----------
    water, fat : array, shape (...)
        Signal at echo time 0 (arbitrary units), W and F; complex if they differ in phase.
    te_s : array, shape (n_echoes,)
        Echo times (s).
    field_hz : array, shape (...)
        Frequency of water relative to the receiver (Hz), :math:`\psi`.
    r2star_per_s : array, shape (...)
        Rate of decay of both (1/s).
    phase_rad : array, shape (...)
        Phase at echo time 0 (rad).
    field_t : float
        Field strength (T).
    peaks : FatPeaks
        Spectrum of fat.

    Returns
    -------
    complex array, shape (..., n_echoes)
        Signal, in the unit of `water`.

    Raises
    ------
    ValueError
        If the times are no row, or as `fat_phasor`.

    Notes
    -----
    Both decay alike; readouts of one polarity; no eddy currents. T1 weighting is part of W
    and F.

    References
    ----------
    Yu H, Shimakawa A, McKenzie CA, et al. Magn Reson Med 2008;60:1122-1134.
    doi:10.1002/mrm.21737

    Examples
    --------
    Water alone turns by the field and decays:

    >>> megre_signal(10.0, 0.0, [0.0, 0.005], field_hz=50.0, r2star_per_s=40.0).round(3).tolist()
    [(10+0j), 8.187j]

    Fat that opposes water at 1.15 ms (3 T) is nearly back in phase at 2.30 ms:

    >>> s = np.abs(megre_signal(6.0, 4.0, [0.0, 0.00115, 0.0023]))
    >>> bool(s[1] < 3.5) and bool(9 < s[2] < s[0] == 10)
    True
    """
    te = np.asarray(te_s, dtype=np.float64)
    if te.ndim != 1:
        raise ValueError(f"te_s {te.shape} must be (n_echoes,).")
    W, F, psi, r2star, phase = (
        np.asarray(values)[..., np.newaxis]
        for values in (water, fat, field_hz, r2star_per_s, phase_rad)
    )
    rate = 2j * np.pi * psi - r2star
    signal: Complex = (W + F * fat_phasor(te, field_t, peaks)) * np.exp(rate * te + 1j * phase)
    return signal


# lowest and highest value a scanner writes, and the values of a full turn
_PHASE_UNITS: dict[str, tuple[float, float, float]] = {
    "radians": (-np.pi, np.pi, 2 * np.pi),
    "radians, 0 to 2 pi": (0.0, 2 * np.pi, 2 * np.pi),
    "milliradians": (-1000 * np.pi, 1000 * np.pi, 2000 * np.pi),
    "degrees": (-180.0, 180.0, 360.0),
    "degrees, 0 to 360": (0.0, 360.0, 360.0),
    "12 bits": (0.0, 4095.0, 4096.0),
    "12 bits, signed": (-2048.0, 2047.0, 4096.0),
    "12 bits, signed and doubled": (-4096.0, 4094.0, 8192.0),
    "16 bits": (0.0, 65535.0, 65536.0),
    "16 bits, signed": (-32768.0, 32767.0, 65536.0),
}
_END_TOLERANCE = 0.005  # of the range: noise reaches the ends of a full turn, rounding passes them
_BINS = 32


def scaled_phase(values: ArrayLike, unit: str | None = None) -> tuple[Float, str]:
    r"""Phase images in whatever unit the scanner wrote them, in radians.

    The unit is told by the range of the values: one of those that scanners use, whose ends
    the values reach; else the range itself is a full turn if the values plainly fill it, as
    the noise around a limb does.

    Parameters
    ----------
    values : array
        Phase images of a whole series (every echo, background included).
    unit : str, optional
        The unit where it is known: ``"rad"`` takes any values within two turns as they are.

    Returns
    -------
    array, of the same shape
        Phase (rad), to a constant; values that are not finite stay so.
    str
        The unit recognised: a name, or ``"range <lowest> to <highest>"``.

    Raises
    ------
    ValueError
        If the range is none known and not plainly a full turn; it says what it is.

    Notes
    -----
    Values within :math:`\pm\pi` that lie beyond :math:`\pm 1` and are no integers are
    taken for radians even where they do not fill the turn: noise-free or masked images.

    Examples
    --------
    >>> noise = np.random.default_rng(0).uniform(-np.pi, np.pi, 5000)
    >>> written = np.round(noise / np.pi * 4096 / 2) * 2
    >>> radians, unit = scaled_phase(written.clip(-4096, 4094))
    >>> unit, bool(np.abs(radians - noise).max() < 0.002)
    ('12 bits, signed and doubled', True)
    >>> scaled_phase(np.arange(100))
    Traceback (most recent call last):
        ...
    ValueError: Phases range from 0 to 99, ...
    """
    values = np.asarray(values)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if unit is not None and unit.lower() in ("rad", "radian", "radians"):
        if max(-low, high) > 4 * np.pi:
            raise ValueError(f"Phases range from {low:g} to {high:g}, which cannot be radians.")
        return values.astype(np.float64), "radians"
    span = high - low
    for name, (least, most, turn) in _PHASE_UNITS.items():
        reach = _END_TOLERANCE * turn
        if abs(low - least) <= reach and abs(high - most) <= reach:
            return values.astype(np.float64) * (2 * np.pi / turn), name
    whole = bool(np.all(finite == np.round(finite)))
    if not whole and max(-low, high) > 1.0 and -np.pi - 1e-3 <= low and high <= np.pi + 1e-3:
        return values.astype(np.float64), "radians"
    if span > 0 and _fills(finite, low, high):
        # the next value after the highest is the lowest again
        turn = span + (float(np.diff(np.unique(finite)).min()) if whole else 0.0)
        return (values - low) * (2 * np.pi / turn) - np.pi, f"range {low:g} to {high:g}"
    raise ValueError(
        f"Phases range from {low:g} to {high:g}, which is no unit known, and they do not fill it "
        "as a full turn. Wanted: radians, degrees, or whole numbers of 12 or 16 bits."
    )


def _fills(values: NDArray[np.generic], low: float, high: float) -> bool:
    """Tell whether values occur all over their range, and as often at one end as at the other."""
    if values.size < 100 * _BINS:
        return False
    counts, _ = np.histogram(values, _BINS, (low, high))
    around = counts[0] / max(counts[-1], 1)  # the ends of a turn are neighbours
    return bool(counts.min() > 0.2 * counts.mean() and 0.67 < around < 1.5)


def complex_echoes(images: NDArray[np.float32], kind: str) -> tuple[NDArray[np.complex64], str]:
    r"""Complex signal of echoes stored as two real images each.

    Parameters
    ----------
    images : array, shape (..., 2 n)
        The first parts of n echoes, then the second ones.
    kind : {"polar", "cartesian"}
        Magnitudes and phases (of any unit, see `scaled_phase`), or real and imaginary parts.

    Returns
    -------
    complex64 array, shape (..., n)
        Signal, C-contiguous.
    str
        The unit that phases were found in; empty where there are none.

    Raises
    ------
    ValueError
        If the images do not pair, the kind is unknown, or as `scaled_phase`.

    Examples
    --------
    >>> images = np.array([[3.0, 2.0, 4.0, -1.0]], dtype=np.float32)
    >>> complex_echoes(images, "cartesian")[0].tolist()
    [[(3+4j), (2-1j)]]
    >>> polar = np.array([[[1.0, 5.0, np.pi, 0.0], [1.0, 1.0, 0.0, -np.pi]]], np.float32)
    >>> signal, unit = complex_echoes(polar, "polar")
    >>> signal.real.round(3).tolist(), unit
    ([[[-1.0, 5.0], [1.0, -1.0]]], 'radians')
    """
    if images.shape[-1] % 2 or kind not in ("polar", "cartesian"):
        raise ValueError(f"{images.shape[-1]} images of kind {kind!r} are no complex echoes.")
    n = images.shape[-1] // 2
    signal = np.empty((*images.shape[:-1], n), dtype=np.complex64)
    if kind == "cartesian":
        signal.real, signal.imag = images[..., :n], images[..., n:]
        return signal, ""
    phase, unit = scaled_phase(images[..., n:])
    for i in range(n):  # one by one: in double precision all would be four series
        signal[..., i] = images[..., i] * np.exp(1j * phase[..., i])
    return signal, unit
