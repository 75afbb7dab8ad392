"""The part of the page that shows one series: maps, uncertainty, holes, motion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from mrn_prep.io.names import together
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.status import Reason
from mrn_prep.quality import quality_of
from mrn_prep.reports import charts, diffusion, figures, html, perfusion, tracts, views
from mrn_prep.reports.closeups import CloseUp, closeups_of, strip
from mrn_prep.reports.figures import Grid
from mrn_prep.reports.regions import Placed, tissue_masks
from mrn_prep.reports.series import MapFile, Series
from mrn_prep.reports.session import Session, Volume, read_volume

Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One picture with its words; a picture that could not be made is a fault."""

    title: str
    body: str = ""
    fault: str = ""


@dataclass(frozen=True, kw_only=True)
class MapCard:
    """A map and what stands around it."""

    anchor: str
    title: str
    unit: str
    description: str
    flags: tuple[str, ...]
    picture: Figure
    bar: str = ""
    beside: tuple[Figure, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """One series on the page."""

    anchor: str
    title: str
    run: str
    facts: tuple[tuple[str, str], ...]
    quality: tuple[tuple[str, str, str, str], ...]
    """Name, value, unit, description."""
    flags: tuple[str, ...]
    definitions: Markup
    cards: tuple[MapCard, ...]
    extra: tuple[Figure, ...] = field(default=())
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Shown:
    """A grid that is on the page, with its tissues."""

    grid: Grid
    masks: Masks
    limb: NDArray[np.bool_]
    closeups: Sequence[CloseUp]


def series_sections(
    found: Session,
    regions: Sequence[Placed],
    colours: Mapping[str, str],
    out_dir: Path,
) -> tuple[list[Section], list[str]]:
    """Return a section per series, and what could not be shown.

    All series show the same places: the slices are chosen on the first grid
    on which regions lie, and followed to the others by world coordinates.
    """
    limbs = [_limb(series) for series in found.series]
    masks = [
        tissue_masks(regions, limb.shape, volume.affine) if limb is not None else {}
        for limb, volume in limbs
    ]
    first = next((i for i, m in enumerate(masks) if m), None)
    if first is None:
        first = next((i for i, (limb, _) in enumerate(limbs) if limb is not None), None)
    points = None
    if first is not None:
        limb, volume = limbs[first]
        assert limb is not None
        chosen = views.choose(limb, list(masks[first].values()))
        points = views.anchors(chosen, limb, volume.affine)
    sections, broken = [], []
    for number, series in enumerate(found.series):
        limb, volume = limbs[number]
        shown = None
        if limb is not None and points is not None:
            slices = views.at_anchors(points, limb.shape, volume.affine) or views.choose(
                limb, list(masks[number].values())
            )
            view = views.view_of(limb, volume.affine, slices)
            name = f"outlines-{number}"
            drawn = figures.outlines(name, view, regions, limb.shape, volume.affine, colours)
            close = closeups_of(name, view, regions, limb.shape, volume.affine, colours)
            shown = _Shown(Grid(name, view, drawn), masks[number], limb, close)
        section, faults = _section(series, shown, colours, out_dir)
        sections.append(section)
        broken += faults
    return sections, broken


def _limb(series: Series) -> tuple[NDArray[np.bool_] | None, Volume]:
    """Return which voxels the series covers, from the first map that can be read.

    Images tell it only where there is no fit: they reach into the air.
    """
    for map_ in sorted(series.maps, key=lambda m: not m.spec.companions):
        volume = read_volume(map_.path)
        if volume.values is None:
            continue
        values = volume.values[..., 0] if volume.values.ndim > 3 else volume.values
        limb = np.isfinite(values)
        if not map_.spec.companions:
            bright = limb_mask(values)
            return bright if bright.any() else limb, volume
        status = read_volume(map_.status) if map_.status else Volume(None, np.eye(4))
        if status.values is not None and status.values.shape == limb.shape:
            limb = limb | (np.round(status.values) != Reason.OUTSIDE_MASK)
        return limb, volume
    return None, Volume(None, np.eye(4))


def _section(
    series: Series, shown: _Shown | None, colours: Mapping[str, str], out_dir: Path
) -> tuple[Section, list[str]]:
    cards: list[MapCard] = []
    faults: list[str] = []
    told: dict[bytes, str] = {}
    for map_ in series.maps:
        card = _card(map_, series, shown, colours, told)
        cards.append(card)
        faults += [f"{map_.path.relative_to(out_dir)}: {f.fault}"
                   for f in (card.picture, *card.beside) if f.fault]  # fmt: skip
    for lost in series.missing:
        fault = "the map is missing"
        cards.append(
            MapCard(
                anchor=f"{series.anchor}-{lost.name.split('.')[0]}",
                title=lost.title,
                unit="",
                description=lost.description,
                flags=(),
                picture=Figure(title=lost.title, fault=fault),
            )
        )
        faults.append(f"{lost.name}: {fault}")
    grid, extra = shown.grid if shown else None, []
    if series.modality == "dwi":
        extra = diffusion.figures_of(series, grid)
        profile = perfusion.table_of(series, "nerve_profile")
        extra += tracts.figures_of(series, grid, profile)
    if series.modality == "dce":
        extra = perfusion.figures_of(series)
    faults += [f"{figure_title}: {fault}" for figure_title, _, fault in extra if fault]
    classes = ", ".join(map(str, series.sidecar_values("SequenceClass")))
    sources = [str(s).rsplit("/", 1)[-1] for s in series.sidecar_values("Sources")]
    facts = [("Protocol", classes), ("Made from", ", ".join(together(sources)))]
    return Section(
        anchor=series.anchor,
        title=series.title,
        run=series.run,
        facts=tuple((name, value) for name, value in facts if value),
        quality=_quality(series),
        flags=series.flags,
        definitions=_definitions(shown) if shown else Markup(),
        cards=tuple(cards),
        extra=tuple(Figure(title=t, body=b, fault=f) for t, b, f in extra),
        options=_options(series),
    ), faults  # fmt: skip


def _definitions(shown: _Shown) -> Markup:
    return Markup().join([shown.grid.outlines, *(close.grid.outlines for close in shown.closeups)])


def _card(
    map_: MapFile,
    series: Series,
    shown: _Shown | None,
    colours: Mapping[str, str],
    told: dict[bytes, str],
) -> MapCard:
    spec = map_.spec
    title = series.title_of(spec, map_.method)
    unit = html.unit(spec.table_units or spec.units)
    anchor = f"{series.anchor}-{spec.key}{map_.method}"
    about = str(map_.sidecar.get("Description", spec.description))
    volume = read_volume(map_.path)
    fault = volume.fault
    if not fault and (shown is None or volume.values is None
                      or volume.values.shape[:3] != shown.limb.shape):  # fmt: skip
        fault = "it does not lie on the grid of its series"
    if fault:
        picture = Figure(title=title, fault=f"the map cannot be shown: {fault}")
        return MapCard(anchor=anchor, title=title, unit=unit, description=about,
                       flags=map_.flags, picture=picture)  # fmt: skip
    assert shown is not None and volume.values is not None
    if volume.values.ndim > 3:
        body, fault = _directions(series, volume.values, shown, title)
        return MapCard(anchor=anchor, title=title, unit="", description=about, flags=map_.flags,
                       picture=Figure(title=title, body=body, fault=fault))  # fmt: skip
    values = volume.values * spec.table_scale
    window = figures.window_of(spec, values)
    names = figures.colour_map(spec)
    alt = f"{title} in {len(shown.grid.view.slices)} slices, {unit}, window {window[0]:.3g} to " \
          f"{window[1]:.3g}, region outlines"  # fmt: skip
    body = figures.map_panel(values, shown.grid, window, names, alt)
    return MapCard(
        anchor=anchor, title=title, unit=unit, description=about, flags=map_.flags,
        picture=Figure(title=title, body=body), bar=figures.colour_bar(names, window, unit)
        + strip(shown.closeups, values, window, names, title),
        beside=tuple(_beside(map_, title, values, window, shown, colours, told)),
    )  # fmt: skip


def _beside(
    map_: MapFile,
    title: str,
    values: NDArray[np.floating],
    window: tuple[float, float],
    shown: _Shown,
    colours: Mapping[str, str],
    told: dict[bytes, str],
) -> list[Figure]:
    """Return standard errors, status and the distribution in each tissue."""
    spec, found = map_.spec, []
    unit = html.unit(spec.table_units or spec.units)
    if spec.companions:
        found += [_standard_error(map_, title, shown, unit)] if spec.has_se else []
        status = _read_companion(map_.status, shown)
        if status.values is None:
            found.append(Figure(title="Status", fault=f"the status map: {status.fault}"))
        else:
            same = told.setdefault(status.values.tobytes(), title)
            if same == title:
                body = figures.status_panel(status.values, shown.grid, f"Status of {title}")
                found.append(Figure(title="Status: where it was fitted, and why not", body=body))
            else:
                note = _quiet(f"The same as of {same}, voxel by voxel.")
                found.append(Figure(title="Status", body=note))
    if spec.summarise and shown.masks:
        samples = {tissue: values[mask] for tissue, mask in shown.masks.items()}
        label = f"{title} ({unit})" if unit else title
        if spec.display is None:
            window = _wide_enough(window, samples.values())
        body = charts.histogram(samples, window, label, colours, title=f"{title} per tissue")
        found.append(Figure(title="Distribution by tissue", body=body))
    return found


def _wide_enough(
    window: tuple[float, float], samples: Iterable[NDArray[np.floating]]
) -> tuple[float, float]:
    """Return a window that no tissue is cut off by; a small nerve can be the brightest."""
    tops = [float(np.nanpercentile(s, 99)) for s in samples if np.isfinite(s).any()]
    return window[0], max([window[1], *tops])


def _quiet(words: str) -> Markup:
    return Markup('<p class="quiet">{}</p>').format(words)


def _standard_error(map_: MapFile, of: str, shown: _Shown, unit: str) -> Figure:
    title = "Standard error"
    se = _read_companion(map_.se, shown)
    if se.values is None:
        if "no-se" in map_.flags and map_.se is None:
            return Figure(title=title, body=_quiet("None: see the flag no-se."))
        return Figure(title=title, fault=f"the standard-error map: {se.fault}")
    values = se.values * map_.spec.table_scale
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Figure(title=title, body=_quiet("No voxel has one."))
    window = (0.0, float(np.percentile(finite, 98)) or 1.0)
    alt = f"Standard error of {of}, {unit}, window 0 to {window[1]:.3g}"
    body = figures.map_panel(values, shown.grid, window, "cividis", alt, small=True)
    return Figure(title=title, body=body + figures.colour_bar("cividis", window, unit))


def _read_companion(path: Path | None, shown: _Shown) -> Volume:
    if path is None:
        return Volume(None, np.eye(4), "it is missing")
    volume = read_volume(path)
    if volume.values is not None and volume.values.shape != shown.limb.shape:
        return Volume(None, volume.affine, "it does not lie on the grid of its map")
    return volume


def _directions(
    series: Series, vectors: NDArray[np.floating], shown: _Shown, title: str
) -> tuple[Markup, str]:
    """Return the first direction as colour and, where there may be more, how many there are."""
    v1 = vectors[..., :3]
    fa_file = next((m for m in series.maps if m.spec.key == "fa"), None)
    fa = read_volume(fa_file.path) if fa_file else Volume(None, np.eye(4), "it is missing")
    if fa.values is None or fa.values.shape != v1.shape[:3] or vectors.shape[3] % 3:
        return Markup(), f"needs FA on the same grid ({fa.fault or 'shapes differ'})"
    alt = f"{title} times FA: red left-right, green front-back, blue head-foot"
    key = Markup(
        '<p class="quiet rgb"><b class="r">left–right</b> <b class="g">anterior–posterior</b> '
        '<b class="b">head–foot</b>, brightness: FA (full at 0.7)</p>'
    )
    body = figures.direction_panel(v1, fa.values, shown.grid, alt) + key
    return body + (_how_many(vectors, shown) if vectors.shape[3] > 3 else ""), ""


def _how_many(vectors: NDArray[np.floating], shown: _Shown) -> Markup:
    """Return how many directions each voxel has."""
    most = vectors.shape[3] // 3
    each = np.isfinite(vectors).reshape(*vectors.shape[:3], most, 3).all(axis=-1)
    count = each.sum(axis=-1).astype(float)
    found = int((count > 0).sum())
    crossing = 100 * (count > 1).sum() / max(found, 1)
    window, names = (1.0, float(most)), "viridis"
    said = f"{crossing:.1f} % of {found} voxels have more than one direction; above is the largest."
    picture = figures.map_panel(
        np.where(count > 0, count, np.nan), shown.grid, window, names,
        f"Number of directions: {said}", small=True,
    )  # fmt: skip
    return picture + figures.colour_bar(names, window, "directions") + _quiet(said)


def _quality(series: Series) -> tuple[tuple[str, str, str, str], ...]:
    """Return each measure once; where maps of the series differ, with the map's name."""
    found: dict[str, tuple[str, str, str, str]] = {}
    for map_ in series.maps:
        record = map_.sidecar.get("Quality")
        for name, value in record.items() if isinstance(record, Mapping) else ():
            unit, about = quality_of(name)
            said = name.replace("_", " ")
            tile = (said, html.number(html.whole(value, unit)), html.unit(unit), about)
            if found.setdefault(name, tile)[1] != tile[1]:
                found[f"{name} {map_.spec.key}"] = (f"{said}, {map_.spec.title}", *tile[1:])
    return tuple(found.values())


def _options(series: Series) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for record in series.sidecar_values("Options"):
        if isinstance(record, Mapping):
            found |= {str(k): str(v) for k, v in record.items()}
    return tuple(found.items())
