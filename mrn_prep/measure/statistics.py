"""Statistics of a map in a region, with the flags that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.measure.regions import Membership
from mrn_prep.models.status import Reason
from mrn_prep.outputs import MapSpec

Float = NDArray[np.floating]

MIN_PURE = 0.5
MIN_FITTED = 0.9
MIN_INSIDE = 0.95
MAX_RELATIVE_SE = 0.2
MAX_NOT_IDENTIFIABLE = 0.1


@dataclass(frozen=True)
class RegionStatistics:
    """Numbers of one map in one region, in the unit of the map."""

    mean: float
    sd: float
    median: float
    p05: float
    p95: float
    se: float
    n_vox: int
    n_vox_pure: int
    n_fitted: int
    flags: frozenset[str]


def region_statistics(
    values: Float,
    se: Float | None,
    region: Membership,
    spec: MapSpec,
    min_fraction: float = 0.5,
    status: NDArray[np.generic] | None = None,
) -> RegionStatistics:
    """Return the statistics of a map over the fitted voxels of a region.

    Parameters
    ----------
    values, se, status : array, shape (x, y, z)
        The map (NaN where not fitted), its standard errors and its status codes.
    region
        Where the region is on the map's grid.
    spec
        The map's row of the outputs table (for the range expected in tissue).
    min_fraction
        Smallest part of a voxel that must lie in the region.
    """
    values = values[region.box]
    chosen = region.fraction >= min_fraction
    fitted = chosen & np.isfinite(values)
    n_vox, n_pure, n_fitted = (int(m.sum()) for m in (chosen, chosen & region.pure, fitted))
    found = values[fitted].astype(np.float64)
    errors = se[region.box][fitted].astype(np.float64) if se is not None else np.array([])
    flags = set()
    if region.inside_image < MIN_INSIDE:
        flags.add("outside-image")
    if status is not None:
        unknown = chosen & (status[region.box] == Reason.NOT_IDENTIFIABLE)
        if unknown.sum() > MAX_NOT_IDENTIFIABLE * n_vox:
            flags.add("not-identifiable")
    if n_fitted == 0:
        nan = float("nan")
        flags.add("not-fitted")
        return RegionStatistics(nan, nan, nan, nan, nan, nan, n_vox, n_pure, 0, frozenset(flags))
    median = float(np.median(found))
    if n_pure < MIN_PURE * n_vox:
        flags.add("partial-volume")
    if n_fitted < MIN_FITTED * n_vox:
        flags.add("partly-fitted")
    if spec.physical and not spec.physical[0] <= median <= spec.physical[1]:
        flags.add("out-of-range")
    known = np.isfinite(errors)
    if known.any() and np.median(errors[known]) > MAX_RELATIVE_SE * _scale(median, spec):
        flags.add("low-snr")
    mean_se = float("nan")
    if known.all() and errors.size:
        mean_se = float(np.sqrt((errors**2).sum()) / errors.size)
    p05, p95 = np.percentile(found, [5, 95])
    return RegionStatistics(
        mean=float(found.mean()),
        sd=float(found.std(ddof=1)) if n_fitted > 1 else float("nan"),
        median=median,
        p05=float(p05),
        p95=float(p95),
        se=mean_se,
        n_vox=n_vox,
        n_vox_pure=n_pure,
        n_fitted=n_fitted,
        flags=frozenset(flags),
    )


def _scale(median: float, spec: MapSpec) -> float:
    """Return what a standard error is compared with.

    Noise relative to a fat fraction of nothing would be endless however good the data, so
    what can be zero (its range in tissue reaches below) counts as the middle of its display.
    """
    if spec.physical and spec.display and spec.physical[0] < 0:
        return max(abs(median), sum(spec.display) / 2)
    return abs(median)
