"""Least-squares fits of up to two exponentially convolved inputs, one tissue curve a row.

A curve is a1 f1(t - d) + a2 f2(t - d). Each f is E_k = Cp * exp(-kt) (the convolution) of a free
or fixed rate k, or Cp itself. k = 0 is the integral of Cp. Rates and delay d are searched, the
amplitudes follow from them linearly (variable projection). Parameters are kept in the order
x = (a1, a2, k1, k2, d); what a model has not got stays 0.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mrn_prep.models.dce_convolution import convolve, convolve_at_nodes, sample
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]

FREE, INTEGRAL, PLASMA, NONE = 0, 1, 2, 3
"""Kinds of component: E_k of a searched k, the integral of Cp, Cp, not there."""
N_X = 5

# rows of the room in which a curve is fitted: data, residual, ones, the components and Cp, their
# derivatives by rate and Cp's by time, and the Jacobian by (k1, k2, d)
_Y, _R, _ONES, _F, _CP, _D, _D_CP, _J, _N_ROWS = 0, 1, 2, 3, 5, 6, 8, 9, 12

_MAX_STEPS, _DAMPING = 100, 1e-3
_STEP_SE2 = 1e-8  # a step below 1e-4 standard errors is too small to matter ...
_STEP_RELATIVE = 1e-9  # ... and so is this one, where there is no noise
_EPSILON = 1e-28  # a residual this far below the data is rounding
_SINGULAR = 1e-13
_FITTED = int(Reason.FITTED)
_NON_FINITE = int(Reason.NON_FINITE)
_NO_SIGNAL = int(Reason.NO_SIGNAL)
_OUT_OF_RANGE = int(Reason.OUT_OF_RANGE)
_NOT_CONVERGED = int(Reason.NOT_CONVERGED)
_NOT_IDENTIFIABLE = int(Reason.NOT_IDENTIFIABLE)


class Problem(NamedTuple):
    """What all voxels share."""

    aif: Float
    """Plasma concentration Cp at `aif_t`; linear between, constant after, 0 before."""
    aif_t: Float
    t: Float
    """Times of the tissue's frames."""
    first: int
    second: int
    """Kinds of the two components."""
    fit_delay: bool
    at_nodes: bool
    """Whether frames and input have the same times, which is faster."""
    lower: Float
    upper: Float
    """Limits of (k1, k2, d)."""


class Library(NamedTuple):
    """Curves to start from."""

    delays: Float
    rates: Float
    """Rate of each curve; 0 for Cp."""
    curves: Float
    """Shape (n_delays, n_curves, n_frames)."""
    gram: Float
    """Products of the curves, shape (n_delays, n_curves, n_curves)."""
    pairs: NDArray[np.int64]
    """Curves that go together, shape (n_pairs, 2); the second is -1 where there is none."""


@njit(cache=True, error_model="numpy", nogil=True, fastmath={"reassoc", "contract"})
def dot(a, i, b, j):  # type: ignore[no-untyped-def]
    """Sum of products of two rows; the order of the terms is left to the compiler."""
    total = 0.0
    for t in range(a.shape[1]):
        total += a[i, t] * b[j, t]
    return total


@njit(cache=True, error_model="numpy", nogil=True)
def _amplitudes(g11, g12, g22, r1, r2, two):  # type: ignore[no-untyped-def]
    """Solve for the amplitudes; say how much of the data's square they explain."""
    if not two:
        return (r1 / g11, 0.0, r1 * r1 / g11) if g11 > 0.0 else (0.0, 0.0, -1.0)
    det = g11 * g22 - g12 * g12
    if not det > _SINGULAR * g11 * g22:
        return 0.0, 0.0, -1.0
    a1, a2 = (g22 * r1 - g12 * r2) / det, (g11 * r2 - g12 * r1) / det
    return a1, a2, a1 * r1 + a2 * r2


