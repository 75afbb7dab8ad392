"""From a dynamic series of signals to concentrations of contrast agent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.dce_results import SharedError
from mrn_prep.models.dce_signal import (
    CONTINUOUS,
    Interruption,
    dynamic_signal,
    rate_of,
    response,
)
from mrn_prep.models.rician import amplitude_from_mean
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]
NoiseFloor = Literal["single", "mean"]

_CHUNK_VALUES = 2**20  # signals at a time, so that copies stay small
_FITTED = int(Reason.FITTED)
_NO_T1 = int(Reason.NO_T1)
_NO_SIGNAL = int(Reason.NO_SIGNAL)
_NO_B1 = int(Reason.NO_B1)
_SATURATED = int(Reason.SATURATED)


@dataclass(frozen=True)
class Acquisition:
    """How a dynamic series was acquired."""

    tr_s: float
    """Time between excitation pulses (s)."""
    flip_rad: float
    """Nominal flip angle (rad)."""
    relaxivity_per_mm_per_s: float
    """Longitudinal relaxivity of the agent (1/(mM s))."""
    baseline: slice
    """Frames before contrast; leave out the first if it is not in the steady state."""
    interruption: Interruption = CONTINUOUS
    """Pauses of the pulse train, such as for fat saturation."""

    def __post_init__(self) -> None:
        if not (self.tr_s > 0 and 0 < self.flip_rad < np.pi and self.relaxivity_per_mm_per_s > 0):
            raise ValueError(
                "TR (s), flip angle (rad, below pi) and relaxivity (1/(mM s)) must be positive, "
                f"got {self.tr_s}, {self.flip_rad} and {self.relaxivity_per_mm_per_s}."
            )
        n_pulses, gap_s, centre = self.interruption
        if not (gap_s >= 0 and 0 <= centre < n_pulses):
            raise ValueError(
                f"The gap must not be negative (s), and the central pulse one of the {n_pulses}, "
                f"counted from 0; got {gap_s} and {centre}."
            )


@dataclass(frozen=True)
class Concentration:
    """What `concentration_from_signal` returns."""

    concentration_mm: NDArray[np.floating[Any]]
    """Concentration (mM), shape (..., n_frames), in the precision of the signal; NaN in frames
    where it is undefined and in voxels where nothing could be computed."""
    sigma_mm: Float
    """Noise standard deviation of one frame (mM), root mean square over frames; shape (...)."""
    shared_error: SharedError
    """Errors all frames share: of the baseline and of T1."""
    baseline_signal: Float
    """Mean signal before contrast, shape (...)."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where all frames are defined."""


def signal_from_concentration(
    concentration_mm: ArrayLike,
    baseline_signal: ArrayLike,
    acquisition: Acquisition,
    t1_s: ArrayLike,
    b1: ArrayLike = 1.0,
) -> Float:
    r"""Signal of a spoiled gradient echo at given concentrations.

    .. math:: S = S_0 \frac{f(1/T_1 + r_1 C)}{f(1/T_1)}

    with f of `mrn_prep.models.dce_signal.dynamic_signal`.

    Parameters
    ----------
    concentration_mm : array, shape (..., n_frames)
        Concentration (mM).
    baseline_signal, t1_s, b1 : array, shape (...)
        Signal without contrast (arbitrary units), native T1 (s), and relative B1+ (1 = nominal).
    acquisition : Acquisition
        Sequence and agent; its baseline is not used.

    Returns
    -------
    array, shape (..., n_frames)
        Signal, in the unit of `baseline_signal`.

    Notes
    -----
    Fast exchange of water; the shortening of T2* is neglected.

    Examples
    --------
    >>> acquisition = Acquisition(0.005, np.deg2rad(15), 4.5, slice(0, 1))
    >>> signal = signal_from_concentration([0.0, 0.1, 1.0], 100.0, acquisition, 1.2)
    >>> [round(float(s), 1) for s in signal]
    [100.0, 145.6, 405.2]
    """
    concentration = np.asarray(concentration_mm, dtype=np.float64)
    s0, t1, relative_b1 = (
        np.asarray(values, dtype=np.float64)[..., np.newaxis]
        for values in (baseline_signal, t1_s, b1)
    )
    flip, tr = relative_b1 * acquisition.flip_rad, acquisition.tr_s
    r1 = 1.0 / t1 + acquisition.relaxivity_per_mm_per_s * concentration
    native = dynamic_signal(1.0 / t1, flip, tr, acquisition.interruption)
    return s0 * dynamic_signal(r1, flip, tr, acquisition.interruption) / native


