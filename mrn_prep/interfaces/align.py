"""Nipype face of the registration within a series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, isdefined, traits

from mrn_prep.interfaces._base import (
    FactsOutputSpec,
    MapInterface,
    SeriesInputSpec,
    load_series,
    mean_image,
)
from mrn_prep.io.images import array, load, same_grid, save_like, voxel_mm
from mrn_prep.models.align import AlignResult, align_series
from mrn_prep.models.mask import limb_mask


class _AlignInputSpec(SeriesInputSpec):
    reference = traits.Int(desc="number of the image that stays, from 0; the brightest without it")
    mask = File(exists=True, desc="the limb in that image; found in it without")
    n_together = traits.Int(1, usedefault=True, desc="images in a row that moved as one")
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


class _AlignOutputSpec(FactsOutputSpec):
    out_files = traits.List(File(exists=True), desc="images in the place of the reference")
    sigma = traits.Float(desc="noise of the images as they came in; NaN where it is unknown")


class AlignSeries(MapInterface):
    """Bring the images of a series into one place, whatever their contrast."""

    input_spec = _AlignInputSpec
    output_spec = _AlignOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        mask = None
        if self.inputs.mask:
            image = load(self.inputs.mask)
            same_grid(like, image)
            mask = array(image) > 0
        reference = self.inputs.reference if isdefined(self.inputs.reference) else None
        size = voxel_mm(like)
        result = align_series(
            signal, size, reference=reference, mask=mask,
            n_together=self.inputs.n_together, n_threads=self.inputs.n_threads,
        )  # fmt: skip
        magnitude = np.abs(signal)
        limb = limb_mask(mean_image(magnitude)) if mask is None else mask
        self._results["sigma"] = self.noise_of(magnitude, limb)
        folder = Path(runtime.cwd)
        self._results["out_files"] = [
            str(save_like(result.series[..., i], like, folder / f"image-{i + 1}.nii"))
            for i in range(signal.shape[-1])
        ]
        self._tell(result, size)
        return runtime

    def _tell(self, result: AlignResult, size: tuple[float, float, float]) -> None:
        others = np.arange(len(result.registered)) != result.reference
        mean = float(result.displacement_mm[others].mean()) if others.any() else 0.0
        lost = int((~result.registered).sum())
        moved = bool(result.displacement_mm.any())
        self.tell(
            quality={
                "displacement_mean": mean,
                "displacement_max": float(result.displacement_mm.max()),
                "n_not_registered": float(lost),
            }
            | _parameters(result),
            flags=["motion"] * (mean > 0.5 * min(size)) + ["motion-not-corrected"] * (lost > 0),
            method="images registered within the series (rigid, local correlation)"
            + ", none had to be moved" * (not moved),
            references=["doi:10.1016/j.media.2007.06.004"],
        )


def _parameters(result: AlignResult) -> dict[str, float]:
    """Return the motion of each image that was moved, for the quality table."""
    found = {}
    for i in np.flatnonzero(result.displacement_mm > 0):
        shift, turn = result.translation_mm[i], np.rad2deg(result.rotation_rad[i])
        for axis, mm, deg in zip("xyz", shift, turn, strict=True):
            found[f"image{i + 1}_trans_{axis}"] = float(mm)
            found[f"image{i + 1}_rot_{axis}"] = float(deg)
    return found
