"""Nipype face of the B1+ models."""

from __future__ import annotations

from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, traits

from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface, load_series
from mrn_prep.io.images import array, load, same_grid, voxel_mm
from mrn_prep.models.b1_afi import B1Result, afi_signal
from mrn_prep.models.b1_map import B1Map, map_b1_afi, map_b1_dam, smooth_b1_image
from mrn_prep.models.b1_methods import b1_from_rfm, b1_from_tfl, dam_signal, ready_b1_ratio
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.quality import series_quality
from mrn_prep.models.regrid import average_in_voxels

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
    t1 = File(exists=True, desc="T1 (s) on any grid, for the exact inversion")
    m0 = File(exists=True, requires=["t1"], desc="equilibrium signal on the grid of T1")


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
    """Map B1+ from two images: actual flip angle imaging or the double-angle method."""

    input_spec = _PairInputSpec
    output_spec = _B1OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        t1_s = self._t1_in_voxels(like) if self.inputs.t1 else None
        flip_rad, afi = float(np.deg2rad(self.inputs.flip_deg)), self.inputs.method == "afi"
        times = list(self.inputs.tr_s or [])
        shared: dict[str, Any] = {
            "t1_s": t1_s,
            "smoothing_mm": self.inputs.smoothing_mm,
            "extrapolate_mm": self.inputs.extrapolate_mm,
        }
        if afi:
            tr1_s, tr2_s = times
            found = map_b1_afi(signal, flip_rad, tr1_s, tr2_s, voxel_mm(like), **shared)
        else:
            tr_s = times[0] if times else None
            found = map_b1_dam(signal, flip_rad, voxel_mm(like), tr_s=tr_s, **shared)
        first = "first-order formula" if afi else "complete recovery"
        inversion = first if t1_s is None else "exact steady state"
        name = "AFI" if afi else "double angle"
        self._save(
            runtime, like, signal, found,
            flags=["b1-first-order"] * (t1_s is None) + ["no-se"] * (not np.isfinite(found.sigma)),
            method=f"{name}, {inversion}, local quadratic smoothing",
            references=[_YARNYKH if afi else _INSKO],
        )  # fmt: skip
        return runtime

    def _t1_in_voxels(self, like: Any) -> Any:
        """Return the T1 that a voxel of the pair acts with.

        Its first-order error goes with R1, each tissue counting by its signal.
        """
        t1, m0 = load(self.inputs.t1), load(self.inputs.m0)
        same_grid(t1, m0)
        flip_rad, times = np.deg2rad(self.inputs.flip_deg), list(self.inputs.tr_s)
        if self.inputs.method == "afi":
            weight = afi_signal(array(m0), array(t1), flip_rad, *times)[..., 0]
        else:
            weight = dam_signal(array(m0), flip_rad, array(t1), *times)[..., 0]
        total, rate = (
            average_in_voxels(values, t1.affine, like.affine, like.shape[:3])
            for values in (weight, weight / array(t1))
        )
        return total / rate


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
