"""Builds the graphs of a run, runs them, and turns failed steps into problems."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nipype import config

from mrn_prep import __version__
from mrn_prep.cli.config import Invocation, to_toml
from mrn_prep.cli.plugin import ResilientPlugin, cluster_plugin
from mrn_prep.cli.resources import Resources
from mrn_prep.cli.status import Account
from mrn_prep.cli.terminal import Progress, Terminal
from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.session import Found
from mrn_prep.workflows.participant import init_maps_wf, init_tables_wf, session_name

NIPYPE_LOGGERS = ("nipype", "nipype.workflow", "nipype.utils", "nipype.interface")

# The last line of a traceback names the error; these mean something to the user.
_CODES = (
    (r"WorkerKilled|MemoryError|BrokenProcessPool", ExitCode.TRY_AGAIN),
    (r"Permission denied|Read-only file system", ExitCode.CANNOT_CREATE),
    (r"No space left|Disk quota|Input/output error|Stale file handle", ExitCode.READ_WRITE),
    (r"BadDataError|GridMismatchError", ExitCode.BAD_DATA),
)
_ERROR = re.compile(r"([\w.]*(?:Error|Exception|Interrupt|Killed))\b:?\s*(.*)")


class Graphs:
    """Builds and runs the two graphs of a run."""

    def __init__(
        self,
        invocation: Invocation,
        found: Found,
        resources: Resources,
        n_threads: int,
        account: Account,
        terminal: Terminal,
    ) -> None:
        assert account.log_dir is not None
        self._invocation, self._found, self._resources = invocation, found, resources
        self._n_threads, self._account, self._terminal = n_threads, account, terminal
        self._labels = {session_name(s.subject, s.session): s.label for s in found.sessions}
        _configure_nipype(invocation, account.log_dir)

    def make_maps(self) -> None:
        """Run what makes the maps."""
        wf = init_maps_wf(
            self._found.sessions,
            options=self._invocation.options,
            out_dir=str(self._invocation.out_dir.resolve()),
            n_threads=self._n_threads,
        )
        self._execute(wf)

    def make_tables(self) -> None:
        """Run what measures in the maps and writes the pages."""
        out_dir = self._invocation.out_dir.resolve()
        sessions = [s for s in self._found.sessions if s.folder_in(out_dir).is_dir()]
        wf = init_tables_wf(
            sessions,
            options=self._invocation.options,
            out_dir=str(out_dir),
            provenance={
                "version": __version__,
                "command": self._invocation.command,
                "options": to_toml(self._invocation),
            },
        )
        self._execute(wf)

    def _execute(self, wf: Any) -> None:
        from nipype.interfaces.utility import IdentityInterface

        work = self._invocation.work_dir.resolve()
        names = wf.list_node_names()
        if not names:
            return
        if self._invocation.run.clean_workdir:
            for session in self._labels:
                shutil.rmtree(work / wf.name / session, ignore_errors=True)
        wf.base_dir = str(work)
        if self._invocation.run.write_graph:
            # in the DOT language; a picture too where graphviz is installed
            target = Path(str(self._account.log_dir)) / f"{wf.name}.dot"
            wf.write_hierarchical_dotfile(dotfilename=str(target), colored=True)
        n_nodes = sum(
            not isinstance(wf.get_node(name).interface, IdentityInterface) for name in names
        )
        progress = Progress(self._terminal, n_nodes, self._labels)
        failures: list[Problem] = []

        def failed(node: Any, text: str) -> None:
            failures.append(failure(progress.name(node), text))

        plugin = self._plugin(progress, failed)
        try:
            wf.run(plugin=plugin)
        except Exception as error:
            # nipype raises the first error again when all else is done
            if not failures:
                failures.append(failure(wf.name, f"{type(error).__name__}: {error}"))
        finally:
            self._account.problems += failures
            self._terminal.tell(failures)
            if isinstance(plugin, ResilientPlugin):
                plugin.end_workers()

    def _plugin(self, progress: Progress, failed: Callable[[Any, str], None]) -> Any:
        run = self._invocation.run
        if run.use_plugin:
            return cluster_plugin(run.use_plugin, progress, failed)
        return ResilientPlugin(
            {
                "n_procs": self._resources.n_cpus,
                "memory_gb": self._resources.memory_mb / 1024,
                "raise_insufficient": False,
                "mp_context": "forkserver",
                "status_callback": progress,
                "on_failure": failed,
                "quiet": run.verbose < 2,
            }
        )


def failure(where: str, text: str) -> Problem:
    r"""Return the problem that a failed step's traceback tells of.

    >>> print(failure("sub-01: t1 fit", "Traceback ...\nMemoryError: 3 GB"))
    sub-01: t1 fit: failed: MemoryError: 3 GB. What needs it is left out.
    """
    code = next((code for regex, code in _CODES if re.search(regex, text)), ExitCode.NODE_FAILED)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    named = [match for line in lines if (match := _ERROR.match(line))]
    if named:
        name, words = named[-1].groups()
        name = name.rpartition(".")[2]
        # our own errors are sentences for the user; their class is no news
        ours = name in {"BadDataError", "GridMismatchError", "CannotCreateError", "WorkerKilled"}
        what = words if ours and words else f"{name}: {words}".rstrip(": ")
    else:
        what = lines[-1] if lines else "no reason given"
    return Problem(
        where=where,
        what=f"failed: {what}".rstrip("."),
        costs="What needs it is left out",
        code=code,
    )


def _configure_nipype(invocation: Invocation, log_dir: Path) -> None:
    run = invocation.run
    config.update_config(
        {
            "execution": {
                "crashdump_dir": str(log_dir),
                "crashfile_format": "txt",
                "create_report": "false",
                "poll_sleep_duration": "0.1",
                "remove_unnecessary_outputs": "false",
                "stop_on_first_crash": str(run.stop_on_first_crash).lower(),
                "check_version": "false",
            },
            "logging": {"log_directory": str(log_dir)},
        }
    )
    if run.resource_monitor:
        config.enable_resource_monitor()
    _route_nipype_log(log_dir, run.verbose)


def _route_nipype_log(log_dir: Path, verbose: int) -> None:
    """Keep nipype's own words off the terminal unless asked for; they go into a file."""
    import logging

    handler = logging.FileHandler(log_dir / "nipype.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    for name in NIPYPE_LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = False
        for old in logger.handlers[:]:
            if verbose < 2 or isinstance(old, logging.FileHandler):  # of an earlier run
                logger.removeHandler(old)
                old.close()
        logger.addHandler(handler)
