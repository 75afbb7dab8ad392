"""The participant level: check, compute, measure, tell."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from mrn_prep import __version__
from mrn_prep.cli.config import Invocation, to_toml
from mrn_prep.cli.environment import prepare
from mrn_prep.cli.prepare import find
from mrn_prep.cli.resources import Resources, available
from mrn_prep.cli.status import Account
from mrn_prep.cli.terminal import Progress, Terminal
from mrn_prep.errors import CannotCreateError, ExitCode, Problem
from mrn_prep.inputs.session import Found, SessionInputs, session_label
from mrn_prep.inputs.voxels import check_voxels
from mrn_prep.io.atomic import sweep, write_text
from mrn_prep.io.dataset import Dataset
from mrn_prep.io.derivatives import write_dataset_files

MAX_THREADS = 8

# The last line of a traceback names the error; these mean something to the user.
_CODES = (
    (r"WorkerKilled|MemoryError|BrokenProcessPool", ExitCode.TRY_AGAIN),
    (r"No space left|Disk quota|Input/output error|Read-only file", ExitCode.READ_WRITE),
    (r"BadDataError|GridMismatchError", ExitCode.BAD_DATA),
)


def run_participants(invocation: Invocation) -> ExitCode:
    """Run the participant level; return the exit code that the last line tells."""
    account = Account(command=invocation.command)
    raw, derivatives, found = find(invocation)
    resources = _resources(invocation)
    log_dir = _create_folders(invocation)
    account.log_dir = log_dir
    terminal = Terminal()
    terminal.log_to(log_dir / "mrn_prep.log")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(invocation, raw, derivatives, found, resources, account, terminal)
    except KeyboardInterrupt:
        _stopped(account, ExitCode.TRY_AGAIN, "interrupted")
    except MemoryError:
        _stopped(account, ExitCode.TRY_AGAIN, "out of memory")
    except OSError as error:
        _stopped(account, ExitCode.READ_WRITE, f"{error.strerror} ({error.filename})")
    account.write()
    terminal.say(account.last_line())
    terminal.close()
    return account.code


def _run(
    invocation: Invocation,
    raw: Dataset,
    derivatives: list[Dataset],
    found: Found,
    resources: Resources,
    account: Account,
    terminal: Terminal,
) -> None:
    n_threads = invocation.run.omp_nthreads or min(resources.n_cpus, MAX_THREADS)
    prepare(invocation.work_dir.resolve(), n_threads)
    write_text(account.log_dir / "config.toml", to_toml(invocation))  # type: ignore[operator]
    write_dataset_files(
        invocation.out_dir, raw=raw.root, derivatives={d.name: d.root for d in derivatives}
    )
    terminal.say(
        f"mrn_prep {__version__}: {len(found.sessions)} sessions, {resources.n_cpus} processors, "
        f"{resources.memory_mb / 1024:.1f} GB of memory"
    )
    if invocation.boilerplate_only:
        return
    for session in found.sessions:
        sweep(session_folder(invocation.out_dir, session))
    if not invocation.reports_only:
        terminal.say("checking all images ...")
        found = check_voxels(found, resources.n_cpus)
    account.problems += found.problems
    _tell(found.problems, terminal)
    graphs = _Graphs(invocation, found, resources, n_threads, account, terminal)
    if not invocation.reports_only:
        graphs.make_maps()
    graphs.make_tables()
    _list_pages(invocation.out_dir, found.sessions, terminal)


class _Graphs:
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
        # nipype reads its environment when it is imported, so not before `prepare`.
        from nipype import config

        assert account.log_dir is not None
        self._invocation, self._found, self._resources = invocation, found, resources
        self._n_threads, self._account, self._terminal = n_threads, account, terminal
        run = invocation.run
        config.update_config(
            {
                "execution": {
                    "crashdump_dir": str(account.log_dir),
                    "crashfile_format": "txt",
                    "create_report": "false",
                    "poll_sleep_duration": "0.1",
                    "remove_unnecessary_outputs": "false",
                    "stop_on_first_crash": str(run.stop_on_first_crash).lower(),
                    "check_version": "false",
                },
                "logging": {"log_directory": str(account.log_dir)},
            }
        )
        if run.resource_monitor:
            config.enable_resource_monitor()
        _route_nipype_log(account.log_dir, run.verbose)
        from mrn_prep.workflows.participant import session_name

        self._labels = {session_name(s.subject, s.session): s.label for s in found.sessions}

    def make_maps(self) -> None:
        """Run what makes the maps."""
        from mrn_prep.workflows.participant import init_maps_wf

        wf = init_maps_wf(
            self._found.sessions,
            options=self._invocation.options,
            out_dir=str(self._invocation.out_dir.resolve()),
            n_threads=self._n_threads,
        )
        self._execute(wf)

    def make_tables(self) -> None:
        """Run what measures in the maps and writes the pages."""
        from mrn_prep.workflows.participant import init_tables_wf

        out_dir = self._invocation.out_dir.resolve()
        sessions = [s for s in self._found.sessions if session_folder(out_dir, s).is_dir()]
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
            _write_graph(wf, self._account.log_dir)
        n_nodes = sum(
            not isinstance(wf.get_node(name).interface, IdentityInterface) for name in names
        )
        progress = Progress(self._terminal, n_nodes, self._labels)
        failures: list[Problem] = []

        def failed(node: Any, text: str) -> None:
            failures.append(failure(progress.name(node), text))

        try:
            wf.run(plugin=self._plugin(progress, failed))
        except Exception as error:
            # nipype raises the first error again when all else is done
            if not failures:
                failures.append(failure(wf.name, f"{type(error).__name__}: {error}"))
        self._account.problems += failures
        _tell(failures, self._terminal)

    def _plugin(self, progress: Progress, failed: Callable[[Any, str], None]) -> Any:
        from mrn_prep.cli.plugin import ResilientPlugin

        if self._invocation.run.use_plugin:
            return _cluster_plugin(self._invocation.run.use_plugin, progress, failed)
        return ResilientPlugin(
            {
                "n_procs": self._resources.n_cpus,
                "memory_gb": self._resources.memory_mb / 1024,
                "raise_insufficient": False,
                "mp_context": "forkserver",
                "status_callback": progress,
                "on_failure": failed,
                "quiet": self._invocation.run.verbose < 2,
            }
        )


def failure(where: str, text: str) -> Problem:
    r"""Return the problem that a failed step's traceback tells of.

    >>> failure("sub-01: t1 fit", "Traceback ...\nMemoryError: 3 GB").code.name
    'TRY_AGAIN'
    """
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    code = next((code for regex, code in _CODES if re.search(regex, text)), ExitCode.NODE_FAILED)
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Killed)\b", line)]
    what = (errors or lines or ["failed"])[-1].rstrip(".")
    return Problem(
        where=where, what=f"failed: {what}", costs="What needs it is left out", code=code
    )


def session_folder(out_dir: Path, session: SessionInputs) -> Path:
    """Return the folder of a session's derivatives."""
    folder = out_dir / f"sub-{session.subject}"
    return folder / f"ses-{session.session}" if session.session else folder


