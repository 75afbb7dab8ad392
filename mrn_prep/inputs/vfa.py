"""T1 by variable flip angle: the input series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mrn_prep.errors import Problem
from mrn_prep.inputs.b1 import B1Inputs, CorrectedInputs, choose_b1
from mrn_prep.inputs.checks import Checker, equal_in_all
from mrn_prep.inputs.series import fingerprint, listed
from mrn_prep.io.dataset import BidsFile, Dataset, group_by
from mrn_prep.io.names import series_entities
from mrn_prep.options import Options
from mrn_prep.outputs import Product

_PARTS = frozenset({"flip", "part"})


@dataclass(frozen=True, kw_only=True)
class VFAInputs(CorrectedInputs):
    """One flip-angle series, ready to fit.

    Attributes
    ----------
    flip_deg
        Nominal flip angles, increasing (degrees), in the order of `files`.
    tr_s
        Time between excitations (s), the same for all.
    phase_increment_deg
        Increment of the spoiling phase (degrees), or None where the sidecar does not tell.
    gradient_moment_mt_ms_m
        Moment of the spoiler gradient (mT/m ms), or None.
    """

    modality = "t1"
    name = "T1"
    sections = ("t1",)
    _copies = 8

    flip_deg: tuple[float, ...]
    tr_s: float
    phase_increment_deg: float | None = None
    gradient_moment_mt_ms_m: float | None = None

    @property
    def description(self) -> str:
        """What will be done with the series."""
        return f"T1 by variable flip angle, {self.with_b1} ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        return (Product("t1"), Product("m0"))


def find_vfa(
    dataset: Dataset, files: Sequence[BidsFile], b1: Sequence[B1Inputs], costs: str
) -> tuple[list[VFAInputs], list[Problem]]:
    """Find the flip-angle series of one session; what is wrong comes as problems."""
    images = [f for f in files if f.suffix == "VFA" and f.is_image]
    magnitude = [f for f in images if f.entities.get("part", "mag") == "mag"]
    found, problems = [], []
    for series in group_by(magnitude, _PARTS).values():
        checker = Checker(dataset, costs)
        inputs = _one(checker, series, b1)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _one(checker: Checker, series: Sequence[BidsFile], b1: Sequence[B1Inputs]) -> VFAInputs | None:
    grid = checker.common_grid(series)
    sidecars = [checker.metadata(file) for file in series]
    field_t = checker.field_strength(sidecars[0])
    flips, times = [], []
    for metadata in sidecars:
        flip = checker.number(metadata, "FlipAngle", needed_by="VFA")
        tr_s = checker.number(metadata, "RepetitionTimeExcitation", needed_by="VFA")
        te_s = checker.number(metadata, "EchoTime")
        if tr_s and te_s and tr_s <= te_s:
            checker.fault(
                metadata.sidecar,
                f"RepetitionTimeExcitation ({tr_s:g} s) is not longer than EchoTime ({te_s:g} s)",
                "wanted TR > TE",
            )
        flips.append(flip or 0.0)
        times.append(tr_s or 0.0)
    name = series[0].name
    if checker.ok and len(set(flips)) < 2:
        checker.fault(
            name,
            f"the series has {len(series)} file(s) with the flip angle {flips[0]:g}",
            "wanted two or more different flip angles",
        )
    if checker.ok and not equal_in_all(times):
        several = ", ".join(f"{tr:g}" for tr in times)
        checker.fault(name, f"repetition times differ ({several} s)", "wanted one for the series")
    increment, moment = (
        checker.number(sidecars[0], key)
        for key in ("SpoilingRFPhaseIncrement", "SpoilingGradientMoment")
    )
    if not checker.ok or grid is None:
        return None
    order = sorted(range(len(series)), key=lambda i: flips[i])
    chosen = choose_b1(checker, series, b1, "T1 is flagged no-b1")
    return VFAInputs(
        entities=series_entities(series[0].entities),
        files=tuple(str(series[i].full) for i in order),
        sources=tuple(checker.dataset.uri(series[i]) for i in order),
        flip_deg=tuple(flips[i] for i in order),
        tr_s=times[0],
        phase_increment_deg=increment,
        gradient_moment_mt_ms_m=moment,
        grid=grid,
        b1=chosen,
        sequence_class=fingerprint(
            "VFA", field_t, f"TR{times[0] * 1e3:g}", f"FA{listed(sorted(flips))}"
        ),
    )
