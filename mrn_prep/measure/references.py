"""Signal of a region relative to that of another (nT2), from weighted images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.inputs.rois import Region
from mrn_prep.measure.placement import Placed
from mrn_prep.measure.regions import Membership, slice_axis
from mrn_prep.measure.statistics import RegionStatistics, region_statistics
from mrn_prep.models.ratio import SignalRatio, signal_ratio
from mrn_prep.models.status import Reason
from mrn_prep.outputs import MapSpec

METRIC = "nT2"
METHOD = "Mean signal over that of the reference, slice by slice."
FROM_TABLE, CONTRALATERAL, UNKNOWN = "table", "contralateral", "n/a"


@dataclass(frozen=True)
class RelativeSignal:
    """The signal of one region relative to its reference.

    `reference_mean` and `reference_sd` (within slices, pooled) are in the unit of the image;
    they and `n_reference` are of the slices that were used.
    """

    region: Region
    reference: str
    statistics: RegionStatistics
    se: float
    n_reference: int
    reference_mean: float
    reference_sd: float
    flags: frozenset[str]


def relative_signals(
    image: NDArray[np.floating],
    affine: NDArray[np.floating],
    spec: MapSpec,
    placed: Sequence[Placed],
    wanted: str,
    min_fraction: float,
) -> Iterator[RelativeSignal]:
    """Yield each region's signal relative to its reference.

    Parameters
    ----------
    image : array, shape (x, y, z)
        Any signal.
    affine : array, shape (4, 4)
        Its voxel to world (mm), which tells the slices.
    spec
        Its row of the outputs table.
    placed
        All regions on its grid.
    wanted
        ``table`` for the references that the label table names; else the reference of all
        regions, as `reference_of` understands it.
    min_fraction
        Smallest part of a voxel that must lie in a region.

    Notes
    -----
    A nerve, and a region whose reference the table names, are there without a value when
    there is no reference: that is told, not hidden. Other regions are left out then.
    """
    regions = [item.region for item in placed]
    axis = slice_axis(affine)
    for number, item in enumerate(placed):
        region = item.region
        asked = region.reference if wanted == FROM_TABLE else wanted
        if wanted == region.name:
            continue  # it is the reference
        name, numbers = reference_of(number, regions, asked)
        named = wanted == FROM_TABLE and asked != UNKNOWN
        if not numbers and not named and region.tissue != "nerve":
            continue
        target = _voxels(item.member, image.shape, min_fraction)
        reference = np.zeros(image.shape, np.bool_)
        for other in numbers:
            reference |= _voxels(placed[other].member, image.shape, min_fraction)
        found = signal_ratio(image, target, reference & ~target, axis)
        yield _relative(image, item, spec, name, found, axis, min_fraction)


def reference_of(number: int, regions: Sequence[Region], asked: str) -> tuple[str, list[int]]:
    """Return the name of a region's reference and the regions that it is made of.

    Parameters
    ----------
    number
        The region's place in `regions`.
    regions
        All regions.
    asked
        A region's name, a tissue, or ``contralateral`` (the same name on the other side).
        Regions on the region's own side go before others.

    >>> two = [Region(index=1, name="sciatic", side="L"), Region(index=2, name="sciatic", side="R")]
    >>> reference_of(0, two, "contralateral")
    ('sciatic R', [1])
    """
    own = regions[number]
    others = [i for i in range(len(regions)) if i != number]
    if asked == UNKNOWN:
        return UNKNOWN, []
    if asked == CONTRALATERAL:
        found = [
            i for i in others
            if regions[i].name == own.name and UNKNOWN not in (own.side, regions[i].side)
            and regions[i].side != own.side
        ]  # fmt: skip
        return (f"{own.name} {regions[found[0]].side}" if found else CONTRALATERAL), found
    found = [i for i in others if regions[i].name == asked]
    found = found or [i for i in others if regions[i].tissue == asked]
    same = [i for i in found if regions[i].side == own.side]
    sides = {regions[i].side for i in found} - {UNKNOWN}
    elsewhere = not same and own.side != UNKNOWN and len(sides) == 1
    return (f"{asked} {sides.pop()}" if elsewhere else asked), same or found


def _voxels(member: Membership, shape: tuple[int, ...], min_fraction: float) -> NDArray[np.bool_]:
    inside = np.zeros(shape, np.bool_)
    inside[member.box] = member.fraction >= min_fraction
    return inside


def _relative(
    image: NDArray[np.floating],
    item: Placed,
    spec: MapSpec,
    name: str,
    found: SignalRatio,
    axis: int,
    min_fraction: float,
) -> RelativeSignal:
    used = found.status == Reason.FITTED
    mean = np.where(used, found.reference_mean, np.nan)
    across = np.expand_dims(mean, [other for other in range(3) if other != axis])
    statistics = region_statistics(image / across, None, item.member, spec, min_fraction)
    flags = set(statistics.flags)
    if not used.any() and found.n_target.any():
        flags = flags - {"not-fitted"} | {"no-reference"}
    n, spread = found.n_reference[used], found.reference_sd[used]
    freedom, total = int((n - 1).sum()), int(n.sum())
    known = bool(used.any())
    return RelativeSignal(
        region=item.region,
        reference=name,
        statistics=statistics,
        se=found.ratio_se,
        n_reference=total,
        reference_mean=float(n @ mean[used] / total) if known else float("nan"),
        reference_sd=float(np.sqrt((n - 1) @ spread**2 / freedom)) if known else float("nan"),
        flags=frozenset(flags),
    )
