"""From a call to its checked input: what the plan and the run share."""

from __future__ import annotations

from collections.abc import Iterator

from mrn_prep.cli.config import Invocation
from mrn_prep.errors import ExitCode, NothingSelectedError, Problem
from mrn_prep.inputs.select import FILTER_KEYS, Selection, open_dataset, open_derivatives, select
from mrn_prep.inputs.session import Found, find_inputs
from mrn_prep.io.dataset import Dataset
from mrn_prep.options import PROCESSED


def find(invocation: Invocation) -> tuple[Dataset, list[Dataset], Found]:
    """Open the data sets, select sessions and check their files (not their voxels).

    Raises
    ------
    MrnPrepError
        If a data set is not there or not BIDS, or if there is nothing to process.
    """
    run = invocation.run
    raw = open_dataset(invocation.bids_dir, validate=not run.skip_bids_validation)
    derivatives = open_derivatives(run.derivatives)
    selection = select(raw, run)
    found = find_inputs(
        raw, selection, derivatives, run.modalities or PROCESSED, invocation.options
    )
    remarks = (*_remarks(invocation, selection), *_no_fat_region(invocation, found))
    found = Found(found.sessions, (*remarks, *found.problems))
    if not any(session.series for session in found.sessions) and _all_remarks(found):
        why = " ".join(str(problem) for problem in found.problems[:3])
        raise NothingSelectedError(
            f"{invocation.bids_dir}: no series to process in "
            f"{' and '.join(run.modalities or PROCESSED)}. {why}".strip()
        )
    return raw, derivatives, found


def _all_remarks(found: Found) -> bool:
    return all(problem.is_remark for problem in found.problems)


def _remarks(invocation: Invocation, selection: Selection) -> Iterator[Problem]:
    run = invocation.run
    for name in run.modalities:
        if name not in PROCESSED:
            yield Problem(
                where=f"--modalities {name}",
                what="this version does not compute it yet",
                code=ExitCode.DONE,
            )
    if selection.ignored_keys:
        yield Problem(
            where=f"--bids-filter-file {run.bids_filter_file}",
            what=f"{', '.join(selection.ignored_keys)}: no kind of series here "
            f"({', '.join(FILTER_KEYS)} are); ignored",
            code=ExitCode.DONE,
        )


def _no_fat_region(invocation: Invocation, found: Found) -> Iterator[Problem]:
    name = invocation.options.t2.fat_region
    for session in found.sessions:
        there = {region.name for file in session.regions for region in file.regions}
        if name and name not in there:
            yield Problem(
                where=session.label,
                what=f"there is no region {name!r} for the T2 of fat (--t2-fat-region)",
                costs="The subcutaneous fat is sought instead",
                code=ExitCode.DONE,
            )
