"""Susceptibility distortion of echo-planar images, from pairs with reversed phase encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models import motion
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.motion import Float, Mask
from mrn_prep.models.resample import grid_points, warp
from mrn_prep.models.susceptibility_estimate import Estimation

_CONVERGED_VOXELS = 0.05


@dataclass(frozen=True, kw_only=True)
class SusceptibilityOptions:
    """What may be chosen about `estimate_field`."""

    rigid: bool = True
    """Whether the limb may have moved between the images."""
    knot_mm: float = 9.0
    """Distance of the spline's knots at the finest level (at least 1.5 voxels)."""
    roughness_hz: float = 1.0
    """How bent the field may be: root of the prior's variance of its second derivatives
    (Hz/mm²) in a cubic millimetre. Half makes it stiffer by a factor of four."""


@dataclass(frozen=True)
class FieldResult:
    """What `estimate_field` found; everything is finite."""

    field_hz: Float
    """Off-resonance at each voxel of the undistorted first image, shape (x, y, z)."""
    rigid: Float
    """First image to each, mm about the volume's centre, shape (n, 4, 4)."""
    gain: Float
    """By which each image was multiplied, relative to the first, shape (n,)."""
    correlation: tuple[float, float]
    """Of an image with the mean of the others inside the mask (the worst), before and after."""
    folded_fraction: float
    """Share of the mask that lies on top of other tissue in one of the images."""
    converged: bool
    """False where the last step still moved the limb by more than 0.05 voxel."""
    improved: bool
    """False where no field made the images agree better: it is then zero."""


def estimate_field(
    images: Float | Sequence[Float],
    pe_axis: int,
    pe_sign: ArrayLike,
    readout_s: ArrayLike,
    voxel_mm: ArrayLike,
    mask: Mask | None = None,
    options: SusceptibilityOptions | None = None,
) -> FieldResult:
    r"""Estimate the field that pulls images with different blips apart.

    Tissue at x is shown by image k at

    .. math:: y_k(x) = R_k x + t_k + e_\mathrm{pe}\, s_k T_k f(x)

    (in voxels along phase encoding) with its signal diluted by
    :math:`J_k = 1 + s_k T_k\, \partial_\mathrm{pe} f`. The field f, a cubic B-spline,
    minimises what the corrected images :math:`C_k = g_k I_k(y_k) J_k` differ,

    .. math:: \sum_x \rho\Big(\sum_k (C_k - \bar C)^2 / \sigma^2\Big)
              + \frac{1}{\kappa^2} \int |\partial\partial f|^2,

    by Gauss-Newton steps from coarse to fine.

    Parameters
    ----------
    images : array, shape (x, y, z, n), or sequence of n arrays of shape (x, y, z)
        Images of one contrast (b0), at least two, with both polarities.
    pe_axis : {0, 1, 2}
        Image axis of phase encoding.
    pe_sign : array, shape (n,)
        1 or -1: whether phase encoding runs along the voxel index (BIDS ``j``) or against
        it (``j-``).
    readout_s : float or array, shape (n,)
        Total readout time (s).
    voxel_mm : array, shape (3,)
    mask : bool array, shape (x, y, z), optional
        The limb, in any of the images or their mean; found in the mean without one.
    options : SusceptibilityOptions, optional

    Returns
    -------
    FieldResult

    Raises
    ------
    ValueError
        If the images differ in shape or polarities do not differ, a readout time is not
        positive, an image has no signal or the mask is empty.

    Notes
    -----
    The field is taken to move with the limb. A shift of the limb along phase encoding
    between images of opposite polarity looks like a constant field: it is not estimated,
    and half of it displaces the corrected images as a whole. Fat, whose resonance is
    elsewhere, is told from water only by being outlying: where it lies over muscle without
    other edges, a part of its shift goes into the field.

    References
    ----------
    Andersson JLR, Skare S, Ashburner J. NeuroImage 2003;20:870-888.
    doi:10.1016/S1053-8119(03)00336-7
    Ruthotto L, Kugel H, Olesch J, Fischer B, Modersitzki J, Burger M, Wolters CH. Phys Med
    Biol 2012;57:5715-5731. doi:10.1088/0031-9155/57/18/5715

    Examples
    --------
    A ball that a constant field of 20 Hz has moved by one voxel, up and down:

    >>> x = np.indices((24, 24, 8)) - np.array([12, 12, 4]).reshape(3, 1, 1, 1)
    >>> ball = 100 / (1 + np.exp(2 * (np.sqrt((x**2 * 1.0).sum(0)) - 6)))
    >>> pair = np.stack([np.roll(ball, 1, axis=1), np.roll(ball, -1, axis=1)], axis=-1)
    >>> found = estimate_field(pair, 1, [1, -1], 0.05, (2.0, 2, 2))
    >>> float(found.field_hz[12, 12, 4].round()), found.improved
    (20.0, True)
    """
    options = options or SusceptibilityOptions()
    series = _stacked(images)
    n = len(series)
    sign = np.asarray(pe_sign, dtype=np.float64)
    size = np.asarray(voxel_mm, dtype=np.float64)
    readout = np.asarray(readout_s, dtype=np.float64)
    readout = np.broadcast_to(readout, (n,)) if readout.ndim == 0 else readout
    _check(series, pe_axis, sign, readout, size)
    limb = limb_mask(series.mean(axis=0)) if mask is None else np.asarray(mask, dtype=np.bool_)
    if limb.shape != series.shape[1:] or not limb.any():
        raise ValueError(f"The mask {limb.shape} must be {series.shape[1:]} and not empty.")
    if not all(volume[limb].any() for volume in series):
        raise ValueError("An image has no signal inside the mask.")
    longest = float(readout.max())
    estimation = Estimation(
        series, sign * readout / longest, longest, size, pe_axis, limb,
        options.roughness_hz, options.knot_mm, options.rigid,
    )  # fmt: skip
    displacement, state, moved = estimation.run()
    field = displacement / longest
    corrected = [
        state.gain[k]
        * apply_field(
            volume[..., None], field, pe_axis, sign[k], readout[k], size, state.rigid[k : k + 1]
        )[..., 0]
        for k, volume in enumerate(series)
    ]
    before, after = _agreement(series, limb), _agreement(np.stack(corrected), limb)
    if not after > before:
        still = np.repeat(np.eye(4)[None], n, axis=0)
        return FieldResult(
            np.zeros(limb.shape), still, np.ones(n), (before, before), 0.0, False, False
        )
    slope = np.gradient(displacement, axis=pe_axis)[limb]
    folded = 1 - np.abs(slope)[:, None] * (readout / longest) <= 0
    return FieldResult(
        field, state.rigid, state.gain, (before, after), float(folded.any(axis=1).mean()),
        moved <= _CONVERGED_VOXELS, True,
    )  # fmt: skip


