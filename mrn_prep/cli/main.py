"""The command ``mrn_prep``: from its arguments to its exit code."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from mrn_prep import __version__
from mrn_prep.errors import ExitCode, MrnPrepError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code. Heavy imports wait until they are needed."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if "--version" in argv:
        print(f"mrn_prep {__version__}")
        return int(ExitCode.DONE)
    from mrn_prep.cli.config import resolve
    from mrn_prep.cli.parser import parse

    try:
        invocation = resolve(parse(argv), shlex.join(["mrn_prep", *argv]))
        if invocation.dry_run:
            from mrn_prep.cli.plan import run_plan

            return int(run_plan(invocation))
        if invocation.level == "group":
            from mrn_prep.cli.group import run_group_level

            return int(run_group_level(invocation))
        from mrn_prep.cli.run import run_participants

        return int(run_participants(invocation))
    except MrnPrepError as error:
        code = error.exit_code
        print(f"mrn_prep: {error}", file=sys.stderr)
        print(f"mrn_prep: exit code {int(code)}, {code.meaning}")
        return int(code)
