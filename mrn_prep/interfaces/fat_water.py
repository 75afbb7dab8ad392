"""Nipype face of the fat-water models."""

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
from mrn_prep.io.images import voxel_mm
from mrn_prep.models.fat_water import fit_fat_water, phase_sign
from mrn_prep.models.fat_water_magnitude import fit_fat_water_magnitude
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.megre import complex_echoes
from mrn_prep.models.quality import series_quality

_REFERENCES = ("doi:10.1002/mrm.21737", "doi:10.1002/mrm.22177", "doi:10.1002/nbm.1622")


class _FatWaterInputSpec(SeriesInputSpec):
    te_s = traits.List(traits.Float(), mandatory=True, desc="echo times (s)")
    field_t = traits.Float(mandatory=True, desc="field strength (T)")
    kind = traits.Enum(
        "polar", "cartesian", "magnitude", mandatory=True,
        desc="in_files: magnitudes then phases, real then imaginary parts, or magnitudes",
    )  # fmt: skip
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


class _FatWaterOutputSpec(FactsOutputSpec):
    pdff = File(exists=True, desc="fat fraction (0 to 1)")
    pdff_se = File(exists=True, desc="its standard error")
    t2star = File(exists=True, desc="T2* (s)")
    t2star_se = File(exists=True, desc="its standard error (s)")
    r2star = File(exists=True, desc="R2* (1/s)")
    r2star_se = File(exists=True, desc="its standard error (1/s)")
    water = File(exists=True, desc="signal of water (input units)")
    fat = File(exists=True, desc="signal of fat (input units)")
    field = File(exists=True, desc="off-resonance (Hz)")
    status = File(exists=True, desc="reason codes")
    t2star_status = File(exists=True, desc="reason codes of T2*")


class FitFatWater(MapInterface):
    """Tell fat from water, with T2* and the field, in a multi-echo gradient echo."""

    input_spec = _FatWaterInputSpec
    output_spec = _FatWaterOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        stack, like = load_series(self.inputs.in_files)
        te_s, kind = list(self.inputs.te_s), self.inputs.kind
        if kind == "magnitude":
            magnitude = stack
        else:
            signal, unit = complex_echoes(stack, kind)
            # those of polar images are the scanner's: as they were read, to the last bit
            magnitude = stack[..., : len(te_s)] if kind == "polar" else np.abs(signal)
        mask = limb_mask(mean_image(magnitude))
        sigma = self.noise_of(magnitude, mask)
        noise = sigma if np.isfinite(sigma) else None
        threads = {"n_threads": self.inputs.n_threads}
        if kind == "magnitude":
            fit = fit_fat_water_magnitude(
                magnitude, te_s, self.inputs.field_t, mask, noise, **threads
            )
            how = "magnitudes"
        else:
            # scanners do not agree on whether phase grows or falls with frequency
            falls = phase_sign(signal, te_s, self.inputs.field_t, mask) < 0
            signal = signal.conj() if falls else signal
            fit = fit_fat_water(
                signal, te_s, self.inputs.field_t, voxel_mm(like), mask, noise, **threads
            )
            phase = [f"in {unit}"] * bool(unit) + ["falling with frequency"] * falls
            told = f" (phase {', '.join(phase)})" if phase else ""
            how = f"complex signal{told}, smooth field map"
        self.write(
            runtime, like,
            pdff=fit.pdff, pdff_se=fit.pdff_se, t2star=fit.t2star_s, t2star_se=fit.t2star_se_s,
            r2star=fit.r2star_per_s, r2star_se=fit.r2star_se_per_s, water=fit.water, fat=fit.fat,
            field=fit.field_hz, status=fit.status, t2star_status=fit.t2star_status,
        )  # fmt: skip
        self.tell(
            quality=series_quality(magnitude, mask, sigma, fit.status),
            flags=["magnitude-only"] * (kind == "magnitude")
            + ["no-se"] * (not np.isfinite(fit.pdff_se).any()),
            method=f"{len(te_s)} echoes, {how}, nine-peak fat, one R2*",
            references=_REFERENCES,
        )
        return runtime
