"""Nipype face of the B1+ models."""

from __future__ import annotations

from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, traits
from numpy.typing import NDArray

from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface, load_series, mean_image
from mrn_prep.io.images import voxel_mm
from mrn_prep.models.b1_afi import B1Result, afi_signal
from mrn_prep.models.b1_map import B1Map, map_b1_afi, map_b1_dam, smooth_b1_image
from mrn_prep.models.b1_methods import b1_from_rfm, b1_from_tfl, dam_signal, ready_b1_ratio
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.quality import series_quality
from mrn_prep.models.regrid import average_in_voxels
from mrn_prep.models.resample import resample
from mrn_prep.models.t1_vfa import fit_vfa

Float = NDArray[np.floating]

_YARNYKH, _INSKO = "doi:10.1002/mrm.21120", "doi:10.1006/jmra.1993.1133"


class _SmoothInputSpec(BaseInterfaceInputSpec):
    smoothing_mm = traits.Float(10.0, usedefault=True, desc="FWHM of smoothing (mm)")
    extrapolate_mm = traits.Float(5.0, usedefault=True, desc="reach of extrapolation (mm)")


class _PairInputSpec(_SmoothInputSpec):
    in_files = traits.List(
        File(exists=True), minlen=2, maxlen=2, mandatory=True,
        desc="images of TR1 and TR2, or of the angle and its double",
    )  # fmt: skip
    method = traits.Enum("afi", "dam", mandatory=True, desc="what the pair is")
    flip_deg = traits.Float(mandatory=True, desc="nominal flip angle of the first (degrees)")
    tr_s = traits.List(traits.Float(), desc="repetition times: two of AFI, one of DAM (s)")
    vfa_files = traits.List(
        File(exists=True), requires=["vfa_flip_deg", "vfa_tr_s", "tr_s"],
        desc="flip-angle series on any grid, whose T1 makes the inversion exact",
    )  # fmt: skip
    vfa_flip_deg = traits.List(traits.Float(), desc="its nominal flip angles (degrees)")
    vfa_tr_s = traits.Float(desc="its repetition time (s)")


class _B1OutputSpec(FactsOutputSpec):
    b1 = File(exists=True, desc="B1+ relative to nominal")
    b1_se = File(exists=True, desc="its standard error")
    status = File(exists=True, desc="reason codes")


class _MapB1(MapInterface):
    def _save(self, runtime: Any, like: Any, signal: Any, found: B1Map, **facts: Any) -> None:
        self.write(runtime, like, b1=found.b1, b1_se=found.b1_se, status=found.status)
        quality = series_quality(signal, found.mask, found.sigma, found.status)
        inside = found.b1[found.mask & np.isfinite(found.b1)]
        percent = 100 * np.percentile(inside, [5, 50, 95]) if inside.size else [np.nan] * 3
        quality |= dict(zip(("b1_p05", "b1_median", "b1_p95"), percent, strict=True))
        self.tell(quality=quality, **facts)


