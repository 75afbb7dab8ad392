"""Nipype face of denoising for what is not diffusion: echoes, and frames of a dynamic series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, traits
from numpy.typing import NDArray

from mrn_prep.interfaces._base import (
    FactsOutputSpec,
    MapInterface,
    SeriesInputSpec,
    load_series,
    mean_image,
)
from mrn_prep.io.images import array, load, save_like
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.megre import complex_echoes
from mrn_prep.models.mppca import MPPCAResult, denoise_mppca
from mrn_prep.models.quality import denoising_quality, denoising_residual

_NOT_IN_ERRORS = (
    "Differences of tissue within a patch that denoising took for noise are not in the standard "
    "errors: they draw a small nerve towards what is around it."
)


class _DenoiseSeriesOutputSpec(FactsOutputSpec):
    out_files = traits.List(
        File(exists=True), desc="denoised images (of complex echoes real, then imaginary parts)"
    )
    sigma = traits.Float(desc="median noise of the images in the limb, as they came in")


class _Denoiser(MapInterface):
    def _denoised(
        self, signal: NDArray[np.float32], mask: NDArray[np.bool_] | None = None, of: str = ""
    ) -> MPPCAResult:
        """Denoise in the limb (found in the mean image if not given), and tell of it."""
        mask = limb_mask(mean_image(signal)) if mask is None else mask
        result = denoise_mppca(signal, mask)
        self._results["sigma"] = float(np.nanmedian(result.sigma[mask])) if mask.any() else np.nan
        residual = denoising_residual(signal, result.denoised, result.sigma)
        self.tell(
            quality=denoising_quality(result.n_components[mask], residual[mask]),
            flags=["se-upper-bound"],
            method=f"Marchenko-Pastur PCA denoising{of}",
            references=["doi:10.1016/j.neuroimage.2016.08.016"],
            note=_NOT_IN_ERRORS,
        )
        return result

    def _save(
        self, images: Iterator[NDArray[np.float32]], like: nb.Nifti1Image, folder: Path
    ) -> None:
        self._results["out_files"] = [
            str(save_like(image, like, folder / f"image-{i + 1}.nii"))
            for i, image in enumerate(images)
        ]


class DenoiseSeries(_Denoiser):
    """Denoise the images of a series, such as the echoes of a train, by Marchenko-Pastur PCA."""

    input_spec = SeriesInputSpec
    output_spec = _DenoiseSeriesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        denoised = self._denoised(signal).denoised
        self._save(iter(np.moveaxis(denoised, -1, 0)), like, Path(runtime.cwd))
        return runtime


class _DenoiseEchoesInputSpec(SeriesInputSpec):
    kind = traits.Enum(
        "polar", "cartesian", mandatory=True,
        desc="in_files: magnitudes then phases, or real then imaginary parts",
    )  # fmt: skip


class DenoiseEchoes(_Denoiser):
    """Denoise complex echoes: all real and imaginary parts together are one series.

    Phase itself is no such series: it has no Gaussian noise, and jumps.
    """

    input_spec = _DenoiseEchoesInputSpec
    output_spec = _DenoiseSeriesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        stack, like = load_series(self.inputs.in_files)
        signal, unit = complex_echoes(stack, self.inputs.kind)
        del stack  # makes room for the denoised series
        mask = limb_mask(mean_image(np.abs(signal)))
        # each part beside the other, echo by echo: no copy
        phase = f" (phase in {unit})" * bool(unit)
        result = self._denoised(
            signal.view(np.float32), mask, f" of real and imaginary parts{phase}"
        )
        parts = (result.denoised[..., part::2] for part in (0, 1))
        images = (image for part in parts for image in np.moveaxis(part, -1, 0))
        self._save(images, like, Path(runtime.cwd))
        return runtime


class _DenoiseFramesInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="dynamic series")


class _DenoiseFramesOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="denoised series")
    sigma = traits.Float(desc="median noise of the frames in the limb, as they came in")


class DenoiseFrames(_Denoiser):
    """Denoise a dynamic series by Marchenko-Pastur PCA."""

    input_spec = _DenoiseFramesInputSpec
    output_spec = _DenoiseFramesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        self.write(runtime, image, out_file=self._denoised(array(image)).denoised)
        return runtime
