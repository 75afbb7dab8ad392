"""The bias of magnitude images: mean of a Rician variable, and its inverse."""

from __future__ import annotations

import numpy as np
from numba import vectorize
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
    return np.asarray(_amplitude(np.asarray(mean, np.float64), np.asarray(sigma, np.float64)))


_SQUARES = rician_mean(_AMPLITUDES, 1.0) ** 2


@vectorize(cache=True)
def _amplitude(mean, sigma):  # type: ignore[no-untyped-def]
    if not sigma > 0.0:
        return mean
    square = (mean / sigma) ** 2
    if not mean > 0.0 or square < _SQUARES[0]:
        return np.nan
    if square >= _SQUARES[-1]:
        return sigma * np.sqrt(square - 1.0)
    # between squares, because the mean rises with the square of a small amplitude
    low, high = 0, _SQUARES.size - 1
    while high - low > 1:
        middle = (low + high) // 2
        if _SQUARES[middle] <= square:
            low = middle
        else:
            high = middle
    share = (square - _SQUARES[low]) / (_SQUARES[high] - _SQUARES[low])
    first, last = _AMPLITUDES[low] ** 2, _AMPLITUDES[high] ** 2
    return sigma * np.sqrt(first + share * (last - first))
