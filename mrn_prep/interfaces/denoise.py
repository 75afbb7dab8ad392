"""Nipype face of denoising for what is not diffusion: echoes, and frames of a dynamic series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from mrn_prep.models.mppca import MPPCAResult, denoise_mppca
from mrn_prep.models.quality import denoising_quality, denoising_residual


class _DenoiseSeriesOutputSpec(FactsOutputSpec):
    out_files = traits.List(File(exists=True), desc="denoised images")
    sigma = traits.Float(desc="median noise of the images in the limb, as they came in")


class _Denoiser(MapInterface):
    def _denoised(self, signal: NDArray[np.float32]) -> MPPCAResult:
        """Denoise in the limb, and tell of it."""
        mask = limb_mask(mean_image(signal))
        result = denoise_mppca(signal, mask)
        self._results["sigma"] = float(np.nanmedian(result.sigma[mask])) if mask.any() else np.nan
        residual = denoising_residual(signal, result.denoised, result.sigma)
        self.tell(
            quality=denoising_quality(result.n_components[mask], residual[mask]),
            flags=["se-upper-bound"],
            method="Marchenko-Pastur PCA denoising",
            references=["doi:10.1016/j.neuroimage.2016.08.016"],
        )
        return result


class DenoiseSeries(_Denoiser):
    """Denoise the images of a series, such as the echoes of a train, by Marchenko-Pastur PCA."""

    input_spec = SeriesInputSpec
    output_spec = _DenoiseSeriesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        denoised, folder = self._denoised(signal).denoised, Path(runtime.cwd)
        self._results["out_files"] = [
            str(save_like(denoised[..., i], like, folder / f"image-{i + 1}.nii"))
            for i in range(signal.shape[-1])
        ]
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
