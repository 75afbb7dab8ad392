"""How a run ended: one account for the terminal, the file and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mrn_prep import __version__
from mrn_prep.errors import ExitCode, Problem, worst
from mrn_prep.io.atomic import write_json

if TYPE_CHECKING:
    from mrn_prep.cli.config import Invocation


@dataclass
class Account:
    """What has gone wrong so far, and where it is told.

    Attributes
    ----------
    command
        The command line.
    invocation
        What was asked for, or None as long as that is not understood.
    log_dir
        Folder of this run's log, or None where nothing is written.
    problems
        All that was found, remarks included.
    """

    command: str
    invocation: Invocation | None = None
    log_dir: Path | None = None
    problems: list[Problem] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def code(self) -> ExitCode:
        """The exit code that stands for all problems."""
        return worst(problem.code for problem in self.problems)

    @property
    def faults(self) -> Sequence[Problem]:
        """Problems that stopped something."""
        return [problem for problem in self.problems if not problem.is_remark]

    def last_line(self) -> str:
        """Return the last line on the terminal."""
        n = len(self.faults)
        count = f"{n} problem{'' if n == 1 else 's'}" if n else "no problems"
        where = f"; details in {self.log_dir}" if self.log_dir else ""
        return f"mrn_prep: exit code {int(self.code)}, {self.code.meaning}; {count}{where}"

    def write(self) -> None:
        """Write ``status.json``, where there is a log folder.

        If even that fails the code becomes 74, as the terminal then tells.
        """
        if self.log_dir is None:
            return
        content = {
            "exit_code": int(self.code),
            "meaning": self.code.meaning,
            "last_line": self.last_line(),
            "version": __version__,
            "command": self.command,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "problems": [
                {"code": int(problem.code), "text": str(problem)} for problem in self.problems
            ],
        }
        path = self.log_dir / "status.json"
        try:
            write_json(path, content)
        except OSError as error:
            self.problems.append(
                Problem(
                    where=str(path),
                    what=f"cannot be written ({error.strerror})",
                    code=ExitCode.READ_WRITE,
                )
            )
            self.log_dir = None
