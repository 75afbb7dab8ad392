"""Tidy tables: TSV with a JSON dictionary beside it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import pandas as pd

from mrn_prep import bids_templates
from mrn_prep.io.atomic import write_json, write_text

# Columns of names, which may look like numbers.
_TEXT = (
    "participant_id", "session_id", "run", "site", "name", "region", "tissue", "side", "level",
    "reference",
)  # fmt: skip

TABLES = Path(bids_templates.__file__).with_name("tables")


@cache
def dictionary(name: str) -> Mapping[str, Mapping[str, object]]:
    """Return the column dictionary of a table, its columns in order."""
    content: dict[str, dict[str, object]] = json.loads((TABLES / f"{name}.json").read_text())
    return content


def frame(rows: Iterable[Mapping[str, object]], name: str) -> pd.DataFrame:
    """Return rows as a table with exactly the columns of its dictionary.

    Raises
    ------
    ValueError
        If a row has a column that the dictionary does not describe.
    """
    rows, columns = list(rows), list(dictionary(name))
    unknown = {key for row in rows for key in row} - set(columns)
    if unknown:
        raise ValueError(f"Columns {sorted(unknown)} are not in the dictionary of {name}.")
    return pd.DataFrame(rows, columns=columns)


def write_table(table: pd.DataFrame, path: str | Path, name: str) -> Path:
    """Write a TSV and its JSON dictionary; unknown values are ``n/a``.

    Numbers have six significant digits, so that the same values give the same bytes.
    """
    write_json(Path(path).with_suffix(".json"), dictionary(name))
    return write_tsv(table, path)


def write_tsv(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a TSV alone; see `write_table`."""
    text = io.StringIO()
    table.to_csv(
        text, sep="\t", index=False, na_rep="n/a", float_format="%.6g", lineterminator="\n"
    )
    return write_text(path, text.getvalue())


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a BIDS table: text stays text, ``n/a`` is missing.

    Raises
    ------
    ValueError
        If the file is not UTF-8 text or has no header line.
    """
    try:
        return pd.read_csv(
            path, sep="\t", na_values=["n/a"], keep_default_na=False, encoding="utf-8-sig",
            dtype=dict.fromkeys(_TEXT, str),
        )  # fmt: skip
    except (UnicodeDecodeError, pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path}: not a table ({error}); wanted tab-separated UTF-8 text.") from (
            error
        )
