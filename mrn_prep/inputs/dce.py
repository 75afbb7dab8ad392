"""DCE perfusion: the input series, its times, its contrast agent, and what T1 it can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.errors import Problem
from mrn_prep.inputs.b1 import B1Inputs, CorrectedInputs, choose_b1
from mrn_prep.inputs.checks import Checker
from mrn_prep.inputs.series import fingerprint
from mrn_prep.inputs.vfa import VFAInputs
from mrn_prep.io.dataset import BidsFile, Dataset, Metadata
from mrn_prep.io.images import array, load
from mrn_prep.io.names import series_entities
from mrn_prep.models.dce_relaxivity import relaxivity
from mrn_prep.options import Options
from mrn_prep.outputs import Product, dce_products, files_of

HEMATOCRIT = 0.42
"""Taken, and flagged, where the sidecar does not tell."""

BLOOD_T1_S = {1.5: 1.48, 3.0: 1.65, 7.0: 2.09}
"""T1 of blood (s) by field strength (T): Zhang X, et al. Magn Reson Med 2013;70:1082-1086,
doi:10.1002/mrm.24550."""

_MIN_FRAMES = 8
_MIN_BASELINE = 2


@dataclass(frozen=True, kw_only=True)
class DCEInputs(CorrectedInputs):
    """One dynamic series, ready to process; `files` has this one image.

    Attributes
    ----------
    t_s
        Onsets of the frames (s).
    flip_deg, tr_s, field_t
        Flip angle (degrees), time between excitations (s), field strength (T).
    relaxivity_per_mm_per_s, relaxivity_source
        Longitudinal relaxivity of the agent (1/(mM s)) and where it is from.
    dose_mmol_per_kg
        Dose, or None where the sidecar does not tell.
    hematocrit, hematocrit_known
        Volume fraction of red cells, and whether the sidecar told it.
    injection_s
        Start of the injection (s), or None: then it is found in the curves.
    fat_saturated
        Whether the sidecar says so.
    n_pulses, gap_s, centre
        Pulses from one interruption to the next, by how much longer than TR the time to the
        next pulse then is (s), and the pulse (from 0) of the centre of k-space; 1, 0 and 0 for
        a train without interruptions.
    vfa
        Flip-angle series that gives T1 before contrast, or None.
    t1_map, t1_source
        A ready T1 map (s) in its place, and its BIDS URI; empty for none.
    aif_file
        Table with the input function, or empty.
    """

    modality = "dce"
    name = "DCE perfusion"
    sections = ("dce", "roi")
    _copies = 3

    t_s: tuple[float, ...]
    flip_deg: float
    tr_s: float
    field_t: float
    relaxivity_per_mm_per_s: float
    relaxivity_source: str
    dose_mmol_per_kg: float | None
    hematocrit: float
    hematocrit_known: bool
    injection_s: float | None
    fat_saturated: bool
    n_pulses: int = 1
    gap_s: float = 0.0
    centre: int = 0
    vfa: VFAInputs | None = None
    t1_map: str = ""
    t1_source: str = ""
    aif_file: str = ""

    @property
    def blood_t1_s(self) -> float:
        """T1 of blood at the field strength nearest to that of the series (s)."""
        return BLOOD_T1_S[min(BLOOD_T1_S, key=lambda field_t: abs(field_t - self.field_t))]

    @property
    def description(self) -> str:
        """What will be done with the series."""
        t1 = "T1 by variable flip angle" if self.vfa else "a ready T1 map" if self.t1_map else ""
        return (
            f"DCE perfusion, {len(self.t_s)} frames, {t1 or 'fixed T1 (flagged)'}, {self.with_b1} "
            f"({self.sequence_class})"
        )

    def denoised(self, options: Options) -> bool:
        """Whether the frames are denoised."""
        return options.dce.denoise == "mppca"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        maps = dce_products(options.dce.model, delay=options.dce.delay)
        files = files_of("dce", skip=options.dce.not_made)
        return (*maps, Product("vessel"), *(Product(spec.key) for spec in files))

    def voxel_faults(self, voxels: Sequence[NDArray[Any]]) -> list[tuple[int, str, str]]:
        """Return whether the series is saturated, and whether the T1 map is one."""
        (series,) = voxels
        highest = series.max()
        at_top = float((series.max(axis=-1) == highest).mean())
        found = []
        if highest > 0 and at_top > _SATURATED:
            found.append((0, f"{100 * at_top:.0f} % of its voxels reach the highest value "
                          f"({highest:g})", "the series is saturated (clipped)"))  # fmt: skip
        if self.t1_map:
            found += [(0, what, wanted) for what, wanted in self._t1_faults()]
        return found

    def _t1_faults(self) -> list[tuple[str, str]]:
        """Return what is wrong with the ready T1 map, which is NaN where there is no T1."""
        source = self.t1_source.rpartition("/")[2]
        try:
            t1 = array(load(self.t1_map))
        except (OSError, EOFError, ValueError) as error:
            return [(f"its T1 map {source} cannot be read ({error})", "wanted a NIfTI image")]
        if not (t1 > 0).any():
            return [(f"its T1 map {source} has no T1 anywhere", "wanted seconds")]
        middle = float(np.median(t1[t1 > 0]))
        if 0.05 <= middle <= 10:
            return []
        hint = " (it looks like milliseconds)" if middle > 10 else ""
        return [(f"its T1 map {source} has a median T1 of {middle:g}{hint}", "wanted seconds")]


_SATURATED = 0.02


def find_dce(
    dataset: Dataset,
    files: Sequence[BidsFile],
    b1: Sequence[B1Inputs],
    costs: str,
    *,
    vfa: Sequence[VFAInputs] = (),
    maps: Sequence[tuple[Dataset, BidsFile]] = (),
) -> tuple[list[DCEInputs], list[Problem]]:
    """Find the dynamic series of one session; what is wrong comes as problems.

    Parameters
    ----------
    dataset, files, b1, costs
        As for every kind of series.
    vfa
        Flip-angle series of the session.
    maps
        Ready T1 maps of the session with the data set they are in, the best first.
    """
    found, problems = [], []
    for file in files:
        if file.suffix.lower() != "dce" or not file.is_image:
            continue
        checker = Checker(dataset, costs)
        inputs = _one(checker, file, files, b1, vfa, maps)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _one(
    checker: Checker,
    file: BidsFile,
    files: Sequence[BidsFile],
    b1: Sequence[B1Inputs],
    vfa: Sequence[VFAInputs],
    maps: Sequence[tuple[Dataset, BidsFile]],
) -> DCEInputs | None:
    grid = checker.grid(file)
    metadata = checker.metadata(file)
    flip_deg = checker.number(metadata, "FlipAngle", needed_by="DCE")
    tr_s = checker.number(metadata, "RepetitionTimeExcitation", needed_by="DCE")
    field_t = checker.number(metadata, "MagneticFieldStrength", needed_by="DCE")
    injection_s = checker.number(metadata, "InjectionStart")
    dose = checker.number(metadata, "ContrastDose")
    hematocrit = checker.number(metadata, "Hematocrit")
    agent = _agent(checker, metadata, field_t)
    times = frame_times(checker, metadata, grid.n_volumes) if grid else None
    train = _interruption(checker, metadata)
    if times and injection_s is not None:
        _check_injection(checker, metadata, times, injection_s)
    if hematocrit is None and "Hematocrit" not in metadata.values:
        checker.remark(metadata.sidecar, "Hematocrit is missing",
                       f"{HEMATOCRIT:g} is taken (flagged hematocrit-assumed)")  # fmt: skip
    if not (checker.ok and grid and times and agent and flip_deg and tr_s and field_t and train):
        return None
    fat_saturated = "FS" in str(metadata.values.get("ScanOptions", "")).upper()
    if fat_saturated and train == (1, 0.0, 0):
        checker.remark(
            metadata.sidecar, "ScanOptions tells fat saturation, nothing tells how often",
            "The train of pulses is taken as continuous (flagged fat-saturation); "
            "ShotLength and ShotGap would tell",
        )  # fmt: skip
    t1_map, t1_source = "", ""
    if not vfa and maps:
        other, ready = maps[0]
        t1_map, t1_source = str(ready.full), other.uri(ready)
    if not vfa and not maps:
        checker.remark(file.path, "the session has no T1", "T1 is taken as --dce-t1-s says "
                       "(flagged t1-assumed)")  # fmt: skip
    aif = next((f for f in files if _is_aif(f) and _belongs(f, file)), None)
    value, source = agent
    return DCEInputs(
        entities={**series_entities(file.entities), "datatype": "perf"},
        files=(str(file.full),),
        sources=(
            checker.dataset.uri(file),
            *([t1_source] if t1_source else []),
            *([checker.dataset.uri(aif)] if aif else []),
        ),
        t_s=times,
        flip_deg=flip_deg,
        tr_s=tr_s,
        field_t=field_t,
        relaxivity_per_mm_per_s=value,
        relaxivity_source=source,
        dose_mmol_per_kg=dose,
        hematocrit=HEMATOCRIT if hematocrit is None else hematocrit,
        hematocrit_known=hematocrit is not None,
        injection_s=injection_s,
        fat_saturated=fat_saturated,
        n_pulses=train[0],
        gap_s=train[1],
        centre=train[2],
        vfa=vfa[0] if vfa else None,
        t1_map=t1_map,
        t1_source=t1_source,
        aif_file=str(aif.full) if aif else "",
        grid=grid,
        b1=choose_b1(checker, [file], b1, "Concentrations are flagged no-b1"),
        sequence_class=fingerprint(
            "DCE", field_t, f"TR{tr_s * 1e3:g}", f"FA{flip_deg:g}",
            f"dt{np.median(np.diff(times)):.3g}", f"n{len(times)}",
        ),
    )  # fmt: skip


def _is_aif(file: BidsFile) -> bool:
    told = file.entities.get("desc", "") == "aif" or file.entities.get("recording") == "aif"
    return told and file.entities.get("extension") == ".tsv"


def _belongs(aif: BidsFile, series: BidsFile) -> bool:
    """Whether all that the name of an input function says is also said by the series' name."""
    own = {"desc", "recording", "suffix", "extension", "datatype"}
    return all(series.entities.get(k) == v for k, v in aif.entities.items() if k not in own)


