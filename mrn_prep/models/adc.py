"""Apparent diffusion coefficient from two or more b-values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._noise_kernel import log_moments
from mrn_prep.models._retained_kernel import propagate
from mrn_prep.models._rows import NoiseRows, Status, fit_masked
from mrn_prep.models.dti import B0_MAX_S_MM2, LOW_B_MAX_S_MM2
from mrn_prep.models.retained import RetainedNoise
from mrn_prep.models.status import MIN_RESIDUAL_DOF, NOISE_FLOOR_SIGMA, Reason

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

ADC_MAX_MM2_S = 0.01
"""Three times that of free water at body temperature; a fit beyond it is out of range."""

_B_SCALE = 1e-3  # diffusivities near 1 keep the normal equations well conditioned
_MAX_ITERATIONS = 50
_TOLERANCE = 1e-9
_FITTED, _NON_FINITE, _NO_SIGNAL = int(Reason.FITTED), int(Reason.NON_FINITE), int(Reason.NO_SIGNAL)
_OUT_OF_RANGE, _NOT_CONVERGED = int(Reason.OUT_OF_RANGE), int(Reason.NOT_CONVERGED)
_TOO_FEW = int(Reason.TOO_FEW)


@dataclass(frozen=True)
class ADCResult:
    """Maps of `fit_adc`, of shape (...): the signal's without its last axis.

    Everything is NaN where `status` is not 0; standard errors are NaN where the noise is
    not known either.
    """

    adc_mm2_s: Float
    """Apparent diffusion coefficient (mm²/s)."""
    adc_se_mm2_s: Float
    """Its standard error (mm²/s)."""
    s0: Float
    """Signal at b = 0, in the unit of the input."""
    s0_se: Float
    """Its standard error."""
    status: Status
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


def select_adc_volumes(b_s_mm2: ArrayLike, include_low_b: bool = False) -> Bool:
    """Volumes that belong into a fit of the ADC.

    Volumes with 5 < b < 200 s/mm² carry perfusion and are left out, provided that two
    different b-values remain; otherwise all volumes are kept.

    Parameters
    ----------
    b_s_mm2 : array, shape (n,)
        b-values (s/mm²).
    include_low_b : bool
        Keep every volume.

    Returns
    -------
    bool array, shape (n,)
        True where the volume is used.

    Examples
    --------
    >>> select_adc_volumes([0, 50, 400, 800]).tolist()
    [True, False, True, True]
    >>> select_adc_volumes([50, 800]).tolist()
    [True, True]
    """
    b = np.asarray(b_s_mm2, np.float64)
    chosen = (b <= B0_MAX_S_MM2) | (b >= LOW_B_MAX_S_MM2)
    if include_low_b or not chosen.any() or np.ptp(b[chosen]) <= B0_MAX_S_MM2:
        return np.ones(b.shape, bool)
    return chosen


def fit_adc(
    signal: ArrayLike,
    b_s_mm2: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    noise: RetainedNoise | None = None,
    rician: bool = True,
    n_threads: int = 1,
) -> ADCResult:
    r"""Fit a mono-exponential decay to the logarithm of magnitudes.

    .. math:: \min \sum_i w_i \left(\ln S_i - \ln A_i - \tfrac12 E_1(\rho_i^2/2)\right)^2,\quad
        A_i = S_0\, e^{-b_i\,\mathrm{ADC}},\quad \rho_i = A_i/\sigma,\quad
        w_i = 1 / \mathrm{var}(\ln S_i)

    The exponential integral is what the noise floor adds to the mean logarithm of a Rician
    magnitude, so that weak signals neither lower the ADC nor have to be left out.

    Parameters
    ----------
    signal : array, shape (..., n)
        Magnitude signal. A value of 0 or less has no logarithm: that volume is left out of
        that voxel's fit.
    b_s_mm2 : array, shape (n,)
        b-values (s/mm²) as they were; two or more different ones, in any number of volumes.
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    sigma : float or array, shape (...), optional
        Standard deviation of the noise in each of the two channels, in the unit of the
        signal. Without it (or where it is NaN) the noise floor is not modelled, weights are
        :math:`A_i^2`, and standard errors come from the residuals if there are six degrees of
        freedom, else are NaN.
    noise : RetainedNoise, optional
        What denoising left of `sigma`, see `mrn_prep.models.mppca.retained_noise`.
    rician : bool
        Whether the noise floor is in the signal; not if its bias has been removed.
    n_threads : int
        Threads to fit in.

    Returns
    -------
    ADCResult
        An ADC that is not positive or is beyond `ADC_MAX_MM2_S` is NaN with
        ``Reason.OUT_OF_RANGE``; a largest signal below 3 sigma with ``Reason.NO_SIGNAL``;
        fewer than two different b-values with a logarithm, with ``Reason.TOO_FEW``.

    Raises
    ------
    ValueError
        If shapes disagree, the b-values are all within 5 s/mm² of each other, or `noise` comes
        without `sigma`.

    Notes
    -----
    All volumes of a b-value weigh the same, whatever their direction: the fit sees the
    geometric mean of each shell, so that with directions spread evenly (three orthogonal ones
    suffice) the ADC of a Gaussian tensor is a third of its trace.

    Standard errors are those of noise alone when `sigma` is given. Those from residuals also
    hold the spread between directions.

    Solved by iterated reweighting (Fisher scoring), where
    :math:`\partial\,E[\ln S]/\partial \ln A = 1 - e^{-\rho^2/2}`.

    References
    ----------
    Stejskal EO, Tanner JE. J Chem Phys 1965;42:288-292. doi:10.1063/1.1695690
    Gudbjartsson H, Patz S. Magn Reson Med 1995;34:910-914. doi:10.1002/mrm.1910340618

    Examples
    --------
    >>> b = np.array([0.0, 400.0, 800.0])
    >>> fit = fit_adc(900 * np.exp(-b * 1.5e-3), b)
    >>> round(float(fit.adc_mm2_s), 9), round(float(fit.s0), 4)
    (0.0015, 900.0)

    The geometric mean over three axes is a third of the trace:

    >>> axes = np.exp(-800 * np.array([2.1e-3, 1.2e-3, 0.9e-3]))
    >>> float(fit_adc([1.0, *axes], [0, 800, 800, 800]).adc_mm2_s.round(9))
    0.0014
    """
    b = np.ascontiguousarray(b_s_mm2, np.float64)
    if b.size and np.ptp(b) <= B0_MAX_S_MM2:
        raise ValueError(
            f"An ADC needs two b-values more than {B0_MAX_S_MM2:g} s/mm² apart, got {b.tolist()}."
        )

    def fit(rows: Float, of: NoiseRows) -> tuple[Float, Status]:
        found: tuple[Float, Status] = _fit_rows(rows, b * _B_SCALE, of, rician)
        return found

    maps, status = fit_masked(fit, 4, signal, b, mask, sigma, noise, n_threads)
    return ADCResult(maps[0] * _B_SCALE, maps[1] * _B_SCALE, maps[2], maps[3], status)


@njit(cache=True, nogil=True, error_model="numpy")
def _usable(s, b, sigma, log_s):  # type: ignore[no-untyped-def]
    """Fill logarithms (NaN where there is none); return the reason and their number."""
    largest, used, low, high = 0.0, 0, np.inf, -np.inf
    for i in range(s.size):
        if not np.isfinite(s[i]):
            return _NON_FINITE, 0
        largest = max(largest, s[i])
        log_s[i] = np.log(s[i]) if s[i] > 0.0 else np.nan
        if s[i] > 0.0:
            used += 1
            low, high = min(low, b[i]), max(high, b[i])
    if largest == 0.0 or largest < NOISE_FLOOR_SIGMA * sigma:
        return _NO_SIGNAL, 0
    if not high - low > B0_MAX_S_MM2 * _B_SCALE:
        return _TOO_FEW, 0
    return _FITTED, used


@njit(cache=True, nogil=True, error_model="numpy")
def _equations(log_s, b, x, sigma, floor, sums, gain):  # type: ignore[no-untyped-def]
    """Sum up the normal equations at x = (ln S0, ADC), and write their columns into `gain`.

    Weights are relative to sigma² (to 1 where it is unknown).
    """
    sums[:] = 0.0
    for i in range(b.size):
        gain[0, i] = gain[1, i] = 0.0
        if np.isnan(log_s[i]):
            continue
        predicted = x[0] - b[i] * x[1]
        amplitude = np.exp(predicted)
        excess, slope, weight = 0.0, 1.0, amplitude * amplitude
        if floor:
            excess, slope, weight = log_moments(amplitude, sigma)
            weight *= sigma * sigma
        residual = log_s[i] - predicted - excess
        gain[0, i] = slope * np.sqrt(weight)
        gain[1, i] = -b[i] * gain[0, i]
        sums[0] += weight * slope * slope
        sums[1] -= weight * slope * slope * b[i]
        sums[2] += weight * slope * slope * b[i] * b[i]
        sums[3] += weight * slope * residual
        sums[4] -= weight * slope * residual * b[i]
        sums[5] += weight * residual * residual


@njit(cache=True, nogil=True, error_model="numpy")
def _search(log_s, b, x, sigma, floor, sums, gain):  # type: ignore[no-untyped-def]
    """Iterate from a constant signal to the solution; return the reason."""
    x[0], x[1], used = 0.0, 0.0, 0
    for i in range(b.size):
        if not np.isnan(log_s[i]):
            x[0] += log_s[i]
            used += 1
    x[0] /= used
    for _ in range(_MAX_ITERATIONS):
        _equations(log_s, b, x, sigma, floor, sums, gain)
        determinant = sums[0] * sums[2] - sums[1] * sums[1]
        step = (sums[0] * sums[4] - sums[1] * sums[3]) / determinant
        shift = (sums[2] * sums[3] - sums[1] * sums[4]) / determinant
        if not np.isfinite(step + shift):
            return _OUT_OF_RANGE
        x[0] += min(max(shift, -2.0), 2.0)
        x[1] += min(max(step, -2.0), 2.0)
        if abs(step) + abs(shift) < _TOLERANCE:
            return _FITTED if 0.0 < x[1] <= ADC_MAX_MM2_S / _B_SCALE else _OUT_OF_RANGE
        if x[1] > 2.0 * ADC_MAX_MM2_S / _B_SCALE:
            return _OUT_OF_RANGE
    return _NOT_CONVERGED


@njit(cache=True, nogil=True, error_model="numpy")
def _fit_rows(signal, b, left, rician):  # type: ignore[no-untyped-def]
    """Fit each row: ADC, its error, S0, its error, and the reason."""
    n_voxels, n = signal.shape
    maps, status = np.full((n_voxels, 4), np.nan), np.zeros(n_voxels, np.uint8)
    log_s, gain, sums, x = np.empty(n), np.empty((2, n)), np.empty(6), np.empty(2)
    covariance, sigma = np.empty((2, 2)), left.sigma
    for v in range(n_voxels):
        status[v], used = _usable(signal[v], b, sigma[v], log_s)
        if status[v] != _FITTED:
            continue
        floor = rician and sigma[v] > 0.0
        status[v] = _search(log_s, b, x, sigma[v], floor, sums, gain)
        if status[v] != _FITTED:
            continue
        level = sigma[v]
        if not level >= 0.0:
            freedom = used - 2
            level = np.sqrt(sums[5] / freedom) if freedom >= MIN_RESIDUAL_DOF else np.nan
        determinant = sums[0] * sums[2] - sums[1] * sums[1]
        for i in range(n):
            first, second = gain[0, i], gain[1, i]
            gain[0, i] = (sums[2] * first - sums[1] * second) / determinant
            gain[1, i] = (sums[0] * second - sums[1] * first) / determinant
        propagate(gain, left, v, covariance)
        s0 = np.exp(x[0])
        maps[v, 0], maps[v, 1] = x[1], level * np.sqrt(covariance[1, 1])
        maps[v, 2], maps[v, 3] = s0, s0 * level * np.sqrt(covariance[0, 0])
    return maps, status
