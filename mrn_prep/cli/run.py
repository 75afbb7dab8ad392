"""The participant level: check, compute, measure, tell."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mrn_prep import __version__
from mrn_prep.cli.cluster import plugin_class
from mrn_prep.cli.config import Invocation, to_toml
from mrn_prep.cli.environment import prepare
from mrn_prep.cli.prepare import find
from mrn_prep.cli.resources import Resources, available
from mrn_prep.cli.status import Account
from mrn_prep.cli.stop import new_log_folder, writable
from mrn_prep.cli.terminal import Terminal, count
from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.session import SessionInputs, session_label
from mrn_prep.io.atomic import sweep, write_text
from mrn_prep.io.derivatives import write_dataset_files

MAX_THREADS = 8


def run_participants(invocation: Invocation, account: Account, terminal: Terminal) -> None:
    """Run the participant level; what goes wrong stands in the account."""
    run = invocation.run
    raw, derivatives, found = find(invocation)
    resources = _resources(invocation)
    n_threads = run.omp_nthreads or min(resources.n_cpus, MAX_THREADS)
    account.log_dir = new_log_folder(invocation)
    terminal.log_to(account.log_dir / "mrn_prep.log")
    prepare(writable(invocation.work_dir.resolve()), n_threads)
    if run.use_plugin:
        plugin_class(run.use_plugin)
    write_text(account.log_dir / "config.toml", to_toml(invocation))
    write_dataset_files(
        invocation.out_dir, raw=raw.root, derivatives={d.name: d.root for d in derivatives}
    )
    terminal.say(
        f"mrn_prep {__version__}: {count(len(found.sessions), 'session')}, "
        f"{count(resources.n_cpus, 'processor')}, {resources.memory_mb / 1024:.1f} GB of memory"
    )
    if invocation.boilerplate_only:
        return
    sweep(invocation.out_dir, deep=False)
    for session in found.sessions:
        sweep(session.folder_in(invocation.out_dir))
    if not invocation.reports_only:
        # numba and numpy's threads are set up when they are imported, so not before `prepare`
        from mrn_prep.inputs.voxels import check_voxels

        terminal.say("checking all images ...")
        found = check_voxels(found, resources.n_cpus)
    account.problems += found.problems
    terminal.tell(found.problems)
    from mrn_prep.cli.graphs import Graphs

    graphs = Graphs(invocation, found, resources, n_threads, account, terminal)
    if not invocation.reports_only:
        graphs.make_maps()
    _without_maps(invocation, found.sessions, account, terminal)
    graphs.make_tables()
    _list_pages(invocation.out_dir, found.sessions, terminal)


def _resources(invocation: Invocation) -> Resources:
    limits = available()
    run = invocation.run
    return Resources(run.nprocs or limits.n_cpus, run.mem_mb or int(limits.memory_mb * 0.9))


def _without_maps(
    invocation: Invocation,
    sessions: Iterable[SessionInputs],
    account: Account,
    terminal: Terminal,
) -> None:
    """With ``--reports-only``, name the sessions that have no maps to report on."""
    if not invocation.reports_only:
        return
    missing = [
        Problem(
            where=session.label,
            what=f"has no maps in {invocation.out_dir}",
            wanted="--reports-only needs those of an earlier run",
            code=ExitCode.INPUT_MISSING,
        )
        for session in sessions
        if not session.folder_in(invocation.out_dir).is_dir()
    ]
    account.problems += missing
    terminal.tell(missing)


def _list_pages(out_dir: Path, sessions: Iterable[SessionInputs], terminal: Terminal) -> None:
    for session in sessions:
        page = out_dir / f"{session_label(session.subject, session.session).replace(' ', '_')}.html"
        if page.exists():
            terminal.say(f"page: {page}")
