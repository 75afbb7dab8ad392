"""Magnetisation transfer: the pair of MTR, the three images of MTsat (MTS, MPM)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mrn_prep.errors import Problem
from mrn_prep.inputs.b1 import B1Inputs, CorrectedInputs, choose_b1
from mrn_prep.inputs.checks import Checker, echo_times, equal_in_all
from mrn_prep.inputs.series import SeriesInputs, fingerprint, listed
from mrn_prep.io.dataset import BidsFile, Dataset, Metadata, group_by
from mrn_prep.io.names import series_entities
from mrn_prep.options import Options
from mrn_prep.outputs import Product

_PARTS = frozenset({"flip", "mt", "echo", "part"})


@dataclass(frozen=True, kw_only=True)
class MTRInputs(SeriesInputs):
    """A pair of images; `files` has that without saturation first."""

    modality = "mt"
    name = "MTR"
    sections = ("mt",)
    _copies = 8

    @property
    def description(self) -> str:
        """What will be done with the series."""
        return f"magnetisation transfer ratio ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        return (Product("mtr"),)


@dataclass(frozen=True, kw_only=True)
class MTSInputs(CorrectedInputs):
    """Images with proton-density, T1 and MT weighting; `files` in this order.

    Attributes
    ----------
    flip_deg, tr_s
        Nominal flip angles (degrees) and repetition times (s) of the three.
    n_echoes
        Echoes that all have, whose mean is used; `files` has those of the first image first.
    """

    modality = "mt"
    name = "MTsat"
    sections = ("mt",)
    _copies = 8

    flip_deg: tuple[float, float, float]
    tr_s: tuple[float, float, float]
    n_echoes: int

    @property
    def description(self) -> str:
        """What will be done with the series."""
        return f"MTsat, MTR and T1 of two flip angles, {self.with_b1} ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        ratio: tuple[Product, ...] = ()
        if equal_in_all(self.tr_s[::2]) and equal_in_all(self.flip_deg[::2]):
            ratio = (Product("mtr", "mts", "mtr_status"),)
        own = tuple(Product(key, "mts") for key in ("t1", "r1", "m0"))
        return (Product("mtsat"), *own, *ratio)


def find_mtr(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[MTRInputs], list[Problem]]:
    """Find the MTR pairs of one session; what is wrong comes as problems."""
    found, problems = [], []
    for series in _series(files, ("MTR",)):
        checker = Checker(dataset, costs)
        inputs = _pair(checker, series)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def find_mts(
    dataset: Dataset, files: Sequence[BidsFile], b1: Sequence[B1Inputs], costs: str
) -> tuple[list[MTSInputs], list[Problem]]:
    """Find the MTS and MPM series of one session; what is wrong comes as problems."""
    found, problems = [], []
    for series in _series(files, ("MTS", "MPM")):
        checker = Checker(dataset, costs)
        inputs = _triple(checker, series, b1)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _series(files: Sequence[BidsFile], suffixes: Sequence[str]) -> list[list[BidsFile]]:
    images = [
        f
        for f in files
        if f.suffix in suffixes and f.is_image and f.entities.get("part", "mag") == "mag"
    ]
    return list(group_by(images, _PARTS).values())


def _saturated(checker: Checker, file: BidsFile, metadata: Metadata) -> bool:
    """Return whether the MT pulse was on; name and sidecar must agree."""
    named = file.entities.get("mt")
    told = metadata.values.get("MTState")
    if told is not None and not isinstance(told, bool):
        checker.fault(metadata.sidecar, f"MTState is {told!r}", "wanted true or false")
    elif told is None and named is None:
        checker.fault(metadata.sidecar, "MTState is missing", "wanted true or false")
    elif told is not None and named is not None and told != (named == "on"):
        checker.fault(
            metadata.sidecar, f"MTState is {str(told).lower()}", f"the name says mt-{named}"
        )
    return bool(told) if told is not None else named == "on"


def _pair(checker: Checker, series: Sequence[BidsFile]) -> MTRInputs | None:
    grid = checker.common_grid(series)
    sidecars = [checker.metadata(file) for file in series]
    on = [_saturated(checker, f, m) for f, m in zip(series, sidecars, strict=True)]
    field_t = checker.field_strength(sidecars[0])
    name = series[0].name
    if checker.ok and sorted(on) != [False, True]:
        checker.fault(name, f"the series has {len(series)} file(s), {sum(on)} with saturation",
                      "wanted one mt-off and one mt-on")  # fmt: skip
    tr_s = [
        checker.number(m, "RepetitionTimeExcitation") or checker.number(m, "RepetitionTime")
        for m in sidecars
    ]
    flip = [checker.number(m, "FlipAngle") for m in sidecars]
    for key, values, unit in (("repetition times", tr_s, "s"), ("flip angles", flip, "degrees")):
        known = [value for value in values if value]
        if checker.ok and len(known) == len(series) and not equal_in_all(known):
            both = " and ".join(f"{value:g}" for value in known)
            checker.fault(name, f"{key} of the pair differ ({both} {unit})",
                          "wanted the same with and without saturation")  # fmt: skip
    if not checker.ok or grid is None:
        return None
    files = [series[on.index(False)], series[on.index(True)]]
    return MTRInputs(
        entities=series_entities(series[0].entities),
        files=tuple(str(file.full) for file in files),
        sources=tuple(checker.dataset.uri(file) for file in files),
        grid=grid,
        sequence_class=fingerprint(
            "MTR", field_t, f"TR{tr_s[0] * 1e3:g}" if tr_s[0] else "",
            f"FA{flip[0]:g}" if flip[0] else "",
        ),
    )  # fmt: skip


def _triple(
    checker: Checker, series: Sequence[BidsFile], b1: Sequence[B1Inputs]
) -> MTSInputs | None:
    grid = checker.common_grid(series)
    ordered = sorted(series, key=lambda f: int(f.entities.get("echo", "0")))
    groups: dict[tuple[bool, float, float], list[BidsFile]] = {}
    field_t = None
    for file in ordered:
        metadata = checker.metadata(file)
        if file is ordered[0]:
            field_t = checker.field_strength(metadata)
        flip = checker.number(metadata, "FlipAngle", needed_by=file.suffix)
        repeat_s = checker.number(metadata, "RepetitionTimeExcitation", needed_by=file.suffix)
        on = _saturated(checker, file, metadata)
        groups.setdefault((on, flip or 0.0, repeat_s or 0.0), []).append(file)
    name = ordered[0].name
    chosen = _which(groups)
    if checker.ok and chosen is None:
        there = "; ".join(
            f"mt-{'on' if on else 'off'} {flip:g} degrees TR {tr_s * 1e3:g} ms"
            for on, flip, tr_s in sorted(groups)
        )
        checker.fault(
            name, f"the series has {there}",
            "wanted one image without saturation, one with it and one without it of a larger "
            "flip angle (T1-weighted)",
        )  # fmt: skip
    # protocols often leave the last echoes of the MT-weighted image out
    n_echoes = min(len(files) for files in groups.values())
    shared = {key: files[:n_echoes] for key, files in groups.items()}
    if checker.ok and n_echoes > 1:
        times = {echo_times(checker, [checker.metadata(file) for file in files], ordered[0].suffix)
                 for files in shared.values()}  # fmt: skip
        if checker.ok and len(times) > 1:
            said = "; ".join(f"{listed(some, 1e3)} ms" for some in sorted(times))
            checker.fault(name, f"echo times of the images differ ({said})",
                          "wanted the same echoes of all, whose mean is used")  # fmt: skip
    if not checker.ok or grid is None or chosen is None:
        return None
    files = [file for key in chosen for file in shared[key]]
    flips = chosen[0][1], chosen[1][1], chosen[2][1]
    tr_s = chosen[0][2], chosen[1][2], chosen[2][2]
    return MTSInputs(
        entities=series_entities(ordered[0].entities),
        files=tuple(str(file.full) for file in files),
        sources=tuple(checker.dataset.uri(file) for file in files),
        flip_deg=flips,
        tr_s=tr_s,
        n_echoes=n_echoes,
        grid=grid,
        b1=choose_b1(checker, ordered, b1, "T1 and MTsat are flagged no-b1"),
        sequence_class=fingerprint(
            ordered[0].suffix, field_t, f"TR{listed(tr_s, 1e3)}", f"FA{listed(flips)}"
        ),
    )


def _which(
    groups: dict[tuple[bool, float, float], list[BidsFile]],
) -> tuple[tuple[bool, float, float], ...] | None:
    """Return the keys of the images with proton-density, T1 and MT weighting."""
    off = sorted(key for key in groups if not key[0])
    on = [key for key in groups if key[0]]
    if len(off) != 2 or len(on) != 1:
        return None
    # the T1-weighted one turns more of the magnetisation per time
    off.sort(key=lambda key: key[1] ** 2 / key[2] if key[2] else 0.0)
    weights = [key[1] ** 2 / key[2] if key[2] else 0.0 for key in off]
    return (*off, on[0]) if weights[0] < weights[1] else None
