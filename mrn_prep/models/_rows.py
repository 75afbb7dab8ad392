"""From a diffusion series to rows of voxels for a compiled fit, and back to maps."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.retained import NoiseRows, RetainedNoise, untouched
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]
Status = NDArray[np.uint8]

_CHUNK = 8192  # rows at a time, so that copies in double precision stay small


Fit = Callable[[Float, NoiseRows], tuple[Float, Status]]
"""Of rows (m, n) and their noise: maps (m, n_maps), NaN where not fitted, and reasons (m,)."""


def fit_masked(
    fit: Fit,
    n_maps: int,
    signal: ArrayLike,
    b_s_mm2: Float,
    mask: ArrayLike | None,
    sigma: ArrayLike | None,
    noise: RetainedNoise | None,
    n_threads: int,
) -> tuple[Float, Status]:
    """Fit the voxels of the mask; maps (n_maps, ...) and status (...).

    Raises ValueError if shapes disagree, b-values are not numbers of 0 or more, or `noise`
    comes without `sigma`.
    """
    series = np.asarray(signal)
    grid = series.shape[:-1]
    inside = np.ones(grid, bool) if mask is None else np.asarray(mask, bool)
    n = series.shape[-1] if series.ndim else 0
    if b_s_mm2.shape != (n,) or inside.shape != grid:
        raise ValueError(
            f"signal {series.shape}, b_s_mm2 {b_s_mm2.shape} and mask {inside.shape} must be "
            "(..., n), (n,) and (...)."
        )
    if not (np.isfinite(b_s_mm2) & (b_s_mm2 >= 0)).all():
        raise ValueError(f"b-values must be 0 or more (s/mm²), got {b_s_mm2.tolist()}.")
    if noise is not None and sigma is None:
        raise ValueError("The noise left by denoising is known relative to sigma: give both.")
    level = np.asarray(np.nan if sigma is None else sigma, np.float64)
    if level.ndim and level.shape != grid:
        raise ValueError(f"sigma {level.shape} must be a number or have the shape {grid}.")
    noise = untouched(np.ones(grid), n) if noise is None else noise
    where = np.flatnonzero(inside)
    rows = series.reshape(-1, n)
    maps = np.full((n_maps, inside.size), np.nan)
    status = np.full(inside.size, Reason.OUTSIDE_MASK, np.uint8)

    def work(first: int) -> None:
        part = where[first : first + _CHUNK]
        block = np.ascontiguousarray(rows[part], np.float64)
        found, status[part] = fit(block, noise.rows(level, part))
        maps[:, part] = found.T

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(work, range(0, where.size, _CHUNK)))
    return maps.reshape(n_maps, *grid), status.reshape(grid)
