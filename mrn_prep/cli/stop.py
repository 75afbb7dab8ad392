"""What stops a whole run, in the words and with the code that the user gets."""

from __future__ import annotations

import errno
import os
import traceback
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from mrn_prep.cli.config import Invocation
from mrn_prep.cli.status import Account
from mrn_prep.cli.terminal import Terminal
from mrn_prep.errors import CannotCreateError, ExitCode, MrnPrepError, Problem

_RESUME = "The same command goes on where it stopped"
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS}
# With these the output folder is right and a batch system looks there for how it ended.
_TOLD_IN_FILE = {ExitCode.NOT_BIDS, ExitCode.NOTHING_SELECTED, ExitCode.INPUT_MISSING}


def stopped(error: BaseException, account: Account, terminal: Terminal) -> None:
    """Add what stopped the run to the account and tell it."""
    problem = problem_of(error, account.invocation)
    account.problems.append(problem)
    invocation = account.invocation
    if (
        account.log_dir is None
        and problem.code in _TOLD_IN_FILE
        and invocation is not None
        and invocation.level == "participant"
        and not invocation.dry_run
    ):
        try:
            account.log_dir = new_log_folder(invocation)
            terminal.log_to(account.log_dir / "mrn_prep.log")
        except (CannotCreateError, OSError):
            account.log_dir = None
    if problem.code is ExitCode.NODE_FAILED and not isinstance(error, MrnPrepError):
        terminal.say("".join(traceback.format_exception(error)).rstrip())
    terminal.complain(f"mrn_prep: {problem}")


def problem_of(error: BaseException, invocation: Invocation | None = None) -> Problem:
    """Return the problem that an exception stands for.

    >>> print(problem_of(MemoryError()))
    The run stopped: out of memory. The same command goes on where it stopped.
    """
    if isinstance(error, MrnPrepError):
        return Problem(where="", what=str(error).rstrip("."), code=error.exit_code)
    if isinstance(error, KeyboardInterrupt):
        code, what = ExitCode.TRY_AGAIN, "interrupted"
    elif isinstance(error, MemoryError):
        code, what = ExitCode.TRY_AGAIN, "out of memory"
    elif isinstance(error, OSError):
        name = error.filename or ""
        what = f"{name}: {error.strerror or error}" if name else str(error.strerror or error)
        ours = error.errno in _NOT_OURS and _is_output(name, invocation)
        code = ExitCode.CANNOT_CREATE if ours else ExitCode.READ_WRITE
    else:
        what = f"{type(error).__name__}: {error}".rstrip(". ")
        return Problem(
            where="",
            what=f"The run stopped by a fault of mrn_prep itself: {what}",
            costs="Please report it with the lines above",
            code=ExitCode.NODE_FAILED,
        )
    return Problem(where="", what=f"The run stopped: {what}", costs=_RESUME, code=code)


def new_log_folder(invocation: Invocation) -> Path:
    """Create the output folder and in it the folder of this run's log.

    Raises
    ------
    CannotCreateError
        If one of them cannot be created or written.
    """
    name = f"{datetime.now():%Y%m%d-%H%M%S}_{uuid4().hex[:6]}"
    return writable(invocation.out_dir.resolve() / "logs" / name)


def writable(folder: Path) -> Path:
    """Create a folder and return it; CannotCreateError if it cannot be created or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
    except OSError as error:
        raise CannotCreateError(
            f"{folder}: cannot be created or written ({error.strerror}); "
            "wanted a folder that this user may write."
        ) from error
    return folder


def _is_output(name: object, invocation: Invocation | None) -> bool:
    if invocation is None or not isinstance(name, str) or not name:
        return False
    path = Path(name).resolve()
    return any(
        folder.resolve() in [path, *path.parents]
        for folder in (invocation.out_dir, invocation.work_dir)
    )
