"""What a person sees while a run goes on, and what stands in its log file."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from mrn_prep.errors import Problem


def clock(seconds: float) -> str:
    """Return a duration to read.

    >>> clock(75), clock(3725)
    ('1:15', '1:02:05')
    """
    minutes, secs = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "session"), count(2, "session")
    ('1 session', '2 sessions')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


class Terminal:
    """Lines for a person: on the terminal as they come, in the log with the time.

    On a real terminal the last line shows what is running now; in a batch job's
    output there are only plain lines.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        for each in (self._stream, sys.stderr):
            if isinstance(each, io.TextIOWrapper):
                each.reconfigure(errors="replace")  # a terminal without UTF-8 stops nothing
        self._live = self._stream.isatty()
        self._log: TextIO | None = None
        self._shown = False
        self._began = time.monotonic()

    def log_to(self, path: Path) -> None:
        """Also write lines to a file, each with date and time."""
        self._log = path.open("a", encoding="utf-8", buffering=1)

    def say(self, line: str = "") -> None:
        """Print a line."""
        self._wipe()
        self._print(f"{line}\n")
        self._note(line)

    def complain(self, line: str) -> None:
        """Print a line that tells why nothing (more) was done, on standard error."""
        self._wipe()
        print(line, file=sys.stderr, flush=True)
        self._note(line)

    def _note(self, line: str) -> None:
        if self._log:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            for part in line.splitlines() or [""]:
                print(f"{stamp}  {part}".rstrip(), file=self._log)

    def tell(self, problems: Iterable[Problem]) -> None:
        """Say each problem in a line of its own."""
        for problem in problems:
            self.say(("note: " if problem.is_remark else "PROBLEM: ") + str(problem))

    def running(self, line: str) -> None:
        """Show what is running, where that can be wiped again."""
        if self._live:
            self._wipe()
            self._print(line[: shutil.get_terminal_size((110, 24)).columns - 1])
            self._shown = True

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def close(self) -> None:
        """Close the log file."""
        self._wipe()
        if self._log:
            self._log.close()
            self._log = None

    def _wipe(self) -> None:
        if self._shown:
            self._print("\r\033[K")
            self._shown = False

    def _print(self, text: str) -> None:
        """Write to the terminal; a reader that has gone (``| head``) stops no run."""
        try:
            print(text, end="", file=self._stream, flush=True)
        except BrokenPipeError:
            self._live = False
            # what Python flushes at its end must find a reader too
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


class Progress:
    """Follow the nodes of a graph: which run, which are done, how long they took."""

    def __init__(self, terminal: Terminal, n_nodes: int, labels: Mapping[str, str]) -> None:
        self._terminal = terminal
        self._n_nodes = n_nodes
        self._labels = labels
        self._done = 0
        self._running: dict[str, float] = {}

    def name(self, node: Any) -> str:
        """Return the words for a node: session, workflow, step."""
        _, session, *steps = node.fullname.split(".")
        words = " ".join(step.removesuffix("_wf").replace("_", " ") for step in steps)
        return f"{self._labels.get(session, session)}: {words}"

    def __call__(self, node: Any, status: str) -> None:
        """Take nipype's word on a node (``start``, ``end``, ``exception``)."""
        name = self.name(node)
        if status == "start":
            self._running[name] = time.monotonic()
        else:
            self._done += 1
            began = self._running.pop(name, None)
            # nipype announces neither what is cached nor what it runs itself
            unannounced = "at once" if node.run_without_submitting else "done before"
            took = f"{time.monotonic() - began:.1f} s" if began else unannounced
            mark = "" if status == "end" else "FAILED  "
            self._terminal.say(
                f"[{self._done:3d}/{self._n_nodes}] {clock(self._terminal.elapsed):>7}  "
                f"{mark}{name}  ({took})"
            )
        if self._running:
            self._terminal.running("          running  " + " · ".join(self._running))
