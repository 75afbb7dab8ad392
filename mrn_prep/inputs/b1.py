"""B1+ by actual flip angle imaging: the input pair."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mrn_prep.errors import Problem
from mrn_prep.inputs.checks import Checker, equal_in_all
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.io.dataset import BidsFile, Dataset, Metadata
from mrn_prep.io.names import series_entities

_WHICH = re.compile(r"tr([12])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class AFIInputs(SeriesInputs):
    """A pair of images with two repetition times; `files` has that of the shorter first.

    Attributes
    ----------
    flip_deg
        Nominal flip angle (degrees).
    tr1_s, tr2_s
        The shorter and the longer repetition time (s).
    intended_for
        Paths (relative to the data set) that the sidecar names.
    """

    modality = "b1"
    name = "B1+"
    _copies = 20

    flip_deg: float
    tr1_s: float
    tr2_s: float
    intended_for: tuple[str, ...]

    @property
    def description(self) -> str:
        """What will be done with the series."""
        return f"B1+ by AFI ({self.sequence_class})"

    def is_for(self, paths: Iterable[str]) -> bool:
        """Whether the sidecar names one of these files as what it is for."""
        return any(path.endswith(named) for path in paths for named in self.intended_for)


def find_afi(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[AFIInputs], list[Problem]]:
    """Find the AFI pairs of one session; what is wrong comes as problems."""
    pairs: dict[str, dict[str, BidsFile]] = {}
    problems: list[Problem] = []
    for file in files:
        if file.suffix != "TB1AFI" or not file.is_image:
            continue
        match = _WHICH.search(file.entities.get("acquisition", ""))
        if match is None:
            checker = Checker(dataset, costs)
            checker.fault(file.path, "its name does not tell which TR it has", "wanted acq-tr1/tr2")
            problems += checker.problems
            continue
        pairs.setdefault(_WHICH.sub("", file.name), {})[match.group(1)] = file
    found = []
    for pair in pairs.values():
        checker = Checker(dataset, costs)
        inputs = _one(checker, pair)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _one(checker: Checker, pair: Mapping[str, BidsFile]) -> AFIInputs | None:
    if len(pair) < 2:
        (there,) = pair.values()
        checker.fault(there.path, "is alone", "AFI needs a pair acq-tr1 and acq-tr2")
        return None
    series = [pair["1"], pair["2"]]
    grid = checker.common_grid(series)
    sidecars = [checker.metadata(file) for file in series]
    flips = [checker.number(m, "FlipAngle", needed_by="AFI") for m in sidecars]
    times = [checker.number(m, "RepetitionTimeExcitation", needed_by="AFI") for m in sidecars]
    field_t = checker.field_strength(sidecars[0])
    if not checker.ok or grid is None:
        return None
    flip_deg = [flip for flip in flips if flip]
    tr_s = [time for time in times if time]
    if not equal_in_all(flip_deg):
        angles = " and ".join(f"{flip:g}" for flip in flip_deg)
        checker.fault(
            series[1].path, f"flip angles differ ({angles} degrees)", "wanted one for the pair"
        )
    if tr_s[0] >= tr_s[1]:
        checker.fault(
            series[0].path,
            f"acq-tr1 has RepetitionTimeExcitation {tr_s[0]:g} s and acq-tr2 {tr_s[1]:g} s",
            "wanted the shorter one in acq-tr1; the pair looks swapped",
        )
    if not checker.ok:
        return None
    entities = series_entities(series[0].entities)
    acquisition = _WHICH.sub("", entities.pop("acquisition"))
    if acquisition:
        entities["acquisition"] = acquisition
    field = f"{field_t:g}T-" if field_t else ""
    return AFIInputs(
        entities=entities,
        files=tuple(str(file.full) for file in series),
        sources=tuple(checker.dataset.uri(file) for file in series),
        flip_deg=flip_deg[0],
        tr1_s=tr_s[0],
        tr2_s=tr_s[1],
        grid=grid,
        intended_for=tuple(path for m in sidecars for path in _intended(m)),
        sequence_class=f"AFI-{field}TR{tr_s[0] * 1e3:g}-{tr_s[1] * 1e3:g}-FA{flip_deg[0]:g}",
    )


def _intended(metadata: Metadata) -> list[str]:
    """Return the paths that IntendedFor names, as BIDS URI or relative to the participant."""
    value = metadata.values.get("IntendedFor", [])
    named = value if isinstance(value, list) else [value]
    return [str(path).removeprefix("bids::") for path in named if path]
