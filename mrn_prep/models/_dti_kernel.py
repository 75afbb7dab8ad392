"""The tensor fit of one voxel, compiled, and the loop over voxels."""

import numpy as np
from numba import njit, prange

from mrn_prep.models._retained_kernel import noise_power, propagate
from mrn_prep.models.status import MIN_RESIDUAL_DOF, Reason

# Noise across the gradient, enlarged from its mean to what covers 68 % of isotropic voxels:
# (χ²₅;0.68 - 1) / 4 for FA; for AD - RD the same of the eigenvalues of a Gaussian matrix.
_FA_ACROSS = 1.22
_GAP_ACROSS = 1.60

_FITTED, _NON_FINITE, _NO_SIGNAL = int(Reason.FITTED), int(Reason.NON_FINITE), int(Reason.NO_SIGNAL)
_OUT_OF_RANGE, _TOO_FEW = int(Reason.OUT_OF_RANGE), int(Reason.TOO_FEW)


@njit(cache=True, error_model="numpy")
def _logarithms(signal, log_s, weight):  # type: ignore[no-untyped-def]
    """Fill ln S and 0/1 weights; return the status and the number of volumes used."""
    used = 0
    empty = True
    for i in range(signal.size):
        if not np.isfinite(signal[i]):
            return _NON_FINITE, 0
        empty = empty and signal[i] == 0
        if signal[i] > 0:
            log_s[i] = np.log(signal[i])
            used += 1
        else:
            weight[i] = 0
    if empty:
        return _NO_SIGNAL, 0
    return (_FITTED if used >= 7 else _TOO_FEW), used


@njit(cache=True, error_model="numpy")
def _solve_weighted(design, weight, y, lower, beta):  # type: ignore[no-untyped-def]
    """Solve XᵀWX β = XᵀWy by Cholesky, leaving the factor; False where singular."""
    lower[:] = 0
    beta[:] = 0
    for i in range(y.size):
        for r in range(7):
            wx = weight[i] * design[i, r]
            beta[r] += wx * y[i]
            for c in range(r + 1):
                lower[r, c] += wx * design[i, c]
    for c in range(7):
        diagonal = lower[c, c]
        for k in range(c):
            lower[c, c] -= lower[c, k] ** 2
        if not lower[c, c] > 1e-10 * diagonal:
            return False
        lower[c, c] = np.sqrt(lower[c, c])
        for r in range(c + 1, 7):
            for k in range(c):
                lower[r, c] -= lower[r, k] * lower[c, k]
            lower[r, c] /= lower[c, c]
    _substitute(lower, beta)
    return True


@njit(cache=True, error_model="numpy")
def _substitute(lower, x):  # type: ignore[no-untyped-def]
    """Solve L Lᵀ x = x in place."""
    for r in range(7):
        for k in range(r):
            x[r] -= lower[r, k] * x[k]
        x[r] /= lower[r, r]
    _back(lower, x)


@njit(cache=True, error_model="numpy")
def _back(lower, x):  # type: ignore[no-untyped-def]
    """Solve Lᵀ x = x in place."""
    for r in range(6, -1, -1):
        for k in range(r + 1, 7):
            x[r] -= lower[k, r] * x[k]
        x[r] /= lower[r, r]


@njit(cache=True, error_model="numpy")
def _covariance(design, weight, lower, misfit, left, v):  # type: ignore[no-untyped-def]
    """Covariance of the coefficients, over sigma², for noise as of row `v` of `NoiseRows`.

    `misfit` is the sum of weighted squared residuals over sigma². What it has beyond the noise
    (edges that do not lie still) counts as more noise of every volume.
    """
    n, used = weight.size, 0
    whitened = np.empty((7, n))  # orthonormal rows: noise / S in ln S, times the weight S²
    for i in range(n):
        used += weight[i] > 0
        for r in range(7):
            whitened[r, i] = np.sqrt(weight[i]) * design[i, r]
            for k in range(r):
                whitened[r, i] -= lower[r, k] * whitened[k, i]
            whitened[r, i] /= lower[r, r]
    covariance = np.empty((7, 7))
    propagate(whitened, left, v, covariance)
    freedom = used - 7
    if freedom >= MIN_RESIDUAL_DOF:
        expected = noise_power(weight, left, v) - np.trace(covariance)
        # noise alone goes beyond three standard deviations in less than one voxel of a hundred
        excess = (misfit - expected * (1 + 3 * np.sqrt(2 / freedom))) / freedom
        if 0 < excess < np.inf:
            for r in range(7):
                covariance[r, r] += excess
    for _ in range(2):  # from both sides
        for c in range(7):
            _back(lower, covariance[c])
        covariance = covariance.T.copy()
    return covariance


@njit(cache=True, error_model="numpy")
def _eigen(d):  # type: ignore[no-untyped-def]
    """Eigenvalues, descending, and eigenvectors (rows) of a tensor, by Jacobi rotations."""
    a = np.array([[d[0], d[1], d[3]], [d[1], d[2], d[4]], [d[3], d[4], d[5]]])
    v = np.eye(3)
    size = np.sum(a * a)
    for _ in range(20):
        if a[0, 1] ** 2 + a[0, 2] ** 2 + a[1, 2] ** 2 <= 1e-28 * size:
            break
        for p in range(2):
            for q in range(p + 1, 3):
                if a[p, q] == 0:
                    continue
                # atan of the smaller angle keeps the rotation stable
                theta = (a[q, q] - a[p, p]) / (2 * a[p, q])
                t = 1 / (abs(theta) + np.sqrt(theta * theta + 1))
                t = t if theta >= 0 else -t
                c = 1 / np.sqrt(t * t + 1)
                s = t * c
                for k in range(3):
                    a[k, p], a[k, q] = c * a[k, p] - s * a[k, q], s * a[k, p] + c * a[k, q]
                for k in range(3):
                    a[p, k], a[q, k] = c * a[p, k] - s * a[q, k], s * a[p, k] + c * a[q, k]
                    v[p, k], v[q, k] = c * v[p, k] - s * v[q, k], s * v[p, k] + c * v[q, k]
    order = np.argsort(-np.diag(a))
    return np.diag(a)[order], v[order]


