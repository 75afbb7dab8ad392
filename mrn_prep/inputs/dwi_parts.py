"""Diffusion files: read one by one, and put together where they are parts of one series."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.checks import Checker
from mrn_prep.io.dataset import BidsFile, Metadata, group_by
from mrn_prep.io.gradients import read_rows
from mrn_prep.io.headers import Grid

Float = NDArray[np.floating]

B0_MAX = 5.0
"""Volumes up to this b-value (s/mm²) count as not diffusion weighted."""

_TELLS_APART = frozenset({"run", "acquisition"})
# b-values of one shell differ by the imaging gradients and by what the scanner rounds
_SAME_B, _SAME_B_REL = 10.0, 0.05
_PROTOCOL = {
    "PhaseEncodingDirection": 0.0, "TotalReadoutTime": 1e-3, "EffectiveEchoSpacing": 1e-3,
    "EchoTime": 1e-3, "FlipAngle": 1e-3, "MagneticFieldStrength": 1e-3, "PartialFourier": 1e-3,
    "ParallelReductionFactorInPlane": 1e-3, "MultibandAccelerationFactor": 1e-3,
    # scanners stretch it with b, which the common scale of unweighted images takes up
    "RepetitionTime": 0.1,
}  # fmt: skip
"""What parts of a series share, and by which share numbers may differ."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One diffusion file that can be used, alone or with others.

    Attributes
    ----------
    file, grid, metadata
        The image.
    bval_file, bvec_file
        Its table; the latter is None where no volume is weighted and there is none.
    b_s_mm2, bvecs
        Shapes (n,) and (3, n).
    """

    file: BidsFile
    grid: Grid
    metadata: Metadata
    bval_file: BidsFile
    bvec_file: BidsFile | None
    b_s_mm2: Float
    bvecs: Float

    @property
    def weighted(self) -> NDArray[np.bool_]:
        """Volumes with diffusion weighting."""
        return self.b_s_mm2 > B0_MAX


def read_part(checker: Checker, file: BidsFile) -> Part | None:
    """Read a file's header, sidecar and gradient table; None where something forbids its use."""
    grid = checker.grid(file)
    metadata = checker.metadata(file)
    checker.choice(metadata, "PhaseEncodingDirection")
    for key in ("EchoTime", "TotalReadoutTime", "PartialFourier"):
        checker.number(metadata, key)
    bval_file, bvals = _table(checker, file, ".bval")
    if grid is None or bvals is None:
        _table(checker, file, ".bvec")
        return None
    n, b = grid.n_volumes, bvals.ravel()
    bvec_file: BidsFile | None
    if _unweighted(b, n):
        # they need no directions, and may inherit those of another file
        bvec_file, bvecs = _table(Checker(checker.dataset, ""), file, ".bvec")
        if bvecs is None or bvecs.shape != (3, n):
            bvec_file, bvecs = None, np.zeros((3, n))
    else:
        bvec_file, bvecs = _table(checker, file, ".bvec")
    if bvecs is None:
        return None
    if b.size != n:
        checker.fault(bval_file.path, f"has {b.size} b-values", f"wanted {n}, one per volume")
    if bvecs.shape != (3, n):
        assert bvec_file is not None
        transposed = " (it looks transposed)" if bvecs.shape == (n, 3) else ""
        checker.fault(
            bvec_file.path,
            f"has {bvecs.shape[0]} rows of {bvecs.shape[1]} values{transposed}",
            f"wanted 3 rows of {n} values",
        )
    if checker.ok and bvec_file is not None:
        _check_table(checker, bval_file, bvec_file, b, bvecs)
    if not checker.ok:
        return None
    return Part(
        file=file, grid=grid, metadata=metadata, bval_file=bval_file, bvec_file=bvec_file,
        b_s_mm2=b, bvecs=bvecs,
    )  # fmt: skip


def combined(parts: Sequence[Part]) -> tuple[list[tuple[Part, ...]], list[Problem]]:
    """Put together what differs only in ``run``, or in ``acq`` where the b-values differ too.

    Parts of one series share grid and protocol. Why files whose names would allow it are
    not put together comes as remarks.
    """
    series: list[tuple[Part, ...]] = []
    remarks: list[Problem] = []
    by_name = {part.file.path: part for part in parts}
    for files in group_by((part.file for part in parts), _TELLS_APART).values():
        alike: list[list[Part]] = []
        for part in (by_name[file.path] for file in files):
            why = ""
            for others in alike:
                differs = _differ(others[0], part)
                if not differs:
                    others.append(part)
                    break
                why = why or f"{differs} ({others[0].file.name})"
            else:
                alike.append([part])
                # reversed phase encoding is what blips are for
                if why and not why.startswith("PhaseEncodingDirection"):
                    remarks.append(_apart(part, why))
        for others in alike:
            found, told = _by_acquisition(others)
            series += found
            remarks += told
    # as the first files stand in the folder
    order = {part.file.path: i for i, part in enumerate(parts)}
    return sorted(series, key=lambda one: order[one[0].file.path]), remarks