def voxel_shift(
    field_hz: Float, pe_axis: int, pe_sign: float, readout_s: float
) -> tuple[Float, NDArray[np.float32]]:
    r"""How far a distorted image shows each voxel from where it is.

    .. math:: y = x + e_\mathrm{pe}\, s T f(x),\quad J = \max(0, 1 + s T\, \partial_\mathrm{pe} f)

    Parameters
    ----------
    field_hz : array, shape (x, y, z)
    pe_axis : {0, 1, 2}
    pe_sign : {1, -1}
    readout_s : float

    Returns
    -------
    shift : array, shape (x, y, z)
        Along phase encoding (voxels).
    jacobian : float32 array, shape (x, y, z)
        To be multiplied with the signal, which the distortion has diluted.

    Examples
    --------
    100 Hz for 20 ms are two voxels; a slope of 10 Hz per voxel dilutes by a fifth:

    >>> shift, jacobian = voxel_shift(np.array([[[0.0], [10], [20]]]), 1, -1, 0.02)
    >>> shift[0, :, 0].round(3).tolist(), jacobian[0, :, 0].astype(float).round(3).tolist()
    ([-0.0, -0.2, -0.4], [0.8, 0.8, 0.8])
    """
    shift = pe_sign * readout_s * np.asarray(field_hz, dtype=np.float64)
    slope = np.gradient(shift, axis=pe_axis) if shift.shape[pe_axis] > 1 else np.zeros_like(shift)
    return shift, np.maximum(1 + slope, 0.0).astype(np.float32)


