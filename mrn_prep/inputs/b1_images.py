"""B1+ that comes as an image of angles or as a finished map: TurboFLASH, RF map, TB1map."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.errors import Problem
from mrn_prep.inputs.b1 import B1Inputs, intended
from mrn_prep.inputs.checks import Checker
from mrn_prep.inputs.series import fingerprint
from mrn_prep.io.dataset import BidsFile, Dataset
from mrn_prep.io.names import series_entities
from mrn_prep.models.b1_methods import b1_from_rfm, b1_from_tfl, ready_b1_ratio
from mrn_prep.outputs import is_companion

_PART = re.compile(r"(anat|famp)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class AngleInputs(B1Inputs):
    """An image of angles; `files` has it first, then the anatomical image where there is one.

    Attributes
    ----------
    flip_deg
        Nominal angle that the image shows where B1+ is 1 (degrees).
    """

    flip_deg: float

    def voxel_faults(self, voxels: Sequence[NDArray[Any]]) -> list[tuple[int, str, str]]:
        """Return whether the values can be angles of this method."""
        convert = b1_from_tfl if self.method == "tfl" else b1_from_rfm
        b1 = convert(voxels[0], np.deg2rad(self.flip_deg)).b1
        median = float(np.median(b1[np.isfinite(b1)])) if np.isfinite(b1).any() else 0.0
        if 0.2 <= median <= 2.0:
            return []
        return [(0, f"gives a median B1+ of {median:.3g} with the nominal {self.flip_deg:g} "
                 "degrees", "wanted the image of angles (acq-famp) in the scanner's "
                 "scale")]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TFLInputs(AngleInputs):
    """The angle image of a TurboFLASH map."""

    method = "tfl"
    title = "TurboFLASH"


@dataclass(frozen=True, kw_only=True)
class RFMInputs(AngleInputs):
    """The angle image of a scanner's RF map."""

    method = "rfm"
    title = "RF map"


@dataclass(frozen=True, kw_only=True)
class B1MapInputs(B1Inputs):
    """A finished map, raw or of another derivative data set.

    Attributes
    ----------
    flip_deg
        Nominal flip angle (degrees), for maps of ten times the angle; None if unknown.
    """

    method = "map"
    title = "a ready map"

    flip_deg: float | None

    def voxel_faults(self, voxels: Sequence[NDArray[Any]]) -> list[tuple[int, str, str]]:
        """Return whether the unit of the map can be told."""
        flip_rad = None if self.flip_deg is None else float(np.deg2rad(self.flip_deg))
        try:
            ready_b1_ratio(voxels[0], voxels[0] > 0, flip_rad)
        except ValueError as error:
            return [(0, str(error).rstrip("."), "wanted a ratio, percent or 10 x degrees")]
        return []


def find_angles(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[B1Inputs], list[Problem]]:
    """Find TurboFLASH and RF maps of one session; what is wrong comes as problems."""
    found: list[B1Inputs] = []
    problems: list[Problem] = []
    for kind in (TFLInputs, RFMInputs):
        images = [f for f in files if f.suffix == f"TB1{kind.method.upper()}" and f.is_image]
        pairs: dict[str, dict[str, BidsFile]] = {}
        for file in images:
            match = _PART.search(file.entities.get("acquisition", ""))
            pairs.setdefault(_PART.sub("", file.name), {})[
                match[1].lower() if match else "famp"
            ] = file
        for pair in pairs.values():
            checker = Checker(dataset, costs)
            inputs = _angles(checker, kind, pair)
            problems += checker.problems
            if inputs is not None:
                found.append(inputs)
    return found, problems


def _angles(
    checker: Checker, kind: type[AngleInputs], pair: dict[str, BidsFile]
) -> AngleInputs | None:
    if "famp" not in pair:
        checker.fault(pair["anat"].path, "is alone", "wanted the image of angles, acq-famp")
        return None
    series = [pair["famp"], *([pair["anat"]] if "anat" in pair else [])]
    grid = checker.common_grid(series)
    metadata = checker.metadata(series[0])
    flip_deg = checker.number(metadata, "FlipAngle", needed_by=f"TB1{kind.method.upper()}")
    field_t = checker.field_strength(metadata)
    if not checker.ok or grid is None or flip_deg is None:
        return None
    entities = series_entities(series[0].entities)
    acquisition = _PART.sub("", entities.pop("acquisition", ""))
    if acquisition:
        entities["acquisition"] = acquisition
    return kind(
        entities=entities,
        files=tuple(str(file.full) for file in series),
        sources=tuple(checker.dataset.uri(file) for file in series),
        flip_deg=flip_deg,
        grid=grid,
        intended_for=tuple(intended(metadata)),
        sequence_class=fingerprint(kind.method.upper(), field_t, f"FA{flip_deg:g}"),
    )


def find_b1_maps(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[B1Inputs], list[Problem]]:
    """Find finished B1+ maps of one session, in the raw data or a derivative data set."""
    found: list[B1Inputs] = []
    problems: list[Problem] = []
    for file in files:
        companion = is_companion(file.entities.get("desc", ""))
        if file.suffix != "TB1map" or not file.is_image or companion:
            continue
        checker = Checker(dataset, costs)
        grid = checker.common_grid([file])
        metadata = checker.metadata(file)
        flip_deg = checker.number(metadata, "FlipAngle")
        if checker.ok and grid is not None:
            own = {k: v for k, v in file.entities.items() if k != "desc"}
            found.append(
                B1MapInputs(
                    entities=series_entities(own),
                    files=(str(file.full),),
                    sources=(dataset.uri(file),),
                    flip_deg=flip_deg,
                    grid=grid,
                    intended_for=tuple(intended(metadata)),
                    sequence_class=fingerprint("B1map", None, dataset.name),
                )
            )
        problems += checker.problems
    return found, problems
