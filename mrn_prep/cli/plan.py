"""``--dry-run``: all that a run would do, told within seconds; nothing is written."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from mrn_prep import __version__
from mrn_prep.cli.config import Invocation
from mrn_prep.cli.prepare import find
from mrn_prep.cli.resources import available
from mrn_prep.cli.status import Account
from mrn_prep.cli.terminal import Terminal, count
from mrn_prep.errors import Problem
from mrn_prep.inputs import SessionInputs
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.io.derivatives import file_path, map_path
from mrn_prep.io.names import together
from mrn_prep.options import Options
from mrn_prep.outputs import FILES, OUTPUTS

_WIDTH = 100
_NAMED = 8
"""Sessions, or files of a note, that are named before the rest is only counted."""


def run_plan(invocation: Invocation, account: Account, terminal: Terminal) -> None:
    """Say what a run would do; the account takes the problems that it would begin with."""
    _, _, found = find(invocation)
    account.problems += found.problems
    sessions, options = found.sessions, invocation.options
    n_participants = len({session.subject for session in sessions})
    terminal.say(
        f"mrn_prep {__version__}: plan for {count(len(sessions), 'session')} of "
        f"{count(n_participants, 'participant')}; nothing is written"
    )
    for labels, lines in _alike(sessions, options, invocation.run.verbose):
        terminal.say(f"\n{_headline(labels)}\n" + "\n".join(lines))
    faults = [str(problem) for problem in found.problems if not problem.is_remark]
    notes = list(_notes(problem for problem in found.problems if problem.is_remark))
    for title, texts in (("PROBLEMS", faults), ("NOTES", notes)):
        if texts:
            terminal.say(f"\n{title} ({len(texts)})")
            terminal.say("\n".join(f"  {text}" for text in texts))
    terminal.say("\n" + _totals(invocation, sessions))


def outputs(series: SeriesInputs, options: Options, *, companions: bool = True) -> list[str]:
    """Return the files that one series becomes, relative to the output folder."""
    paths = []
    for key, method, _ in series.products(options):
        if key in FILES:
            paths.append(file_path(FILES[key], series.entities))
            continue
        spec = OUTPUTS[key]
        beside = [("se", spec.with_se), ("status", spec.companions)] if companions else []
        paths += [
            map_path(spec, series.entities, what, method)
            for what in ("", *(name for name, there in beside if there))
        ]
    return paths


def _alike(
    sessions: Iterable[SessionInputs], options: Options, verbose: int
) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """Yield (sessions, lines): sessions whose plan reads the same are told once."""
    groups: dict[tuple[str, ...], list[SessionInputs]] = defaultdict(list)
    for session in sessions:
        prefix = session.label.replace(" ", "_") + "_"
        lines = tuple(_session_lines(session, prefix, options, verbose))
        groups[(session.label, *lines) if verbose else lines].append(session)
    for lines, members in groups.items():
        yield [session.label for session in members], lines[1:] if verbose else lines


def _headline(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return labels[0]
    listed = ", ".join(labels)
    if len(labels) > _NAMED:
        listed = f"{', '.join(labels[: _NAMED - 1])} ... {labels[-1]}"
    return textwrap.fill(f"{count(len(labels), 'session')}: {listed}", _WIDTH)


def _session_lines(
    session: SessionInputs, prefix: str, options: Options, verbose: int
) -> Iterator[str]:
    if not session.series:
        yield "  nothing to process"
    for series in session.series:
        shown = outputs(series, options, companions=verbose > 0)
        hidden = len(shown) < len(outputs(series, options))
        companions = "; desc-se and desc-status of the maps" if hidden else ""
        yield f"  {series.plan(options)}"
        yield _listed(
            "from", together((name.rpartition("/")[2] for name in series.sources), prefix)
        )
        yield _listed(
            "to", together((name.rpartition("/")[2] for name in shown), prefix), companions
        )
    if session.regions:
        n = sum(len(file.regions) for file in session.regions)
        files = count(len(session.regions), "file")
        yield f"  measurements in {count(n, 'region')} of {files}"
    else:
        yield "  no regions: maps and page without measurements (see --derivatives)"


def _listed(word: str, names: Sequence[str], end: str = "") -> str:
    return textwrap.fill(
        ", ".join(names) + end,
        _WIDTH,
        initial_indent=f"      {word:5}",
        subsequent_indent=" " * 11,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _notes(problems: Iterable[Problem]) -> Iterator[str]:
    """Yield notes; one that is true of many files is told once, with their number."""
    where: dict[str, list[str]] = {}
    for problem in problems:
        where.setdefault(str(problem).removeprefix(f"{problem.where}: "), []).append(problem.where)
    for text, places in where.items():
        named = ", ".join(dict.fromkeys(places[:3]))
        yield f"{named}{f' and {len(places) - 3} more' if len(places) > 3 else ''}: {text}"


def _totals(invocation: Invocation, sessions: Sequence[SessionInputs]) -> str:
    every = [series for session in sessions for series in session.series]
    # how many there are depends on the kind of series only, and making names takes time
    one_of_each = {type(series): series for series in every}
    n_each = {kind: len(outputs(one, invocation.options)) for kind, one in one_of_each.items()}
    n_files = sum(n_each[type(series)] for series in every)
    memory = max([0.0, *(series.memory_gb for series in every)])
    limits, run = available(), invocation.run
    allowed = (run.mem_mb or limits.memory_mb) / 1024
    cpus = count(run.nprocs or limits.n_cpus, "processor")
    short = " NOT ENOUGH: give more or expect exit code 75" if memory > allowed else ""
    return (
        f"outputs: {n_files} images, series and tables of series; one page and two tables per "
        f"session\nmemory:  up to {_size(memory)} in one step (allowed here: {_size(allowed)}, "
        f"{cpus}){short}\n"
        f"disk:    about {_size(sum(series.disk_gb for series in every))} with intermediate results"
    )


def _size(gigabytes: float) -> str:
    """Return a size to read.

    >>> _size(0.0123), _size(2.34)
    ('13 MB', '2.3 GB')
    """
    return f"{gigabytes:.1f} GB" if gigabytes >= 1 else f"{max(1, round(gigabytes * 1024))} MB"
