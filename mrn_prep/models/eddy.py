"""Motion and eddy-current correction of a diffusion series, by a model of the series itself.

Volumes of different weighting look too different to be registered to one another. Each
is therefore compared with what a tensor fitted to all others predicts for its gradient
(Andersson and Sotiropoulos 2016), and prediction and registration take turns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models import motion
from mrn_prep.models.eddy_estimate import EddyOptions, Estimation, State
from mrn_prep.models.motion import Float, Mask
from mrn_prep.models.resample import warp
from mrn_prep.models.sampling import Sampling
from mrn_prep.models.status import Reason
from mrn_prep.models.susceptibility import voxel_shift

__all__ = [
    "HALF_SPHERE_IMBALANCE",
    "Distortion",
    "EddyOptions",
    "MotionEddyResult",
    "correct_motion_eddy",
]

HALF_SPHERE_IMBALANCE = 0.25
"""`gradient_imbalance` above which motion and eddy currents are hard to tell apart."""

_CONVERGED_MM = 0.1


@dataclass(frozen=True)
class MotionEddyResult:
    """What `correct_motion_eddy` found, in the frame of `mrn_prep.models.motion`.

    Volumes that were left out (`status` NO_SIGNAL or NON_FINITE) are NaN in all but
    `bvecs`, which keep their input.
    """

    corrected: Float
    """Series on the grid of the reference, float32; NaN where nothing was measured."""
    bvecs: Float
    """Directions in the frame of the reference limb, shape (n, 3)."""
    rigid: Float
    """Reference to volume, mm about the volume's centre, shape (n, 4, 4)."""
    eddy: Float
    """Coefficients of `eddy_basis` (mm per mm^k), shape (n, 4 or 10); (n, 0) without."""
    reference: int
    """The volume that all others are moved to: the first b0."""
    displacement_mm: Float
    """Motion since the reference: mean over the mask, rigid part, shape (n,)."""
    framewise_mm: Float
    """Motion since the usable volume before, likewise; 0 for the first."""
    gain: Float
    """Receive gain relative to the model; reported, not applied."""
    outside_fraction: Float
    """Share of the mask that the volume did not cover."""
    lost_slices: Mask
    """Slices (along the thickest axis) that lost their signal and were not used to align,
    shape (n, n_slices)."""
    status: NDArray[np.uint8]
    """`Reason` per volume: FITTED, NOT_CONVERGED (still going more than 0.1 mm in the last
    round, between states of least motion), NO_SIGNAL, NON_FINITE, or TOO_FEW where a
    series without a tensor's directions left a weighted volume to its neighbouring b0s."""
    whole_sphere: bool
    """False where directions cover half a sphere: eddy terms are then uncertain."""
    improved: bool
    """False where no motion made the volumes agree better: the series is then as it was."""
    sampling: Sampling | None
    """How `corrected` was read from the series; None if it is as it was."""


class Distortion(NamedTuple):
    """How the field displaces a series along phase encoding."""

    field_hz: Float
    """Shape (x, y, z)."""
    pe_axis: int
    pe_sign: int
    readout_s: float


def correct_motion_eddy(
    series: Float,
    b_s_mm2: ArrayLike,
    bvecs: ArrayLike,
    voxel_mm: ArrayLike,
    mask: Mask,
    pe_axis: int | None,
    options: EddyOptions | None = None,
    distortion: Distortion | None = None,
) -> MotionEddyResult:
    r"""Align the volumes of a diffusion series, interpolating once.

    Volume i shows the tissue of reference point x at
    :math:`y = p + e_\mathrm{pe}\sum_k c_{ik}\phi_k(p),\ p = R_i x + t_i`, and
    is corrected to :math:`I_i(y)\,(1 + \partial_\mathrm{pe}\sum_k c_{ik}\phi_k(p))`.

    Parameters
    ----------
    series : array, shape (x, y, z, n)
        Magnitude images.
    b_s_mm2, bvecs : array, shapes (n,) and (n, 3)
        b-values and unit directions along the image axes, x as the voxel index runs
        (undo FSL's flip before, redo it after).
    voxel_mm : array, shape (3,)
    mask : bool array, shape (x, y, z)
        The limb in the reference volume.
    pe_axis : {0, 1, 2} or None
        Image axis of phase encoding; None estimates rigid motion only.
    options : EddyOptions, optional
    distortion : Distortion, optional
        Field of the reference volume, undone in the same interpolation.

    Returns
    -------
    MotionEddyResult

    Raises
    ------
    ValueError
        If shapes disagree, the mask is empty, or no volume is usable.

    Notes
    -----
    What looks like diffusion in every voxel cannot be told from it: of motion and eddy
    currents, that part is chosen by `least_motion`. b0 volumes have no eddy currents
    and anchor the others in time. A series whose volumes do not determine a tensor is moved
    by what its b0 volumes tell, interpolated in time, and nothing else. Neither the motion
    within a volume nor a field that changes with it is modelled.

    References
    ----------
    Andersson JLR, Sotiropoulos SN. NeuroImage 2016;125:1063-1078.
    doi:10.1016/j.neuroimage.2015.10.019
    """
    options = options or EddyOptions()
    b, g = np.asarray(b_s_mm2, dtype=np.float64), np.asarray(bvecs, dtype=np.float64)
    size = np.asarray(voxel_mm, dtype=np.float64)
    _check(series, b, g, size, mask, pe_axis)
    status = _usable(series, mask)
    used = np.flatnonzero(status == Reason.FITTED)
    if not len(used):
        raise ValueError("No volume of the series is finite and has signal inside the mask.")
    estimate = Estimation(series, used, b[used], g[used], size, mask, pe_axis, options)
    state, moved_mm = estimate.run()
    estimate.smooth = np.empty(0)  # makes room for the corrected series
    status[used[moved_mm > _CONVERGED_MM]] = Reason.NOT_CONVERGED
    if not estimate.has_tensor:
        status[used[~estimate.b0]] = Reason.TOO_FEW
    return _result(
        series, g, size, mask, pe_axis, options, status, used, state, estimate, distortion
    )


