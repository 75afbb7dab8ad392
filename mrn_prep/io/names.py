"""BIDS names, read and made by pybids' own entity patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from bids.layout import Config
from bids.layout.writing import build_path

from mrn_prep import bids_templates

Entities = Mapping[str, str]

# Entities that only tell the parts of one series apart; its maps do not carry them.
PARTS = frozenset({"echo", "flip", "inv", "mt", "part"})


@cache
def _config() -> Config:
    return Config.load(str(Path(bids_templates.__file__).with_name("entities.json")))


@cache
def _patterns() -> tuple[tuple[str, object], ...]:
    return tuple((name, entity.regex) for name, entity in _config().entities.items())


def parse(path: str) -> dict[str, str]:
    """Return the entities in a file's path, all as text.

    >>> parse("sub-01/anat/sub-01_flip-02_VFA.nii.gz")["flip"]
    '02'
    >>> parse("sub-01/anat/sub-01_T1map.nii.gz")["extension"]
    '.nii.gz'
    """
    path = "/" + path
    found = {}
    for name, regex in _patterns():
        match = regex.search(path)  # type: ignore[attr-defined]
        if match:
            found[name] = match.group(1)
    return found


def build(entities: Entities) -> str:
    """Return the path of a file, relative to its data set.

    Raises
    ------
    ValueError
        If an entity is not known to the patterns, or a needed one is missing.

    >>> build({"subject": "01", "datatype": "anat", "suffix": "T1map", "extension": ".nii.gz"})
    'sub-01/anat/sub-01_T1map.nii.gz'
    """
    unknown = set(entities) - set(_config().entities)
    path = build_path(dict(entities), _config().default_path_patterns)
    if unknown or path is None:
        raise ValueError(f"No BIDS name can be made of {dict(entities)}.")
    return str(path)


def series_entities(entities: Entities, *, drop: frozenset[str] = PARTS) -> dict[str, str]:
    """Return the entities that a whole series shares (its parts' own ones dropped).

    >>> series_entities({"subject": "01", "flip": "2", "acquisition": "fast"})
    {'subject': '01', 'acquisition': 'fast'}
    """
    return {name: value for name, value in entities.items() if name not in drop}


def together(names: Iterable[str], prefix: str = "") -> list[str]:
    """Put the names of the parts of a series together, and leave out what all begin with.

    >>> together(["sub-1_param-fa_dwimap.nii.gz", "sub-1_param-md_dwimap.nii.gz"], "sub-1_")
    ['*_param-{fa,md}_dwimap.nii.gz']
    >>> together([f"sub-1_echo-{i}_MESE.nii.gz" for i in range(1, 18)])
    ['sub-1_echo-{1..17}_MESE.nii.gz']
    """
    parts: dict[tuple[str, str], list[str]] = {}
    for name in names:
        own = "*_" + name.removeprefix(prefix) if prefix and name.startswith(prefix) else name
        match = re.fullmatch(r"(.*_(?:param|echo|flip|inv)-)(\w+?)(_.*)", own)
        key, value = ((match[1], match[3]), match[2]) if match else ((own, ""), "")
        parts.setdefault(key, []).append(value)
    return [start + _braced(values) + rest for (start, rest), values in parts.items()]


def _braced(values: Sequence[str]) -> str:
    if len(values) == 1:
        return values[0]
    numbers = [int(value) for value in values if value.isdigit()]
    first = numbers[0] if len(numbers) == len(values) else 0
    if len(values) > 2 and numbers == list(range(first, first + len(values))):
        return f"{{{values[0]}..{values[-1]}}}"
    return "{" + ",".join(values) + "}"
