"""A diffusion series as acquired beside the same as processed."""

from __future__ import annotations

from html import escape
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mrn_prep.reports import png
from mrn_prep.reports.figures import Grid
from mrn_prep.reports.session import read_volume
from mrn_prep.reports.svg import drawing, plain
from mrn_prep.reports.views import spread

Array = NDArray[np.floating]
Drawn = tuple[str, Markup, str]

_TITLES = ("Lowest b-value, before and after", "Highest b-value, before and after")
_ROWS = 3
_GAP = 2  # voxels between pictures


def figures_of(before: Path, after: Path, grid: Grid | None) -> list[Drawn]:
    """Return both contrasts, each before and after, in the same slices and window.

    Parameters
    ----------
    before, after
        Means of the lowest and the highest b-value; nothing is drawn where both are missing.
    grid
        How the series is shown; None where it cannot be.
    """
    if not before.exists() and not after.exists():
        return []
    volumes = [read_volume(path) for path in (before, after)]
    fault = "; ".join(
        f"{path.name}: {volume.fault}"
        for path, volume in zip((before, after), volumes, strict=True)
        if volume.fault
    )
    first, second = (volume.values for volume in volumes)
    if first is None or second is None or grid is None or first.shape != second.shape:
        return [(title, Markup(), fault or "needs two images of one grid") for title in _TITLES]
    return [
        (title, pair(first[..., k], second[..., k], grid, title), "")
        for k, title in enumerate(_TITLES[: first.shape[3]])
    ]


def pair(before: Array, after: Array, grid: Grid, title: str) -> Markup:
    """Return some slices before (left) and after (right), with the regions' outlines on both."""
    view = grid.view
    positions = spread(range(len(view.slices)), _ROWS)
    height, width = view.tile
    shape = (len(positions) * (height + _GAP) - _GAP, 2 * width + _GAP)
    picture = np.full(shape, np.nan)
    finite = after[np.isfinite(after)]
    top = float(np.percentile(finite, 99.7)) if finite.size else 1.0
    outlines, said = "", ""
    tall, wide = view.voxel
    letter = max(shape[1] * wide, shape[0] * tall) / 42
    for row, position in enumerate(positions):
        down = row * (height + _GAP)
        for column, volume in enumerate((before, after)):
            right = column * (width + _GAP)
            slice_ = view.picture(volume, view.slices[position])
            picture[down : down + height, right : right + width] = slice_
            outlines += f'<use href="#{escape(grid.name)}-{position}" x="{right}" y="{down}"/>'
            words = ("before", "after")[column]
            words += f", {plain(round(view.world_z[position], 1))} mm" if column == 0 else ""
            said += (
                f'<text class="slice" font-size="{letter:.3g}" x="{right * wide + letter / 3:.4g}" '
                f'y="{down * tall + letter:.4g}">{words}</text>'
            )
    image = png.indexed(png.to_indices(picture, (0.0, top or 1.0)), png.palette("gray"))
    size = shape[1] * wide, shape[0] * tall
    body = (
        f'<image href="{png.data_uri(image)}" width="{size[0]:.5g}" height="{size[1]:.5g}" '
        f'preserveAspectRatio="none"/><g transform="scale({wide:.5g} {tall:.5g})">{outlines}</g>'
    )
    alt = f"{title}, {len(positions)} slices, the same window"
    return drawing(body + said, *size, alt, "panel")
