"""Motion and eddy-current correction of a diffusion series, by a model of the series itself.

Volumes of different weighting look too different to be registered to one another. Each
is therefore compared with what a tensor fitted to all others predicts for its gradient
(Andersson and Sotiropoulos 2016), and prediction and registration take turns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from mrn_prep.models import motion
from mrn_prep.models.eddy_steps import (
    Region,
    gauss_newton,
    least_motion,
    log_design,
    predict_from_others,
    region_of,
    without_tensor_part,
)
from mrn_prep.models.motion import N_LINEAR, N_QUADRATIC, Float, Mask
from mrn_prep.models.resample import grid_points, sample, warp
from mrn_prep.models.status import Reason

HALF_SPHERE_IMBALANCE = 0.25
"""`gradient_imbalance` above which motion and eddy currents are hard to tell apart."""

_MARGIN_MM = 20.0  # of the images kept around the mask: the largest motion that can be met
_CONVERGED_MM = 0.1
# blur relative to the finest, every so many voxels, iterations, eddy terms at most
_PLAN = ((2.0, 2, 4, N_LINEAR), (1.0, 2, 5, N_LINEAR), (1.0, 1, 3, N_QUADRATIC))
_FEWEST_TO_CHOOSE = 12  # weighted volumes that `least_motion` wants for its 9 unknowns


@dataclass(frozen=True, kw_only=True)
class EddyOptions:
    """What may be chosen about `correct_motion_eddy`."""

    quadratic: bool = True
    """Eddy field with second-order terms, else linear."""
    smooth_mm: float = 3.0
    """Smoothing while registering (SD); at least one voxel in plane."""
    b0_max_s_mm2: float = 50.0
    """Volumes up to here (above the series' smallest b) are anchors without eddy currents."""


@dataclass(frozen=True)
class MotionEddyResult:
    """What `correct_motion_eddy` found, in the frame of `mrn_prep.models.motion`.

    Volumes that were left out (`status` not FITTED or NOT_CONVERGED) are NaN in all but
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
    status: NDArray[np.uint8]
    """`Reason` per volume: FITTED, NOT_CONVERGED, NO_SIGNAL, NON_FINITE."""
    whole_sphere: bool
    """False where directions cover half a sphere: eddy terms are then uncertain."""


def correct_motion_eddy(
    series: Float,
    b_s_mm2: ArrayLike,
    bvecs: ArrayLike,
    voxel_mm: ArrayLike,
    mask: Mask,
    pe_axis: int | None,
    options: EddyOptions | None = None,
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
    and anchor the others in time. Neither the motion within a volume nor susceptibility
    is modelled.

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
    estimate = _Estimation(series, used, b[used], g[used], size, mask, pe_axis, options)
    state, moved_mm = estimate.run()
    status[used[moved_mm > _CONVERGED_MM]] = Reason.NOT_CONVERGED
    return _result(series, g, size, mask, pe_axis, options, status, used, state, estimate)


@dataclass(frozen=True)
class _State:
    """Transforms of the usable volumes and how their intensities differ."""

    rotation: Float
    translation_mm: Float
    eddy: Float
    gain: Float
    offset: Float
    noise: Float

    @classmethod
    def still(cls, n: int) -> _State:
        eye, zero = np.repeat(np.eye(3)[None], n, axis=0), np.zeros(n)
        # infinite noise: no residual is outlying before there was a prediction
        noise = np.full(n, np.inf)
        return cls(eye, np.zeros((n, 3)), np.zeros((n, N_QUADRATIC)), zero + 1, zero, noise)

    @property
    def rigid(self) -> Float:
        matrix = np.zeros((len(self.rotation), 4, 4))
        matrix[:, :3, :3], matrix[:, :3, 3] = self.rotation, self.translation_mm
        matrix[:, 3, 3] = 1
        return matrix


class _Estimation:
    """Registration of the usable volumes, within a box around the mask."""

    def __init__(
        self,
        series: Float,
        used: NDArray[np.intp],
        b: Float,
        g: Float,
        voxel_mm: Float,
        mask: Mask,
        pe_axis: int | None,
        options: EddyOptions,
    ) -> None:
        self.b, self.g, self.voxel_mm, self.pe_axis = b, g, voxel_mm, pe_axis
        self.b0 = b <= b.min() + options.b0_max_s_mm2
        self.reference = int(np.flatnonzero(self.b0)[0])
        self.n_eddy = 0 if pe_axis is None else N_QUADRATIC if options.quadratic else N_LINEAR
        self.fine_mm = max(options.smooth_mm, float(np.sort(voxel_mm)[1]))

        box, inner = _box(mask, voxel_mm)
        self.volumes = [
            np.nan_to_num(np.asarray(series[(*box, i)], dtype=np.float32), posinf=0, neginf=0)
            for i in used
        ]
        origin = np.array([s.start for s in box])
        self.to_mm = motion.voxel_to_centred_mm(mask.shape, voxel_mm)
        self.to_mm[:3, 3] += voxel_mm * origin
        self.centre = (np.array(mask.shape) - 1) / 2 - origin
        self.region, self.compared, self.in_mask = _regions(inner, self.to_mm, mask.shape, origin)
        points_mm = self.region.points_mm[self.in_mask].astype(np.float64)
        self.points_mm = points_mm[:: 1 + len(points_mm) // 5000]
        self.smooth: Float = np.empty(0)
        self.floor = 0.0

    def run(self) -> tuple[_State, Float]:
        """Coarse to fine; return the state and the last step's displacement (mm)."""
        state = _State.still(len(self.b))
        self._smooth(2 * self.fine_mm)
        every = self._every(4)
        anchors = np.flatnonzero(self.b0 & (np.arange(len(self.b)) != self.reference))
        for _ in range(8 if len(anchors) else 0):
            state, _step = self._register(state, self._reference_image(state), anchors, every, 0)
        state = self._between_anchors(state)
        others = np.flatnonzero(np.arange(len(self.b)) != self.reference)
        last = np.zeros(len(self.b))
        for blur, stride, iterations, n_eddy in _PLAN:
            self._smooth(blur * self.fine_mm)
            every = self._every(stride)
            for _ in range(iterations):
                state, last = self._iterate(state, others, every, min(n_eddy, self.n_eddy))
        # the choice changes nothing that images show; two rounds settle second-order effects
        state = self._choose(state)
        for _ in range(2):
            state, last = self._iterate(state, others, every, self.n_eddy)
        return self._choose(state), last

    def _smooth(self, sigma_mm: float) -> None:
        # the spline without its prefilter smooths by 1/3 voxel² already
        sigma = np.sqrt(np.maximum((sigma_mm / self.voxel_mm) ** 2 - 1 / 3, 0.0))
        # blurring a stack of few slices along them would leave nothing to hold on to
        sigma = np.minimum(sigma, np.array(self.volumes[0].shape) / 12)
        self.order = 3 if sigma_mm == self.fine_mm else 1
        self.smooth = np.stack(
            [ndimage.gaussian_filter(v, sigma, mode="nearest", truncate=3) for v in self.volumes]
        )
        voxels = self.region.voxels[self.in_mask].astype(int)
        inside = self.smooth[(self.reference, *voxels.T)]
        self.floor = 0.02 * float(np.median(inside[inside > 0]))

    def _every(self, stride: int) -> Mask:
        """Voxels compared at a coarse level: every so many along the two finest axes."""
        chosen = self.compared.copy()
        for axis in np.argsort(self.voxel_mm, kind="stable")[:2]:
            chosen &= self.region.voxels[:, axis] % stride == 0
        return chosen if chosen.sum() > 500 else self.compared

    def _observe(self, state: _State) -> Float:
        matrices = np.linalg.inv(self.to_mm) @ state.rigid @ self.to_mm
        return sample(
            self.smooth, self.region.voxels, matrices[:, :3], self.order,
            eddy=motion.eddy_in_voxels(state.eddy, self.voxel_mm, self.pe_axis),
            pe_axis=self.pe_axis or 0, centre=self.centre,
        )  # fmt: skip

    def _reference_image(self, state: _State) -> Float:
        observed = self._observe(state)
        image = np.nan_to_num(observed[self.reference])
        return np.stack([observed, np.broadcast_to(image, observed.shape)])

    def _between_anchors(self, state: _State) -> _State:
        """Start the other volumes where b0 volumes before and after them were."""
        at, every = np.flatnonzero(self.b0), np.arange(len(self.b))
        vectors = motion.rotation_vector(state.rotation[at])
        rigid = np.concatenate([vectors, state.translation_mm[at]], axis=1)
        path = np.stack([np.interp(every, at, column) for column in rigid.T], axis=1)
        start = _State.still(len(every))
        return replace(
            start, rotation=motion.rotation_matrix(path[:, :3]), translation_mm=path[:, 3:]
        )

    def _design(self, state: _State) -> Float:
        return log_design(self.b, motion.rotate_bvecs(self.g, state.rigid))

    def _iterate(
        self, state: _State, others: NDArray[np.intp], every: Mask, n_eddy: int
    ) -> tuple[_State, Float]:
        """Predict each volume from all others and move it towards its prediction."""
        observed = self._observe(state)
        design = self._design(state)
        reference = np.nan_to_num(observed[self.reference], nan=self.floor)
        usable = np.where(np.isfinite(observed), observed, reference) / state.gain[:, None]
        logs = np.log(np.maximum(usable, np.float32(self.floor))).astype(np.float32)
        weights = np.exp(2 * logs[:, self.in_mask].mean(axis=1))
        predicted = np.exp(predict_from_others(logs, design, weights / weights.max()))
        images = np.stack([observed, predicted])
        weighted, anchors = others[~self.b0[others]], others[self.b0[others]]
        state, moved = self._register(state, images, weighted, every, n_eddy)
        state, moved_b0 = self._register(state, images, anchors, every, 0)
        # a pattern of gains that looks like diffusion is none of the receiver's doing
        gain = np.log(np.clip(state.gain, 0.2, 5.0))
        gain = np.exp(without_tensor_part(gain, design))
        return replace(state, gain=gain), moved + moved_b0

    def _register(
        self, state: _State, images: Float, which: NDArray[np.intp], every: Mask, n_eddy: int
    ) -> tuple[_State, Float]:
        """One Gauss-Newton step of some volumes; also how far it moved them (mm)."""
        moved = np.zeros(len(self.b))
        if not len(which):
            return state, moved
        step = gauss_newton(
            np.ascontiguousarray(images[1][which]), np.ascontiguousarray(images[0][which]),
            self.region, every, state.rotation[which], state.translation_mm[which],
            state.gain[which], state.offset[which], state.noise[which], self.pe_axis, n_eddy,
        )  # fmt: skip
        new = {name: getattr(state, name).copy() for name in state.__dataclass_fields__}
        new["rotation"][which] = motion.rotation_matrix(step.rotation_rad) @ new["rotation"][which]
        new["translation_mm"][which] += step.translation_mm
        new["eddy"][which] += step.eddy
        new["gain"][which], new["offset"][which] = step.gain, step.offset
        new["noise"][which] = np.maximum(step.noise, 1e-6 * self.floor)
        after = _State(**new)
        moved[which] = motion.mean_displacement_mm(
            after.rigid[which], state.rigid[which], self.points_mm
        )
        return after, moved

    def _choose(self, state: _State) -> _State:
        design = self._design(state)[:, :-1] * ~self.b0[:, None]
        if design.shape[1] < 6 or (~self.b0).sum() < _FEWEST_TO_CHOOSE:
            return state
        strength = np.sqrt(self.b / self.b.max()) * ~self.b0
        rotation, translation, eddy = least_motion(
            state.rotation, state.translation_mm, state.eddy, design,
            self.g * strength[:, None], self.points_mm, self.pe_axis,
        )  # fmt: skip
        return replace(state, rotation=rotation, translation_mm=translation, eddy=eddy)


def _regions(
    inner: Mask, to_mm: Float, shape: tuple[int, ...], origin: Float
) -> tuple[Region, Mask, Mask]:
    """Voxels predicted (two beyond the mask), compared (one beyond), and in the mask."""
    region_mask = ndimage.binary_dilation(inner, iterations=2)
    near = ndimage.binary_dilation(inner, iterations=1)
    region = region_of(region_mask, to_mm)
    compared = near[region_mask]
    for axis, length in enumerate(shape):
        if length >= 6:
            # outermost slices were smoothed with mirrored data, which does not move along
            index = region.voxels[:, axis] + origin[axis]
            compared &= (index >= 1) & (index <= length - 2)
    return region, compared, inner[region_mask]


def _box(mask: Mask, voxel_mm: Float) -> tuple[tuple[slice, ...], Mask]:
    """Slices around the mask with a margin, and the mask within."""
    margin = np.ceil(_MARGIN_MM / voxel_mm).astype(int)
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    box = tuple(
        slice(max(0, s.start - m), min(length, s.stop + m))
        for s, m, length in zip(found, margin, mask.shape, strict=True)
    )
    return box, mask[box]


def _result(
    series: Float,
    g: Float,
    voxel_mm: Float,
    mask: Mask,
    pe_axis: int | None,
    options: EddyOptions,
    status: NDArray[np.uint8],
    used: NDArray[np.intp],
    state: _State,
    estimate: _Estimation,
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
    voxels = grid_points(mask.shape)
    for i in used:
        matrix = np.linalg.inv(to_mm) @ rigid[i] @ to_mm
        curve = motion.eddy_in_voxels(eddy[i], voxel_mm, pe_axis)
        values = warp(series[..., i], voxels, matrix[:3], 3, curve, pe_axis or 0)
        corrected[..., i] = values.reshape(mask.shape)
        outside[i] = 1 - np.isfinite(corrected[..., i][mask]).mean()
    imbalance = motion.gradient_imbalance(estimate.g[~estimate.b0], estimate.b[~estimate.b0])
    return MotionEddyResult(
        corrected, rotated, rigid, eddy, int(used[estimate.reference]), displacement, framewise,
        gain, outside, status, imbalance <= HALF_SPHERE_IMBALANCE,
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
