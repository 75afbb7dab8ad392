"""What noise does to magnitudes, and to what is fitted to them: compiled pieces of the fits.

With an amplitude A and rho = A / sigma, the mean of a Rician magnitude is A plus an excess, and
the mean of its logarithm is ln A + E1(rho²/2) / 2 (a noncentral chi² of two degrees of freedom).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.integrate import quad_vec
from scipy.special import exp1, ive

from mrn_prep.models.rician import rician_mean

Float = NDArray[np.float64]

_RHO_PER_ROW = 1.0 / 64.0
_ROWS = 64 * 12 + 1  # beyond rho = 12 the asymptotes hold to 1e-4 and better
_RHO = np.asarray(np.arange(_ROWS) * _RHO_PER_ROW, np.float64)


def _log_variance(rho: Float) -> Float:
    """Variance of the logarithm of a Rician magnitude."""
    mean = 0.5 * exp1(np.maximum(rho, 1e-9) ** 2 / 2) + np.log(np.maximum(rho, 1e-9))

    def density(m: float) -> Float:
        bell = m * ive(0, rho * m) * np.exp(-0.5 * (m - rho) ** 2)
        spread: Float = bell * (np.log(m) - mean) ** 2
        return spread

    return np.asarray(quad_vec(density, 1e-12, _RHO[-1] + 9, epsabs=1e-10, limit=2000)[0])


_EXCESS = np.asarray(rician_mean(_RHO, 1.0) - _RHO, np.float64)
_LOG_EXCESS = 0.5 * exp1(np.maximum(_RHO, 0.5 * _RHO_PER_ROW) ** 2 / 2)
_LOG_VARIANCE = _log_variance(_RHO)


@njit(cache=True, nogil=True, error_model="numpy")
def _read(table, rho):  # type: ignore[no-untyped-def]
    row = rho / _RHO_PER_ROW
    low = int(row)
    return table[low] + (row - low) * (table[low + 1] - table[low])


@njit(cache=True, nogil=True, error_model="numpy")
def mean_excess(amplitude, sigma):  # type: ignore[no-untyped-def]
    """Mean magnitude minus amplitude; 0 where the noise is unknown."""
    if not sigma > 0.0:
        return 0.0
    rho = abs(amplitude) / sigma
    if rho < (_ROWS - 1) * _RHO_PER_ROW:
        return sigma * _read(_EXCESS, rho)
    return sigma * (0.5 + 0.125 / (rho * rho)) / rho


@njit(cache=True, nogil=True, error_model="numpy")
def log_moments(amplitude, sigma):  # type: ignore[no-untyped-def]
    """Mean of ln m minus ln A, its slope by ln A, and 1 / variance of ln m."""
    rho = amplitude / sigma
    if rho < (_ROWS - 1) * _RHO_PER_ROW:
        excess, variance = _read(_LOG_EXCESS, rho), _read(_LOG_VARIANCE, rho)
        return excess, -np.expm1(-0.5 * rho * rho), 1.0 / variance
    return 0.0, 1.0, rho * rho - 1.0
