"""Regions to measure in: label images and masks of derivative data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from mrn_prep.errors import Problem
from mrn_prep.inputs.checks import Checker
from mrn_prep.io.dataset import BidsFile, Dataset
from mrn_prep.io.tables import read_table

_VESSELS = ("artery", "vein")


@dataclass(frozen=True, kw_only=True)
class Region:
    """One region of a label image, as its table describes it."""

    index: int
    name: str
    tissue: str = "n/a"
    side: str = "n/a"
    level: str = "n/a"
    reference: str = "n/a"


@dataclass(frozen=True, kw_only=True)
class RegionFile:
    """An image that says where regions are.

    Attributes
    ----------
    file
        Absolute path.
    kind
        ``dseg`` (whole-number labels), ``mask`` or ``probseg`` (0 to 1, one region).
    regions
        The regions in it.
    source
        BIDS URI.
    """

    file: str
    kind: str
    regions: tuple[Region, ...]
    source: str

    def record(self) -> dict[str, object]:
        """Return plain values, as a node takes them."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, object]) -> RegionFile:
        """Rebuild from `record`."""
        regions = record["regions"]
        assert isinstance(regions, list | tuple)
        return cls(
            file=str(record["file"]),
            kind=str(record["kind"]),
            regions=tuple(Region(**region) for region in regions),
            source=str(record["source"]),
        )


def find_regions(
    derivatives: Sequence[Dataset], subject: str, session: str | None
) -> tuple[list[RegionFile], list[Problem]]:
    """Find the regions of one session; those of the participant without session count too."""
    found: list[RegionFile] = []
    problems: list[Problem] = []
    for dataset in derivatives:
        places = {session, None}
        files = [f for place in sorted(places, key=str) for f in dataset.files(subject, place)]
        for file in files:
            if not file.is_image or file.suffix not in {"dseg", "mask", "probseg"}:
                continue
            if file.suffix in {"mask", "probseg"} and "label" not in file.entities:
                continue  # a processing mask or a set of tissue classes, no named region
            checker = Checker(dataset, "Its regions are not measured")
            regions = _regions(checker, file)
            checker.grid(file)
            problems += checker.problems
            if checker.ok:
                found.append(
                    RegionFile(
                        file=str(file.full),
                        kind=file.suffix,
                        regions=regions,
                        source=dataset.uri(file),
                    )
                )
    return found, problems


def of_tissue(files: Sequence[RegionFile], tissues: Sequence[str]) -> tuple[RegionFile, ...]:
    """Return the region files with their regions of some tissues alone."""
    kept = [
        replace(file, regions=tuple(r for r in file.regions if r.tissue in tissues))
        for file in files
    ]
    return tuple(file for file in kept if file.regions)


def _regions(checker: Checker, file: BidsFile) -> tuple[Region, ...]:
    if file.suffix != "dseg":
        label = file.entities["label"]
        tissue = label if label in _VESSELS else "n/a"
        return (Region(index=1, name=label, tissue=tissue),)
    tables = checker.dataset.applicable(file, ".tsv")
    if not tables:
        checker.fault(file.path, "has no label table", "wanted a .tsv with index and name")
        return ()
    try:
        table = read_table(tables[-1].full)
        missing = {"index", "name"} - set(table.columns)
        if missing:
            raise ValueError(f"has no column {' and '.join(sorted(missing))}")
        rows = table.astype(object).where(table.notna(), "n/a").to_dict("records")
        return tuple(
            Region(
                index=_index(row["index"]),
                **{
                    key: str(row[key])
                    for key in ("name", "tissue", "side", "level", "reference")
                    if key in row
                },
            )
            for row in rows
            if _index(row["index"]) != 0
        )
    except (ValueError, OSError) as error:
        checker.fault(tables[-1].path, str(error), "wanted the columns index, name, tissue, side")
        return ()


def _index(value: object) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ValueError(f"has the index {value!r}, which is no whole number") from None
