"""Least-squares fit of water, fat, field and R2* to complex echoes, one voxel a row.

Water W and fat F are real and share the phase φ at echo time 0. For given field and R2* their
best values and φ have a closed form (variable projection), which leaves a search over two.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Float = NDArray[np.float64]

N_CANDIDATES = 3
"""Local minima kept per voxel: water, fat, and one more, which noise can make."""
R2STAR_MIN_PER_S, R2STAR_MAX_PER_S = -200.0, 2000.0
"""Range of the search; noise may bring a small rate below 0."""

_TWO_PI = 2.0 * np.pi
_ROUGH, _FINE = 1e-3, 1e-6  # steps, as rad or relative decay at the last echo
_ROUGH_STEPS, _FINE_STEPS = 6, 60
_MUCH_WORSE = 0.2  # of the power: what no smoothness makes up for


class Echoes(NamedTuple):
    """What all voxels share."""

    te_s: Float
    fat_re: Float
    fat_im: Float
    """The fat's phasor at the echoes."""


class Search(NamedTuple):
    """Fields at which local minima are sought."""

    field_hz: Float
    cos: Float
    sin: Float
    """Cosine and sine of 2π field te, shape (n_echoes, n_fields)."""
    r2star_per_s: Float
    periodic: bool
    """Whether the fields make up a full period."""


@njit(cache=True, error_model="numpy", nogil=True)
def _amplitudes(m11, m12, m22, wr, wi, fr, fi):  # type: ignore[no-untyped-def]
    """Return W, F, cos φ, sin φ and the energy they explain; φ such that W + F is positive."""
    det = m11 * m22 - m12 * m12
    if not det > 1e-9 * m11 * m22:
        return np.nan, np.nan, 1.0, 0.0, np.nan
    # x = M⁻¹ b for the complex b = (w, f)
    xr, xi = (m22 * wr - m12 * fr) / det, (m22 * wi - m12 * fi) / det
    yr, yi = (m11 * fr - m12 * wr) / det, (m11 * fi - m12 * wi) / det
    # bᵀ M⁻¹ b, whose phase is 2φ
    qr = wr * xr - wi * xi + fr * yr - fi * yi
    qi = wr * xi + wi * xr + fr * yi + fi * yr
    size = np.sqrt(qr * qr + qi * qi)
    c, s = 1.0, 0.0
    if size > 0.0:
        c = np.sqrt(max(0.5 * (1.0 + qr / size), 0.0))
        s = np.sqrt(max(0.5 * (1.0 - qr / size), 0.0))
        if qi < 0.0:
            s = -s
    water, fat = xr * c + xi * s, yr * c + yi * s
    if water + fat < 0.0:
        water, fat, c, s = -water, -fat, -c, -s
    return water, fat, c, s, 0.5 * (wr * xr + wi * xi + fr * yr + fi * yi + size)


@njit(cache=True, error_model="numpy", nogil=True)
def _evaluate(s, echoes, field_hz, r2star, x, turned):  # type: ignore[no-untyped-def]
    """Write W and F into x and the signal, field and φ taken off, into rows 0 and 1 of `turned`.

    Row 2 gets the decay. Returns the sum of squared residuals.
    """
    te, cr, ci = echoes.te_s, echoes.fat_re, echoes.fat_im
    m11, m12, m22, wr, wi, fr, fi, power = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(te.size):
        angle = _TWO_PI * field_hz * te[i]
        cos, sin, e = np.cos(angle), np.sin(angle), np.exp(-r2star * te[i])
        real, imag = s[i].real, s[i].imag
        a, b = real * cos + imag * sin, imag * cos - real * sin
        turned[0, i], turned[1, i], turned[2, i] = a, b, e
        m11 += e * e
        m12 += e * e * cr[i]
        m22 += e * e * (cr[i] * cr[i] + ci[i] * ci[i])
        wr += e * a
        wi += e * b
        fr += e * (cr[i] * a + ci[i] * b)
        fi += e * (cr[i] * b - ci[i] * a)
        power += a * a + b * b
    x[0], x[1], cos, sin, explained = _amplitudes(m11, m12, m22, wr, wi, fr, fi)
    for i in range(te.size):
        a, b = turned[0, i], turned[1, i]
        turned[0, i], turned[1, i] = a * cos + b * sin, b * cos - a * sin
    return max(power - explained, 0.0) if explained == explained else np.nan


