"""Phase beside the magnitudes of a diffusion series."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mrn_prep.inputs.checks import Checker
from mrn_prep.inputs.dwi_parts import Part
from mrn_prep.io.dataset import BidsFile
from mrn_prep.models.megre import scaled_phase

MAGNITUDES_ALONE = "The series goes on by magnitudes alone"
_APART = frozenset({"part", "extension"})


def find_phase(
    checker: Checker, parts: Sequence[Part], files: Sequence[BidsFile]
) -> tuple[BidsFile, ...]:
    """Return the phase of each part of a series; nothing where one has none.

    What forbids using phase that is there is remarked.
    """
    phases = {
        _name(file): file
        for file in files
        if file.suffix == "dwi" and file.is_image and file.entities.get("part") == "phase"
    }
    found = [phases.get(_name(part.file)) for part in parts]
    there = tuple(file for file in found if file is not None)
    if not there:
        return ()
    for part, file in zip(parts, found, strict=True):
        if file is None:
            what = f"has no part-phase beside it, {there[0].name} is that of another part"
            checker.remark(part.file.path, what, MAGNITUDES_ALONE)
            return ()
        look = Checker(checker.dataset, "")
        grid = look.grid(file)
        why = look.problems[0].what if grid is None else part.grid.differs(grid)
        if grid is not None and not why and grid.n_volumes != part.grid.n_volumes:
            why = f"has {grid.n_volumes} volumes, the magnitude {part.grid.n_volumes}"
        if why:
            checker.remark(file.path, why, MAGNITUDES_ALONE)
            return ()
    return there


def phase_fault(values: NDArray[np.floating]) -> str:
    """Say why the unit of a phase image cannot be told; empty where it can."""
    try:
        scaled_phase(values)
    except ValueError as error:
        return str(error).rstrip(".")
    return ""


def _name(file: BidsFile) -> frozenset[tuple[str, str]]:
    return frozenset((key, value) for key, value in file.entities.items() if key not in _APART)