def _resources(invocation: Invocation) -> Resources:
    limits = available()
    run = invocation.run
    return Resources(run.nprocs or limits.n_cpus, run.mem_mb or int(limits.memory_mb * 0.9))


def _create_folders(invocation: Invocation) -> Path:
    """Create the output, work and log folders; return the last."""
    log_dir = invocation.out_dir.resolve() / "logs"
    log_dir /= f"{datetime.now():%Y%m%d-%H%M%S}_{uuid4().hex[:6]}"
    for folder in (log_dir, invocation.work_dir):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
        except OSError as error:
            raise CannotCreateError(
                f"{folder}: cannot be created or written ({error.strerror})."
            ) from error
    return log_dir


def _tell(problems: Iterable[Problem], terminal: Terminal) -> None:
    for problem in problems:
        terminal.say(("note: " if problem.is_remark else "PROBLEM: ") + str(problem))


def _stopped(account: Account, code: ExitCode, what: str) -> None:
    account.problems.append(
        Problem(
            where="run",
            what=f"stopped: {what}",
            code=code,
            costs="The same command goes on where it stopped",
        )
    )


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _list_pages(out_dir: Path, sessions: Iterable[SessionInputs], terminal: Terminal) -> None:
    for session in sessions:
        page = out_dir / f"{session_label(session.subject, session.session).replace(' ', '_')}.html"
        if page.exists():
            terminal.say(f"page: {page}")


def _route_nipype_log(log_dir: Path, verbose: int) -> None:
    """Keep nipype's own words off the terminal unless asked for; they go into a file."""
    import logging

    handler = logging.FileHandler(log_dir / "nipype.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"))
    for name in ("nipype", "nipype.workflow", "nipype.utils", "nipype.interface"):
        logger = logging.getLogger(name)
        logger.propagate = False
        if verbose < 2:
            logger.handlers.clear()
        logger.addHandler(handler)


def _write_graph(wf: Any, log_dir: Path | None) -> None:
    """Write the graph in the DOT language (a picture too where graphviz is installed)."""
    target = Path(str(log_dir)) / f"{wf.name}.dot"
    wf.write_hierarchical_dotfile(dotfilename=str(target), colored=True)


def _cluster_plugin(path: str, progress: Progress, failed: Callable[[Any, str], None]) -> Any:
    """Return nipype's own plugin for a cluster, with our progress and our account of failures."""
    import yaml
    from nipype.pipeline import plugins

    from mrn_prep.errors import UsageError

    try:
        content: Mapping[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        base = getattr(plugins, f"{content['plugin']}Plugin")
    except OSError as error:
        raise UsageError(f"--use-plugin {path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"--use-plugin {path}: {error}; wanted YAML with plugin and plugin_args."
        ) from error
    arguments = {**content.get("plugin_args", {}), "status_callback": progress}

    class Told(base):  # type: ignore[misc, valid-type]
        """The cluster's plugin, telling its failures as ours does."""

        def _clean_queue(self, jobid: int, graph: Any, result: Any = None) -> Any:
            text = "".join(result["traceback"]) if result and result.get("traceback") else "failed"
            failed(self.procs[jobid], text)
            return super()._clean_queue(jobid, graph, result=result)

    return Told(plugin_args=arguments)
