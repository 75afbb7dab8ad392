"""The options of the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from mrn_prep import __version__
from mrn_prep.errors import UnknownLevelError, UsageError
from mrn_prep.options import MODALITIES, PROCESSED, SECTIONS, Options, RunOptions

LEVELS = ("participant", "group")

_DESCRIPTION = """\
Quantitative MR neurography: from a BIDS data set to maps of T1, T2, T2*, fat fraction,
magnetisation transfer and diffusion, corrected by B1+, with standard errors and validity
flags, measurements in nerves and muscles, and a page per participant."""

_EPILOG = """\
examples:
  mrn_prep /data /out participant --dry-run
  mrn_prep /data /out participant -d rois=/data/derivatives/rois --nprocs 8 --mem 16GB
  mrn_prep /data /out group

exit codes: 0 done; 16 not BIDS; 17 unknown level; 18 nothing selected; 64 usage;
65 bad data; 66 input missing; 70 a step failed; 73 cannot create output;
74 read/write error; 75 try again (memory, worker killed, interrupted).
A run that was stopped goes on where it stopped when the same command is given again."""

_TITLES = {
    "b1": "processing: B1+",
    "t1": "processing: T1",
    "t2": "processing: T2",
    "fatwater": "processing: fat fraction and T2*",
    "mt": "processing: magnetisation transfer",
    "dwi": "processing: diffusion",
    "dce": "processing: DCE perfusion",
    "roi": "processing: regions",
}
_SIZES = {"": 1.0, "K": 2**-10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}


class _Parser(argparse.ArgumentParser):
    """A parser that raises instead of ending the process with its own code."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}. See mrn_prep --help.")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser; defaults are suppressed, so that what was given is known."""
    parser = _Parser(
        prog="mrn_prep",
        usage="mrn_prep BIDS_DIR OUT_DIR {participant,group} [options]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("bids_dir", metavar="BIDS_DIR", nargs="?", help="raw BIDS data set")
    parser.add_argument("out_dir", metavar="OUT_DIR", nargs="?",
                        help="derivative data set to write")  # fmt: skip
    parser.add_argument("analysis_level", metavar="LEVEL", nargs="?",
                        help="participant, or group once participants are done")  # fmt: skip
    parser.add_argument("--version", action="version", version=f"mrn_prep {__version__}",
                        help="show the version and exit")  # fmt: skip
    _selection(parser.add_argument_group("selection"))
    _inputs(parser.add_argument_group("inputs"))
    _running(parser.add_argument_group("running"))
    _looking(parser.add_argument_group("looking"))
    for section, record in SECTIONS.items():
        _processing(parser.add_argument_group(_TITLES[section]), section, record)
    return parser


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Return what was given on the command line, by name.

    Underscores are accepted for dashes in option names.

    Raises
    ------
    UsageError
        If an option is unknown or its value is wrong.
    UnknownLevelError
        If the analysis level is neither participant nor group.
    """
    given = vars(build_parser().parse_intermixed_args([_dashed(arg) for arg in argv]))
    level = given.get("analysis_level")
    if level is not None and level not in LEVELS:
        raise UnknownLevelError(f"LEVEL is {level!r}; wanted participant or group.")
    return given


