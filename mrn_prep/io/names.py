"""BIDS names, read and made by pybids' own entity patterns."""

from __future__ import annotations

from collections.abc import Mapping
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
