"""A whole simulated data set: raw series, regions and truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mrn_prep.errors import CannotCreateError
from mrn_prep.io.atomic import write_json, write_text
from mrn_prep.phantom.cohort import COLUMNS, Participant, draw_cohort
from mrn_prep.phantom.options import PhantomOptions
from mrn_prep.phantom.raw import acquire_session
from mrn_prep.phantom.truth import write_derivative_roots, write_rois, write_truth
from mrn_prep.phantom.write import write_description, write_tsv

_README = """\
# Simulated thighs

Made by mrn_prep-phantom. Nobody was scanned: every signal follows from known tissue
properties, B1+ and B0 fields by the forward equations of mrn_prep, with the noise,
motion and partial volume that were asked for.

- `sub-*`: raw series, of those asked for: T2-weighted image (always), variable flip angle
  (`t1`), B1+ (`b1`), multi-echo spin echo (`t2`), multi-echo gradient echo with phase
  (`fatwater`), gradient echoes with and without magnetisation transfer pulse (`mt`),
  diffusion (`dwi`), inversion recovery (`ir`), T2-prepared (`t2prep`) and dual-echo (`dual`)
  turbo spin echoes, a pair for the magnetisation transfer ratio alone (`mtr`), frames of a
  spoiled gradient echo while contrast agent passes (`dce`; BIDS has no suffix for them yet)
- `derivatives/rois`: regions as a reader would draw them on the T2-weighted image
- `derivatives/truth`: what was put in, under the names of the maps that mrn_prep makes,
  each on the grid of the series that it is about. Voxels that one region fills are labelled
  per grid: `desc-pure` (variable flip angle, B1+, diffusion, dynamic series), `desc-puremese`,
  `desc-puremegre`, `desc-puremts`, `desc-pureir`, `desc-puret2prep`, `desc-puredual`,
  `desc-puremtr`

What truth means:

- T2 is that of water; fat in a tissue has the T2 of fat tissue, whose protons all decay
  alike. The T2-weighted, T2-prepared and dual-echo images are fat-suppressed and see one T2.
- The fat fraction is that of protons. Water and fat of a tissue share T1 and T2*.
- MTsat is Helms's, for a pulse of nominal power; MTR is what the noise-free images give,
  with the B1+ there was.
- B1+ and off-resonance are those at the centre of each voxel. Off-resonance acts on the
  multi-echo gradient echo, and on diffusion where asked for.
- Perfusion parameters are those of the extended Tofts model. The input function
  (`desc-aif`) is that of arterial blood. Both are means of concentration over each frame.
- Truth of a series lies where the limb is in its first volume, undistorted.
- Where diffusion has further b-values, the tensor is that of the tissue without the blood in
  its capillaries.

Settings: {settings}.
"""


def simulate_dataset(
    out: str | Path,
    options: PhantomOptions | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Participant]:
    """Simulate a BIDS data set.

    Parameters
    ----------
    out
        Folder to make; it may exist if it is empty.
    options
        What to simulate; the defaults are a demonstration.
    tell
        Called with one line per finished session.

    Returns
    -------
    list of Participant
        Who was scanned.

    Raises
    ------
    CannotCreateError
        If `out` holds anything, or cannot be made.
    """
    root, options = Path(out), options or PhantomOptions()
    _prepare(root)
    cohort = draw_cohort(options)
    _write_root(root, cohort, options)
    labels = [""] if options.sessions == 1 else [f"{n + 1:02d}" for n in range(options.sessions)]
    for person in cohort:
        for label in labels:
            session = acquire_session(root, person, label, options)
            write_rois(root, session)
            write_truth(root, session)
            tell(f"sub-{person.label}" + (f" ses-{label}" if label else ""))
    return cohort


def _prepare(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        holds_something = next(root.iterdir(), None) is not None
        if not holds_something:
            (root / "derivatives").mkdir()
    except OSError as error:
        raise CannotCreateError(f"{root}: cannot be made or written ({error.strerror}).") from error
    if holds_something:
        raise CannotCreateError(f"{root}: is not empty; wanted a new or empty folder.")


def _write_root(root: Path, cohort: list[Participant], options: PhantomOptions) -> None:
    write_description(root, "Simulated thighs", "raw", tool="mrn_prep-phantom",
                      text="Simulated neurography of the thigh")  # fmt: skip
    settings = ", ".join(f"{name} {value}" for name, value in vars(options).items())
    write_text(root / "README", _README.format(settings=settings))
    write_tsv(root / "participants.tsv", ["participant_id", *COLUMNS], [p.row() for p in cohort])
    write_json(root / "participants.json", COLUMNS)
    if "dce" in options.modalities:
        write_text(root / ".bidsignore", "**/perf/*_dce.*\n")
    write_derivative_roots(root)