@njit(cache=True, error_model="numpy", nogil=True)
def _start(rows, library, products, p):  # type: ignore[no-untyped-def]
    """Write the library's best (k1, k2, delay); amplitudes that are not negative go first."""
    best, best_any, feasible = -1.0, -1.0, False
    for d in range(library.delays.size):
        for c in range(products.size):
            products[c] = dot(rows, _Y, library.curves[d], c)
        for q in range(library.pairs.shape[0]):
            i, j = library.pairs[q, 0], library.pairs[q, 1]
            two = j >= 0
            j = max(j, 0)
            a1, a2, value = _amplitudes(
                library.gram[d, i, i], library.gram[d, i, j], library.gram[d, j, j],
                products[i], products[j], two,
            )  # fmt: skip
            good = a1 >= 0.0 and a2 >= 0.0
            if (good and value > best) or (not feasible and not good and value > best_any):
                p[0], p[1], p[2] = library.rates[i], library.rates[j], library.delays[d]
                if good:
                    best, feasible = value, True
                else:
                    best_any = value


@njit(cache=True, error_model="numpy", nogil=True)
def _evaluate(problem, p, rows, a, gram):  # type: ignore[no-untyped-def]
    """Write components, their derivatives, amplitudes and residual; return the cost."""
    n, two = rows.shape[1], problem.second != NONE
    for c in range(2):
        kind = problem.first if c == 0 else problem.second
        if kind == FREE or (kind == INTEGRAL and problem.fit_delay):
            k = p[c] if kind == FREE else 0.0
            if problem.at_nodes:
                convolve_at_nodes(problem.aif, problem.aif_t, k, rows, _F + c, _D + c)
            else:
                convolve(problem.aif, problem.aif_t, problem.t, p[2], k, rows, _F + c, _D + c)
    if problem.fit_delay:
        sample(problem.aif, problem.aif_t, problem.t, p[2], rows, _CP, _D_CP)
        if problem.second == PLASMA:
            for i in range(n):
                rows[_F + 1, i] = rows[_CP, i]
    gram[0], gram[1], gram[2] = dot(rows, _F, rows, _F), 0.0, 1.0
    r1, r2 = dot(rows, _F, rows, _Y), 0.0
    if two:
        gram[1], gram[2] = dot(rows, _F, rows, _F + 1), dot(rows, _F + 1, rows, _F + 1)
        r2 = dot(rows, _F + 1, rows, _Y)
    a[0], a[1], explained = _amplitudes(gram[0], gram[1], gram[2], r1, r2, two)
    if explained < 0.0:
        return np.inf
    for i in range(n):
        rows[_R, i] = rows[_Y, i] - a[0] * rows[_F, i] - a[1] * rows[_F + 1, i]
    return dot(rows, _R, rows, _R)


@njit(cache=True, error_model="numpy", nogil=True)
def _linearise(first, second, p, free, rows, a, gram, cross, schur, gradient):  # type: ignore[no-untyped-def]
    """Write the Jacobian by the free ones of (k1, k2, d) and their normal equations.

    The amplitudes are eliminated; `cross` holds their change with each of these, negative.
    """
    n, two = rows.shape[1], second != NONE
    for m in range(free.size):
        which, row = free[m], _J + m
        for i in range(n):
            rows[row, i] = a[which] * rows[_D + which, i] if which < 2 else 0.0
        for c in range(2):
            kind = first if c == 0 else second
            if which < 2 or kind == NONE:
                continue
            k = p[c] if kind == FREE else 0.0
            for i in range(n):
                slope = rows[_D_CP, i] if kind == PLASMA else rows[_CP, i] - k * rows[_F + c, i]
                rows[row, i] -= a[c] * slope
        b1 = dot(rows, _F, rows, row)
        b2 = dot(rows, _F + 1, rows, row) if two else 0.0
        cross[m, 0], cross[m, 1], _ = _amplitudes(gram[0], gram[1], gram[2], b1, b2, two)
        gradient[m] = dot(rows, row, rows, _R)
        for q in range(m + 1):
            schur[m, q] = dot(rows, row, rows, _J + q) - b1 * cross[q, 0] - b2 * cross[q, 1]
            schur[q, m] = schur[m, q]


