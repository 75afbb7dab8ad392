"""What only a diffusion series shows: motion, eddy currents, the gradient scheme."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from mrn_prep.io.tables import read_table
from mrn_prep.reports import charts
from mrn_prep.reports.series import Series

Drawn = tuple[str, Markup, str]
"""Title, picture, and the fault where there is no picture."""

_LABELS = {
    "displacement_mm": "to the reference",
    "framewise_displacement_mm": "to the volume before",
}


def figures_of(series: Series) -> list[Drawn]:
    """Return the traces and the gradient scheme of a diffusion series."""
    stem = _stem(series)
    confounds = stem.with_name(f"{stem.name}_desc-confounds_timeseries.tsv")
    scheme = stem.with_name(f"{stem.name}_desc-preproc_dwi")
    drawn: list[Drawn] = []
    if confounds.exists():
        try:
            drawn += _traces(read_table(confounds))
        except (OSError, ValueError, KeyError) as error:
            drawn.append(("Motion", Markup(), f"{confounds.name} cannot be drawn ({error})"))
    bval = scheme.with_name(scheme.name + ".bval")
    if bval.exists():
        try:
            drawn += _scheme(bval, bval.with_suffix(".bvec"))
        except (OSError, ValueError) as error:
            drawn.append(("Gradient scheme", Markup(), f"{bval.name} cannot be drawn ({error})"))
    return drawn


def _stem(series: Series) -> Path:
    """Return folder and name of the series up to the entities of one map."""
    path = series.maps[0].path
    kept = [
        part
        for part in path.name.removesuffix(".nii.gz").split("_")[:-1]
        if part.split("-")[0] not in {"model", "param", "desc"}
    ]
    return path.with_name("_".join(kept))


def _traces(table: pd.DataFrame) -> list[Drawn]:
    """Draw what is there; columns of one kind and unit share their axes."""
    drawn: list[Drawn] = []
    for title, unit, wanted in (
        ("Translation", "mm", "trans_"),
        ("Rotation", "degrees", "rot_"),
        ("Displacement", "mm", "displacement_mm"),
        ("Gain", "relative", "gain"),
        ("Eddy-current terms", "", "eddy_"),
    ):
        columns = {
            _LABELS.get(name, name.removeprefix(wanted).rsplit("_", 1)[0]
                        if unit in ("mm", "degrees") else name.removeprefix("eddy_")):
            pd.to_numeric(table[name]).astype(float).tolist()
            for name in map(str, table.columns)
            if (wanted in name if title == "Displacement" else name.startswith(wanted))
        }  # fmt: skip
        if columns and title != "Gain":
            drawn.append((title, charts.traces(columns, unit, title=title), ""))
        elif columns:
            # a gain of 1 is nothing, so it is drawn as its difference in percent
            change = {k: [100 * (v - 1) for v in c] for k, c in columns.items()}
            drawn.append(("Gain", charts.traces(change, "change (%)", title=title), ""))
    return drawn


def _scheme(bval: Path, bvec: Path) -> list[Drawn]:
    b = np.atleast_1d(np.loadtxt(bval)).ravel()
    title = f"b-values: {charts.shells(b)}"
    drawn: list[Drawn] = [(title, charts.b_scheme(b), "")]
    directions: NDArray[np.float64] = np.nan_to_num(np.atleast_2d(np.loadtxt(bvec)))
    directions = directions.T if directions.shape[0] == 3 else directions
    if directions.shape != (b.size, 3):
        return [*drawn, ("Directions", Markup(), f"{bvec.name} does not fit {b.size} b-values")]
    return [*drawn, ("Directions (filled: in front)", charts.sphere(directions, b), "")]