def run_values(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given values that `RunOptions` has."""
    known = {f.name for f in fields(RunOptions)}
    return {name: value for name, value in given.items() if name in known}


def processing_values(given: Mapping[str, Any]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield (section, values) of the given processing options."""
    for section in SECTIONS:
        prefix = f"{section}__"
        values = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
        if values:
            yield section, values


def _dashed(arg: str) -> str:
    """Replace underscores in an option's name, not in its value.

    >>> _dashed("--participant_label=a_b"), _dashed("a_b")
    ('--participant-label=a_b', 'a_b')
    """
    if not arg.startswith("--"):
        return arg
    name, equals, value = arg.partition("=")
    return name.replace("_", "-") + equals + value


def _selection(group: Any) -> None:
    group.add_argument("--participant-label", nargs="+", action="extend", metavar="LABEL",
                       help="participants, with or without sub-; or a file of labels (the first "
                       "column of a table counts)")  # fmt: skip
    group.add_argument("--session-label", "--session-id", nargs="+", action="extend",
                       metavar="LABEL", dest="session_label",
                       help="sessions, with or without ses-")  # fmt: skip
    group.add_argument("--bids-filter-file", metavar="FILE",
                       help="JSON of entities per kind of series (vfa, ir, b1, mese, t2w, megre, "
                       "mt, dwi, dce); other keys are ignored, but a session in any of them "
                       "selects the session")  # fmt: skip
    group.add_argument("--modalities", nargs="+", action="extend", choices=MODALITIES,
                       metavar="NAME",
                       help=f"of {', '.join(MODALITIES)}; default: all that the data allow "
                       f"(this version computes {', '.join(PROCESSED)})")  # fmt: skip


def _inputs(group: Any) -> None:
    group.add_argument("-d", "--derivatives", nargs="+", action="extend", metavar="NAME=PATH",
                       help="derivative data sets with regions (dseg, probseg, masks)")  # fmt: skip
    group.add_argument("--skip-bids-validation", action="store_true",
                       help="go on without a valid dataset_description.json")  # fmt: skip


def _running(group: Any) -> None:
    group.add_argument("-w", "--work-dir", metavar="DIR",
                       help="intermediate results (default: OUT_DIR/work)")  # fmt: skip
    group.add_argument("--nprocs", "--n-cpus", type=_positive, metavar="N", dest="nprocs",
                       help="processors to use at once (default: what cgroup, SLURM, affinity and "
                       "host allow)")  # fmt: skip
    group.add_argument("--omp-nthreads", type=_positive, metavar="N",
                       help="threads of one step (default: nprocs, at most 8)")  # fmt: skip
    group.add_argument("--mem", "--mem-mb", type=_megabytes, metavar="SIZE", dest="mem_mb",
                       help="memory in MB, or with a suffix such as 8GB (default: as for "
                       "--nprocs)")  # fmt: skip
    group.add_argument("--mem-gb", type=_gigabytes, metavar="GB", dest="mem_mb",
                       help="memory in GB")  # fmt: skip
    group.add_argument("--use-plugin", "--nipype-plugin-file", metavar="FILE", dest="use_plugin",
                       help="YAML with nipype's plugin and plugin_args (SLURM, SGE, PBS, "
                       "HTCondor)")  # fmt: skip
    group.add_argument("--config-file", metavar="FILE",
                       help="TOML of options, such as a run writes; flags win over it")  # fmt: skip
    group.add_argument("--random-seed", type=int, metavar="N",
                       help="seed of random numbers (default: 0)")  # fmt: skip
    for name, text in (
        ("--stop-on-first-crash", "stop at the first step that fails"),
        ("--clean-workdir", "empty the selected sessions' work folders before starting"),
        ("--resource-monitor", "record memory and processor use of each step"),
        ("--write-graph", "write the graph of steps into the log folder"),
        ("--notrack", "accepted for compatibility; nothing is ever tracked"),
    ):
        group.add_argument(name, action="store_true", help=text)
    group.add_argument("-v", "--verbose", action="count", help="more words (-vv: nipype's too)")


def _looking(group: Any) -> None:
    group.add_argument("--dry-run", action="store_true",
                       help="tell inputs, outputs, missing metadata, memory and disk; write "
                       "nothing")  # fmt: skip
    group.add_argument("--reports-only", action="store_true",
                       help="tables and pages anew from the maps in OUT_DIR")  # fmt: skip
    group.add_argument("--boilerplate-only", action="store_true",
                       help="only the data set's description and citations")  # fmt: skip


def _processing(group: Any, section: str, record: type) -> None:
    """Make a flag of each field of an options record."""
    if section == "dwi":
        group.add_argument("--separate-all-dwis", action="store_const", const=False,
                           dest="dwi__combine", help="as in QSIPrep: --no-dwi-combine")  # fmt: skip
    defaults = getattr(Options(), section)
    for f in fields(record):
        flag = f"--{section}-{f.name.replace('_', '-')}"
        default = getattr(defaults, f.name)
        dest = f"{section}__{f.name}"
        unit = f" ({f.metadata['unit']})" if f.metadata["unit"] else ""
        if isinstance(default, bool):
            shown = "on" if default else "off"
            group.add_argument(flag, action=argparse.BooleanOptionalAction, dest=dest,
                               help=f"{f.metadata['help']} (default: {shown})")  # fmt: skip
        else:
            group.add_argument(
                flag,
                dest=dest,
                type=type(default),
                choices=f.metadata["choices"] or None,
                metavar=None if f.metadata["choices"] else "X",
                help=f"{f.metadata['help']}{unit} (default: {default or 'none'})",
            )


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}; wanted a whole number above 0")
    return int(text)


def _megabytes(text: str) -> int:
    """Read a memory size; a bare number is megabytes, as in fMRIPrep.

    >>> _megabytes("8GB"), _megabytes("4096"), _megabytes("512M")
    (8192, 4096, 512)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", text.strip(), re.IGNORECASE)
    size = round(float(match[1]) * _SIZES[match[2].upper()]) if match else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"is {text!r}; wanted a size such as 8GB or 8192 (MB)")
    return size


def _gigabytes(text: str) -> int:
    try:
        return _megabytes(f"{float(text)}G")
    except ValueError:
        raise argparse.ArgumentTypeError(f"is {text!r}; wanted a number of GB") from None
