"""Which of a voxel's fields is the true one: labels on a graph of voxels, smooth in space.

A voxel of water looks much like a voxel of fat in another field. Every voxel has a few fields
at which its echoes fit well; the ones chosen are those that fit best and are smooth, found
for the whole volume at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import gammaincinv

from mrn_prep.models._fat_water_kernel import N_CANDIDATES, Echoes, Search, find_candidates

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Rows = NDArray[np.intp]

GRADIENT_HZ_PER_MM = 8.0
"""Typical change of the field from voxel to voxel, a standard deviation."""
MODEL_ERROR = 0.03
"""What the model misses (spectrum, eddy currents), relative to the signal.

Without it a bright voxel would be certain of its field on the strength of such errors.
"""
_JUMP_COST = 4.0  # a difference of fields costs at most this: tissues may end
_WORST_COST = 20.0  # a misfit too, relative to the voxel's best
_PRIOR_COST = 0.25
_SEARCH_R2STAR_PER_S = np.array([20.0, 60.0, 180.0])
_MAX_PERIOD_HZ = 4000.0
_FIELDS_PER_CYCLE = 8
_CHUNK = 8192  # voxels at a time, so that copies in double precision stay small
_MAX_SWEEPS, _STALLED = 40, 4


class FieldMap(NamedTuple):
    """Start of the voxelwise fit, for the voxels given."""

    field_hz: Float32
    r2star_per_s: Float32
    sigma: float
    """Noise per channel as found from the misfits."""


def by_chunks(
    work: Callable[[slice, NDArray[np.complex128]], None],
    signal: NDArray[np.generic],
    rows: Rows,
    n_threads: int,
) -> None:
    """Call `work(part, block)` for parts of `rows`, block being signal (n, n_echoes)."""

    def run(first: int) -> None:
        part = slice(first, first + _CHUNK)
        where = np.unravel_index(rows[part], signal.shape[:-1])
        work(part, np.ascontiguousarray(signal[where], dtype=np.complex128))

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(run, range(0, rows.size, _CHUNK)))


def period(te_s: Float) -> tuple[float, bool]:
    """Range of fields that echoes can tell apart (Hz), and whether they repeat beyond it.

    >>> hertz, repeats = period(np.array([0.001, 0.002, 0.003]))
    >>> round(hertz, 6), repeats
    (1000.0, True)
    >>> hertz, repeats = period(np.array([0.001, 0.002, 0.0025]))
    >>> round(hertz, 6), repeats
    (2000.0, True)
    >>> period(np.array([0.001, 0.00277, 0.00391]))[1]
    False
    """
    lags = te_s[1:] - te_s[0]
    shortest = float(np.diff(te_s).min())
    for parts in range(1, 9):
        steps = lags * parts / shortest
        # times are often written to 10 µs
        if np.abs(steps - np.round(steps)).max() < 0.02 * parts:
            return min(parts / shortest, _MAX_PERIOD_HZ), parts / shortest <= _MAX_PERIOD_HZ
    return min(2.0 / shortest, _MAX_PERIOD_HZ), False


def make_search(te_s: Float) -> tuple[Search, float]:
    """Fields to look at and their period (Hz; infinite if they do not repeat)."""
    width, repeats = period(te_s)
    n_fields = _FIELDS_PER_CYCLE * (int(np.ceil((te_s[-1] - te_s[0]) * width)) + 1)
    field_hz = (np.arange(n_fields) / n_fields - 0.5) * width
    angle = 2.0 * np.pi * np.multiply.outer(te_s, field_hz)
    search = Search(field_hz, np.cos(angle), np.sin(angle), _SEARCH_R2STAR_PER_S, repeats)
    return search, width if repeats else np.inf


def map_field(
    signal: NDArray[np.generic],
    rows: Rows,
    echoes: Echoes,
    voxel_mm: tuple[float, float, float],
    sigma: Float,
    n_threads: int,
) -> FieldMap:
    r"""Choose a field for every voxel of `rows`, the flat indices of voxels to fit.

    Minimises :math:`\sum_v \frac{\chi_v^2(l_v)}{2} + \sum_{vw} \min\left(\frac{(\psi_v -
    \psi_w)^2}{2 s_{vw}^2}, c\right)` over the local minima l of each voxel's misfit, with
    neighbours v, w along three axes and differences of fields taken modulo their period.

    Labels are found by sequential tree-reweighted message passing, which for two labels per
    voxel has the bound of a graph cut by roof duality.

    References
    ----------
    Hernando D, Kellman P, Haldar JP, Liang ZP. Magn Reson Med 2010;63:79-90.
    doi:10.1002/mrm.22177 (field maps from local minima)
    Kolmogorov V. IEEE Trans Pattern Anal Mach Intell 2006;28:1568-1583 (message passing)
    """
    search, hertz = make_search(echoes.te_s)
    shape = (rows.size, N_CANDIDATES)
    fields, rates = np.empty(shape, np.float32), np.empty(shape, np.float32)
    misfits, power = np.empty(shape, np.float32), np.empty(rows.size, np.float32)
    spreads = np.empty(rows.size, np.float32)

    def find(part: slice, block: NDArray[np.complex128]) -> None:
        fields[part], rates[part], misfits[part], spread = find_candidates(block, echoes, search)
        spreads[part] = spread.min(axis=1)
        power[part] = np.mean(block.real**2 + block.imag**2, axis=1)

    by_chunks(find, signal, rows, n_threads)
    noise = noise_from_misfits(misfits.min(axis=1), echoes.te_s.size)
    variance = np.square(np.where(sigma > 0, sigma, noise), dtype=np.float32)
    variance += 0.5 * MODEL_ERROR**2 * power + np.float32(1e-30)
    spreads *= np.sqrt(variance)
    if np.isfinite(hertz):
        fields -= (hertz * np.round(fields / hertz)).astype(np.float32)
    costs = misfits  # from here on
    costs /= 2.0 * variance[:, np.newaxis]
    costs -= costs.min(axis=1, keepdims=True)
    costs[~(costs < np.inf)] = np.inf
    np.minimum(costs, _WORST_COST, out=costs, where=np.isfinite(costs))
    costs[~np.isfinite(costs).any(axis=1), 0] = 0.0
    _add_prior(costs, fields, search.field_hz.size * (search.field_hz[1] - search.field_hz[0]))
    neighbours = _neighbours(rows, signal.shape[:3])
    scale = np.square(GRADIENT_HZ_PER_MM * np.asarray(voxel_mm, dtype=np.float64))
    labels = label(costs, fields, spreads, neighbours, scale, hertz)
    chosen = np.take_along_axis(fields, labels[:, np.newaxis], axis=1)[:, 0]
    if np.isfinite(hertz):
        chosen = unwrap(chosen, spreads < hertz / 20.0, neighbours, hertz)
    rate = np.take_along_axis(rates, labels[:, np.newaxis], axis=1)[:, 0]
    return FieldMap(chosen, rate, noise)


def noise_from_misfits(misfit: Float32, n_echoes: int) -> float:
    """Sigma per channel, from what the best fits of most voxels leave; 0 if nothing."""
    median = 2.0 * gammaincinv(n_echoes - 2.5, 0.5)  # of chi², with 2 n - 5 degrees of freedom
    usable = misfit[np.isfinite(misfit)]
    return float(np.sqrt(np.median(usable) / median)) if usable.size else 0.0


def _add_prior(costs: Float32, fields: Float32, width_hz: float) -> None:
    """Where nothing else decides, prefer fields near that of most voxels."""
    sure = (costs > 1.0).sum(axis=1) == N_CANDIDATES - 1
    angle = (2.0 * np.pi / width_hz) * fields
    centre = np.exp(1j * angle[costs == 0.0 if not sure.any() else (costs == 0.0) & sure[:, None]])
    costs += np.float32(_PRIOR_COST) * (1.0 - np.cos(angle - np.angle(centre.sum())))


def _neighbours(rows: Rows, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Index into `rows` of the neighbours before and after along the axes, -1 if none: (n, 6)."""
    index = np.full([size + 1 for size in shape], -1, np.int32)  # one border serves both ends
    where = np.unravel_index(rows, shape)
    index[where] = np.arange(rows.size, dtype=np.int32)
    out = np.empty((rows.size, 6), np.int32)
    for axis in range(3):
        for side, step in ((0, -1), (3, 1)):
            moved = list(where)
            moved[axis] = where[axis] + step
            out[:, side + axis] = index[tuple(moved)]
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _jump(a, b, period_hz, precision):  # type: ignore[no-untyped-def]
    """Cost of two fields side by side."""
    distance = abs(a - b)
    distance = min(distance, period_hz - distance)
    return min(distance * distance * precision, _JUMP_COST)


