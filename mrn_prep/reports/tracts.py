"""Nerves that were followed: their streamlines over FA, and what was measured along them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mrn_prep.io.tables import read_table
from mrn_prep.reports import figures, html, png
from mrn_prep.reports.figures import Grid
from mrn_prep.reports.series import Series
from mrn_prep.reports.session import read_volume
from mrn_prep.reports.svg import COLOURS, Axes, keys, limits

Drawn = tuple[str, Markup, str]
"""Title, picture, and the fault where there is no picture."""

_TITLE = "Nerves that were followed"
_SHOWN = ("FA", "MD")
_WHO = ["region", "side", "level"]
_OF_LINES = "plasma"
_FULL_FA = 0.8
_DIMMED = 0.75  # the background, lest it outshine the lines


def figures_of(series: Series, grid: Grid | None, table: Path) -> list[Drawn]:
    """Return the streamlines over FA and the profiles along the nerves.

    Parameters
    ----------
    series
        Maps of a diffusion series; those without streamlines have no pictures.
    grid
        How their grid is shown; None where it cannot be.
    table
        The profile along the nerves.
    """
    maps = {map_.spec.key: map_.path for map_ in series.maps}
    if "density" not in maps:
        return []
    return [_over_fa(maps, grid), *_profiles(table)]


def _over_fa(maps: Mapping[str, Path], grid: Grid | None) -> Drawn:
    if grid is None or "fa" not in maps:
        return _TITLE, Markup(), "needs FA on the same grid"
    fa = read_volume(maps["fa"])
    density = read_volume(maps["density"])
    fault = fa.fault or density.fault
    if fa.values is None or density.values is None or fa.values.shape != density.values.shape:
        return _TITLE, Markup(), f"needs FA on the same grid ({fault or 'shapes differ'})"
    return _TITLE, density_panel(fa.values, density.values, grid), ""


def density_panel(fa: NDArray[np.floating], density: NDArray[np.floating], grid: Grid) -> Markup:
    """Return FA in gray with the number of streamlines in each voxel in colour over it."""
    found = density[density > 0]
    if not found.size:
        return Markup('<p class="quiet">None: no streamline passes through a nerve.</p>')
    # the densest voxels are few
    top = max(float(np.percentile(found, 98)), 2.0)
    gray = _DIMMED * 255 * np.clip(np.nan_to_num(fa) / _FULL_FA, 0, 1)
    lines = np.where(density > 0, density, np.nan)
    colours = png.palette(_OF_LINES)[png.to_indices(lines, (0.0, top))]
    rgb = np.where((density > 0)[..., np.newaxis], colours, gray[..., np.newaxis])
    alpha = 255.0 * (np.isfinite(fa) | (density > 0))
    rgba = np.round(np.concatenate([rgb, alpha[..., np.newaxis]], axis=-1)).astype(np.uint8)
    picture = grid.view.mosaic(rgba, 0, grid.across(False)).astype(np.uint8)
    alt = f"Streamlines of nerves over FA: {found.size} voxels, up to {int(found.max())} in one"
    bar = figures.colour_bar(_OF_LINES, (0.0, top), "streamlines per voxel")
    return figures.panel(png.truecolour(picture), grid, alt) + bar


def _profiles(path: Path) -> list[Drawn]:
    title = "Along the nerves"
    try:
        nerves = _nerves(path)
    except FileNotFoundError:
        return [(title, Markup(), f"{path.name} is missing")]
    # any table may be broken in any way, and the page comes out
    except Exception as error:
        why = f"no column {error}" if isinstance(error, KeyError) else str(error)
        why = why.replace(f"{path}: ", "")
        return [(title, Markup(), f"{path.name} cannot be drawn ({why})")]
    return [
        (f"{metric} along the nerves", profile_chart(metric, nerves[metric]), "")
        for metric in _SHOWN
        if nerves.get(metric)
    ]


@dataclass(frozen=True)
class Along:
    """One metric along one nerve."""

    name: str
    unit: str
    arc_mm: Sequence[float]
    mean: Sequence[float]
    se: Sequence[float]


def _nerves(path: Path) -> dict[str, list[Along]]:
    """Return the nerves of each metric, in the order of the table."""
    table = read_table(path)
    found: dict[str, list[Along]] = {}
    named = table[_WHO].map(html.text)
    order = [table["metric"].map(str), table["bundle"], *(named[column] for column in _WHO)]
    for key, rows in table.groupby(order, sort=False):
        metric, _, region, side, level = map(str, key)
        name = " ".join(filter(None, [region, side])) + (f", {level}" if level else "")
        columns = [[float(v) for v in rows[column]] for column in ("arc_mm", "mean", "se")]
        unit = html.unit(str(rows["unit"].iloc[0]))
        found.setdefault(metric, []).append(Along(name, unit, *columns))
    return found


def profile_chart(metric: str, nerves: Sequence[Along]) -> Markup:
    """Return a metric along each nerve, with bands of one standard error to both sides."""
    bounds = [
        m + sign * (s if math.isfinite(s) else 0.0)
        for nerve in nerves
        for m, s in zip(nerve.mean, nerve.se, strict=True)
        for sign in (-1, 1)
    ]
    longest = max(a for nerve in nerves for a in nerve.arc_mm)
    axes = Axes(x=(0.0, longest or 1.0), y=limits(bounds))
    unit = nerves[0].unit
    body = axes.frame("distance along the nerve (mm)", f"{metric} ({unit})" if unit else metric)
    coloured = [(nerve, COLOURS[i % len(COLOURS)]) for i, nerve in enumerate(nerves)]
    for nerve, colour in coloured:
        body += _band(axes, nerve, colour)
    for nerve, colour in coloured:
        body += axes.line(nerve.arc_mm, nerve.mean, colour)
    words = "; ".join(f"{n.name} {html.number(_median(n.mean))}" for n in nerves)
    legend = keys((nerve.name, colour) for nerve, colour in coloured)
    note = Markup()
    if any(math.isfinite(s) for nerve in nerves for s in nerve.se):
        note = Markup('<p class="quiet">Bands: one standard error to both sides.</p>')
    return axes.wrap(body, f"{metric} along nerves, medians: {words}") + legend + note


def _median(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return float(np.median(finite)) if finite else math.nan


def _band(axes: Axes, nerve: Along, colour: str) -> str:
    """Return the standard error as an area, broken where it is not known."""
    known = np.isfinite(nerve.mean) & np.isfinite(nerve.se)
    pieces = np.split(np.arange(known.size), np.flatnonzero(np.diff(known)) + 1)
    path = ""
    for piece in pieces:
        if not known[piece].any() or piece.size < 2:
            continue
        upper = [(nerve.arc_mm[i], nerve.mean[i] + nerve.se[i]) for i in piece]
        lower = [(nerve.arc_mm[i], nerve.mean[i] - nerve.se[i]) for i in piece[::-1]]
        places = (f"{axes.px(x):.1f} {axes.py(y):.1f}" for x, y in upper + lower)
        path += f"M{'L'.join(places)}Z"
    return f'<path class="band" fill="{colour}" fill-opacity=".2" d="{path}"/>' if path else ""