def frame_times(checker: Checker, metadata: Metadata, n: int) -> tuple[float, ...] | None:
    """Return the onsets of the frames (s) from the keys that tell them, the first that is there.

    Neither RepetitionTime nor the header tells: the one is the time between excitations, the
    other is wrong as often as right.
    """
    for key in ("VolumeTiming", "FrameTimesStart"):
        if key in metadata.values:
            return _times(checker, metadata, key, n)
    if "TemporalResolution" in metadata.values:
        step = checker.number(metadata, "TemporalResolution")
        return tuple(step * i for i in range(n)) if step else None
    checker.fault(
        metadata.sidecar, "there are no frame times",
        "wanted VolumeTiming (or FrameTimesStart, or TemporalResolution), in seconds",
    )  # fmt: skip
    return None


def _times(checker: Checker, metadata: Metadata, key: str, n: int) -> tuple[float, ...] | None:
    value, where = metadata.values[key], metadata.origin.get(key, metadata.sidecar)
    numbers = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    if not isinstance(value, list) or not numbers:
        checker.fault(where, f"{key} is no list of numbers", "wanted seconds, one per frame")
        return None
    if len(value) != n:
        checker.fault(where, f"{key} has {len(value)} times", f"wanted {n}, one per frame")
        return None
    steps = np.diff(value)
    if n < _MIN_FRAMES:
        checker.fault(where, f"the series has {n} frames", f"wanted {_MIN_FRAMES} or more")
    elif (steps <= 0).any():
        checker.fault(where, f"{key} does not increase", "wanted seconds, one per frame")
    elif np.median(steps) > _SLOWEST_S:
        checker.fault(
            where, f"{key} has steps of {np.median(steps):g} (it looks like milliseconds)",
            "wanted seconds",
        )  # fmt: skip
    else:
        return tuple(float(v) for v in value)
    return None


