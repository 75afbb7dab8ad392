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

- `sub-*`: raw series (T2-weighted image, variable flip angle, actual flip-angle imaging,
  diffusion)
- `derivatives/rois`: regions as a reader would draw them on the T2-weighted image
- `derivatives/truth`: what was put in, under the names of the maps that mrn_prep makes

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
    write_derivative_roots(root)
