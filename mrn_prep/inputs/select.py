"""Which participants, sessions and files a run is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mrn_prep.errors import (
    InputMissingError,
    NotBidsError,
    NothingSelectedError,
    UsageError,
)
from mrn_prep.io.dataset import BidsFile, Dataset, read_json
from mrn_prep.options import RunOptions

# A filter file speaks of kinds of files; this is how ours are called.
FILTER_KEYS: Mapping[str, tuple[str, ...]] = {
    "vfa": ("VFA",),
    "ir": ("IRT1",),
    "b1": ("TB1AFI", "TB1DAM", "TB1TFL", "TB1RFM", "TB1map"),
    "mese": ("MESE",),
    "t2w": ("T2w",),
    "megre": ("MEGRE",),
    "mt": ("MTR", "MTS", "MPM"),
    "dwi": ("dwi",),
    "dce": ("dce", "DCE"),
}

Filter = Mapping[str, object]


@dataclass(frozen=True)
class Selection:
    """The sessions to process, and the filters that their files must pass."""

    sessions: tuple[tuple[str, str | None], ...]
    filters: Mapping[str, Filter] = field(default_factory=dict)
    ignored_keys: tuple[str, ...] = ()

    def passes(self, file: BidsFile) -> bool:
        """Whether a file passes the filter for its kind."""
        for kind, wanted in self.filters.items():
            if file.suffix in FILTER_KEYS[kind]:
                return all(_fits(file.entities.get(_LONG.get(k, k)), v) for k, v in wanted.items())
        return True


_LONG = {"acq": "acquisition", "ce": "ceagent", "rec": "reconstruction", "dir": "direction"}


def open_dataset(path: str | Path, *, validate: bool = True) -> Dataset:
    """Open a raw data set.

    Raises
    ------
    InputMissingError
        If the folder is not there.
    NotBidsError
        If it has no readable dataset_description.json with Name and BIDSVersion.
    """
    root = Path(path)
    if not root.is_dir():
        raise InputMissingError(f"{path}: there is no such folder; wanted a BIDS data set.")
    dataset = Dataset(root.resolve())
    if validate:
        name = "dataset_description.json"
        try:
            description = dataset.description
        except OSError as error:
            raise NotBidsError(
                f"{root / name}: is not there; wanted a BIDS data set "
                "(--skip-bids-validation to go on without)."
            ) from error
        except ValueError as error:
            raise NotBidsError(f"{root / name}: {error}; wanted a JSON object.") from error
        missing = [key for key in ("Name", "BIDSVersion") if key not in description]
        if missing:
            raise NotBidsError(f"{root / name}: {' and '.join(missing)} missing.")
    return dataset


def open_derivatives(named: Mapping[str, str]) -> list[Dataset]:
    """Open the derivative data sets that the user named.

    Raises
    ------
    InputMissingError
        If one of the folders is not there.
    """
    for name, path in named.items():
        if not Path(path).is_dir():
            raise InputMissingError(f"--derivatives {name}={path}: there is no such folder.")
    return [Dataset(Path(path).resolve(), name) for name, path in named.items()]


def select(dataset: Dataset, run: RunOptions) -> Selection:
    """Return the sessions that the options ask for.

    Raises
    ------
    NothingSelectedError
        If a label is not there, or nothing is left.
    UsageError
        If the filter file cannot be read.
    """
    filters, session_filter, ignored = _read_filters(run.bids_filter_file)
    wanted = labels(run.participant_label, "sub-")
    subjects = _known(wanted, dataset.subjects, "participant", "sub-")
    sessions = [(sub, ses) for sub in subjects for ses in dataset.sessions(sub)]
    asked = labels(run.session_label, "ses-")
    present = sorted({ses for _, ses in sessions if ses is not None})
    if asked:
        chosen = set(_known(asked, present, "session", "ses-"))
        sessions = [(sub, ses) for sub, ses in sessions if ses in chosen]
    if session_filter is not None:
        sessions = [(sub, ses) for sub, ses in sessions if _fits(ses, session_filter)]
    if not sessions:
        raise NothingSelectedError(
            f"{dataset.root}: the filters leave no participant and session to process."
        )
    return Selection(tuple(sessions), filters, tuple(ignored))


def labels(given: Sequence[str], prefix: str) -> list[str]:
    """Return labels without prefix; a file of labels counts as the labels in it.

    >>> labels(["sub-01", "02"], "sub-")
    ['01', '02']
    """
    found: list[str] = []
    for item in given:
        found += _labels_in(Path(item)) if Path(item).is_file() else [item]
    return list(dict.fromkeys(item.removeprefix(prefix) for item in found))


def _labels_in(path: Path) -> list[str]:
    """Return the labels in a file: the first column where it is a table, else all words."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is no list of labels in UTF-8 text ({error}).") from error
    headings = {"participant_id", "session_id"}
    if any(line.split("\t")[0].strip() in headings for line in lines[:1]):
        return [line.split("\t")[0].strip() for line in lines[1:] if line.strip()]
    return [word for line in lines for word in line.split()]


def _known(wanted: Sequence[str], present: Sequence[str], what: str, prefix: str) -> list[str]:
    missing = [label for label in wanted if label not in present]
    if missing or not present:
        there = ", ".join(prefix + label for label in present[:10]) or "none"
        more = f" and {len(present) - 10} more" if len(present) > 10 else ""
        named = ", ".join(prefix + label for label in missing) or f"any {what}"
        raise NothingSelectedError(f"There is no {what} {named}; there are: {there}{more}.")
    return list(wanted) or list(present)


def _read_filters(path: str) -> tuple[dict[str, Filter], object | None, list[str]]:
    """Return our filters, the session that any key selects, and the keys not ours."""
    if not path:
        return {}, None, []
    try:
        content = read_json(Path(path))
    except OSError as error:
        raise UsageError(f"--bids-filter-file {path}: cannot be read ({error.strerror}).") from (
            error
        )
    except ValueError as error:
        raise UsageError(f"--bids-filter-file {path}: {error}; wanted a JSON object.") from error
    filters: dict[str, Filter] = {}
    sessions: list[object] = []
    ignored = []
    for kind, wanted in content.items():
        if not isinstance(wanted, dict):
            raise UsageError(f"--bids-filter-file {path}: {kind} must be an object of entities.")
        # A session in any key selects the session, known key or not.
        session = wanted.get("session")
        sessions += session if isinstance(session, list) else [] if session is None else [session]
        wanted = {name: value for name, value in wanted.items() if name != "session"}
        if kind in FILTER_KEYS:
            filters[kind] = wanted
        else:
            ignored.append(kind)
    return filters, sessions or None, ignored


def _fits(value: str | None, wanted: object) -> bool:
    """Whether an entity fits a filter value: a text, a number, a list of them, or null for none."""
    if isinstance(wanted, list):
        return any(_fits(value, item) for item in wanted)
    if wanted == "Query.ANY":  # as pybids' own filters are written in such a file
        return value is not None
    if wanted in (None, "Query.NONE") or value is None:
        return value is None and wanted in (None, "Query.NONE", "Query.OPTIONAL")
    if wanted == "Query.OPTIONAL":
        return True
    text = str(wanted)
    if value.isdigit() and text.isdigit():
        return int(value) == int(text)
    return text in (value, f"ses-{value}", f"sub-{value}")
