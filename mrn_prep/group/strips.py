"""Every participant as a point: regions down, values across, one lane per site and group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape

import numpy as np
import pandas as pd
from markupsafe import Markup

from mrn_prep.reports.html import number
from mrn_prep.reports.html import unit as printed_unit
from mrn_prep.reports.regions import tissue_order
from mrn_prep.reports.svg import COLOURS, drawing, limits, plain, ticks

_LANE, _GAP, _LEFT, _RIGHT, _TOP, _WIDTH = 15.0, 7.0, 170.0, 150.0, 22.0, 820.0
_BOX_FROM = 5  # fewer points say it better themselves
_NAMED_UP_TO = 40  # points in a lane that are named when pointed at


def site_colours(sites: pd.Series) -> dict[str, str]:
    """Return a colour for each site, in alphabetical order."""
    names = sorted({str(site) for site in sites})
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def strips(people: pd.DataFrame, colours: Mapping[str, str], title: str, unit: str) -> Markup:
    """Return the chart of one metric in one protocol.

    Parameters
    ----------
    people
        Rows of `mrn_prep.group.summary.per_participant`.
    colours
        Colour of each site.
    """
    low, high = limits(people["value"].tolist())

    def px(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    by_place = {
        tuple(map(str, place)): rows
        for place, rows in people.groupby(["tissue", "region", "side", "level", "reference"])
    }
    at, body = _TOP, ""
    for place in sorted(by_place, key=lambda p: (tissue_order(p[0]), p)):
        lanes = list(by_place[place].groupby(["session_id", "group", "site"], sort=True))
        name = " ".join(word for word in place[1:4] if word != "n/a")
        name += f" / {place[4]}" if place[4] != "n/a" else ""
        body += f'<text class="name start" x="0" y="{at + 11:.1f}">{escape(name)}</text>'
        for (session, group, site), rows in lanes:
            words = " · ".join(str(w) for w in (group, site, session) if w != "n/a")
            body += _lane(rows, px, at, colours[str(site)], words)
            at += _LANE
        body += f'<path class="grid" d="M0 {at + _GAP / 2:.1f}H{_WIDTH}"/>'
        at += _GAP
    scale = ""
    for tick in ticks(low, high, 6):
        x = px(tick)
        scale += f'<path class="grid" d="M{x:.1f} {_TOP - 6}V{at:.1f}"/>'
        scale += f'<text x="{x:.1f}" y="{_TOP - 10}">{plain(tick)}</text>'
    alt = f"{title}{' in ' + printed_unit(unit) if printed_unit(unit) else ''}: " \
          f"{people['participant_id'].nunique()} participants, {len(by_place)} regions"  # fmt: skip
    return drawing(scale + body, _WIDTH, at + 2, alt, "chart strips")


def _lane(
    rows: pd.DataFrame, px: Callable[[float], float], at: float, colour: str, words: str
) -> str:
    middle, values = at + _LANE / 2, rows["value"].to_numpy(dtype=float)
    q1, q2, q3 = (px(float(q)) for q in np.percentile(values, [25, 50, 75]))
    marks = ""
    if len(values) >= _BOX_FROM:
        marks += f'<path class="box" d="M{q1:.1f} {middle - 5:.1f}H{q3:.1f}v10H{q1:.1f}z"/>'
    if len(values) > 1:
        marks += f'<path class="middle" d="M{q2:.1f} {middle - 6:.1f}v12"/>'
    points = _many if len(values) > _NAMED_UP_TO else _few
    return points(rows, px, middle, colour) + marks + _label(words, len(values), middle)


def _few(rows: pd.DataFrame, px: Callable[[float], float], middle: float, colour: str) -> str:
    """Return points that say who they are when pointed at."""
    drawn = ""
    for person, value, flags in rows[["participant_id", "value", "flags"]].itertuples(
        index=False, name=None
    ):
        said = f"{person}: {number(float(value))}" + (f" ({flags})" if flags else "")
        drawn += (
            f'<circle cx="{px(float(value)):.1f}" cy="{middle:.1f}" r="3.6" stroke="{colour}" '
            f'fill="{"none" if flags else colour}"><title>{escape(said)}</title></circle>'
        )
    return drawn


def _many(rows: pd.DataFrame, px: Callable[[float], float], middle: float, colour: str) -> str:
    """Return many points as two strokes: named one by one they would fill megabytes."""
    dots = [f"M{px(float(v)):.1f} {middle:.1f}h0" for v in rows["value"]]
    hollow = "".join(dot for dot, flags in zip(dots, rows["flags"], strict=True) if flags)
    return (
        f'<path class="dots" stroke="{colour}" d="{"".join(dots)}"/>'
        f'<path class="dots inner" d="{hollow}"/>'
    )


def _label(words: str, n: int, middle: float) -> str:
    label = f"{words + ' · ' if words else ''}n {n}"
    x = _WIDTH - _RIGHT + 8
    return f'<text class="start" x="{x}" y="{middle + 3.5:.1f}">{escape(label)}</text>'