_SLOWEST_S = 120.0


def _check_injection(
    checker: Checker, metadata: Metadata, times: Sequence[float], injection_s: float
) -> None:
    before = sum(time < injection_s for time in times)
    where = metadata.origin.get("InjectionStart", metadata.sidecar)
    if injection_s <= times[0]:
        checker.fault(where, f"InjectionStart is {injection_s:g} s, before the first frame "
                      f"({times[0]:g} s)", "there is no baseline")  # fmt: skip
    elif before < _MIN_BASELINE:
        checker.fault(where, f"{before} frame(s) come before InjectionStart ({injection_s:g} s)",
                      f"the baseline needs {_MIN_BASELINE}")  # fmt: skip
    elif injection_s >= times[-1]:
        checker.fault(where, f"InjectionStart is {injection_s:g} s, after the last frame "
                      f"({times[-1]:g} s)", "wanted seconds on the frames' clock")  # fmt: skip


def _agent(checker: Checker, metadata: Metadata, field_t: float | None) -> tuple[float, str] | None:
    """Return the relaxivity (1/(mM s)) and where it is from; it is never guessed."""
    medium = checker.choice(metadata, "RelaxivityMedium") or "blood"
    if "Relaxivity" in metadata.values:
        value = checker.number(metadata, "Relaxivity")
        return (value, f"sidecar ({medium})") if value else None
    name = metadata.values.get("ContrastAgent", metadata.values.get("ContrastBolusAgent"))
    if not isinstance(name, str):
        checker.fault(
            metadata.sidecar, "the contrast agent is not known",
            "wanted ContrastAgent (such as gadobutrol) or Relaxivity (1/(mM s)); none is guessed",
        )  # fmt: skip
        return None
    if field_t is None:
        return None
    try:
        found = relaxivity(name, field_t, "plasma" if medium == "plasma" else "blood")
    except ValueError as error:
        checker.fault(metadata.sidecar, str(error).rstrip("."), "Relaxivity would tell")
        return None
    return found.per_mm_per_s, f"{name} in {medium} at {field_t:g} T: {found.source}"


def _interruption(checker: Checker, metadata: Metadata) -> tuple[int, float, int] | None:
    """Return pulses per shot, gap (s) and the central pulse; (1, 0, 0) where none is told."""
    keys = ("ShotLength", "ShotGap")
    there = [key for key in keys if key in metadata.values]
    if not there:
        return 1, 0.0, 0
    if len(there) == 1:
        (missing,) = set(keys) - set(there)
        checker.fault(metadata.sidecar, f"{there[0]} is there without {missing}",
                      "wanted both (pulses, seconds)")  # fmt: skip
        return None
    n, gap_s = (checker.number(metadata, key) for key in keys)
    if n is None or gap_s is None:
        return None
    told = checker.number(metadata, "ShotCentre")
    centre = n // 2 if told is None else told
    for key, value in (("ShotLength", n), ("ShotCentre", centre)):
        if not value.is_integer():
            checker.fault(metadata.sidecar, f"{key} is {value:g}", "wanted a whole number")
    if centre >= n:
        checker.fault(metadata.sidecar, f"ShotCentre is {centre:g} of {n:g} pulses",
                      "wanted a pulse of the shot, counted from 0")  # fmt: skip
    return (int(n), gap_s, int(centre)) if checker.ok else None
