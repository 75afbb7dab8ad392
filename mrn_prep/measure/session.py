"""The tables of one session, read from its derivatives alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mrn_prep import __version__
from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.io.images import array, load
from mrn_prep.io.tables import frame, write_table
from mrn_prep.measure.flags import join
from mrn_prep.measure.maps import DerivedMap, find_maps
from mrn_prep.measure.placement import Placement
from mrn_prep.measure.references import FROM_TABLE, METHOD, METRIC, relative_signals
from mrn_prep.measure.statistics import RegionStatistics, region_statistics
from mrn_prep.quality import quality_of

MAX_FAT_PERCENT = 10.0


def measure_session(
    out_dir: str | Path,
    subject: str,
    session: str | None,
    site: str,
    regions: Sequence[RegionFile],
    min_fraction: float = 0.5,
    reference: str = FROM_TABLE,
) -> tuple[Path, Path]:
    """Write the ROI table and the quality table of one session; return their paths.

    Parameters
    ----------
    out_dir
        Derivative data set.
    subject, session
        Labels without prefix.
    site
        Site of the participant.
    regions
        Where to measure.
    min_fraction
        Smallest part of a voxel that must lie in a region.
    reference
        What signal ratios are relative to: ``table`` (the column `reference` of the label
        table), a region's name, a tissue, or ``contralateral``.
    """
    maps = find_maps(out_dir, subject, session)
    placement = Placement(regions)
    who = {
        "participant_id": f"sub-{subject}",
        "session_id": f"ses-{session}" if session else "n/a",
        "site": site,
        "version": __version__,
    }
    rois = [
        who | row
        for row in (
            *_roi_rows(maps, placement, min_fraction),
            *_ratio_rows(maps, placement, reference, min_fraction),
        )
    ]
    quality = [who | row for row in _quality_rows(maps)]
    stem = f"sub-{subject}" + (f"_ses-{session}" if session else "")
    folder = Path(out_dir) / f"sub-{subject}" / (f"ses-{session}" if session else "")
    return (
        _write(rois, folder / f"{stem}_desc-roi_measurements.tsv", "roi_measurements"),
        _write(quality, folder / f"{stem}_desc-quality.tsv", "quality"),
    )


def _write(rows: Sequence[Mapping[str, object]], path: Path, name: str) -> Path:
    return write_table(frame(rows, name), path, name)


def _roi_rows(
    maps: Sequence[DerivedMap], placement: Placement, min_fraction: float
) -> Iterator[dict[str, object]]:
    fatty = _fatty(maps, placement, min_fraction)
    for derived in maps:
        spec = derived.spec
        if not spec.summarise:
            continue
        image = load(derived.file.full)
        values, se, status = array(image), derived.companion("se"), derived.companion("status")
        for number, placed in enumerate(placement.on(image)):
            stats = region_statistics(values, se, placed.member, spec, min_fraction, status)
            flags = stats.flags | ({"fat"} if spec.fat_sensitive and number in fatty else set())
            yield {
                **_described(derived, placed.region, stats, spec.table_scale),
                "metric": spec.metric,
                "unit": spec.table_units,
                "reference": "n/a",
                "method": derived.metadata.get("EstimationMethod", "n/a"),
                "flags": join(flags | derived.flags),
            }


def _fatty(maps: Sequence[DerivedMap], placement: Placement, min_fraction: float) -> frozenset[int]:
    """Return the numbers of regions with fat in them, by the first fat fraction that tells.

    Where fat is the tissue that is meant, nothing is biased by it.
    """
    percent: dict[int, float] = {}
    # the default method goes before others
    for derived in sorted((m for m in maps if m.spec.key == "pdff"), key=lambda m: m.method):
        image = load(derived.file.full)
        values = array(image)
        for number, placed in enumerate(placement.on(image)):
            if number in percent or placed.region.tissue == "fat":
                continue
            stats = region_statistics(values, None, placed.member, derived.spec, min_fraction)
            if stats.n_fitted:
                percent[number] = stats.median
    return frozenset(number for number, fat in percent.items() if fat > MAX_FAT_PERCENT)


def _ratio_rows(
    maps: Sequence[DerivedMap], placement: Placement, reference: str, min_fraction: float
) -> Iterator[dict[str, object]]:
    for derived in maps:
        if derived.spec.key != "t2w":
            continue
        image = load(derived.file.full)
        values = array(image).reshape(image.shape[:3])
        for found in relative_signals(
            values, image.affine, derived.spec, placement.on(image), reference, min_fraction
        ):
            yield {
                **_described(derived, found.region, found.statistics, 1.0),
                "metric": METRIC,
                "unit": "1",
                "se": found.se,
                "reference": found.reference,
                "reference_n": found.n_reference,
                "reference_mean": found.reference_mean,
                "reference_sd": found.reference_sd,
                "method": METHOD,
                "flags": join(found.flags | derived.flags),
            }


def _described(
    derived: DerivedMap, region: Region, stats: RegionStatistics, scale: float
) -> dict[str, object]:
    """Return what all rows of the ROI table say."""
    numbers = ("mean", "sd", "median", "p05", "p95", "se")
    return {
        "run": derived.run,
        "sequence_class": derived.sequence_class,
        "region": region.name,
        "tissue": region.tissue,
        "side": region.side,
        "level": region.level,
        **{name: getattr(stats, name) * scale for name in numbers},
        "n_vox": stats.n_vox,
        "n_vox_pure": stats.n_vox_pure,
        "n_fitted": stats.n_fitted,
    }


def _quality_rows(maps: Sequence[DerivedMap]) -> Iterator[dict[str, object]]:
    told: list[dict[str, object]] = []
    for derived in maps:
        for name, value in derived.metadata.get("Quality", {}).items():
            unit, description = quality_of(name)
            row = {
                "run": derived.run,
                "sequence_class": derived.sequence_class,
                "modality": derived.modality,
                "metric": name,
                "value": None if value is None else value,
                "unit": unit,
                "description": description,
            }
            if row not in told:  # several maps may carry the numbers of their series
                told.append(row)
                yield row