def _result(
    series: Float,
    g: Float,
    voxel_mm: Float,
    mask: Mask,
    pe_axis: int | None,
    options: EddyOptions,
    status: NDArray[np.uint8],
    used: NDArray[np.intp],
    state: State,
    estimate: Estimation,
    distortion: Distortion | None,
) -> MotionEddyResult:
    """Resample the original volumes once, and put the estimates in the order of the series."""
    n, n_eddy = len(g), estimate.n_eddy
    rigid, eddy = np.full((n, 4, 4), np.nan), np.full((n, n_eddy), np.nan)
    displacement, framewise, gain, outside = np.full((4, n), np.nan)
    rigid[used], eddy[used], gain[used] = state.rigid, state.eddy[:, :n_eddy], state.gain
    displacement[used] = motion.mean_displacement_mm(rigid[used], np.eye(4), estimate.points_mm)
    before = rigid[used[np.maximum(np.arange(len(used)) - 1, 0)]]
    framewise[used] = motion.mean_displacement_mm(rigid[used], before, estimate.points_mm)
    rotated = g.copy()
    rotated[used] = motion.rotate_bvecs(g[used], rigid[used])
    corrected = np.full(series.shape, np.nan, dtype=np.float32)
    to_mm = motion.voxel_to_centred_mm(mask.shape, voxel_mm)
    matrices: Float = np.broadcast_to(np.eye(4), (n, 4, 4))
    curves: Float = np.zeros((n, n_eddy))
    if estimate.improved:
        matrices = np.linalg.inv(to_mm) @ rigid @ to_mm
        curves = motion.eddy_in_voxels(eddy, voxel_mm, pe_axis)
    shift, density = None, np.ones((), np.float32)
    axis = 0 if distortion is None else distortion.pe_axis
    if distortion is not None:
        shift, density = voxel_shift(*distortion)
    sampling = Sampling(matrices[:, :3], curves, pe_axis or 0, shift, axis)
    resampled = estimate.improved or distortion is not None
    voxels = sampling.points(mask.shape)
    for i in used:
        corrected[..., i] = series[..., i]
        if resampled:
            values = warp(series[..., i], voxels, matrices[i, :3], 3, curves[i], pe_axis or 0)
            corrected[..., i] = values.reshape(mask.shape) * density
        outside[i] = 1 - np.isfinite(corrected[..., i][mask]).mean()
    lost = np.zeros((n, mask.shape[int(np.argmax(voxel_mm))]), dtype=np.bool_)
    within = slice(estimate.first_slice, estimate.first_slice + estimate.lost.shape[1])
    lost[used, within] = estimate.lost
    imbalance = motion.gradient_imbalance(estimate.g[~estimate.b0], estimate.b[~estimate.b0])
    return MotionEddyResult(
        corrected, rotated, rigid, eddy, int(used[estimate.reference]), displacement, framewise,
        gain, outside, lost, status, imbalance <= HALF_SPHERE_IMBALANCE, estimate.improved,
        sampling if resampled else None,
    )  # fmt: skip


def _usable(series: Float, mask: Mask) -> NDArray[np.uint8]:
    """FITTED (so far) for volumes that can take part, else the reason."""
    status = np.full(series.shape[-1], Reason.FITTED, dtype=np.uint8)
    for i in range(len(status)):
        inside = series[..., i][mask]
        if not np.isfinite(inside).all():
            status[i] = Reason.NON_FINITE
        elif not inside.any():
            status[i] = Reason.NO_SIGNAL
    return status


def _check(
    series: Float, b: Float, g: Float, voxel_mm: Float, mask: Mask, pe_axis: int | None
) -> None:
    """Raise on arguments that do not belong together."""
    n = series.shape[-1]
    if series.ndim != 4 or b.shape != (n,) or g.shape != (n, 3) or mask.shape != series.shape[:3]:
        raise ValueError(
            f"series {series.shape}, b_s_mm2 {b.shape}, bvecs {g.shape} and mask {mask.shape} "
            "must be (x, y, z, n), (n,), (n, 3) and (x, y, z)."
        )
    if voxel_mm.shape != (3,) or not (voxel_mm > 0).all():
        raise ValueError(f"voxel_mm must be three positive sizes, got {voxel_mm.tolist()}.")
    if pe_axis not in (None, 0, 1, 2):
        raise ValueError(f"pe_axis is 0, 1, 2 or None, got {pe_axis}.")
    if not mask.any():
        raise ValueError("The mask is empty: there is no limb to align.")
