"""Which files a data set has, and what their sidecars say.

Names are read with pybids' entity patterns; folders are listed and sidecars
merged here, because a cohort of 12,000 files must be answered within seconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from mrn_prep.io.names import parse

DATATYPES = frozenset({"anat", "fmap", "dwi", "perf", "dce"})
_NOT_INHERITED = frozenset({"extension", "datatype"})


@dataclass(frozen=True)
class BidsFile:
    """A file of a data set: where it is and what its name says."""

    root: Path
    path: str
    entities: Mapping[str, str]

    @property
    def full(self) -> Path:
        """Absolute path."""
        return self.root / self.path

    @property
    def name(self) -> str:
        """Name without folders."""
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        """BIDS suffix, empty where the name has none."""
        return self.entities.get("suffix", "")

    @property
    def is_image(self) -> bool:
        """Whether it is a NIfTI file by its name."""
        return self.entities.get("extension") in {".nii", ".nii.gz"}

    def sibling(self, extension: str) -> str:
        """Return the relative path with another extension."""
        return self.path.removesuffix(self.entities["extension"]) + extension


@dataclass(frozen=True)
class Metadata:
    """The merged sidecars of one file.

    Attributes
    ----------
    values
        Key to value, deeper sidecars over those above them.
    sidecar
        Name of the sidecar where the user would look first: the deepest that applies.
    origin
        Key to the name of the sidecar it came from.
    faults
        Sidecars that could not be used: path, what is wrong, and whether it is missing
        (a link to nowhere) rather than wrong.
    """

    values: Mapping[str, object]
    sidecar: str
    origin: Mapping[str, str]
    faults: tuple[tuple[str, str, bool], ...] = ()


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object.

    Raises
    ------
    ValueError
        If the file is not UTF-8, not JSON or not an object; the message says which.
    """
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON (line {error.lineno}: {error.msg})") from error
    if not isinstance(content, dict):
        raise ValueError("holds no JSON object")
    return content


@dataclass(frozen=True)
class Dataset:
    """A BIDS data set, raw or derived; folders are listed when they are asked for."""

    root: Path
    name: str = "raw"
    _listings: dict[str, tuple[BidsFile, ...]] = field(default_factory=dict, repr=False)
    _contents: dict[str, dict[str, object] | tuple[str, bool]] = field(
        default_factory=dict, repr=False
    )

    @cached_property
    def description(self) -> dict[str, object]:
        """The content of dataset_description.json (ValueError or OSError if it has none)."""
        return read_json(self.root / "dataset_description.json")

    @cached_property
    def subjects(self) -> tuple[str, ...]:
        """Labels of the participants that have a folder."""
        return self._labels("", "sub-")

    def sessions(self, subject: str) -> tuple[str | None, ...]:
        """Labels of a participant's sessions; ``(None,)`` where there are none."""
        return self._labels(f"sub-{subject}", "ses-") or (None,)

    def files(self, subject: str, session: str | None) -> tuple[BidsFile, ...]:
        """Return the files of one session, in the order of their names."""
        folder = f"sub-{subject}" + (f"/ses-{session}" if session else "")
        found: list[BidsFile] = []
        for datatype in sorted(DATATYPES):
            found += self._list(f"{folder}/{datatype}")
        return tuple(file for file in found if file.entities.get("extension") != ".json")

    def uri(self, file: BidsFile) -> str:
        """Return the file's BIDS URI."""
        return f"bids:{self.name}:{file.path}"

    def metadata(self, file: BidsFile) -> Metadata:
        """Merge the sidecars that apply to a file (BIDS inheritance)."""
        values: dict[str, object] = {}
        origin: dict[str, str] = {}
        faults: list[tuple[str, str, bool]] = []
        sidecar = PurePosixPath(file.sibling(".json")).name
        for candidate in self.applicable(file, ".json"):
            content = self._read(candidate)
            if isinstance(content, tuple):
                faults.append((candidate.path, *content))
                continue
            values.update(content)
            origin.update(dict.fromkeys(content, candidate.name))
            sidecar = candidate.name
        return Metadata(values=values, sidecar=sidecar, origin=origin, faults=tuple(faults))

    def applicable(self, file: BidsFile, extension: str) -> list[BidsFile]:
        """Return the companion files that apply to `file`, from the top folder down."""
        folder = PurePosixPath(file.path).parent
        folders = ["", *(str(p) for p in reversed([folder, *folder.parents]) if str(p) != ".")]
        found: list[BidsFile] = []
        for place in folders:
            fits = [
                other
                for other in self._list(place)
                if other.entities.get("extension") == extension and _applies(other, file)
            ]
            found += sorted(fits, key=lambda other: len(other.entities))
        return found

    def _labels(self, folder: str, prefix: str) -> tuple[str, ...]:
        try:
            with os.scandir(self.root / folder) as entries:
                names = [e.name for e in entries if e.name.startswith(prefix) and e.is_dir()]
        except OSError:
            return ()
        return tuple(sorted(name.removeprefix(prefix) for name in names))

    def _list(self, folder: str) -> tuple[BidsFile, ...]:
        if folder not in self._listings:
            try:
                with os.scandir(self.root / folder) as entries:
                    names = sorted(entry.name for entry in entries)
            except OSError:
                names = []
            base = f"{folder}/" if folder else ""
            self._listings[folder] = tuple(
                BidsFile(self.root, base + name, parse(base + name))
                for name in names
                if "." in name and not name.startswith(".")
            )
        return self._listings[folder]

    def _read(self, sidecar: BidsFile) -> dict[str, object] | tuple[str, bool]:
        if sidecar.path not in self._contents:
            try:
                self._contents[sidecar.path] = read_json(sidecar.full)
            except ValueError as error:
                self._contents[sidecar.path] = str(error), False
            except FileNotFoundError:
                self._contents[sidecar.path] = "is a link to a file that is not there", True
            except OSError as error:
                self._contents[sidecar.path] = f"cannot be read ({error.strerror})", False
        return self._contents[sidecar.path]


def _applies(companion: BidsFile, file: BidsFile) -> bool:
    """Whether all that the companion's name says is also said by the file's."""
    return "suffix" in companion.entities and all(
        file.entities.get(name) == value
        for name, value in companion.entities.items()
        if name not in _NOT_INHERITED
    )


def group_by(
    files: Iterable[BidsFile], ignore: frozenset[str]
) -> dict[tuple[tuple[str, str], ...], list[BidsFile]]:
    """Group files whose names agree but for the entities in `ignore`."""
    groups: dict[tuple[tuple[str, str], ...], list[BidsFile]] = {}
    for file in files:
        key = tuple((k, v) for k, v in file.entities.items() if k not in ignore)
        groups.setdefault(key, []).append(file)
    return groups
