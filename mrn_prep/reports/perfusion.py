"""What only a perfusion series shows: input function, curves of regions, motion of frames."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup

from mrn_prep.io.derivatives import file_path
from mrn_prep.io.tables import read_table
from mrn_prep.models.status import Reason
from mrn_prep.outputs import FILES, OUTPUTS
from mrn_prep.reports import charts, html
from mrn_prep.reports.regions import TISSUE_COLOURS
from mrn_prep.reports.series import Series
from mrn_prep.reports.svg import COLOURS, Axes, keys, limits

Drawn = tuple[str, Markup, str]
"""Title, picture, and the fault where there is no picture."""

_SHOWN = ("nerve", "muscle", "")
"""Tissues whose regions have a picture, in the order of the page; masks do not tell theirs."""
_WHO = ["region", "tissue", "side", "level"]
_LEADING = ("ktrans", "ps")  # of a model, the first that it has
_BLOOD, _PLASMA = COLOURS[1], COLOURS[4]
_NAMED_FRAMES = 6


def figures_of(series: Series) -> list[Drawn]:
    """Return the input function, the mean curves and the motion of a perfusion series.

    Parameters
    ----------
    series
        Maps of a dynamic series; the tables stand beside them.

    Returns
    -------
    list of (title, picture, fault)
        A table that is missing or broken is a fault in place of its pictures.
    """
    drawn = _read(table_of(series, "aif"), "Input function", lambda t: [_input(t, series)])
    fits: dict[_Key, _Fit] = {}

    def keep(table: pd.DataFrame) -> list[Drawn]:
        fits.update(_fits(table))
        return []

    drawn += _read(table_of(series, "curve_fits"), "Parameters of the curves", keep)
    drawn += _read(table_of(series, "curves"), "Mean curves", lambda table: _curves(table, fits))
    confounds = table_of(series, "dce_confounds")
    if confounds.exists() or "motion-not-corrected" not in series.flags:
        drawn += _read(confounds, "Motion", _motion)
    return drawn


def table_of(series: Series, key: str) -> Path:
    """Return where a table of the series lies."""
    first = series.maps[0]
    own = {k: v for k, v in first.entities.items() if k not in ("model", "param", "desc")}
    spec = FILES[key]
    name = Path(file_path(spec, own)).name
    return first.path.parent.parent / spec.datatype / name


def _read(path: Path, title: str, draw: Callable[[pd.DataFrame], list[Drawn]]) -> list[Drawn]:
    try:
        return draw(read_table(path))
    except FileNotFoundError:
        return [(title, Markup(), f"{path.name} is missing")]
    # as for maps: any table may be broken in any way, and the page comes out
    except Exception as error:
        why = f"no column {error}" if isinstance(error, KeyError) else str(error)
        why = why.replace(f"{path}: ", "")
        return [(title, Markup(), f"{path.name} cannot be drawn ({why})")]


def _numbers(column: pd.Series) -> list[float]:
    """Return a column as numbers; raises ValueError where it holds words."""
    return [float(v) for v in pd.to_numeric(column)]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and last of some times, so that an axis can be drawn of them."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite:
        raise ValueError("it has no times")
    low, high = min(finite), max(finite)
    return low, high if high > low else low + 1.0


def _quiet(words: str) -> Markup:
    return Markup('<p class="quiet">{}</p>').format(words)


# --- the input function ---


def _input(table: pd.DataFrame, series: Series) -> Drawn:
    t_s = _numbers(table["time"])
    curves = {"plasma": _numbers(table["plasma"]), "blood": _numbers(table["blood"])}
    values = [v for curve in curves.values() for v in curve]
    if not np.isfinite(values).any():
        raise ValueError("it has no concentrations")
    quality = _quality(series)
    axes = Axes(x=_span(t_s), y=limits([*values, 0.0]))
    body = axes.frame("time (s)", "concentration (mM)")
    legend = list(zip(curves, (_PLASMA, _BLOOD), strict=True))
    arrival = quality.get("aif_arrival", math.nan)
    if axes.x[0] <= arrival <= axes.x[1]:
        at, floor = axes.px(arrival), axes.py(axes.y[0])
        path = f"M{at:.1f} {floor:.1f}V{axes.top}"
        body += f'<path class="median" style="--c:var(--soft)" d="{path}"/>'
        legend.append(("arrival (dashed)", "var(--soft)"))
    for name, colour in legend[:2]:
        body += axes.line(t_s, curves[name], colour)
    top = int(np.nanargmax(curves["blood"]))
    alt = f"Input function: highest in blood {html.number(curves['blood'][top])} mM " \
          f"at {html.number(t_s[top])} s"  # fmt: skip
    picture = axes.wrap(body, alt) + keys(legend)
    words = " ".join(filter(None, [_source(series), _worth(quality)]))
    return "Input function", picture + _quiet(words) if words else picture, ""


def _quality(series: Series) -> dict[str, float]:
    """Return the quality metrics of the series that are numbers."""
    return {
        str(name): float(value)
        for record in series.sidecar_values("Quality")
        if isinstance(record, Mapping)
        for name, value in record.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _source(series: Series) -> str:
    """Return where the input function is from, as the method of the maps tells it."""
    for told in map(str, series.sidecar_values("EstimationMethod")):
        # reasons why other sources were not used may have semicolons of their own
        found = re.search(r"input function (.+?)(?:; spoiled gradient echo|$)", told)
        if found:
            return f"Input function {found[1].rstrip('.')}."
    return ""


def _worth(quality: Mapping[str, float]) -> str:
    """Return in words what an input function is worth.

    >>> _worth({"aif_peak": 5.0, "aif_peak_time": 63.0, "aif_snr": 41.26, "aif_area": 220.0,
    ...         "aif_area_se": 6.5})
    'In blood: peak 5.00 mM at 63.0 s, area 220.0 ± 6.5 mM s, SNR 41.3.'
    """
    parts = []
    for name, words in (
        ("aif_peak", "peak {} mM"), ("aif_arrival", "arrival at {} s"),
        ("aif_area", "area {} mM s"), ("aif_washout", "wash-out {} 1/min"), ("aif_snr", "SNR {}"),
    ):  # fmt: skip
        if name not in quality:
            continue
        value = html.number(quality[name])
        if name == "aif_area" and quality.get("aif_area_se", 0.0) > 0:
            value = plus_minus(quality[name], quality["aif_area_se"])
        said = words.format(value)
        if name == "aif_peak" and "aif_peak_time" in quality:
            said += f" at {html.number(quality['aif_peak_time'])} s"
        parts.append(said)
    return f"In blood: {', '.join(parts)}." if parts else ""


# --- the curves of regions ---

_Key = tuple[str, str, str, str]
"""Region, tissue, side and level; empty where the table has nothing."""


@dataclass(frozen=True)
class _Fit:
    """What the table of parameters tells of one region."""

    n_vox: int
    parameters: Mapping[tuple[str, str], tuple[float, float, str, int]] = field(
        default_factory=dict
    )
    """(model, parameter) -> value, standard error, unit, status."""
    flags: tuple[str, ...] = ()


def _groups(table: pd.DataFrame) -> Iterator[tuple[_Key, pd.DataFrame]]:
    """Yield the rows of each region, in the order of the table."""
    named = table[_WHO].map(html.text)
    order = [named[column] for column in _WHO]
    for key, rows in table.groupby(order, sort=False):
        region, tissue, side, level = map(str, key)
        yield (region, tissue, side, level), rows


def _fits(table: pd.DataFrame) -> dict[_Key, _Fit]:
    found = {}
    for key, rows in _groups(table):
        cells = zip(
            map(str, rows["model"]), map(str, rows["parameter"]), _numbers(rows["value"]),
            _numbers(rows["se"]), map(html.unit, rows["unit"]), map(int, rows["status"]),
            strict=True,
        )  # fmt: skip
        told = rows["flags"].iloc[0] if "flags" in rows.columns else ""
        found[key] = _Fit(
            int(rows["n_vox"].max()), {(m, p): tuple(c) for m, p, *c in cells},
            html.split_flags(told),
        )  # fmt: skip
    return found


def _curves(table: pd.DataFrame, fits: Mapping[_Key, _Fit]) -> list[Drawn]:
    """Draw each nerve and each muscle; those of one tissue share their axes."""
    curves = {
        key: _Curve(html.text(rows["model"].iloc[0]), *(_numbers(rows[c]) for c in _COLUMNS))
        for key, rows in _groups(table.dropna(subset=["time"]))
    }
    drawn: list[Drawn] = []
    for tissue in _SHOWN:
        own = [key for key in dict.fromkeys([*fits, *curves]) if key[1] == tissue]
        seen = [curves[key] for key in own if key in curves]
        if seen:
            x = _span([t for curve in seen for t in curve.t_s])
            y = limits([0.0, *(v for c in seen for v in (*c.measured, *c.fitted))])
        for key in own:
            title, fit = _title(key), fits.get(key)
            if key not in curves:
                drawn.append((title, _quiet(f"No curve{_why(fit)}."), ""))
                continue
            axes = Axes(x=x, y=y, height=170)
            picture = curves[key].picture(axes, TISSUE_COLOURS.get(tissue, COLOURS[0]), title)
            drawn.append((title, picture + _quiet(_result(curves[key].model, fit)), ""))
    others = [key for key in dict.fromkeys([*fits, *curves]) if key[1] not in _SHOWN]
    if others:
        names = "; ".join(map(_title, others))
        drawn.append(("Other regions", _quiet(f"In the table of curves only: {names}."), ""))
    if not (fits or curves):
        note = "None: no region was given, or none lies on the series."
        drawn.append(("Mean curves", _quiet(note), ""))
    return drawn


_COLUMNS = ("time", "measured", "fitted")


@dataclass(frozen=True)
class _Curve:
    model: str
    t_s: Sequence[float]
    measured: Sequence[float]
    fitted: Sequence[float]

    def picture(self, axes: Axes, colour: str, title: str) -> Markup:
        """Return the measured points and the fitted line."""
        points = "".join(
            f"M{axes.px(t):.1f} {axes.py(c):.1f}h0"
            for t, c in zip(self.t_s, self.measured, strict=True)
            if math.isfinite(c)
        )
        body = axes.frame("time (s)", "conc. (mM)") + (
            f'<path class="dots" style="stroke-width:5" stroke="{colour}" d="{points}"/>'
        )
        # in the colour of the text, or it would be lost among the points
        line = axes.line(self.t_s, self.fitted, "currentColor")
        legend = [("measured", colour)]
        if any(map(math.isfinite, self.fitted)):
            legend.append(("fitted", "var(--ink)"))
        alt = f"{title}: {' and '.join(name for name, _ in legend)} concentration"
        return axes.wrap(body + line, alt) + keys(legend)


def _title(key: _Key) -> str:
    """Return a region as a title.

    >>> _title(("tibial", "nerve", "L", "")), _title(("vastus", "muscle", "", "thigh"))
    ('tibial L (nerve)', 'vastus, thigh (muscle)')
    """
    region, tissue, side, level = key
    name = " ".join(filter(None, [region, side if side != "n/a" else ""]))
    return f"{name}{f', {level}' if level else ''}{f' ({tissue})' if tissue else ''}"


def _result(model: str, fit: _Fit | None) -> str:
    """Return in words what the fit of a region's curve gave."""
    if fit is None:
        return f"Model: {model}."
    param = next((p for p in _LEADING if (model, p) in fit.parameters), "")
    if not param:
        return f"Model: {model}; {_voxels(fit)}."
    value, se, unit, status = fit.parameters[model, param]
    if status != Reason.FITTED or not math.isfinite(value):
        return f"Not fitted{_why(fit, model)}; {_voxels(fit)}."
    spec = OUTPUTS.get(f"{model}_{param}")
    title = spec.title if spec else param
    return f"{title} {plus_minus(value, se)} {unit} ({model}); {_voxels(fit)}."


