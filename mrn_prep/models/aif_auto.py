"""Find the voxels of arteries (or veins) in a dynamic series by themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from mrn_prep.models.aif_measure import (
    BLOOD_T1_S,
    MIN_VOXELS,
    InputFunction,
    describe_input,
    input_from_region,
)
from mrn_prep.models.dce_concentration import Acquisition, concentration_from_signal
from mrn_prep.models.dce_convolution import check_times

Float = NDArray[np.float64]
Vessel = Literal["artery", "vein"]

_MIN_RISE_SIGMA = 10.0  # of the brightest frame over the baseline
_MAX_CONVERTED = 20_000  # curves to turn into concentrations: those that rise most
_MAX_CANDIDATES = 1500  # distances between all of them must fit into memory
_FIRST_PASS_S = 20.0  # after the peak of the brightest candidates
_N_CLUSTERS = 6
_SHARED = 0.07  # by so much of its area may a voxel differ from those of blood alone, or ...
_SHARED_SE = 3.0  # ... by this many standard errors: more would choose among noise
_FULLEST, _NEARLY_FULL = 0.8, 0.7  # quantile of the areas, and the part of it from where on ...
_DENSEST = 0.5  # ... the densest half of the areas are those of blood alone


def find_input(
    signal: ArrayLike,
    t_s: ArrayLike,
    acquisition: Acquisition,
    search: ArrayLike | None = None,
    t1_s: float = BLOOD_T1_S,
    b1: ArrayLike | None = None,
    sigma: float | None = None,
    *,
    vessel: Vessel = "artery",
    t1_se_s: float = 0.0,
    floor_sigma: float | None = None,
    expected_baseline: ArrayLike | None = None,
) -> InputFunction:
    """Find an input function by clustering peak, first moment and area of curves.

    Parameters
    ----------
    signal : array, shape (nx, ny, nz, n_frames)
        Magnitude signal; any leading shape.
    t_s : array, shape (n_frames,)
        Times of the frames (s).
    acquisition : Acquisition
        Sequence, agent, and which frames come before contrast.
    search : bool array, shape (nx, ny, nz), optional
        Where to look; everywhere by default.
    t1_s, b1, sigma, t1_se_s, floor_sigma, expected_baseline
        As of `mrn_prep.models.aif_measure.input_from_region`.
    vessel : {"artery", "vein"}
        Arteries are filled first and highest, veins later and as much.

    Returns
    -------
    InputFunction
        Ask its `usable`: with nothing that enhances like a vessel it is "empty", and its curve
        zeros.

    Raises
    ------
    ValueError
        If shapes disagree, times do not increase, or there is no baseline.

    Notes
    -----
    All curves are turned into concentrations with the T1 of blood. Those that rise by ten sigma
    compete with the logarithms of their peak and area, and the first moment of their first pass
    [1]_. They are clustered (Ward's linkage, which needs no random start); for an artery the
    cluster counts that is highest and earliest, for a vein the fullest and latest. Of its
    voxels those are kept whose areas are alike and large, as the rim of a vessel shares its
    voxels with tissue. The largest are left out too: near a vessel's border, interpolation
    overshoots, and choosing the fullest alone would choose what it has made.

    References
    ----------
    .. [1] Mouridsen K, et al. Magn Reson Med 2006;55:524-531. doi:10.1002/mrm.20759

    Examples
    --------
    >>> from mrn_prep.models.aif_population import parker_aif
    >>> from mrn_prep.models.dce_concentration import signal_from_concentration
    >>> acquisition = Acquisition(0.004, np.deg2rad(20), 4.5, slice(0, 8))
    >>> t, rng = np.arange(0.0, 240.0, 2.0), np.random.default_rng(0)
    >>> blood = parker_aif(t, arrival_s=20.0)
    >>> curves = np.outer(np.repeat([1.0, 0.05], [6, 300]), blood)
    >>> signal = signal_from_concentration(curves, np.full(306, 50.0), acquisition, 1.65)
    >>> signal += rng.normal(0, 1, signal.shape)
    >>> found = find_input(signal, t, acquisition, sigma=1.0)
    >>> bool(found.voxels[:6].all()), int(found.voxels.sum())
    (True, 6)
    """
    signal, t = np.asarray(signal), check_times(t_s, "t_s")
    shape, n = signal.shape[:-1], t.size
    inside = np.ones(shape, np.bool_) if search is None else np.asarray(search, dtype=np.bool_)
    if signal.shape[-1:] != (n,) or inside.shape != shape:
        raise ValueError(
            f"signal {signal.shape} must be (..., {n}) and search {inside.shape} its shape "
            "without the last axis."
        )
    places = np.flatnonzero(inside.reshape(-1))
    places, baseline_error = _risen(signal.reshape(-1, n), places, acquisition.baseline, sigma)
    relative_b1 = np.ones(shape) if b1 is None else np.broadcast_to(np.asarray(b1), shape)
    curves = concentration_from_signal(
        signal.reshape(-1, n)[places].astype(np.float64),
        acquisition,
        t1_s,
        b1=relative_b1.reshape(-1)[places],
        noise_floor=None,
    ).concentration_mm
    whole = np.all(np.isfinite(curves), axis=1)
    saturated = np.count_nonzero(~whole) > np.count_nonzero(whole)
    own = _cluster(curves[whole].astype(np.float64), t, acquisition, vessel, baseline_error[whole])
    chosen = np.isin(np.arange(inside.size), places[whole][own]).reshape(shape)
    if not chosen.any():
        flags = ("empty", "saturated") if saturated else ("empty",)
        return describe_input(np.zeros(n), t, acquisition.baseline, chosen, flags)
    found = input_from_region(
        signal,
        chosen,
        t,
        acquisition,
        t1_s,
        b1,
        sigma,
        t1_se_s=t1_se_s,
        floor_sigma=floor_sigma,
        expected_baseline=expected_baseline,
    )
    if saturated and "saturated" not in found.flags:
        found = replace(found, flags=(*found.flags, "saturated"))
    return found


def fullest_voxels(
    signal: ArrayLike,
    t_s: ArrayLike,
    acquisition: Acquisition,
    t1_s: float = BLOOD_T1_S,
    b1: ArrayLike | None = None,
    sigma: float | None = None,
    *,
    from_share: float | None = None,
) -> NDArray[np.bool_]:
    """Tell which voxels of a vessel hold blood alone.

    Parameters
    ----------
    signal : array, shape (m, n_frames)
        Magnitude signal of the voxels of a region that was drawn.
    t_s, acquisition, t1_s, b1, sigma
        As of `find_input`; `b1` of shape (m,).
    from_share : float, optional
        Tell instead which have an area of at least this share of the fullest.

    Returns
    -------
    bool array, shape (m,)
        Those whose area under the concentration is that of most voxels that are nearly full.
        The tissue around a vessel, bright fat above all, takes from the area of voxels that it
        shares.
    """
    rows, t = np.asarray(signal, dtype=np.float64), check_times(t_s, "t_s")
    curves = concentration_from_signal(
        rows, acquisition, t1_s, b1=b1, noise_floor=None
    ).concentration_mm
    area: Float = np.asarray(np.trapezoid(curves, t, axis=1))
    known = np.isfinite(area) & (area > 0)
    if known.sum() < MIN_VOXELS:
        return np.ones(len(rows), np.bool_)
    pure = np.zeros(len(rows), np.bool_)
    if from_share is not None:
        pure[known] = _nearly(area[known], from_share)
        return pure
    before = rows[:, acquisition.baseline]
    error = (0.0 if sigma is None else sigma) / (before.mean(axis=1) * np.sqrt(before.shape[1]))
    pure[known] = _full(area[known], error[known])
    return pure


def _risen(
    flat: NDArray[np.floating], places: NDArray[np.intp], baseline: slice, sigma: float | None
) -> tuple[NDArray[np.intp], Float]:
    """Return places that rise well above noise, and the relative error of their baselines."""
    n_before = np.zeros(flat.shape[1])[baseline].size
    if not n_before:
        raise ValueError(f"The baseline {baseline} has none of the {flat.shape[1]} frames.")
    highest, mean, spread = (np.empty(places.size) for _ in range(3))
    for i in range(0, places.size, 65536):  # no copy of the whole series
        part = flat[places[i : i + 65536]]
        before = part[:, baseline].astype(np.float64)
        highest[i : i + 65536] = part.max(axis=1)
        mean[i : i + 65536], spread[i : i + 65536] = before.mean(axis=1), before.std(axis=1)
    noise = sigma
    if noise is None:  # that of tissue: in air magnitudes vary less
        known = np.isfinite(mean)
        mean_of_all = np.median(mean[known]) if known.any() else np.inf
        noise = float(np.median(spread[mean >= mean_of_all])) if known.any() else 0.0
    rise = highest - mean
    risen = np.flatnonzero((rise > _MIN_RISE_SIGMA * noise) & (mean > noise))
    risen = risen[np.argsort(-rise[risen] / mean[risen])[:_MAX_CONVERTED]]
    return places[risen], noise / (mean[risen] * np.sqrt(n_before))


def _cluster(
    curves: Float, t: Float, acquisition: Acquisition, vessel: Vessel, baseline_error: Float
) -> NDArray[np.intp]:
    """Return which curves are those of the vessel."""
    peak = curves.max(axis=1, initial=-np.inf)
    area: Float = np.asarray(np.trapezoid(curves, t, axis=1))
    keep = np.flatnonzero(area > 0)
    keep = keep[np.argsort(-peak[keep])[:_MAX_CANDIDATES]]
    if keep.size < MIN_VOXELS:
        return keep
    brightest = curves[keep[: max(keep.size // 20, MIN_VOXELS)]].mean(axis=0)
    window = t <= t[brightest.argmax()] + _FIRST_PASS_S
    window[acquisition.baseline] = False
    first = np.maximum(curves[keep][:, window], 0.0)
    moment = (first @ t[window]) / np.maximum(first.sum(axis=1), 1e-30)
    features = np.stack([np.log(peak[keep]), moment, np.log(area[keep])], axis=1)
    features -= features.mean(axis=0)
    features /= np.maximum(features.std(axis=0), 1e-12)
    labels = fcluster(linkage(features, "ward"), _N_CLUSTERS, "maxclust")
    best, best_score = labels[0], -np.inf
    for label in np.unique(labels):
        members = labels == label
        high, late, full = features[members].mean(axis=0)
        score = high - late if vessel == "artery" else full + late
        if members.sum() >= MIN_VOXELS and score > best_score:
            best, best_score = label, score
    members = keep[labels == best]
    pure: NDArray[np.intp] = members[_full(area[members], baseline_error[members])]
    return pure


def _full(area: Float, baseline_error: Float) -> NDArray[np.bool_]:
    """Return which areas are those of voxels that blood alone fills."""
    differ = max(_SHARED, _SHARED_SE * float(np.median(baseline_error)))
    some = np.sort(area[_nearly(area)])
    n = min(max(int(np.ceil(_DENSEST * some.size)), MIN_VOXELS), some.size)
    first = int(np.argmin(some[n - 1 :] / some[: some.size - n + 1]))
    full: NDArray[np.bool_] = np.abs(np.log(area / np.median(some[first : first + n]))) <= differ
    return full


def _nearly(area: Float, share: float = _NEARLY_FULL) -> NDArray[np.bool_]:
    nearly: NDArray[np.bool_] = area >= share * np.quantile(area, _FULLEST)
    return nearly