@njit(cache=True, error_model="numpy", nogil=True)
def _invert(s, n, damping, inverse):  # type: ignore[no-untyped-def]
    """Invert a positive definite matrix of n < 4 rows, its diagonal enlarged; say if it is one."""
    m00 = s[0, 0] * (1.0 + damping) if n > 0 else 1.0
    m11 = s[1, 1] * (1.0 + damping) if n > 1 else 1.0
    m22 = s[2, 2] * (1.0 + damping) if n > 2 else 1.0
    m01 = s[0, 1] if n > 1 else 0.0
    m02, m12 = (s[0, 2], s[1, 2]) if n > 2 else (0.0, 0.0)
    c00, c01, c02 = m11 * m22 - m12 * m12, m12 * m02 - m01 * m22, m01 * m12 - m11 * m02
    det = m00 * c00 + m01 * c01 + m02 * c02
    if not (m00 > 0.0 and m11 > 0.0 and m22 > 0.0 and det > _SINGULAR * m00 * m11 * m22):
        return False
    inverse[0, 0], inverse[0, 1], inverse[0, 2] = c00 / det, c01 / det, c02 / det
    inverse[1, 1] = (m00 * m22 - m02 * m02) / det
    inverse[1, 2] = (m01 * m02 - m00 * m12) / det
    inverse[2, 2] = (m00 * m11 - m01 * m01) / det
    inverse[1, 0], inverse[2, 0], inverse[2, 1] = inverse[0, 1], inverse[0, 2], inverse[1, 2]
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def _step(lower, upper, free, schur, gradient, inverse, damping, best, trial):  # type: ignore[no-untyped-def]
    """Write the damped step's end; say what it should gain, NaN if there is no step at all."""
    if not _invert(schur, free.size, damping, inverse):
        return np.nan
    worth, small = 0.0, True
    for m in range(free.size):
        which, step = free[m], 0.0
        for q in range(free.size):
            step += inverse[m, q] * gradient[q]
        worth += step * gradient[m]
        wanted = best[which] + step
        trial[which] = min(max(wanted, lower[which]), upper[which])
        small = small and abs(trial[which] - best[which]) <= _STEP_RELATIVE * abs(wanted)
    return 0.0 if small else worth


@njit(cache=True, error_model="numpy", nogil=True)
def _search(problem, free, rows, best, trial, a, gram, cross, schur, gradient, inverse):  # type: ignore[no-untyped-def]
    """Levenberg-Marquardt steps in (k1, k2, d) from `best`, which becomes the solution.

    Returns a status and the cost; the other arguments are left as they are at the solution.
    """
    first, second, lower, upper = problem.first, problem.second, problem.lower, problem.upper
    for m in range(3):
        trial[m] = best[m]
    cost = _evaluate(problem, best, rows, a, gram)
    floor = _EPSILON * dot(rows, _Y, rows, _Y)
    freedom = max(rows.shape[1] - free.size - (1 if second == NONE else 2), 1)
    damping, status, better = _DAMPING, _NOT_CONVERGED, True
    for _ in range(_MAX_STEPS):
        if better:
            if not cost < np.inf:
                return _NOT_IDENTIFIABLE, cost
            _linearise(first, second, best, free, rows, a, gram, cross, schur, gradient)
        worth = _step(lower, upper, free, schur, gradient, inverse, damping, best, trial)
        if not worth >= 0.0:
            return _NOT_IDENTIFIABLE, cost
        if worth <= _STEP_SE2 * cost / freedom or cost <= floor:
            status = _FITTED
            break
        new_cost = _evaluate(problem, trial, rows, a, gram)
        better = new_cost < cost
        if better:
            gain = (cost - new_cost) / worth
            damping *= 0.1 if gain > 0.5 else (1.0 if gain > 0.1 else 4.0)
            cost = new_cost
            for m in range(3):
                best[m] = trial[m]
        else:
            damping = max(10.0 * damping, _DAMPING)
    if not better:  # what was tried last has overwritten the components
        _evaluate(problem, best, rows, a, gram)
        _linearise(first, second, best, free, rows, a, gram, cross, schur, gradient)
    for m in range(free.size):
        if not lower[free[m]] < best[free[m]] < upper[free[m]]:
            status = _OUT_OF_RANGE
    return status, cost


