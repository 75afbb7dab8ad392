"""Nipype face of the diffusion models."""

from __future__ import annotations

from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, TraitedSpec, traits

from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.io.gradients import read_gradients
from mrn_prep.io.images import array, load, same_grid
from mrn_prep.models.dwi_quality import lowest_volumes
from mrn_prep.models.gibbs import remove_gibbs
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.mppca import denoise_mppca
from mrn_prep.models.quality import denoising_quality, denoising_residual, measured_volumes


class SeriesInputSpec(BaseInterfaceInputSpec):
    """A diffusion series with its gradient table."""

    in_file = File(exists=True, mandatory=True, desc="diffusion series")
    bval_file = File(exists=True, mandatory=True, desc="b-values (s/mm2)")
    bvec_file = File(exists=True, mandatory=True, desc="directions (FSL's convention)")


class _LimbMaskOutputSpec(TraitedSpec):
    mask = File(exists=True, desc="the limb")


class LimbMask(MapInterface):
    """Find the limb in the volumes without diffusion weighting, or with the least."""

    input_spec = SeriesInputSpec
    output_spec = _LimbMaskOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        b_s_mm2, _ = read_gradients(self.inputs.bval_file, self.inputs.bvec_file, image.affine)
        lowest = np.flatnonzero(lowest_volumes(b_s_mm2))
        mean = np.mean([np.asarray(image.dataobj[..., i], np.float32) for i in lowest], axis=0)
        self.write(runtime, image, mask=limb_mask(mean))
        return runtime


class _DenoiseInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="series with at least 5 volumes")
    mask = File(exists=True, mandatory=True, desc="voxels to denoise")


class _DenoiseOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="denoised series")
    sigma = File(exists=True, desc="noise of the input")
    residual = File(exists=True, desc="what was removed, over the noise")
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
        series = array(image)
        measured = measured_volumes(series, inside)
        # the noise of a volume without signal would be that of all
        acquired = series if measured.all() else series[..., measured]
        result = denoise_mppca(acquired, inside)
        residual = denoising_residual(acquired, result.denoised, result.sigma)
        denoised = result.denoised
        if not measured.all():
            denoised = np.zeros_like(series)
            denoised[..., measured] = result.denoised
        self.write(
            runtime,
            image,
            out_file=denoised,
            sigma=result.sigma,
            residual=residual,
            n_components=result.n_components,
            noise_fraction=result.noise_fraction,
        )
        self.tell(
            quality=denoising_quality(result.n_components[inside], residual[inside]),
            method="Marchenko-Pastur PCA denoising",
            references=["doi:10.1016/j.neuroimage.2016.08.016"],
            note="Standard errors hold for the noise that denoising kept. Slow changes of tissue "
            "within a patch that denoising took for noise are not in them.",
        )
        return runtime


class _UnringInputSpec(BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True, desc="series of fully sampled k-space")
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


class _UnringOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="series without ringing")


class Unring(MapInterface):
    """Remove Gibbs ringing along the axes of the slices."""

    input_spec = _UnringInputSpec
    output_spec = _UnringOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        self.write(
            runtime, image, out_file=remove_gibbs(array(image), n_threads=self.inputs.n_threads)
        )
        self.tell(
            method="Gibbs ringing removed by sub-voxel shifts",
            references=["doi:10.1002/mrm.26054"],
        )
        return runtime


class _MergeFactsInputSpec(BaseInterfaceInputSpec):
    phase = traits.Dict(desc="facts of the real part")
    runs = traits.Dict(desc="facts of files taken together")
    denoising = traits.Dict(desc="facts of denoising")
    unringing = traits.Dict(desc="facts of Gibbs unringing")
    distortion = traits.Dict(desc="facts of the field")
    motion = traits.Dict(desc="facts of motion correction")
    outliers = traits.Dict(desc="facts of replaced slices")
    tensor = traits.Dict(desc="facts of the tensor")
    adc = traits.Dict(desc="facts of the ADC")
    tracts = traits.Dict(desc="facts of the nerves that were followed")
    ivim = traits.Dict(desc="facts of IVIM")
    qball = traits.Dict(desc="facts of q-ball imaging")


class MergeFacts(MapInterface):
    """Join what the steps tell, and flag the steps that were left out."""

    input_spec = _MergeFactsInputSpec
    output_spec = FactsOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        steps = (
            "phase", "runs", "denoising", "unringing", "distortion", "motion", "outliers", "tensor",
            "adc", "ivim", "qball", "tracts",
        )  # fmt: skip
        given = [getattr(self.inputs, step) for step in steps]
        flags = {f for facts in given if facts for f in facts["ValidityFlags"]}
        if not self.inputs.denoising:
            flags.add("not-denoised")
        if not self.inputs.motion:
            flags.add("motion-not-corrected")
        # what two fits tell of the series is that of the first
        quality: dict[str, object] = {}
        for facts in reversed([facts for facts in given if facts]):
            quality |= facts.get("Quality", {})
        self._results["facts"] = {
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
