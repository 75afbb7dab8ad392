"""Least-squares fit of decaying echoes: one or two components, magnitude data, one voxel a row.

Parameters are x = (ln T2, q, a, f): a train of amplitude a, of which the fraction f decays
like a second, known component (fat). q says how the pulses refocus: u = cos²(α/2) without a
slice profile, B1 with one. What is known is not fitted; its standard error is carried on.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mrn_prep.models._t2_start import UNIFORM, component, match
from mrn_prep.models.rician import rician_mean
from mrn_prep.models.status import MIN_RESIDUAL_DOF, NOISE_FLOOR_SIGMA, Reason

Float = NDArray[np.float64]

T2_MIN_S, T2_MAX_S = 0.01, 1.0
"""A fit outside is out of range: it is longer than any fluid's or shorter than can be seen."""
MAX_RELATIVE_SE = 1.0
"""A T2 whose standard error is as large as itself is not identifiable.

A lower limit would refuse high estimates before low ones, and bias what is left.
"""

MAX_FAT_FRACTION = 0.5
"""With more fat than this the water's T2 is not identifiable."""
F_MIN, F_MAX = -0.5, 1.5
"""A fraction of fat is sought up to here; noise may bring it below 0."""

_MAX_ITERATIONS = 60
_FITTED = int(Reason.FITTED)
_NON_FINITE = int(Reason.NON_FINITE)
_NO_SIGNAL = int(Reason.NO_SIGNAL)
_OUT_OF_RANGE = int(Reason.OUT_OF_RANGE)
_NOT_CONVERGED = int(Reason.NOT_CONVERGED)
_NOT_IDENTIFIABLE = int(Reason.NOT_IDENTIFIABLE)
_STEP_TOLERANCE, _LOOSE_TOLERANCE = 1e-6, 1e-2
_RHO_PER_ROW = 1.0 / 256.0


def rician_table() -> Float:
    """Mean of a Rician variable, its slope and 1/variance, over amplitude / sigma from 0 to 8."""
    rho = np.arange(0.0, 8.0 + _RHO_PER_ROW, _RHO_PER_ROW)
    mean = rician_mean(rho, 1.0)
    slope = np.gradient(mean, rho, edge_order=2)
    return np.stack([mean, slope, 1.0 / (2.0 + rho**2 - mean**2)], axis=-1)


@njit(cache=True, error_model="numpy", nogil=True)
def _predict(shared, t1_s, sigma, two, table, x, room):  # type: ignore[no-untyped-def]
    """Write the mean magnitude, its derivatives by x (rows), and sigma² / variance."""
    mean, jacobian, inverse, parts, work = room[0], room[1], room[2], room[3], room[4]
    water, fat = parts[0], parts[1]
    component_t1, component_t2 = t1_s, np.exp(x[0])
    for k in range(2 if two else 1):  # one call only, as the compiler copies it into each
        component(shared, component_t1, component_t2, x[1], parts[k], work)
        component_t1, component_t2 = shared.fat_t1_s, shared.fat_t2_s
    a, f = x[2], x[3]
    for i in range(mean.size):
        unit = (1.0 - f) * water[0, i] + f * fat[0, i]
        amplitude = a * unit
        slope = 1.0 if amplitude >= 0.0 else -1.0
        mean[i], inverse[i] = abs(amplitude), 1.0
        if sigma > 0.0:
            rho = mean[i] / sigma
            row = rho / _RHO_PER_ROW
            if row < table.shape[0] - 1:
                low = int(row)
                part = row - low
                bend = part * (table[low + 1, 1] - table[low, 1])
                # the integral of the slope, so that no step is refused for their difference
                rise = part * _RHO_PER_ROW * (table[low, 1] + 0.5 * bend)
                mean[i] = sigma * (table[low, 0] + rise)
                slope *= table[low, 1] + bend
                inverse[i] = table[low, 2] * (1.0 - part) + table[low + 1, 2] * part
            else:
                b = 1.0 / (rho * rho)
                mean[i] = sigma * rho * (1.0 + b * (0.5 + b * (0.125 + 0.1875 * b)))
                slope *= 1.0 - b * (0.5 + b * (0.375 + 0.9375 * b))
                inverse[i] = 1.0 / (1.0 - 0.5 * b * (1.0 + b))
        jacobian[0, i] = slope * a * (1.0 - f) * water[1, i]
        jacobian[1, i] = slope * a * ((1.0 - f) * water[2, i] + f * fat[2, i])
        jacobian[2, i] = slope * unit
        jacobian[3, i] = slope * a * (fat[0, i] - water[0, i])


