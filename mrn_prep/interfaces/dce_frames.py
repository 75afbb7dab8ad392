"""Nipype face of what a dynamic series needs first: frames in one place, and its baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, isdefined, traits
from numpy.typing import NDArray

from mrn_prep.errors import BadDataError
from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.io.images import array, load, voxel_mm
from mrn_prep.io.tables import frame, write_table
from mrn_prep.models.align import align_series
from mrn_prep.models.dce_semi import measure_enhancement
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.motion import voxel_to_centred_mm
from mrn_prep.models.noise import sigma_from_background
from mrn_prep.models.resample import grid_points, warp
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

MIN_BASELINE = 2
"""Frames that must come before contrast."""

_MIN_RISE = 0.02  # of the baseline: less is drift
_UNSTEADY_SIGMA = 5.0  # by which a first frame must be brighter to be left out
_EARLY_SHARE = 0.01  # of the limb: the voxels that enhance most, which are vessels
_MIN_EARLY = 30
_UNSTEADY_SPREAD = 3.0  # of the median spread of the baseline
_SPARE_FRAMES = 4  # with so many, the last before the rise is left out
_NOISE_FRAMES = 3  # of the raw series, in whose air the noise is found
_LARGEST_MM = 2.0  # voxels on which motion is found ...
_ENOUGH_VOXELS = 50_000  # ... of which the limb has to have so many
_MANY_LOST = 0.1  # of the frames
_PASSES = 3  # each with the baseline that the one before found
_SAME_FRAME = 1e-6  # of a frame
_MIN_SPREAD_FRAMES = 5  # for the noise from the spread of the baseline


class _FramesInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="dynamic series")
    t_s = traits.List(traits.Float(), mandatory=True, desc="onsets of the frames (s)")
    injection_s = traits.Float(desc="start of the injection (s), where it was told")
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


class _RegisterInputSpec(_FramesInputSpec):
    before = traits.Dict(desc="facts of the step before, which are told with one's own")


class _RegisterOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="series in one place")
    confounds = File(exists=True, desc="rigid motion of each frame")


class RegisterFrames(MapInterface):
    """Bring all frames to the place of their mean before contrast, by rigid motion."""

    input_spec = _RegisterInputSpec
    output_spec = _RegisterOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        signal, size = array(image), voxel_mm(image)
        mask = limb_mask(np.mean(signal, axis=-1, dtype=np.float64))
        curve = limb_curve(signal, mask)
        first, end = baseline_of(curve, self.inputs.t_s, _told(self.inputs))
        # the frames before contrast are brought to the middle one, or their mean would be blurred
        threads = {"n_threads": self.inputs.n_threads}
        middle = signal[..., (first + end) // 2]
        before = _to_reference(signal[..., first:end], middle, size, **threads)
        reference = _mean(before.series)
        motion = _to_reference(signal, reference, size, **threads)
        changes = [100 * frame_change(s, limb_mask(reference)) for s in (signal, motion.series)]
        del signal, before
        self.write(runtime, image, out_file=motion.series)
        table = frame(_rows(motion), "confounds")
        path = Path(runtime.cwd) / "confounds.tsv"
        self._results["confounds"] = str(write_table(table, path, "confounds"))
        mean_step = float(motion.framewise_mm[1:].mean())
        lost = ~motion.registered
        self.tell(
            quality={
                "displacement_mean": float(np.nanmean(motion.displacement_mm)),
                "displacement_max": float(np.nanmax(motion.displacement_mm)),
                "framewise_displacement_mean": mean_step,
                "n_not_registered": float(lost.sum()),
                "frame_change_before": changes[0],
                "frame_change_after": changes[1],
            },
            flags=["motion"] * (mean_step > 0.5 * min(size))
            + ["frames-not-registered"] * bool(lost.mean() > _MANY_LOST),
            method="frames registered rigidly to those before contrast",
        )
        return runtime


class _BaselineInputSpec(_FramesInputSpec):
    raw_file = File(exists=True, mandatory=True, desc="series as acquired, for its noise")
    noise = traits.Float(desc="that noise, where the step before has measured it")
    before = traits.Dict(desc="facts of the step before, which are told with one's own")


class _BaselineOutputSpec(FactsOutputSpec):
    mask = File(exists=True, desc="the limb")
    baseline = traits.List(traits.Int(), desc="first frame and end of the baseline")
    sigma = traits.Float(desc="noise of each channel; 0 where unknown")


class FindBaseline(MapInterface):
    """Find the limb, the frames before contrast and the noise."""

    input_spec = _BaselineInputSpec
    output_spec = _BaselineOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        signal, t_s = array(image), list(self.inputs.t_s)
        mask = limb_mask(np.nan_to_num(np.mean(signal, axis=-1, dtype=np.float64)))
        told = _told(self.inputs)
        first, end = baseline_of(limb_curve(signal, mask), t_s, told)
        rows = signal[mask]
        before = sum(t < told for t in t_s) if told is not None else end
        # arteries are filled before the limb as a whole, but not before the injection
        early, _ = _baseline(_earliest(rows, first, end), t_s)
        known = early is not None and early[1] - early[0] >= MIN_BASELINE
        if early is not None and known and (told is None or before > end):
            end = min(end, early[1])
        sigma, how = self._sigma(mask, rows[:, first:end])
        self.write(runtime, image, mask=mask)
        self._results |= {"baseline": [first, end], "sigma": sigma if np.isfinite(sigma) else 0.0}
        left = f", without the first {first}" if first else ""
        self.tell(
            quality={"baseline_frames": float(end - first), "noise_sigma": sigma},
            flags=["injection-mismatch"] * (before > end + 1)
            + ["motion-not-corrected"] * (not self._registered()),
            method=f"baseline of {end - first} frames{left}, noise from {how}",
        )
        return runtime

    def _registered(self) -> bool:
        return "n_not_registered" in dict(self.inputs.before or {}).get("Quality", {})

    def _sigma(self, mask: Bool, before: NDArray[np.float32]) -> tuple[float, str]:
        """Return the noise from the air of the raw series, else from the baseline's spread."""
        if isdefined(self.inputs.noise) and self.inputs.noise > 0:
            return self.inputs.noise, "denoising"
        raw = load(self.inputs.raw_file)
        frames = np.stack([np.asarray(raw.dataobj[..., i], np.float32)
                           for i in range(min(_NOISE_FRAMES, raw.shape[3]))], axis=-1)  # fmt: skip
        sigma = sigma_from_background(frames, mask)
        if np.isfinite(sigma):
            return sigma, "the background"
        if before.shape[1] < _MIN_SPREAD_FRAMES:
            return float("nan"), "nowhere"
        spread = before.std(axis=1, ddof=1)
        return float(np.nanmedian(spread)), "the spread of the baseline"


