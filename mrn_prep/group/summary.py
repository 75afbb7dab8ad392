"""One number per participant, then the spread between participants."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from mrn_prep.io.tables import dictionary
from mrn_prep.measure.flags import FLAGS

KEYS = (
    "site", "group", "session_id", "sequence_class", "region", "tissue", "side", "level",
    "reference", "method", "metric", "unit",
)  # fmt: skip


def per_participant(table: pd.DataFrame) -> pd.DataFrame:
    """Return one value per participant and key: its region medians, averaged over the series.

    Rows without a value are dropped. Classes of protocols, levels (``n/a`` is
    a level of its own), sessions, references and methods stay apart.
    """
    table = table.assign(group=group_column(table))
    for key in KEYS:
        table[key] = table[key].astype(object).where(table[key].notna(), "n/a")
    fitted = table[table["median"].notna()]
    grouped = fitted.groupby([*KEYS, "participant_id"], sort=True)
    return grouped.agg(value=("median", "mean"), flags=("flags", joined)).reset_index()


def group_column(table: pd.DataFrame) -> pd.Series:
    """Return the group of each row; ``participants.tsv`` may spell the name in any case."""
    for column in table:
        if str(column).lower() == "group":
            return table[column].astype(object)
    return pd.Series([None] * len(table), index=table.index, dtype=object)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cohort's summary, with the columns of its dictionary."""
    columns = list(dictionary("group_roi_summary"))
    people = per_participant(table)
    if people.empty:
        return pd.DataFrame(columns=columns)
    grouped = people.groupby(list(KEYS), sort=True)
    summary = grouped.agg(
        n_participants=("value", "size"),
        n_flagged=("flags", lambda cells: int((cells != "").sum())),
        mean=("value", "mean"),
        sd=("value", "std"),
        median=("value", "median"),
        min=("value", "min"),
        max=("value", "max"),
        flags=("flags", joined),
    ).reset_index()
    # of a quantity that can be zero or negative it would say nothing
    positive = summary["mean"].where(summary["mean"] > 0)
    summary["cv_percent"] = 100 * summary["sd"] / positive
    summary["flags"] = summary["flags"].replace("", None)
    return summary[columns]


def joined(cells: Iterable[object]) -> str:
    """Return all flags of several cells as one, in the order of `FLAGS`."""
    found = {
        flag for cell in cells if isinstance(cell, str) for flag in cell.split(";") if flag
    } - {"n/a"}
    known = [flag for flag in FLAGS if flag in found]
    return ";".join([*known, *sorted(found - set(FLAGS))])
