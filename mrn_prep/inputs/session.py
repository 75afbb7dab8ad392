"""Everything one session offers, found and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.anatomy import find_anatomy
from mrn_prep.inputs.b1 import B1Inputs
from mrn_prep.inputs.b1_images import find_angles, find_b1_maps
from mrn_prep.inputs.b1_pairs import find_afi, find_dam
from mrn_prep.inputs.checks import suffix_rules
from mrn_prep.inputs.dce import find_dce
from mrn_prep.inputs.dwi import DWIInputs, find_dwi
from mrn_prep.inputs.ir import find_ir
from mrn_prep.inputs.megre import find_megre
from mrn_prep.inputs.mese import find_mese
from mrn_prep.inputs.mt import find_mtr, find_mts
from mrn_prep.inputs.rois import RegionFile, find_regions, of_tissue
from mrn_prep.inputs.select import Selection
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.inputs.vfa import VFAInputs, find_vfa
from mrn_prep.io.dataset import BidsFile, Dataset
from mrn_prep.io.tables import read_table
from mrn_prep.options import PROCESSED, Options
from mrn_prep.outputs import is_companion

Kind = TypeVar("Kind", bound=SeriesInputs)

# Modality, finder, and whether its series are corrected by B1+; in the order of processing.
_FINDERS: tuple[tuple[str, Any, bool], ...] = (
    ("t1", find_vfa, True),
    ("t1", find_ir, False),
    ("fatwater", find_megre, False),
    ("t2", find_mese, True),
    ("mt", find_mtr, False),
    ("mt", find_mts, True),
    ("dwi", find_dwi, False),
)
_NAMES = {"t1": "T1", "t2": "T2", "fatwater": "Fat fraction", "mt": "MT", "dwi": "Diffusion"}


@dataclass(frozen=True, kw_only=True)
class SessionInputs:
    """What will be processed of one participant's session.

    Attributes
    ----------
    subject, session
        Labels without prefix; session is None where the data set has none.
    site
        From participants.tsv, or ``n/a``.
    series
        What will be processed, in this order.
    regions
        Where to measure.
    remarks
        What was left out or must be known, one sentence each.
    """

    subject: str
    session: str | None
    site: str
    series: tuple[SeriesInputs, ...]
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

    def of(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """Return the series of one kind."""
        return tuple(series for series in self.series if isinstance(series, kind))


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
    options: Options | None = None,
) -> Found:
    """Find and check the input of all selected sessions."""
    options = options or Options()
    sites, problems = _sites(dataset)
    sessions = []
    for subject, session in selection.sessions:
        inputs, wrong = _session(
            dataset, subject, session, selection, derivatives, modalities, options, sites
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
    options: Options,
    sites: Mapping[str, str],
) -> tuple[SessionInputs, list[Problem]]:
    files = [f for f in dataset.files(subject, session) if selection.passes(f)]
    label = session_label(subject, session)
    series, problems = _series(dataset, files, derivatives, (subject, session), modalities, options)
    regions, wrong = find_regions(derivatives, subject, session)
    problems += wrong + _left(files, label)
    series = [_with_regions(s, regions) if isinstance(s, DWIInputs) else s for s in series]
    problems += _asked_in_vain(series, options)
    if regions and "t2" in modalities:
        images, wrong = find_anatomy(dataset, files, f"T2 signal ratio of {label} is left out")
        series += images
        problems += wrong
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
        series=tuple(series),
        regions=tuple(regions),
        remarks=tuple(str(problem) for problem in problems),
    )
    return inputs, problems


def _with_regions(series: DWIInputs, regions: Sequence[RegionFile]) -> DWIInputs:
    return replace(series, regions=of_tissue(regions, ("nerve", "muscle")))


def _asked_in_vain(series: Sequence[SeriesInputs], options: Options) -> list[Problem]:
    """Say which series cannot have what was asked for, or what they seem made for."""
    return [
        Problem(
            where=one.sources[0].rpartition("/")[2],
            what=what,
            costs="It is left out",
            code=ExitCode.DONE,
        )
        for one in series
        for what in one.left_out(options)
    ]


def _series(
    dataset: Dataset,
    files: Sequence[BidsFile],
    derivatives: Sequence[Dataset],
    who: tuple[str, str | None],
    modalities: Sequence[str],
    options: Options,
) -> tuple[list[SeriesInputs], list[Problem]]:
    """Find all series; B1+ comes first, because others are corrected by it."""
    label = session_label(*who)
    found: list[SeriesInputs] = []
    problems: list[Problem] = []
    if not any(file.suffix.lower() == "dce" for file in files):
        modalities = [name for name in modalities if name != "dce"]
    b1: list[B1Inputs] = []
    corrected = {modality for modality, _, with_b1 in _FINDERS if with_b1} | {"dce"}
    if corrected & set(modalities):
        b1, problems = _find_b1(dataset, files, derivatives, who)
        found += b1
    for modality, finder, with_b1 in _FINDERS:
        if modality in modalities:
            costs = f"{_NAMES[modality]} of {label} is left out"
            arguments = (dataset, files, b1, costs) if with_b1 else (dataset, files, costs)
            how = {}
            if modality == "dwi":
                how = {"combine": options.dwi.combine, "phase": options.dwi.phase}
            more, wrong = finder(*arguments, **how)
            found += more
            problems += wrong
    if "dce" in modalities:
        if "t1" not in modalities:  # concentrations need it
            more, wrong = find_vfa(dataset, files, b1, f"T1 of {label} is left out")
            found += more
            problems += wrong
        dce, wrong = _find_dce(dataset, files, derivatives, who, b1, found)
        found += dce
        problems += wrong
    return found, problems


def _find_dce(
    dataset: Dataset,
    files: Sequence[BidsFile],
    derivatives: Sequence[Dataset],
    who: tuple[str, str | None],
    b1: Sequence[B1Inputs],
    found: Sequence[SeriesInputs],
) -> tuple[Sequence[SeriesInputs], list[Problem]]:
    """Find dynamic series, with the T1 that the session has for them."""
    vfa = [series for series in found if isinstance(series, VFAInputs)]
    places = [(dataset, files), *((other, other.files(*who)) for other in derivatives)]
    maps = [
        (place, file)
        for place, there in places
        for file in there
        if file.suffix == "T1map" and file.is_image
        and not is_companion(file.entities.get("desc", ""))
    ]  # fmt: skip
    costs = f"DCE perfusion of {session_label(*who)} is left out"
    return find_dce(dataset, files, b1, costs, vfa=vfa, maps=maps)


def _find_b1(
    dataset: Dataset,
    files: Sequence[BidsFile],
    derivatives: Sequence[Dataset],
    who: tuple[str, str | None],
) -> tuple[list[B1Inputs], list[Problem]]:
    """Find B1+ by every method, the default one first; then maps made elsewhere."""
    costs = f"B1+ of {session_label(*who)} is left out"
    found: list[B1Inputs] = []
    problems: list[Problem] = []
    for finder in (find_afi, find_dam, find_angles, find_b1_maps):
        more, wrong = finder(dataset, files, costs)
        found += more
        problems += wrong
    if not found:
        for other in derivatives:
            more, wrong = find_b1_maps(other, other.files(*who), costs)
            found += more
            problems += wrong
    return found, problems


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
