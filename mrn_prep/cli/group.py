"""The group level: cohort tables and their page."""

from __future__ import annotations

from mrn_prep import __version__
from mrn_prep.cli.config import Invocation
from mrn_prep.cli.environment import prepare
from mrn_prep.cli.status import Account
from mrn_prep.cli.stop import new_log_folder, writable
from mrn_prep.cli.terminal import Terminal
from mrn_prep.errors import ExitCode, InputMissingError, Problem


def run_group_level(invocation: Invocation, account: Account, terminal: Terminal) -> None:
    """Run the group level; what goes wrong stands in the account."""
    if not invocation.out_dir.is_dir():
        raise InputMissingError(
            f"{invocation.out_dir}: there is no such folder; run the participant level first."
        )
    account.log_dir = new_log_folder(invocation)
    terminal.log_to(account.log_dir / "mrn_prep.log")
    prepare(writable(invocation.work_dir.resolve()), 1)
    from mrn_prep.group.cohort import run_group
    from mrn_prep.group.page import write_group_page

    result = run_group(invocation.out_dir, invocation.bids_dir)
    account.problems += [
        Problem(where="group", what=remark.rstrip("."), code=ExitCode.DONE)
        for remark in result.remarks
    ]
    terminal.tell(account.problems)
    page = write_group_page(
        invocation.out_dir,
        remarks=result.remarks,
        provenance={"version": __version__, "command": invocation.command},
    )
    for path in (*result.paths, page):
        terminal.say(f"written: {path}")
