"""From volumes to the rows of `mrn_prep.models._dce_kernel` and back, for every tissue model."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._dce_kernel import (
    FREE,
    INTEGRAL,
    N_X,
    NONE,
    PLASMA,
    Library,
    Problem,
    fit_rows,
)
from mrn_prep.models.dce_convolution import (
    check_input,
    check_times,
    convolve_exponential,
    delayed,
    refine_input,
)
from mrn_prep.models.dce_results import SharedError
from mrn_prep.models.status import MIN_RESIDUAL_DOF, Reason

Float = NDArray[np.float64]
Delay = float | Literal["fit"] | None
Between = Literal["lines", "spline"]

BEYOND_LIMIT_SE = 2.0
"""A value may pass its limit by this many standard errors.

Cutting at the limit itself would drop one half of the noise, and bias what is left.
"""
MAX_RELATIVE_SE = 1.0
"""A value whose standard error is as large as itself is not identifiable."""

_LIMIT_TOLERANCE = 1e-6
_RATE_MIN_DURATIONS = -2.0  # rate times duration; noise may turn a slow return into growth
_SLOWEST_START = 0.1  # rate times duration
_DELAY_STEP_S = 1.0
_CHUNK_VALUES = 2**20  # concentrations at a time, so that copies stay small


class Quantity(NamedTuple):
    """A parameter that is reported."""

    name: str
    low: float
    high: float
    weak: bool = False
    """Whether it may stay open where the others are determined."""
    must: bool = False
    """Whether nothing is determined where it is not."""


class TissueModel(NamedTuple):
    """Two components of the kernel, and what is made of their amplitudes and rates."""

    first: int
    second: int
    rate_max: float
    n_start: int
    quantities: tuple[Quantity, ...]
    derive: Callable[[NDArray[np.complex128]], tuple[NDArray[np.complex128], ...]]
    """Quantities of x = (a1, a2, k1, k2, d), shape (5, n); an algebraic function."""


class Estimates(NamedTuple):
    """Maps of a fit."""

    values: dict[str, Float]
    """Each quantity, with its standard error as ``name_se``, in the units of the kernel."""
    delay_s: Float
    delay_se_s: Float
    residual_ss: Float
    status: NDArray[np.uint8]
    weak_status: NDArray[np.uint8]
    """Status of the weak quantities."""
    n_frames: int
    n_parameters: int


class _Plan(NamedTuple):
    model: TissueModel
    problem: Problem
    library: Library
    free: NDArray[np.int64]
    delay_s: float


def fit_volume(
    concentration: ArrayLike,
    aif: ArrayLike,
    t_s: ArrayLike,
    model: TissueModel,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    delay: Delay = None,
    delay_range_s: tuple[float, float] = (-3.0, 12.0),
    aif_t_s: ArrayLike | None = None,
    aif_between: Between | None = None,
    shared_error: SharedError | None = None,
    n_threads: int = 1,
) -> Estimates:
    """Fit all voxels of the mask; what `mrn_prep.models.dce_models` documents."""
    concentration = np.asarray(concentration)
    plan = _plan(aif, t_s, aif_t_s, aif_between, model, delay, delay_range_s)
    shape, n = concentration.shape[:-1], plan.problem.t.size
    n_parameters = _n_amplitudes(model) + plan.free.size
    if concentration.ndim < 1 or concentration.shape[-1] != n or n <= n_parameters:
        raise ValueError(
            f"concentration {concentration.shape} must be (..., {n}), as there are {n} times, and "
            f"{n_parameters} unknowns need more frames."
        )
    inside = _per_voxel(True if mask is None else mask, shape, "mask").astype(np.bool_).reshape(-1)
    shared = shared_error or SharedError()
    given = [
        _per_voxel(values, shape, name).reshape(-1)
        for values, name in (
            (np.nan if sigma is None else sigma, "sigma"),
            (shared.offset_mm, "shared_error.offset_mm"),
            (shared.offset_gain, "shared_error.offset_gain"),
            (shared.gain, "shared_error.gain"),
        )
    ]
    rows = np.flatnonzero(inside)
    names = [quantity.name for quantity in model.quantities]
    maps = np.full((2 * len(names) + 3, inside.size), np.nan)
    status = np.full((2, inside.size), Reason.OUTSIDE_MASK, dtype=np.uint8)
    flat, size = concentration.reshape(-1, n), max(_CHUNK_VALUES // n, 1)

    def fit(first: int) -> None:
        part = rows[first : first + size]
        block = np.ascontiguousarray(flat[part], dtype=np.float64)
        found = fit_rows(block, plan.problem, plan.library, plan.free)
        columns = [values[part] for values in given]
        maps[:, part], status[:, part] = _quantities(plan, *found, *columns)

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(fit, range(0, rows.size, size)))
    maps = maps.reshape(-1, *shape)
    values = {}
    for i, name in enumerate(names):
        values[name], values[f"{name}_se"] = maps[2 * i], maps[2 * i + 1]
    fit_status, weak_status = status.reshape(2, *shape)
    delay_s, delay_se_s, rss = maps[-3:]
    return Estimates(values, delay_s, delay_se_s, rss, fit_status, weak_status, n, n_parameters)


def _plan(
    aif: ArrayLike,
    t_s: ArrayLike,
    aif_t_s: ArrayLike | None,
    aif_between: Between | None,
    model: TissueModel,
    delay: Delay,
    delay_range_s: tuple[float, float],
) -> _Plan:
    """Lay out what all voxels share; raise ValueError where it makes no sense."""
    t = check_times(t_s, "t_s")
    cp, cp_t = check_input(aif, t if aif_t_s is None else aif_t_s)
    if aif_between == "spline" or (aif_between is None and aif_t_s is None and delay is not None):
        cp, cp_t = refine_input(cp, cp_t)
    if not cp.max() > 0:
        raise ValueError("The arterial input function has no positive value.")
    fit_delay = delay == "fit"
    if fit_delay and not delay_range_s[0] < delay_range_s[1]:
        raise ValueError(f"delay_range_s must increase, got {delay_range_s}.")
    shift = 0.0 if delay is None or delay == "fit" else float(delay)
    if not np.isfinite(shift):
        raise ValueError(f'delay must be None, "fit" or a number (s), got {delay!r}.')
    duration = t[-1] - t[0]
    lowest = _RATE_MIN_DURATIONS / duration
    problem = Problem(
        cp,
        cp_t,
        t - shift,
        model.first,
        model.second,
        fit_delay,
        not fit_delay and np.array_equal(t - shift, cp_t),
        np.array([lowest, lowest, delay_range_s[0]]),
        np.array([model.rate_max, model.rate_max, delay_range_s[1]]),
    )
    free = [which for which, kind in enumerate((model.first, model.second)) if kind == FREE]
    free += [2] * fit_delay
    return _Plan(model, problem, _library(problem, model), np.array(free, np.int64), shift)


def _library(problem: Problem, model: TissueModel) -> Library:
    """Make curves to start from."""
    delays = np.zeros(1)
    if problem.fit_delay:
        low, high = problem.lower[2], problem.upper[2]
        delays = np.linspace(low, high, int(np.ceil((high - low) / _DELAY_STEP_S)) + 3)[1:-1]
    duration, n = problem.t[-1] - problem.t[0], model.n_start
    rates = np.geomspace(_SLOWEST_START / duration, 0.9 * model.rate_max, n)
    index = {INTEGRAL: n, PLASMA: n + 1, NONE: -1}
    kinds = (model.first, model.second)
    if kinds == (FREE, FREE):
        pairs = [(fast, slow) for fast in range(n) for slow in range(fast)]
    elif model.first == FREE:
        pairs = [(i, index[model.second]) for i in range(n)]
    else:
        pairs = [(index[model.first], index[model.second])]
    curves = np.stack(
        [
            np.concatenate(
                [
                    convolve_exponential(problem.aif, problem.aif_t, [*rates, 0.0], problem.t, d)[
                        0
                    ],
                    delayed(problem.aif, problem.aif_t, problem.t, d)[np.newaxis],
                ]
            )
            for d in delays
        ]
    )
    gram = np.einsum("dit,djt->dij", curves, curves)
    return Library(delays, np.array([*rates, 0.0, 0.0]), curves, gram, np.array(pairs, np.int64))


def _quantities(
    plan: _Plan,
    x: Float,
    inverse: Float,
    shift: Float,
    rss: Float,
    codes: NDArray[np.uint8],
    sigma: Float,
    offset: Float,
    offset_gain: Float,
    gain: Float,
) -> tuple[Float, NDArray[np.uint8]]:
    """Derive values, standard errors and status of a block of voxels."""
    model, n = plan.model, plan.problem.t.size
    freedom = n - _n_amplitudes(model) - plan.free.size
    residual = rss / freedom if freedom >= MIN_RESIDUAL_DOF else np.nan
    variance = np.where(sigma >= 0, sigma**2, residual)
    amplitudes = x * (np.arange(N_X) < 2)
    common = offset[:, np.newaxis] * shift + offset_gain[:, np.newaxis] * amplitudes
    scaled = gain[:, np.newaxis] * amplitudes
    values, slopes = _derivatives(model, x)
    squares = np.einsum("qin,nij,qjn->qn", slopes, inverse, slopes, optimize=True) * variance
    squares += np.einsum("qin,ni->qn", slopes, common) ** 2
    squares += np.einsum("qin,ni->qn", slopes, scaled) ** 2
    se = np.sqrt(squares)
    status = np.stack([codes, codes])
    margin = _LIMIT_TOLERANCE + BEYOND_LIMIT_SE * np.where(np.isfinite(se), se, 0.0)
    for i, quantity in enumerate(model.quantities):
        fitted = status[0] == Reason.FITTED
        beyond = ~(values[i] >= quantity.low - margin[i]) | ~(
            values[i] <= quantity.high + margin[i]
        )
        undetermined = se[i] >= MAX_RELATIVE_SE * np.abs(values[i])
        if quantity.must:
            status[:, fitted & undetermined] = Reason.NOT_IDENTIFIABLE
        status[1, fitted & quantity.weak & undetermined] = Reason.NOT_IDENTIFIABLE
        beyond &= ~(quantity.weak & undetermined)
        status[:, fitted & beyond] = Reason.OUT_OF_RANGE
    maps = np.full((2 * len(values) + 3, x.shape[0]), np.nan)
    for i, quantity in enumerate(model.quantities):
        good = status[int(quantity.weak)] == Reason.FITTED
        maps[2 * i, good], maps[2 * i + 1, good] = values[i, good], se[i, good]
    good = status[0] == Reason.FITTED
    maps[-3, good] = plan.delay_s
    maps[-2, good] = 0.0
    if plan.problem.fit_delay:
        maps[-3, good] = x[good, 4]
        delay_variance = variance * inverse[:, 4, 4] + (offset * shift[:, 4]) ** 2
        maps[-2, good] = np.sqrt(delay_variance[good])
    maps[-1, good] = rss[good]
    return maps, status


def _derivatives(model: TissueModel, x: Float) -> tuple[Float, Float]:
    """Quantities, shape (q, n), and their derivatives by x, (q, 5, n), by complex steps."""
    step = 1e-150
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        columns = x.T.astype(np.complex128)
        values = np.stack(model.derive(columns)).real
        slopes = np.zeros((len(values), N_X, x.shape[0]))
        for i in range(N_X - 1):  # no quantity depends on the delay
            moved = columns.copy()
            moved[i] += 1j * step
            slopes[:, i] = np.stack(model.derive(moved)).imag / step
    slopes[~np.isfinite(slopes)] = np.nan
    return values, slopes


def _n_amplitudes(model: TissueModel) -> int:
    return 1 if model.second == NONE else 2


def _per_voxel(values: ArrayLike, shape: tuple[int, ...], name: str) -> Float:
    """Spread a number or a map over the voxels; raise ValueError if it is another shape."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim and values.shape != shape:
        raise ValueError(f"{name} {values.shape} must have the concentration's shape {shape}.")
    return np.broadcast_to(values, shape)
