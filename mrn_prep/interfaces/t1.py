"""Nipype face of the T1 and B1+ models."""

from __future__ import annotations

from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, traits

from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface, load_series
from mrn_prep.io.images import array, load, same_grid, voxel_mm
from mrn_prep.models.b1_afi import afi_signal
from mrn_prep.models.b1_map import map_b1_afi
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.noise import sigma_from_background
from mrn_prep.models.quality import series_quality
from mrn_prep.models.regrid import average_in_voxels
from mrn_prep.models.resample import resample
from mrn_prep.models.t1_vfa import fit_vfa


class _MapB1AFIInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(
        File(exists=True), minlen=2, maxlen=2, mandatory=True, desc="images of TR1 and TR2"
    )
    flip_deg = traits.Float(mandatory=True, desc="nominal flip angle (degrees)")
    tr1_s = traits.Float(mandatory=True, desc="shorter repetition time (s)")
    tr2_s = traits.Float(mandatory=True, desc="longer repetition time (s)")
    t1 = File(exists=True, desc="T1 (s) on any grid, for the exact inversion")
    m0 = File(exists=True, requires=["t1"], desc="equilibrium signal on the grid of T1")
    smoothing_mm = traits.Float(10.0, usedefault=True, desc="FWHM of smoothing (mm)")
    extrapolate_mm = traits.Float(5.0, usedefault=True, desc="reach of extrapolation (mm)")


class _MapB1AFIOutputSpec(FactsOutputSpec):
    b1 = File(exists=True, desc="B1+ relative to nominal")
    b1_se = File(exists=True, desc="its standard error")
    status = File(exists=True, desc="reason codes")


class MapB1AFI(MapInterface):
    """Map B1+ from an AFI pair."""

    input_spec = _MapB1AFIInputSpec
    output_spec = _MapB1AFIOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        t1_s = self._t1_in_voxels(like) if self.inputs.t1 else None
        result = map_b1_afi(
            signal,
            np.deg2rad(self.inputs.flip_deg),
            self.inputs.tr1_s,
            self.inputs.tr2_s,
            voxel_mm(like),
            t1_s=t1_s,
            smoothing_mm=self.inputs.smoothing_mm,
            extrapolate_mm=self.inputs.extrapolate_mm,
        )
        self.write(runtime, like, b1=result.b1, b1_se=result.b1_se, status=result.status)
        quality = series_quality(signal, result.mask, result.sigma, result.status)
        percent = 100 * np.nanpercentile(result.b1[result.mask], [5, 50, 95])
        quality |= dict(zip(("b1_p05", "b1_median", "b1_p95"), percent, strict=True))
        inversion = "first-order formula" if t1_s is None else "exact two-TR steady state"
        self.tell(
            quality=quality,
            flags=["b1-first-order"] * (t1_s is None) + ["no-se"] * (not np.isfinite(result.sigma)),
            method=f"AFI, {inversion}, local quadratic smoothing",
            references=["doi:10.1002/mrm.21120"],
        )
        return runtime

    def _t1_in_voxels(self, like: Any) -> Any:
        """Return the T1 that a voxel of the pair acts with.

        Its first-order error goes with R1, each tissue counting by its signal.
        """
        t1, m0 = load(self.inputs.t1), load(self.inputs.m0)
        same_grid(t1, m0)
        flip_rad = np.deg2rad(self.inputs.flip_deg)
        weight = afi_signal(array(m0), array(t1), flip_rad, self.inputs.tr1_s, self.inputs.tr2_s)[
            ..., 0
        ]
        total, rate = (
            average_in_voxels(values, t1.affine, like.affine, like.shape[:3])
            for values in (weight, weight / array(t1))
        )
        return total / rate


class _FitVFAInputSpec(BaseInterfaceInputSpec):
    in_files = traits.List(File(exists=True), minlen=2, mandatory=True, desc="one per angle")
    flip_deg = traits.List(traits.Float(), mandatory=True, desc="nominal flip angles (degrees)")
    tr_s = traits.Float(mandatory=True, desc="repetition time (s)")
    b1 = File(exists=True, desc="B1+ relative to nominal, on any grid")
    b1_se = File(exists=True, desc="its standard error")


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
        mask = limb_mask(signal.mean(axis=-1))
        sigma = sigma_from_background(signal, mask)
        known = np.isfinite(sigma)
        b1, b1_se = (self._on_grid(name, like) for name in ("b1", "b1_se"))
        result = fit_vfa(
            signal,
            np.deg2rad(self.inputs.flip_deg),
            self.inputs.tr_s,
            mask,
            b1,
            b1_se if known else None,
            sigma if known else None,
        )
        self.write(
            runtime, like,
            t1=result.t1_s, t1_se=result.t1_se_s, status=result.status,
            m0=result.m0, m0_se=result.m0_se,
        )  # fmt: skip
        correction = "not B1-corrected" if b1 is None else "B1-corrected"
        self.tell(
            quality=series_quality(signal, mask, sigma, result.status),
            flags=["no-b1"] * (b1 is None) + ["no-se"] * (not known),
            method=f"VFA, nonlinear least squares, {correction}",
            references=["doi:10.1002/mrm.10407"],
        )
        return runtime

    def _on_grid(self, name: str, like: Any) -> Any:
        file = getattr(self.inputs, name)
        if not file:
            return None
        image = load(file)
        return resample(array(image), image.affine, like.affine, like.shape[:3])
