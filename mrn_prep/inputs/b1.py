"""B1+: what every way of measuring it shares, and which series is corrected with which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from mrn_prep.inputs.checks import Checker
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.io.dataset import BidsFile, Metadata
from mrn_prep.options import Options
from mrn_prep.outputs import Product


@dataclass(frozen=True, kw_only=True)
class B1Inputs(SeriesInputs):
    """Images that B1+ is made of.

    Attributes
    ----------
    intended_for
        Paths (relative to the data set) that the sidecars name.
    """

    modality = "b1"
    name = "B1+"
    sections = ("b1",)
    method: ClassVar[str]
    """What goes into ``desc-`` of the map; empty for the default method."""
    title: ClassVar[str]
    _copies = 20

    intended_for: tuple[str, ...]

    @property
    def description(self) -> str:
        """What will be done with the series."""
        return f"B1+ by {self.title} ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        return (Product("b1", self.method),)

    def is_for(self, paths: Iterable[str]) -> bool:
        """Whether a sidecar names one of these files as what it is for."""
        return any(path.endswith(named) for path in paths for named in self.intended_for)


@dataclass(frozen=True, kw_only=True)
class CorrectedInputs(SeriesInputs):
    """A series whose flip angles can be corrected by B1+.

    Attributes
    ----------
    b1
        B1+ series to correct with, or None.
    """

    b1: B1Inputs | None

    @property
    def with_b1(self) -> str:
        """Whether B1+ corrects it, in a few words."""
        return "with B1+" if self.b1 else "WITHOUT B1+ (flagged no-b1)"


def choose_b1(
    checker: Checker, files: Sequence[BidsFile], b1: Sequence[B1Inputs], costs: str
) -> B1Inputs | None:
    """Return the B1+ series of some images: the one meant for them, else the session's first.

    Where there is none, what that costs is remarked.
    """
    meant = next((m for m in b1 if m.is_for(file.path for file in files)), None)
    chosen = meant or next(iter(b1), None)
    if chosen is None:
        checker.remark(files[0].name, "no usable B1+ map in the session", costs)
    return chosen


def intended(metadata: Metadata) -> list[str]:
    """Return the paths that IntendedFor names, as BIDS URI or relative to the participant."""
    value = metadata.values.get("IntendedFor", [])
    named = value if isinstance(value, list) else [value]
    return [str(path).removeprefix("bids::") for path in named if path]