def shared_entities(parts: Sequence[Part]) -> dict[str, str]:
    """Return the entities that all parts have in common, but for what tells files of one apart."""
    first, *rest = (part.file.entities for part in parts)
    return {
        name: value
        for name, value in first.items()
        if all(other.get(name) == value for other in rest)
    }


def _by_acquisition(parts: Sequence[Part]) -> tuple[list[tuple[Part, ...]], list[Problem]]:
    """Leave acquisitions apart where two of them have the same b-values: these are repeats."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.file.entities.get("acquisition", ""), []).append(part)
    shells = {name: _shells(members) for name, members in groups.items()}
    names = list(groups)
    for i, name in enumerate(names):
        for other in names[:i]:
            if _same_shells(shells[name], shells[other]):
                first, again = groups[other][0], groups[name][0]
                why = f"acq- differs and the b-values are those of {first.file.name}"
                return [tuple(members) for members in groups.values()], [_apart(again, why)]
    return [tuple(parts)], []


def _differ(one: Part, other: Part) -> str:
    """Say what forbids taking two files as one series; empty where nothing does."""
    difference = one.grid.differs(other.grid)
    if difference:
        return difference
    for key, tolerance in _PROTOCOL.items():
        values = [part.metadata.values.get(key) for part in (one, other)]
        if not _agree(values[0], values[1], tolerance):
            told = " and ".join("missing" if v is None else f"{v}" for v in values)
            return f"{key} differs: {told}"
    if one.bvec_file is None or other.bvec_file is None:
        return "one of them has no .bvec file"
    return ""


def _agree(one: Any, other: Any, tolerance: float) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= tolerance * max(abs(one), abs(other))
    return bool(one == other)


def _apart(part: Part, why: str) -> Problem:
    return Problem(
        where=part.file.path, what=f"is not combined with other runs: {why}",
        costs="It is a series of its own", code=ExitCode.DONE,
    )  # fmt: skip


def _shells(parts: Iterable[Part]) -> list[float]:
    return sorted({float(b) for part in parts for b in part.b_s_mm2[part.weighted]})


def _same_shells(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether each b-value of one list has its like in the other.

    >>> _same_shells([795.0, 800.0], [805.0]), _same_shells([400.0, 800.0], [800.0])
    (True, False)
    """

    def within(b: float, others: Sequence[float]) -> bool:
        return any(abs(b - o) <= _SAME_B + _SAME_B_REL * max(b, o) for o in others)

    return all(within(b, other) for b in one) and all(within(b, one) for b in other)


def _table(checker: Checker, file: BidsFile, extension: str) -> tuple[BidsFile, Float | None]:
    """Read a .bval or .bvec file that applies to the image."""
    applicable = checker.dataset.applicable(file, extension)
    if not applicable:
        checker.fault(
            file.path, f"has no {extension} file", "wanted one beside it", ExitCode.INPUT_MISSING
        )
        return file, None
    table = applicable[-1]
    try:
        return table, read_rows(table.full)
    except FileNotFoundError:
        checker.fault(table.path, "is a link to a file that is not there",
                      code=ExitCode.INPUT_MISSING)  # fmt: skip
    except OSError as error:
        checker.fault(table.path, f"cannot be read ({error.strerror})", code=ExitCode.READ_WRITE)
    except ValueError as error:
        checker.fault(table.path, str(error), "wanted rows of numbers in UTF-8 text")
    return table, None


def _unweighted(bvals: Float, n_volumes: int) -> bool:
    return bvals.size == n_volumes and bool(((bvals >= 0) & (bvals <= B0_MAX)).all())


def _check_table(
    checker: Checker, bval_file: BidsFile, bvec_file: BidsFile, bvals: Float, bvecs: Float
) -> None:
    if not np.isfinite(bvals).all() or (bvals < 0).any():
        checker.fault(
            bval_file.path, "has b-values that are negative or not finite", "wanted s/mm2"
        )
        return
    if bvals.max(initial=0.0) > 5e4:
        checker.fault(
            bval_file.path, f"has b-values up to {bvals.max():g}", "wanted s/mm2 (not s/m2)"
        )
    lost = int((~np.isfinite(bvecs).all(axis=0)).sum())
    norms = np.linalg.norm(bvecs[:, bvals > B0_MAX], axis=0)
    odd = int((np.abs(norms - 1) > 0.05).sum())
    fault = "not finite" if lost else "not of unit length"
    if lost or odd:
        checker.fault(
            bvec_file.path,
            f"{lost or odd} directions are {fault}",
            "wanted unit vectors (b = 0 may have zeros)",
        )
