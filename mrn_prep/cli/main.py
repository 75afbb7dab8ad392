"""The command ``mrn_prep``: from its arguments to its exit code."""

from __future__ import annotations

import contextlib
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mrn_prep import __version__
from mrn_prep.errors import ExitCode

if TYPE_CHECKING:
    from mrn_prep.cli.status import Account
    from mrn_prep.cli.terminal import Terminal


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. Heavy imports wait until they are needed."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--version" in argv:
        print(f"mrn_prep {__version__}")
        return int(ExitCode.DONE)
    from mrn_prep.cli.status import Account
    from mrn_prep.cli.terminal import Terminal

    account, terminal = Account(command=shlex.join(["mrn_prep", *argv])), Terminal()
    with _sigterm_interrupts():
        try:
            _act(argv, account, terminal)
        except SystemExit as done:  # --help
            return int(done.code or 0)
        except BaseException as error:
            from mrn_prep.cli.stop import stopped

            _deaf()
            stopped(error, account, terminal)
        _deaf()
        account.write()
        terminal.say(account.last_line())
        terminal.close()
    return int(account.code)


def _act(argv: Sequence[str], account: Account, terminal: Terminal) -> None:
    from mrn_prep.cli.config import resolve
    from mrn_prep.cli.parser import parse

    invocation = resolve(parse(argv), account.command)
    account.invocation = invocation
    if invocation.dry_run:
        from mrn_prep.cli.plan import run_plan

        run_plan(invocation, account, terminal)
    elif invocation.level == "group":
        from mrn_prep.cli.group import run_group_level

        run_group_level(invocation, account, terminal)
    else:
        from mrn_prep.cli.run import run_participants

        run_participants(invocation, account, terminal)


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM (a batch system's time limit) stop the run as Ctrl-C does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _deaf() -> None:
    """Ignore further signals: the account is being written."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