@njit(cache=True, error_model="numpy", nogil=True)
def _errors(v, free, two, rows, gram, cross, inverse, covariance, shift):  # type: ignore[no-untyped-def]
    """Write the inverse of JᵀJ over x, and by how much x moves if all data rise by 1."""
    det = gram[0] * gram[2] - gram[1] * gram[1]
    covariance[v, 0, 0] = gram[2] / det
    r1, r2 = dot(rows, _F, rows, _ONES), 0.0
    if two:
        covariance[v, 0, 1] = covariance[v, 1, 0] = -gram[1] / det
        covariance[v, 1, 1] = gram[0] / det
        r2 = dot(rows, _F + 1, rows, _ONES)
    shift[v, 0], shift[v, 1], _ = _amplitudes(gram[0], gram[1], gram[2], r1, r2, two)
    for m in range(free.size):
        row = 2 + free[m]
        for q in range(free.size):
            pull = dot(rows, _J + q, rows, _ONES) - cross[q, 0] * r1 - cross[q, 1] * r2
            shift[v, row] += inverse[m, q] * pull
            covariance[v, row, 2 + free[q]] = inverse[m, q]
            for c in range(2):
                covariance[v, c, row] -= cross[q, c] * inverse[q, m]
                covariance[v, row, c] = covariance[v, c, row]
                for d in range(2):
                    covariance[v, c, d] += cross[m, c] * inverse[m, q] * cross[q, d]
        for c in range(2):
            shift[v, c] -= cross[m, c] * shift[v, row]


@njit(cache=True, error_model="numpy", nogil=True)
def fit_rows(data, problem, library, free):  # type: ignore[no-untyped-def]
    """Fit curves, one a row.

    Returns x, the inverse of JᵀJ over x, the shift of x if all data rise by 1, the sum of
    squared residuals, and the status.
    """
    n_rows, n = data.shape
    x, rss = np.zeros((n_rows, N_X)), np.full(n_rows, np.nan)
    covariance, shift = np.zeros((n_rows, N_X, N_X)), np.zeros((n_rows, N_X))
    codes = np.zeros(n_rows, dtype=np.uint8)
    rows, products = np.zeros((_N_ROWS, n)), np.zeros(library.rates.size)
    p, trial, a, gram, gradient = np.zeros(3), np.zeros(3), np.zeros(2), np.zeros(3), np.zeros(3)
    cross, schur, inverse = np.zeros((3, 2)), np.zeros((3, 3)), np.zeros((3, 3))
    for i in range(n):
        rows[_ONES, i] = 1.0
    # what is not searched stays as it is here
    for c in range(2):
        kind = problem.first if c == 0 else problem.second
        if kind == INTEGRAL:
            convolve(problem.aif, problem.aif_t, problem.t, 0.0, 0.0, rows, _F + c, _D + c)
        elif kind == PLASMA:
            sample(problem.aif, problem.aif_t, problem.t, 0.0, rows, _F + c, _D + c)
    for v in range(n_rows):
        for i in range(n):
            rows[_Y, i] = data[v, i]
        square = dot(rows, _Y, rows, _Y)
        if not (np.isfinite(square) and square > 0.0):
            codes[v] = _NO_SIGNAL if square == 0.0 else _NON_FINITE
            continue
        _start(rows, library, products, p)
        codes[v], rss[v] = _search(
            problem, free, rows, p, trial, a, gram, cross, schur, gradient, inverse
        )
        x[v, 0], x[v, 1], x[v, 2], x[v, 3], x[v, 4] = a[0], a[1], p[0], p[1], p[2]
        if codes[v] != _FITTED:
            continue
        if _invert(schur, free.size, 0.0, inverse):
            two = problem.second != NONE
            _errors(v, free, two, rows, gram, cross, inverse, covariance, shift)
        else:
            codes[v] = _NOT_IDENTIFIABLE
    return x, covariance, shift, rss, codes