@njit(cache=True, error_model="numpy", nogil=True)
def _normal(echoes, x, turned, hessian, gradient):  # type: ignore[no-untyped-def]
    """Write JᵀJ (lower half) over W, F, φ, 2π field and R2*, and -½ slope by the last two."""
    te, cr, ci = echoes.te_s, echoes.fat_re, echoes.fat_im
    hessian[:] = 0.0
    gradient[:] = 0.0
    for i in range(te.size):
        t, e = te[i], turned[2, i]
        mr, mi = e * (x[0] + x[1] * cr[i]), e * x[1] * ci[i]
        square = mr * mr + mi * mi
        f_re, f_im = e * (cr[i] * mr + ci[i] * mi), e * (cr[i] * mi - ci[i] * mr)
        hessian[0, 0] += e * e
        hessian[1, 0] += e * e * cr[i]
        hessian[1, 1] += e * e * (cr[i] * cr[i] + ci[i] * ci[i])
        hessian[2, 0] -= e * mi
        hessian[2, 1] -= f_im
        hessian[2, 2] += square
        hessian[3, 0] -= t * e * mi
        hessian[3, 1] -= t * f_im
        hessian[3, 2] += t * square
        hessian[3, 3] += t * t * square
        hessian[4, 0] -= t * e * mr
        hessian[4, 1] -= t * f_re
        hessian[4, 4] += t * t * square
        rr, ri = turned[0, i] - mr, turned[1, i] - mi
        gradient[3] += t * (mr * ri - mi * rr)
        gradient[4] -= t * (mr * rr + mi * ri)


@njit(cache=True, error_model="numpy", nogil=True)
def _factor(matrix):  # type: ignore[no-untyped-def]
    """Cholesky factor of the lower half, in place; False if there is none."""
    n = matrix.shape[0]
    for k in range(n):
        whole = matrix[k, k]
        for j in range(k):
            matrix[k, k] -= matrix[k, j] * matrix[k, j]
        if not matrix[k, k] > 1e-13 * whole:
            return False
        matrix[k, k] = np.sqrt(matrix[k, k])
        for i in range(k + 1, n):
            for j in range(k):
                matrix[i, k] -= matrix[i, j] * matrix[k, j]
            matrix[i, k] /= matrix[k, k]
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def _substitute(factor, right):  # type: ignore[no-untyped-def]
    """Solve in place with the factor of `_factor`."""
    n = factor.shape[0]
    for k in range(n):
        for j in range(k):
            right[k] -= factor[k, j] * right[j]
        right[k] /= factor[k, k]
    for k in range(n - 1, -1, -1):
        for j in range(k + 1, n):
            right[k] -= factor[j, k] * right[j]
        right[k] /= factor[k, k]


