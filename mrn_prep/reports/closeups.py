"""Nerves seen closely: a small window around each, in the slice where it is largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mrn_prep.reports import figures
from mrn_prep.reports.figures import Grid
from mrn_prep.reports.regions import Placed, on_grid
from mrn_prep.reports.svg import plain
from mrn_prep.reports.views import View

MAX_NERVES = 6
_HALF_MM = 11.0  # half a window: a large nerve with what surrounds it


@dataclass(frozen=True)
class CloseUp:
    """A window around one nerve."""

    label: str
    grid: Grid


def closeups_of(
    name: str,
    view: View,
    regions: Sequence[Placed],
    shape: Sequence[int],
    affine: NDArray[np.floating],
    colours: Mapping[str, str],
) -> list[CloseUp]:
    """Return a window for each nerve that the view's slices show, at most `MAX_NERVES`.

    Parameters
    ----------
    name
        Prefix of the outlines' names on the page.
    view
        The slices that the page shows of this grid.
    """
    rows, columns = (shape[0], shape[1]) if view.swap else (shape[1], shape[0])
    full = replace(view, rows=slice(0, rows), columns=slice(0, columns))
    found: list[CloseUp] = []
    for placed in regions:
        labels = on_grid(placed, shape, affine)
        for number, tissue in enumerate(placed.tissues, start=1):
            if tissue != "nerve" or len(found) == MAX_NERVES:
                continue
            inside = labels == number
            areas = [int(inside[:, :, k].sum()) for k in view.slices]
            if not max(areas, default=0):
                continue
            position = int(np.argmax(areas))
            picture = full.picture(inside, view.slices[position])
            window = [
                _window(np.flatnonzero(picture.any(axis=1 - axis)), picture.shape[axis], mm)
                for axis, mm in enumerate(view.voxel)
            ]
            close = replace(
                view,
                slices=(view.slices[position],),
                world_z=(view.world_z[position],),
                rows=window[0],
                columns=window[1],
            )
            own = f"{name}-close-{len(found)}"
            drawn = figures.outlines(own, close, regions, shape, affine, colours)
            label = f"{placed.names[number - 1]}, {plain(round(close.world_z[0], 1))} mm"
            found.append(CloseUp(label, Grid(own, close, drawn)))
    return found


def _window(inside: NDArray[np.intp], size: int, voxel_mm: float) -> slice:
    """Return the voxels to show along one axis, within the image."""
    middle = (int(inside[0]) + int(inside[-1]) + 1) / 2
    half = max(_HALF_MM / voxel_mm, 0.75 * len(inside))
    start = max(round(middle - half), 0)
    return slice(start, min(round(middle + half), size))


def strip(
    closeups: Sequence[CloseUp],
    values: NDArray[np.floating],
    window: tuple[float, float],
    colours: str,
    title: str,
) -> Markup:
    """Return one map around each nerve, side by side."""
    if not closeups:
        return Markup()
    items = "".join(
        f"<div>{_panel(close, values, window, colours, title)}<span>{escape(close.label)}</span>"
        "</div>"
        for close in closeups
    )
    return Markup(f'<div class="closeups">{items}</div>')


def _panel(
    close: CloseUp,
    values: NDArray[np.floating],
    window: tuple[float, float],
    colours: str,
    title: str,
) -> Markup:
    alt = f"{title} around {close.label}"
    return figures.map_panel(values, close.grid, window, colours, alt, words=False)
