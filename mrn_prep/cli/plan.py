"""``--dry-run``: all that a run would do, told within seconds; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from mrn_prep import __version__
from mrn_prep.cli.config import Invocation
from mrn_prep.cli.prepare import find
from mrn_prep.cli.resources import available
from mrn_prep.cli.status import Account
from mrn_prep.errors import ExitCode
from mrn_prep.inputs import AFIInputs, DWIInputs, SessionInputs, VFAInputs
from mrn_prep.io.derivatives import file_path, map_path
from mrn_prep.options import Options
from mrn_prep.outputs import files_of, of_modality

_GIB = 2**30


def run_plan(invocation: Invocation) -> ExitCode:
    """Print the plan; return the exit code that the run would begin with."""
    account = Account(command=invocation.command)
    _, _, found = find(invocation)
    account.problems += found.problems
    print(f"mrn_prep {__version__}: plan for {len(found.sessions)} sessions; nothing is written\n")
    n_files = 0
    disk, memory = 0.0, 0.0
    for session in found.sessions:
        lines = list(_session_lines(session, invocation.options, invocation.run.verbose))
        print("\n".join([session.label, *lines]))
        n_files += sum(len(outputs(series, invocation.options)) for series in session.series)
        disk += sum(_disk_gb(series) for series in session.series)
        memory = max([memory, *(_memory_gb(series) for series in session.series)])
    print()
    faults = [str(problem) for problem in found.problems if not problem.is_remark]
    notes = Counter(str(problem) for problem in found.problems if problem.is_remark)
    for title, lines in (("PROBLEMS", faults), ("NOTES", list(notes))):
        if lines:
            print(f"{title} ({len(lines)})")
            print("\n".join(f"  {line}" for line in lines) + "\n")
    limits = available()
    print(
        f"outputs: {n_files} images, series and tables of series; one page and two tables per "
        f"session\nmemory: up to {memory:.1f} GB in one step (allowed here: "
        f"{(invocation.run.mem_mb or limits.memory_mb) / 1024:.1f} GB, "
        f"{invocation.run.nprocs or limits.n_cpus} processors)\n"
        f"disk: about {disk:.1f} GB with intermediate results"
    )
    print(account.last_line())
    return account.code


def outputs(series: AFIInputs | VFAInputs | DWIInputs, options: Options) -> list[str]:
    """Return the files that one series becomes, relative to the output folder."""
    modality = {AFIInputs: "b1", VFAInputs: "t1", DWIInputs: "dwi"}[type(series)]
    paths = []
    for spec in of_modality(modality, skip=options.dwi.not_made):
        companions = ("", "se", "status") if spec.companions else ("",)
        paths += [map_path(spec, series.entities, companion) for companion in companions]
    files = files_of(modality, skip=options.dwi.not_made)
    return paths + [file_path(spec, series.entities) for spec in files]


def _session_lines(session: SessionInputs, options: Options, verbose: int) -> Iterator[str]:
    if not session.series:
        yield "  nothing to process"
    for series in session.series:
        made = outputs(series, options)
        yield f"  {_describe(series)}"
        yield f"      from {', '.join(_names(series))}"
        names = [name.rpartition("/")[2] for name in made]
        shown = names if verbose else [n for n in names if "desc-se" not in n and "status" not in n]
        yield f"      to   {', '.join(shown)}"
    if session.regions:
        n = sum(len(file.regions) for file in session.regions)
        yield f"  measurements in {n} regions of {len(session.regions)} file(s)"
    else:
        yield "  no regions: maps and page without measurements (see --derivatives)"


def _describe(series: AFIInputs | VFAInputs | DWIInputs) -> str:
    if isinstance(series, AFIInputs):
        return f"B1+ by AFI ({series.sequence_class})"
    if isinstance(series, VFAInputs):
        corrected = "with B1+" if series.b1 else "WITHOUT B1+ (flagged no-b1)"
        return f"T1 by variable flip angle, {corrected} ({series.sequence_class})"
    eddy = "motion and eddy currents" if series.pe_axis is not None else "motion only"
    return f"diffusion, {series.grid.n_volumes} volumes, {eddy} ({series.sequence_class})"


def _names(series: AFIInputs | VFAInputs | DWIInputs) -> list[str]:
    sources = [series.source] if isinstance(series, DWIInputs) else series.sources
    return [source.rpartition("/")[2] for source in sources]


def _memory_gb(series: AFIInputs | VFAInputs | DWIInputs) -> float:
    copies = 3 if isinstance(series, DWIInputs) else 40
    base = 0.6 if isinstance(series, DWIInputs) else 0.2
    return base + copies * series.grid.float32_bytes / _GIB


def _disk_gb(series: AFIInputs | VFAInputs | DWIInputs) -> float:
    copies = 4 if isinstance(series, DWIInputs) else 20
    return copies * series.grid.float32_bytes / _GIB
