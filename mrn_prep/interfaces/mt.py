"""Nipype face of the magnetisation-transfer models."""

from __future__ import annotations

from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits
from numpy.typing import NDArray

from mrn_prep.interfaces._base import (
    FactsOutputSpec,
    MapInterface,
    SeriesInputSpec,
    load_series,
    mean_image,
)
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.mt import fit_mtsat, mtr_percent
from mrn_prep.models.quality import series_quality

_HELMS = ("doi:10.1002/mrm.21732", "doi:10.1002/mrm.22607")


class _MTROutputSpec(FactsOutputSpec):
    mtr = File(exists=True, desc="magnetisation transfer ratio (0 to 1)")
    mtr_se = File(exists=True, desc="its standard error")
    status = File(exists=True, desc="reason codes")


class MapMTR(MapInterface):
    """Magnetisation transfer ratio of a pair, the image without saturation first."""

    input_spec = SeriesInputSpec
    output_spec = _MTROutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        mask = limb_mask(mean_image(signal))
        sigma = self.noise_of(signal, mask)
        known = np.isfinite(sigma)
        result = mtr_percent(signal[..., 0], signal[..., 1], sigma if known else None, mask)
        self.write(runtime, like, mtr=result.mtr_percent / 100,
                   mtr_se=result.mtr_se_percent / 100, status=result.status)  # fmt: skip
        self.tell(
            quality=series_quality(signal, mask, sigma, result.status),
            flags=["no-se"] * (not known),
            method="MTR, (S_off - S_on) / S_off",
        )
        return runtime


class _MTsatInputSpec(SeriesInputSpec):
    flip_deg = traits.List(traits.Float(), mandatory=True, desc="of PD-, T1- and MT-weighted")
    tr_s = traits.List(traits.Float(), mandatory=True, desc="repetition times (s)")
    n_echoes = traits.Int(1, usedefault=True, desc="echoes of each image, to be averaged")
    b1 = File(exists=True, desc="B1+ relative to nominal, on any grid")
    b1_se = File(exists=True, desc="its standard error")
    residual_b1_c = traits.Float(0.0, usedefault=True, desc="constant C; 0 for none")


class _MTsatOutputSpec(FactsOutputSpec):
    mtsat = File(exists=True, desc="saturation by one pulse (0 to 1)")
    mtsat_se = File(exists=True, desc="its standard error")
    t1 = File(exists=True, desc="T1 (s)")
    t1_se = File(exists=True, desc="its standard error (s)")
    r1 = File(exists=True, desc="R1 (1/s)")
    r1_se = File(exists=True, desc="its standard error (1/s)")
    m0 = File(exists=True, desc="equilibrium signal (input units)")
    m0_se = File(exists=True, desc="its standard error")
    status = File(exists=True, desc="reason codes")
    mtr = File(exists=True, desc="magnetisation transfer ratio (0 to 1)")
    mtr_se = File(exists=True, desc="its standard error")
    mtr_status = File(exists=True, desc="reason codes of the ratio")


class FitMTsat(MapInterface):
    """MTsat, T1, M0 and MTR from images with PD, T1 and MT weighting."""

    input_spec = _MTsatInputSpec
    output_spec = _MTsatOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        stack, like = load_series(self.inputs.in_files)
        n = self.inputs.n_echoes
        signal = stack.reshape(*stack.shape[:3], 3, n).mean(axis=-1) if n > 1 else stack
        mask = limb_mask(mean_image(signal))
        sigma = self.noise_of(stack, mask) / np.sqrt(n)
        known = bool(np.isfinite(sigma))
        b1, b1_se = (self.on_grid(name, like) for name in ("b1", "b1_se"))
        ratio = mtr_percent(signal[..., 0], signal[..., 2], sigma if known else None, mask)
        self.write(
            runtime, like, mtr=ratio.mtr_percent / 100, mtr_se=ratio.mtr_se_percent / 100,
            mtr_status=ratio.status,
        )  # fmt: skip
        del ratio
        fit = fit_mtsat(
            signal,
            np.deg2rad(self.inputs.flip_deg),
            self.inputs.tr_s,
            mask,
            b1,
            b1_se if known else None,
            sigma if known else None,
            residual_b1_c=self.inputs.residual_b1_c or None,
        )
        self.write(
            runtime, like,
            mtsat=fit.mtsat_percent / 100, mtsat_se=fit.mtsat_se_percent / 100,
            t1=fit.t1_s, t1_se=fit.t1_se_s, r1=1 / fit.t1_s, r1_se=_rate_se(fit.t1_s, fit.t1_se_s),
            m0=fit.m0, m0_se=fit.m0_se, status=fit.status,
        )  # fmt: skip
        correction = "not B1-corrected" if b1 is None else "B1-corrected"
        c = self.inputs.residual_b1_c
        residual = f", residual B1 constant {c:g}" if c else ""
        self.tell(
            quality=series_quality(signal, mask, sigma, fit.status),
            flags=["no-b1"] * (b1 is None) + ["no-se"] * (not known),
            method=f"MTsat, small-angle solution of Helms, {correction}{residual}",
            references=[*_HELMS, *(["doi:10.3389/fnins.2013.00095"] if c else [])],
        )
        return runtime


def _rate_se(t1_s: NDArray[np.floating], t1_se_s: NDArray[np.floating]) -> NDArray[np.floating]:
    return t1_se_s / t1_s**2
