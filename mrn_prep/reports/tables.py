"""The page's tables: regions and quality, from the session's TSV files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mrn_prep.io.tables import read_table
from mrn_prep.outputs import METRICS
from mrn_prep.reports.html import kind_of, missing, number, split_flags, text, whole
from mrn_prep.reports.html import unit as printed_unit
from mrn_prep.reports.regions import tissue_order

_METRIC_ORDER = {metric: i for i, metric in enumerate(METRICS.values())}
_NEEDED = {"region", "metric", "median"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value with what surrounds it."""

    median: str
    spread: str
    relative_to: str
    title: str
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One region in one series."""

    region: str
    side: str
    level: str
    tissue: str
    counts: str
    counts_title: str
    cells: tuple[Cell | None, ...]
    flags: tuple[tuple[str, str], ...]
    """Flag, and the metrics it concerns where it does not concern all."""


@dataclass(frozen=True, kw_only=True)
class RegionTable:
    """The regions of one series."""

    title: str
    sequence_class: str
    metrics: tuple[tuple[str, str], ...]
    """Metric and unit of each column."""
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class GlanceRow:
    """One metric of one series, in all nerves."""

    metric: str
    unit: str
    series: str
    """What tells the series from others that measured the same."""
    cells: tuple[Cell | None, ...]
    flags: tuple[tuple[str, str], ...]
    """Flag, and the nerves it concerns where it does not concern all."""


@dataclass(frozen=True, kw_only=True)
class Glance:
    """Everything that was measured in the nerves: metrics down, nerves across."""

    nerves: tuple[tuple[str, str], ...]
    """Name with side, and level."""
    rows: tuple[GlanceRow, ...]


@dataclass(frozen=True, kw_only=True)
class Tables:
    """What a page shows of a session's tables."""

    glance: Glance | None = None
    regions: tuple[RegionTable, ...] = ()
    quality: tuple[Mapping[str, Any], ...] = ()
    site: str = ""
    flags: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    links: tuple[tuple[str, Path], ...] = ()


def read_tables(roi_tsv: Path, quality_tsv: Path) -> Tables:
    """Read both tables; one that is missing or broken is told and left out."""
    problems: list[str] = []
    roi, roi_fault = _read(roi_tsv, _NEEDED)
    quality, quality_fault = _read(quality_tsv, {"metric", "value"})
    problems = [fault for fault in (roi_fault, quality_fault) if fault]
    sites = {
        text(site)
        for table in (roi, quality)
        if "site" in table
        for site in table["site"].unique()
        if text(site)
    }
    flags = {flag for cell in roi.get("flags", ()) for flag in split_flags(cell)}
    return Tables(
        glance=nerves_at_a_glance(roi),
        regions=region_tables(roi),
        quality=tuple(_quality_row(row) for row in quality.to_dict("records")),
        site=", ".join(sorted(sites)),
        flags=tuple(sorted(flags)),
        problems=tuple(problems),
        links=tuple(
            (label, path)
            for label, path in (("ROI measurements", roi_tsv), ("Quality", quality_tsv))
            if path.exists()
        ),
    )


def _quality_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {**{str(k): v for k, v in row.items()}, "value": whole(row["value"], row.get("unit"))}


def _read(path: Path, needed: set[str]) -> tuple[pd.DataFrame, str]:
    if not path.exists():
        return pd.DataFrame(), ""
    try:
        table = read_table(path)
    except (OSError, ValueError) as error:
        return pd.DataFrame(), f"{path.name}: cannot be read ({error})"
    if not needed <= set(table.columns):
        return (
            pd.DataFrame(),
            f"{path.name}: has no column {', '.join(sorted(needed - set(table)))}",
        )
    return table, ""


def region_tables(table: pd.DataFrame) -> tuple[RegionTable, ...]:
    """Return one table per series: regions down, metrics across, nerves first.

    A metric that a series gave by several methods goes on in a further table.
    """
    if table.empty:
        return ()
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    grouped: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    seen: Counter[tuple[str, ...]] = Counter()
    for row in rows:
        series = text(row.get("sequence_class")), text(row.get("run"))
        cell = (*series, *_place(row), text(row.get("tissue")), str(row["metric"]))
        grouped.setdefault((*series, seen[cell]), []).append(row)
        seen[cell] += 1
    made = [_region_table(*key[:2], members) for key, members in grouped.items()]
    return tuple(sorted(made, key=lambda t: (_rank(t.metrics[0][0]), t.title, t.sequence_class)))


def nerves_at_a_glance(table: pd.DataFrame) -> Glance | None:
    """Return what was measured in the nerves, all series one below the other."""
    if table.empty or "tissue" not in table:
        return None
    rows = [
        {str(k): v for k, v in row.items()}
        for row in table[table["tissue"] == "nerve"].to_dict("records")
        if text(row.get("unit")) != "arbitrary"
    ]
    if not rows:
        return None
    series: dict[str, set[tuple[str, ...]]] = {}
    found: dict[tuple[str, ...], dict[tuple[str, ...], Mapping[str, Any]]] = {}
    for row in rows:
        series.setdefault(str(row["metric"]), set()).add(_series(row))
        line = (str(row["metric"]), text(row.get("unit")), *_series(row))
        found.setdefault(line, {})[_place(row)] = row
    nerves = sorted({_place(row) for row in rows})
    return Glance(
        nerves=tuple((" ".join(filter(None, (name, side))), level) for name, side, level in nerves),
        rows=tuple(
            _glance_row(line[:2], _series_name(line[2:], series[line[0]]), found[line], nerves)
            for line in sorted(found, key=lambda line: (_rank(line[0]), *line[1:]))
        ),
    )


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(text(row.get(k)) for k in ("region", "side", "level"))


