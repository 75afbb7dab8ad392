"""What is known of the participants: participants.tsv and phenotype/."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from mrn_prep.io.tables import read_table

_KEYS = ("participant_id", "session_id")


@dataclass(frozen=True, kw_only=True)
class Known:
    """One table of covariates: one row per participant (or participant and session)."""

    table: pd.DataFrame
    keys: tuple[str, ...]
    described: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Covariates:
    """All tables of covariates, and what could not be taken."""

    known: tuple[Known, ...] = ()
    remarks: tuple[str, ...] = field(default=())

    def join(self, table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Mapping[str, Any]]]:
        """Return the table with the covariates of each row, and the new columns' dictionary.

        A name that is taken gets ``participant_`` before it; a site that a table
        does not know is filled in.
        """
        described: dict[str, Mapping[str, Any]] = {}
        for known in self.known:
            more = known.table
            if "site" in more and "site" in table:
                sites = dict(zip(more["participant_id"], more["site"], strict=True))
                own = table["site"].astype(object)
                table = table.assign(
                    site=own.where(own.notna(), table["participant_id"].map(sites))
                )
                more = more.drop(columns="site")
            renamed = {
                column: f"participant_{column}"
                for column in map(str, more)
                if column in table and column not in known.keys
            }
            for column in map(str, more):
                if column not in known.keys:
                    described[renamed.get(column, column)] = known.described.get(
                        column, {"Description": "Not described by the data set."}
                    )
            table = table.merge(
                more.rename(columns=renamed), on=list(known.keys), how="left", validate="m:1"
            )
        return table, described


def read_covariates(bids_dir: Path) -> Covariates:
    """Read ``participants.tsv`` and ``phenotype/*.tsv``; what cannot be joined is a remark."""
    known, remarks = [], []
    files = [bids_dir / "participants.tsv", *sorted((bids_dir / "phenotype").glob("*.tsv"))]
    for path in files:
        where = path.relative_to(bids_dir).as_posix()
        try:
            taken = _read(path)
        except FileNotFoundError:
            remarks.append(f"{where}: not there; groups and covariates are unknown")
        except (OSError, ValueError) as error:
            remarks.append(f"{where}: left out, {str(error).removeprefix(f'{path}: ')}")
        else:
            known.append(taken)
            if path.parent.name == "phenotype":
                known[-1] = _prefixed(taken, path.stem)
    return Covariates(known=tuple(known), remarks=tuple(remarks))


def _read(path: Path) -> Known:
    table = read_table(path)
    if "participant_id" not in table:
        raise ValueError("it has no column participant_id")
    table["participant_id"] = table["participant_id"].map(partial(_with_prefix, prefix="sub-"))
    keys: tuple[str, ...] = ("participant_id",)
    if "session_id" in table and path.parent.name == "phenotype":
        table["session_id"] = table["session_id"].map(partial(_with_prefix, prefix="ses-"))
        keys = _KEYS
    if table.duplicated(list(keys)).any():
        raise ValueError(f"more than one row per {' and '.join(keys)}; it cannot be joined")
    described: dict[str, Any] = {}
    sidecar = path.with_suffix(".json")
    if sidecar.exists():
        content = json.loads(sidecar.read_text(encoding="utf-8-sig"))
        described = content if isinstance(content, dict) else {}
    return Known(table=table, keys=keys, described=described)


def _with_prefix(value: object, prefix: str) -> object:
    """Return a label as BIDS has it; some data sets leave the prefix out."""
    if value is None or value != value:
        return None
    return prefix + str(value).removeprefix(prefix)


def _prefixed(known: Known, stem: str) -> Known:
    names = {c: f"{stem}_{c}" for c in map(str, known.table) if c not in known.keys}
    described = {names.get(c, c): about for c, about in known.described.items()}
    return Known(table=known.table.rename(columns=names), keys=known.keys, described=described)
