"""The page's tables: regions and quality, from the session's TSV files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mrn_prep.io.tables import read_table
from mrn_prep.outputs import METRICS
from mrn_prep.reports.html import missing, number, split_flags, text, whole
from mrn_prep.reports.html import unit as printed_unit
from mrn_prep.reports.regions import tissue_order

_METRIC_ORDER = {metric: i for i, metric in enumerate(METRICS.values())}
_NEEDED = {"region", "metric", "median"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value with what surrounds it."""

    median: str
    spread: str
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
class Tables:
    """What a page shows of a session's tables."""

    glance: RegionTable | None = None
    """The nerves, all series in one table."""
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
    """Return one table per series: regions down, metrics across, nerves first."""
    if table.empty:
        return ()
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault((text(row.get("sequence_class")), text(row.get("run"))), []).append(row)
    made = [_region_table(*key, members) for key, members in grouped.items()]
    return tuple(sorted(made, key=lambda t: (_rank(t.metrics[0][0]), t.title, t.sequence_class)))


def nerves_at_a_glance(table: pd.DataFrame) -> RegionTable | None:
    """Return the nerves with everything measured in them, all series side by side."""
    if table.empty or "tissue" not in table:
        return None
    rows = [
        {str(k): v for k, v in row.items()}
        for row in table[table["tissue"] == "nerve"].to_dict("records")
        if text(row.get("unit")) != "arbitrary"
    ]
    runs: dict[str, set[str]] = {}
    for row in rows:
        runs.setdefault(str(row["metric"]), set()).add(_series_name(row))
    for row in rows:
        # a metric that two series measured has two columns
        several = len(runs[str(row["metric"])]) > 1
        row["label"] = f"{row['metric']} {_series_name(row)}" if several else row["metric"]
    return _region_table("", "", [row | {"metric": row["label"]} for row in rows]) if rows else None


def _series_name(row: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (text(row.get("run")), text(row.get("sequence_class")))))


def _rank(metric: str) -> tuple[int, str]:
    return _METRIC_ORDER.get(metric.split(" ")[0], len(_METRIC_ORDER)), metric


def _region_table(sequence_class: str, run: str, rows: Sequence[Mapping[str, Any]]) -> RegionTable:
    metrics = sorted(
        {(str(r["metric"]), text(r.get("unit"))) for r in rows}, key=lambda m: _rank(m[0])
    )
    places: dict[tuple[str, ...], dict[tuple[str, str], Mapping[str, Any]]] = {}
    for row in rows:
        place = tuple(text(row.get(k)) for k in ("region", "side", "level", "tissue"))
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
    concerned: dict[str, list[str]] = {}
    for metric in metrics:
        for flag in split_flags(values.get(metric, {}).get("flags")):
            concerned.setdefault(flag, []).append(metric[0])
    first = next(iter(values.values()))
    counts = [_count(first.get(k)) for k in ("n_vox", "n_vox_pure", "n_fitted")]
    return Row(
        region=region, side=side, level=level, tissue=tissue,
        counts=f"{counts[0]} / {counts[1]}",
        counts_title=f"{counts[0]} voxels, {counts[1]} wholly inside, {counts[2]} fitted "
        f"({first['metric']})",
        cells=tuple(_cell(values[m], m[1]) if m in values else None for m in metrics),
        flags=tuple(
            (flag, "" if len(names) == len(values) else ", ".join(names))
            for flag, names in concerned.items()
        ),
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
    title = (
        "mean ± standard error "
        f" {number(mean, median)} ± {number(se, se)} {printed_unit(unit)}"
        f"; SD {number(sd, median)}; n fitted {_count(row.get('n_fitted'))}"
    )
    return Cell(
        median=number(median),
        spread=f"{number(low, median)}–{number(high, median)}" if known else "",
        title=title + (f"; flags: {', '.join(flags)}" if flags else ""),
        flags=flags,
    )
