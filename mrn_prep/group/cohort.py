"""The cohort's tables: what the participants' tables say, put together and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mrn_prep.errors import InputMissingError
from mrn_prep.group.participants import Covariates, read_covariates
from mrn_prep.group.summary import summarise
from mrn_prep.io.atomic import write_json
from mrn_prep.io.tables import dictionary, read_table, write_table

ROI_KEYS = (
    "participant_id", "session_id", "run", "sequence_class", "region", "tissue", "side", "level",
    "metric", "reference", "method",
)  # fmt: skip
QUALITY_KEYS = ("participant_id", "session_id", "run", "sequence_class", "modality", "metric")
_NUMBERS = {
    "roi_measurements": ("mean", "sd", "median", "p05", "p95", "se", "n_vox", "n_vox_pure",
                         "n_fitted", "reference_n", "reference_mean", "reference_sd"),
    "quality": (),
}  # fmt: skip
_NEEDED = {
    "roi_measurements": ("participant_id", "sequence_class", "region", "metric", "median"),
    "quality": ("participant_id", "metric", "value"),
}


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """What the group level wrote, and what it could not take."""

    paths: tuple[Path, ...]
    remarks: tuple[str, ...]


def run_group(out_dir: Path, bids_dir: Path | None) -> GroupResult:
    """Write the cohort's tables into ``OUT_DIR/group``.

    Only tables are read. One that cannot be used is named in a remark and left
    out. The same tables give the same bytes.

    Parameters
    ----------
    out_dir
        Derivative data set with the participants' tables.
    bids_dir
        Raw data set, for ``participants.tsv`` and ``phenotype/``; None for none.

    Raises
    ------
    InputMissingError
        If no participant has a table that can be read.
    """
    remarks: list[str] = []
    covariates = read_covariates(bids_dir) if bids_dir else Covariates()
    remarks += covariates.remarks
    roi = gather(out_dir, "roi_measurements", ROI_KEYS, remarks)
    quality = gather(out_dir, "quality", QUALITY_KEYS, remarks)
    if roi.empty and quality.empty:
        told = f" {len(remarks)} could not be used: {remarks[0]}" if remarks else ""
        raise InputMissingError(
            f"{out_dir}: no participant's tables (sub-*_desc-roi_measurements.tsv); "
            f"run the participant level first.{told}"
        )
    folder = out_dir / "group"
    paths = []
    for table, name, keys in ((roi, "roi_measurements", ROI_KEYS),
                              (quality, "quality", QUALITY_KEYS)):  # fmt: skip
        joined, described = covariates.join(table)
        joined = joined.sort_values(list(keys), kind="stable", na_position="first")
        path = folder / f"group_desc-{name}.tsv"
        write_table(joined, path, name)
        write_json(path.with_suffix(".json"), {**dictionary(name), **described})
        paths.append(path)
        if name == "roi_measurements":
            summary = folder / "group_desc-roi_summary.tsv"
            paths.append(write_table(summarise(joined), summary, "group_roi_summary"))
    return GroupResult(paths=tuple(paths), remarks=tuple(remarks))


def gather(out_dir: Path, name: str, keys: Sequence[str], remarks: list[str]) -> pd.DataFrame:
    """Return the rows of all participants' tables of one kind; faults go to `remarks`."""
    tables = []
    for path in participant_tables(out_dir, name):
        try:
            tables.append(_checked(path, name, keys))
        except (OSError, ValueError) as error:
            where = path.relative_to(out_dir).as_posix()
            said = str(error).removeprefix(f"{path}: ")
            remarks.append(f"{where}: left out, {said}")
    columns = list(dictionary(name))
    if not tables:
        return pd.DataFrame(columns=columns)
    return pd.concat(tables, ignore_index=True)[columns]


def participant_tables(out_dir: Path, name: str) -> list[Path]:
    """Return the participants' tables of one kind, sorted."""
    pattern = f"sub-*_desc-{name}.tsv"
    return sorted([*out_dir.glob(f"sub-*/{pattern}"), *out_dir.glob(f"sub-*/ses-*/{pattern}")])


def _checked(path: Path, name: str, keys: Sequence[str]) -> pd.DataFrame:
    """Read one table, or say in a ValueError why it cannot be used."""
    table = read_table(path)
    lacking = [column for column in _NEEDED[name] if column not in table]
    if lacking:
        raise ValueError(f"it has no column {', '.join(lacking)}")
    table = table.reindex(columns=list(dictionary(name)))
    for column in table:
        if column in _NUMBERS[name]:
            numbers = pd.to_numeric(table[column], errors="coerce")
            if (numbers.isna() & table[column].notna()).any():
                raise ValueError(f"column {column} holds text where numbers are wanted")
            table[column] = numbers
        elif column != "value":
            table[column] = table[column].map(_text).astype(object)
    owner = path.name.split("_")[0]
    if set(table["participant_id"].dropna()) - {owner} or table["participant_id"].isna().any():
        raise ValueError(f"its rows do not all belong to {owner}")
    if table[list(_NEEDED[name][1:-1])].isna().any(axis=None):
        raise ValueError(f"rows without {' or '.join(_NEEDED[name][1:-1])} (cut off?)")
    if table.duplicated(list(keys)).any():
        raise ValueError("it has the same measurement twice")
    return table


def _text(value: object) -> object:
    """Return a label as text: a region named 12 is the same region in every file."""
    if value is None or value != value:
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
