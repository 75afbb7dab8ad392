"""Pictures of maps: mosaics with outlines, standard errors, status, directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mrn_prep.models.status import Reason
from mrn_prep.outputs import MapSpec
from mrn_prep.reports import png
from mrn_prep.reports.charts import stacked_bar
from mrn_prep.reports.regions import Placed, on_grid, outline
from mrn_prep.reports.svg import drawing, plain
from mrn_prep.reports.views import View

Array = NDArray[np.floating]

# Fitted is calm, every reason for a hole can be told from the others.
STATUS_COLOURS: dict[int, str] = {
    Reason.FITTED: "#b9cbd6",
    Reason.NON_FINITE: "#111111",
    Reason.NO_SIGNAL: "#7b6fd0",
    Reason.NO_B1: "#e69f00",
    Reason.INVALID_RATIO: "#d55e00",
    Reason.OUT_OF_RANGE: "#c2185b",
    Reason.NOT_CONVERGED: "#009e73",
    Reason.NOT_IDENTIFIABLE: "#0072b2",
    Reason.TOO_FEW: "#8c564b",
    Reason.NO_T1: "#bcbd22",
    Reason.SATURATED: "#17becf",
    Reason.NO_ENHANCEMENT: "#7f7f7f",
}
_OTHER_STATUS = ("#ff00ff", "#00e5e5", "#a0e000")


# Width over height of the mosaics: a map is looked at, its companions are glanced at.
_LARGE, _SMALL = 1.5, 4.0


@dataclass(frozen=True)
class Grid:
    """A grid on the page: its view, and the outlines of the regions on it."""

    name: str
    view: View
    outlines: Markup
    """Definitions to be placed once; panels refer to them by `name` and slice."""

    def across(self, small: bool) -> int:
        """Return the slices side by side in a large or a small mosaic."""
        return self.view.across(_SMALL if small else _LARGE)


def outlines(
    name: str,
    view: View,
    regions: Sequence[Placed],
    shape: Sequence[int],
    affine: Array,
    colours: Mapping[str, str],
) -> Markup:
    """Return the borders of all regions in each slice, one path per tissue, nerves on top."""
    labels = [on_grid(placed, shape, affine) for placed in regions]
    body = ""
    for position, k in enumerate(view.slices):
        paths: dict[str, str] = {}
        for placed, numbers in zip(regions, labels, strict=True):
            for tissue in dict.fromkeys(placed.tissues):
                mine = [i for i, t in enumerate(placed.tissues, start=1) if t == tissue]
                picture = view.picture(np.where(np.isin(numbers, mine), numbers, 0), k)
                paths[tissue] = paths.get(tissue, "") + outline(picture.astype(np.int32))
        drawn = [(paths[t], c) for t, c in reversed(list(colours.items())) if paths.get(t)]
        body += f'<g id="{escape(name)}-{position}" class="outlines">'
        body += "".join(f'<path class="halo" d="{path}"/>' for path, _ in drawn)
        body += "".join(f'<path stroke="{colour}" d="{path}"/>' for path, colour in drawn) + "</g>"
    return Markup(f'<svg class="definitions" aria-hidden="true"><defs>{body}</defs></svg>')


def panel(image: bytes, grid: Grid, alt: str, *, small: bool = False, words: bool = True) -> Markup:
    """Return a mosaic with its outlines and, where it is large, slice positions and sides."""
    view, across = grid.view, grid.across(small)
    tall, wide = view.voxel
    rows, columns = view.shape(across)
    width, height = columns * wide, rows * tall
    # letters keep their size on the page whatever the field of view
    letter = max(width, height * _LARGE) / 62
    body = (
        f'<image href="{png.data_uri(image)}" width="{width:.5g}" height="{height:.5g}" '
        f'preserveAspectRatio="none"/><g transform="scale({wide:.5g} {tall:.5g})">'
    )
    said = ""
    for position, z in enumerate(view.world_z):
        row, column = view.origin(position, across)
        body += f'<use href="#{escape(grid.name)}-{position}" x="{column}" y="{row}"/>'
        x, y = column * wide + letter / 3, row * tall + letter
        right = (column + view.tile[1]) * wide - letter / 3
        middle = (row + view.tile[0] / 2) * tall
        said += _letters(f"{plain(round(z, 1))} mm", x, y, letter)
        if position == 0:
            said += _letters(view.edges[0], x, middle, letter)
            said += _letters(view.edges[1], right, middle, letter, "slice end")
    kind = "panel small" if small else "panel"
    return drawing(body + "</g>" + (said if words and not small else ""), width, height, alt, kind)


def _letters(words: str, x: float, y: float, size: float, kind: str = "slice") -> str:
    return f'<text class="{kind}" font-size="{size:.3g}" x="{x:.4g}" y="{y:.4g}">{words}</text>'


def window_of(spec: MapSpec, values: Array) -> tuple[float, float]:
    """Return the display window in table units: the table's, else what the voxels take."""
    if spec.display is not None:
        return spec.display[0] * spec.table_scale, spec.display[1] * spec.table_scale
    finite = values[np.isfinite(values)]
    if spec.labels:  # of counts and labels most are 0
        finite = finite[finite > 0]
    if not finite.size:
        return 0.0, 1.0
    high = float(np.percentile(finite, 99.5))
    return min(0.0, float(np.percentile(finite, 0.5))), high if high > 0 else 1.0


