"""The nonlinear tensor fit of one voxel, with and without outliers, and the loop over voxels."""

from __future__ import annotations

import numpy as np
from numba import njit

from mrn_prep.models._dti_kernel import (
    _covariance,
    _eigen,
    _logarithms,
    _measures,
    _solve_weighted,
)
from mrn_prep.models._noise_kernel import mean_excess
from mrn_prep.models.status import MIN_RESIDUAL_DOF, Reason

_MAX_STEPS, _TOLERANCE = 50, 1e-8
_FLOOR_ROUNDS, _FLOOR_TOLERANCE = 10, 1e-3
_ROBUST_ROUNDS, _ROBUST_TOLERANCE = 50, 1e-3  # µm²/ms, and of ln S0
_MAD_TO_SD = 1.4826
_FITTED, _NOT_CONVERGED = int(Reason.FITTED), int(Reason.NOT_CONVERGED)
_OUT_OF_RANGE, _TOO_FEW = int(Reason.OUT_OF_RANGE), int(Reason.TOO_FEW)


@njit(cache=True, nogil=True, error_model="numpy")
def _predict(design, beta, predicted):  # type: ignore[no-untyped-def]
    for i in range(predicted.size):
        exponent = 0.0
        for r in range(7):
            exponent += design[i, r] * beta[r]
        predicted[i] = np.exp(exponent)


@njit(cache=True, nogil=True, error_model="numpy")
def _cost(target, predicted, importance):  # type: ignore[no-untyped-def]
    cost = 0.0
    for i in range(target.size):
        if importance[i] > 0.0:
            cost += importance[i] * (target[i] - predicted[i]) ** 2
    return cost


@njit(cache=True, nogil=True, error_model="numpy")
def _descend(target, importance, design, beta, lower, room):  # type: ignore[no-untyped-def]
    """Gauss-Newton steps from beta for Σ importance (target - exp(X beta))²; return the reason.

    Leaves the prediction in `room`, and in `lower` the factor of XᵀWX, W = importance times
    the squared prediction.
    """
    predicted, weight, y, step, trial = room
    _predict(design, beta, predicted)
    cost = _cost(target, predicted, importance)
    for _ in range(_MAX_STEPS):
        for i in range(target.size):
            # a step in beta changes the signal by signal · X step
            weight[i] = importance[i] * predicted[i] * predicted[i]
            y[i] = (target[i] - predicted[i]) / predicted[i] if importance[i] > 0.0 else 0.0
        if not _solve_weighted(design, weight, y, lower, step):
            return _TOO_FEW
        size = 0.0
        for r in range(7):
            size = max(size, abs(step[r]))
        share = min(1.0, 2.0 / size)
        while True:
            for r in range(7):
                trial[r] = beta[r] + share * step[r]
            _predict(design, trial, predicted)
            new = _cost(target, predicted, importance)
            if new <= cost or share * size < _TOLERANCE:
                break
            share *= 0.5
        for r in range(7):
            beta[r] = trial[r]
        cost = new
        if share * size < _TOLERANCE:
            return _FITTED
    return _NOT_CONVERGED


@njit(cache=True, nogil=True, error_model="numpy")
def _fit(signal, importance, floor, design, beta, lower, target, room):  # type: ignore[no-untyped-def]
    """Fit as `_descend`, with a noise floor of `floor` taken out by what the fit says of it."""
    _predict(design, beta, room[0])
    for i in range(signal.size):
        target[i] = signal[i] - mean_excess(room[0][i], floor)
    for _ in range(_FLOOR_ROUNDS):
        code = _descend(target, importance, design, beta, lower, room)
        moved = 0.0
        for i in range(signal.size):
            if importance[i] > 0.0:
                updated = signal[i] - mean_excess(room[0][i], floor)
                moved = max(moved, abs(updated - target[i]))
                target[i] = updated
        if code != _FITTED or moved <= _FLOOR_TOLERANCE * floor:
            break
    return code


@njit(cache=True, nogil=True, error_model="numpy")
def _start(log_s, importance, design, beta, lower, room):  # type: ignore[no-untyped-def]
    """Write the weighted linear fit into beta; False where volumes do not determine it."""
    weight = room[1]
    for i in range(log_s.size):
        weight[i] = importance[i]
    if not _solve_weighted(design, weight, log_s, lower, beta):
        return False
    _predict(design, beta, room[0])
    for i in range(log_s.size):
        weight[i] = importance[i] * room[0][i] ** 2
    return _solve_weighted(design, weight, log_s, lower, beta)


