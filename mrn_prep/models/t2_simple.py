"""T2 without a model of the refocusing pulses: exponential decay through two or more images.

What these give is an apparent T2. A multi-echo train read this way comes out too long where
refocusing is imperfect, by 1 % (B1 of 0.8) to 7 % (0.67) without its first echo
(see `mrn_prep.models.t2_mese`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._t2_fit import exponential, fit_volume, per_voxel
from mrn_prep.models._t2_kernel import MAX_RELATIVE_SE, T2_MAX_S, T2_MIN_S
from mrn_prep.models.status import NOISE_FLOOR_SIGMA, Reason

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ApparentT2Result:
    """Maps of the exponential fits, of shape (...); NaN where `status` is not 0."""

    t2_s: Float
    """Apparent T2 (s)."""
    t2_se_s: Float
    """Its standard error (s); NaN where the noise is unknown."""
    m0: Float
    """Signal at echo (or preparation) time 0, in the unit of the input."""
    m0_se: Float
    """Its standard error."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


def t2_prepared_signal(m0: ArrayLike, t2_s: ArrayLike, te_s: ArrayLike) -> Float:
    r"""Signal after T2 preparation; also a spin echo's decay where all pulses are perfect.

    .. math:: S = M_0\, e^{-T_E/T_2}

    Parameters
    ----------
    m0, t2_s : array, shape (...)
        Signal without preparation (arbitrary units) and T2 (s).
    te_s : array, shape (n,)
        Preparation (or echo) times (s).

    Returns
    -------
    array, shape (..., n)
        Signal, in the unit of `m0`.

    References
    ----------
    Sollmann N, Weidlich D, Cervantes B, et al. Clin Neuroradiol 2019;29(2).
    doi:10.1007/s00062-017-0658-9 (of nerves)

    Examples
    --------
    >>> bool(np.allclose(t2_prepared_signal(2.0, 0.04, [0.0, 0.04]), [2.0, 2.0 / np.e]))
    True
    """
    m0 = np.asarray(m0, dtype=np.float64)[..., np.newaxis]
    t2_s = np.asarray(t2_s, dtype=np.float64)[..., np.newaxis]
    signal: Float = m0 * np.exp(-np.asarray(te_s, dtype=np.float64) / t2_s)
    return signal


def fit_mono_exponential(
    signal: ArrayLike,
    te_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    rician: bool = True,
    n_threads: int = 1,
) -> ApparentT2Result:
    r"""Fit an exponential decay to T2-prepared images, or to echoes taken at face value.

    .. math:: \min \sum_i w_i\left(S_i - \bar m(A_i, \sigma)\right)^2,\quad
        A_i = M_0\, e^{-T_{E,i}/T_2},\quad w_i = \sigma^2 / \mathrm{var}(A_i, \sigma)

    with the mean and variance of a Rician magnitude, as in `mrn_prep.models.t2_mese.fit_mese`.

    Parameters
    ----------
    signal : array, shape (..., n)
        Magnitude signal (arbitrary units).
    te_s : array, shape (n,)
        Preparation or echo times (s), increasing.
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    sigma : float or array, shape (...), optional
        Standard deviation of the noise in each of the two channels, in the unit of the
        signal. Without it the noise floor is not modelled, and standard errors come from
        the residuals if there are six degrees of freedom, else are NaN.
    rician : bool
        Whether the noise floor is in the signal; not if its bias has been removed.
    n_threads : int
        Threads to fit in.

    Returns
    -------
    ApparentT2Result
        T2 outside 10 to 1000 ms is NaN with ``Reason.OUT_OF_RANGE``, one whose
        standard error is as large with ``Reason.NOT_IDENTIFIABLE``, a largest signal below
        3 sigma with ``Reason.NO_SIGNAL``.

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer than two times, or they do not increase.

    Examples
    --------
    >>> te = np.array([0.02, 0.04, 0.08])
    >>> fit = fit_mono_exponential(t2_prepared_signal(700.0, 0.045, te), te)
    >>> round(float(fit.t2_s), 6), round(float(fit.m0), 3)
    (0.045, 700.0)

    The echoes of a train of 120° pulses read long, even without the first:

    >>> from mrn_prep.models.epg import cpmg_signal
    >>> train = cpmg_signal(1.0, 1.4, 0.035, 2 / 3, 0.0095, 17)
    >>> fit = fit_mono_exponential(train[1:], 0.0095 * np.arange(2, 18))
    >>> round(float(fit.t2_s) / 0.035, 2)
    1.07
    """
    signal, te = np.asarray(signal), np.ascontiguousarray(te_s, dtype=np.float64)
    _check(signal, te)
    found = fit_volume(
        signal, exponential(te), mask=mask, sigma=sigma, rician=rician, n_threads=n_threads
    )
    return ApparentT2Result(found.t2_s, found.t2_se_s, found.m0, found.m0_se, found.status)


