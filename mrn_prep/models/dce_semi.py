"""Semi-quantitative measures of an enhancing curve, which need no model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.dce_convolution import check_times
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]

MIN_PEAK_SIGMA = 4.0
"""A curve whose peak is below this many sigma does not enhance."""
IAUC_S = (60.0, 90.0)
"""Times from arrival up to which the area is taken (s)."""

_SUBSTEPS = 10  # times tried for the arrival between two frames
_RISE_END = 0.6  # fraction of the peak up to which the rise is taken as straight
_MIN_RISE = 2  # frames
_MIN_WASH_OUT = 3  # frames
_CHUNK_VALUES = 2**20
_FITTED = int(Reason.FITTED)
_NON_FINITE = int(Reason.NON_FINITE)
_NO_ENHANCEMENT = int(Reason.NO_ENHANCEMENT)
_TOO_FEW = int(Reason.TOO_FEW)


@dataclass(frozen=True)
class Enhancement:
    """Maps of `measure_enhancement`, of the curves' shape without its last axis.

    Everything is NaN where `status` is not 0. What is called height is in the unit of the
    enhancement: that of the curve, or the fraction of its baseline.
    """

    arrival_s: Float
    """When the bolus arrives, on the axis of `t_s` (s)."""
    time_to_peak_s: Float
    """From arrival to the highest frame (s)."""
    peak: Float
    """Height of the highest frame: with signals the maximum ratio, less 1."""
    wash_in_per_s: Float
    """Peak divided by the time to it (height per s)."""
    wash_out_per_s: Float
    """Fall of the straight line from the peak to the end (height per s); negative where it still
    rises, NaN where fewer than three frames are left."""
    iauc60: Float
    """Area under the curve up to 60 s from arrival (height times s); NaN where the series ends
    before."""
    iauc90: Float
    """The same up to 90 s."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where measured."""


