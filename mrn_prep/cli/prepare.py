"""From a call to its checked input: what the plan and the run share."""

from __future__ import annotations

from mrn_prep.cli.config import Invocation
from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.select import FILTER_KEYS, open_dataset, open_derivatives, select
from mrn_prep.inputs.session import Found, find_inputs
from mrn_prep.io.dataset import Dataset
from mrn_prep.options import PROCESSED


def find(invocation: Invocation) -> tuple[Dataset, list[Dataset], Found]:
    """Open the data sets, select sessions and check their files (not their voxels)."""
    run = invocation.run
    raw = open_dataset(invocation.bids_dir, validate=not run.skip_bids_validation)
    derivatives = open_derivatives(run.derivatives)
    selection = select(raw, run)
    wanted = run.modalities or PROCESSED
    found = find_inputs(raw, selection, derivatives, wanted)
    remarks = [
        Problem(
            where=f"--modalities {name}",
            what="this version does not compute it yet",
            code=ExitCode.DONE,
        )
        for name in wanted
        if name not in PROCESSED
    ]
    if selection.ignored_keys:
        remarks.append(
            Problem(
                where=f"--bids-filter-file {run.bids_filter_file}",
                what=f"{', '.join(selection.ignored_keys)}: no kind of series here "
                f"({', '.join(FILTER_KEYS)} are); ignored",
                code=ExitCode.DONE,
            )
        )
    return raw, derivatives, Found(found.sessions, (*remarks, *found.problems))
