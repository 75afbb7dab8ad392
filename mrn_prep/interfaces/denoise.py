"""Nipype face of denoising for series that are one file per image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits

from mrn_prep.interfaces._base import (
    FactsOutputSpec,
    MapInterface,
    SeriesInputSpec,
    load_series,
    mean_image,
)
from mrn_prep.io.images import save_like
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.mppca import denoise_mppca


class _DenoiseSeriesOutputSpec(FactsOutputSpec):
    out_files = traits.List(File(exists=True), desc="denoised images")
    sigma = traits.Float(desc="median noise of the images in the limb, as they came in")


class DenoiseSeries(MapInterface):
    """Denoise the images of a series, such as the echoes of a train, by Marchenko-Pastur PCA."""

    input_spec = SeriesInputSpec
    output_spec = _DenoiseSeriesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        mask = limb_mask(mean_image(signal))
        result = denoise_mppca(signal, mask)
        folder = Path(runtime.cwd)
        self._results["out_files"] = [
            str(save_like(result.denoised[..., i], like, folder / f"image-{i + 1}.nii"))
            for i in range(signal.shape[-1])
        ]
        self._results["sigma"] = float(np.nanmedian(result.sigma[mask])) if mask.any() else np.nan
        kept = float(np.nanmedian(result.n_components[mask])) if mask.any() else np.nan
        self.tell(
            quality={"n_components": kept},
            flags=["se-upper-bound"],
            method="Marchenko-Pastur PCA denoising",
            references=["doi:10.1016/j.neuroimage.2016.08.016"],
        )
        return runtime
