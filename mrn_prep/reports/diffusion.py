"""What only a diffusion series shows: motion, lost slices, the gradient scheme, what was done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from mrn_prep.io.tables import read_table
from mrn_prep.reports import before_after, charts, figures, png
from mrn_prep.reports.figures import Grid
from mrn_prep.reports.series import Series
from mrn_prep.reports.svg import Axes

Drawn = tuple[str, Markup, str]
"""Title, picture, and the fault where there is no picture."""

_LABELS = {
    "displacement_mm": "to the reference",
    "framewise_displacement_mm": "to the volume before",
}
_LOST = "Slices against their prediction"
_MOST_Z = 8.0
_SECOND_ORDER = {f"eddy_{pair}" for pair in ("xx", "yy", "zz", "xy", "xz", "yz")}


def figures_of(series: Series, grid: Grid | None = None) -> list[Drawn]:
    """Return pictures before and after, traces, lost slices and the scheme of a series."""
    stem = _stem(series)
    confounds = stem.with_name(f"{stem.name}_desc-confounds_timeseries.tsv")
    scheme = stem.with_name(f"{stem.name}_desc-preproc_dwi")
    before, after = (
        stem.with_name(f"{stem.name}_desc-{what}_dwiref.nii.gz") for what in ("raw", "preproc")
    )
    drawn = before_after.figures_of(before, after, grid)
    if confounds.exists():
        try:
            drawn += _traces(read_table(confounds))
        except (OSError, ValueError, KeyError) as error:
            drawn.append(("Motion", Markup(), f"{confounds.name} cannot be drawn ({error})"))
    outliers = stem.with_name(f"{stem.name}_desc-outliers_timeseries.tsv")
    if outliers.exists():
        try:
            drawn.append((_LOST, outlier_map(read_table(outliers)), ""))
        except (OSError, ValueError, KeyError) as error:
            drawn.append((_LOST, Markup(), f"{outliers.name} cannot be drawn ({error})"))
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
        # terms of second order have another unit, and are in the table
        columns = {
            _LABELS.get(name, name.removeprefix(wanted).rsplit("_", 1)[0]
                        if unit in ("mm", "degrees") else name.removeprefix("eddy_")):
            pd.to_numeric(table[name]).astype(float).tolist()
            for name in map(str, table.columns)
            if name not in _SECOND_ORDER
            and (wanted in name if title == "Displacement" else name.startswith(wanted))
        }  # fmt: skip
        if columns and title != "Gain":
            drawn.append((title, charts.traces(columns, unit, title=title), ""))
        elif columns:
            # a gain of 1 is nothing, so it is drawn as its difference in percent
            change = {k: [100 * (v - 1) for v in c] for k, c in columns.items()}
            drawn.append(("Gain", charts.traces(change, "change (%)", title=title), ""))
    return drawn


def outlier_map(table: pd.DataFrame) -> Markup:
    """Return how far each slice of each volume is from its prediction; replaced ones marked."""
    numbers = {
        name: pd.to_numeric(table[name]).to_numpy(np.float64) for name in ("volume", "slice", "z")
    }
    volume, row = (numbers[name].astype(int) for name in ("volume", "slice"))
    if not volume.size or min(volume.min(), row.min()) < 0:
        raise ValueError("it has no volumes")
    n_volumes, n_slices = int(volume.max()) + 1, int(row.max()) + 1
    z = np.full((n_slices, n_volumes), np.nan)
    z[row, volume] = np.nan_to_num(numbers["z"], nan=np.nan, neginf=-_MOST_Z, posinf=_MOST_Z)
    replaced = pd.to_numeric(table["replaced"]).to_numpy() > 0
    axes = Axes(x=(-0.5, n_volumes - 0.5), y=(-0.5, n_slices - 0.5))
    picture = png.indexed(png.to_indices(z[::-1], (-_MOST_Z, _MOST_Z)), png.palette("RdBu_r"))
    left, top = axes.px(-0.5), axes.py(n_slices - 0.5)
    width, height = axes.px(n_volumes - 0.5) - left, axes.py(-0.5) - top
    cell = width / n_volumes, height / n_slices
    body = axes.frame("volume", "slice") + (
        f'<image href="{png.data_uri(picture)}" x="{left:.1f}" y="{top:.1f}" '
        f'width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none" '
        'style="image-rendering:pixelated"/>'
    )
    for v, k in zip(volume[replaced], row[replaced], strict=True):
        x, y = axes.px(v) - cell[0] / 2, axes.py(k) - cell[1] / 2
        body += (
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell[0]:.1f}" height="{cell[1]:.1f}" '
            'fill="none" stroke="#ffb000" stroke-width="1.8"/>'
        )
    n = int(replaced.sum())
    alt = f"{n_slices} slices of {n_volumes} volumes against their prediction, {n} replaced"
    note = Markup('<p class="quiet">{}</p>').format(
        f"{n} of {int(np.isfinite(z).sum())} slices replaced"
        + (" (framed)." if n else ".")
        + " Blue: darker than predicted from the other volumes."
    )
    bar = figures.colour_bar("RdBu_r", (-_MOST_Z, _MOST_Z), "standard deviations")
    return axes.wrap(body, alt) + bar + note


def _scheme(bval: Path, bvec: Path) -> list[Drawn]:
    b = np.atleast_1d(np.loadtxt(bval)).ravel()
    title = f"b-values: {charts.shells(b)}"
    drawn: list[Drawn] = [(title, charts.b_scheme(b), "")]
    directions: NDArray[np.float64] = np.nan_to_num(np.atleast_2d(np.loadtxt(bvec)))
    directions = directions.T if directions.shape[0] == 3 else directions
    if directions.shape != (b.size, 3):
        return [*drawn, ("Directions", Markup(), f"{bvec.name} does not fit {b.size} b-values")]
    return [*drawn, ("Directions (filled: in front)", charts.sphere(directions, b), "")]