@njit(cache=True, error_model="numpy", nogil=True)
def _refine(s, echoes, x, tolerance, n_steps, room, inverse):  # type: ignore[no-untyped-def]
    """Minimise over field x[2] and R2* x[3] by Levenberg-Marquardt steps; W, F to x[0], x[1].

    Writes (JᵀJ)⁻¹ over W, F, φ, 2π field and R2*. Returns the sum of squared residuals, NaN if
    there is no minimum, and whether the steps came to an end.
    """
    turned, normal, hessian, gradient, step, trial = room
    last = echoes.te_s[-1]
    damping, best, ended = 1e-3, np.inf, False
    trial[2], trial[3] = x[2], x[3]
    for iteration in range(n_steps + 1):
        cost = _evaluate(s, echoes, trial[2], trial[3], trial, turned)
        if cost <= best:
            x[:] = trial
            best = cost
            damping *= 0.1
            _normal(echoes, x, turned, normal, gradient)
        else:
            damping = max(damping * 10.0, 1e-3)
        if best == np.inf:
            return np.nan, False
        # a last step too small to count may be lost in rounding
        end = ended or iteration == n_steps
        hessian[:] = normal
        if not end:
            hessian[3, 3] *= 1.0 + damping
            hessian[4, 4] *= 1.0 + damping
        if not _factor(hessian):
            return np.nan, False
        if end:
            break
        step[:] = gradient
        _substitute(hessian, step)
        turn = min(max(step[3], -0.5 / last), 0.5 / last)
        trial[2] = x[2] + turn / _TWO_PI
        decay = min(max(step[4], -1.0 / last), 1.0 / last)
        trial[3] = min(max(x[3] + decay, R2STAR_MIN_PER_S), R2STAR_MAX_PER_S)
        ended = max(abs(turn), abs(trial[3] - x[3])) * last < tolerance
    for k in range(5):
        inverse[k] = 0.0
        inverse[k, k] = 1.0
        _substitute(hessian, inverse[k])
    return best, ended


@njit(cache=True, error_model="numpy", nogil=True)
def _room(n):  # type: ignore[no-untyped-def]
    square = np.empty((5, 5)), np.empty((5, 5))
    return np.empty((3, n)), square[0], square[1], np.empty(5), np.empty(5), np.empty(4)


@njit(cache=True, error_model="numpy", nogil=True)
def _explained(s, echoes, search, decays, gram, energy, sums):  # type: ignore[no-untyped-def]
    """Write the energy that water and fat, neither negative, explain at every field."""
    energy[:] = 0.0
    for k in range(decays.shape[0]):
        sums[:] = 0.0
        for i in range(s.size):
            a, b, e = s[i].real, s[i].imag, decays[k, i]
            cr, ci = e * echoes.fat_re[i], e * echoes.fat_im[i]
            for g in range(energy.size):
                cos, sin = search.cos[i, g], search.sin[i, g]
                tr, ti = a * cos + b * sin, b * cos - a * sin
                sums[0, g] += e * tr
                sums[1, g] += e * ti
                sums[2, g] += cr * tr + ci * ti
                sums[3, g] += cr * ti - ci * tr
        m11, m12, m22 = gram[k, 0], gram[k, 1], gram[k, 2]
        det = m11 * m22 - m12 * m12
        for g in range(energy.size):
            # as in _amplitudes
            wr, wi, fr, fi = sums[0, g], sums[1, g], sums[2, g], sums[3, g]
            xr, xi = m22 * wr - m12 * fr, m22 * wi - m12 * fi
            yr, yi = m11 * fr - m12 * wr, m11 * fi - m12 * wi
            qr = wr * xr - wi * xi + fr * yr - fi * yi
            qi = wr * xi + wi * xr + fr * yi + fi * yr
            size = np.sqrt(qr * qr + qi * qi)
            both = 0.5 * (wr * xr + wi * xi + fr * yr + fi * yi + size) / det
            one = max((wr * wr + wi * wi) / m11, (fr * fr + fi * fi) / m22)
            # 2 W F |Q|, of which only the sign counts
            product = qr * (xr * yr - xi * yi) + qi * (xr * yi + xi * yr)
            product += size * (xr * yr + xi * yi)
            energy[g] = max(energy[g], both if product >= 0.0 else one)


@njit(cache=True, error_model="numpy", nogil=True)
def _peaks(energy, periodic, least, peaks):  # type: ignore[no-untyped-def]
    """Write the indices of the highest local maxima of `least` or more; return how many."""
    n, found = energy.size, 0
    for g in range(n):
        before, after = energy[g - 1], energy[(g + 1) % n]
        if not periodic and (g == 0 or g == n - 1):
            before, after = (before, -np.inf) if g else (-np.inf, after)
        if energy[g] > before and energy[g] >= after and energy[g] >= least:
            place = found
            while place > 0 and energy[peaks[place - 1]] < energy[g]:
                if place < peaks.size:
                    peaks[place] = peaks[place - 1]
                place -= 1
            if place < peaks.size:
                peaks[place] = g
                found = min(found + 1, peaks.size)
    return found