def measure_enhancement(
    curves: ArrayLike,
    t_s: ArrayLike,
    baseline: slice,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    relative: bool = False,
    earliest_s: float = -np.inf,
) -> Enhancement:
    r"""Measure arrival, peak, slopes and initial area of enhancing curves.

    .. math:: \mathrm{iAUC}_T = \int_{t_a}^{t_a + T} h(t)\,dt

    Parameters
    ----------
    curves : array, shape (..., n_frames)
        Concentration, or signal.
    t_s : array, shape (n_frames,)
        Times of the frames (s).
    baseline : slice
        Frames before contrast, whose mean is taken off.
    mask : bool array, shape (...), optional
        Voxels to measure; all by default.
    sigma : float or array, shape (...), optional
        Noise of a frame, in the unit of the curves; from the baseline's own spread if absent.
    relative : bool
        Whether heights are fractions of the baseline (signal) or in the curve's unit.
    earliest_s : float
        When contrast cannot have arrived before (s); noise may look like a slow early rise.

    Returns
    -------
    Enhancement
        A peak below `MIN_PEAK_SIGMA`, or a baseline that is not positive where heights are
        relative, has ``Reason.NO_ENHANCEMENT``; one that is reached in the first frames after the
        baseline already, so that no arrival can be told, ``Reason.TOO_FEW``.

    Raises
    ------
    ValueError
        If shapes disagree, times do not increase, or there is no baseline frame (three are needed
        without `sigma`).

    Notes
    -----
    The arrival is where a line that is flat before and straight after it fits best [1]_, up to
    60 % of the peak. The peak is that of one frame: noise makes it high.

    References
    ----------
    .. [1] Cheong LH, Koh TS, Hou Z. Phys Med Biol 2003;48:N83-N88.
       doi:10.1088/0031-9155/48/5/403

    Examples
    --------
    >>> t = np.arange(0.0, 300.0, 4.0)
    >>> curve = np.interp(t, [0, 30, 50, 300], [0.0, 0.0, 1.0, 0.5])
    >>> found = measure_enhancement(curve, t, slice(0, 6), sigma=0.01)
    >>> [round(float(v), 1) for v in (found.arrival_s, found.time_to_peak_s, found.iauc60)]
    [30.0, 22.0, 48.3]
    >>> round(float(found.wash_out_per_s) * 250, 2)
    0.5
    """
    curves, t = np.asarray(curves), check_times(t_s, "t_s")
    shape, n = curves.shape[:-1], t.size
    if curves.ndim < 1 or curves.shape[-1] != n:
        raise ValueError(f"curves {curves.shape} must be (..., {n}), as there are {n} times.")
    before = np.arange(n)[baseline]
    if before.size < (1 if sigma is not None else 3):
        raise ValueError(f"The baseline {baseline} has {before.size} of {n} frames: too few.")
    inside = np.broadcast_to(np.asarray(True if mask is None else mask, dtype=np.bool_), shape)
    noise = np.broadcast_to(np.asarray(np.nan if sigma is None else sigma, np.float64), shape)
    rows = np.flatnonzero(inside.reshape(-1))
    flat, noise = curves.reshape(-1, n), noise.reshape(-1)
    maps = np.full((7, len(flat)), np.nan)
    status = np.full(len(flat), Reason.OUTSIDE_MASK, dtype=np.uint8)
    size = max(_CHUNK_VALUES // n, 1)
    for first in range(0, rows.size, size):
        part = rows[first : first + size]
        block = flat[part].astype(np.float64)
        zero = block[:, before].mean(axis=1)
        spread = noise[part].copy()
        if sigma is None:
            spread = block[:, before].std(axis=1, ddof=1)
        block -= zero[:, np.newaxis]
        if relative:
            zero[zero <= 0] = np.inf  # no height above nothing
            block, spread = block / zero[:, np.newaxis], spread / zero
        maps[:, part], status[part] = _measure(block, t, int(before[-1]), spread, float(earliest_s))
    arrival, to_peak, peak, wash_in, wash_out, iauc60, iauc90 = maps.reshape(7, *shape)
    return Enhancement(
        arrival_s=arrival,
        time_to_peak_s=to_peak,
        peak=peak,
        wash_in_per_s=wash_in,
        wash_out_per_s=wash_out,
        iauc60=iauc60,
        iauc90=iauc90,
        status=status.reshape(shape),
    )


@njit(cache=True, error_model="numpy", nogil=True)
def _measure(curves, t, last_before, sigma, earliest):  # type: ignore[no-untyped-def]
    n_rows, n = curves.shape
    maps, codes = np.full((7, n_rows), np.nan), np.zeros(n_rows, dtype=np.uint8)
    for v in range(n_rows):
        y = curves[v]
        peak, total = last_before + 1, 0.0
        for i in range(n):
            total += y[i]
            if i > last_before and peak < n and y[i] > y[peak]:
                peak = i
        if not np.isfinite(total):
            codes[v] = _NON_FINITE
        elif peak >= n or not (y[peak] >= MIN_PEAK_SIGMA * sigma[v] and y[peak] > 0.0):
            codes[v] = _NO_ENHANCEMENT
        elif peak < 2:
            codes[v] = _TOO_FEW
        if codes[v] != _FITTED:
            continue
        arrival = _arrival(y, t, peak, earliest)
        maps[0, v], maps[1, v], maps[2, v] = arrival, t[peak] - arrival, y[peak]
        maps[3, v] = y[peak] / (t[peak] - arrival)
        if n - peak >= _MIN_WASH_OUT:
            maps[4, v] = -_slope(y, t, peak)
        maps[5, v] = _area(y, t, arrival, arrival + IAUC_S[0])
        maps[6, v] = _area(y, t, arrival, arrival + IAUC_S[1])
    return maps, codes


@njit(cache=True, error_model="numpy", nogil=True)
def _arrival(y, t, peak, earliest):  # type: ignore[no-untyped-def]
    """Time of the kink of the line 0 + slope max(0, t - kink) that fits best up to the rise."""
    end = peak
    for i in range(peak, -1, -1):  # the rise that leads to the peak
        if y[i] < _RISE_END * y[peak]:
            break
        end = i
    end = min(max(end, _MIN_RISE), peak)
    best, kink_best = np.inf, max(t[0], min(earliest, t[peak - 1]))
    for k in range(end * _SUBSTEPS):
        frame = k // _SUBSTEPS
        kink = t[frame] + (k % _SUBSTEPS) * (t[frame + 1] - t[frame]) / _SUBSTEPS
        if end - frame < _MIN_RISE or kink < earliest:  # any kink fits one frame
            continue
        xx = xy = yy = 0.0
        for i in range(end + 1):
            x = max(t[i] - kink, 0.0)
            xx += x * x
            xy += x * y[i]
            yy += y[i] * y[i]
        cost = yy - xy * xy / xx if xy > 0.0 else yy
        if cost < best:
            best, kink_best = cost, kink
    return kink_best


@njit(cache=True, error_model="numpy", nogil=True)
def _slope(y, t, first):  # type: ignore[no-untyped-def]
    n, mean_t, mean_y = y.size - first, 0.0, 0.0
    for i in range(first, y.size):
        mean_t += t[i] / n
        mean_y += y[i] / n
    tt = ty = 0.0
    for i in range(first, y.size):
        tt += (t[i] - mean_t) ** 2
        ty += (t[i] - mean_t) * y[i]
    return ty / tt


@njit(cache=True, error_model="numpy", nogil=True)
def _area(y, t, start, stop):  # type: ignore[no-untyped-def]
    """Area under the polygon between two times; NaN if it ends before."""
    if stop > t[-1] + 1e-9:
        return np.nan
    area = 0.0
    for i in range(t.size - 1):
        low, high = max(t[i], start), min(t[i + 1], stop)
        if high > low:
            slope = (y[i + 1] - y[i]) / (t[i + 1] - t[i])
            area += (high - low) * (y[i] + slope * (0.5 * (low + high) - t[i]))
    return area