@njit(cache=True, error_model="numpy", nogil=True)
def _solve(matrix, right, n):  # type: ignore[no-untyped-def]
    """Solve a positive definite system of n unknowns in place; say whether it is one."""
    for k in range(n):
        for j in range(k):
            matrix[k, k] -= matrix[k, j] ** 2
        if not matrix[k, k] > 0.0:
            return False
        matrix[k, k] = np.sqrt(matrix[k, k])
        for i in range(k + 1, n):
            for j in range(k):
                matrix[i, k] -= matrix[i, j] * matrix[k, j]
            matrix[i, k] /= matrix[k, k]
    for k in range(n):
        for j in range(k):
            right[k] -= matrix[k, j] * right[j]
        right[k] /= matrix[k, k]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            right[k] -= matrix[j, k] * right[j]
        right[k] /= matrix[k, k]
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def _aitken(hessian, last, step, free):  # type: ignore[no-untyped-def]
    """Factor for a step which, with the one before, is part of a geometric series.

    Where residuals bend the valley (near 180°), plain steps leap from side to side of it.
    """
    along, square = 0.0, 0.0
    for a in range(free.size):
        for b in range(free.size):
            h = hessian[max(a, b), min(a, b)]
            along += last[free[a]] * h * step[b]
            square += last[free[a]] * h * last[free[b]]
    if not square > 0.0:
        return 1.0
    return 1.0 / (1.0 - min(max(along / square, -3.0), 0.5))


@njit(cache=True, error_model="numpy", nogil=True)
def _cost(s, weight, mean):  # type: ignore[no-untyped-def]
    cost = 0.0
    for i in range(s.size):
        cost += weight[i] * (s[i] - mean[i]) ** 2
    return cost


@njit(cache=True, error_model="numpy", nogil=True)
def _normal_equations(s, weight, mean, jacobian, free, hessian, gradient):  # type: ignore[no-untyped-def]
    """Write JᵀWJ (lower half) and JᵀW(s - mean) over the free parameters."""
    for a in range(free.size):
        row = jacobian[free[a]]
        gradient[a] = 0.0
        for i in range(s.size):
            gradient[a] += weight[i] * row[i] * (s[i] - mean[i])
        for b in range(a + 1):
            other = jacobian[free[b]]
            hessian[a, b] = 0.0
            for i in range(s.size):
                hessian[a, b] += weight[i] * row[i] * other[i]


@njit(cache=True, error_model="numpy", nogil=True)
def _copy(matrix, right, to_matrix, to_right, n):  # type: ignore[no-untyped-def]
    """Copy a system of n unknowns, which solving overwrites."""
    for a in range(n):
        to_right[a] = right[a]
        for b in range(a + 1):
            to_matrix[a, b] = matrix[a, b]


@njit(cache=True, error_model="numpy", nogil=True)
def _bound(trial, x, bounds):  # type: ignore[no-untyped-def]
    """Shorten a step that leaves the search's range, which is wider than the valid one."""
    trial[0] = min(max(trial[0], np.log(0.5 * T2_MIN_S)), np.log(2.0 * T2_MAX_S))
    trial[0] = min(max(trial[0], x[0] - 0.7), x[0] + 0.7)
    trial[1] = min(max(trial[1], min(bounds.low, x[1])), max(bounds.high, x[1]))
    trial[2] = max(trial[2], 0.1 * x[2])
    trial[3] = min(max(trial[3], min(F_MIN, x[3])), max(F_MAX, x[3]))