@njit(cache=True, error_model="numpy", nogil=True)
def find_candidates(signal, echoes, search):  # type: ignore[no-untyped-def]
    """Find the local minima of every row of `signal` (n_voxels, n_echoes), complex.

    Returns field (Hz), R2* (1/s), misfit and the field's standard error for noise of 1, each
    (n_voxels, N_CANDIDATES), the latter two infinite where there are fewer. The
    misfit is the sum of squared residuals for W, F and R2* that are not negative.
    """
    n_voxels, n = signal.shape
    shape = (n_voxels, N_CANDIDATES)
    fields, rates = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    misfits = np.full(shape, np.inf, np.float32)
    spreads = misfits.copy()
    n_rates, n_fields = search.r2star_per_s.size, search.field_hz.size
    decays, gram = np.empty((n_rates, n)), np.zeros((n_rates, 3))
    for k in range(n_rates):
        for i in range(n):
            e = np.exp(-search.r2star_per_s[k] * echoes.te_s[i])
            decays[k, i] = e
            gram[k, 0] += e * e
            gram[k, 1] += e * e * echoes.fat_re[i]
            gram[k, 2] += e * e * (echoes.fat_re[i] ** 2 + echoes.fat_im[i] ** 2)
    energy, sums = np.empty(n_fields), np.empty((4, n_fields))
    peaks, x, inverse, room = (
        np.empty(N_CANDIDATES, np.int64),
        np.empty(4),
        np.empty((5, 5)),
        _room(n),
    )
    for v in range(n_voxels):
        s = signal[v]
        power = 0.0
        for i in range(n):
            power += s[i].real ** 2 + s[i].imag ** 2
        _explained(s, echoes, search, decays, gram, energy, sums)
        least = energy.max() - _MUCH_WORSE * power
        for k in range(_peaks(energy, search.periodic, least, peaks)):
            x[2], x[3] = search.field_hz[peaks[k]], 50.0
            misfit, _ = _refine(s, echoes, x, _ROUGH, _ROUGH_STEPS, room, inverse)
            if not misfit < np.inf:
                continue
            # to second order, what the fit loses when a negative value is held at 0
            misfit += min(x[0], 0.0) ** 2 / inverse[0, 0] + min(x[1], 0.0) ** 2 / inverse[1, 1]
            misfit += min(x[3], 0.0) ** 2 / inverse[4, 4]
            fields[v, k], rates[v, k], misfits[v, k] = x[2], x[3], misfit
            spreads[v, k] = np.sqrt(inverse[3, 3]) / _TWO_PI
    return fields, rates, misfits, spreads


@njit(cache=True, error_model="numpy", nogil=True)
def fit_rows(signal, echoes, field_hz, r2star):  # type: ignore[no-untyped-def]
    """Fit every row from a start near its minimum.

    Returns x (n_voxels, 4) of W, F, field and R2*; the residuals' sum of squares; variances of W,
    F, field and R2* and the covariance of W and F for noise of 1 (n_voxels, 5); and whether the
    search converged. What has no minimum is NaN.
    """
    n_voxels, n = signal.shape
    found, misfits = np.full((n_voxels, 4), np.nan), np.full(n_voxels, np.nan)
    spreads, converged = np.full((n_voxels, 5), np.nan), np.zeros(n_voxels, np.bool_)
    x, inverse, room = np.empty(4), np.empty((5, 5)), _room(n)
    for v in range(n_voxels):
        x[2], x[3] = field_hz[v], r2star[v]
        misfits[v], converged[v] = _refine(signal[v], echoes, x, _FINE, _FINE_STEPS, room, inverse)
        if converged[v]:
            found[v] = x
            spreads[v, 0], spreads[v, 1], spreads[v, 4] = (
                inverse[0, 0],
                inverse[1, 1],
                inverse[0, 1],
            )
            spreads[v, 2], spreads[v, 3] = inverse[3, 3] / _TWO_PI**2, inverse[4, 4]
    return found, misfits, spreads, converged
