"""Nipype face of what comes before a perfusion fit: one place, the baseline, the input function."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits

from mrn_prep.errors import BadDataError
from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.interfaces._dce import (
    TISSUE_T1_S,
    Bool,
    ConversionInputSpec,
    Float,
    acquisition_of,
    region_memberships,
)
from mrn_prep.interfaces._dce_rescale import rescaled, signal_at_rest
from mrn_prep.interfaces._dce_table import read_input
from mrn_prep.interfaces._dce_vessel import Vessel, as_acquired, vessel_and_border
from mrn_prep.io.images import array, load
from mrn_prep.io.tables import frame, write_table
from mrn_prep.models.aif_measure import (
    BLOOD_T1_S,
    FATAL,
    INFLOW,
    MIN_VOXELS,
    InputFunction,
    describe_input,
)
from mrn_prep.models.aif_population import (
    PUBLISHED_DOSE_MMOL_PER_KG,
    georgiou_aif,
    parker_aif,
    weinmann_aif,
)
from mrn_prep.models.dce_concentration import concentration_from_signal
from mrn_prep.models.dce_curves import plasma_from_blood
from mrn_prep.models.dce_models import fit_extended_tofts

_IN_VESSEL = 0.5  # of a voxel
_PURE_VESSEL = 0.9  # preferred where enough voxels are so
_POPULATION_STEP_S = 0.5  # a first pass lasts 8 s
_POPULATION = {"parker": parker_aif, "georgiou": georgiou_aif, "weinmann": weinmann_aif}
_ORDER = ("table", "artery", "vein", "auto", "parker")

_REFERENCES = {
    "auto": ("doi:10.1002/mrm.20759",),
    "parker": ("doi:10.1002/mrm.21066",),
    "georgiou": ("doi:10.1002/mrm.27524",),
    "weinmann": ("doi:10.1002/mrm.1910170208",),
}


class _FindInputSpec(ConversionInputSpec):
    kind = traits.Enum(
        "any", "table", "artery", "vein", "auto", *_POPULATION, usedefault=True,
        desc="input function: the first there is, or one of them alone",
    )  # fmt: skip
    rescale = traits.Enum(
        "none", "vein", "area", usedefault=True,
        desc="rescale to the tail of the vein, or the area of a population's curve",
    )  # fmt: skip
    raw_file = File(exists=True, desc="series as acquired ...")
    confounds = File(
        exists=True, desc="... and how its frames were moved; without it they were not"
    )
    t1 = File(exists=True, desc="T1 of tissue before contrast (s), on any grid: tells inflow")
    table = File(exists=True, desc="input function (columns time and blood or plasma; s, mM)")
    regions = traits.List(traits.Dict(), desc="records of `RegionFile`: arteries and veins")
    hematocrit = traits.Float(mandatory=True, desc="volume fraction of red cells")
    hematocrit_known = traits.Bool(True, usedefault=True, desc="whether it was told")
    dose_mmol_per_kg = traits.Float(desc="dose (mmol/kg), where it was told")
    blood_t1_s = traits.Float(BLOOD_T1_S, usedefault=True, desc="T1 of blood (s)")


class _FindOutputSpec(FactsOutputSpec):
    aif = File(exists=True, desc="input function (table)")
    aif_error = traits.Float(desc="standard error of its area, relative; 0 where not measured")
    vessel = File(exists=True, desc="voxels that it was taken from; empty for tables and curves")


@dataclass(frozen=True)
class _Curve:
    """An input function, and how it came about."""

    t_s: Float
    blood_mm: Float
    source: str
    how: str
    """In words."""
    found: InputFunction
    flags: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    of_plasma: bool = False
    """Whether it came as concentration in plasma, so that the haematocrit has no part in it."""
    inflow: float = float("nan")
    """Signal before contrast over that of blood at rest."""


class _UnusableError(Exception):
    """A source of an input function that is not there, or of no use, in words."""


class FindInput(MapInterface):
    """Find the input function: from a table, in a vessel, or a population's."""

    input_spec = _FindInputSpec
    output_spec = _FindOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        curve = self._choose(image)
        hematocrit = self.inputs.hematocrit
        try:
            plasma = plasma_from_blood(curve.blood_mm, hematocrit)
        except ValueError as error:
            raise BadDataError(f"Input function: {error}") from error
        rows = (
            {"time": t, "blood": blood, "plasma": cp}
            for t, blood, cp in zip(curve.t_s, curve.blood_mm, plasma, strict=True)
        )
        path = Path(runtime.cwd) / "aif.tsv"
        self._results["aif"] = str(write_table(frame(rows, "aif"), path, "aif"))
        vessel = curve.found.voxels
        if vessel is None:
            vessel = np.zeros(image.shape[:3], np.bool_)
        self.write(runtime, image, vessel=vessel)
        relative = curve.found.area_se_mm_s / curve.found.area_mm_s
        self._results["aif_error"] = float(relative) if np.isfinite(relative) else 0.0
        assumed = not (self.inputs.hematocrit_known or curve.of_plasma)
        said = f", haematocrit {hematocrit:g}{' assumed' if assumed else ''}"
        self.tell(
            quality={**_numbers(curve.found), "aif_inflow": curve.inflow},
            flags=[*curve.flags, *["hematocrit-assumed"] * assumed],
            method=f"input function {curve.how}{'' if curve.of_plasma else said}",
            references=curve.references,
        )
        return runtime

    def _choose(self, image: Any) -> _Curve:
        """Return the first input function that is there and of use."""
        kind = self.inputs.kind
        if kind != "any":
            try:
                return self._source(kind, image)
            except _UnusableError as error:
                raise BadDataError(
                    f"Input function ({kind}): {error}; another would be taken with --dce-aif any."
                ) from error
        passed: list[str] = []
        for name in _ORDER:
            try:
                curve = self._source(name, image)
            except _Missing:
                continue
            except _UnusableError as error:
                passed.append(f"{name}: {error}")
                continue
            said = f" (not used: {'; '.join(passed)})" if passed else ""
            drawn = any(p.startswith(("artery", "vein")) for p in passed)
            flags = (*curve.flags, *(("aif-region-unused",) if drawn else ()))
            return replace(curve, how=curve.how + said, flags=flags)
        raise AssertionError("a population's curve is always there")

    def _source(self, name: str, image: Any) -> _Curve:
        if name == "table":
            return self._table()
        if name in _POPULATION:
            return self._population(name, image)
        return self._measured(name, image)

    def _table(self) -> _Curve:
        if not self.inputs.table:
            raise _Missing("there is no table of it beside the series")
        t_s, curve, plasma = read_input(self.inputs.table, self.inputs.t_s)
        blood = curve * (1 - self.inputs.hematocrit) if plasma else curve
        before = slice(0, max(int(np.searchsorted(t_s, t_s[curve.argmax()] - 15.0)), 1))
        found = describe_input(blood, t_s, before)
        poor = {"no-peak", "low-peak"} & set(found.flags)
        return _Curve(
            t_s, blood, "table", f"from {Path(self.inputs.table).name}", found,
            ("aif-low-quality",) if poor else (), of_plasma=plasma,
        )  # fmt: skip

    def _measured(self, name: str, image: Any) -> _Curve:
        region = None if name == "auto" else self._vessel(name, image)
        found = self._measure(name, image, region)
        how = {
            "artery": "measured in the region of the artery",
            "vein": "measured in the region of the vein",
            "auto": "of vessels found in the series",
        }[name]
        how += f" ({0 if found.voxels is None else found.voxels.sum()} voxels)"
        flags = {"vein": ["aif-vein"], "auto": ["aif-auto"]}.get(name, [])
        inflow = float("nan") if found.voxels is None else self._inflow(found.voxels, image)
        flags += ["aif-inflow"] * (inflow > INFLOW)
        if self.inputs.rescale == "area" or (self.inputs.rescale == "vein" and name != "vein"):
            dose = self.inputs.dose_mmol_per_kg or PUBLISHED_DOSE_MMOL_PER_KG
            flags += ["dose-assumed"] * (
                self.inputs.rescale == "area" and not self.inputs.dose_mmol_per_kg
            )
            try:
                found, done = rescaled(
                    found, self.inputs.rescale, slice(*self.inputs.baseline), dose,
                    lambda: self._measure("vein", image, self._vessel("vein", image)),
                )  # fmt: skip
            except (ValueError, _UnusableError) as error:
                why = str(error).rstrip(".")
                raise _UnusableError(f"cannot be rescaled ({why})") from error
            how += done
        poor = {"few-voxels", "interpolated"} & set(found.flags)
        flags += ["aif-low-quality"] * bool(poor)
        return _Curve(
            found.t_s, found.curve_mm, name, how, found, tuple(flags), _REFERENCES.get(name, ()),
            inflow=inflow,
        )  # fmt: skip

    def _measure(self, name: str, image: Any, region: Bool | None) -> InputFunction:
        """Return the curve of a vessel, or say why it is of no use."""
        b1 = self.on_grid("b1", image)
        known = np.ones(image.shape[:3], np.bool_) if b1 is None else np.isfinite(b1)
        places = known & (array(load(self.inputs.mask)) > 0 if region is None else region)
        vessel = Vessel(
            np.asarray(self.inputs.t_s, dtype=np.float64), acquisition_of(self.inputs),
            self.inputs.blood_t1_s, b1, self.inputs.sigma or None,
        )  # fmt: skip
        try:
            # a region that was drawn reaches into the tissue around the vessel
            found = vessel.measure(array(image)[places], places, search=region is None)
            if found.usable and self.inputs.confounds and found.voxels is not None:
                around = vessel_and_border(found.voxels, image.affine) if region is None else places
                core = vessel.core(array(image), known & around, image.affine)
                if np.count_nonzero(core) < MIN_VOXELS:
                    found = replace(found, flags=(*found.flags, "interpolated"))
                else:
                    rows = as_acquired(self.inputs.raw_file, self.inputs.confounds, core)
                    found = vessel.measure(rows, core)
        except ValueError as error:
            raise _UnusableError(str(error).rstrip(".")) from error
        if not found.usable:
            why = ", ".join(_WHY[flag] for flag in found.flags if flag in FATAL)
            where = "the series" if name == "auto" else f"the region of the {name}"
            raise _UnusableError(f"the curve found in {where} {why}")
        return found

    def _inflow(self, voxels: Bool, image: Any) -> float:
        """Return how much brighter the vessel is before contrast than blood at rest."""
        t1 = self.on_grid("t1", image)
        if t1 is None or not voxels.any():
            return float("nan")
        first, end = self.inputs.baseline
        before = np.mean([image.dataobj[..., i] for i in range(first, end)], axis=0)
        limb = array(load(self.inputs.mask)) > 0
        expected = signal_at_rest(
            before, limb, t1, self.on_grid("b1", image), self.inputs.blood_t1_s,
            acquisition_of(self.inputs),
        )  # fmt: skip
        return float("nan") if expected is None else float(np.mean((before / expected)[voxels]))

    def _vessel(self, tissue: str, image: Any) -> Bool:
        """Return the voxels of all regions of a kind of vessel."""
        fraction, drawn = np.zeros(image.shape[:3], np.float32), False
        for region, member in region_memberships(self.inputs.regions or [], image):
            if region.tissue == tissue:
                drawn = True
                fraction[member.box] = np.maximum(fraction[member.box], member.fraction)
        if not drawn:
            raise _Missing(f"there is no region of tissue {tissue}")
        chosen: Bool = fraction >= _PURE_VESSEL
        if np.count_nonzero(chosen) < _ENOUGH_PURE:
            chosen = fraction >= _IN_VESSEL
        if not chosen.any():
            raise _UnusableError(f"the region of the {tissue} is empty or lies outside the series")
        return chosen

    def _population(self, name: str, image: Any) -> _Curve:
        dose = self.inputs.dose_mmol_per_kg or PUBLISHED_DOSE_MMOL_PER_KG
        frames = np.asarray(self.inputs.t_s, dtype=np.float64)
        step = min(_POPULATION_STEP_S, float(np.diff(frames).min()))
        t_s = np.append(np.arange(frames[0], frames[-1], step), frames[-1])
        arrival_s = self._arrival(name, image, t_s, dose)
        curve = _POPULATION[name](t_s, dose, arrival_s)
        if name == "weinmann":  # of plasma; the others are of blood
            curve = curve * (1 - self.inputs.hematocrit)
        known = bool(self.inputs.dose_mmol_per_kg)
        return _Curve(
            t_s, curve, name,
            f"of a population ({name.capitalize()}), {dose:g} mmol/kg"
            f"{'' if known else ' assumed'}, arrival at {arrival_s:.3g} s",
            describe_input(curve, t_s, slice(0, max(int(np.sum(t_s < arrival_s)), 1))),
            ("aif-population", *(() if known else ("dose-assumed",))), _REFERENCES[name],
            of_plasma=name == "weinmann",
        )  # fmt: skip

    def _arrival(self, name: str, image: Any, t_s: Float, dose: float) -> float:
        """Return when a population's bolus arrives, so that the limb's mean curve fits best."""
        frames = np.asarray(self.inputs.t_s, dtype=np.float64)
        inside = array(load(self.inputs.mask)) > 0
        mean = np.array([np.nanmean(np.asarray(image.dataobj[..., i])[inside])
                         for i in range(frames.size)])  # fmt: skip
        acquisition = acquisition_of(self.inputs)
        curve = concentration_from_signal(mean, acquisition, TISSUE_T1_S).concentration_mm
        start = float(frames[self.inputs.baseline[1] - 1])
        if not np.isfinite(curve).all():
            return start
        fit = fit_extended_tofts(
            curve, _POPULATION[name](t_s, dose, start), frames, aif_t_s=t_s, delay="fit",
            delay_range_s=(-10.0, 20.0),
        )  # fmt: skip
        later = float(fit.delay_s)
        return start + later if np.isfinite(later) else start


class _Missing(_UnusableError):  # noqa: N818
    """A source that was not given; nothing is wrong with it."""


_ENOUGH_PURE = 3
_WHY = {
    "empty": "is nowhere like that of a vessel",
    "saturated": "is saturated",
    "low-snr": "does not rise above its noise",
    "no-peak": "has no peak",
    "low-peak": "has a peak below 1 mM",
    "no-baseline": "has no baseline",
}


def _numbers(found: InputFunction) -> dict[str, float]:
    """Return what an input function is worth, as quality metrics."""
    numbers = {
        "aif_peak": found.peak_mm,
        "aif_peak_time": found.peak_s,
        "aif_arrival": found.arrival_s,
        "aif_area": found.area_mm_s,
        "aif_washout": 60.0 * found.wash_out_per_s,
    }
    if found.voxels is not None:
        numbers["aif_snr"] = found.snr
        numbers["aif_n_voxels"] = float(np.sum(found.voxels))
        numbers["aif_area_se"] = found.area_se_mm_s
    return numbers