@njit(cache=True, error_model="numpy", nogil=True)
def _search(s, shared, t1_s, sigma, two, table, free, x, bounds, weight, room):  # type: ignore[no-untyped-def]
    """Minimise Σ weight (s - mean)² over the free parameters by Levenberg-Marquardt steps."""
    mean, jacobian, inverse = room[0], room[1], room[2]
    hessian, normal, gradient, step = np.empty((4, 4)), np.empty((4, 4)), np.empty(4), np.empty(4)
    trial, last = x.copy(), np.zeros(4)
    damping, best = 1e-4, np.inf
    reweighted, settled = not sigma > 0.0, False
    for _ in range(_MAX_ITERATIONS):
        _predict(shared, t1_s, sigma, two, table, trial, room)
        if best == np.inf:
            weight[:] = inverse
        cost = _cost(s, weight, mean)
        if cost <= best:
            for k in range(4):
                last[k] = trial[k] - x[k]
                x[k] = trial[k]
            if settled:  # the weights, taken at the start, are now taken near the answer
                settled, reweighted = False, True
                weight[:] = inverse
                cost = _cost(s, weight, mean)
            best = cost
            damping *= 0.1
            _normal_equations(s, weight, mean, jacobian, free, hessian, gradient)
        else:
            damping = max(damping * 10.0, 1e-3)
        _copy(hessian, gradient, normal, step, free.size)
        for a in range(free.size):
            normal[a, a] *= 1.0 + damping
        if not _solve(normal, step, free.size):
            return False
        scale = _aitken(hessian, last, step, free)
        trial[:] = x
        for a in range(free.size):
            trial[free[a]] += scale * step[a]
        _bound(trial, x, bounds)
        moved = max(
            abs(trial[2] / x[2] - 1.0),
            abs(trial[0] - x[0]),
            abs(trial[1] - x[1]),
            abs(trial[3] - x[3]),
        )
        if reweighted and moved < _STEP_TOLERANCE:
            return True
        settled = not reweighted and moved < _LOOSE_TOLERANCE
    return False


@njit(cache=True, error_model="numpy", nogil=True)
def _covariance(s, free, known_se, sigma, weight, mean, jacobian):  # type: ignore[no-untyped-def]
    """Covariance (4, 4) of x: noise through the free parameters, and what known ones add."""
    n, p = s.size, free.size
    out, hessian, normal = np.zeros((4, 4)), np.empty((4, 4)), np.empty((4, 4))
    column, right = np.empty(4), np.empty(4)
    _normal_equations(s, weight, mean, jacobian, free, hessian, right)
    variance = sigma * sigma
    if not sigma >= 0.0:
        variance = _cost(s, weight, mean) / (n - p) if n - p >= MIN_RESIDUAL_DOF else np.nan
    for k in range(p + 4):
        if k >= p and known_se[k - p] == 0.0:
            continue
        for a in range(p):
            right[a] = 1.0 if a == k else 0.0
            if k >= p:
                for i in range(n):
                    right[a] -= weight[i] * jacobian[free[a], i] * jacobian[k - p, i]
        _copy(hessian, right, normal, column, p)
        if not _solve(normal, column, p):
            out[:] = np.inf
            return out
        for a in range(p):
            if k < p:
                out[free[a], free[k]] += variance * column[a]
            else:
                for b in range(p):
                    out[free[a], free[b]] += column[a] * column[b] * known_se[k - p] ** 2
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def _usable(s, t1_s, noise):  # type: ignore[no-untyped-def]
    total, largest = 0.0, 0.0
    for i in range(s.size):
        total += s[i]
        largest = max(largest, s[i])
    if not np.isfinite(total + t1_s):
        return _NON_FINITE
    if total <= 0.0 or largest < NOISE_FLOOR_SIGMA * noise:
        return _NO_SIGNAL
    return _FITTED


