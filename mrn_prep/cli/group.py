"""The group level: cohort tables and their page."""

from __future__ import annotations

from mrn_prep.cli.config import Invocation
from mrn_prep.cli.environment import prepare
from mrn_prep.cli.run import _create_folders, _tell
from mrn_prep.cli.status import Account
from mrn_prep.cli.terminal import Terminal
from mrn_prep.errors import ExitCode, InputMissingError, Problem


def run_group_level(invocation: Invocation) -> ExitCode:
    """Run the group level; return the exit code that the last line tells."""
    if not invocation.out_dir.is_dir():
        raise InputMissingError(
            f"{invocation.out_dir}: there is no such folder; run the participant level first."
        )
    account = Account(command=invocation.command)
    account.log_dir = _create_folders(invocation)
    terminal = Terminal()
    terminal.log_to(account.log_dir / "mrn_prep.log")
    prepare(invocation.work_dir.resolve(), 1)
    from mrn_prep.group.cohort import run_group
    from mrn_prep.group.page import write_group_page

    result = run_group(invocation.out_dir, invocation.bids_dir)
    account.problems += [
        Problem(where="group", what=remark, code=ExitCode.DONE) for remark in result.remarks
    ]
    _tell(account.problems, terminal)
    for path in (*result.paths, write_group_page(invocation.out_dir)):
        terminal.say(f"written: {path}")
    account.write()
    terminal.say(account.last_line())
    terminal.close()
    return account.code
