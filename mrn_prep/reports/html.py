"""The look that all pages share: template, numbers, flags."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mrn_prep.measure.flags import FLAGS

_HERE = Path(__file__).parent

MODALITIES = {
    "b1": "B1+", "t1": "T1", "t2": "T2", "fatwater": "Fat and T2*", "mt": "Magnetisation transfer",
    "dwi": "Diffusion", "dce": "DCE perfusion",
}  # fmt: skip
# What a sequence class begins with, in small letters.
_KINDS = {
    "afi": "actual flip angle", "dam": "double angle", "tfl": "TurboFLASH", "rfm": "RF map",
    "b1map": "ready map", "vfa": "variable flip angle", "ir": "inversion recovery",
    "mese": "multi-echo spin echo", "t2prep": "prepared", "dualtse": "two echoes",
    "t2w": "weighted image", "megre": "multi-echo gradient echo",
    "megremag": "gradient echoes, magnitude only", "mtr": "MTR pair", "mts": "MT and T1 weighting",
    "mpm": "multi-parameter mapping", "dwi": "diffusion",
}  # fmt: skip


def modality_name(modality: str) -> str:
    """Return a modality as a heading."""
    return MODALITIES.get(modality, modality)


def kind_of(sequence_class: object) -> str:
    """Return in words how the series of a class was measured.

    >>> kind_of("VFA-3T-TR15-FA3-10-20"), kind_of("XYZ-3T")
    ('variable flip angle', 'XYZ')
    """
    head = text(sequence_class).split("-")[0]
    return _KINDS.get(head.lower(), head)


@cache
def environment() -> Environment:
    """Return the templates of the pages."""
    made = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters["number"] = number
    made.filters["unit"] = unit
    made.filters["text"] = text
    made.filters["flags"] = split_flags
    made.filters["chip"] = flag_chip
    made.globals["style"] = Markup((_HERE / "style.css").read_text(encoding="utf-8"))
    return made


def render(template: str, **content: object) -> str:
    """Return a page."""
    return environment().get_template(template).render(**content)


def number(value: object, like: float | None = None) -> str:
    """Return a number as a reader wants it: three figures, no exponent unless it must be.

    Parameters
    ----------
    value
        The number; text is returned as it is, what is missing as ``n/a``.
    like
        A number whose decimals are to be used, so that a range lines up with its median.

    >>> number(1182.4), number(1.5), number(0.3141), number(float("nan")), number(-2.0)
    ('1182', '1.50', '0.314', 'n/a', '−2.00')
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return "n/a" if value is None else str(value)
    if math.isnan(value):
        return "n/a"
    if isinstance(value, int):
        return str(value).replace("-", "−")
    size = abs(like if like is not None and math.isfinite(like) else value)
    if size == 0 or math.isinf(size):
        return f"{value:g}".replace("-", "−")
    if not 1e-3 <= size < 1e6:
        return f"{value:.2e}".replace("-", "−")
    decimals = max(0, 2 - math.floor(math.log10(size)))
    # FA of 0.098 needs no fourth decimal beside one of 0.513
    decimals = min(decimals, 3 if size >= 0.01 else 5)
    return f"{value:.{decimals}f}".replace("-", "−")


def whole(value: object, unit: object) -> object:
    """Return a count as a whole number; tables keep all numbers alike.

    >>> whole(42.0, "1"), whole(42.0, "mm")
    (42, 42.0)
    """
    if isinstance(value, float) and value.is_integer() and unit == "1":
        return int(value)
    return value


def unit(name: object) -> str:
    """Return a unit as it is printed; nothing for what has none.

    >>> unit("10^-3 mm^2/s"), unit("1")
    ('10⁻³ mm²/s', '')
    """
    printed = text(name)
    for plain, high in (("^-3", "⁻³"), ("^-1", "⁻¹"), ("^2", "²"), ("^3", "³")):
        printed = printed.replace(plain, high)
    return "" if printed == "1" else printed


def missing(value: object) -> bool:
    """Return whether a table's cell is empty."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def text(value: object) -> str:
    """Return a cell as text, empty where it is missing."""
    return "" if missing(value) else str(value)


def split_flags(cell: object) -> tuple[str, ...]:
    """Return the flags of a table's cell.

    >>> split_flags("no-b1;motion"), split_flags(float("nan"))
    (('no-b1', 'motion'), ())
    """
    return tuple(flag for flag in text(cell).split(";") if flag and flag != "n/a")


def explain(flag: str) -> str:
    """Return what a flag means."""
    return FLAGS.get(flag, "Not known to this version of mrn_prep.")


def flag_chip(flag: str, note: str = "") -> Markup:
    """Return a flag as a chip that explains itself."""
    said = f"{flag} ({note})" if note else flag
    return Markup(
        f'<a class="chip flag" href="#flags" title="{escape(explain(flag))}">{escape(said)}</a>'
    )


def legend(flags: Iterable[str]) -> Mapping[str, str]:
    """Return the explanation of each flag that is used, in the order of `FLAGS`."""
    used = set(flags)
    known = {flag: explain(flag) for flag in FLAGS if flag in used}
    return {**known, **{flag: explain(flag) for flag in sorted(used - set(FLAGS))}}
