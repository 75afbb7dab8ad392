"""The segmented IVIM fit of one voxel, compiled.

D and the tissue's amplitude T come from where perfusion has decayed, S0 from b = 0, the
perfusion's amplitude P = S0 - T from both, and D* from what is left below the threshold.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from mrn_prep.models._ivim_protocol import D_MAX, DSTAR_MAX, MAX_ITERATIONS, MIN_RATIO, TOLERANCE
from mrn_prep.models.status import Reason

_N_DSTAR = 20  # values of D* to start from
_FITTED = int(Reason.FITTED)
_OUT_OF_RANGE, _NOT_CONVERGED = int(Reason.OUT_OF_RANGE), int(Reason.NOT_CONVERGED)


@njit(cache=True, nogil=True, error_model="numpy")
def _tissue(s, count, shared, found, gain):  # type: ignore[no-untyped-def]
    """Write D and T into `found` and their changes by s into `gain`; return the reason."""
    sw = sb = sbb = sy = sby = 0.0
    for g in range(s.size):
        if shared.b[g] >= shared.threshold and s[g] > 0.0:
            w, y = count[g] * s[g] * s[g], np.log(s[g])
            sw += w
            sb += w * shared.b[g]
            sbb += w * shared.b[g] ** 2
            sy += w * y
            sby += w * shared.b[g] * y
    determinant = sw * sbb - sb * sb
    d, t = (sb * sy - sw * sby) / determinant, np.exp((sbb * sy - sb * sby) / determinant)
    for _ in range(MAX_ITERATIONS):
        if not (np.isfinite(t) and abs(d) < 4.0 * D_MAX):
            return _OUT_OF_RANGE
        tt = td = dd = rt = rd = 0.0
        for g in range(s.size):
            if shared.b[g] >= shared.threshold and count[g] > 0.0:
                e = np.exp(-shared.b[g] * d)
                h = -shared.b[g] * t * e
                r = s[g] - t * e
                tt += count[g] * e * e
                td += count[g] * e * h
                dd += count[g] * h * h
                rt += count[g] * e * r
                rd += count[g] * h * r
        determinant = tt * dd - td * td
        step = (tt * rd - td * rt) / determinant
        t += (dd * rt - td * rd) / determinant
        d += min(max(step, -0.5), 0.5)
        if abs(step) < TOLERANCE:
            break
    else:
        return _NOT_CONVERGED
    if not (0.0 < d <= D_MAX and t > 0.0):
        return _OUT_OF_RANGE
    for g in range(s.size):
        gain[0, g] = gain[1, g] = 0.0
        if shared.b[g] >= shared.threshold:
            e = np.exp(-shared.b[g] * d)
            h = -shared.b[g] * t * e
            gain[0, g] = count[g] * (tt * h - td * e) / determinant
            gain[1, g] = count[g] * (dd * e - td * h) / determinant
    found[0], found[1] = d, t
    return _FITTED


@njit(cache=True, nogil=True, error_model="numpy")
def _cost_of_dstar(rest, count, shared, p, dstar):  # type: ignore[no-untyped-def]
    """Squares left of `rest`, minus half their slope by ln D*, and half their second derivative."""
    cost = slope = bend = gauss_newton = 0.0
    for g in range(rest.size):
        if shared.b[g] >= shared.threshold:
            break
        e = p * np.exp(-shared.b[g] * dstar)
        h = -shared.b[g] * dstar * e
        left = count[g] * (rest[g] - e)
        cost += left * (rest[g] - e)
        slope += left * h
        gauss_newton += count[g] * h * h
        bend += count[g] * h * h - left * h * (1.0 - shared.b[g] * dstar)
    return cost, slope, bend if bend > 0.0 else gauss_newton


@njit(cache=True, nogil=True, error_model="numpy")
def _fit_dstar(s, count, shared, d, t, p, rest):  # type: ignore[no-untyped-def]
    """D* with all else given; NaN where the best lies at an end of its range."""
    for g in range(s.size):
        rest[g] = s[g] - t * np.exp(-shared.b[g] * d)
    low, high = np.log(MIN_RATIO * d), np.log(DSTAR_MAX)
    best, x = np.inf, low
    for k in range(_N_DSTAR):
        trial = low + (high - low) * k / (_N_DSTAR - 1)
        cost = _cost_of_dstar(rest, count, shared, p, np.exp(trial))[0]
        if cost < best:
            best, x = cost, trial
    best, slope, bend = _cost_of_dstar(rest, count, shared, p, np.exp(x))
    damping = 0.0
    for _ in range(MAX_ITERATIONS):
        step = min(max(slope / (bend * (1.0 + damping)), -0.3), 0.3)
        trial = x + step
        if not low < trial < high:
            return np.nan
        cost, new_slope, new_bend = _cost_of_dstar(rest, count, shared, p, np.exp(trial))
        if cost <= best:
            best, slope, bend, x = cost, new_slope, new_bend, trial
            damping *= 0.1
        else:
            damping = max(10.0 * damping, 1.0)
        if abs(step) < TOLERANCE:
            return np.exp(x)
    return np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def fit_segmented(s, count, shared, with_dstar, room, values, gain):  # type: ignore[no-untyped-def]
    """Write f, D, D*, S0 into `values` and their changes by s into `gain`; return the reason."""
    code = _tissue(s, count, shared, values, gain)
    if code != _FITTED:
        return code
    d, t = values[0], values[1]
    s0 = n0 = 0.0
    for g in range(s.size):
        if shared.b[g] <= shared.zero:
            s0 += count[g] * s[g]
            n0 += count[g]
    s0 /= n0
    if not s0 > 0.0:
        return _OUT_OF_RANGE
    p, dstar = s0 - t, np.nan
    if with_dstar and p > 0.0:
        dstar = _fit_dstar(s, count, shared, d, t, p, room[3][0])
    bend = 0.0
    by_d = by_t = by_s0 = 0.0
    if np.isfinite(dstar):
        for g in range(s.size):
            if shared.b[g] < shared.threshold and count[g] > 0.0:
                e, tissue = np.exp(-shared.b[g] * dstar), np.exp(-shared.b[g] * d)
                h = -shared.b[g] * p * e
                bend += count[g] * h * h
                by_d += count[g] * h * shared.b[g] * t * tissue
                by_t -= count[g] * h * (tissue - e)
                by_s0 -= count[g] * h * e
    for g in range(s.size):
        of_d, of_t = gain[0, g], gain[1, g]
        of_s0 = count[g] / n0 if shared.b[g] <= shared.zero else 0.0
        gain[0, g] = (t / s0 * of_s0 - of_t) / s0
        gain[1, g], gain[3, g] = of_d, of_s0
        gain[2, g] = np.nan
        if np.isfinite(dstar):
            own = 0.0
            if shared.b[g] < shared.threshold:
                own = -count[g] * shared.b[g] * p * np.exp(-shared.b[g] * dstar)
            gain[2, g] = (own + by_d * of_d + by_t * of_t + by_s0 * of_s0) / bend
    values[0], values[1], values[2], values[3] = 1.0 - t / s0, d, dstar, s0
    return _FITTED