@njit(cache=True, error_model="numpy", nogil=True)
def _gather(v, costs, neighbours, messages, belief):  # type: ignore[no-untyped-def]
    """Write costs and incoming messages of v; return 1 / how many chains run through it."""
    before, after = 0, 0
    for k in range(belief.size):
        belief[k] = costs[v, k]
    for axis in range(3):
        w = neighbours[v, axis]
        if w >= 0:
            before += 1
            for k in range(belief.size):
                belief[k] += messages[w, axis, k]
        if neighbours[v, 3 + axis] >= 0:
            after += 1
            for k in range(belief.size):
                belief[k] += messages[v, axis, k]
    return 1.0 / max(before, after, 1)


@njit(cache=True, error_model="numpy", nogil=True)
def _choose(v, costs, fields, spreads, neighbours, scale, period_hz, messages, labels):  # type: ignore[no-untyped-def]
    """Pick the label of v, those before it being picked; return what it adds to the energy."""
    lowest, added = np.inf, 0.0
    for k in range(costs.shape[1]):
        cost = float(costs[v, k])
        for axis in range(3):
            w = neighbours[v, axis]
            if w >= 0:
                precision = 0.5 / (scale[axis] + spreads[v] ** 2 + spreads[w] ** 2)
                cost += _jump(fields[w, labels[w]], fields[v, k], period_hz, precision)
        total = cost
        for axis in range(3):
            if neighbours[v, 3 + axis] >= 0:
                total += messages[v, axis, k]
        if total < lowest:
            lowest, added = total, cost
            labels[v] = k
    return added


