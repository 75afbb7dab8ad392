"""The bias of magnitude images: mean of a Rician variable, and its inverse."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ive

Float = NDArray[np.floating]

_AMPLITUDES = np.linspace(0.0, 30.0, 12001)
"""Amplitudes over sigma of the table; beyond, the asymptote is exact to 1e-5."""


def rician_mean(amplitude: ArrayLike, sigma: ArrayLike) -> Float:
    r"""Mean magnitude of a signal with complex Gaussian noise.

    .. math:: \bar m = \sigma\sqrt{\tfrac{\pi}{2}}\,e^{-x}\left[(1+2x)\,I_0(x) +
        2x\,I_1(x)\right],\quad x = \frac{A^2}{4\sigma^2}

    Parameters
    ----------
    amplitude : array, shape (...)
        Signal without noise, A.
    sigma : array, broadcastable to (...)
        Standard deviation of the noise in each of the two channels.

    Returns
    -------
    array, shape (...)

    References
    ----------
    Koay CG, Basser PJ. J Magn Reson 2006;179:317-322. doi:10.1016/j.jmr.2006.01.016

    Examples
    --------
    Without signal it is the mean of a Rayleigh variable, with much signal nearly the signal:

    >>> [round(float(m), 6) for m in (rician_mean(0, 2), rician_mean(100, 2))]
    [2.506628, 100.020002]
    """
    sigma = np.asarray(sigma, dtype=np.float64)
    x = (np.asarray(amplitude, dtype=np.float64) / sigma) ** 2 / 4
    mean: Float = sigma * np.sqrt(np.pi / 2) * ((1 + 2 * x) * ive(0, x) + 2 * x * ive(1, x))
    return mean


def amplitude_from_mean(mean: ArrayLike, sigma: ArrayLike) -> Float:
    """Invert `rician_mean`: the signal whose mean magnitude is given.

    Parameters
    ----------
    mean : array, shape (...)
        Mean magnitude, as denoising or averaging of magnitudes gives it. A single noisy
        magnitude is no mean: this would overcorrect it.
    sigma : array, broadcastable to (...)
        Standard deviation of the noise before averaging.

    Returns
    -------
    array, shape (...)
        NaN below the mean of noise alone (1.25 sigma): nothing can be said of the signal.
        The mean itself where sigma is 0.

    Examples
    --------
    >>> round(float(amplitude_from_mean(rician_mean(3.0, 2.0), 2.0)), 4)
    3.0
    >>> amplitude_from_mean(2.0, 2.0)
    array(nan)
    """
    mean, sigma = np.asarray(mean, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = mean / sigma
        # squares, because the mean rises with the square of a small amplitude
        table = np.sqrt(np.interp(ratio**2, _MEANS**2, _AMPLITUDES**2, left=np.nan))
        amplitude = sigma * np.where(ratio < _MEANS[-1], table, np.sqrt(ratio**2 - 1))
    found: Float = np.where(sigma > 0, amplitude, mean)
    return found


_MEANS = rician_mean(_AMPLITUDES, 1.0)
