"""The plots of a participant's page: distributions, traces, directions, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mrn_prep.reports.svg import COLOURS, Axes, drawing, keys, limits, plain

Array = NDArray[np.floating]


def histogram(
    samples: Mapping[str, Array],
    window: tuple[float, float],
    x_label: str,
    colours: Mapping[str, str],
    *,
    title: str,
) -> Markup:
    """Return the distribution of a map in each tissue, each scaled to its own peak."""
    axes = Axes(x=window, y=(0.0, 1.08), left=14)
    edges = np.linspace(*window, 49)
    body, legend, words = axes.frame(x_label, y_ticks=False), [], []
    for tissue, values in samples.items():
        values = values[np.isfinite(values)]
        if not values.size:
            continue
        counts = np.histogram(values, edges)[0] / max(np.histogram(values, edges)[0].max(), 1)
        steps = "".join(
            f"L{axes.px(a):.1f} {axes.py(c):.1f}H{axes.px(b):.1f}"
            for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True)
        )
        path = f"M{axes.px(window[0]):.1f} {axes.py(0):.1f}{steps}V{axes.py(0):.1f}"
        body += f'<path class="area" style="--c:{colours[tissue]}" d="{path}"/>'
        middle = float(np.median(values))
        if window[0] <= middle <= window[1]:
            body += (
                f'<path class="median" style="--c:{colours[tissue]}" '
                f'd="M{axes.px(middle):.1f} {axes.py(0):.1f}V{axes.top}"/>'
            )
        outside = np.mean((values < window[0]) | (values > window[1]))
        beyond = f", {100 * outside:.0f} % beyond the window" if outside >= 0.005 else ""
        legend.append(
            (f"{tissue}: median {plain(float(f'{middle:.3g}'))}, {values.size} voxels{beyond}",
             colours[tissue])
        )  # fmt: skip
        words.append(f"{tissue} median {middle:.3g}")
    return axes.wrap(body, f"{title}: {'; '.join(words)}") + keys(legend)


def traces(
    columns: Mapping[str, Sequence[float]], y_label: str, *, title: str, x_label: str = "volume"
) -> Markup:
    """Return one line per column against the volume's number."""
    n = max((len(c) for c in columns.values()), default=0)
    values = [v for c in columns.values() for v in c]
    axes = Axes(x=(0.0, max(n - 1.0, 1.0)), y=limits([*values, 0.0] if values else []))
    body = axes.frame(x_label, y_label)
    named = list(zip(columns.items(), COLOURS, strict=False))
    for (_, column), colour in named:
        body += axes.line(range(len(column)), column, colour)
    legend = keys((name, colour) for (name, _), colour in named)
    return axes.wrap(body, f"{title}: {', '.join(columns)}") + legend


def b_scheme(b_s_mm2: Array) -> Markup:
    """Return the b-value of each volume, in the order they were measured."""
    axes = Axes(x=(-0.5, len(b_s_mm2) - 0.5), y=(0.0, max(float(b_s_mm2.max()), 1.0) * 1.08))
    body = axes.frame("volume", "b (s/mm²)")
    floor = axes.py(0)
    for i, b in enumerate(b_s_mm2):
        at = axes.px(i)
        body += f'<path class="stem" d="M{at:.1f} {floor:.1f}V{axes.py(float(b)):.1f}"/>'
        body += f'<circle class="dot" cx="{at:.1f}" cy="{axes.py(float(b)):.1f}" r="2"/>'
    return axes.wrap(body, f"b-values of {len(b_s_mm2)} volumes: {shells(b_s_mm2)}")


def shells(b_s_mm2: Array) -> str:
    """Return how many volumes each b-value has (b-values rounded to 50).

    >>> shells(np.array([0.0, 2.0, 995.0, 1000.0, 1005.0]))
    '2 × b 0, 3 × b 1000'
    """
    rounded, counts = np.unique(np.round(np.asarray(b_s_mm2) / 50) * 50, return_counts=True)
    return ", ".join(f"{n} × b {b:.0f}" for b, n in zip(rounded, counts, strict=True))


def sphere(directions: Array, b_s_mm2: Array) -> Markup:
    """Return the gradient directions on the unit sphere, seen along its third axis.

    Parameters
    ----------
    directions : array, shape (n, 3)
        Unit vectors; rows of zeros are volumes without a direction.
    b_s_mm2 : array, shape (n,)
        b-values, which choose the colour.
    """
    used = np.linalg.norm(directions, axis=1) > 0.5
    unit = directions[used] / np.linalg.norm(directions[used], axis=1, keepdims=True)
    rounded = np.round(b_s_mm2[used] / 50) * 50
    radius, centre = 84.0, 96.0
    rings = "".join(
        f'<circle class="ring" cx="{centre}" cy="{centre}" r="{radius * r:.1f}"/>'
        for r in (1.0, 0.866, 0.5)
    )
    cross = f'<path class="grid" d="M{centre} 12V180M12 {centre}H180"/>'
    shell_colours = dict(zip(np.unique(rounded), COLOURS * 9, strict=False))
    points = ""
    for (x, y, z), b in sorted(
        zip(unit.tolist(), rounded.tolist(), strict=True), key=lambda p: p[0][2]
    ):
        colour = shell_colours[b]
        fill = colour if z >= 0 else "none"
        points += (
            f'<circle cx="{centre + radius * x:.1f}" cy="{centre - radius * y:.1f}" r="3.4" '
            f'fill="{fill}" stroke="{colour}" stroke-width="1.3"/>'
        )
    alt = f"{int(used.sum())} gradient directions on the sphere; filled in front, open behind"
    legend = keys((f"b {b:.0f}", colour) for b, colour in shell_colours.items())
    return drawing(rings + cross + points, 192, 192, alt, "chart square") + legend


def stacked_bar(parts: Sequence[tuple[str, int, str]]) -> Markup:
    """Return counts as one bar with its legend; (label, count, colour) each."""
    total = sum(count for _, count, _ in parts) or 1
    bar, at = "", 0.0
    for label, count, colour in parts:
        width = 400 * count / total
        bar += (
            f'<rect x="{at:.2f}" y="0" width="{width:.2f}" height="12" fill="{colour}">'
            f"<title>{escape(label)}: {count}</title></rect>"
        )
        at += width
    legend = keys(
        (f"{label} {count} ({percent(count, total)})", colour) for label, count, colour in parts
    )
    words = "; ".join(f"{label} {count}" for label, count, _ in parts)
    return drawing(bar, 400, 12, f"Voxels inside the limb: {words}", "bar") + legend


def percent(count: int, total: int) -> str:
    """Return a share as text that never rounds something to nothing.

    >>> percent(3, 10000), percent(1, 4), percent(9999, 10000)
    ('<0.1 %', '25.0 %', '>99.9 %')
    """
    share = 100 * count / total
    if 0 < share < 0.1:
        return "<0.1 %"
    if 99.9 < share < 100:
        return ">99.9 %"
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"
