"""Nipype face of q-ball imaging: fibre directions inside nerves and muscles."""

from __future__ import annotations

from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits

from mrn_prep.interfaces._base import FactsOutputSpec
from mrn_prep.interfaces._dce import region_memberships
from mrn_prep.interfaces.dwi_fits import FitInputSpec, FitInterface
from mrn_prep.io.gradients import to_scanner_axes
from mrn_prep.io.images import array
from mrn_prep.models.denoised import Denoised
from mrn_prep.models.qball import fit_qball
from mrn_prep.models.quality import measured_volumes
from mrn_prep.models.status import Reason

TISSUES = ("nerve", "muscle")


class _FitQBallInputSpec(FitInputSpec):
    regions = traits.List(traits.Dict(), mandatory=True, desc="records of `RegionFile`")
    min_fraction = traits.Float(0.5, usedefault=True, desc="part of a voxel in the region")


class _FitQBallOutputSpec(FactsOutputSpec):
    gfa = File(exists=True, desc="generalised fractional anisotropy")
    peaks = File(exists=True, desc="directions times heights, scanner axes, three per peak")
    qball_status = File(exists=True, desc="reason codes")


class FitQBall(FitInterface):
    """Find the peaks of the orientation distribution in nerves and muscles."""

    input_spec = _FitQBallInputSpec
    output_spec = _FitQBallOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, limb, b_s_mm2, bvecs, raw = self.loaded()
        noise, _ = self.series_noise(raw, limb)
        inside = np.zeros(limb.shape, dtype=np.bool_)
        for region, member in region_memberships(self.inputs.regions, image):
            if region.tissue in TISSUES:
                inside[member.box] |= member.fraction >= self.inputs.min_fraction
        inside &= limb
        # a volume that was not measured has no place in a transform over the sphere
        measured = measured_volumes(array(image), inside if inside.any() else limb)
        series = self.series(image, measured)
        if isinstance(noise, Denoised):
            series = noise.amplitudes(series, inside, rician=self.rician)
        found = fit_qball(series, b_s_mm2[measured], bvecs[measured], inside)
        directions = to_scanner_axes(found.directions, image.affine)
        peaks = directions * found.values[..., None]
        self.write(
            runtime, image, gfa=found.gfa, peaks=peaks.reshape(*inside.shape, -1),
            qball_status=found.status,
        )  # fmt: skip
        fitted = found.status == Reason.FITTED
        several = float((found.n_peaks[fitted] > 1).mean()) if fitted.any() else np.nan
        self.tell(
            quality={"qball_n_voxels": float(fitted.sum()), "qball_crossing_fraction": several},
            method="q-ball imaging in constant solid angle, inside nerves and muscles",
            references=["doi:10.1002/mrm.22365", "doi:10.1002/mrm.20279"],
        )
        return runtime
