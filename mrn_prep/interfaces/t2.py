"""Nipype face of the T2 models."""

from __future__ import annotations

from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits
from numpy.typing import NDArray

from mrn_prep.inputs.rois import RegionFile
from mrn_prep.interfaces._base import (
    FactsOutputSpec,
    MapInterface,
    SeriesInputSpec,
    load_series,
    mean_image,
)
from mrn_prep.io.images import array, load, voxel_mm
from mrn_prep.measure.regions import memberships, probability_membership
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.quality import series_quality
from mrn_prep.models.slice_profile import sinc_profile
from mrn_prep.models.t2_mese import T2Result, fit_mese
from mrn_prep.models.t2_simple import fit_dual_echo, fit_mono_exponential
from mrn_prep.models.t2_water_fat import (
    WaterFatT2Result,
    calibrate_fat_t2,
    fit_mese_two_component,
)

USUAL_FAT_T2_S = 0.13
"""T2 of fat where it could not be measured: trains read it long (70 to 150 ms at 3 T)."""

_EPG = ("doi:10.1002/mrm.22487", "doi:10.1002/mrm.25156")
_WATER_FAT = ("doi:10.1002/nbm.3459", "doi:10.3389/fneur.2021.630387")


class _T2OutputSpec(FactsOutputSpec):
    t2 = File(exists=True, desc="T2 (s)")
    t2_se = File(exists=True, desc="its standard error (s)")
    m0 = File(exists=True, desc="signal without decay (input units)")
    m0_se = File(exists=True, desc="its standard error")
    status = File(exists=True, desc="reason codes")


class _DecayInputSpec(SeriesInputSpec):
    te_s = traits.List(traits.Float(), mandatory=True, desc="echo or preparation times (s)")
    method = traits.Enum("t2prep", "dual", "mono", mandatory=True, desc="what the times are")
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


class FitDecay(MapInterface):
    """Fit an exponential: T2-prepared images, two echoes, or a train taken at face value."""

    input_spec = _DecayInputSpec
    output_spec = _T2OutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        mask = limb_mask(signal[..., 0])
        sigma = self.noise_of(signal, mask)
        noise = sigma if np.isfinite(sigma) else None
        te_s, method = list(self.inputs.te_s), self.inputs.method
        if method == "dual":
            fit = fit_dual_echo(signal, te_s, mask, noise)
        else:
            # the first echo of a train lacks what the stimulated echoes bring to the others
            first = int(method == "mono")
            fit = fit_mono_exponential(
                signal[..., first:], te_s[first:], mask, noise, n_threads=self.inputs.n_threads
            )
        self.write(runtime, like, t2=fit.t2_s, t2_se=fit.t2_se_s, m0=fit.m0, m0_se=fit.m0_se,
                   status=fit.status)  # fmt: skip
        how = {
            "t2prep": "T2-prepared images, exponential",
            "dual": "two echoes, logarithm of their ratio",
            "mono": "multi-echo train, exponential without the first echo",
        }
        self.tell(
            quality=series_quality(signal, mask, sigma, fit.status),
            flags=["apparent-t2"] * (method != "t2prep")
            + ["no-se"] * (not np.isfinite(fit.t2_se_s).any()),
            method=how[method],
            references=["doi:10.1007/s00062-017-0658-9"] if method == "t2prep" else [],
        )
        return runtime


class _MESEInputSpec(SeriesInputSpec):
    spacing_s = traits.Float(mandatory=True, desc="time between echoes (s)")
    first_echo = traits.Int(1, usedefault=True, desc="number of the first echo given")
    model = traits.Enum("water-fat", "single", mandatory=True, desc="tissues in a voxel")
    refocusing_deg = traits.Float(180.0, usedefault=True, desc="nominal refocusing angle")
    slice_profile = traits.Enum("ideal", "sinc", usedefault=True, desc="angles across the slice")
    b1 = File(exists=True, desc="B1+ relative to nominal, on any grid; fitted without it")
    b1_se = File(exists=True, desc="its standard error")
    pdff = File(exists=True, desc="fat fraction (0 to 1), on any grid; fitted without it")
    pdff_se = File(exists=True, desc="its standard error")
    fat_region = traits.Dict(desc="record of `RegionFile` with the one region of fat")
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