def concentration_from_signal(
    signal: ArrayLike,
    acquisition: Acquisition,
    t1_s: ArrayLike,
    mask: ArrayLike | None = None,
    b1: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    t1_se_s: ArrayLike | None = None,
    noise_floor: NoiseFloor | None = "single",
    floor_sigma: ArrayLike | None = None,
    baseline_signal: ArrayLike | None = None,
    n_threads: int = 1,
) -> Concentration:
    r"""Invert the signal of a spoiled gradient echo exactly.

    .. math:: C = \frac{R_1 - R_{1,0}}{r_1},\quad
        f(R_1) = f(R_{1,0}) \frac{S}{S_0},\quad R_{1,0} = 1/T_1

    Without interruptions of the train, :math:`R_1 = -\ln[(1 - f)/(1 - f\cos\alpha)]/T_R`.

    Parameters
    ----------
    signal : array, shape (..., n_frames)
        Magnitude signal (arbitrary units). Single precision is not copied as a whole, and gives
        concentrations in single precision.
    acquisition : Acquisition
        Sequence, agent, and which frames come before contrast.
    t1_s : float or array, shape (...)
        Native T1 (s).
    mask : bool array, shape (...), optional
        Voxels to convert; all by default.
    b1 : array, shape (...), optional
        Relative B1+ (1 = nominal); 1 everywhere if absent.
    sigma : float or array, shape (...), optional
        Noise standard deviation of each channel, in the unit of the signal. Without it the noise
        floor stays in the signal, and errors of concentrations are NaN.
    t1_se_s : float or array, shape (...), optional
        Standard error of `t1_s`; 0 if absent.
    noise_floor : {"single", "mean"} or None
        How the bias of magnitudes is removed: from single magnitudes, from means of magnitudes
        (as denoising gives them), or not at all.
    floor_sigma : float or array, shape (...), optional
        Noise whose floor is in the signal, if it is not `sigma`: before denoising it was larger.
    baseline_signal : array, shape (...), optional
        Signal before contrast where it is known better than from the frames (inflow).
    n_threads : int
        Threads to compute in.

    Returns
    -------
    Concentration
        A frame brighter than any R1 can make it (saturated) is NaN and the voxel's status is
        ``Reason.SATURATED``; a frame or baseline at or below the noise floor is NaN with
        ``Reason.NO_SIGNAL``. A voxel without T1 is ``Reason.NO_T1``, without B1
        ``Reason.NO_B1``.

    Raises
    ------
    ValueError
        If shapes disagree or the baseline has no frame.

    Notes
    -----
    A single magnitude is lowered to :math:`\sqrt{S^2 - \sigma^2}`, which is unbiased to first
    order [1]_, the baseline to :math:`\sqrt{\langle S^2\rangle - 2\sigma^2}`, the second moment,
    which is exact for means. Standard errors are first order. The error of the baseline moves all
    frames of a voxel in the same way and outweighs single frames' noise in a fit; so does that
    of T1. Both are returned as a `SharedError` for the fit. The errors of B1 and T1 belong
    together where T1 was measured with this B1, and cancel in part; that of B1 is not carried on.

    References
    ----------
    .. [1] Gudbjartsson H, Patz S. Magn Reson Med 1995;34:910-914. doi:10.1002/mrm.1910340618

    Examples
    --------
    >>> acquisition = Acquisition(0.005, np.deg2rad(15), 4.5, slice(0, 2))
    >>> true = [0.0, 0.0, 0.5, 0.1]
    >>> signal = signal_from_concentration(true, 100.0, acquisition, 1.2, b1=0.8)
    >>> found = concentration_from_signal(signal, acquisition, 1.2, b1=0.8)
    >>> bool(np.allclose(found.concentration_mm, true, rtol=0, atol=1e-12))
    True
    """
    signal = np.asarray(signal)
    if signal.dtype != np.float32:
        signal = signal.astype(np.float64, copy=False)
    shape, n = signal.shape[:-1], signal.shape[-1] if signal.ndim else 0
    if not np.zeros(n)[acquisition.baseline].size:
        raise ValueError(f"The baseline {acquisition.baseline} has none of the {n} frames.")
    no, one = np.nan, 1.0
    names = ("mask", "t1_s", "b1", "sigma", "t1_se_s", "floor_sigma", "baseline_signal")
    defaults = (one, no, one, no, 0.0, sigma if sigma is not None else no, no)
    values = (mask, t1_s, b1, sigma, t1_se_s, floor_sigma, baseline_signal)
    given = {
        name: _per_voxel(default if value is None else value, shape, name).reshape(-1)
        for name, value, default in zip(names, values, defaults, strict=True)
    }
    rows = np.flatnonzero(given.pop("mask"))
    flat, size = signal.reshape(-1, n), max(_CHUNK_VALUES // max(n, 1), 1)
    out = np.full(flat.shape, np.nan, dtype=signal.dtype)
    maps = np.full((5, len(flat)), np.nan)
    status = np.full(len(flat), Reason.OUTSIDE_MASK, dtype=np.uint8)
    n_pulses, gap_s, centre = acquisition.interruption
    sequence = (float(acquisition.flip_rad), float(acquisition.tr_s))
    pauses = (int(n_pulses), float(gap_s), int(centre))

    def convert(first: int) -> None:
        part = rows[first : first + size]
        own = {name: column[part] for name, column in given.items()}
        block = np.ascontiguousarray(flat[part], dtype=np.float64)
        amplitude, s0, effective = _amplitudes(block, own, acquisition.baseline, noise_floor)
        out[part], maps[:4, part], status[part] = _invert(
            amplitude, s0, own["t1_s"], own["b1"], own["sigma"], effective, own["t1_se_s"],
            float(acquisition.relaxivity_per_mm_per_s), *sequence, *pauses,
        )  # fmt: skip
        maps[4, part] = s0

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(convert, range(0, rows.size, size)))
    sigma_mm, offset, offset_gain, gain, s0 = maps.reshape(5, *shape)
    shared = SharedError(offset_mm=offset, offset_gain=offset_gain, gain=gain)
    return Concentration(out.reshape(signal.shape), sigma_mm, shared, s0, status.reshape(shape))


