"""The search for two decays in one voxel, compiled.

The model is T exp(-b D) + P exp(-b D*). Its amplitudes T (tissue) and P (perfusion) are linear
and are eliminated (variable projection), which leaves a search in x = (ln D, ln D*).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mrn_prep.models._ivim_protocol import D_MAX, DSTAR_MAX, MAX_ITERATIONS, MIN_RATIO, TOLERANCE
from mrn_prep.models.status import Reason

_NEWTON_TOLERANCE = 1e-4  # the last Newton step leaves about its square
_FITTED, _NOT_IDENTIFIABLE = int(Reason.FITTED), int(Reason.NOT_IDENTIFIABLE)


@njit(cache=True, nogil=True, error_model="numpy")
def _start(s, count, shared, score, x):  # type: ignore[no-untyped-def]
    """Write into x the best pair of decays with positive amplitudes; False if there is none."""
    n = shared.d.size
    score[:] = 0.0
    first, second = score[0], score[1]
    for g in range(s.size):
        weighted = np.float32(np.sqrt(count[g]) * s[g])
        one, two = shared.basis[g, 0], shared.basis[g, 1]
        for k in range(n):
            first[k] += weighted * one[k]
            second[k] += weighted * two[k]
    best, at = np.float32(0), -1
    for k in range(n):
        if second[k] > 0.0 and first[k] > shared.mixing[k] * second[k]:
            power = first[k] * first[k] + second[k] * second[k]
            if power > best:
                best, at = power, k
    if at < 0:
        return False
    x[0], x[1] = np.log(shared.d[at]), np.log(shared.dstar[at])
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _project(s, count, b, x, decay, out):  # type: ignore[no-untyped-def]
    """Amplitudes at x, half the squares left, and their gradient and second derivatives by x.

    `out`: T, P, half squares, gradient (2), second derivatives (11, 12, 22), then these without
    what the residual adds, which are never negative.
    """
    g11 = g12 = g22 = s1 = s2 = 0.0
    d, dstar = np.exp(x[0]), np.exp(x[1])
    for i in range(s.size):
        e1, e2 = np.exp(-b[i] * d), np.exp(-b[i] * dstar)
        decay[0, i], decay[1, i] = e1, e2
        g11 += count[i] * e1 * e1
        g12 += count[i] * e1 * e2
        g22 += count[i] * e2 * e2
        s1 += count[i] * e1 * s[i]
        s2 += count[i] * e2 * s[i]
    det = g11 * g22 - g12 * g12
    t, p = (g22 * s1 - g12 * s2) / det, (g11 * s2 - g12 * s1) / det
    # of the derivatives h of both decays: products with the decays (p), each other and the rest r
    half = p11 = p12 = p21 = p22 = h11 = h12 = h22 = r1 = r2 = c1 = c2 = 0.0
    for i in range(s.size):
        e1, e2 = decay[0, i], decay[1, i]
        r = count[i] * (s[i] - t * e1 - p * e2)
        h1, h2 = -b[i] * d * e1, -b[i] * dstar * e2
        half += 0.5 * r * (s[i] - t * e1 - p * e2)
        r1 += h1 * r
        r2 += h2 * r
        c1 += (1.0 - b[i] * d) * h1 * r
        c2 += (1.0 - b[i] * dstar) * h2 * r
        w1, w2 = count[i] * h1, count[i] * h2
        p11 += w1 * e1
        p12 += w1 * e2
        p21 += w2 * e1
        p22 += w2 * e2
        h11 += w1 * h1
        h12 += w1 * h2
        h22 += w2 * h2
    # changes of the amplitudes: G da/dx = e r - a p
    a11 = (g22 * (r1 - t * p11) + g12 * t * p12) / det
    a21 = (-g12 * (r1 - t * p11) - g11 * t * p12) / det
    a12 = (-g22 * p * p21 - g12 * (r2 - p * p22)) / det
    a22 = (g12 * p * p21 + g11 * (r2 - p * p22)) / det
    out[0], out[1], out[2] = t, p, half
    out[3], out[4] = -t * r1, -p * r2
    out[5] = t * t * h11 - t * c1 - a11 * r1 + t * (p11 * a11 + p12 * a21)
    out[6] = t * p * h12 - a12 * r1 + t * (p11 * a12 + p12 * a22)
    out[7] = p * p * h22 - p * c2 - a22 * r2 + p * (p21 * a12 + p22 * a22)
    out[8] = t * t * (h11 - (g22 * p11 * p11 - 2.0 * g12 * p11 * p12 + g11 * p12 * p12) / det)
    cross = g22 * p11 * p21 - g12 * (p11 * p22 + p12 * p21) + g11 * p12 * p22
    out[9] = t * p * (h12 - cross / det)
    out[10] = p * p * (h22 - (g22 * p21 * p21 - 2.0 * g12 * p21 * p22 + g11 * p22 * p22) / det)


@njit(cache=True, nogil=True, error_model="numpy")
def _search(s, count, b, x, room):  # type: ignore[no-untyped-def]
    """Damped Newton steps from x; say whether they end at two decays told apart."""
    _, at, trial, decay, _ = room
    damping = 0.0
    _project(s, count, b, x, decay, at)
    y = np.empty(2)
    for _ in range(MAX_ITERATIONS):
        m11, m12, m22 = at[5], at[6], at[7]
        enough = _NEWTON_TOLERANCE if damping < 1e-6 else TOLERANCE
        if not (m11 > 0.0 and m11 * m22 > m12 * m12):
            m11, m12, m22 = at[8], at[9], at[10]
            enough = TOLERANCE
        m11 += damping * at[8]
        m22 += damping * at[10]
        det = m11 * m22 - m12 * m12
        d1 = -(m22 * at[3] - m12 * at[4]) / det
        d2 = -(m11 * at[4] - m12 * at[3]) / det
        if not np.isfinite(d1 + d2):
            return False
        y[0] = x[0] + min(max(d1, -0.7), 0.7)
        y[1] = x[1] + min(max(d2, -1.0), 1.0)
        if y[1] - y[0] < np.log(MIN_RATIO) or y[1] > np.log(2.0 * DSTAR_MAX) or y[0] < -9.0:
            return False
        _project(s, count, b, y, decay, trial)
        if trial[2] <= at[2]:
            x[0], x[1] = y[0], y[1]
            for k in range(11):  # assigning whole arrays costs seconds of compiling
                at[k] = trial[k]
            damping *= 0.1
        else:
            damping = max(10.0 * damping, 1e-2)
        if abs(d1) + abs(d2) < enough:
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def _invert(matrix):  # type: ignore[no-untyped-def]
    """Invert a positive definite matrix in place."""
    n = matrix.shape[0]
    for k in range(n):
        pivot = matrix[k, k]
        matrix[k, k] = 1.0
        for c in range(n):
            matrix[k, c] /= pivot
        for r in range(n):
            if r != k:
                factor = matrix[r, k]
                matrix[r, k] = 0.0
                for c in range(n):
                    matrix[r, c] -= factor * matrix[k, c]


@njit(cache=True, nogil=True, error_model="numpy")
def full_gain(count, b, values, gain):  # type: ignore[no-untyped-def]
    """Write how f, D, D* and S0 change by s."""
    d, dstar, p = values[1], values[2], values[0] * values[3]
    t = values[3] - p
    jacobian, inverse = np.empty((4, b.size)), np.zeros((4, 4))
    for i in range(b.size):
        jacobian[0, i], jacobian[1, i] = np.exp(-b[i] * d), np.exp(-b[i] * dstar)
        jacobian[2, i] = -b[i] * t * jacobian[0, i]
        jacobian[3, i] = -b[i] * p * jacobian[1, i]
        for r in range(4):
            for c in range(r + 1):
                inverse[r, c] += count[i] * jacobian[r, i] * jacobian[c, i]
    for r in range(4):
        for c in range(r):
            inverse[c, r] = inverse[r, c]
    _invert(inverse)
    total, change = t + p, np.empty(4)
    for i in range(b.size):
        for r in range(4):
            change[r] = 0.0
            for c in range(4):
                change[r] += inverse[r, c] * count[i] * jacobian[c, i]
        gain[0, i] = (t * change[1] - p * change[0]) / (total * total)
        gain[1, i], gain[2, i] = change[2], change[3]
        gain[3, i] = change[0] + change[1]


@njit(cache=True, nogil=True, error_model="numpy")
def fit_full(s, count, shared, x, room, values):  # type: ignore[no-untyped-def]
    """Write f, D, D*, S0, searched from x if that is finite; NOT_IDENTIFIABLE where that fails."""
    at = room[1]
    if np.isnan(x[0]) and not _start(s, count, shared, room[0], x):
        return _NOT_IDENTIFIABLE
    told_apart = _search(s, count, shared.b, x, room)
    t, p, d, dstar = at[0], at[1], np.exp(x[0]), np.exp(x[1])
    if not (told_apart and t > 0.0 and p > 0.0 and d <= D_MAX and dstar <= DSTAR_MAX):
        x[0] = np.nan
        return _NOT_IDENTIFIABLE
    values[0], values[1], values[2], values[3] = p / (t + p), d, dstar, t + p
    return _FITTED