def fit_dual_echo(
    signal: ArrayLike,
    te_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
) -> ApparentT2Result:
    r"""Apparent T2 from two echoes.

    .. math:: T_{2,app} = \frac{T_{E,2} - T_{E,1}}{\ln(S_1/S_2)},\quad
        M_0 = S_1\, e^{T_{E,1}/T_{2,app}}

    Parameters
    ----------
    signal : array, shape (..., 2)
        Magnitude signal (arbitrary units).
    te_s : array, shape (2,)
        Echo times (s), increasing.
    mask : bool array, shape (...), optional
        Voxels to compute; all by default.
    sigma : float or array, shape (...), optional
        Standard deviation of the noise, in the unit of the signal; without it there are no
        standard errors and nothing is held to be noise.

    Returns
    -------
    ApparentT2Result
        Where the second echo is below 3 sigma, where its bias cannot be neglected, the voxel is
        NaN with ``Reason.NO_SIGNAL``; T2 outside 10 to 1000 ms, or no decay, with
        ``Reason.OUT_OF_RANGE``; a standard error as large, ``Reason.NOT_IDENTIFIABLE``.

    Raises
    ------
    ValueError
        If shapes disagree, or the times do not increase.

    Notes
    -----
    Standard errors are first order, :math:`\sigma_{T_2} = T_2^2\, \Delta T_E^{-1}\, \sigma
    \sqrt{S_1^{-2} + S_2^{-2}}`.

    References
    ----------
    Hiwatashi A, Togao O, Yamashita K, et al. Lumbar plexus in patients with chronic inflammatory
    demyelinating polyradiculoneuropathy: evaluation with simultaneous T2 mapping and
    neurography method with SHINKEI. 2018. (of nerves)

    Examples
    --------
    >>> fit = fit_dual_echo(t2_prepared_signal(800.0, 0.06, [0.02, 0.08]), [0.02, 0.08])
    >>> round(float(fit.t2_s), 9), round(float(fit.m0), 6)
    (0.06, 800.0)
    """
    signal, te = np.asarray(signal, dtype=np.float64), np.asarray(te_s, dtype=np.float64)
    _check(signal, te)
    if te.size != 2:
        raise ValueError(f"Two echoes are needed, got {te.size}.")
    shape = signal.shape[:-1]
    inside = per_voxel(True if mask is None else mask, shape, "mask").astype(np.bool_)
    noise = per_voxel(np.nan if sigma is None else sigma, shape, "sigma")
    first, second = signal[..., 0], signal[..., 1]
    with np.errstate(all="ignore"):
        rate = np.log(first / second) / (te[1] - te[0])
        rate_se = noise * np.hypot(1.0 / first, 1.0 / second) / (te[1] - te[0])
        t2 = 1.0 / rate
        m0 = first * np.exp(te[0] * rate)
        # d ln M0 = dS1/S1 (1 + r) - dS2/S2 r
        ratio = te[0] / (te[1] - te[0])
        m0_se = m0 * noise * np.hypot((1.0 + ratio) / first, ratio / second)
        vague = rate_se > MAX_RELATIVE_SE * rate
        t2_se = t2**2 * rate_se
    status = np.zeros(shape, dtype=np.uint8)
    status[vague] = Reason.NOT_IDENTIFIABLE
    status[~((t2 >= T2_MIN_S) & (t2 <= T2_MAX_S))] = Reason.OUT_OF_RANGE
    status[(second <= 0) | (first <= 0) | (second < NOISE_FLOOR_SIGMA * noise)] = Reason.NO_SIGNAL
    status[~np.isfinite(signal).all(axis=-1)] = Reason.NON_FINITE
    status[~inside] = Reason.OUTSIDE_MASK
    t2, t2_se, m0, m0_se = (np.where(status == 0, x, np.nan) for x in (t2, t2_se, m0, m0_se))
    return ApparentT2Result(t2, t2_se, m0, m0_se, status)


def _check(signal: NDArray[np.generic], te_s: Float) -> None:
    """Raise on shapes that disagree and on times that do not increase."""
    if te_s.ndim != 1 or signal.ndim < 1 or signal.shape[-1] != te_s.size or te_s.size < 2:
        raise ValueError(
            f"signal {signal.shape} and te_s {te_s.shape} must be (..., n) and (n,), n 2 or more."
        )
    if not (np.all(te_s >= 0) and np.all(np.diff(te_s) > 0)):
        raise ValueError(f"Times must increase (s), got {te_s.tolist()}.")
