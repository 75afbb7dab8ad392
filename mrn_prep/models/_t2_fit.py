"""From volumes to the rows of `mrn_prep.models._t2_kernel` and back, for every kind of T2 fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._t2_kernel import T2_MAX_S, T2_MIN_S, fit_rows, rician_table
from mrn_prep.models._t2_start import (
    EXPONENTIAL,
    PROFILE,
    UNIFORM,
    Bounds,
    Grid,
    Train,
    make_grid,
)
from mrn_prep.models.epg import SliceProfile
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]

B1_MIN, B1_MAX = 0.4, 1.3
"""Range in which B1 is sought; an answer outside is out of range."""
_N_T2, _N_B1 = 48, 19
_CHUNK = 16384  # rows at a time, so that copies in double precision stay small


class Estimates(NamedTuple):
    """What a fit gives, per voxel; NaN where not fitted, standard errors too where unknown."""

    t2_s: Float
    t2_se_s: Float
    m0: Float
    m0_se: Float
    b1: Float
    b1_se: Float
    fraction: Float
    fraction_se: Float
    status: NDArray[np.uint8]


def exponential(te_s: ArrayLike) -> Train:
    """Describe a decay without refocusing pulses."""
    one = np.ones(1)
    return Train(EXPONENTIAL, np.asarray(te_s, np.float64), 1.0, 0, one, one, 1.0, 1.0)


def echo_train(
    spacing_s: float,
    first_echo: int,
    refocusing_rad: float,
    excitation_rad: float,
    profile: SliceProfile | None,
    b1_known: bool,
    fat_t1_s: float = 1.0,
    fat_t2_s: float = 1.0,
) -> Train:
    """Describe a train; raise ValueError where it cannot be one."""
    if not (spacing_s > 0 and first_echo >= 1):
        raise ValueError(
            "The echo spacing must be positive (s) and echoes are counted from 1, got "
            f"{spacing_s} and {first_echo}."
        )
    if not (0 < refocusing_rad <= np.pi and 0 < excitation_rad <= np.pi):
        raise ValueError(
            f"Angles must lie between 0 and pi rad, got {refocusing_rad} and {excitation_rad}."
        )
    kind = UNIFORM if profile is None and not b1_known else PROFILE
    profile = profile or SliceProfile(np.ones(1), np.ones(1))
    return Train(
        kind,
        np.zeros(1),
        float(spacing_s),
        int(first_echo) - 1,
        excitation_rad * profile.excitation,
        refocusing_rad * profile.refocusing,
        float(fat_t1_s),
        float(fat_t2_s),
    )


def fit_volume(
    signal: ArrayLike,
    shared: Train,
    *,
    t1_s: ArrayLike = 1.0,
    b1: ArrayLike | None = None,
    b1_se: ArrayLike | None = None,
    fraction: ArrayLike = 0.0,
    fraction_se: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    rician: bool = True,
    n_threads: int = 1,
) -> Estimates:
    """Fit all voxels of the mask; NaN in `fraction` means that it is fitted."""
    signal = np.asarray(signal)
    shape = signal.shape[:-1]
    n_unknowns = 2 + (b1 is None and shared.kind != EXPONENTIAL) + bool(np.isnan(fraction).any())
    if signal.ndim < 1 or signal.shape[-1] < n_unknowns:
        raise ValueError(
            f"signal {signal.shape} must be (..., n_echoes), and {n_unknowns} unknowns need as "
            "many echoes."
        )
    inside = per_voxel(True if mask is None else mask, shape, "mask").astype(np.bool_).reshape(-1)
    given = [
        per_voxel(default if values is None else values, shape, name).reshape(-1)
        for values, default, name in (
            (t1_s, 1.0, "t1_s"),
            (b1, np.nan, "b1"),
            (b1_se, 0.0, "b1_se"),
            (fraction, 0.0, "fat_fraction"),
            (fraction_se, 0.0, "fat_fraction_se"),
            (sigma, np.nan, "sigma"),
        )
    ]
    status = np.full(inside.size, Reason.OUTSIDE_MASK, dtype=np.uint8)
    if b1 is not None:
        unknown = inside & ~(np.isfinite(given[1]) & (given[1] > 0))
        status[unknown] = Reason.NO_B1
        inside &= ~unknown
    if shared.kind == EXPONENTIAL:
        given[1] = np.ones(inside.size)
    rows = np.flatnonzero(inside)
    if np.ndim(t1_s) == 0 and not np.asarray(t1_s) > 0:
        raise ValueError(f"T1 must be positive (s), got {t1_s!r}.")
    given[0] = np.where(given[0] > 0, given[0], np.nan)
    known_t1 = given[0][rows][np.isfinite(given[0][rows])]
    typical = float(np.median(known_t1)) if known_t1.size else 1.0
    grid, bounds = _grid(shared, typical, signal.shape[-1])
    flat, table = signal.reshape(-1, signal.shape[-1]), rician_table()
    maps = np.full((8, inside.size), np.nan)

    def fit(first: int) -> None:
        part = rows[first : first + _CHUNK]
        block = np.ascontiguousarray(flat[part], dtype=np.float64)
        columns = [np.ascontiguousarray(values[part]) for values in given]
        arguments = (block, *columns, bool(rician), shared, grid, bounds, table)
        x, cov, status[part] = fit_rows(*arguments)
        maps[:, part] = _maps(x, cov, shared)

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(fit, range(0, rows.size, _CHUNK)))
    maps = maps.reshape(8, *shape)
    return Estimates(*[*(maps[i, ...] for i in range(8)), status.reshape(shape)])


def _grid(shared: Train, t1_s: float, n: int) -> tuple[Grid, Bounds]:
    """Trains to start from, and the range of q."""
    b1 = np.linspace(B1_MIN, B1_MAX, _N_B1)
    bounds = Bounds(0.5 * B1_MIN, 1.25 * B1_MAX, B1_MIN, B1_MAX)
    q = b1
    if shared.kind == EXPONENTIAL:
        q = np.ones(1)
    elif shared.kind == UNIFORM:
        refocusing = float(shared.refocusing[0])
        q = np.cos(0.5 * refocusing * b1[b1 * refocusing <= np.pi + 1e-9]) ** 2
        low = -np.inf if B1_MAX * refocusing >= np.pi else float(q[-1])
        bounds = Bounds(-0.5, 0.95, low, float(q[0]))
    ln_t2 = np.linspace(np.log(T2_MIN_S), np.log(T2_MAX_S), _N_T2)
    return Grid(q, ln_t2, *make_grid(shared, t1_s, q, ln_t2, n)), bounds


def _maps(x: Float, cov: Float, shared: Train) -> Float:
    """Rows of `Estimates` from the kernel's parameters."""
    t2, q, amplitude, fraction = np.exp(x[:, 0]), x[:, 1], x[:, 2], x[:, 3]
    se = np.sqrt(np.diagonal(cov, axis1=1, axis2=2)).T
    if shared.kind != UNIFORM:
        return np.stack([t2, t2 * se[0], amplitude, se[2], q, se[1], fraction, se[3]])
    # q is u = cos²(α/2). Its square root has no derivative at 180°, hence the differences
    refocusing, excitation = float(shared.refocusing[0]), float(shared.excitation[0])

    def b1_of(u: Float) -> Float:
        b1: Float = 2.0 * np.arccos(np.sqrt(np.clip(u, 0.0, 1.0))) / refocusing
        return b1

    def log_excited(u: Float) -> Float:
        if np.isclose(refocusing, 2.0 * excitation):
            return 0.5 * np.log(1.0 - np.minimum(u, 0.999))  # holds for u < 0 too
        logarithm: Float = np.log(np.sin(excitation * b1_of(u)))
        return logarithm

    step = np.fmax(np.minimum(se[1], 0.5 * np.abs(1.0 - q)), 1e-5)
    slope = (log_excited(q + step) - log_excited(q - step)) / (2.0 * step)
    m0 = amplitude * np.exp(-log_excited(q))
    relative = cov[:, 2, 2] / amplitude**2 - 2.0 * slope * cov[:, 1, 2] / amplitude
    m0_se = m0 * np.sqrt(np.maximum(relative + slope**2 * cov[:, 1, 1], 0.0))
    q_seen = np.maximum(q, 0.0)
    b1_se = np.maximum(b1_of(q) - b1_of(q_seen + se[1]), b1_of(q_seen - se[1]) - b1_of(q))
    return np.stack([t2, t2 * se[0], m0, m0_se, b1_of(q), b1_se, fraction, se[3]])


def per_voxel(values: ArrayLike, shape: tuple[int, ...], name: str) -> Float:
    """Spread a number or a map over the voxels; raise ValueError if it is another shape."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim and values.shape != shape:
        raise ValueError(f"{name} {values.shape} must have the signal's shape {shape}.")
    return np.broadcast_to(values, shape)