@njit(cache=True, nogil=True, error_model="numpy")
def _add_negative(signal, usable):  # type: ignore[no-untyped-def]
    """Take signed measurements in, for which only the start had no use; return their number."""
    n = 0
    for i in range(signal.size):
        if signal[i] < 0.0:
            usable[i] = 1.0
            n += 1
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def _spread(target, predicted, usable, sorted_):  # type: ignore[no-untyped-def]
    """Scale the median absolute deviation of the residuals to a standard deviation."""
    n = 0
    for i in range(target.size):
        if usable[i] > 0.0:
            sorted_[n] = target[i] - predicted[i]
            n += 1
    found = sorted_[:n]
    for _ in range(2):  # deviations from the median, then their median
        found.sort()
        median = 0.5 * (found[n // 2] + found[(n - 1) // 2])
        for i in range(n):
            found[i] = abs(found[i] - median)
    return _MAD_TO_SD * median


@njit(cache=True, nogil=True, error_model="numpy")
def _outliers(target, predicted, usable, limit, importance):  # type: ignore[no-untyped-def]
    """Set the importance of outliers to 0 and that of all others to 1; return their number."""
    n = 0
    for i in range(target.size):
        importance[i] = usable[i]
        if usable[i] > 0.0 and abs(target[i] - predicted[i]) > limit:
            importance[i] = 0.0
            n += 1
    return n


@njit(cache=True, nogil=True, error_model="numpy")
def _reject(  # type: ignore[no-untyped-def]
    signal, usable, used, sigma, floor, cutoff, design, beta, lower, target, importance, room
):
    """Go on from a least-squares fit by RESTORE; return the reason and the number left out."""
    predicted, before, sorted_ = room[0], np.empty(7), np.empty(signal.size)
    enlarge = np.sqrt(used / max(used - 7.0, 1.0))
    scale = sigma if sigma > 0.0 else enlarge * _spread(target, predicted, usable, sorted_)
    if _outliers(target, predicted, usable, cutoff * scale, importance) == 0:
        return _FITTED, 0
    for _ in range(_ROBUST_ROUNDS):
        width = max(_spread(target, predicted, usable, sorted_), 1e-6 * np.max(predicted))
        for i in range(signal.size):
            residual = (target[i] - predicted[i]) / width
            importance[i] = usable[i] / (1.0 + residual * residual)
        for r in range(7):
            before[r] = beta[r]
        code = _fit(signal, importance, floor, design, beta, lower, target, room)
        if code != _FITTED:
            return code, 0
        if np.max(np.abs(beta - before)) < _ROBUST_TOLERANCE:
            break
    if not sigma > 0.0:
        scale = enlarge * _spread(target, predicted, usable, sorted_)
    n_out = _outliers(target, predicted, usable, cutoff * scale, importance)
    if used - n_out < 7:
        return _TOO_FEW, 0
    return _fit(signal, importance, floor, design, beta, lower, target, room), n_out


@njit(cache=True, nogil=True, error_model="numpy")
def fit_rows(signal, left, design, rician, robust, cutoff):  # type: ignore[no-untyped-def]
    """Fit each row: the maps of `DTIResult` and the fraction of outliers, and the reason."""
    n_voxels, n = signal.shape
    maps, status = np.full((n_voxels, 14), np.nan), np.zeros(n_voxels, np.uint8)
    log_s, usable, importance, target = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    beta, lower, sigma = np.empty(7), np.empty((7, 7)), left.sigma
    room = (np.empty(n), np.empty(n), np.empty(n), np.empty(7), np.empty(7))
    for v in range(n_voxels):
        for i in range(n):
            usable[i], log_s[i] = 1.0, 0.0
        status[v], used = _logarithms(signal[v], log_s, usable)
        if status[v] != _FITTED:
            continue
        if not _start(log_s, usable, design, beta, lower, room):
            status[v] = _TOO_FEW
            continue
        used += _add_negative(signal[v], usable)
        floor = sigma[v] if rician and sigma[v] > 0.0 else 0.0
        status[v] = _fit(signal[v], usable, floor, design, beta, lower, target, room)
        n_out = 0
        for i in range(n):
            importance[i] = usable[i]
        if robust and status[v] == _FITTED:
            status[v], n_out = _reject(
                signal[v], usable, used, sigma[v], floor, cutoff, design, beta, lower, target,
                importance, room,
            )  # fmt: skip
        if status[v] != _FITTED:
            continue
        evals, evecs = _eigen(beta)
        if not evals[2] > 0.0:
            status[v] = _OUT_OF_RANGE
            continue
        level, freedom = sigma[v], used - n_out - 7
        misfit = _cost(target, room[0], importance)
        if not level >= 0.0:
            level = np.sqrt(misfit / freedom) if freedom >= MIN_RESIDUAL_DOF else np.nan
        weight = room[1]
        for i in range(n):
            weight[i] = importance[i] * room[0][i] ** 2
        cov = _covariance(design, weight, lower, misfit / sigma[v] ** 2, left, v)
        _measures(beta, evals, evecs, cov * level**2, maps[v])
        maps[v, 13] = n_out / used
    return maps, status