def _voxels(fit: _Fit) -> str:
    flags = "".join(f", {flag}" for flag in fit.flags)
    return f"{fit.n_vox} voxel{'' if fit.n_vox == 1 else 's'}{flags}"


def _why(fit: _Fit | None, model: str = "") -> str:
    """Return why a region was not fitted, to be added to a sentence."""
    codes = [code for (name, _), (*_, code) in (fit.parameters if fit else {}).items()
             if code != Reason.FITTED and model in ("", name)]  # fmt: skip
    if not codes:
        return ""
    known = codes[0] in set(Reason)
    said = Reason(codes[0]).sentence.rstrip(".") if known else f"code {codes[0]}"
    return f": {said[0].lower()}{said[1:]}"


def plus_minus(value: float, se: float) -> str:
    """Return a value with its standard error, which has two figures.

    >>> plus_minus(0.030048, 0.00183883), plus_minus(12.3, 140.0), plus_minus(0.5, float("nan"))
    ('0.0300 ± 0.0018', '12 ± 140', '0.500 (no standard error)')
    """
    if not (math.isfinite(se) and se > 0):
        return f"{html.number(value)} (no standard error)"
    decimals = max(0, 1 - math.floor(math.log10(se)))
    return f"{value:.{decimals}f} ± {se:.{decimals}f}".replace("-", "−")


