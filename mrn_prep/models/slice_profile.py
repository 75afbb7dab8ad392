"""Flip angles across a slice that windowed sinc pulses select."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.epg import SliceProfile

Float = NDArray[np.float64]

TIME_BANDWIDTH = 4.0
"""Duration times bandwidth of both pulses: two lobes on either side of the main one."""
REFOCUSING_WIDTH = 1.25
"""Nominal thickness of the refocusing pulse's slice over that of the excitation."""

_N_SAMPLES = 256
_N_POINTS = 9
_REACH = 0.9  # of the slice's thickness from its centre: beyond, nothing is excited


def sinc_profile(
    excitation_rad: float = np.pi / 2,
    refocusing_rad: float = np.pi,
    time_bandwidth: float = TIME_BANDWIDTH,
    refocusing_width: float = REFOCUSING_WIDTH,
) -> SliceProfile:
    r"""Return the angles of Hann-windowed sinc pulses across the slice, without relaxation.

    .. math:: B_1(t) \propto \mathrm{sinc}(t\,\mathrm{BW})\,\cos^2(\pi t / T),
        \quad -T/2 \le t \le T/2,

    is applied with a gradient as a train of short rotations, for spins at rest at positions
    from the middle of the slice outwards (it is symmetric). With the Cayley-Klein parameter
    :math:`\beta` of the whole pulse the angle is :math:`2\arcsin|\beta|`, for excitation and for
    refocusing between crushers alike.

    Parameters
    ----------
    excitation_rad, refocusing_rad : float
        Angles at the centre of the slice (rad).
    time_bandwidth : float
        Duration times bandwidth of the pulses.
    refocusing_width : float
        Thickness of the refocused slice over that of the excited one.

    Returns
    -------
    SliceProfile
        Angles relative to those at the centre.

    Raises
    ------
    ValueError
        If an angle is not between 0 and pi, or a width is not positive.

    Notes
    -----
    The profile is that of B1 = 1; at another B1 all its angles are scaled, though the shape of
    a large-angle pulse depends on its strength. Pulses of scanners differ: this is a usual one.

    References
    ----------
    Pauly J, Le Roux P, Nishimura D, Macovski A. IEEE Trans Med Imaging 1991;10:53-65.
    doi:10.1109/42.75611 (Cayley-Klein parameters of selective pulses)
    Lebel RM, Wilman AH. Magn Reson Med 2010;64:1005-1014. doi:10.1002/mrm.22487

    Examples
    --------
    >>> profile = sinc_profile()
    >>> [round(float(x[0]), 3) for x in (profile.excitation, profile.refocusing)]
    [0.995, 0.945]
    >>> bool(profile.excitation[-1] < 0.01 < profile.refocusing[-1])
    True
    """
    for angle in (excitation_rad, refocusing_rad):
        if not 0 < angle <= np.pi:
            raise ValueError(f"Angles must lie between 0 and pi rad, got {angle}.")
    if not (time_bandwidth > 0 and refocusing_width > 0):
        raise ValueError("Time-bandwidth product and width must be positive.")
    # the middle of equal cells, so that their mean is the signal of the slice
    place = (np.arange(_N_POINTS) + 0.5) / _N_POINTS * _REACH
    return SliceProfile(
        excitation=_angles(place, excitation_rad, time_bandwidth) / excitation_rad,
        refocusing=_angles(place / refocusing_width, refocusing_rad, time_bandwidth)
        / refocusing_rad,
    )


def _angles(place: Float, flip_rad: float, time_bandwidth: float) -> Float:
    """Return the angle (rad) at positions in units of the nominal thickness."""
    t = (np.arange(_N_SAMPLES) + 0.5) / _N_SAMPLES - 0.5
    shape = np.sinc(t * time_bandwidth) * np.cos(np.pi * t) ** 2
    nutation = flip_rad * shape / shape.sum()
    precession = 2 * np.pi * time_bandwidth * place / _N_SAMPLES
    alpha, beta = np.ones(place.size, complex), np.zeros(place.size, complex)
    for step in nutation:
        total = np.hypot(step, precession)
        half = np.sinc(total / (2 * np.pi)) / 2  # sin(total/2)/total, also where it is 0
        a = np.cos(total / 2) - 1j * precession * half
        b = -1j * step * half
        alpha, beta = a * alpha - np.conj(b) * beta, b * alpha + np.conj(a) * beta
    angles: Float = 2 * np.arcsin(np.clip(np.abs(beta), 0.0, 1.0))
    return angles