@njit(cache=True, error_model="numpy", nogil=True)
def _send(side, v, fields, spreads, neighbours, scale, period_hz, share, belief, messages, sent):  # type: ignore[no-untyped-def]
    """Replace the messages that v had from its neighbours on a side by those to them."""
    for axis in range(3):
        w = neighbours[v, side + axis]
        if w < 0:
            continue
        edge = v if side else w
        precision = 0.5 / (scale[axis] + spreads[v] ** 2 + spreads[w] ** 2)
        sent[:] = np.inf
        for m in range(sent.size):
            cost = share * belief[m] - messages[edge, axis, m]
            for k in range(sent.size):
                if cost < sent[k]:
                    jump = _jump(fields[v, m], fields[w, k], period_hz, precision)
                    sent[k] = min(sent[k], cost + jump)
        lowest = np.inf
        for k in range(sent.size):
            lowest = min(lowest, sent[k])
        for k in range(sent.size):
            messages[edge, axis, k] = sent[k] - lowest


@njit(cache=True, error_model="numpy", nogil=True)
def label(costs, fields, spreads, neighbours, scale, period_hz):  # type: ignore[no-untyped-def]
    """Return the label of every voxel (n,) by tree-reweighted messages, swept to and fro.

    `scale` is the variance of the difference between neighbours along each axis (Hz²).
    """
    n, n_labels = costs.shape
    # of the edge to the neighbour after, along each axis; it holds the message last sent
    messages = np.zeros((n, 3, n_labels), np.float32)
    labels, best = np.zeros(n, np.int8), np.zeros(n, np.int8)
    belief, sent = np.empty(n_labels), np.empty(n_labels)
    least, stalled = np.inf, 0
    for sweep in range(2 * _MAX_SWEEPS):
        side = 0 if sweep % 2 else 3
        energy = 0.0
        for position in range(n):
            v = position if side else n - 1 - position
            share = _gather(v, costs, neighbours, messages, belief)
            if side:
                energy += _choose(
                    v, costs, fields, spreads, neighbours, scale, period_hz, messages, labels
                )
            _send(
                side, v, fields, spreads, neighbours, scale, period_hz,
                share, belief, messages, sent,
            )  # fmt: skip
        if not side:
            continue
        stalled += 1
        if energy < least:
            if energy < least - 1e-6 * abs(least):
                stalled = 0
            least = energy
            best[:] = labels
        if stalled == _STALLED:
            break
    return best


@njit(cache=True, error_model="numpy", nogil=True)
def unwrap(field_hz, sure, neighbours, period_hz):  # type: ignore[no-untyped-def]
    """Add periods so that the field is continuous, the median of a piece within half of one.

    Unsure voxels join no pieces and keep their field.
    """
    n = field_hz.size
    out = field_hz.copy()
    seen = ~sure
    queue = np.empty(n, np.int32)
    for seed in range(n):
        if seen[seed]:
            continue
        queue[0] = seed
        seen[seed] = True
        first, last = 0, 1
        while first < last:
            v = queue[first]
            first += 1
            for side in range(6):
                w = neighbours[v, side]
                if w < 0 or seen[w]:
                    continue
                turns = np.round((out[v] - out[w]) / period_hz)
                if abs(out[w] + turns * period_hz - out[v]) > period_hz / 8.0:
                    continue
                out[w] += turns * period_hz
                seen[w] = True
                queue[last] = w
                last += 1
        piece = queue[:last]
        turns = np.round(np.median(out[piece]) / period_hz)
        if turns != 0.0:
            for v in piece:
                out[v] -= turns * period_hz
    return out