@njit(cache=True, error_model="numpy")
def _gradient(u, v):  # type: ignore[no-untyped-def]
    """Gradient of uᵀDv with respect to the six elements of D."""
    return np.array(
        [
            u[0] * v[0],
            u[0] * v[1] + u[1] * v[0],
            u[1] * v[1],
            u[0] * v[2] + u[2] * v[0],
            u[1] * v[2] + u[2] * v[1],
            u[2] * v[2],
        ]
    )


@njit(cache=True, error_model="numpy")
def _variance(covariance, gradient):  # type: ignore[no-untyped-def]
    total = 0.0
    for r in range(6):
        for c in range(6):
            total += gradient[r] * covariance[r, c] * gradient[c]
    return total


@njit(cache=True, error_model="numpy")
def _lift(value, along, across):  # type: ignore[no-untyped-def]
    """Return by how much noise along and across a vector has lengthened it."""
    floor = along + across
    length = np.sqrt(max(value * value - floor, 0.0))
    return np.sqrt(length * length + across) - length


@njit(cache=True, error_model="numpy")
def _measures(d, evals, evecs, cov, out):  # type: ignore[no-untyped-def]
    """Write FA, MD, AD, RD, S0, their standard errors, and the principal direction."""
    trace = np.sum(evals)
    power = np.sum(evals * evals)
    fa = np.sqrt(max(1.5 - trace * trace / (2 * power), 0.0))
    s0 = np.exp(d[6])
    out[0], out[1], out[2] = fa, trace / 3, evals[0]
    out[3], out[4] = (evals[1] + evals[2]) / 2, s0

    d_trace = np.array([1.0, 0, 1, 0, 0, 1])
    twice = np.array([1.0, 2, 1, 2, 2, 1])
    var_fa = 0.0
    if fa > 0:
        d_power = 2 * twice * d[:6]
        slope = (trace * trace / (2 * power * power) * d_power - trace / power * d_trace) / (2 * fa)
        var_fa = _variance(cov, slope)
    var_trace = _variance(cov, d_trace)
    # noise power of FA², from the deviatoric part of the tensor's covariance
    noise_fa = -var_trace / 3
    for r in range(6):
        noise_fa += twice[r] * cov[r, r]
    noise_fa = max(1.5 * noise_fa / power - var_fa, 0.0)
    lift_fa = _lift(fa, var_fa, _FA_ACROSS * noise_fa)

    # λ1 and the mean of the others repel each other through the noise between them
    d_ad = _gradient(evecs[0], evecs[0])
    d_rd = (d_trace - d_ad) / 2
    mixing = 0.0
    for k in range(1, 3):
        mixing += 3 * _variance(cov, _gradient(evecs[0], evecs[k]))
    lift_gap = _lift(out[2] - out[3], _variance(cov, d_ad - d_rd), _GAP_ACROSS * mixing)
    out[5] = np.sqrt(var_fa + lift_fa**2)
    out[6] = np.sqrt(var_trace) / 3
    out[7] = np.sqrt(_variance(cov, d_ad) + 4 * lift_gap**2 / 9)
    out[8] = np.sqrt(_variance(cov, d_rd) + lift_gap**2 / 9)
    out[9] = s0 * np.sqrt(cov[6, 6])
    out[10:13] = evecs[0]


@njit(cache=True, parallel=True, error_model="numpy")
def fit_rows(signal, design, pinv, left, use_residuals, reweightings):  # type: ignore[no-untyped-def]
    """Fit each row of `signal`: columns of the maps as in `DTIResult`, and the status."""
    n_voxels, n = signal.shape
    maps = np.full((n_voxels, 13), np.nan)
    status = np.empty(n_voxels, np.uint8)
    for voxel in prange(n_voxels):
        weight = np.ones(n)
        log_s = np.zeros(n)
        beta = np.zeros(7)
        lower = np.empty((7, 7))
        status[voxel], n_used = _logarithms(signal[voxel], log_s, weight)
        if status[voxel] != _FITTED:
            continue
        for step in range(reweightings + 1):
            if step == 0 and n_used == n:
                beta[:] = pinv @ log_s
            elif not _solve_weighted(design, weight, log_s, lower, beta):
                status[voxel] = _TOO_FEW
                break
            if step < reweightings:
                for i in range(n):
                    if weight[i] > 0:
                        weight[i] = np.exp(2 * np.dot(design[i], beta))
        if status[voxel] != _FITTED:
            continue
        evals, evecs = _eigen(beta)
        if not evals[2] > 0:
            status[voxel] = _OUT_OF_RANGE
            continue
        noise = left.sigma[voxel]
        misfit = np.sum(weight * (log_s - design @ beta) ** 2)
        if use_residuals and n_used - 7 >= MIN_RESIDUAL_DOF:
            noise = np.sqrt(misfit / (n_used - 7))
        cov = _covariance(design, weight, lower, misfit / noise**2, left, voxel)
        _measures(beta, evals, evecs, cov * noise**2, maps[voxel])
    return maps, status
