"""Nipype face of what concerns a diffusion series as a whole: its parts, its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits
from numpy.typing import NDArray

from mrn_prep.inputs.dwi import B0_MAX
from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.io.atomic import write_text
from mrn_prep.io.gradients import read_rows
from mrn_prep.io.images import array, load, same_grid, save_like
from mrn_prep.measure.regions import slice_axis
from mrn_prep.models.dwi_quality import FEWEST_OF_SHELL, lowest_volumes, shells_of
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.megre import scaled_phase
from mrn_prep.models.phase import real_part
from mrn_prep.models.run_scale import relative_scale

_SAME_SCALE = 0.01  # what the medians of two runs differ by without a reason
_RESCALED = 0.05  # what a reader must know of


class _RealPartInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(File(exists=True), mandatory=True, desc="magnitudes")
    phase_files = traits.List(File(exists=True), mandatory=True, desc="the phase of each")


class _RealPartOutputSpec(FactsOutputSpec):
    out_files = traits.List(File(exists=True), desc="real parts, signed")
    out_file = File(exists=True, desc="the first of them")


class RealPart(MapInterface):
    """Free complex images of their smooth phase, so that their noise has no floor."""

    input_spec = _RealPartInputSpec
    output_spec = _RealPartOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        files = []
        pairs = zip(self.inputs.in_files, self.inputs.phase_files, strict=True)
        for i, (magnitude_file, phase_file) in enumerate(pairs, start=1):
            image, phase = load(magnitude_file), load(phase_file)
            same_grid(image, phase)
            # the phase first, and in single precision: magnitudes are not held meanwhile
            radians = scaled_phase(array(phase))[0].astype(np.float32)
            real = _real_part(array(image), radians, slice_axis(image.affine))
            files.append(str(save_like(real, image, Path(runtime.cwd) / f"real-{i}.nii")))
        self._results["out_files"], self._results["out_file"] = files, files[0]
        self.tell(
            method="real part of complex images",
            references=["doi:10.1016/j.neuroimage.2015.07.074"],
        )
        return runtime


def _real_part(
    magnitude: NDArray[np.float32], phase_rad: NDArray[np.float32], axis: int
) -> NDArray[np.float32]:
    """Return the real part of one image or a series whose slices lie along an axis."""
    size, angle = (
        np.moveaxis(values.reshape(*values.shape[:3], -1), axis, 2)
        for values in (magnitude, phase_rad)
    )
    return np.moveaxis(real_part(size, angle), 2, axis).reshape(magnitude.shape)


class _CombineRunsInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(File(exists=True), mandatory=True, desc="parts, the first as reference")
    bval_files = traits.List(File(exists=True), mandatory=True, desc="their b-values (s/mm2)")
    bvec_files = traits.List(File(exists=True), mandatory=True, desc="their directions")


class _CombineRunsOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="all volumes, on the scale of the first part")
    bval_file = File(exists=True, desc="their b-values")
    bvec_file = File(exists=True, desc="their directions")


class CombineRuns(MapInterface):
    """Take the parts of a diffusion series as one, on one scale.

    Unweighted volumes tell the scale, else those of a shell that another part has too. A part
    with neither is taken as it is, and flagged.
    """

    input_spec = _CombineRunsInputSpec
    output_spec = _CombineRunsOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        images = [load(file) for file in self.inputs.in_files]
        same_grid(*images)
        bvals = [read_rows(file).ravel() for file in self.inputs.bval_files]
        bvecs = [read_rows(file) for file in self.inputs.bvec_files]
        scales = _scales(images, bvals)
        series = np.empty((*images[0].shape[:3], sum(b.size for b in bvals)), dtype=np.float32)
        start = 0
        for image, b, scale in zip(images, bvals, scales, strict=True):
            part = array(image).reshape(*image.shape[:3], b.size)
            change = np.isfinite(scale) and abs(scale - 1) > _SAME_SCALE
            series[..., start : start + b.size] = part / np.float32(scale) if change else part
            start += b.size
        self.write(runtime, images[0], out_file=series)
        folder = Path(runtime.cwd)
        for name, table in (("bval", np.concatenate(bvals)[None]), ("bvec", np.hstack(bvecs))):
            text = "\n".join(" ".join(f"{value:.8g}" for value in row) for row in table) + "\n"
            path = write_text(folder / f"series.{name}", text)
            self._results[f"{name}_file"] = str(path)
        known = np.array(scales)
        rescaled = bool((np.abs(known - 1) > _RESCALED).any())
        self.tell(
            quality={
                "n_runs": float(len(images)),
                **{f"run{i}_scale": scale for i, scale in enumerate(scales[1:], start=2)},
            },
            flags=["runs-rescaled"] * rescaled
            + ["run-scale-unknown"] * (not np.isfinite(known).all()),
            method=f"{len(images)} files taken together" + ", brought to one scale" * rescaled,
        )
        return runtime


def _scales(images: Sequence[Any], bvals: Sequence[NDArray[np.floating]]) -> list[float]:
    """Return the scale of each part relative to the first that has unweighted volumes."""
    b0 = [_mean(image, b <= B0_MAX) for image, b in zip(images, bvals, strict=True)]
    first = next((i for i, mean in enumerate(b0) if mean is not None), None)
    if first is None:
        return [np.nan] * len(b0)
    reference = b0[first]
    assert reference is not None
    limb = limb_mask(reference)
    scales = [np.nan if one is None else relative_scale(one, reference, limb) for one in b0]
    known = [i for i, scale in enumerate(scales) if np.isfinite(scale)]
    for i in set(range(len(b0))) - set(known):
        for j in known:
            pair = _common_shell(bvals[i], bvals[j])
            if pair is not None:
                own, others = _mean(images[i], pair[0]), _mean(images[j], pair[1])
                assert own is not None and others is not None
                scales[i] = scales[j] * relative_scale(own, others, limb)
                break
    return scales


def _mean(image: Any, chosen: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """Average some volumes; None where there are none."""
    return _known_mean(image, np.flatnonzero(chosen)) if chosen.any() else None


def _common_shell(
    b: NDArray[np.floating], others: NDArray[np.floating]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """Return the volumes of a shell that two parts have, with directions enough for a mean."""
    for value, own in shells_of(b).items():
        for other, theirs in shells_of(others).items():
            alike = abs(value - other) <= 0.02 * max(value, other)
            if alike and min(own.sum(), theirs.sum()) >= FEWEST_OF_SHELL:
                return own, theirs
    return None


class _AverageInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="diffusion series")
    bval_file = File(exists=True, mandatory=True, desc="b-values (s/mm2)")


class _AverageOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="mean of the lowest and of the highest b-value")


class AverageShells(MapInterface):
    """Average the volumes of the lowest and those of the highest b-value: a series to look at."""

    input_spec = _AverageInputSpec
    output_spec = _AverageOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        b = read_rows(self.inputs.bval_file).ravel()
        lowest, highest = lowest_volumes(b), list(shells_of(b).values())[-1]
        means = [_known_mean(image, np.flatnonzero(chosen)) for chosen in (lowest, highest)]
        self.write(runtime, image, out_file=np.stack(means, axis=-1))
        return runtime


def _known_mean(image: Any, volumes: NDArray[np.intp]) -> NDArray[np.float32]:
    """Average volumes where they are known; NaN where none is."""
    total = np.zeros(image.shape[:3], dtype=np.float32)
    count = np.zeros(image.shape[:3], dtype=np.float32)
    for i in volumes:
        one = image.dataobj[..., i] if image.ndim > 3 else image.dataobj
        values = np.asarray(one, dtype=np.float32)
        if not np.nan_to_num(values).any():
            continue  # not measured
        known = np.isfinite(values)
        total[known] += values[known]
        count += known
    return np.where(count > 0, total / np.maximum(count, 1), np.float32(np.nan))
