"""Coarse-to-fine estimation of motion and eddy currents: prediction and registration in turns."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrn_prep.models import motion
from mrn_prep.models.eddy_register import Region, gauss_newton, region_of
from mrn_prep.models.eddy_steps import (
    least_motion,
    log_design,
    lost_slices,
    predict_from_others,
    without_tensor_part,
)
from mrn_prep.models.motion import N_LINEAR, N_QUADRATIC, Float, Mask
from mrn_prep.models.resample import sample

_MARGIN_MM = 20.0  # of the images kept around the mask: the largest motion that can be met
# blur relative to the finest, every so many voxels, iterations, eddy terms at most
_PLAN = ((2.0, 2, 4, N_LINEAR), (1.0, 2, 5, N_LINEAR), (1.0, 1, 3, N_QUADRATIC))
_MOST_ROUNDS, _SETTLED_MM = 6, 0.05  # of prediction and registration after the plan
_SHRINKAGE = 0.01  # of weighted volumes; b0s have no eddy field to confuse motion with
_CHUNK = 16384  # voxels predicted at a time, which bounds the memory
_ALL = slice(None)
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
class State:
    """Transforms of the usable volumes and how their intensities differ."""

    rotation: Float
    translation_mm: Float
    eddy: Float
    gain: Float
    offset: Float
    noise: Float

    @classmethod
    def still(cls, n: int) -> State:
        """Nothing has moved."""
        eye, zero = np.repeat(np.eye(3)[None], n, axis=0), np.zeros(n)
        # infinite noise: no residual is outlying before there was a prediction
        noise = np.full(n, np.inf)
        return cls(eye, np.zeros((n, 3)), np.zeros((n, N_QUADRATIC)), zero + 1, zero, noise)

    @property
    def rigid(self) -> Float:
        """Homogeneous matrices, shape (n, 4, 4)."""
        matrix = np.zeros((len(self.rotation), 4, 4))
        matrix[:, :3, :3], matrix[:, :3, 3] = self.rotation, self.translation_mm
        matrix[:, 3, 3] = 1
        return matrix


class Estimation:
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
        self.has_tensor = log_design(b, g).shape[1] == 7
        self.fine_mm = max(options.smooth_mm, float(np.sort(voxel_mm)[1]))

        box, inner = _box(mask, voxel_mm)
        self.series, self.used, self.box = series, used, box
        self.shape = inner.shape
        origin = np.array([s.start for s in box])
        self.to_mm: Float = motion.voxel_to_centred_mm(mask.shape, voxel_mm)
        self.to_mm[:3, 3] += voxel_mm * origin
        self.centre = (np.array(mask.shape) - 1) / 2 - origin
        self.region, self.compared, self.in_mask = _regions(inner, self.to_mm, mask.shape, origin)
        points_mm = self.region.points_mm[self.in_mask].astype(np.float64)
        self.points_mm = points_mm[:: 1 + len(points_mm) // 5000]
        self.thick = int(np.argmax(voxel_mm))
        self.slice_index = self.region.voxels[:, self.thick].astype(np.intp)
        self.first_slice = int(origin[self.thick])
        self.lost = self._find_lost_slices(inner)
        self.smooth: Float = np.empty((len(used), *self.shape), dtype=np.float32)
        self.improved = True
        self.order = 3
        self.floor = 0.0

    def run(self) -> tuple[State, Float]:
        """Coarse to fine; return the state and how far its volumes last went (mm)."""
        state = State.still(len(self.b))
        last: Float = np.zeros(len(self.b))
        self._smooth(2 * self.fine_mm)
        anchors = np.flatnonzero(self.b0 & (np.arange(len(self.b)) != self.reference))
        for _ in range(8 if len(anchors) else 0):
            state, last = self._to_reference(state, anchors, self._every(4))
        if not self.has_tensor:
            self._smooth(self.fine_mm, order=3)
            for _ in range(6 if len(anchors) else 0):
                state, last = self._to_reference(state, anchors, self.compared)
            return self._between_anchors(state), last
        state = self._between_anchors(state)
        others = np.flatnonzero(np.arange(len(self.b)) != self.reference)
        for blur, stride, iterations, n_eddy in _PLAN:
            self._smooth(blur * self.fine_mm, order=3 if stride == 1 else 1)
            every = self._every(stride)
            for _ in range(iterations):
                state, last = self._iterate(state, others, every, min(n_eddy, self.n_eddy))
        return self._unless_worse(*self._settle(state, others))

    def _settle(self, state: State, others: NDArray[np.intp]) -> tuple[State, Float]:
        """Go on while each round changes less than the one before; return the last change (mm).

        What is chosen changes nothing that images show to first order, and rounds settle the
        rest. Only states that were chosen are compared: what a round moves along what images do
        not show, the next choice takes back. Where directions are few, rounds do not converge.
        """
        chosen = state = self._choose(state)
        moved: Float = np.full(len(self.b), np.inf)
        for _ in range(_MOST_ROUNDS):
            state, _ = self._iterate(state, others, self.compared, self.n_eddy)
            after = self._choose(state)
            change = self._between(chosen, after)
            if change.max() >= moved.max():
                break
            chosen, moved = after, change
            if moved.max() < _SETTLED_MM:
                break
        return chosen, moved

    def _between(self, before: State, after: State) -> Float:
        """Return how far the points of the limb are shown apart by two states (mm)."""
        points = self.points_mm[::5]

        def shown(state: State, i: int) -> Float:
            eddy = state.eddy[i, : self.n_eddy]
            return motion.displaced(points, state.rigid[i], eddy, self.pe_axis)

        apart = [shown(after, i) - shown(before, i) for i in range(len(self.b))]
        mean: Float = np.linalg.norm(np.stack(apart), axis=-1).mean(axis=-1)
        return mean

    def _unless_worse(self, state: State, last: Float) -> tuple[State, Float]:
        """Leave everything where it was unless that made the volumes agree better."""
        still = State.still(len(self.b))
        self.improved = self._disagreement(state) < self._disagreement(still)
        return (state, last) if self.improved else (still, np.zeros(len(self.b)))

    def _disagreement(self, state: State) -> float:
        """Return what no tensor explains of the smoothed images (root mean square)."""
        observed, design = self._observe(state), self._design(state)
        hat = design @ np.linalg.pinv(design)
        squares = 0.0
        for start in range(0, observed.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            seen = np.nan_to_num(observed[:, part][:, self.compared[part]])
            signal = np.maximum(seen, np.float32(self.floor))
            logs = np.log(signal)
            squares += float((((logs - hat @ logs) * signal) ** 2).sum())
        return float(np.sqrt(squares / (len(observed) * self.compared.sum())))

    def _volume(self, i: int) -> Float:
        """Return a usable volume within the box, 0 where it is not finite."""
        volume = np.array(self.series[(*self.box, self.used[i])], dtype=np.float32)
        volume[~np.isfinite(volume)] = 0.0
        return volume

    def _bridged(self, i: int) -> Float:
        """Put the neighbours' mean where a slice is lost, lest smoothing spread the loss."""
        volume = self._volume(i)
        stack, kept = np.moveaxis(volume, self.thick, 0), np.flatnonzero(~self.lost[i])
        for k in np.flatnonzero(self.lost[i]):
            below, above = kept[kept < k][-1:], kept[kept > k][:1]
            stack[k] = stack[np.concatenate([below, above])].mean(axis=0)
        return volume

    def _find_lost_slices(self, inner: Mask) -> Mask:
        across = tuple(axis for axis in range(3) if axis != self.thick)
        count = inner.sum(axis=across)
        volumes = range(len(self.b))
        profile = np.stack([(self._volume(i) * inner).sum(axis=across) for i in volumes])
        # a slice with few voxels of the mask says little
        profile = np.where(count > 0.1 * count.max(), profile / np.maximum(count, 1), np.nan)
        if not self.has_tensor:
            return np.zeros(profile.shape, dtype=np.bool_)
        return lost_slices(profile, log_design(self.b, self.g))

    def _smooth(self, sigma_mm: float, order: int = 1) -> None:
        # the spline without its prefilter smooths by 1/3 voxel² already
        sigma = np.sqrt(np.maximum((sigma_mm / self.voxel_mm) ** 2 - 1 / 3 * (order == 3), 0.0))
        # blurring a stack of few slices along them would leave nothing to hold on to
        sigma = np.minimum(sigma, np.array(self.shape) / 12)
        self.order = order
        for i, smooth in enumerate(self.smooth):
            ndimage.gaussian_filter(
                self._bridged(i), sigma, mode="nearest", truncate=3, output=smooth
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

    def _observe(self, state: State, which: slice | NDArray[np.intp] = _ALL) -> Float:
        matrices = np.linalg.inv(self.to_mm) @ state.rigid[which] @ self.to_mm
        return sample(
            self.smooth[which], self.region.voxels, matrices[:, :3], self.order,
            eddy=motion.eddy_in_voxels(state.eddy[which], self.voxel_mm, self.pe_axis),
            pe_axis=self.pe_axis or 0, centre=self.centre,
        )  # fmt: skip

    def _to_reference(
        self, state: State, which: NDArray[np.intp], every: Mask
    ) -> tuple[State, Float]:
        """Move volumes that look like the reference towards it."""
        image = np.nan_to_num(self._observe(state, np.array([self.reference])))
        predicted = image.repeat(len(which), axis=0)
        rows = np.arange(len(which))
        observed = self._observe(state, which)
        return self._register(state, observed, predicted, rows, which, every, 0)

    def _between_anchors(self, state: State) -> State:
        """Start the other volumes where b0 volumes before and after them were."""
        at, every = np.flatnonzero(self.b0), np.arange(len(self.b))
        vectors = motion.rotation_vector(state.rotation[at])
        rigid = np.concatenate([vectors, state.translation_mm[at]], axis=1)
        path = np.stack([np.interp(every, at, column) for column in rigid.T], axis=1)
        start = State.still(len(every))
        return replace(
            start, rotation=motion.rotation_matrix(path[:, :3]), translation_mm=path[:, 3:]
        )

    def _design(self, state: State) -> Float:
        return log_design(self.b, motion.rotate_bvecs(self.g, state.rigid))

    def _iterate(
        self, state: State, others: NDArray[np.intp], every: Mask, n_eddy: int
    ) -> tuple[State, Float]:
        """Predict each volume from all others and move it towards its prediction."""
        observed = self._observe(state)
        design = self._design(state)
        weights = self._weights(observed, state)
        predicted = np.empty_like(observed)
        for start in range(0, observed.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            predicted[:, part] = self._predict(observed, part, state, design, weights)
        if self.lost.any():
            observed[self.lost[:, self.slice_index]] = np.nan
        weighted, anchors = others[~self.b0[others]], others[self.b0[others]]
        state, moved = self._register(
            state, observed, predicted, weighted, weighted, every, n_eddy, _SHRINKAGE
        )
        state, moved_b0 = self._register(state, observed, predicted, anchors, anchors, every, 0)
        # a pattern of gains that looks like diffusion is none of the receiver's doing
        gain = np.log(np.clip(state.gain, 0.2, 5.0))
        gain = np.exp(without_tensor_part(gain, design))
        return replace(state, gain=gain), moved + moved_b0

    def _logs(self, observed: Float, part: slice | NDArray[np.intp], state: State) -> Float:
        """Logarithms of the signal in some voxels; the reference's where there is none."""
        seen = observed[:, part]
        reference = np.nan_to_num(seen[self.reference], nan=self.floor)
        usable = np.where(np.isfinite(seen), seen, reference) / state.gain[:, None]
        logs: Float = np.log(np.maximum(usable, np.float32(self.floor))).astype(np.float32)
        return logs

    def _weights(self, observed: Float, state: State) -> Float:
        """Weights of the volumes in a fit to logarithms, from their mean in the mask."""
        few = np.flatnonzero(self.in_mask)
        mean = self._logs(observed, few[:: 1 + len(few) // 20000], state).mean(axis=1)
        weights: Float = np.exp(2.0 * (mean - mean.max()))
        return weights

    def _predict(
        self, observed: Float, part: slice, state: State, design: Float, weights: Float
    ) -> Float:
        """Signal of some voxels as all other volumes predict it."""
        logs = self._logs(observed, part, state)
        predicted = predict_from_others(logs, design, weights)
        if self.lost.any():
            gone = self.lost[:, self.slice_index[part]]
            for _ in range(4):  # each round the loss spreads less into the other volumes
                logs = np.where(gone, predicted, logs)
                predicted = predict_from_others(logs, design, weights)
        return np.exp(predicted)

    def _register(
        self,
        state: State,
        observed: Float,
        predicted: Float,
        rows: NDArray[np.intp],
        which: NDArray[np.intp],
        every: Mask,
        n_eddy: int,
        shrinkage: float = 0.0,
    ) -> tuple[State, Float]:
        """One Gauss-Newton step of some volumes (given in these rows), and its length (mm)."""
        moved: Float = np.zeros(len(self.b))
        if not len(which):
            return state, moved
        step = gauss_newton(
            predicted, observed, rows,
            self.region, every, state.rotation[which], state.translation_mm[which],
            state.eddy[which], state.gain[which], state.offset[which], state.noise[which],
            self.pe_axis, n_eddy, shrinkage,
        )  # fmt: skip
        new = {name: getattr(state, name).copy() for name in state.__dataclass_fields__}
        new["rotation"][which] = motion.rotation_matrix(step.rotation_rad) @ new["rotation"][which]
        new["translation_mm"][which] += step.translation_mm
        new["eddy"][which] += step.eddy
        new["gain"][which], new["offset"][which] = step.gain, step.offset
        new["noise"][which] = np.maximum(step.noise, 1e-6 * self.floor)
        after = State(**new)
        moved[which] = motion.mean_displacement_mm(
            after.rigid[which], state.rigid[which], self.points_mm
        )
        return after, moved

    def _choose(self, state: State) -> State:
        if (~self.b0).sum() < _FEWEST_TO_CHOOSE:
            return state
        design = self._design(state)[:, :-1] * ~self.b0[:, None]
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
