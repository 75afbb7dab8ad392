"""Nipype face of the diffusion models."""

from __future__ import annotations

from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from mrn_prep.inputs.dwi import B0_MAX
from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.io.gradients import read_gradients, to_scanner_axes
from mrn_prep.io.images import array, load, same_grid
from mrn_prep.models.dti_map import Denoised, map_dti
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.mppca import denoise_mppca
from mrn_prep.models.noise import sigma_from_background
from mrn_prep.models.quality import series_quality

MIN_DIRECTIONS = 15


class SeriesInputSpec(BaseInterfaceInputSpec):
    """A diffusion series with its gradient table."""

    in_file = File(exists=True, mandatory=True, desc="diffusion series")
    bval_file = File(exists=True, mandatory=True, desc="b-values (s/mm2)")
    bvec_file = File(exists=True, mandatory=True, desc="directions (FSL's convention)")


class _LimbMaskOutputSpec(TraitedSpec):
    mask = File(exists=True, desc="the limb")


class LimbMask(MapInterface):
    """Find the limb in the volumes without diffusion weighting."""

    input_spec = SeriesInputSpec
    output_spec = _LimbMaskOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        b_s_mm2, _ = read_gradients(self.inputs.bval_file, self.inputs.bvec_file, image.affine)
        b0 = np.flatnonzero(b_s_mm2 <= B0_MAX)
        mean = np.mean([np.asarray(image.dataobj[..., i], np.float32) for i in b0], axis=0)
        self.write(runtime, image, mask=limb_mask(mean))
        return runtime


class _DenoiseInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="series with at least 5 volumes")
    mask = File(exists=True, mandatory=True, desc="voxels to denoise")


class _DenoiseOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="denoised series")
    sigma = File(exists=True, desc="noise of the input")
    n_components = File(exists=True, desc="signal components kept")
    noise_fraction = File(exists=True, desc="variance of the noise left beside them")


class Denoise(MapInterface):
    """Denoise a series by Marchenko-Pastur PCA."""

    input_spec = _DenoiseInputSpec
    output_spec = _DenoiseOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, mask = load(self.inputs.in_file), load(self.inputs.mask)
        same_grid(image, mask)
        inside = array(mask) > 0
        result = denoise_mppca(array(image), inside)
        self.write(
            runtime,
            image,
            out_file=result.denoised,
            sigma=result.sigma,
            n_components=result.n_components,
            noise_fraction=result.noise_fraction,
        )
        self.tell(
            quality={"n_components": float(np.nanmedian(result.n_components[inside]))},
            method="Marchenko-Pastur PCA denoising",
            references=["doi:10.1016/j.neuroimage.2016.08.016"],
            note="Standard errors hold for the noise that denoising kept. Slow changes of tissue "
            "within a patch that denoising took for noise are not in them.",
        )
        return runtime


class _FitDTIInputSpec(SeriesInputSpec):
    mask = File(exists=True, mandatory=True, desc="voxels to fit")
    raw_file = File(exists=True, mandatory=True, desc="series as acquired, for its noise")
    sigma = File(exists=True, desc="noise of the raw series, from denoising")
    n_components = File(exists=True, requires=["sigma"], desc="components that denoising kept")
    noise_fraction = File(exists=True, requires=["sigma"], desc="noise left beside them")
    low_b = traits.Bool(False, usedefault=True, desc="keep 5 < b < 200 s/mm2")


class _FitDTIOutputSpec(FactsOutputSpec):
    fa = File(exists=True, desc="fractional anisotropy")
    md = File(exists=True, desc="mean diffusivity (mm2/s)")
    ad = File(exists=True, desc="axial diffusivity (mm2/s)")
    rd = File(exists=True, desc="radial diffusivity (mm2/s)")
    s0 = File(exists=True, desc="signal without weighting")
    fa_se = File(exists=True, desc="standard error")
    md_se = File(exists=True, desc="standard error")
    ad_se = File(exists=True, desc="standard error")
    rd_se = File(exists=True, desc="standard error")
    s0_se = File(exists=True, desc="standard error")
    v1 = File(exists=True, desc="main direction, scanner axes")
    status = File(exists=True, desc="reason codes")


