"""Echo trains by extended phase graphs (EPG): what imperfect refocusing makes of T2 decay."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class SliceProfile:
    """Angles across the slice, relative to those at its centre (1 = nominal).

    The points are equally spaced across the part of the slice that gives signal, and the
    signal is the mean over them.
    """

    excitation: Float
    """Shape (n_points,)."""
    refocusing: Float
    """Shape (n_points,)."""

    def __post_init__(self) -> None:
        """Take over copies as float64 and raise ValueError unless they are alike."""
        for name in ("excitation", "refocusing"):
            values = np.array(getattr(self, name), dtype=np.float64)
            if values.ndim != 1 or not values.size or not np.isfinite(values).all():
                raise ValueError(f"{name} must be a row of finite relative angles.")
            object.__setattr__(self, name, values)
        if self.excitation.size != self.refocusing.size:
            raise ValueError(
                f"The profile has {self.excitation.size} angles of excitation and "
                f"{self.refocusing.size} of refocusing; they must pair."
            )


def cpmg_signal(
    m0: ArrayLike,
    t1_s: ArrayLike,
    t2_s: ArrayLike,
    b1: ArrayLike,
    echo_spacing_s: float,
    n_echoes: int,
    refocusing_rad: float = np.pi,
    excitation_rad: float = np.pi / 2,
    profile: SliceProfile | None = None,
) -> Float:
    r"""Echo amplitudes of a multi-echo spin echo (CPMG) with imperfect refocusing.

    Every refocusing pulse of angle :math:`\alpha` mixes the configurations
    :math:`F_k, F_{-k}, Z_k` (real, as the pulses obey the CPMG condition),

    .. math::
        F_k' &= \cos^2\tfrac\alpha2 F_k + \sin^2\tfrac\alpha2 F_{-k} + \sin\alpha\, Z_k \\
        F_{-k}' &= \sin^2\tfrac\alpha2 F_k + \cos^2\tfrac\alpha2 F_{-k} - \sin\alpha\, Z_k \\
        Z_k' &= -\tfrac12\sin\alpha\,(F_k - F_{-k}) + \cos\alpha\, Z_k,

    after which F decays with T2 and dephases, and Z decays with T1. The echo is
    :math:`F_0`; :math:`\alpha = b\,\alpha^{nominal}`, and the train starts with
    :math:`F_0 = M_0\sin(b\,\alpha_{exc}^{nominal})`.

    Parameters
    ----------
    m0, t1_s, t2_s, b1 : array, shape (...)
        Signal without any decay (arbitrary units), T1 and T2 (s), and relative B1+
        (1 = nominal), which scales both angles; they broadcast.
    echo_spacing_s : float
        Time between echoes (s); the first echo comes after one spacing.
    n_echoes : int
        Length of the train.
    refocusing_rad, excitation_rad : float
        Nominal angles (rad).
    profile : SliceProfile, optional
        Angles across the slice; without it they are the same everywhere.

    Returns
    -------
    array, shape (..., n_echoes)
        Signal, in the unit of `m0`; negative where an echo is.

    Raises
    ------
    ValueError
        If the spacing, an angle or the number of echoes is not positive.

    Notes
    -----
    Ideal dephasing between pulses, no diffusion. Recovering magnetisation never meets the
    echoes and is left out. With refocusing of nominal 180° and excitation of 90°, b and
    2 - b give the same train.

    References
    ----------
    Hennig J. J Magn Reson 1988;78:397-407. doi:10.1016/0022-2364(88)90128-X
    Weigel M. J Magn Reson Imaging 2015;41:266-295. doi:10.1002/jmri.24619
    Lebel RM, Wilman AH. Magn Reson Med 2010;64:1005-1014. doi:10.1002/mrm.22487 (profile)

    Examples
    --------
    Perfect refocusing leaves T2 decay; else the first echo loses and the second gains, by
    sin² and by sin⁴ + sin²(α)/2 when nothing decays:

    >>> cpmg_signal(1.0, 1.4, 0.02, 1.0, 0.01, 3).round(4).tolist()
    [0.6065, 0.3679, 0.2231]
    >>> a = 2 * np.pi / 3
    >>> cpmg_signal(1.0, 1e9, 1e9, 1.0, 0.01, 2, refocusing_rad=a).round(6).tolist()
    [0.75, 0.9375]
    >>> float(round(np.sin(a / 2) ** 4 + np.sin(a) ** 2 / 2, 6))
    0.9375
    """
    if not (echo_spacing_s > 0 and refocusing_rad > 0 and excitation_rad > 0 and n_echoes > 0):
        raise ValueError(
            "Echo spacing (s), angles (rad) and number of echoes must be positive, got "
            f"{echo_spacing_s}, {refocusing_rad}, {excitation_rad}, {n_echoes}."
        )
    given = (np.asarray(values, dtype=np.float64) for values in (m0, t1_s, t2_s, b1))
    m0, t1_s, t2_s, b1 = np.broadcast_arrays(*given)
    profile = profile or SliceProfile(np.ones(1), np.ones(1))
    trains = _trains(
        t1_s.ravel(),
        t2_s.ravel(),
        b1.ravel(),
        float(echo_spacing_s),
        int(n_echoes),
        excitation_rad * profile.excitation,
        refocusing_rad * profile.refocusing,
    )
    signal: Float = m0[..., np.newaxis] * trains.reshape(*m0.shape, n_echoes)
    return signal


@njit(cache=True, error_model="numpy", nogil=True)
def _trains(t1_s, t2_s, b1, spacing_s, n, excitation, refocusing):  # type: ignore[no-untyped-def]
    out = np.empty((t1_s.size, n))
    s, by_t2, by_b1 = np.empty(n), np.empty(n), np.empty(n)
    work = np.empty((12, n + 2))
    for v in range(t1_s.size):
        profile_train(
            t1_s[v], t2_s[v], b1[v], spacing_s, excitation, refocusing, s, by_t2, by_b1, work
        )
        out[v] = s
    return out


@njit(cache=True, error_model="numpy", nogil=True)
def profile_train(  # type: ignore[no-untyped-def]
    t1_s, t2_s, b1, spacing_s, excitation, refocusing, s, by_t2, by_b1, work
):
    """Write the mean train across the slice and its derivatives by ln T2 and by B1.

    `excitation` and `refocusing` are the nominal angles (rad) at the points of the slice.
    """
    n = s.size
    f, f_t2, f_u = work[9], work[10], work[11]
    s[:] = 0.0
    by_t2[:] = 0.0
    by_b1[:] = 0.0
    for p in range(excitation.size):
        half = 0.5 * b1 * refocusing[p]
        u = np.cos(half) ** 2
        train(t1_s, t2_s, u, spacing_s, n, f, f_t2, f_u, work)
        du_db1 = -0.5 * refocusing[p] * np.sin(2.0 * half)
        start = np.sin(b1 * excitation[p]) / excitation.size
        start_b1 = excitation[p] * np.cos(b1 * excitation[p]) / excitation.size
        for i in range(n):
            s[i] += start * f[i]
            by_t2[i] += start * f_t2[i]
            by_b1[i] += start_b1 * f[i] + start * du_db1 * f_u[i]


# The train depends on the refocusing angle through u = cos²(α/2) alone: Z enters only by way of
# sin(α) Z, called z below. So the equations, analytic in u, hold for u < 0 too, which lets a
# fit near 180° scatter to both sides of u = 0 instead of piling up there.
#
# At the pulses only odd k (in half spacings) belong to the echoes: index j is k = 2j + 1. An
# order that cannot return before the last echo is not followed.


@njit(cache=True, error_model="numpy", nogil=True)
def train(t1_s, t2_s, u, spacing_s, n, s, by_t2, by_u, work):  # type: ignore[no-untyped-def]
    """Write a train of unit start and its derivatives by ln T2 and by u = cos²(α/2)."""
    rate = spacing_s / t2_s
    e1, e2 = np.exp(-spacing_s / t1_s), np.exp(-rate)
    # F_k, F_-k and z; then their derivatives by ln T2 (t) and by u (u)
    fp, fm, z = work[0], work[1], work[2]
    fp_t, fm_t, z_t = work[3], work[4], work[5]
    fp_u, fm_u, z_u = work[6], work[7], work[8]
    work[:9] = 0.0
    fp[0] = 1.0
    c, sin2_2 = 2.0 * u - 1.0, 2.0 * u * (1.0 - u)  # cos(α), sin²(α)/2
    for echo in range(n):
        top = min(echo, n - 1 - echo)
        for j in range(top + 1):
            total, d, zj = fp[j] + fm[j], fp[j] - fm[j], z[j]
            total_t, d_t, zj_t = fp_t[j] + fm_t[j], fp_t[j] - fm_t[j], z_t[j]
            total_u, d_u, zj_u = fp_u[j] + fm_u[j], fp_u[j] - fm_u[j], z_u[j]
            new, new_t = c * d + 2.0 * zj, c * d_t + 2.0 * zj_t
            new_u = c * d_u + 2.0 * zj_u + 2.0 * d
            z[j] = e1 * (c * zj - sin2_2 * d)
            z_t[j] = e1 * (c * zj_t - sin2_2 * d_t)
            z_u[j] = e1 * (c * zj_u - sin2_2 * d_u + 2.0 * zj + 2.0 * c * d)
            fp[j], fm[j] = 0.5 * e2 * (total + new), 0.5 * e2 * (total - new)
            fp_t[j] = 0.5 * e2 * (total_t + new_t) + rate * fp[j]
            fm_t[j] = 0.5 * e2 * (total_t - new_t) + rate * fm[j]
            fp_u[j], fm_u[j] = 0.5 * e2 * (total_u + new_u), 0.5 * e2 * (total_u - new_u)
        s[echo], by_t2[echo], by_u[echo] = fm[0], fm_t[0], fm_u[0]
        for j in range(top + 1, 0, -1):
            fp[j], fp_t[j], fp_u[j] = fp[j - 1], fp_t[j - 1], fp_u[j - 1]
        fp[0], fp_t[0], fp_u[0] = fm[0], fm_t[0], fm_u[0]
        for j in range(top + 1):
            fm[j], fm_t[j], fm_u[j] = fm[j + 1], fm_t[j + 1], fm_u[j + 1]
