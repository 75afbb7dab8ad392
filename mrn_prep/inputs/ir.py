"""T1 by inversion recovery: the input series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mrn_prep.errors import Problem
from mrn_prep.inputs.checks import Checker
from mrn_prep.inputs.series import SeriesInputs, fingerprint, listed
from mrn_prep.io.dataset import BidsFile, Dataset, group_by
from mrn_prep.io.names import series_entities
from mrn_prep.options import Options
from mrn_prep.outputs import Product

_MIN_TIMES = 3


@dataclass(frozen=True, kw_only=True)
class IRInputs(SeriesInputs):
    """One inversion-recovery series, ready to fit.

    Attributes
    ----------
    ti_s
        Inversion times, increasing (s), in the order of `files`.
    """

    modality = "t1"
    name = "T1 by inversion recovery"
    sections = ("t1",)
    _copies = 8

    ti_s: tuple[float, ...]

    @property
    def description(self) -> str:
        """What will be done with the series."""
        return f"T1 by inversion recovery ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        return (Product("t1", "ir"),)


def find_ir(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[IRInputs], list[Problem]]:
    """Find the inversion-recovery series of one session; what is wrong comes as problems."""
    images = [
        f
        for f in files
        if f.suffix == "IRT1" and f.is_image and f.entities.get("part", "mag") in ("mag", "real")
    ]
    found, problems = [], []
    for series in group_by(images, frozenset({"inv", "part"})).values():
        # the real part has the polarity that the magnitude lost
        real = [f for f in series if f.entities.get("part") == "real"]
        checker = Checker(dataset, costs)
        inputs = _one(checker, real or series)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _one(checker: Checker, series: Sequence[BidsFile]) -> IRInputs | None:
    grid = checker.common_grid(series)
    sidecars = [checker.metadata(file) for file in series]
    field_t = checker.field_strength(sidecars[0])
    times = [checker.number(m, "InversionTime", needed_by="IRT1") or 0.0 for m in sidecars]
    if checker.ok and len(set(times)) < max(_MIN_TIMES, len(series)):
        several = ", ".join(f"{time:g}" for time in times)
        checker.fault(
            series[0].name, f"the inversion times are {several} s",
            f"wanted {_MIN_TIMES} or more, all different",
        )  # fmt: skip
    if not checker.ok or grid is None:
        return None
    order = sorted(range(len(series)), key=lambda i: times[i])
    return IRInputs(
        entities=series_entities(series[0].entities),
        files=tuple(str(series[i].full) for i in order),
        sources=tuple(checker.dataset.uri(series[i]) for i in order),
        ti_s=tuple(times[i] for i in order),
        grid=grid,
        sequence_class=fingerprint("IR", field_t, f"TI{listed(sorted(times), 1e3)}"),
    )