# --- motion ---


def _motion(table: pd.DataFrame) -> list[Drawn]:
    """Draw where each frame was; those that were not registered have no place."""
    n = len(table)
    status = _numbers(table["status"]) if "status" in table.columns else [0.0] * n
    lost = [i for i, code in enumerate(status) if code != Reason.FITTED]
    drawn: list[Drawn] = []
    for title, start, unit in (("Translation", "trans", "mm"), ("Rotation", "rot", "deg")):
        names = [f"{start}_{axis}_{unit}" for axis in "xyz"]
        columns = {name.split("_")[1]: _numbers(table[name]) for name in names}
        for i in lost:
            for column in columns.values():
                column[i] = math.nan
        label = "degrees" if unit == "deg" else unit
        picture = charts.traces(columns, label, title=title, x_label="frame")
        drawn.append((f"{title} of frames, before correction", picture, ""))
    words = "From the mean of the frames before contrast to each frame."
    if lost:
        some = ", ".join(map(str, lost[:_NAMED_FRAMES])) + ", …" * (len(lost) > _NAMED_FRAMES)
        words += f" Not registered: {len(lost)} of {n} (frame {some}, counted from 0)."
    title, picture, _ = drawn[0]
    return [(title, picture + _quiet(words), ""), *drawn[1:]]
