"""The tables of one session, read from its derivatives alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from numpy.typing import NDArray

from mrn_prep import __version__
from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.io.dataset import BidsFile, Dataset
from mrn_prep.io.images import array, load
from mrn_prep.io.tables import frame, write_table
from mrn_prep.measure.flags import join
from mrn_prep.measure.regions import Membership, memberships, probability_membership
from mrn_prep.measure.statistics import region_statistics
from mrn_prep.outputs import QUALITY, MapSpec, find_map

# Entities that say which map of a series it is, not which series.
_MAP_ENTITIES = frozenset(
    {"subject", "session", "suffix", "datatype", "extension", "model", "param", "desc"}
)
_SHORT = {"acquisition": "acq", "ceagent": "ce", "reconstruction": "rec", "direction": "dir"}


@dataclass(frozen=True)
class DerivedMap:
    """A value map in the output folder, with its companions and sidecar."""

    dataset: Dataset
    file: BidsFile
    spec: MapSpec

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Its sidecar."""
        return self.dataset.metadata(self.file).values

    @property
    def run(self) -> str:
        """The entities that tell this series from others, or ``n/a``."""
        return run_name(self.file.entities)

    def companion(self, name: str) -> Path:
        """Path of its standard-error (``se``) or status map."""
        suffix = f"_{self.spec.suffix}.nii.gz"
        stem = self.file.path.removesuffix(suffix)
        return self.dataset.root / f"{stem}_desc-{name}{suffix}"


def run_name(entities: Mapping[str, str]) -> str:
    """Return the entities that tell series of one kind apart.

    >>> run_name({"subject": "01", "acquisition": "fast", "run": "2", "suffix": "T1map"})
    'acq-fast_run-2'
    >>> run_name({"subject": "01"})
    'n/a'
    """
    kept = (f"{_SHORT.get(k, k)}-{v}" for k, v in entities.items() if k not in _MAP_ENTITIES)
    return "_".join(kept) or "n/a"


def find_maps(out_dir: str | Path, subject: str, session: str | None) -> list[DerivedMap]:
    """Find the value maps of one session in the output folder, in the table's order."""
    dataset = Dataset(Path(out_dir), "mrn_prep")
    found = []
    for file in dataset.files(subject, session):
        spec = find_map(file.entities) if file.is_image else None
        if spec is not None:
            found.append(DerivedMap(dataset, file, spec))
    return found


def measure_session(
    out_dir: str | Path,
    subject: str,
    session: str | None,
    site: str,
    regions: Sequence[RegionFile],
    min_fraction: float = 0.5,
) -> tuple[Path, Path]:
    """Write the ROI table and the quality table of one session; return their paths."""
    maps = find_maps(out_dir, subject, session)
    who = {
        "participant_id": f"sub-{subject}",
        "session_id": f"ses-{session}" if session else "n/a",
        "site": site,
        "version": __version__,
    }
    rois = [who | row for row in _roi_rows(maps, regions, min_fraction)]
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
    maps: Sequence[DerivedMap], regions: Sequence[RegionFile], min_fraction: float
) -> Iterator[dict[str, object]]:
    on_grid: dict[tuple[object, ...], list[tuple[Region, Membership]]] = {}
    for derived in maps:
        if not derived.spec.summarise:
            continue
        image = load(derived.file.full)
        key = (image.shape[:3], image.affine.round(4).tobytes())
        if key not in on_grid:
            on_grid[key] = [item for file in regions for item in _members(file, image)]
        values = array(image)
        se_path = derived.companion("se")
        se = array(load(se_path)) if se_path.exists() else None
        for region, member in on_grid[key]:
            yield _roi_row(derived, region, member, values, se, min_fraction)


def _roi_row(
    derived: DerivedMap,
    region: Region,
    member: Membership,
    values: NDArray[np.float32],
    se: NDArray[np.float32] | None,
    min_fraction: float,
) -> dict[str, object]:
    spec, meta = derived.spec, derived.metadata
    stats = region_statistics(values, se, member, spec, min_fraction)
    scaled = {
        name: getattr(stats, name) * spec.table_scale
        for name in ("mean", "sd", "median", "p05", "p95", "se")
    }
    return {
        "run": derived.run,
        "sequence_class": meta.get("SequenceClass", "n/a"),
        "region": region.name,
        "tissue": region.tissue,
        "side": region.side,
        "level": region.level,
        "metric": spec.metric,
        "unit": spec.table_units,
        **scaled,
        "n_vox": stats.n_vox,
        "n_vox_pure": stats.n_vox_pure,
        "n_fitted": stats.n_fitted,
        "reference": region.reference,
        "method": meta.get("EstimationMethod", "n/a"),
        "flags": join(stats.flags | set(meta.get("ValidityFlags", []))),
    }


def _members(file: RegionFile, image: nb.Nifti1Image) -> list[tuple[Region, Membership]]:
    mask = load(file.file)
    shape = image.shape[:3]
    if file.kind == "probseg":
        (region,) = file.regions
        return [(region, probability_membership(array(mask), mask.affine, shape, image.affine))]
    # Label images written as floats are common; labels are whole numbers all the same.
    labels = np.rint(np.asarray(mask.dataobj)).astype(np.int32)
    found = memberships(labels, mask.affine, [r.index for r in file.regions], shape, image.affine)
    return [(region, found[region.index]) for region in file.regions]


def _quality_rows(maps: Sequence[DerivedMap]) -> Iterator[dict[str, object]]:
    for derived in maps:
        for name, value in derived.metadata.get("Quality", {}).items():
            unit, description = QUALITY.get(name, ("n/a", "n/a"))
            yield {
                "run": derived.run,
                "sequence_class": derived.metadata.get("SequenceClass", "n/a"),
                "modality": derived.spec.modality,
                "metric": name,
                "value": float("nan") if value is None else value,
                "unit": unit,
                "description": description,
            }