def _told(inputs: Any) -> float | None:
    return inputs.injection_s if isdefined(inputs.injection_s) else None


def limb_curve(signal: NDArray[np.float32], mask: Bool) -> Float:
    """Return the mean signal of the limb in each frame."""
    if not mask.any():
        raise BadDataError("The dynamic series shows no limb: its mean image has no contrast.")
    n = signal.shape[-1]
    return np.array([np.nanmean(signal[..., i][mask], dtype=np.float64) for i in range(n)])


def frame_change(series: NDArray[np.float32], limb: Bool) -> float:
    """Return how much the limb changes from frame to frame, relative to its signal.

    The median over the second half of the frames, in which contrast changes slowly: what is
    left is motion, and noise.
    """
    n = series.shape[-1]
    changes = []
    for i in range(n // 2, n - 1):
        first, second = series[..., i][limb], series[..., i + 1][limb]
        change = np.sqrt(np.nanmean((second - first) ** 2, dtype=np.float64))
        changes.append(change / np.nanmean(first, dtype=np.float64))
    return float(np.median(changes)) if changes else float("nan")


def baseline_of(curve: Float, t_s: Any, injection_s: float | None = None) -> tuple[int, int]:
    """Return the first frame and the end of the baseline.

    Parameters
    ----------
    curve : array, shape (n_frames,)
        Mean signal of the limb.
    t_s
        Onsets of the frames (s).
    injection_s
        Start of the injection (s), where it is known; where the curve rises before that, the
        curve is believed.

    Raises
    ------
    BadDataError
        If the curve does not rise, or fewer than two frames come before.
    """
    found, why = _baseline(curve, t_s)
    if found is None:
        raise BadDataError(f"The dynamic series {why}; wanted contrast after the first frames.")
    first, end = found
    if injection_s is not None:
        end = min(end, sum(t < injection_s for t in t_s))
    if end - first < MIN_BASELINE:
        raise BadDataError(
            f"The dynamic series has {max(end - first, 0)} frame(s) before contrast arrives; "
            f"wanted {MIN_BASELINE} or more as its baseline."
        )
    return first, end


def _baseline(curve: Float, t_s: Any) -> tuple[tuple[int, int] | None, str]:
    """Return first frame and end of what comes before the rise, or None and why."""
    t = np.asarray(t_s, dtype=np.float64)
    # a bolus is a few frames, so the median of differences knows only noise
    steps = np.diff(curve)
    noise = float(np.median(np.abs(steps - np.median(steps)))) * 1.4826 / np.sqrt(2)
    floor = max(noise, _MIN_RISE / 4 * float(np.abs(curve).min()))
    first = int(curve[0] - curve[1] > max(_UNSTEADY_SIGMA * noise, _MIN_RISE * abs(curve[1])))
    curve, t, n_before = curve[first:], t[first:], MIN_BASELINE
    for _ in range(_PASSES):
        found = measure_enhancement(curve, t, slice(0, n_before), sigma=floor)
        if found.status == Reason.TOO_FEW:
            return (first, first), ""
        if found.status != Reason.FITTED:
            return None, "does not enhance"
        n = int(np.sum(t < float(found.arrival_s) - _SAME_FRAME * (t[1] - t[0])))
        if n < MIN_BASELINE:
            return (first, first + n), ""
        n_before = n
    return (first, first + n_before - (n_before >= _SPARE_FRAMES)), ""


def _earliest(rows: NDArray[np.float32], first: int, end: int) -> Float:
    """Return the mean curve, relative to its baseline, of the voxels that enhance most."""
    before = rows[:, first:end]
    zero = before.mean(axis=1, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        rise, spread = rows.max(axis=1) / zero, before.std(axis=1) / zero
    # where the limb has moved, voxels of its skin rise and fall as much as vessels
    unsteady = spread > _UNSTEADY_SPREAD * np.nanmedian(spread)
    rise[~np.isfinite(rise) | unsteady | (zero < np.nanmedian(zero) / 3)] = 0
    n = min(max(int(_EARLY_SHARE * len(rows)), _MIN_EARLY), len(rows))
    chosen = np.argpartition(rise, -n)[-n:]
    relative: Float = np.mean(rows[chosen] / zero[chosen, np.newaxis], axis=0, dtype=np.float64)
    return relative


def _mean(series: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean over the frames that reach a voxel, 0 where none does."""
    seen = np.isfinite(series)
    total = np.where(seen, series, 0).sum(axis=-1)
    mean: NDArray[np.float32] = (total / np.maximum(seen.sum(axis=-1), 1)).astype(np.float32)
    return mean


@dataclass(frozen=True)
class _Motion:
    """Frames in the place of a reference, and where each was."""

    series: NDArray[np.float32]
    translation_mm: NDArray[np.floating]
    rotation_rad: NDArray[np.floating]
    registered: Bool
    displacement_mm: NDArray[np.floating]

    @property
    def framewise_mm(self) -> Float:
        """How far each frame's centre lies from that of the one before; 0 for the first."""
        moved = self.translation_mm
        steps: Float = np.linalg.norm(np.diff(moved, axis=0, prepend=moved[:1]), axis=1)
        return steps


def _to_reference(
    signal: NDArray[np.float32], reference: NDArray[np.float32], size: Any, *, n_threads: int
) -> _Motion:
    """Bring frames to a reference: found on voxels that are large enough, applied to all."""
    mask = limb_mask(reference)
    step = thinning(mask, size)
    images = [_larger(image, step) for image in (reference, *np.moveaxis(signal, -1, 0))]
    wide = np.asarray(size) * step
    # a limb that fills half of a larger voxel is in it
    found = align_series(np.stack(images, axis=-1), wide, reference=0,
                         mask=_larger(mask, step) > 0.5, n_threads=n_threads)  # fmt: skip
    shape = signal.shape[:3]
    # larger voxels may leave out the last rows, which moves their centre
    centre = np.eye(4)
    centre[:3, 3] = (np.array(shape) // step * step - shape) / 2 * np.asarray(size)
    rigid = (centre @ found.rigid @ np.linalg.inv(centre))[1:]
    series, to_mm = np.empty_like(signal), voxel_to_centred_mm(shape, size)
    points = grid_points(shape)
    for i, matrix in enumerate(rigid):
        if np.array_equal(found.rigid[1 + i], np.eye(4)):  # interpolation would only cost
            series[..., i] = signal[..., i]
            continue
        to_frame = np.linalg.inv(to_mm) @ matrix @ to_mm
        series[..., i] = warp(signal[..., i], points, to_frame[:3], 3).reshape(shape)
    return _Motion(series, rigid[:, :3, 3], found.rotation_rad[1:], found.registered[1:],
                   found.displacement_mm[1:])  # fmt: skip


def thinning(mask: Bool, size: Any) -> NDArray[np.int64]:
    """Return how many voxels along each axis are taken together to find motion.

    A limb of hundreds of thousands of voxels tells its place by far fewer, in a fraction of the
    time, to less than a tenth of a voxel.

    >>> thinning(np.ones((256, 256, 20), bool), (0.6, 0.6, 3.0)).tolist()
    [3, 3, 1]
    >>> thinning(np.ones((64, 64, 20), bool), (0.6, 0.6, 3.0)).tolist()
    [1, 1, 1]
    """
    edges = np.asarray(size, dtype=np.float64)
    step = np.ones(3, dtype=np.int64)
    fine = np.argsort(edges, kind="stable")[:2]  # slices are thick enough
    while True:
        more = step.copy()
        more[fine] += 1
        if (more * edges)[fine].max() > _LARGEST_MM or mask.sum() / more.prod() < _ENOUGH_VOXELS:
            return step
        step = more


def _larger(image: NDArray[Any], step: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return means of blocks of voxels."""
    kept = np.array(image.shape) // step
    whole = image[tuple(slice(n) for n in kept * step)]
    n_x, n_y, n_z = kept
    blocks = whole.reshape(n_x, step[0], n_y, step[1], n_z, step[2])
    means: NDArray[np.float32] = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    return means


def _rows(motion: _Motion) -> Iterator[dict[str, object]]:
    degrees = np.rad2deg(motion.rotation_rad)
    for i, registered in enumerate(motion.registered):
        yield {
            "volume": i,
            **{f"trans_{axis}_mm": motion.translation_mm[i, k] for k, axis in enumerate("xyz")},
            **{f"rot_{axis}_deg": degrees[i, k] for k, axis in enumerate("xyz")},
            "displacement_mm": motion.displacement_mm[i],
            "framewise_displacement_mm": motion.framewise_mm[i],
            "status": int(Reason.FITTED if registered else Reason.NOT_CONVERGED),
        }
