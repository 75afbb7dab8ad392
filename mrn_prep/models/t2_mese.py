"""T2 from multi-echo spin echoes (MESE) by extended phase graphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._t2_fit import echo_train, fit_volume
from mrn_prep.models.epg import SliceProfile

Float = NDArray[np.float64]

MUSCLE_T1_S = 1.4
"""T1 taken for muscle at 3 T (s); nerve has 1.2, fat 0.37."""


@dataclass(frozen=True)
class T2Result:
    """Maps of `fit_mese`, all of shape (...): the signal's without its last axis.

    Everything is NaN where `status` is not 0; standard errors also where the noise is unknown.
    """

    t2_s: Float
    """T2 (s)."""
    t2_se_s: Float
    """Its standard error (s)."""
    m0: Float
    """Signal without decay, in the unit of the input."""
    m0_se: Float
    """Its standard error."""
    b1: Float
    """Relative B1+ (1 = nominal), fitted or as given."""
    b1_se: Float
    """Standard error of a fitted `b1`; 0 where it was given."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


def fit_mese(
    signal: ArrayLike,
    echo_spacing_s: float,
    t1_s: ArrayLike = MUSCLE_T1_S,
    b1: ArrayLike | None = None,
    b1_se: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    refocusing_rad: float = np.pi,
    excitation_rad: float = np.pi / 2,
    profile: SliceProfile | None = None,
    first_echo: int = 1,
    rician: bool = True,
    n_threads: int = 1,
) -> T2Result:
    r"""Fit T2, M0 and, unless it is known, B1 to the echoes of a multi-echo spin echo.

    .. math:: \min \sum_i w_i\left(S_i - \bar m(A_i, \sigma)\right)^2,\quad
        A_i = \mathrm{EPG}_i(M_0, T_1, T_2, b),\quad w_i = \sigma^2 / \mathrm{var}(A_i, \sigma)

    with the mean magnitude :math:`\bar m` and variance of a Rician variable, so that late
    echoes near the noise floor neither lengthen T2 nor have to be left out.

    Parameters
    ----------
    signal : array, shape (..., n_echoes)
        Magnitude signal (arbitrary units).
    echo_spacing_s : float
        Time between echoes (s).
    t1_s : float or array, shape (...)
        T1 (s); of little influence. Where a map has none (NaN, 0) the voxel is not fitted.
    b1, b1_se : float or array, shape (...), optional
        Relative B1+ (1 = nominal) and its standard error, which is carried into those of T2
        and M0. Without `b1` it is fitted. Where it is NaN or not positive the voxel is not
        fitted.
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    sigma : float or array, shape (...), optional
        Standard deviation of the noise in each of the two channels, in the unit of the
        signal. Without it (or where it is NaN) the noise floor is not modelled, and standard
        errors come from the residuals if there are six degrees of freedom, else are NaN.
    refocusing_rad, excitation_rad : float
        Nominal angles (rad).
    profile : SliceProfile, optional
        Angles across the slice; without it they are the same everywhere.
    first_echo : int
        Number of the train's echo that comes first in `signal` (2: the first was dropped).
    rician : bool
        Whether the noise floor is in the signal; not if its bias has been removed.
    n_threads : int
        Threads to fit in.

    Returns
    -------
    T2Result
        T2 outside 10 to 1000 ms or a fitted B1 outside 0.4 to 1.3 is NaN with
        ``Reason.OUT_OF_RANGE``, a T2 whose standard error is as large with
        ``Reason.NOT_IDENTIFIABLE``, a largest signal below 3 sigma with ``Reason.NO_SIGNAL``.

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer echoes than unknowns, or spacing, angles or T1
        are not positive.

    Notes
    -----
    The search starts from the best of a dictionary over T2 and B1, M0 projected out, and goes
    on by Levenberg-Marquardt steps with analytic derivatives. The weights are those of the
    fitted signal.

    Without a slice profile the train depends on :math:`u = \cos^2(b\,\alpha^{nominal}/2)`
    alone: with a nominal 180° only :math:`|1 - b|` can be told. A fitted B1 is therefore the
    one that does not refocus beyond 180°. Near 180° noise would put u below 0 half of the
    time. The model is analytic in u and is continued there, which keeps T2 unbiased and its
    standard error true; `b1` is then the one of 180°. The standard error of `b1` is the larger
    of :math:`|b(u) - b(u \pm \sigma_u)|`. A signal that asks for u below 0 by more than noise can
    (two standard errors), or by anything where the noise is unknown, is fitted with 180°.

    Standard errors are first order: :math:`\sigma^2(J^TWJ)^{-1}`, plus what `b1_se` brings.
    The error of T1 is not carried on.

    References
    ----------
    Lebel RM, Wilman AH. Magn Reson Med 2010;64:1005-1014. doi:10.1002/mrm.22487
    Ben-Eliezer N, Sodickson DK, Block KT. Magn Reson Med 2015;73:809-817.
    doi:10.1002/mrm.25156 (dictionary)

    Examples
    --------
    >>> from mrn_prep.models.epg import cpmg_signal
    >>> signal = cpmg_signal(900.0, 1.4, 0.035, 0.8, 0.0095, 17)
    >>> fit = fit_mese(signal, 0.0095)
    >>> [round(float(value), 5) for value in (fit.t2_s, fit.m0 / 900, fit.b1)]
    [0.035, 1.0, 0.8]

    A train of B1 1.2 looks the same; with B1 known as 1 instead, T2 is wrong:

    >>> round(float(fit_mese(cpmg_signal(900.0, 1.4, 0.035, 1.2, 0.0095, 17), 0.0095).b1), 4)
    0.8
    >>> bool(fit_mese(signal, 0.0095, b1=1.0).t2_s > 0.037)
    True
    """
    shared = echo_train(
        echo_spacing_s, first_echo, refocusing_rad, excitation_rad, profile, b1 is not None
    )
    found = fit_volume(
        signal,
        shared,
        t1_s=t1_s,
        b1=b1,
        b1_se=b1_se,
        mask=mask,
        sigma=sigma,
        rician=rician,
        n_threads=n_threads,
    )
    return T2Result(
        found.t2_s, found.t2_se_s, found.m0, found.m0_se, found.b1, found.b1_se, found.status
    )
