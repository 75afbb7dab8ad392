"""Signal of a dynamic spoiled gradient echo as a function of R1, with and without interruptions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

_MAX_ITERATIONS = 100


class Interruption(NamedTuple):
    """How fat saturation, or any pause, interrupts the train of pulses."""

    n_pulses: int
    """Excitation pulses from one interruption to the next."""
    gap_s: float
    """How much longer than TR the time from the last of them to the next pulse is (s)."""
    centre: int
    """Number, from 0, of the pulse whose echo is the centre of k-space."""


CONTINUOUS = Interruption(1, 0.0, 0)
"""A train without interruptions."""


def dynamic_signal(
    r1_per_s: ArrayLike,
    flip_rad: ArrayLike,
    tr_s: float,
    interruption: Interruption = CONTINUOUS,
) -> Float:
    r"""Longitudinal magnetisation before the pulse, as a fraction of M0.

    Times :math:`M_0 \sin\alpha` this is the signal. Without interruptions it is

    .. math:: f = \frac{1 - E_1}{1 - E_1\cos\alpha},\quad E_1 = e^{-T_R R_1}

    With a gap after every n pulses, in which the water recovers, pulse j (from 0) sees

    .. math:: f_j = f + (m_0 - f)\,a^j,\quad a = E_1\cos\alpha,\quad
        m_0 = \frac{1 - G + G f\,(1 - a^n)}{1 - G a^n},\quad G = e^{-R_1 t_{gap}}

    which follows from :math:`m_{j+1} = a\,m_j + 1 - E_1` and
    :math:`m_0 = 1 + (m_n - 1)\,G`.

    Parameters
    ----------
    r1_per_s : array, shape (...)
        Relaxation rate (1/s).
    flip_rad : array, broadcastable to (...)
        Angle the spins saw: nominal angle times relative B1+ (rad).
    tr_s : float
        Time between pulses (s).
    interruption : Interruption
        Pulses between gaps, the gap, and the pulse that counts; none by default.

    Returns
    -------
    array, shape (...)

    Notes
    -----
    Ideal spoiling; the fat saturation itself is taken not to touch water.

    References
    ----------
    Deoni SCL, Rutt BK, Peters TM. Magn Reson Med 2003;49:515-526. doi:10.1002/mrm.10407

    Examples
    --------
    After a very long gap the first pulse finds all magnetisation, the thirtieth nearly what it
    finds without gaps:

    >>> long_gap = Interruption(n_pulses=40, gap_s=60.0, centre=0)
    >>> round(float(dynamic_signal(1.0, 0.3, 0.005, long_gap)), 6)
    1.0
    >>> steady = dynamic_signal(10.0, 0.3, 0.005)
    >>> bool(abs(dynamic_signal(10.0, 0.3, 0.005, long_gap._replace(centre=29)) - steady) < 0.1)
    True
    """
    r1, flip = np.broadcast_arrays(
        np.asarray(r1_per_s, dtype=np.float64), np.asarray(flip_rad, dtype=np.float64)
    )
    n_pulses, gap_s, centre = interruption
    sequence = (float(tr_s), int(n_pulses), float(gap_s), int(centre))
    found: Float = _responses(r1.ravel(), np.cos(flip).ravel(), *sequence)
    return found.reshape(r1.shape)


@njit(cache=True, error_model="numpy", nogil=True)
def response(r1, cos, tr_s, n_pulses, gap_s, centre):  # type: ignore[no-untyped-def]
    """Return magnetisation as a fraction of M0, and its derivative by R1."""
    e = np.exp(-tr_s * r1)
    de = -tr_s * e
    a, da = e * cos, de * cos
    steady = -np.expm1(-tr_s * r1) / (1.0 - a)
    d_steady = (da * steady - de) / (1.0 - a)
    if gap_s == 0.0:
        return steady, d_steady
    g = np.exp(-r1 * gap_s)
    dg = -gap_s * g
    power = a**n_pulses
    d_power = n_pulses * a ** (n_pulses - 1) * da
    above = 1.0 - g + g * steady * (1.0 - power)
    d_above = -dg + dg * steady * (1.0 - power) + g * (d_steady * (1.0 - power) - steady * d_power)
    below, d_below = 1.0 - g * power, -dg * power - g * d_power
    first = above / below
    d_first = (d_above - first * d_below) / below
    fade = a**centre
    d_fade = centre * a ** (centre - 1) * da if centre > 0 else 0.0
    value = steady + (first - steady) * fade
    return value, d_steady + (d_first - d_steady) * fade + (first - steady) * d_fade


@njit(cache=True, error_model="numpy", nogil=True)
def _responses(r1, cos, tr_s, n_pulses, gap_s, centre):  # type: ignore[no-untyped-def]
    out = np.empty(r1.size)
    for i in range(r1.size):
        out[i] = response(r1[i], cos[i], tr_s, n_pulses, gap_s, centre)[0]
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def rate_of(value, cos, tr_s, n_pulses, gap_s, centre):  # type: ignore[no-untyped-def]
    """Invert `response` for 0 < value < 1; return R1 and the derivative there.

    Without gaps in closed form, with them by Newton steps kept between limits.
    """
    e = (1.0 - value) / (1.0 - value * cos)
    r1 = -np.log(e) / tr_s
    if gap_s == 0.0:
        return r1, tr_s * e * (1.0 - cos) / (1.0 - e * cos) ** 2
    low, high, slope = 0.0, r1, 0.0  # with gaps there is more signal at the same R1
    for _ in range(_MAX_ITERATIONS):
        f, slope = response(r1, cos, tr_s, n_pulses, gap_s, centre)
        if f > value:
            high = r1
        else:
            low = r1
        following = r1 + (value - f) / slope
        if not low <= following <= high:
            following = 0.5 * (low + high)
        change = abs(following - r1)
        r1 = following
        if change <= 1e-13 * r1:
            break
    return r1, slope
