"""The two-compartment (IVIM) fit of rows of voxels, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit

from mrn_prep.models._ivim_full import fit_full, full_gain
from mrn_prep.models._ivim_protocol import DSTAR_MAX, LOW_MIN
from mrn_prep.models._ivim_segmented import fit_segmented
from mrn_prep.models._noise_kernel import mean_excess
from mrn_prep.models._retained_kernel import propagate
from mrn_prep.models.status import MIN_RESIDUAL_DOF, NOISE_FLOOR_SIGMA, Reason

_FLOOR_ROUNDS, _FLOOR_TOLERANCE = 8, 1e-2
_FITTED, _NON_FINITE, _NO_SIGNAL = int(Reason.FITTED), int(Reason.NON_FINITE), int(Reason.NO_SIGNAL)
_NOT_IDENTIFIABLE, _TOO_FEW = int(Reason.NOT_IDENTIFIABLE), int(Reason.TOO_FEW)


@njit(cache=True, nogil=True, error_model="numpy")
def _gather(signal, shared, sigma, s, count):  # type: ignore[no-untyped-def]
    """Fill means and numbers of volumes per b-value; return the reason and the spread within."""
    s[:] = 0.0
    count[:] = 0.0
    largest, square = 0.0, 0.0
    for i in range(signal.size):
        if not np.isfinite(signal[i]):
            return _NON_FINITE, 0.0
        if signal[i] > 0.0:  # not measured otherwise
            s[shared.group[i]] += signal[i]
            count[shared.group[i]] += 1.0
            square += signal[i] * signal[i]
            largest = max(largest, signal[i])
    if largest == 0.0 or largest < NOISE_FLOOR_SIGMA * sigma:
        return _NO_SIGNAL, 0.0
    n_zero = n_low = n_high = 0
    for g in range(s.size):
        if count[g] > 0.0:
            s[g] /= count[g]
            square -= count[g] * s[g] * s[g]
            n_zero += shared.b[g] <= shared.zero
            n_low += shared.b[g] < shared.threshold
            n_high += shared.b[g] >= shared.threshold
    enough = n_zero >= 1 and n_low >= LOW_MIN and n_high >= 2
    return (_FITTED if enough else _TOO_FEW), max(square, 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def _predict(b, values):  # type: ignore[no-untyped-def]
    """Signal of f, D, D*, S0; where D* is not known, perfusion has decayed at any b but 0."""
    f, dstar = values[0], values[2] if np.isfinite(values[2]) else DSTAR_MAX
    return values[3] * ((1.0 - f) * np.exp(-b * values[1]) + f * np.exp(-b * dstar))


@njit(cache=True, nogil=True, error_model="numpy")
def _errors(signal, count, shared, gain, spread, left, v, room, errors):  # type: ignore[no-untyped-def]
    """Write standard errors, from the gain by b-value."""
    by_volume, covariance = room
    level = left.sigma[v]
    for i in range(signal.size):
        g = shared.group[i]
        for k in range(4):
            by_volume[k, i] = gain[k, g] / count[g] if signal[i] > 0.0 else 0.0
    propagate(by_volume, left, v, covariance)
    if not level >= 0.0:
        freedom = np.sum(count) - 4.0
        level = np.sqrt(spread / freedom) if freedom >= MIN_RESIDUAL_DOF else np.nan
    for k in range(4):
        errors[k] = level * np.sqrt(covariance[k, k])


@njit(cache=True, nogil=True, error_model="numpy")
def _lost(values, errors):  # type: ignore[no-untyped-def]
    """Whether D* cannot be told: it has no estimate, or f or D* no more than their errors."""
    return not np.isfinite(values[2]) or values[0] <= errors[0] or values[2] <= errors[2]


@njit(cache=True, nogil=True, error_model="numpy")
def _fit_means(s, count, shared, sigma, full, x, rooms, values, gain):  # type: ignore[no-untyped-def]
    """Fit means that hold the noise floor, and take it out of them by what the fit says of it."""
    clean = rooms[4]
    for g in range(s.size):
        clean[g] = s[g] - mean_excess(s[g], sigma)
    for turn in range(_FLOOR_ROUNDS):
        code = _NOT_IDENTIFIABLE
        if full and (turn == 0 or np.isfinite(x[0])):
            code = fit_full(clean, count, shared, x, rooms, values)
        if code != _FITTED:
            code = fit_segmented(clean, count, shared, not full, rooms, values, gain)
        moved = 0.0
        for g in range(s.size):
            if code == _FITTED and sigma > 0.0:
                updated = s[g] - mean_excess(_predict(shared.b[g], values), sigma)
                moved = max(moved, abs(updated - clean[g]))
                clean[g] = updated
        if moved <= _FLOOR_TOLERANCE * sigma:
            break
    if code == _FITTED and full and np.isfinite(values[2]):
        full_gain(count, shared.b, values, gain)
    for g in range(s.size):
        s[g] = clean[g]
    return code


@njit(cache=True, nogil=True, error_model="numpy")
def _residual(s, count, b, values, spread):  # type: ignore[no-untyped-def]
    for g in range(s.size):
        spread += count[g] * (s[g] - _predict(b[g], values)) ** 2
    return spread


@njit(cache=True, nogil=True, error_model="numpy")
def fit_rows(signal, left, shared, full, rician):  # type: ignore[no-untyped-def]
    """Fit each row: f, D, D*, S0, then their standard errors, and the reason."""
    n_voxels, n = signal.shape
    m, sigma = shared.b.size, left.sigma
    maps, status = np.full((n_voxels, 8), np.nan), np.zeros(n_voxels, np.uint8)
    s, count, gain, x = np.empty(m), np.empty(m), np.empty((4, m)), np.empty(2)
    values, errors = np.empty(4), np.empty(4)
    score = np.empty((2, shared.d.size), np.float32)
    rooms = (score, np.empty(11), np.empty(11), np.empty((2, m)), np.empty(m))
    error_room = (np.empty((4, n)), np.empty((4, 4)))
    for v in range(n_voxels):
        status[v], spread = _gather(signal[v], shared, sigma[v], s, count)
        if status[v] != _FITTED:
            continue
        x[0] = np.nan
        level = sigma[v] if rician and sigma[v] > 0.0 else 0.0
        code = _fit_means(s, count, shared, level, full, x, rooms, values, gain)
        lost = False
        for _ in range(2):
            if code != _FITTED:
                break
            rest = _residual(s, count, shared.b, values, spread)
            _errors(signal[v], count, shared, gain, rest, left, v, error_room, errors)
            if lost or not _lost(values, errors):
                break
            lost = True
            if full and np.isfinite(values[2]):
                # what two decays cannot tell apart, one decay and the signal at b = 0 can
                code = fit_segmented(s, count, shared, False, rooms, values, gain)
        if code != _FITTED:
            status[v] = code
            continue
        if lost:
            status[v] = _NOT_IDENTIFIABLE
            values[2] = errors[2] = np.nan
        for k in range(4):
            maps[v, k], maps[v, 4 + k] = values[k], errors[k]
    return maps, status
