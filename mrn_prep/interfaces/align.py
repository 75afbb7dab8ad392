"""Nipype face of the registration within a series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, traits

from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface, load_series
from mrn_prep.io.images import save_like, voxel_mm
from mrn_prep.models.align import AlignResult, align_series


class _AlignInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(File(exists=True), minlen=2, mandatory=True, desc="images of a series")
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


class _AlignOutputSpec(FactsOutputSpec):
    out_files = traits.List(File(exists=True), desc="images in the place of the reference")


class AlignSeries(MapInterface):
    """Bring the images of a series into one place, whatever their contrast."""

    input_spec = _AlignInputSpec
    output_spec = _AlignOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        result = align_series(signal, voxel_mm(like), n_threads=self.inputs.n_threads)
        self._results["out_files"] = [
            _saved(result.series[..., i], like, Path(runtime.cwd) / f"image-{i + 1}.nii")
            for i in range(signal.shape[-1])
        ]
        moved = result.displacement_mm[np.arange(signal.shape[-1]) != result.reference]
        self.tell(
            quality={
                "displacement_mean": float(moved.mean()),
                "displacement_max": float(moved.max()),
                "n_not_registered": float((~result.registered).sum()),
            }
            | _parameters(result),
            method="images registered within the series (rigid, local correlation)",
        )
        return runtime


def _saved(image: Any, like: nb.Nifti1Image, path: Path) -> str:
    return str(save_like(image, like, path))


def _parameters(result: AlignResult) -> dict[str, float]:
    """Return the motion of each image that was moved, for the quality table."""
    found = {}
    for i in np.flatnonzero(result.displacement_mm > 0):
        shift, turn = result.translation_mm[i], np.rad2deg(result.rotation_rad[i])
        for axis, mm, deg in zip("xyz", shift, turn, strict=True):
            found[f"image{i + 1}_trans_{axis}"] = float(mm)
            found[f"image{i + 1}_rot_{axis}"] = float(deg)
    return found
