"""Noise of magnitude images, made and measured; and of signed ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation
from scipy.optimize import minimize_scalar

Float = NDArray[np.float64]

MIN_BACKGROUND = 1000
"""Fewer background values than this give no noise estimate (3 % at best)."""

_ENOUGH = 4_000_000
_MARGIN_VOXELS = 3
_ZEROED = 0.5  # fraction of exact zeros at which the background is not noise
_CUT = 2.0  # values beyond this many sigma do not count: ghosts and ringing
_START_QUANTILE = 0.25
_SIGMA_MIN = 0.5  # grey levels; less is lost in rounding, or a constant and no noise
_ITERATIONS = 50
_BINS = 64
_HALF_NORMAL_MEDIAN = 0.67449


def rician_noise(signal: ArrayLike, sigma: ArrayLike, rng: np.random.Generator) -> Float:
    r"""Add noise to both channels and take the magnitude.

    .. math:: m = |S + \sigma(n_1 + i n_2)|, \quad n_1, n_2 \sim N(0, 1)

    Parameters
    ----------
    signal : real or complex array
        Noise-free signal.
    sigma : float or array
        Standard deviation of each channel, in the unit of `signal`; must broadcast.
    rng : numpy.random.Generator
        Source of the noise.

    Returns
    -------
    array
        Rician-distributed magnitude [1]_.

    References
    ----------
    .. [1] Gudbjartsson H, Patz S. Magn Reson Med 1995;34:910-914.
       doi:10.1002/mrm.1910340618

    Examples
    --------
    The mean square is S^2 + 2 sigma^2:

    >>> noisy = rician_noise(np.full(10**5, 3.0), 2.0, np.random.default_rng(1))
    >>> bool(abs(np.mean(noisy**2) - (9 + 8)) < 0.2)
    True
    """
    signal = np.asarray(signal)
    sigma = np.asarray(sigma, dtype=np.float64)
    shape = np.broadcast_shapes(signal.shape, sigma.shape)
    channels = sigma[..., np.newaxis] * rng.standard_normal((*shape, 2))
    return np.hypot(signal.real + channels[..., 0], signal.imag + channels[..., 1])


def sigma_from_background(images: ArrayLike, limb_mask: ArrayLike) -> float:
    r"""Noise standard deviation of a series from the air around the limb.

    There :math:`m^2` is exponential with mean :math:`2\sigma^2` (Rayleigh magnitude [1]_).

    Parameters
    ----------
    images : array, shape (nx, ny, nz) or (nx, ny, nz, n)
        Magnitude images of one series, one gain.
    limb_mask : bool array, shape (nx, ny, nz)
        The limb; three voxels around it do not count either.

    Returns
    -------
    float
        Sigma of each channel, in the unit of the images. NaN where the background tells
        nothing: fewer than `MIN_BACKGROUND` values, or half of them exactly zero because
        the scanner blanked them, or nearly all of them alike.

    Raises
    ------
    ValueError
        If the shapes disagree.

    Notes
    -----
    Sigma is the maximum-likelihood value of the distribution truncated at
    :math:`2\sigma`, found by iteration from a low quantile, so that ghosts and ringing,
    which are brighter, do not count. Exact zeros never count. Grey levels count as the
    classes between their halves, so that rounding does no harm. The images are taken to
    come from one channel or an adaptive combination; the root of the sum of squares of
    several coils has another distribution.

    References
    ----------
    .. [1] Gudbjartsson H, Patz S. Magn Reson Med 1995;34:910-914.
       doi:10.1002/mrm.1910340618

    Examples
    --------
    >>> limb = np.zeros((40, 40, 4), bool)
    >>> limb[12:28, 12:28] = True
    >>> image = rician_noise(300.0 * limb, 6.0, np.random.default_rng(0))
    >>> bool(abs(sigma_from_background(image, limb) - 6.0) < 0.2)
    True
    >>> sigma_from_background(image * limb, limb)
    nan
    """
    values = _air(images, limb_mask)
    positive = values[values > 0]
    if positive.size < MIN_BACKGROUND or positive.size < (1 - _ZEROED) * values.size:
        return float("nan")
    return _truncated_rayleigh(positive)


def sigma_from_air(images: ArrayLike, limb_mask: ArrayLike) -> float:
    r"""Noise standard deviation of signed images from the air around the limb.

    .. math:: \sigma = \mathrm{median}(-S \mid S < 0) / 0.6745

    Parameters
    ----------
    images : array, shape (nx, ny, nz) or (nx, ny, nz, n)
        Images whose noise has the mean zero, such as `mrn_prep.models.phase.real_part`.
    limb_mask : bool array, shape (nx, ny, nz)
        The limb; three voxels around it do not count either.

    Returns
    -------
    float
        Sigma, in the unit of the images. NaN where the air tells nothing: fewer than
        `MIN_BACKGROUND` values that are not 0, or half of them exactly zero because the scanner
        blanked them.

    Raises
    ------
    ValueError
        If the shapes disagree.

    Notes
    -----
    Ghosts and ringing that are freed of their phase are positive: what lies below zero is noise.

    Examples
    --------
    >>> limb = np.zeros((40, 40, 4), bool)
    >>> limb[12:28, 12:28] = True
    >>> image = 300.0 * limb + np.random.default_rng(0).normal(0, 6.0, limb.shape)
    >>> bool(abs(sigma_from_air(image, limb) - 6.0) < 0.2)
    True
    >>> sigma_from_air(image * limb, limb)
    nan
    """
    values = _air(images, limb_mask)
    n_known = np.count_nonzero(values)
    below = values[values < 0]
    if n_known < MIN_BACKGROUND or n_known < (1 - _ZEROED) * values.size or not below.size:
        return float("nan")
    return float(np.median(-below) / _HALF_NORMAL_MEDIAN)


def _air(images: ArrayLike, limb_mask: ArrayLike) -> Float:
    """Return the finite values of a series away from the limb, a part of them where many."""
    images = np.asarray(images)
    limb = np.asarray(limb_mask, dtype=np.bool_)
    if images.ndim not in (3, 4) or images.shape[:3] != limb.shape:
        raise ValueError(
            f"images {images.shape} and limb_mask {limb.shape} must be (nx, ny, nz[, n]) "
            "and (nx, ny, nz)."
        )
    # in plane only: the air above the end of a limb is as far from it as a slice is thick
    around = np.ones((3, 3, 1), dtype=np.bool_)
    air = ~binary_dilation(limb, around, iterations=_MARGIN_VOXELS)
    places = np.flatnonzero(air)
    per_place = images.size // limb.size
    # more values would not tell more, and copies of a long series are large
    places = places[:: 1 + places.size * per_place // _ENOUGH]
    values = images.reshape(limb.size, per_place)[places].astype(np.float64).ravel()
    return values[np.isfinite(values)]


def _truncated_rayleigh(values: Float) -> float:
    """Sigma from positive values, the large ones left out."""
    sigma = np.quantile(values, _START_QUANTILE) / np.sqrt(-2 * np.log1p(-_START_QUANTILE))
    step = _grey_level(values)
    for _ in range(_ITERATIONS):
        cut = max(_CUT * sigma, 2 * step)
        width = step * np.ceil(cut / (step * _BINS)) if step else cut / _BINS
        limits = 0.5 * step + width * np.arange(np.ceil(cut / width) + 1)
        counts, _ = np.histogram(values, limits)
        if np.count_nonzero(counts) < 2:
            return float("nan")
        updated = _rayleigh_scale(counts, limits, float(sigma))
        if abs(updated - sigma) < 1e-4 * sigma:
            break
        sigma = updated
    return float(updated) if updated > _SIGMA_MIN * step else float("nan")


def _grey_level(values: Float) -> float:
    """Distance of the grey levels; 0 for a continuous image."""
    levels = np.unique(values)
    return float(np.diff(levels).min()) if 1 < levels.size < 0.1 * values.size else 0.0


def _rayleigh_scale(counts: NDArray[np.intp], limits: Float, start: float) -> float:
    """Most likely sigma of values counted between limits, given that they lie within all."""
    energy = 0.5 * (limits - limits[0]) * (limits + limits[0])

    def cost(log_sigma: float) -> float:
        rate = np.exp(-2 * log_sigma)
        inside = np.log(-np.expm1(-rate * np.diff(energy))) - rate * energy[:-1]
        return float(counts.sum() * np.log(-np.expm1(-rate * energy[-1])) - counts @ inside)

    centre = np.log(start)
    return float(np.exp(minimize_scalar(cost, bounds=(centre - 1, centre + 1)).x))
