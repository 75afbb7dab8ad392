"""What can be wrong, how it is said, and which exit code it becomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the BIDS execution specification draft, as far as used here."""

    DONE = 0
    NOT_BIDS = 16
    UNKNOWN_LEVEL = 17
    NOTHING_SELECTED = 18
    USAGE = 64
    BAD_DATA = 65
    INPUT_MISSING = 66
    NODE_FAILED = 70
    CANNOT_CREATE = 73
    READ_WRITE = 74
    TRY_AGAIN = 75

    @property
    def meaning(self) -> str:
        """A few words for the last line on the terminal."""
        return _MEANING[self]


_MEANING = {
    ExitCode.DONE: "done",
    ExitCode.NOT_BIDS: "the input is not valid BIDS",
    ExitCode.UNKNOWN_LEVEL: "unknown analysis level",
    ExitCode.NOTHING_SELECTED: "the filters select nothing",
    ExitCode.USAGE: "wrong usage",
    ExitCode.BAD_DATA: "bad data or metadata",
    ExitCode.INPUT_MISSING: "input missing",
    ExitCode.NODE_FAILED: "a step failed",
    ExitCode.CANNOT_CREATE: "cannot create the output",
    ExitCode.READ_WRITE: "read or write error",
    ExitCode.TRY_AGAIN: "try again (memory, worker killed, interrupted)",
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One thing that is wrong with one file.

    Attributes
    ----------
    where
        File (relative to its data set) or option at fault; empty where `what` says it.
    what
        What was found, naming the key.
    wanted
        What would be right, with its unit.
    costs
        What is not computed because of it.
    code
        Exit code it leads to; `ExitCode.DONE` for a remark that stops nothing.

    >>> str(Problem(where="sub-01_flip-2_VFA.json", what="FlipAngle is missing",
    ...             wanted="VFA needs it in every file (degrees)"))
    'sub-01_flip-2_VFA.json: FlipAngle is missing; VFA needs it in every file (degrees).'
    """

    where: str
    what: str
    wanted: str = ""
    costs: str = ""
    code: ExitCode = ExitCode.BAD_DATA

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        text += f"; {self.wanted}." if self.wanted else "."
        return f"{text} {self.costs}." if self.costs else text

    @property
    def is_remark(self) -> bool:
        """Whether it is worth telling and stops nothing."""
        return self.code is ExitCode.DONE


class MrnPrepError(Exception):
    """An error whose message is written for the user, with its exit code."""

    exit_code = ExitCode.NODE_FAILED


class UsageError(MrnPrepError):
    """An option that does not exist, or a value out of its range."""

    exit_code = ExitCode.USAGE


class UnknownLevelError(MrnPrepError):
    """The analysis level is neither participant nor group."""

    exit_code = ExitCode.UNKNOWN_LEVEL


class NotBidsError(MrnPrepError):
    """The input folder is not a BIDS data set."""

    exit_code = ExitCode.NOT_BIDS


class NothingSelectedError(MrnPrepError):
    """A label, session or filter that selects nothing."""

    exit_code = ExitCode.NOTHING_SELECTED


class InputMissingError(MrnPrepError):
    """A file or folder that is not there."""

    exit_code = ExitCode.INPUT_MISSING


class BadDataError(MrnPrepError):
    """A file that is there and cannot be used."""

    exit_code = ExitCode.BAD_DATA


class GridMismatchError(BadDataError):
    """Images that must share a grid and do not."""


class CannotCreateError(MrnPrepError):
    """The output folder cannot be created or written."""

    exit_code = ExitCode.CANNOT_CREATE


# One code tells the most: what the user must do first comes first.
_GRAVITY = (
    ExitCode.READ_WRITE,
    ExitCode.CANNOT_CREATE,
    ExitCode.TRY_AGAIN,
    ExitCode.NODE_FAILED,
    ExitCode.INPUT_MISSING,
    ExitCode.BAD_DATA,
)


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the code that stands for several.

    >>> worst([ExitCode.DONE, ExitCode.BAD_DATA, ExitCode.NODE_FAILED]).name
    'NODE_FAILED'
    >>> worst([]).name
    'DONE'
    """
    seen = set(codes) - {ExitCode.DONE}
    for code in _GRAVITY:
        if code in seen:
            return code
    return min(seen, default=ExitCode.DONE)