def apply_field(
    series: Float,
    field_hz: Float,
    pe_axis: int,
    pe_sign: float,
    readout_s: float,
    voxel_mm: ArrayLike | None = None,
    rigid: Float | None = None,
) -> NDArray[np.float32]:
    """Undo the distortion of a series, and its motion, in one interpolation.

    Parameters
    ----------
    series : array, shape (x, y, z, n)
        Images of one polarity and readout; NaN marks voxels without a value.
    field_hz : array, shape (x, y, z)
    pe_axis, pe_sign, readout_s
        As of `voxel_shift`.
    voxel_mm : array, shape (3,), optional
        Needed with `rigid`.
    rigid : array, shape (n, 4, 4), optional
        From the field's frame to each volume, mm about the volume's centre.

    Returns
    -------
    float32 array, shape (x, y, z, n)
        NaN where a volume does not reach.

    Raises
    ------
    ValueError
        If shapes disagree.

    Examples
    --------
    >>> ramp = np.broadcast_to(np.arange(12.0)[:, None, None, None], (12, 3, 3, 1))
    >>> apply_field(ramp, np.full((12, 3, 3), 50.0), 0, 1, 0.02)[3:8, 1, 1, 0].round(4).tolist()
    [4.0, 5.0, 6.0, 7.0, 8.0]
    """
    if series.ndim != 4 or series.shape[:3] != field_hz.shape:
        raise ValueError(f"series {series.shape} is not on the grid of the field {field_hz.shape}.")
    n, grid = series.shape[3], field_hz.shape
    matrices = np.repeat(np.eye(4)[None], n, axis=0)
    if rigid is not None:
        if voxel_mm is None or rigid.shape != (n, 4, 4):
            raise ValueError(f"rigid {rigid.shape} must be ({n}, 4, 4) and come with voxel_mm.")
        to_mm = motion.voxel_to_centred_mm(grid, voxel_mm)
        matrices = np.linalg.inv(to_mm) @ rigid @ to_mm
    shift, jacobian = voxel_shift(field_hz, pe_axis, pe_sign, readout_s)
    still, moved = grid_points(grid), shift.reshape(-1, 1)
    out = np.empty(series.shape, dtype=np.float32)
    for i in range(n):
        # the field displaces along the scanner's axis, after the limb has turned
        along = np.linalg.inv(matrices[i, :3, :3])[:, pe_axis]
        values = warp(series[..., i], still + moved * along, matrices[i, :3], 3)
        out[..., i] = values.reshape(grid) * jacobian
    return out


def _stacked(images: Float | Sequence[Float]) -> NDArray[np.float32]:
    """Return finite images, shape (n, x, y, z)."""
    if isinstance(images, np.ndarray):
        if images.ndim != 4:
            raise ValueError(f"images have shape {images.shape}; (x, y, z, n) is wanted.")
        volumes = list(np.moveaxis(images, -1, 0))
    else:
        volumes = [np.asarray(volume) for volume in images]
    shapes = {volume.shape for volume in volumes}
    if len(shapes) > 1 or any(len(shape) != 3 for shape in shapes):
        raise ValueError(f"Images must share one (x, y, z) matrix, got {sorted(shapes)}.")
    if len(volumes) < 2:
        raise ValueError("Two images of opposite polarity are wanted, got one.")
    stacked = np.stack(volumes).astype(np.float32)
    return np.nan_to_num(stacked, nan=0.0, posinf=0.0, neginf=0.0)


def _check(
    series: NDArray[np.float32], pe_axis: int, sign: Float, readout_s: Float, voxel_mm: Float
) -> None:
    n = len(series)
    if pe_axis not in (0, 1, 2):
        raise ValueError(f"pe_axis is 0, 1 or 2, got {pe_axis}.")
    if sign.shape != (n,) or readout_s.shape != (n,) or not np.isin(sign, (-1, 1)).all():
        raise ValueError(f"pe_sign needs 1 or -1 and readout_s a time for each of {n} images.")
    if not (np.isfinite(readout_s) & (readout_s > 0)).all():
        raise ValueError(f"Readout times must be positive (s), got {readout_s.tolist()}.")
    if len(set(sign)) < 2:
        raise ValueError("All images have the same polarity: they show the same distortion.")
    if voxel_mm.shape != (3,) or not (voxel_mm > 0).all():
        raise ValueError(f"voxel_mm must be three positive sizes, got {voxel_mm.tolist()}.")


def _agreement(images: Float, mask: Mask) -> float:
    """Worst correlation of an image with the mean of the others, where all have values."""
    inside = images[:, mask].astype(np.float64)
    inside = inside[:, np.isfinite(inside).all(axis=0)]
    if inside.shape[1] < 2:
        return 0.0
    inside -= inside.mean(axis=1, keepdims=True)
    others = inside.sum(axis=0) - inside
    size = np.sqrt((inside**2).sum(axis=1) * (others**2).sum(axis=1))
    return float(np.min((inside * others).sum(axis=1) / np.maximum(size, 1e-30)))
