"""Signal of a region relative to a reference in the same slices (nT2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.status import Reason

Float = NDArray[np.float64]
Count = NDArray[np.intp]

MIN_REFERENCE = 10
"""Fewer reference voxels in a slice leave its mean to chance."""


@dataclass(frozen=True)
class SignalRatio:
    """Result of `signal_ratio`; arrays have one value per slice."""

    ratio: float
    """Mean over the slices that have a value, weighted by their voxels of the target."""
    ratio_se: float
    """Its standard error, from the spread within target and reference."""
    ratio_by_slice: Float
    """Mean of the target / mean of the reference; NaN where `status` is not 0."""
    ratio_se_by_slice: Float
    """Its standard error; NaN where the target has one voxel."""
    n_target: Count
    """Finite voxels of the target."""
    n_reference: Count
    """Finite voxels of the reference."""
    reference_mean: Float
    """Mean signal of the reference; NaN where there is none."""
    reference_sd: Float
    """Standard deviation within the reference; NaN for fewer than two voxels."""
    status: NDArray[np.uint8]
    """``Reason.OUTSIDE_MASK`` where there is no target, ``Reason.TOO_FEW`` where there is too
    little reference, ``Reason.NO_SIGNAL`` where its mean is not positive."""


def signal_ratio(
    image: ArrayLike,
    target_mask: ArrayLike,
    reference_mask: ArrayLike,
    axis: int = -1,
    min_reference: int = MIN_REFERENCE,
) -> SignalRatio:
    r"""Divide the mean signal of a region by that of a reference, slice by slice.

    .. math:: q_z = \frac{\bar S_{target,z}}{\bar S_{reference,z}}, \quad
        q = \frac{\sum_z n_z q_z}{\sum_z n_z}, \quad
        \frac{\sigma_{q_z}^2}{q_z^2} = \frac{s_t^2}{n_t \bar S_t^2} + \frac{s_r^2}{n_r \bar S_r^2}

    with the :math:`n_z` of the target, and standard deviations s.

    Parameters
    ----------
    image : array, shape (x, y, z)
        Any T2-weighted signal (arbitrary units). Voxels that are not finite do not count.
    target_mask, reference_mask : bool array, shape (x, y, z)
        The region, and the reference: muscle, the nerve of the other side, or fat.
    axis : int
        Axis along which the slices lie.
    min_reference : int
        Fewest reference voxels of a slice that is used.

    Returns
    -------
    SignalRatio
        `ratio` is NaN if no slice has a value.

    Raises
    ------
    ValueError
        If shapes disagree or the two masks share voxels.

    Notes
    -----
    Slices are divided one by one because the signal changes along the limb with the coils.
    The standard error holds for voxels independent of each other: interpolation, denoising
    and texture make it larger. It says nothing of the placing of the regions.

    Examples
    --------
    The coil's fall-off from slice to slice divides out:

    >>> image = np.array([[30.0, 15.0], [20.0, 10.0], [20.0, 10.0]])
    >>> target = np.array([[True, True], [False, False], [False, False]])
    >>> result = signal_ratio(image, target, ~target, min_reference=2)
    >>> result.ratio_by_slice.tolist(), result.reference_mean.tolist(), result.ratio
    ([1.5, 1.5], [20.0, 10.0], 1.5)
    """
    image = np.asarray(image, dtype=np.float64)
    target, reference = (np.asarray(mask, dtype=np.bool_) for mask in (target_mask, reference_mask))
    if not image.shape == target.shape == reference.shape:
        raise ValueError(
            f"Image {image.shape}, target {target.shape} and reference {reference.shape} must "
            "have one shape."
        )
    shared = np.count_nonzero(target & reference)
    if shared:
        raise ValueError(f"Target and reference share {shared} voxels.")
    finite = np.isfinite(image)
    n_target, mean, target_sd = _by_slice(image, target & finite, axis)
    n_reference, reference_mean, reference_sd = _by_slice(image, reference & finite, axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        status = np.select(
            [n_target == 0, n_reference < max(min_reference, 1), ~(reference_mean > 0)],
            [np.uint8(x) for x in (Reason.OUTSIDE_MASK, Reason.TOO_FEW, Reason.NO_SIGNAL)],
            np.uint8(Reason.FITTED),
        )
        used = status == Reason.FITTED
        ratio = np.where(used, mean / reference_mean, np.nan)
        target_var = target_sd**2 / n_target
        reference_var = reference_sd**2 / n_reference
        se = np.sqrt(target_var + ratio**2 * reference_var) / reference_mean
        weight = np.where(used, n_target, 0) / n_target[used].sum()
        total = np.sqrt(np.sum((weight * se)[used] ** 2)) if used.any() else np.nan
    return SignalRatio(
        ratio=float(np.sum((weight * ratio)[used])) if used.any() else float("nan"),
        ratio_se=float(total),
        ratio_by_slice=ratio,
        ratio_se_by_slice=np.where(used, se, np.nan),
        n_target=n_target,
        n_reference=n_reference,
        reference_mean=reference_mean,
        reference_sd=reference_sd,
        status=status,
    )


def _by_slice(image: Float, mask: NDArray[np.bool_], axis: int) -> tuple[Count, Float, Float]:
    """Count, mean and standard deviation of the mask's voxels in each slice."""
    rows = np.moveaxis(image, axis, 0).reshape(image.shape[axis], -1)
    inside = np.moveaxis(mask, axis, 0).reshape(image.shape[axis], -1)
    n = np.count_nonzero(inside, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(inside, rows, 0.0).sum(axis=1) / n
        off = np.where(inside, rows - mean[:, np.newaxis], 0.0)
        sd = np.sqrt(np.where(n > 1, np.sum(off**2, axis=1) / (n - 1), np.nan))
    return n, mean, sd
