"""Nipype face of the T1 models."""

from __future__ import annotations

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
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.quality import series_quality
from mrn_prep.models.spoiling import correct_t1, spoiling_coefficients
from mrn_prep.models.status import Reason
from mrn_prep.models.t1_ir import fit_ir
from mrn_prep.models.t1_vfa import T1Result, fit_vfa


class _FitVFAInputSpec(SeriesInputSpec):
    flip_deg = traits.List(traits.Float(), mandatory=True, desc="nominal flip angles (degrees)")
    tr_s = traits.Float(mandatory=True, desc="repetition time (s)")
    b1 = File(exists=True, desc="B1+ relative to nominal, on any grid")
    b1_se = File(exists=True, desc="its standard error")
    phase_increment_deg = traits.Float(desc="correct incomplete RF spoiling of this increment")
    gradient_moment_mt_ms_m = traits.Float(desc="spoiler moment (mT ms/m) for the correction")


class _FitVFAOutputSpec(FactsOutputSpec):
    t1 = File(exists=True, desc="T1 (s)")
    t1_se = File(exists=True, desc="its standard error (s)")
    status = File(exists=True, desc="reason codes")
    m0 = File(exists=True, desc="equilibrium signal (input units)")
    m0_se = File(exists=True, desc="its standard error")


class FitVFA(MapInterface):
    """Fit T1 and M0 to a flip-angle series."""

    input_spec = _FitVFAInputSpec
    output_spec = _FitVFAOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        mask = limb_mask(mean_image(signal))
        sigma = self.noise_of(signal, mask)
        known = np.isfinite(sigma)
        b1, b1_se = (self.on_grid(name, like) for name in ("b1", "b1_se"))
        result = fit_vfa(
            signal,
            np.deg2rad(self.inputs.flip_deg),
            self.inputs.tr_s,
            mask,
            b1,
            b1_se if known else None,
            sigma if known else None,
        )
        t1_s, t1_se_s, status, spoiled = self._spoiling(result, b1)
        self.write(runtime, like, t1=t1_s, t1_se=t1_se_s, status=status,
                   m0=result.m0, m0_se=result.m0_se)  # fmt: skip
        correction = "not B1-corrected" if b1 is None else "B1-corrected"
        self.tell(
            quality=series_quality(signal, mask, sigma, status),
            flags=["no-b1"] * (b1 is None) + ["no-se"] * (not known),
            method=f"VFA, nonlinear least squares, {correction}{spoiled}",
            references=["doi:10.1002/mrm.10407", *(["doi:10.1002/mrm.21776"] if spoiled else [])],
        )
        return runtime

    def _spoiling(self, result: T1Result, b1: Any) -> tuple[Any, Any, Any, str]:
        """Return T1, its error and status corrected for incomplete spoiling, and what was done."""
        increment = self.inputs.phase_increment_deg
        if not increment:
            return result.t1_s, result.t1_se_s, result.status, ""
        line = spoiling_coefficients(
            np.deg2rad(self.inputs.flip_deg),
            self.inputs.tr_s,
            float(np.deg2rad(increment)),
            self.inputs.gradient_moment_mt_ms_m or None,
        )
        relative = np.ones(result.t1_s.shape) if b1 is None else b1
        t1_s = correct_t1(result.t1_s, relative, line)
        slope = np.polynomial.polynomial.polyval(relative, line.b)
        status = result.status.copy()
        status[np.isfinite(result.t1_s) & ~np.isfinite(t1_s)] = Reason.OUT_OF_RANGE
        said = f", spoiling corrected (phase increment {increment:g} degrees)"
        return t1_s, np.where(np.isfinite(t1_s), result.t1_se_s * slope, np.nan), status, said


class _FitIRInputSpec(SeriesInputSpec):
    ti_s = traits.List(traits.Float(), mandatory=True, desc="inversion times (s)")


class _FitIROutputSpec(FactsOutputSpec):
    t1 = File(exists=True, desc="T1 (s)")
    t1_se = File(exists=True, desc="its standard error (s)")
    status = File(exists=True, desc="reason codes")


class FitIR(MapInterface):
    """Fit T1 to an inversion recovery; images with negative values carry their sign."""

    input_spec = _FitIRInputSpec
    output_spec = _FitIROutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        magnitude = np.abs(signal) if (signal < 0).any() else signal
        mask = limb_mask(mean_image(magnitude))
        # noise makes the air of signed images negative; tissue is so before it has recovered
        signed = bool((signal[mask] < 0).mean() > _SHARE_NEGATIVE)
        sigma = self.noise_of(magnitude, mask)
        known = np.isfinite(sigma)
        result = fit_ir(signal, self.inputs.ti_s, mask, sigma if known else None, signed=signed)
        self.write(runtime, like, t1=result.t1_s, t1_se=result.t1_se_s, status=result.status)
        polarity = "signed" if signed else "polarity restored"
        self.tell(
            quality=series_quality(magnitude, mask, sigma, result.status),
            flags=["no-se"] * (not np.isfinite(result.t1_se_s).any()),
            method=f"inversion recovery, nonlinear least squares, {polarity}",
            references=["doi:10.1002/mrm.22497"],
        )
        return runtime


_SHARE_NEGATIVE = 0.01