@njit(cache=True, error_model="numpy", nogil=True)
def _verdict(x, ln_t2_variance, fit_q, bounds):  # type: ignore[no-untyped-def]
    if not F_MIN < x[3] < F_MAX or (fit_q and not (bounds.valid_low <= x[1] <= bounds.valid_high)):
        return _OUT_OF_RANGE
    if x[3] > MAX_FAT_FRACTION:
        return _NOT_IDENTIFIABLE
    if not (np.log(T2_MIN_S) <= x[0] <= np.log(T2_MAX_S)):
        return _OUT_OF_RANGE
    if ln_t2_variance > MAX_RELATIVE_SE**2:
        return _NOT_IDENTIFIABLE
    return _FITTED


@njit(cache=True, error_model="numpy", nogil=True)
def _start(s, sigma, q, fraction, grid, x, room):  # type: ignore[no-untyped-def]
    """Write into x where the search starts; False if no train resembles s."""
    start, products = room[5], room[6]
    for i in range(s.size):
        start[i] = s[i]
        if sigma > 0.0:
            start[i] = np.sqrt(max(s[i] * s[i] - 2.0 * sigma * sigma, 0.0))
    first, last = 0, grid.q.size
    if not np.isnan(q):
        for k in range(grid.q.size):
            if abs(grid.q[k] - q) < abs(grid.q[first] - q):
                first = k
        last = first + 1
    found = match(start, grid, first, last, fraction, x, products)
    if not np.isnan(q):
        x[1] = q
    return found


@njit(cache=True, error_model="numpy", nogil=True)
def fit_rows(  # type: ignore[no-untyped-def]
    signal, t1_s, q, q_se, fraction, fraction_se, noise, rician, shared, grid, bounds, table
):
    """Fit every row of `signal` (n_voxels, n_echoes).

    NaN in `q` or `fraction` means that it is fitted; NaN in `noise` that it is not known.
    Returns x (n_voxels, 4), its covariance (n_voxels, 4, 4) and the reasons.
    """
    n_voxels, n = signal.shape
    found, covariances = np.full((n_voxels, 4), np.nan), np.full((n_voxels, 4, 4), np.nan)
    codes = np.zeros(n_voxels, dtype=np.uint8)
    room = (
        np.empty(n), np.empty((4, n)), np.empty(n), np.zeros((2, 3, n)),
        np.zeros((15, n + shared.n_skipped + 2)), np.empty(n), np.empty(grid.ln_t2.size),
    )  # fmt: skip
    weight, x, known_se = np.empty(n), np.empty(4), np.zeros(4)
    for v in range(n_voxels):
        s, sigma = signal[v], noise[v] if rician else 0.0
        codes[v] = _usable(s, t1_s[v], noise[v])
        if codes[v] != _FITTED:
            continue
        if not _start(s, sigma, q[v], fraction[v], grid, x, room):
            codes[v] = _NO_SIGNAL
            continue
        fit_q, fit_f = np.isnan(q[v]), np.isnan(fraction[v])
        known_se[1] = 0.0 if fit_q else q_se[v]
        known_se[3] = 0.0 if fit_f else fraction_se[v]
        two = fit_f or fraction[v] != 0.0 or known_se[3] != 0.0
        free = np.flatnonzero(np.array([True, fit_q, True, fit_f]))
        held = free
        ended = False
        for _ in range(2):
            if not _search(s, shared, t1_s[v], sigma, two, table, held, x, bounds, weight, room):
                codes[v] = _verdict(x, 0.0, fit_q, bounds)
                if codes[v] == _FITTED:
                    codes[v] = _NOT_CONVERGED
                break
            cov = _covariance(s, free, known_se, noise[v], weight, room[0], room[1])
            if (
                shared.kind != UNIFORM
                or held.size < free.size
                or not (fit_q and x[1] < 0.0)
                or -x[1] <= 2.0 * np.sqrt(cov[1, 1])
            ):
                codes[v] = _verdict(x, cov[0, 0], fit_q, bounds)
                ended = True
                break
            # beyond 180° by more than noise brings it: another model's signal; refocus fully
            x[1] = 0.0
            held = free[free != 1]
        # in fat the water's T2 is lost, but not the fraction
        if ended and (
            codes[v] == _FITTED or (codes[v] != _OUT_OF_RANGE and x[3] > MAX_FAT_FRACTION)
        ):
            found[v] = x
            covariances[v] = cov
    return found, covariances, codes
