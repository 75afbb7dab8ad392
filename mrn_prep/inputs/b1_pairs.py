"""B1+ from two images: actual flip angle imaging (AFI) and the double-angle method (DAM)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.errors import Problem
from mrn_prep.inputs.b1 import B1Inputs, intended
from mrn_prep.inputs.checks import Checker, equal_in_all
from mrn_prep.inputs.series import fingerprint, listed
from mrn_prep.io.dataset import BidsFile, Dataset, group_by
from mrn_prep.io.names import series_entities
from mrn_prep.models.b1_afi import afi_looks_swapped
from mrn_prep.models.b1_methods import dam_looks_swapped
from mrn_prep.models.mask import limb_mask

_WHICH = re.compile(r"tr([12])", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class AFIInputs(B1Inputs):
    """A pair of images with two repetition times; `files` has that of the shorter first.

    Attributes
    ----------
    flip_deg
        Nominal flip angle (degrees).
    tr1_s, tr2_s
        The shorter and the longer repetition time (s).
    """

    method = ""
    title = "AFI"

    flip_deg: float
    tr1_s: float
    tr2_s: float

    def voxel_faults(self, voxels: Sequence[NDArray[Any]]) -> list[tuple[int, str, str]]:
        """Return whether the two images look swapped."""
        pair = np.stack(voxels, axis=-1)
        if not afi_looks_swapped(pair, limb_mask(pair.mean(axis=-1))):
            return []
        return [
            (
                0,
                "is darker than the image of the longer TR",
                "the pair looks swapped: wanted acq-tr1 to be the image acquired before the "
                "shorter TR",
            )
        ]


@dataclass(frozen=True, kw_only=True)
class DAMInputs(B1Inputs):
    """A pair of images with an angle and its double; `files` has the smaller first.

    Attributes
    ----------
    flip_deg
        The smaller nominal flip angle (degrees).
    tr_s
        Repetition time (s) where the sidecar tells it, else None.
    """

    method = "dam"
    title = "the double-angle method"

    flip_deg: float
    tr_s: float | None

    def voxel_faults(self, voxels: Sequence[NDArray[Any]]) -> list[tuple[int, str, str]]:
        """Return whether the two images look swapped."""
        pair = np.stack(voxels, axis=-1)
        mask = limb_mask(pair.mean(axis=-1))
        if not dam_looks_swapped(pair, np.deg2rad(self.flip_deg), mask):
            return []
        return [(0, "and the image of the double angle look swapped", "wanted flip-1 to have the "
                 "smaller angle, as its sidecar says")]  # fmt: skip


def find_afi(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[B1Inputs], list[Problem]]:
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
    found: list[B1Inputs] = []
    for pair in pairs.values():
        checker = Checker(dataset, costs)
        inputs = _afi(checker, pair)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _afi(checker: Checker, pair: Mapping[str, BidsFile]) -> AFIInputs | None:
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
    return AFIInputs(
        entities=entities,
        files=tuple(str(file.full) for file in series),
        sources=tuple(checker.dataset.uri(file) for file in series),
        flip_deg=flip_deg[0],
        tr1_s=tr_s[0],
        tr2_s=tr_s[1],
        grid=grid,
        intended_for=tuple(path for m in sidecars for path in intended(m)),
        sequence_class=fingerprint("AFI", field_t, f"TR{listed(tr_s, 1e3)}", f"FA{flip_deg[0]:g}"),
    )


def find_dam(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[B1Inputs], list[Problem]]:
    """Find the double-angle pairs of one session; what is wrong comes as problems."""
    images = [f for f in files if f.suffix == "TB1DAM" and f.is_image]
    found: list[B1Inputs] = []
    problems: list[Problem] = []
    for pair in group_by(images, frozenset({"flip"})).values():
        checker = Checker(dataset, costs)
        inputs = _dam(checker, pair)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    return found, problems


def _dam(checker: Checker, pair: Sequence[BidsFile]) -> DAMInputs | None:
    if len(pair) != 2:
        checker.fault(pair[0].path, f"is one of {len(pair)} images", "the double-angle method "
                      "needs a pair flip-1 and flip-2")  # fmt: skip
        return None
    grid = checker.common_grid(pair)
    sidecars = [checker.metadata(file) for file in pair]
    flips = [checker.number(m, "FlipAngle", needed_by="DAM") for m in sidecars]
    times = [checker.repetition_time(m) for m in sidecars]
    field_t = checker.field_strength(sidecars[0])
    if not checker.ok or grid is None:
        return None
    order = sorted(range(2), key=lambda i: flips[i] or 0.0)
    low, high = (flips[i] or 0.0 for i in order)
    if abs(high / low - 2) > 1e-3:
        checker.fault(
            pair[1].path, f"flip angles are {low:g} and {high:g} degrees",
            "wanted an angle and its double",
        )  # fmt: skip
    known = [time for time in times if time]
    if len(known) == 2 and not equal_in_all(known):
        checker.fault(pair[1].path, f"repetition times differ ({known[0]:g} and {known[1]:g} s)",
                      "wanted one for the pair")  # fmt: skip
    if not checker.ok:
        return None
    tr_s = known[0] if known else None
    if tr_s is None:
        checker.remark(pair[0].path, "its repetition time is not known",
                       "Recovery between the pulses is taken as complete")  # fmt: skip
    files = [pair[i] for i in order]
    return DAMInputs(
        entities=series_entities(files[0].entities),
        files=tuple(str(file.full) for file in files),
        sources=tuple(checker.dataset.uri(file) for file in files),
        flip_deg=low,
        tr_s=tr_s,
        grid=grid,
        intended_for=tuple(path for m in sidecars for path in intended(m)),
        sequence_class=fingerprint(
            "DAM", field_t, f"TR{tr_s * 1e3:g}" if tr_s else "", f"FA{low:g}-{high:g}"
        ),
    )
