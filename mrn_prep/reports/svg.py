"""Axes, ticks and paths of the pages' line drawings.

Drawn as SVG text, with the page's own colours and fonts: sharp at any size, a
few kilobytes, right in the dark theme, and the same bytes every time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

# Told apart with any colour vision (Okabe and Ito), on white and on black.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """Return about `n` round numbers between two limits.

    >>> ticks(0.0, 2.5)
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / n
    base = 10.0 ** math.floor(math.log10(raw))
    step = min((m * base for m in (1, 2, 5, 10)), key=lambda s: abs(s - raw))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def plain(value: float) -> str:
    """Return a tick's label: as few digits as say the number, a true minus sign.

    >>> plain(-0.5), plain(1200.0)
    ('−0.5', '1200')
    """
    text = f"{value:.6g}"
    return text.replace("-", "−")


def limits(values: Iterable[float], *, pad: float = 0.06) -> tuple[float, float]:
    """Return the range of the finite values, a little wider than they are."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    room = (high - low) * pad or abs(high) * 0.1 or 1.0
    return low - room, high + room


@dataclass(frozen=True, kw_only=True)
class Axes:
    """A plot's rectangle and the limits it shows."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: float = 360
    height: float = 190
    left: float = 46
    right: float = 12
    top: float = 10
    bottom: float = 36

    def px(self, value: float) -> float:
        """Return the horizontal place of a value."""
        low, high = self.x
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def py(self, value: float) -> float:
        """Return the vertical place of a value."""
        low, high = self.y
        return (
            self.height
            - self.bottom
            - (value - low) / (high - low) * (self.height - self.top - self.bottom)
        )

    def frame(self, x_label: str, y_label: str = "", *, y_ticks: bool = True) -> str:
        """Return grid, ticks and labels."""
        floor = self.height - self.bottom
        parts = []
        for tick in ticks(*self.x):
            at = self.px(tick)
            parts.append(f'<path class="grid" d="M{at:.1f} {self.top}V{floor}"/>')
            parts.append(f'<text class="tick" x="{at:.1f}" y="{floor + 13}">{plain(tick)}</text>')
        for tick in ticks(*self.y, n=4) if y_ticks else ():
            at = self.py(tick)
            parts.append(
                f'<path class="grid" d="M{self.left} {at:.1f}H{self.width - self.right}"/>'
            )
            x, y = self.left - 5, at + 3.5
            parts.append(f'<text class="tick end" x="{x}" y="{y:.1f}">{plain(tick)}</text>')
        middle = (self.left + self.width - self.right) / 2
        parts.append(f'<path class="axis" d="M{self.left} {floor}H{self.width - self.right}"/>')
        parts.append(
            f'<text class="label" x="{middle:.1f}" y="{self.height - 6}">{escape(x_label)}</text>'
        )
        if y_label:
            parts.append(
                f'<text class="label" transform="translate(11 {(self.top + floor) / 2:.1f}) '
                f'rotate(-90)">{escape(y_label)}</text>'
            )
        return "".join(parts)

    def line(self, x: Sequence[float], y: Sequence[float], colour: str) -> str:
        """Return a line that is broken where a value is missing."""
        path, pen_down = [], False
        for a, b in zip(x, y, strict=True):
            if math.isfinite(b):
                path.append(f"{'L' if pen_down else 'M'}{self.px(a):.1f} {self.py(b):.1f}")
            pen_down = math.isfinite(b)
        return f'<path class="line" stroke="{colour}" d="{"".join(path)}"/>'

    def wrap(self, body: str, alt: str) -> Markup:
        """Return the finished drawing; `alt` says in words what it shows."""
        return drawing(body, self.width, self.height, alt)


def drawing(body: str, width: float, height: float, alt: str, kind: str = "chart") -> Markup:
    """Return an inline SVG with its description."""
    stretch = 'preserveAspectRatio="none" ' if kind == "bar" else ""
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width:g} {height:g}" role="img" {stretch}'
        f'aria-label="{escape(alt)}"><title>{escape(alt)}</title>{body}</svg>'
    )


def keys(names: Iterable[tuple[str, str]]) -> Markup:
    """Return a legend, (name, colour) each, as HTML."""
    return Markup(
        '<ul class="keys">'
        + "".join(
            f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in names
        )
        + "</ul>"
    )