class MapB1Pair(_MapB1):
    """Map B1+ from two images: actual flip angle imaging or the double-angle method.

    The steady state of the pair depends on T1, and T1 of a flip-angle series on B1+. With
    such a series both are found in turn until B1+ stays.
    """

    input_spec = _PairInputSpec
    output_spec = _B1OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        found, settled = self._map(signal, like), False
        if self.inputs.vfa_files:
            vfa, fine = load_series(self.inputs.vfa_files)
            limb = limb_mask(mean_image(vfa))
            for _ in range(_MAX_PASSES):
                before, t1_s = found, self._t1_in_voxels(vfa, fine, limb, found, like)
                found = self._map(signal, like, t1_s)
                if settled := _change(before, found) < _SETTLED:
                    break
        afi = self.inputs.method == "afi"
        first = "first-order formula" if afi else "complete recovery"
        inversion = "exact steady state" if self.inputs.vfa_files else first
        name = "AFI" if afi else "double angle"
        self._save(
            runtime, like, signal, found,
            flags=["b1-first-order"] * (not settled) + ["no-se"] * (not np.isfinite(found.sigma)),
            method=f"{name}, {inversion}, local quadratic smoothing",
            references=[_YARNYKH if afi else _INSKO],
        )  # fmt: skip
        return runtime

    def _map(self, signal: Float, like: Any, t1_s: Float | None = None) -> B1Map:
        flip_rad, times = float(np.deg2rad(self.inputs.flip_deg)), list(self.inputs.tr_s or [])
        shared: dict[str, Any] = {
            "t1_s": t1_s,
            "smoothing_mm": self.inputs.smoothing_mm,
            "extrapolate_mm": self.inputs.extrapolate_mm,
        }
        if self.inputs.method == "afi":
            tr1_s, tr2_s = times
            return map_b1_afi(signal, flip_rad, tr1_s, tr2_s, voxel_mm(like), **shared)
        tr_s = times[0] if times else None
        return map_b1_dam(signal, flip_rad, voxel_mm(like), tr_s=tr_s, **shared)

    def _t1_in_voxels(self, vfa: Float, fine: Any, limb: Any, found: B1Map, like: Any) -> Float:
        """Return the T1 that a voxel of the pair acts with, given a map of B1+.

        Tissues count by their signal. The error without T1 goes with R1 where little recovers
        (AFI), and with what is left to recover where nearly all does (double angle).
        """
        angles, tr_s = np.deg2rad(self.inputs.vfa_flip_deg), self.inputs.vfa_tr_s
        b1 = resample(found.b1, like.affine, fine.affine, fine.shape[:3])
        fit = fit_vfa(vfa, angles, tr_s, limb, b1)
        flip_rad, times = np.deg2rad(self.inputs.flip_deg), list(self.inputs.tr_s)

        def mean(values: Float) -> Float:
            return average_in_voxels(values, fine.affine, like.affine, like.shape[:3])

        if self.inputs.method == "afi":
            weight = afi_signal(fit.m0, fit.t1_s, flip_rad, *times)[..., 0]
            afi: Float = mean(weight) / mean(weight / fit.t1_s)
            return afi
        weight = dam_signal(fit.m0, flip_rad, fit.t1_s, times[0])[..., 0]
        missing = mean(weight * np.exp(-times[0] / fit.t1_s)) / mean(weight)
        with np.errstate(divide="ignore"):
            dam: Float = -times[0] / np.log(missing)
        # beyond the flip-angle series, the usual T1 is nearer to the truth than full recovery
        known = dam[np.isfinite(dam)]
        return np.where(np.isfinite(dam), dam, np.median(known) if known.size else np.nan)


_MAX_PASSES = 20
_SETTLED = 1e-4
"""Relative change from pass to pass at which B1+ is taken to stay, in nearly all voxels."""


def _change(before: B1Map, after: B1Map) -> float:
    ratio = after.b1 / before.b1
    known = np.isfinite(ratio)
    return float(np.quantile(np.abs(ratio[known] - 1), 0.95)) if known.any() else 0.0


class _ImageInputSpec(_SmoothInputSpec):
    in_file = File(exists=True, mandatory=True, desc="image of angles, or a finished map")
    method = traits.Enum("tfl", "rfm", "map", mandatory=True, desc="what the image is")
    flip_deg = traits.Float(desc="nominal flip angle (degrees)")
    anatomy = File(exists=True, desc="image of the limb on the same grid")


class MapB1Image(_MapB1):
    """Turn an image of angles or a finished map into relative B1+, smoothed inside the limb."""

    input_spec = _ImageInputSpec
    output_spec = _B1OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        values, like = load_series([self.inputs.in_file])
        image = values[..., 0]
        if self.inputs.anatomy:
            mask = limb_mask(load_series([self.inputs.anatomy])[0][..., 0])
        else:
            # scanners leave the angle at 0 where there is no signal
            mask = np.isfinite(image) & (image > 0)
        known = self.inputs.flip_deg
        flip_rad = float(np.deg2rad(known)) if known else None
        unit = "angle"
        if self.inputs.method == "map":
            ready = ready_b1_ratio(image, mask, flip_rad)
            raw: B1Result = ready
            unit = ready.unit
        else:
            assert flip_rad is not None
            convert = {"tfl": b1_from_tfl, "rfm": b1_from_rfm}[self.inputs.method]
            raw = convert(image, flip_rad, mask)
        found = smooth_b1_image(
            raw, mask, voxel_mm(like),
            smoothing_mm=self.inputs.smoothing_mm, extrapolate_mm=self.inputs.extrapolate_mm,
        )  # fmt: skip
        name = {"tfl": "TurboFLASH", "rfm": "RF map", "map": f"ready map ({unit})"}
        self._save(
            runtime, like, values, found,
            flags=["no-se"] * (self.inputs.smoothing_mm <= 0),
            method=f"{name[self.inputs.method]}, local quadratic smoothing",
            references=["doi:10.1002/mrm.22423"] if self.inputs.method == "tfl" else [],
            note="The noise of B1+ is what varies from voxel to voxel of the map.",
        )  # fmt: skip
        return runtime
