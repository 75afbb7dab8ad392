"""Slices that lost their signal, found and replaced by what the other volumes predict.

Motion during the diffusion encoding empties single slices of single volumes. What is left of
them is not noise, and least squares would believe it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.dti import B0_MAX_S_MM2
from mrn_prep.models.dwi_quality import shells_of
from mrn_prep.models.eddy_steps import log_design, lost_slices, predict_from_others

Float = NDArray[np.floating]
Mask = NDArray[np.bool_]

_ROUNDS = 5
_B0_MAX_S_MM2 = 50.0
_FLOOR = 0.02  # of the median signal: below it a logarithm says nothing
_SOME = 50_000  # voxels tell the median
_LEAST_SPREAD = 0.002  # of a slice's mean, however good the data


@dataclass(frozen=True, kw_only=True)
class OutlierOptions:
    """What counts as lost."""

    z: float = 4.0
    """Standard deviations below the prediction."""
    loss: float = 0.1
    """Share of the slice's signal that must be missing, however sure it is."""
    fewest_voxels: int = 50
    """Slices with less of the limb are not judged."""


@dataclass(frozen=True)
class SliceOutliers:
    """Slices along `slice_axis` (rows) and volumes (columns)."""

    outlier: Mask
    """True where the signal is lost, shape (n_slices, n)."""
    z: Float
    """Standardised mean residual; NaN where not judged, shape (n_slices, n)."""
    loss: Float
    """Share of the predicted signal that is missing, likewise."""


def find_outliers(
    signal: Float,
    predicted: Float,
    mask: Mask,
    b_s_mm2: ArrayLike,
    slice_axis: int = 2,
    options: OutlierOptions | None = None,
) -> SliceOutliers:
    r"""Compare slices with their prediction.

    With the sums over the :math:`N_s` voxels of the mask in slice s of volume v,

    .. math:: d_{sv} = \ln\frac{\sum S_{sv}}{\sum \hat S_{sv}},\quad
              z_{sv} = \sqrt{N_s / \bar N}\,\frac{d_{sv} - \mathrm{med}\, d}{\mathrm{MAD}}

    where the median is that of the slice in the volumes with, or those without, diffusion
    weighting, and over all slices of the shell (no tensor meets every shell: perfusion and
    kurtosis are left, in all slices alike); the scale is floored at 0.2 %.

    Parameters
    ----------
    signal, predicted : array, shape (x, y, z, n)
        A prediction that a lost slice has had a part in hides it: see `repair_slices`.
    mask : bool array, shape (x, y, z)
        The limb.
    b_s_mm2 : array, shape (n,)
    slice_axis : {0, 1, 2}
    options : OutlierOptions, optional

    Returns
    -------
    SliceOutliers

    Raises
    ------
    ValueError
        If shapes disagree.

    References
    ----------
    Andersson JLR, Graham MS, Zsoldos E, Sotiropoulos SN. NeuroImage 2016;141:556-572.
    doi:10.1016/j.neuroimage.2016.06.058

    Examples
    --------
    >>> predicted = np.full((8, 8, 5, 12), 100.0)
    >>> signal = predicted + np.random.default_rng(0).normal(size=predicted.shape)
    >>> signal[:, :, 3, 7] *= 0.6
    >>> found = find_outliers(signal, predicted, np.ones((8, 8, 5), bool), np.full(12, 800))
    >>> np.argwhere(found.outlier).tolist(), found.loss[3, 7].round(2)
    ([[3, 7]], np.float64(0.4))
    """
    options = options or OutlierOptions()
    b = np.asarray(b_s_mm2, dtype=np.float64)
    if signal.shape != predicted.shape or signal.shape != (*mask.shape, len(b)) or mask.ndim != 3:
        raise ValueError(
            f"signal {signal.shape}, predicted {predicted.shape}, mask {mask.shape} and b-values "
            f"{b.shape} must be (x, y, z, n), (x, y, z, n), (x, y, z) and (n,)."
        )
    count, observed = _slice_sums(signal, mask, slice_axis)
    expected = _slice_sums(predicted, mask, slice_axis)[1]
    large = count >= options.fewest_voxels
    judged = large[:, None] & (observed > 0) & (expected > 0)
    ratio = np.where(judged, observed, 1.0) / np.where(judged, expected, 1.0)
    d = np.where(judged, np.log(ratio), np.nan)
    z = np.full(d.shape, np.nan)
    typical = float(count[large].mean()) if large.any() else 1.0
    size = np.sqrt(count / typical)[:, None]
    for group in (b <= b.min() + _B0_MAX_S_MM2, b > b.min() + _B0_MAX_S_MM2):
        part = d[:, group]
        if not np.isfinite(part).any():
            continue
        middle = np.full((len(part), 1), np.nan)
        some = np.isfinite(part).any(axis=1)
        middle[some, 0] = np.nanmedian(part[some], axis=1)
        part = part - middle
        for shell in (b[group] <= B0_MAX_S_MM2, *shells_of(b[group]).values()):
            if np.isfinite(part[:, shell]).any():
                part[:, shell] -= np.nanmedian(part[:, shell])
        scaled = size * part
        spread = 1.4826 * float(np.nanmedian(np.abs(scaled)))
        z[:, group] = scaled / max(spread, _LEAST_SPREAD)
    # a slice without any signal left has no logarithm, and is lost all the same
    empty = large[:, None] & (expected > 0) & ~(observed > 0)
    z[empty], ratio[empty] = -np.inf, 0.0
    loss = np.where(judged | empty, 1 - ratio, np.nan)
    with np.errstate(invalid="ignore"):
        outlier = (z < -options.z) & (loss > options.loss)
        odd = np.abs(z) > options.z
    # a moved volume has been read between its slices: those beside a lost one hold some of it,
    # and with a cubic kernel may read bright
    beside = np.zeros_like(outlier)
    beside[1:] |= outlier[:-1]
    beside[:-1] |= outlier[1:]
    outlier |= beside & odd
    return SliceOutliers(outlier, z, loss)


