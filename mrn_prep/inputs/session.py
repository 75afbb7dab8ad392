"""Everything one session offers, found and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.b1 import AFIInputs, find_afi
from mrn_prep.inputs.checks import suffix_rules
from mrn_prep.inputs.dwi import DWIInputs, find_dwi
from mrn_prep.inputs.rois import RegionFile, find_regions
from mrn_prep.inputs.select import Selection
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.inputs.vfa import VFAInputs, find_vfa
from mrn_prep.io.dataset import BidsFile, Dataset
from mrn_prep.io.tables import read_table
from mrn_prep.options import PROCESSED


@dataclass(frozen=True, kw_only=True)
class SessionInputs:
    """What will be processed of one participant's session.

    Attributes
    ----------
    subject, session
        Labels without prefix; session is None where the data set has none.
    site
        From participants.tsv, or ``n/a``.
    b1, vfa, dwi
        Series by kind.
    regions
        Where to measure.
    remarks
        What was left out or must be known, one sentence each.
    """

    subject: str
    session: str | None
    site: str
    b1: tuple[AFIInputs, ...]
    vfa: tuple[VFAInputs, ...]
    dwi: tuple[DWIInputs, ...]
    regions: tuple[RegionFile, ...]
    remarks: tuple[str, ...]

    @property
    def label(self) -> str:
        """Such as ``sub-01 ses-02``."""
        return session_label(self.subject, self.session)

    def folder_in(self, out_dir: Path) -> Path:
        """Return the folder of the session's derivatives."""
        folder = out_dir / f"sub-{self.subject}"
        return folder / f"ses-{self.session}" if self.session else folder

    @property
    def series(self) -> tuple[SeriesInputs, ...]:
        """All series, in the order in which they are processed."""
        return (*self.b1, *self.vfa, *self.dwi)


@dataclass(frozen=True)
class Found:
    """The sessions of a run and all that is wrong with their files."""

    sessions: tuple[SessionInputs, ...]
    problems: tuple[Problem, ...]


def session_label(subject: str, session: str | None) -> str:
    """Return the words for a session.

    >>> session_label("01", None), session_label("01", "b")
    ('sub-01', 'sub-01 ses-b')
    """
    return f"sub-{subject}" + (f" ses-{session}" if session else "")


def find_inputs(
    dataset: Dataset,
    selection: Selection,
    derivatives: Sequence[Dataset] = (),
    modalities: Sequence[str] = PROCESSED,
) -> Found:
    """Find and check the input of all selected sessions."""
    sites, problems = _sites(dataset)
    sessions = []
    for subject, session in selection.sessions:
        inputs, wrong = _session(
            dataset, subject, session, selection, derivatives, modalities, sites
        )
        sessions.append(inputs)
        problems += wrong
    return Found(tuple(sessions), tuple(problems))


def _session(
    dataset: Dataset,
    subject: str,
    session: str | None,
    selection: Selection,
    derivatives: Sequence[Dataset],
    modalities: Sequence[str],
    sites: Mapping[str, str],
) -> tuple[SessionInputs, list[Problem]]:
    files = [f for f in dataset.files(subject, session) if selection.passes(f)]
    label = session_label(subject, session)
    problems: list[Problem] = []
    b1: list[AFIInputs] = []
    vfa: list[VFAInputs] = []
    dwi: list[DWIInputs] = []
    if "t1" in modalities:
        b1, wrong = find_afi(dataset, files, f"B1+ of {label} is left out")
        vfa, more = find_vfa(dataset, files, b1, f"T1 of {label} is left out")
        problems += wrong + more
    if "dwi" in modalities:
        dwi, wrong = find_dwi(dataset, files, f"Diffusion of {label} is left out")
        problems += wrong
    regions, wrong = find_regions(derivatives, subject, session)
    problems += wrong + _left(files, label)
    if derivatives and not regions:
        names = ", ".join(dataset.name for dataset in derivatives)
        problems.append(
            Problem(
                where=label,
                what=f"no regions in --derivatives {names}",
                costs="Nothing is measured there",
                code=ExitCode.DONE,
            )
        )
    inputs = SessionInputs(
        subject=subject,
        session=session,
        site=sites.get(subject, "n/a"),
        b1=tuple(b1),
        vfa=tuple(vfa),
        dwi=tuple(dwi),
        regions=tuple(regions),
        remarks=tuple(str(problem) for problem in problems),
    )
    return inputs, problems


def _left(files: Sequence[BidsFile], label: str) -> list[Problem]:
    """Say which files this version knows and does not use."""
    rules = suffix_rules()
    counts = Counter(
        f.suffix
        for f in files
        if f.suffix in rules and f.is_image and not rules[f.suffix]["modality"]
    )
    return [
        Problem(
            where=label,
            what=f"{n} _{suffix} {'file is' if n == 1 else 'files are'} left "
            f"({rules[suffix]['name']} is not computed by this version)",
            code=ExitCode.DONE,
        )
        for suffix, n in sorted(counts.items())
    ]


def _sites(dataset: Dataset) -> tuple[dict[str, str], list[Problem]]:
    """Read participant -> site from participants.tsv, where there is one."""
    path = dataset.root / "participants.tsv"
    if not path.exists():
        return {}, []
    try:
        table = read_table(path)
    except (ValueError, OSError) as error:
        return {}, [
            Problem(
                where="participants.tsv",
                what=str(error).rstrip("."),
                costs="Sites are not known",
                code=ExitCode.DONE,
            )
        ]
    if not {"participant_id", "site"} <= set(table.columns):
        return {}, []
    known = table.dropna(subset=["participant_id", "site"])
    ids = known["participant_id"].str.removeprefix("sub-")
    return dict(zip(ids, known["site"].astype(str), strict=True)), []
