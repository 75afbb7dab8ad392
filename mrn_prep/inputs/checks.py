"""Checks that every kind of series shares: headers, grids, sidecar values."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mrn_prep import bids_templates
from mrn_prep.errors import ExitCode, Problem
from mrn_prep.io.dataset import BidsFile, Dataset, Metadata
from mrn_prep.io.headers import Grid, read_grid

_TEMPLATES = Path(bids_templates.__file__).parent


@cache
def key_rules() -> Mapping[str, Mapping[str, Any]]:
    """Return the unit and range of each sidecar key (``bids_templates/keys.json``)."""
    rules: dict[str, dict[str, Any]] = json.loads((_TEMPLATES / "keys.json").read_text())
    return rules


@cache
def suffix_rules() -> Mapping[str, Mapping[str, Any]]:
    """Return what each suffix is and needs (``bids_templates/suffixes.json``)."""
    rules: dict[str, dict[str, Any]] = json.loads((_TEMPLATES / "suffixes.json").read_text())
    return rules


@dataclass
class Checker:
    """Looks at the files of one series and keeps what is wrong with them.

    Attributes
    ----------
    dataset
        The data set that the files are in.
    costs
        What is not computed when the series fails.
    problems
        What was found so far.
    """

    dataset: Dataset
    costs: str
    problems: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was found that forbids using the series."""
        return all(problem.is_remark for problem in self.problems)

    def fault(
        self, where: str, what: str, wanted: str = "", code: ExitCode = ExitCode.BAD_DATA
    ) -> None:
        """Note what is wrong; the series will not be used."""
        self.problems.append(
            Problem(where=where, what=what, wanted=wanted, costs=self.costs, code=code)
        )

    def remark(self, where: str, what: str, costs: str = "") -> None:
        """Note what is worth telling and stops nothing."""
        self.problems.append(Problem(where=where, what=what, costs=costs, code=ExitCode.DONE))

    def grid(self, file: BidsFile) -> Grid | None:
        """Read the header of an image."""
        try:
            return read_grid(file.full)
        except FileNotFoundError:
            link = file.full.is_symlink()
            self.fault(
                file.path,
                "is a link to a file that is not there" if link else "holds no image yet",
                "an annexed file must be fetched first",
                ExitCode.INPUT_MISSING,
            )
        except ValueError as error:
            self.fault(file.path, str(error), "wanted a whole NIfTI image")
        except OSError as error:
            self.fault(file.path, f"cannot be read ({error.strerror})", code=ExitCode.READ_WRITE)
        return None

    def common_grid(self, files: Sequence[BidsFile]) -> Grid | None:
        """Read the headers of 3D images and check that they share one grid."""
        read = [(file, self.grid(file)) for file in files]
        grids = [(file, grid) for file, grid in read if grid is not None]
        for file, grid in grids:
            if len(grid.shape) != 3 and grid.n_volumes > 1:
                self.fault(file.path, f"has the shape {grid.shape}", "wanted a 3D image")
            first_file, first = grids[0]
            if first.differs(grid):
                self.fault(file.path, first.differs(grid), f"wanted the grid of {first_file.name}")
        return grids[0][1] if grids and self.ok else None

    def metadata(self, file: BidsFile) -> Metadata:
        """Merge the sidecars of a file; those that cannot be read are faults."""
        metadata = self.dataset.metadata(file)
        for path, what, missing in metadata.faults:
            code = ExitCode.INPUT_MISSING if missing else ExitCode.BAD_DATA
            self.fault(path, what, "wanted a JSON object in UTF-8", code)
        return metadata

    def number(
        self, metadata: Metadata, key: str, *, needed_by: str = "", most: float | None = None
    ) -> float | None:
        """Return a sidecar number in the unit BIDS gives it, or note what is wrong.

        Parameters
        ----------
        metadata
            The merged sidecars.
        key
            BIDS key; its unit and range stand in ``bids_templates/keys.json``.
        needed_by
            Who needs it in every file; empty for a key that may be missing.
        most
            Largest plausible value where this kind of series has another than the rest.
        """
        rule = dict(key_rules()[key])
        rule["max"] = most or rule["max"]
        unit, where = rule["unit"], metadata.origin.get(key, metadata.sidecar)
        if key not in metadata.values:
            if needed_by:
                self._missing(metadata, key, f"{needed_by} needs it in every file ({unit})")
            return None
        value = metadata.values[key]
        wanted = f"wanted a number ({unit})"
        if isinstance(value, bool) or not isinstance(value, int | float):
            kind = {str: "text", list: "list", dict: "object", bool: "truth value"}
            name = kind.get(type(value), "value")
            self.fault(where, f"{key} is the {name} {json.dumps(value)}", wanted)
            return None
        if not math.isfinite(value):
            self.fault(where, f"{key} is {value}", wanted)
            return None
        if not rule["min"] <= value <= rule["max"]:
            hint = f" ({rule['hint']})" if value > rule["max"] else ""
            self.fault(
                where,
                f"{key} is {value:g}{hint}",
                f"wanted {rule['min']:g} to {rule['max']:g} {unit}",
            )
            return None
        return float(value)

    def field_strength(self, metadata: Metadata) -> float | None:
        """Return the field strength (T); it may be missing, which is told."""
        field_t = self.number(metadata, "MagneticFieldStrength")
        if field_t is None and "MagneticFieldStrength" not in metadata.values:
            self.remark(
                metadata.sidecar,
                "MagneticFieldStrength is missing",
                "The sequence class does not tell the field strength",
            )
        return field_t

    def repetition_time(self, metadata: Metadata) -> float | None:
        """Return RepetitionTimeExcitation, or RepetitionTime where only that is there."""
        for key in ("RepetitionTimeExcitation", "RepetitionTime"):
            if key in metadata.values:
                # pulses that wait for recovery are seconds apart
                return self.number(metadata, key, most=key_rules()["RepetitionTime"]["max"])
        return None

    def choice(self, metadata: Metadata, key: str) -> str | None:
        """Return a sidecar text that must be one of a few, or note what is wrong."""
        if key not in metadata.values:
            return None
        value, choices = metadata.values[key], key_rules()[key]["choices"]
        if value not in choices:
            where = metadata.origin.get(key, metadata.sidecar)
            self.fault(where, f"{key} is {value!r}", f"wanted one of {', '.join(choices)}")
            return None
        return str(value)

    def _missing(self, metadata: Metadata, key: str, wanted: str) -> None:
        what = f"{key} is missing"
        instead = key_rules()[key].get("instead", "")
        close = difflib.get_close_matches(key, metadata.values, n=1, cutoff=0.85)
        if instead in metadata.values:
            what += f" ({instead} is {metadata.values[instead]} there, which BIDS keeps apart)"
        elif close:
            what += f" ({close[0]} is there)"
        self.fault(metadata.sidecar, what, wanted)


def equal_in_all(values: Iterable[float]) -> bool:
    """Whether values agree to a millionth.

    >>> equal_in_all([0.015, 0.0150000001]), equal_in_all([0.015, 0.016])
    (True, False)
    """
    values = list(values)
    return all(math.isclose(values[0], value, rel_tol=1e-6) for value in values)


def echo_times(checker: Checker, sidecars: Sequence[Metadata], needed_by: str) -> tuple[float, ...]:
    """Return the echo times (s) of images in the order of ``echo-``, which must increase."""
    times = [checker.number(m, "EchoTime", needed_by=needed_by) for m in sidecars]
    known = [time for time in times if time is not None]
    for before, after, metadata in zip(known, known[1:], sidecars[1:], strict=False):
        if len(known) == len(times) and after <= before:
            checker.fault(
                metadata.sidecar,
                f"EchoTime ({after:g} s) is not longer than that of the echo before ({before:g} s)",
                "wanted echo times that increase with echo-",
            )
            break
    return tuple(known)