def colour_map(spec: MapSpec) -> str:
    """Return the colour map of a map: gray where only contrast is meant, signs told apart."""
    if spec.display and spec.display[0] == -spec.display[1]:
        return "RdBu_r"
    return "gray" if spec.units == "arbitrary" else "viridis"


def map_panel(
    values: Array, grid: Grid, window: tuple[float, float], colours: str, alt: str,
    *, small: bool = False, words: bool = True,
) -> Markup:  # fmt: skip
    """Return a mosaic of a map; what has no value shows the page's background."""
    picture = np.asarray(grid.view.mosaic(values, np.nan, grid.across(small)), float)
    image = png.indexed(png.to_indices(picture, window), png.palette(colours))
    return panel(image, grid, alt, small=small, words=words)


def colour_bar(colours: str, window: tuple[float, float], unit: str) -> Markup:
    """Return a colour bar with the limits of its window."""
    strip = png.indexed(np.arange(1, 256, dtype=np.uint8)[np.newaxis], png.palette(colours))
    low, high = window
    middle = (low + high) / 2
    numbers = "".join(f"<span>{plain(float(f'{v:.3g}'))}</span>" for v in (low, middle, high))
    said = f"<em>{escape(unit)}</em>" if unit else ""
    return Markup(
        f'<div class="colourbar"><img alt="" src="{png.data_uri(strip)}">'
        f"<div>{numbers}</div>{said}</div>"
    )


def status_panel(status: Array, grid: Grid, title: str) -> Markup:
    """Return the status map with its reasons counted inside the limb."""
    codes = np.round(np.nan_to_num(status, nan=float(Reason.OUTSIDE_MASK))).astype(int)
    palette = np.zeros((256, 3), np.uint8)
    colours = [STATUS_COLOURS.get(code, _OTHER_STATUS[code % 3]) for code in range(256)]
    for code, hexa in enumerate(colours[:255]):
        palette[code + 1] = [int(hexa[i : i + 2], 16) for i in (1, 3, 5)]
    shown = np.where(codes == Reason.OUTSIDE_MASK, 0, codes + 1).clip(0, 255).astype(np.uint8)
    image = png.indexed(grid.view.mosaic(shown, 0, grid.across(True)).astype(np.uint8), palette)
    found, counts = np.unique(codes[codes != Reason.OUTSIDE_MASK], return_counts=True)
    parts = [
        (_reason(int(code)), int(count), colours[int(code) % 256])
        for code, count in zip(found, counts, strict=True)
    ]
    said = "; ".join(f"{label} {count} voxels" for label, count, _ in parts)
    return panel(image, grid, f"{title}: {said}", small=True) + (
        stacked_bar(parts) if parts else Markup('<p class="quiet">No voxel inside the limb.</p>')
    )


def _reason(code: int) -> str:
    return Reason(code).sentence.rstrip(".") if code in set(Reason) else f"code {code}"


def direction_panel(v1: Array, fa: Array, grid: Grid, alt: str) -> Markup:
    """Return main directions as colours: red left-right, green front-back, blue head-foot."""
    strength = np.clip(np.nan_to_num(fa) / 0.7, 0, 1)[..., np.newaxis]
    known = np.isfinite(v1).all(axis=-1) & np.isfinite(fa) & (np.abs(v1).max(axis=-1) > 0)
    rgb = np.round(np.clip(np.abs(np.nan_to_num(v1)), 0, 1) * strength * 255)
    rgba = np.concatenate([rgb, 255.0 * known[..., np.newaxis]], axis=-1).astype(np.uint8)
    return panel(
        png.truecolour(grid.view.mosaic(rgba, 0, grid.across(False)).astype(np.uint8)), grid, alt
    )