class _MESEOutputSpec(_T2OutputSpec):
    b1 = File(exists=True, desc="B1+ that was fitted or given")
    b1_se = File(exists=True, desc="its standard error")
    pdff = File(exists=True, desc="fat fraction that was fitted or given (0 to 1)")
    pdff_se = File(exists=True, desc="its standard error")


class FitMESE(MapInterface):
    """Fit T2 to a multi-echo train by extended phase graphs, of water beside fat or alone."""

    input_spec = _MESEInputSpec
    output_spec = _MESEOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        signal, like = load_series(self.inputs.in_files)
        mask = limb_mask(mean_image(signal[..., : max(1, signal.shape[-1] // 2)]))
        sigma = self.noise_of(signal, mask)
        b1, b1_se, pdff, pdff_se = (
            self.on_grid(name, like) for name in ("b1", "b1_se", "pdff", "pdff_se")
        )
        shared: dict[str, Any] = {
            "sigma": sigma if np.isfinite(sigma) else None,
            "refocusing_rad": float(np.deg2rad(self.inputs.refocusing_deg)),
            "first_echo": self.inputs.first_echo,
        }
        if self.inputs.slice_profile == "sinc":
            shared["profile"] = sinc_profile(refocusing_rad=shared["refocusing_rad"])
        spacing_s = self.inputs.spacing_s
        flags, note, said = ["no-fat-model"], "", ""
        fitting = {"b1": b1, "b1_se": b1_se, "n_threads": self.inputs.n_threads}
        fraction: dict[str, Any] = {}
        fit: T2Result | WaterFatT2Result
        if self.inputs.model == "single":
            fit = fit_mese(signal, spacing_s, mask=mask, **fitting, **shared)
        else:
            fat = calibrate_fat_t2(
                signal, spacing_s, mask, voxel_mm(like), self._fat_region(like), b1, **shared
            )
            known = bool(np.isfinite(fat.t2_s))
            flags = ["fat-t2-assumed"] * (not known)
            fat_t2_s = fat.t2_s if known else USUAL_FAT_T2_S
            fit = fit_mese_two_component(
                signal, spacing_s, fat_t2_s, fat_fraction=pdff, fat_fraction_se=pdff_se,
                mask=mask, **fitting, **shared,
            )  # fmt: skip
            # a fraction that was given keeps the error that it came with
            given = 0.0 if pdff_se is None else np.nan_to_num(pdff_se)
            fraction_se = np.where(fit.fat_fraction_se > 0, fit.fat_fraction_se, given)
            fraction = {"pdff": fit.fat_fraction, "pdff_se": fraction_se}
            source = "fitted" if pdff is None else "from the fat-fraction map"
            measured = f"{fat.n_voxels} voxels" if known else "assumed"
            said = f" and fat of T2 {fat_t2_s * 1e3:.1f} ms ({measured}), fat fraction {source}"
            note = "The error of the T2 of fat is not in the standard errors."
        flags += ["no-se"] * (not np.isfinite(fit.t2_se_s).any())
        self.write(
            runtime, like, t2=fit.t2_s, t2_se=fit.t2_se_s, m0=fit.m0, m0_se=fit.m0_se,
            status=fit.status, b1=fit.b1, b1_se=fit.b1_se, **fraction,
        )  # fmt: skip
        how = "fitted" if b1 is None else "from its map"
        self.tell(
            quality=series_quality(signal, mask, sigma, fit.status),
            flags=flags,
            method=f"extended phase graphs of water{said}, B1+ {how}, "
            f"{self.inputs.slice_profile} slice profile",
            references=[*_EPG, *(_WATER_FAT if said else ())],
            note=note,
        )
        return runtime

    def _fat_region(self, like: Any) -> NDArray[np.bool_] | None:
        if not self.inputs.fat_region:
            return None
        file = RegionFile.from_record(self.inputs.fat_region)
        drawn, shape = load(file.file), like.shape[:3]
        (region,) = file.regions
        if file.kind == "probseg":
            member = probability_membership(array(drawn), drawn.affine, shape, like.affine)
        else:
            labels = np.rint(np.asarray(drawn.dataobj)).astype(np.int32)
            found = memberships(labels, drawn.affine, [region.index], shape, like.affine)
            member = found[region.index]
        mask = np.zeros(shape, np.bool_)
        mask[member.box] = member.fraction > _IN_REGION
        return mask


_IN_REGION = 0.9  # of a voxel: what touches muscle says nothing of fat