def _glance_row(
    line: Sequence[str],
    series: str,
    values: Mapping[tuple[str, ...], Mapping[str, Any]],
    nerves: Sequence[tuple[str, ...]],
) -> GlanceRow:
    names = {place: " ".join(filter(None, place)) for place in nerves}
    return GlanceRow(
        metric=line[0], unit=line[1], series=series,
        cells=tuple(_cell(values[p], line[1]) if p in values else None for p in nerves),
        flags=_flags({names[p]: values[p] for p in nerves if p in values}),
    )  # fmt: skip


def _flags(rows: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Return each flag, with the names of the rows that it concerns where not all do."""
    concerned: dict[str, list[str]] = {}
    for name, row in rows.items():
        for flag in split_flags(row.get("flags")):
            concerned.setdefault(flag, []).append(name)
    return tuple(
        (flag, "" if len(names) == len(rows) else ", ".join(names))
        for flag, names in concerned.items()
    )


def _series(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return text(row.get("run")), text(row.get("sequence_class")), text(row.get("method"))


def _series_name(one: tuple[str, ...], among: set[tuple[str, ...]]) -> str:
    """Return what tells a series from others that measured the same; nothing where none did."""
    runs, classes = ({item[i] for item in among} for i in (0, 1))
    kinds = {kind_of(sequence_class) for sequence_class in classes}
    words = [one[0]] if len(runs) > 1 else []
    if len(classes) > 1:
        words.append(kind_of(one[1]) if len(kinds) == len(classes) else one[1])
    if len({item[2] for item in among if item[:2] == one[:2]}) > 1:
        words.append(one[2])
    return " ".join(filter(None, words))


def _rank(metric: str) -> tuple[int, str]:
    return _METRIC_ORDER.get(metric, len(_METRIC_ORDER)), metric


def _region_table(sequence_class: str, run: str, rows: Sequence[Mapping[str, Any]]) -> RegionTable:
    # gains come last: nothing is compared by them
    metrics = sorted(
        {(str(r["metric"]), text(r.get("unit"))) for r in rows},
        key=lambda m: (m[1] == "arbitrary", _rank(m[0])),
    )
    places: dict[tuple[str, ...], dict[tuple[str, str], Mapping[str, Any]]] = {}
    for row in rows:
        place = (*_place(row), text(row.get("tissue")))
        places.setdefault(place, {})[str(row["metric"]), text(row.get("unit"))] = row
    ordered = sorted(places, key=lambda p: (tissue_order(p[3]), p))
    title = ", ".join(metric for metric, _ in metrics) + (f" · {run}" if run else "")
    return RegionTable(
        title=title,
        sequence_class=sequence_class,
        metrics=tuple(metrics),
        rows=tuple(_row(place, places[place], metrics) for place in ordered),
    )


def _row(
    place: tuple[str, ...],
    values: Mapping[tuple[str, str], Mapping[str, Any]],
    metrics: Sequence[tuple[str, str]],
) -> Row:
    region, side, level, tissue = place
    first = next(iter(values.values()))
    counts = [_count(first.get(k)) for k in ("n_vox", "n_vox_pure", "n_fitted")]
    return Row(
        region=region, side=side, level=level, tissue=tissue,
        counts=f"{counts[0]} / {counts[1]}",
        counts_title=f"{counts[0]} voxels, {counts[1]} wholly inside, {counts[2]} fitted "
        f"({first['metric']})",
        cells=tuple(_cell(values[m], m[1]) if m in values else None for m in metrics),
        flags=_flags({metric[0]: values[metric] for metric in metrics if metric in values}),
    )  # fmt: skip


def _count(value: object) -> str:
    return "n/a" if missing(value) else f"{float(str(value)):.0f}"


def _float(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return float("nan")


def _cell(row: Mapping[str, Any], unit: str) -> Cell:
    median, mean, se, sd, low, high = (
        _float(row.get(k)) for k in ("median", "mean", "se", "sd", "p05", "p95")
    )
    known = median == median
    flags = split_flags(row.get("flags"))
    reference = text(row.get("reference")) if not missing(row.get("reference_n")) else ""
    title = (
        "mean ± standard error "
        f" {number(mean, median)} ± {number(se, se)} {printed_unit(unit)}"
        f"; SD {number(sd, median)}; n fitted {_count(row.get('n_fitted'))}"
    )
    if reference:
        title += (
            f"; relative to {reference}: {_count(row.get('reference_n'))} voxels, mean "
            f"{number(_float(row.get('reference_mean')))}, "
            f"SD {number(_float(row.get('reference_sd')))}"
        )
    return Cell(
        median=number(median),
        spread=f"{number(low, median)}–{number(high, median)}" if known else "",
        relative_to=reference if known else "",
        title=title + (f"; flags: {', '.join(flags)}" if flags else ""),
        flags=flags,
    )
