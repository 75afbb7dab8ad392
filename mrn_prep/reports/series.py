"""Maps put together by the series that they were made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mrn_prep.io import names
from mrn_prep.io.dataset import DATATYPES
from mrn_prep.outputs import OUTPUTS, MapSpec, find_map, method_of
from mrn_prep.reports.html import kind_of, modality_name

_NOT_SERIES = frozenset(
    {"subject", "session", "datatype", "suffix", "extension", "model", "param", "desc"}
)
_SHORT = {"acquisition": "acq", "ceagent": "ce", "reconstruction": "rec", "direction": "dir"}
_MODALITY_ORDER = ("b1", "t1", "t2", "fatwater", "mt", "dwi", "dce")
_MAP_ORDER = {key: i for i, key in enumerate(OUTPUTS)}


@dataclass(frozen=True, kw_only=True)
class MapFile:
    """A map, its sidecar and its companions."""

    spec: MapSpec
    path: Path
    entities: Mapping[str, str]
    sidecar: Mapping[str, Any]
    se: Path | None
    status: Path | None

    @property
    def method(self) -> str:
        """The ``desc`` of a map that is not by the quantity's default method, or empty."""
        return method_of(self.entities, self.spec)

    @property
    def run(self) -> str:
        """Entities that tell its series from others of its kind, such as ``acq-fast run-1``."""
        return " ".join(
            f"{_SHORT.get(name, name)}-{value}"
            for name, value in self.entities.items()
            if name not in _NOT_SERIES
        )

    @property
    def flags(self) -> tuple[str, ...]:
        """Validity flags of the sidecar."""
        return tuple(map(str, listed(self.sidecar.get("ValidityFlags"))))

    @property
    def together(self) -> tuple[str, ...]:
        """Names of all maps of its series, as the sidecar tells them."""
        return tuple(map(str, listed(self.sidecar.get("SeriesMaps"))))


@dataclass(frozen=True, kw_only=True)
class MissingMap:
    """A map that the others of its series name and that is not there."""

    name: str
    title: str
    description: str


@dataclass(frozen=True, kw_only=True)
class Series:
    """The maps that one series gave."""

    modality: str
    title: str
    """The modality, and what kind of series it is where that tells it from others."""
    anchor: str
    """Name that links can point to."""
    maps: tuple[MapFile, ...]
    """Those of its own modality first."""
    missing: tuple[MissingMap, ...] = ()

    @property
    def run(self) -> str:
        """Entities that tell it from others of its kind."""
        return self.maps[0].run

    @property
    def name(self) -> str:
        """Title and entities."""
        return f"{self.title} {self.run}".strip()

    @property
    def kind(self) -> str:
        """How it was measured, in words."""
        return next((kind_of(c) for c in self.sidecar_values("SequenceClass")), "")

    @property
    def pictures_only(self) -> bool:
        """Whether nothing in it is measured by a fit."""
        return not any(map_.spec.companions for map_ in self.maps)

    @property
    def flags(self) -> tuple[str, ...]:
        """Flags of any of its maps, in order of appearance."""
        return tuple(dict.fromkeys(flag for map_ in self.maps for flag in map_.flags))

    def sidecar_values(self, key: str) -> list[Any]:
        """Return the different values of one sidecar key over the series' maps."""
        found: list[Any] = []
        for map_ in self.maps:
            for value in listed(map_.sidecar.get(key)):
                if value not in found:
                    found.append(value)
        return found

    def title_of(self, spec: MapSpec, method: str) -> str:
        """Return the title of one of its maps; the method only where it has several of a kind."""
        several = len([map_ for map_ in self.maps if map_.spec is spec]) > 1
        return f"{spec.title} ({method})" if several and method else spec.title


def listed(value: object) -> list[Any]:
    """Return what a sidecar has under a key as a list; one value is a list of one."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def by_series(maps: Sequence[MapFile]) -> tuple[Series, ...]:
    """Put the maps of a session together by their series, in the order of the page.

    Sidecars name the maps of their series (``SeriesMaps``). One that does not, because it is
    broken or old, goes where others name it, else by its own modality and entities.
    """
    homes: dict[str, tuple[str, str]] = {}
    for map_ in maps:
        modality = str(map_.sidecar.get("Modality", map_.spec.modality))
        for name in map_.together:
            homes.setdefault(name, (modality, map_.together[0]))
    grouped: dict[tuple[str, str], list[MapFile]] = {}
    for map_ in maps:
        home = homes.get(map_.path.name) or (map_.spec.modality, map_.run)
        grouped.setdefault(home, []).append(map_)
    made = [_series(modality, members) for (modality, _), members in grouped.items()]
    return _named(sorted(made, key=_order))


def _series(modality: str, maps: Sequence[MapFile]) -> Series:
    def order(map_: MapFile) -> tuple[bool, bool, int, str]:
        spec = map_.spec
        gain = spec.units == "arbitrary"  # less to look at than what has a unit
        return spec.modality != modality, gain, _MAP_ORDER[spec.key], map_.method

    placed = tuple(sorted(maps, key=order))
    first = placed[0]
    words = [modality, *first.run.replace("-", "").split(), *filter(None, [first.method])]
    return Series(
        modality=modality, title=modality_name(modality), anchor="-".join(["series", *words]),
        maps=placed, missing=tuple(_missing(placed)),
    )  # fmt: skip


def _missing(maps: Sequence[MapFile]) -> Iterable[MissingMap]:
    for name in dict.fromkeys(name for map_ in maps for name in map_.together):
        folder = maps[0].path.parent.parent
        if any((folder / datatype / name).exists() for datatype in DATATYPES):
            continue
        parsed = [names.parse(f"{datatype}/{name}") for datatype in sorted(DATATYPES)]
        spec = next(filter(None, map(find_map, parsed)), None)
        yield MissingMap(
            name=name,
            title=spec.title if spec else name,
            description=spec.description if spec else "",
        )


def _named(series: Sequence[Series]) -> tuple[Series, ...]:
    """Return the series with titles and anchors that tell them apart."""
    kinds: dict[str, set[str]] = {}
    for one in series:
        kinds.setdefault(one.modality, set()).add(one.kind)
    named, taken = [], set()
    for one in series:
        title, anchor, number = one.title, one.anchor, 1
        if one.kind and (len(kinds[one.modality]) > 1 or one.pictures_only):
            title += f" · {one.kind}"
        while anchor in taken:
            number += 1
            anchor = f"{one.anchor}-{number}"
        taken.add(anchor)
        named.append(replace(one, title=title, anchor=anchor))
    return tuple(named)


def _order(series: Series) -> tuple[object, ...]:
    known = series.modality in _MODALITY_ORDER
    rank = _MODALITY_ORDER.index(series.modality) if known else len(_MODALITY_ORDER)
    first = series.maps[0]
    return rank, series.modality, series.pictures_only, series.run, first.method, first.path.name