class FitDTI(MapInterface):
    """Fit the diffusion tensor with standard errors."""

    input_spec = _FitDTIInputSpec
    output_spec = _FitDTIOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, mask = load(self.inputs.in_file), load(self.inputs.mask)
        same_grid(image, mask)
        inside = array(mask) > 0
        b_s_mm2, bvecs = read_gradients(self.inputs.bval_file, self.inputs.bvec_file, image.affine)
        raw = array(load(self.inputs.raw_file))
        noise, sigma = self._noise(raw, inside)
        fit, used = map_dti(array(image), b_s_mm2, bvecs, inside, noise, low_b=self.inputs.low_b)
        self.write(
            runtime, image,
            fa=fit.fa, md=fit.md_mm2_s, ad=fit.ad_mm2_s, rd=fit.rd_mm2_s, s0=fit.s0,
            fa_se=fit.fa_se, md_se=fit.md_se_mm2_s, ad_se=fit.ad_se_mm2_s,
            rd_se=fit.rd_se_mm2_s, s0_se=fit.s0_se,
            v1=to_scanner_axes(fit.v1, image.affine), status=fit.status,
        )  # fmt: skip
        weighted = b_s_mm2 > B0_MAX
        n_directions = int((used & weighted).sum())
        quality = series_quality(raw[..., ~weighted], inside, sigma, fit.status)
        quality |= {
            "n_volumes": float(b_s_mm2.size),
            "n_b0": float((~weighted).sum()),
            "n_directions": float(n_directions),
        }
        low = (b_s_mm2 > B0_MAX) & (b_s_mm2 < 200) & used
        self.tell(
            quality=quality,
            flags=["few-directions"] * (n_directions < MIN_DIRECTIONS)
            + ["low-b-in-tensor"] * bool(low.any())
            + ["no-se"] * (not np.isfinite(fit.fa_se).any()),
            method="DTI, weighted linear least squares, true b-values",
            references=["doi:10.1006/jmrb.1994.1037", "doi:10.1016/j.neuroimage.2006.07.001"],
        )
        return runtime

    def _noise(self, raw: Any, inside: Any) -> tuple[Any, float]:
        """Return the noise as the fit takes it, and its typical standard deviation."""
        if self.inputs.sigma:
            maps = (self.inputs.sigma, self.inputs.n_components, self.inputs.noise_fraction)
            denoised = Denoised(*(array(load(file)) for file in maps))
            return denoised, float(np.nanmedian(denoised.sigma[inside]))
        sigma = sigma_from_background(raw, inside)
        return (np.full(inside.shape, sigma) if np.isfinite(sigma) else None), sigma


class _MergeFactsInputSpec(BaseInterfaceInputSpec):
    tensor = traits.Dict(mandatory=True, desc="facts of the fit")
    denoising = traits.Dict(desc="facts of denoising")
    motion = traits.Dict(desc="facts of motion correction")


class MergeFacts(MapInterface):
    """Join what the steps tell, and flag the steps that were left out."""

    input_spec = _MergeFactsInputSpec
    output_spec = FactsOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        given = [self.inputs.denoising, self.inputs.motion, self.inputs.tensor]
        flags = {f for facts in given if facts for f in facts["ValidityFlags"]}
        if not self.inputs.denoising:
            flags.add("not-denoised")
        if not self.inputs.motion:
            flags.add("motion-not-corrected")
        quality = {k: v for facts in given if facts for k, v in facts.get("Quality", {}).items()}
        self._results["facts"] = {
            **self.inputs.tensor,
            "ValidityFlags": sorted(flags),
            "Quality": quality,
            "EstimationMethod": "; ".join(_all(given, "EstimationMethod")),
            "EstimationReference": [r for refs in _all(given, "EstimationReference") for r in refs],
        }
        notes = _all(given, "StandardErrorNote")
        if notes:
            self._results["facts"]["StandardErrorNote"] = " ".join(notes)
        return runtime


def _all(given: Any, key: str) -> list[Any]:
    """Return what the steps that were taken say under a key, in their order."""
    return [facts[key] for facts in given if facts and facts.get(key)]
