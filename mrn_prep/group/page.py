"""The cohort's page: who has what, which values are flagged, how they spread."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from mrn_prep import __version__
from mrn_prep.errors import InputMissingError
from mrn_prep.group.strips import site_colours, strips
from mrn_prep.group.summary import group_column, per_participant
from mrn_prep.io.atomic import write_text
from mrn_prep.io.tables import read_table
from mrn_prep.outputs import METRICS
from mrn_prep.reports import html
from mrn_prep.reports.regions import tissue_order
from mrn_prep.reports.svg import keys

_ORDER = {metric: i for i, metric in enumerate(METRICS.values())}


@dataclass(frozen=True, kw_only=True)
class Person:
    """One participant and session in the overview."""

    page: str
    name: str
    session: str
    site: str
    group: str
    counts: tuple[int, ...]
    """Regions with a value, per metric."""
    flags: tuple[tuple[int, int], ...]
    """Values that carry each flag, and how strongly it is shown (percent)."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """The spread of one metric in one protocol, by one method."""

    metric: str
    unit: str
    sequence_class: str
    method: str
    """How it was made, where the same protocol gave the metric in several ways."""
    body: Markup


def write_group_page(
    out_dir: Path,
    *,
    remarks: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
    path: Path | None = None,
) -> Path:
    """Write the cohort's page from the tables of `mrn_prep.group.cohort.run_group`.

    Parameters
    ----------
    out_dir
        Derivative data set with the folder ``group``.
    remarks
        What could not be taken, a sentence each.
    provenance
        What tells how the tables were made; values of several lines are folded.
    path
        Where to write it; by default ``OUT_DIR/group.html``.

    Raises
    ------
    InputMissingError
        If the cohort's tables are not there.
    """
    path = path or out_dir / "group.html"
    provenance = provenance or {}
    folder = out_dir / "group"
    names = ("roi_measurements", "quality", "roi_summary")
    files = [folder / f"group_desc-{name}.tsv" for name in names]
    for file in files:
        if not file.exists():
            raise InputMissingError(f"{file}: is not there; wanted the group level's table.")
    roi, quality, summary = (read_table(file) for file in files)
    metrics = sorted(roi["metric"].astype(str).unique(), key=_rank)
    flags = list(html.legend(f for cell in roi["flags"] for f in html.split_flags(cell)))
    people = per_participant(roi)
    colours = site_colours(people["site"])
    persons = _persons(roi, quality, metrics, flags, out_dir, path)
    content = html.render(
        "group.html",
        title="Cohort",
        persons=persons,
        n_people=len({p.name for p in persons}),
        metrics=metrics,
        flag_names=flags,
        charts=_charts(people, colours),
        legend=keys(colours.items()),
        summary=sorted(summary.to_dict("records"), key=_summary_order),
        several_ways=_several_ways(summary),
        has_sessions=any(p.session for p in persons),
        quality=_quality(quality),
        flags=html.legend(flags),
        sites=sorted(colours),
        groups=sorted(set(people["group"]) - {"n/a"}),
        classes=sorted(roi["sequence_class"].dropna().astype(str).unique()),
        remarks=list(remarks),
        links=[(f.name, Path(os.path.relpath(f, path.parent)).as_posix()) for f in files],
        short={k: v for k, v in provenance.items() if "\n" not in v.strip()},
        long={k: v.strip() for k, v in provenance.items() if "\n" in v.strip()},
        version=provenance.get("version", __version__),
    )
    return write_text(path, content)


def _several_ways(summary: pd.DataFrame) -> set[tuple[str, str]]:
    """Return metric and protocol where the same protocol gave the metric by several methods."""
    rows = summary[["metric", "sequence_class", "method"]].drop_duplicates()
    twice = rows[rows.duplicated(["metric", "sequence_class"])]
    return {(str(m), str(c)) for m, c, _ in twice.itertuples(index=False, name=None)}


def _modality_rank(modality: str) -> int:
    known = list(html.MODALITIES)
    return known.index(modality) if modality in known else len(known)


def _rank(metric: str) -> tuple[int, str]:
    return _ORDER.get(metric, len(_ORDER)), metric


def _summary_order(row: Mapping[Hashable, object]) -> tuple[object, ...]:
    places = ("sequence_class", "region", "side", "level", "reference", "method", "group", "site",
              "session_id")  # fmt: skip
    words = [html.text(row[place]) for place in places]
    return (_rank(str(row["metric"])), words[0], tissue_order(html.text(row["tissue"])), *words[1:])


def _persons(
    roi: pd.DataFrame,
    quality: pd.DataFrame,
    metrics: Sequence[str],
    flags: Sequence[str],
    out_dir: Path,
    page: Path,
) -> list[Person]:
    """Return the overview; a participant with quality only is there too."""
    keys_ = ["participant_id", "session_id"]
    known = pd.concat([roi[keys_], quality[keys_]]).drop_duplicates()
    who = pd.concat([
        table.assign(_group=group_column(table))[["participant_id", "site", "_group"]]
        for table in (roi, quality)
    ])  # fmt: skip
    found = []
    for name, session in sorted(
        (str(n), html.text(s)) for n, s in known.itertuples(index=False, name=None)
    ):
        rows = roi[(roi["participant_id"] == name) & (roi["session_id"].fillna("") == session)]
        fitted = rows[rows["median"].notna()]
        carried = [f for cell in rows["flags"] for f in html.split_flags(cell)]
        own = out_dir / f"{'_'.join(filter(None, (name, session)))}.html"
        found.append(
            Person(
                page=Path(os.path.relpath(own, page.parent)).as_posix() if own.exists() else "",
                name=name,
                session=session,
                site=_names(who[who["participant_id"] == name]["site"]),
                group=_names(who[who["participant_id"] == name]["_group"]),
                counts=tuple(int((fitted["metric"] == m).sum()) for m in metrics),
                flags=tuple(
                    (carried.count(f), round(100 * carried.count(f) / max(len(rows), 1)))
                    for f in flags
                ),
            )
        )
    return found


def _names(values: pd.Series) -> str:
    return ", ".join(sorted(values.dropna().astype(str).unique()))


def _charts(people: pd.DataFrame, colours: Mapping[str, str]) -> list[Chart]:
    charts = []
    for (metric, unit, sequence_class), same in people.groupby(
        ["metric", "unit", "sequence_class"], sort=True
    ):
        if unit == "arbitrary":
            continue  # gains differ from scan to scan: there is nothing to compare
        methods = same.groupby("method", sort=True)
        for method, rows in methods:
            charts.append(
                Chart(
                    metric=str(metric),
                    unit=str(unit),
                    sequence_class=str(sequence_class),
                    method=str(method) if methods.ngroups > 1 else "",
                    body=strips(rows, colours, str(metric), str(unit)),
                )
            )
    return sorted(charts, key=lambda c: (_rank(c.metric), c.sequence_class, c.method))


def _quality(quality: pd.DataFrame) -> dict[str, object]:
    """Return quality measures across, sessions down.

    Series with entities of their own have a line of their own, and so have further series
    of one modality, named by their protocol.
    """
    columns: dict[tuple[str, str, str], str] = {}
    rows: dict[tuple[str, str, str], dict[tuple[str, str, str], object]] = {}
    first: dict[tuple[str, str, str, str], str] = {}
    for row in quality.to_dict("records"):
        modality, protocol = html.text(row["modality"]), html.text(row["sequence_class"])
        column = (modality, str(row["metric"]), html.text(row["unit"]))
        columns.setdefault(column, html.text(row["description"]))
        person = (str(row["participant_id"]), html.text(row["session_id"]), html.text(row["run"]))
        if first.setdefault((*person, modality), protocol) != protocol:
            person = (*person[:2], " ".join(filter(None, (person[2], protocol))))
        rows.setdefault(person, {})[column] = html.whole(row["value"], row["unit"])
    order = sorted(columns, key=lambda c: (_modality_rank(c[0]), *c))
    return {
        "columns": [(*column, columns[column]) for column in order],
        "rows": [(person, [rows[person].get(c, "") for c in order]) for person in sorted(rows)],
    }
