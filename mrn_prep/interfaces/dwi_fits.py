"""Nipype face of what is fitted to a processed diffusion series."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits
from numpy.typing import NDArray

from mrn_prep.inputs.dwi import B0_MAX
from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.interfaces.dwi import SeriesInputSpec
from mrn_prep.io.gradients import read_gradients, to_scanner_axes
from mrn_prep.io.images import array, load, same_grid, voxel_mm
from mrn_prep.io.sampling import read_sampling
from mrn_prep.models.adc import fit_adc, select_adc_volumes
from mrn_prep.models.denoised import Denoised
from mrn_prep.models.dti_map import map_dti
from mrn_prep.models.dwi_quality import counts, lowest_volumes, temporal_snr, tensor_quality
from mrn_prep.models.gradient_check import check_directions
from mrn_prep.models.isotropic import without_anisotropy
from mrn_prep.models.ivim import IVIMResult, fit_ivim
from mrn_prep.models.noise import sigma_from_air, sigma_from_background
from mrn_prep.models.noise_floor import without_log_bias
from mrn_prep.models.quality import measured_volumes, series_quality
from mrn_prep.models.sampling import Sampling
from mrn_prep.models.slabs import fit_in_slabs

MIN_DIRECTIONS = 15
_HOW = {
    "wls": "weighted linear least squares",
    "nlls": "nonlinear least squares",
    "restore": "nonlinear least squares without outliers (RESTORE)",
}


class FitInputSpec(SeriesInputSpec):
    """What every fit to a diffusion series takes."""

    mask = File(exists=True, mandatory=True, desc="voxels to fit")
    raw_file = File(exists=True, mandatory=True, desc="series as acquired, for its noise")
    sigma = File(exists=True, desc="noise of the raw series, from denoising")
    n_components = File(exists=True, requires=["sigma"], desc="components that denoising kept")
    noise_fraction = File(exists=True, requires=["sigma"], desc="noise left beside them")
    sampling = File(exists=True, desc="where the volumes were read, if they were moved")
    low_b = traits.Bool(False, usedefault=True, desc="keep 5 < b < 200 s/mm2")
    floor = traits.Enum(
        "removed", "left", "none", usedefault=True,
        desc="noise floor of magnitudes: taken out, left in, or none, the series being signed",
    )  # fmt: skip
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


class FitInterface(MapInterface):
    """What every fit to a diffusion series loads."""

    input_spec = FitInputSpec

    def loaded(self) -> tuple[Any, Any, Any, Any, Any]:
        """Return image, mask, b-values, directions and the raw series."""
        image, mask = load(self.inputs.in_file), load(self.inputs.mask)
        same_grid(image, mask)
        b_s_mm2, bvecs = read_gradients(self.inputs.bval_file, self.inputs.bvec_file, image.affine)
        return image, array(mask) > 0, b_s_mm2, bvecs, array(load(self.inputs.raw_file))

    def series_noise(self, raw: Any, inside: Any) -> tuple[Denoised | NDArray[Any] | None, float]:
        """Return the noise as the fit takes it, and its typical standard deviation."""
        if self.inputs.sigma:
            maps = (self.inputs.sigma, self.inputs.n_components, self.inputs.noise_fraction)
            denoised = Denoised(*(array(load(file)) for file in maps))
            return denoised, float(np.nanmedian(denoised.sigma[inside]))
        measured = sigma_from_air if self.inputs.floor == "none" else sigma_from_background
        sigma = measured(raw, inside)
        return (np.full(inside.shape, sigma) if np.isfinite(sigma) else None), sigma

    @property
    def rician(self) -> bool:
        """Whether a noise floor is to be taken out."""
        return bool(self.inputs.floor == "removed")

    def with_floor(self, noise: object) -> bool:
        """Whether a noise floor stays in what is fitted."""
        return self.inputs.floor == "left" or (self.rician and noise is None)

    def series(self, image: Any, used: Any) -> NDArray[np.float32]:
        """Return some volumes of the series, 0 where one was not measured."""
        return np.nan_to_num(array(image)[..., used], nan=0.0, copy=False)

    def for_logarithms(self, series: Any, table: tuple[Any, Any], inside: Any, noise: Any) -> Any:
        """Return a series as a fit to logarithms takes it: single signed values bias these."""
        if self.inputs.floor != "none" or noise is None or isinstance(noise, Denoised):
            return series
        return without_log_bias(np.nan_to_num(series, nan=0.0), *table, inside, noise)

    @property
    def read_at(self) -> Sampling | None:
        """Where the volumes of the series were read; None if they lie as they were acquired."""
        return read_sampling(self.inputs.sampling) if self.inputs.sampling else None

    def _fit(self, model: Any, series: Any, inside: Any, noise: Any, used: Any, **how: Any) -> Any:
        """Fit a model to some volumes of a series, some slices at a time."""
        fit, read = partial(model, n_threads=self.inputs.n_threads, **how), self.read_at
        return fit_in_slabs(
            fit, series, inside, noise, rician=self.rician,
            sampling=None if read is None else read.of(used),
        )  # fmt: skip


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


class _FitDTIInputSpec(FitInputSpec):
    method = traits.Enum("wls", "nlls", "restore", usedefault=True, desc="how it is fitted")


class FitDTI(FitInterface):
    """Fit the diffusion tensor with standard errors."""

    input_spec = _FitDTIInputSpec
    output_spec = _FitDTIOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, inside, b_s_mm2, bvecs, raw = self.loaded()
        noise, sigma = self.series_noise(raw, inside)
        weighted, measured = b_s_mm2 > B0_MAX, measured_volumes(raw, inside)
        unweighted = raw[..., ~weighted]
        del raw  # makes room for the fit
        series = array(image)
        if self.inputs.method == "wls":
            series = self.for_logarithms(series, (b_s_mm2, bvecs), inside, noise)
        fit, used = map_dti(
            series, b_s_mm2, bvecs, inside, noise, low_b=self.inputs.low_b,
            method=self.inputs.method, rician=self.rician, sampling=self.read_at,
            n_threads=self.inputs.n_threads,
        )  # fmt: skip
        doubt = check_directions(fit.v1, fit.fa, voxel_mm(image), inside).clearly_better
        self.write(
            runtime, image,
            fa=fit.fa, md=fit.md_mm2_s, ad=fit.ad_mm2_s, rd=fit.rd_mm2_s, s0=fit.s0,
            fa_se=fit.fa_se, md_se=fit.md_se_mm2_s, ad_se=fit.ad_se_mm2_s,
            rd_se=fit.rd_se_mm2_s, s0_se=fit.s0_se,
            v1=to_scanner_axes(fit.v1, image.affine), status=fit.status,
        )  # fmt: skip
        number = counts(b_s_mm2, bvecs, measured, used)
        quality = series_quality(unweighted, inside, sigma, fit.status) | number
        quality |= {
            "tsnr_b0": temporal_snr(unweighted[..., measured[~weighted]], inside),
            **tensor_quality(array(image), b_s_mm2, bvecs, inside, sigma, used),
        }
        low = (b_s_mm2 > B0_MAX) & (b_s_mm2 < 200) & used
        self.tell(
            quality=quality,
            flags=["few-directions"] * (number["n_directions"] < MIN_DIRECTIONS)
            + ["empty-volumes"] * (not measured.all())
            + ["low-b-in-tensor"] * bool(low.any())
            + ["gradients-doubtful"] * doubt
            + ["no-se"] * (not np.isfinite(fit.fa_se).any())
            + ["noise-floor"] * self.with_floor(noise),
            method=f"DTI, {_HOW[self.inputs.method]}, true b-values",
            references=["doi:10.1006/jmrb.1994.1037", "doi:10.1016/j.neuroimage.2006.07.001"],
        )
        return runtime


class _FitADCOutputSpec(FactsOutputSpec):
    adc = File(exists=True, desc="apparent diffusion coefficient (mm2/s)")
    adc_se = File(exists=True, desc="its standard error (mm2/s)")
    adc_status = File(exists=True, desc="reason codes")


class FitADC(FitInterface):
    """Fit the apparent diffusion coefficient, directions of a shell by their geometric mean."""

    output_spec = _FitADCOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, inside, b_s_mm2, bvecs, raw = self.loaded()
        noise, sigma = self.series_noise(raw, inside)
        used = select_adc_volumes(b_s_mm2, self.inputs.low_b)
        measured = measured_volumes(raw, inside)
        lowest = raw[..., lowest_volumes(b_s_mm2)]
        del raw
        series = array(image) if used.all() else array(image)[..., used]
        series = self.for_logarithms(series, (b_s_mm2[used], bvecs[used]), inside, noise)
        fit = self._fit(fit_adc, series, inside, noise, used, b_s_mm2=b_s_mm2[used])
        self.write(runtime, image, adc=fit.adc_mm2_s, adc_se=fit.adc_se_mm2_s,
                   adc_status=fit.status)  # fmt: skip
        self.tell(
            quality=series_quality(lowest, inside, sigma, fit.status)
            | counts(b_s_mm2, bvecs, measured, used & measured),
            flags=["empty-volumes"] * (not measured.all())
            + ["no-se"] * (not np.isfinite(fit.adc_se_mm2_s).any())
            + ["noise-floor"] * self.with_floor(noise),
            method="ADC, logarithms weighted by the signal, true b-values",
            references=["doi:10.1063/1.1695690"],
        )
        return runtime


class _FitIVIMOutputSpec(FactsOutputSpec):
    ivim_f = File(exists=True, desc="perfusion fraction")
    ivim_d = File(exists=True, desc="diffusivity of tissue (mm2/s)")
    ivim_dstar = File(exists=True, desc="pseudo-diffusivity (mm2/s)")
    ivim_f_se = File(exists=True, desc="standard error")
    ivim_d_se = File(exists=True, desc="standard error")
    ivim_dstar_se = File(exists=True, desc="standard error")
    ivim_status = File(exists=True, desc="reason codes of f and D")
    ivim_dstar_status = File(exists=True, desc="reason codes of D*")


class _FitIVIMInputSpec(FitInputSpec):
    method = traits.Enum("segmented", "full", usedefault=True, desc="how f and D* are found")


class FitIVIM(FitInterface):
    """Fit intravoxel incoherent motion (IVIM)."""

    input_spec = _FitIVIMInputSpec
    output_spec = _FitIVIMOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, inside, b_s_mm2, bvecs, raw = self.loaded()
        noise, _ = self.series_noise(raw, inside)

        def model(signal: Any, *, mask: Any, **given: Any) -> IVIMResult:
            alike = without_anisotropy(signal, b_s_mm2, bvecs, mask)
            return fit_ivim(alike, b_s_mm2, mask, method=self.inputs.method, **given)

        fit = self._fit(model, array(image), inside, noise, slice(None))
        # where D* cannot be told f and D still are
        of_f = np.where(np.isfinite(fit.f), np.uint8(0), fit.status)
        self.write(
            runtime, image, ivim_f=fit.f, ivim_f_se=fit.f_se, ivim_d=fit.d_mm2_s,
            ivim_d_se=fit.d_se_mm2_s, ivim_dstar=fit.dstar_mm2_s,
            ivim_dstar_se=fit.dstar_se_mm2_s, ivim_status=of_f, ivim_dstar_status=fit.status,
        )  # fmt: skip
        self.tell(method=f"IVIM, {self.inputs.method} fit, anisotropy taken out by a tensor")
        return runtime
