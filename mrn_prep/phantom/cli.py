"""The command ``mrn_prep-phantom``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mrn_prep import __version__
from mrn_prep.errors import ExitCode, MrnPrepError
from mrn_prep.phantom.options import B1_METHODS, MODALITIES, USUAL, PhantomOptions

_DEFAULT = PhantomOptions()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(ExitCode.USAGE, f"{self.prog}: {message}\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = _Parser(
        prog="mrn_prep-phantom",
        description="Simulate a BIDS data set of thighs with known truth: raw series, regions "
        "drawn on them (OUT/derivatives/rois) and what was put in (OUT/derivatives/truth).",
        epilog="Exit codes: 0 done, 64 wrong usage, 73 OUT is not empty or cannot be written, "
        "74 write error. The same seed and options give the same bytes.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to make; must not hold files")
    parser.add_argument("--version", action="version", version=f"mrn_prep {__version__}")

    who = parser.add_argument_group("who is scanned")
    who.add_argument("--sites", type=int, default=_DEFAULT.sites, metavar="N",
                     help="scanners; they differ in protocol, grid orientation and B1+ calibration "
                          "(1-26, default %(default)s)")  # fmt: skip
    who.add_argument("--participants-per-site", type=int, metavar="N",
                     default=_DEFAULT.participants_per_site,
                     help="1-99, default %(default)s")  # fmt: skip
    who.add_argument("--groups", type=int, default=_DEFAULT.groups, metavar="N",
                     help="1: controls only; 2: controls and patients in turn, whose nerves are "
                          "larger, with longer T1 and lower FA (default %(default)s)")  # fmt: skip
    who.add_argument("--effect", type=float, default=_DEFAULT.effect, metavar="X",
                     help="strength of the patients' disease; 0 for none "
                          "(default %(default)s)")  # fmt: skip
    who.add_argument("--sessions", type=int, default=_DEFAULT.sessions, metavar="N",
                     help="visits of each participant: the same limb, lying anew, new noise "
                          "(default %(default)s)")  # fmt: skip

    what = parser.add_argument_group("what is scanned")
    what.add_argument("--modalities", nargs="+", default=list(USUAL), metavar="NAME",
                      help=f"beside the T2-weighted image, of: {' '.join(MODALITIES)} "
                           f"(default: {' '.join(USUAL)})")  # fmt: skip
    what.add_argument("--b1-method", default=_DEFAULT.b1_method, metavar="NAME",
                      help="how B1+ is measured: actual flip angle (afi), double angle (dam), "
                           "TurboFLASH (tfl), the scanner's RF map (rfm), or a finished map (map), "
                           f"of: {' '.join(B1_METHODS)} (default %(default)s)")  # fmt: skip
    what.add_argument("--b-values", nargs="+", type=float, default=(), metavar="B",
                      help="further b-values of the diffusion series (s/mm2, six directions each), "
                           "such as 10 20 40 80 120 180 400; perfusion then shows")  # fmt: skip
    what.add_argument("--dwi-phase", action="store_true",
                      help="store the diffusion series as magnitude and phase")  # fmt: skip
    what.add_argument("--small", action="store_true",
                      help="fewer and larger voxels, fewer directions: for tests")  # fmt: skip

    how = parser.add_argument_group("what disturbs it")
    how.add_argument("--snr", type=float, default=_DEFAULT.snr, metavar="X",
                     help="mean muscle signal of each series' strongest image over the noise's "
                          "sigma; 0 or inf for no noise (default %(default)s)")  # fmt: skip
    how.add_argument("--motion", nargs=2, type=float, default=(0.0, 0.0), metavar=("MM", "DEG"),
                     help="root mean square of the limb's shift and turn during the diffusion "
                          "and the dynamic series")  # fmt: skip
    how.add_argument("--eddy", type=float, default=0.0, metavar="MM",
                     help="largest eddy-current displacement of the diffusion volumes, at 80 mm "
                          "from the centre")  # fmt: skip
    how.add_argument("--b0", type=float, default=_DEFAULT.b0_hz, metavar="HZ",
                     help="largest off-resonance in the limb (default: below 80, as shimming "
                          "leaves it)")  # fmt: skip
    how.add_argument("--distort", action="store_true",
                     help="let off-resonance distort the diffusion series, and add images with "
                          "reversed blips")  # fmt: skip
    how.add_argument("--seed", type=int, default=_DEFAULT.seed, metavar="N",
                     help="default %(default)s")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    args = build_parser().parse_args(argv)
    start = time.monotonic()
    try:
        options = PhantomOptions(
            sites=args.sites, participants_per_site=args.participants_per_site,
            sessions=args.sessions, groups=args.groups, effect=args.effect, snr=args.snr,
            motion_mm=args.motion[0], motion_deg=args.motion[1], eddy_mm=args.eddy,
            b0_hz=args.b0, distort=args.distort, dwi_phase=args.dwi_phase,
            b_values=tuple(args.b_values),
            modalities=tuple(dict.fromkeys(args.modalities)),
            b1_method=args.b1_method, small=args.small, seed=args.seed,
        )  # fmt: skip
        _allow_compiling()
        # imported here so that --help and wrong usage answer at once
        from mrn_prep.phantom.dataset import simulate_dataset

        simulate_dataset(
            args.out, options, tell=lambda what: print(f"{what} ({time.monotonic() - start:.0f} s)")
        )
    except MrnPrepError as error:
        print(f"mrn_prep-phantom: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"mrn_prep-phantom: {error}", file=sys.stderr)
        return ExitCode.READ_WRITE
    print(f"{args.out}: done in {time.monotonic() - start:.0f} s")
    return ExitCode.DONE


def _allow_compiling() -> None:
    """Give numba a folder for its cache where neither the package nor HOME can be written."""
    here = Path(__file__).parent
    home = Path.home() if os.environ.get("HOME") else Path("/nonexistent")
    if not os.access(here, os.W_OK) and not os.access(home, os.W_OK):
        os.environ.setdefault("NUMBA_CACHE_DIR", tempfile.mkdtemp(prefix="mrn_prep-numba-"))


if __name__ == "__main__":
    sys.exit(main())