def predict_slices(
    signal: Float,
    b_s_mm2: ArrayLike,
    bvecs: ArrayLike,
    mask: Mask,
    outlier: Mask,
    slice_axis: int = 2,
) -> NDArray[np.float32]:
    r"""Predict every volume from a tensor fitted to all others without outliers.

    Parameters
    ----------
    signal : array, shape (x, y, z, n)
    b_s_mm2, bvecs : arrays, shape (n,) and (n, 3)
        b-values (s/mm²) and unit directions along the image axes.
    mask : bool array, shape (x, y, z)
        Voxels to predict.
    outlier : bool array, shape (n_slices, n)
        Slices that have no part in any prediction.
    slice_axis : {0, 1, 2}

    Returns
    -------
    float32 array, shape (x, y, z, n)
        NaN outside the mask, and in slices where the volumes that are left do not determine
        what the tensor needs.

    Examples
    --------
    >>> signal = np.full((2, 2, 1, 10), 50.0)
    >>> outlier = np.arange(10)[None] == 4
    >>> signal[..., 4] = 1.0
    >>> mask = np.ones((2, 2, 1), bool)
    >>> float(predict_slices(signal, np.zeros(10), np.zeros((10, 3)), mask, outlier)[0, 0, 0, 4])
    50.0
    """
    b, g = np.asarray(b_s_mm2, dtype=np.float64), np.asarray(bvecs, dtype=np.float64)
    design = log_design(b, g)
    rank = np.linalg.matrix_rank(design, tol=0.05)
    out = np.full(signal.shape, np.nan, dtype=np.float32)
    listed = np.argwhere(mask)
    some = np.nan_to_num(signal[tuple(listed[:: 1 + len(listed) // _SOME].T)])
    if not some.any():
        return out
    floor = _FLOOR * float(np.median(some[some > 0]))
    moved, moved_mask = np.moveaxis(out, slice_axis, 0), np.moveaxis(mask, slice_axis, 0)
    images = np.moveaxis(signal, slice_axis, 0)
    for k in np.flatnonzero(moved_mask.any(axis=(1, 2))):
        used = ~outlier[k]
        if np.linalg.matrix_rank(design[used], tol=0.05) < rank:
            continue
        values = np.nan_to_num(images[k][moved_mask[k]])
        logs = np.log(np.maximum(values, floor)).T
        weights = np.exp(2 * (logs.mean(axis=1) - logs.mean())) * used
        moved[k][moved_mask[k]] = np.exp(predict_from_others(logs, design, weights)).T
    return out


def replace_outliers(
    signal: Float, predicted: Float, outlier: Mask, slice_axis: int = 2
) -> NDArray[np.float32]:
    """Put the prediction where slices are lost.

    Parameters
    ----------
    signal, predicted : array, shape (x, y, z, n)
        Where the prediction is NaN the signal stays.
    outlier : bool array, shape (n_slices, n)
    slice_axis : {0, 1, 2}

    Returns
    -------
    float32 array, shape (x, y, z, n)

    Examples
    --------
    >>> lost = np.array([[False], [True]])
    >>> replace_outliers(np.zeros((1, 1, 2, 1)), np.full((1, 1, 2, 1), 9.0), lost).ravel().tolist()
    [0.0, 9.0]
    """
    repaired = np.array(signal, dtype=np.float32)
    slices = np.moveaxis(repaired, slice_axis, 0)
    source = np.moveaxis(predicted, slice_axis, 0)
    for k, v in np.argwhere(outlier):
        better = np.isfinite(source[k, ..., v])
        slices[k, ..., v][better] = source[k, ..., v][better]
    return repaired


def repair_slices(
    signal: Float,
    b_s_mm2: ArrayLike,
    bvecs: ArrayLike,
    mask: Mask,
    slice_axis: int = 2,
    options: OutlierOptions | None = None,
) -> tuple[NDArray[np.float32], SliceOutliers]:
    """Find lost slices and replace them, until the predictions have no part of them.

    Parameters
    ----------
    signal : array, shape (x, y, z, n)
        A series whose volumes lie on top of one another. Voxels that a moved volume did not
        reach (not finite) have no part: they would look dark.
    b_s_mm2, bvecs, mask, slice_axis
        As of `predict_slices`.
    options : OutlierOptions, optional

    Returns
    -------
    repaired : float32 array, shape (x, y, z, n)
    outliers : SliceOutliers
        By the last prediction; `outlier` marks what was replaced.

    Notes
    -----
    The first guess is that of `eddy_steps.lost_slices`, a robust fit of slice means: of volumes
    alike (b0, say) more than half must be sound. Slices of which so many volumes are lost that
    no tensor can be fitted are marked but stay.
    """
    options = options or OutlierOptions()
    b, g = np.asarray(b_s_mm2, dtype=np.float64), np.asarray(bvecs, dtype=np.float64)
    mask = np.array(mask, dtype=np.bool_)
    for i in range(signal.shape[-1]):  # by volumes, as a copy of the series takes room
        mask &= np.isfinite(signal[..., i])
    count, sums = _slice_sums(signal, mask, slice_axis)
    profile = np.where(count[:, None] >= options.fewest_voxels, sums, np.nan).T
    outlier = lost_slices(profile, log_design(b, g)).T
    seen = [outlier]
    for _ in range(_ROUNDS):
        predicted = predict_slices(signal, b, g, mask, outlier, slice_axis)
        # where nothing could be predicted, the first judgement stands
        parts = zip(np.moveaxis(predicted, slice_axis, 0), np.moveaxis(mask, slice_axis, 0),
                    strict=True)  # fmt: skip
        known = np.array([np.isfinite(p[m]).all(axis=0) for p, m in parts])
        found = find_outliers(signal, predicted, mask, b, slice_axis, options)
        new = np.where(known, found.outlier, outlier)
        settled = any(np.array_equal(new, old) for old in seen)
        outlier = new
        if settled:
            break
        seen.append(outlier)
    predicted = predict_slices(signal, b, g, mask, outlier, slice_axis)
    found = SliceOutliers(outlier, found.z, found.loss)
    return replace_outliers(signal, predicted, outlier, slice_axis), found


def _slice_sums(series: Float, mask: Mask, slice_axis: int) -> tuple[Float, Float]:
    """Voxels of the mask per slice, and the sums of the series over them (n_slices, n)."""
    across = tuple(axis for axis in range(3) if axis != slice_axis)
    count: Float = mask.sum(axis=across).astype(np.float64)
    sums = np.empty((len(count), series.shape[-1]))
    for i in range(series.shape[-1]):  # by volumes, as a copy of the series takes room
        inside = np.where(mask, np.nan_to_num(series[..., i]), 0.0)
        sums[:, i] = inside.sum(axis=across, dtype=np.float64)
    return count, sums