def _amplitudes(
    block: Float, own: dict[str, Float], baseline: slice, noise_floor: NoiseFloor | None
) -> tuple[Float, Float, Float]:
    """Signals without noise floor, the baseline's mean, and its relative standard error."""
    known, floor = own["baseline_signal"], own["floor_sigma"]
    squared = np.where(floor > 0, floor, 0.0)[:, np.newaxis] ** 2
    before = block[:, baseline]
    with np.errstate(invalid="ignore", divide="ignore"):
        if noise_floor == "single":
            moment = np.sqrt(np.mean(before**2, axis=1) - 2 * squared[:, 0])
            s0 = np.where(floor > 0, moment, np.mean(before, axis=1))
            block = np.sqrt(block**2 - squared) * np.sign(block)
        elif noise_floor == "mean":
            block = amplitude_from_mean(block, np.sqrt(squared)).astype(np.float64)
            s0 = np.mean(block[:, baseline], axis=1)
        else:
            s0 = np.mean(before, axis=1)
        error = own["sigma"] / (s0 * np.sqrt(before.shape[1]))
    measured = np.isnan(known)
    return block, np.where(measured, s0, known), np.where(measured, error, 0.0)


def _per_voxel(values: ArrayLike, shape: tuple[int, ...], name: str) -> Float:
    """Spread a number or a map over the voxels; raise ValueError if it is another shape."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim and values.shape != shape:
        raise ValueError(f"{name} {values.shape} must have the signal's shape {shape}.")
    return np.broadcast_to(values, shape)


@njit(cache=True, error_model="numpy", nogil=True)
def _invert(  # type: ignore[no-untyped-def]
    signal, s0, t1, b1, sigma, s0_error, t1_se, relaxivity, flip, tr, n_pulses, gap, centre
):
    """Concentrations; their noise, and by how much baseline and T1 shift and scale them."""
    n_rows, n = signal.shape
    out, maps = np.full((n_rows, n), np.nan), np.full((4, n_rows), np.nan)
    codes = np.zeros(n_rows, dtype=np.uint8)
    for v in range(n_rows):
        if not (t1[v] > 0.0 and np.isfinite(t1[v])):
            codes[v] = _NO_T1
        elif not (b1[v] > 0.0 and np.isfinite(b1[v])):
            codes[v] = _NO_B1
        elif not (s0[v] > 0.0 and np.isfinite(s0[v])):
            codes[v] = _NO_SIGNAL
        if codes[v] != _FITTED:
            continue
        cos, r10 = np.cos(b1[v] * flip), 1.0 / t1[v]
        native, native_slope = response(r10, cos, tr, n_pulses, gap, centre)
        # dC/d(ln S0) at no contrast; elsewhere offset + gain C comes closest
        offset = native / (native_slope * relaxivity)
        noise, square, by_s0, by_r10 = 0.0, 0.0, 0.0, 0.0
        for i in range(n):
            value = native * signal[v, i] / s0[v]
            if not 0.0 < value < 1.0:
                if codes[v] == _FITTED:
                    codes[v] = _SATURATED if value >= 1.0 else _NO_SIGNAL
                continue
            r1, slope = rate_of(value, cos, tr, n_pulses, gap, centre)
            c = (r1 - r10) / relaxivity
            out[v, i] = c
            noise += (native / (s0[v] * slope * relaxivity)) ** 2
            square += c * c
            by_s0 += c * (value / (slope * relaxivity) - offset)
            by_r10 += c * (native_slope * value / (native * slope) - 1.0) / relaxivity
        maps[0, v] = sigma[v] * np.sqrt(noise / n)
        maps[1, v] = s0_error[v] * offset
        maps[2, v], maps[3, v] = 0.0, 0.0
        if square > 0.0:
            maps[2, v] = s0_error[v] * by_s0 / square
            maps[3, v] = t1_se[v] * r10 * r10 * by_r10 / square
    return out, maps, codes
