"""T1 by variable flip angle: the input series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mrn_prep.errors import Problem
from mrn_prep.inputs.b1 import AFIInputs
from mrn_prep.inputs.checks import Checker, equal_in_all
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.io.dataset import BidsFile, Dataset, group_by
from mrn_prep.io.names import series_entities

_PARTS = frozenset({"flip", "part"})


@dataclass(frozen=True, kw_only=True)
class VFAInputs(SeriesInputs):
    """One flip-angle series, ready to fit.

    Attributes
    ----------
    flip_deg
        Nominal flip angles, increasing (degrees), in the order of `files`.
    tr_s
        Time between excitations (s), the same for all.
    b1
        B1+ series to correct with, or None.
    """

    modality = "t1"
    name = "T1"
    _copies = 8

    flip_deg: tuple[float, ...]
    tr_s: float
    b1: AFIInputs | None

    @property
    def description(self) -> str:
        """What will be done with the series."""
        corrected = "with B1+" if self.b1 else "WITHOUT B1+ (flagged no-b1)"
        return f"T1 by variable flip angle, {corrected} ({self.sequence_class})"


def find_vfa(
    dataset: Dataset, files: Sequence[BidsFile], b1: Sequence[AFIInputs], costs: str
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


def _one(checker: Checker, series: Sequence[BidsFile], b1: Sequence[AFIInputs]) -> VFAInputs | None:
    grid = checker.common_grid(series)
    measured = []
    field_t: float | None = None
    for file in series:
        metadata = checker.metadata(file)
        if file is series[0]:
            field_t = checker.field_strength(metadata)
        flip = checker.number(metadata, "FlipAngle", needed_by="VFA")
        tr_s = checker.number(metadata, "RepetitionTimeExcitation", needed_by="VFA")
        te_s = checker.number(metadata, "EchoTime")
        if tr_s and te_s and tr_s <= te_s:
            checker.fault(
                metadata.sidecar,
                f"RepetitionTimeExcitation ({tr_s:g} s) is not longer than EchoTime ({te_s:g} s)",
                "wanted TR > TE",
            )
        measured.append((flip or 0.0, tr_s or 0.0, file))
    name = series[0].name
    if checker.ok and len({flip for flip, *_ in measured}) < 2:
        checker.fault(
            name,
            f"the series has {len(measured)} file(s) with the flip angle {measured[0][0]:g}",
            "wanted two or more different flip angles",
        )
    if checker.ok and not equal_in_all(tr for _, tr, _ in measured):
        times = ", ".join(f"{tr:g}" for _, tr, _ in measured)
        checker.fault(name, f"repetition times differ ({times} s)", "wanted one for the series")
    if not checker.ok or grid is None:
        return None
    measured.sort(key=lambda row: row[0])
    flips = tuple(flip for flip, *_ in measured)
    tr_s = measured[0][1]
    intended = next((m for m in b1 if m.is_for(f.path for f in series)), None) or next(
        iter(b1), None
    )
    if intended is None:
        checker.remark(name, "no usable B1+ map in the session", "T1 is flagged no-b1")
    angles = "-".join(f"{flip:g}" for flip in flips)
    field = f"{field_t:g}T-" if field_t else ""
    return VFAInputs(
        entities=series_entities(series[0].entities),
        files=tuple(str(file.full) for *_, file in measured),
        sources=tuple(checker.dataset.uri(file) for *_, file in measured),
        flip_deg=flips,
        tr_s=tr_s,
        grid=grid,
        b1=intended,
        sequence_class=f"VFA-{field}TR{tr_s * 1e3:g}-FA{angles}",
    )
