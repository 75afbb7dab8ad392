"""T2* from magnitudes of gradient echoes, fat neglected."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._t2_fit import per_voxel
from mrn_prep.models._t2_kernel import T2_MAX_S, T2_MIN_S
from mrn_prep.models.status import Reason
from mrn_prep.models.t2_simple import ApparentT2Result, fit_mono_exponential

Float = NDArray[np.float64]

T2STAR_MIN_S, T2STAR_MAX_S = 0.001, 0.5
"""A T2* outside is out of range."""


@dataclass(frozen=True)
class T2StarResult:
    """Maps of `fit_t2star`, of shape (...); NaN where `status` is not 0."""

    t2star_s: Float
    """T2* (s)."""
    t2star_se_s: Float
    """Its standard error (s); NaN where the noise is unknown."""
    m0: Float
    """Signal at echo time 0, in the unit of the input."""
    m0_se: Float
    """Its standard error."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


def fit_t2star(
    signal: ArrayLike,
    te_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    rician: bool = True,
    n_threads: int = 1,
) -> T2StarResult:
    r"""Fit a decay to gradient echoes, for where field strength or phases are missing.

    .. math:: S = S_0\, e^{-T_E / T_2^*}

    by weighted least squares against the mean of a Rician magnitude, as
    `mrn_prep.models.t2_simple.fit_mono_exponential`.

    Parameters
    ----------
    signal : array, shape (..., n)
        Magnitude signal (arbitrary units).
    te_s : array, shape (n,)
        Echo times (s), increasing; two or more.
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
    T2StarResult
        T2* outside 1 to 500 ms, or no decay, is NaN with ``Reason.OUT_OF_RANGE``, one whose
        standard error is as large with ``Reason.NOT_IDENTIFIABLE``, a largest signal below
        3 sigma with ``Reason.NO_SIGNAL``.

    Raises
    ------
    ValueError
        If shapes disagree, there are fewer than two times, or they do not increase.

    Notes
    -----
    Fat beats with water, which this takes for decay or for its absence: use
    `mrn_prep.models.fat_water` where the field strength is known.

    Examples
    --------
    >>> te = 0.002 * np.arange(1, 9)
    >>> fit = fit_t2star(600.0 * np.exp(-te / np.array([[0.004], [0.025], [0.3]])), te)
    >>> fit.t2star_s.round(6).tolist()
    [0.004, 0.025, 0.3]

    A tenth of fat at 3 T:

    >>> from mrn_prep.models.megre import megre_signal
    >>> s = np.abs(megre_signal(0.9, 0.1, te, r2star_per_s=40.0, field_t=3.0))
    >>> bool(abs(fit_t2star(s, te).t2star_s / 0.025 - 1) > 0.02)
    True
    """
    signal, te = np.asarray(signal), np.asarray(te_s, dtype=np.float64)
    shape = signal.shape[:-1]
    todo = per_voxel(True if mask is None else mask, shape, "mask").astype(np.bool_)
    # The search of fit_mono_exponential covers a factor of 100; time in other units moves it.
    # Short T2* first: what is longer is out of that range, and tried in the next.
    short = T2_MIN_S / T2STAR_MIN_S
    fit = _fit(signal, te, short, todo, sigma, rician, n_threads)
    longer = fit.status == Reason.OUT_OF_RANGE
    if longer.any():
        again = _fit(signal, te, T2_MAX_S / T2STAR_MAX_S, longer, sigma, rician, n_threads)
        fit = ApparentT2Result(
            *[
                np.where(longer, getattr(again, field.name), getattr(fit, field.name))
                for field in fields(ApparentT2Result)
            ]
        )
    return T2StarResult(fit.t2_s, fit.t2_se_s, fit.m0, fit.m0_se, fit.status)


def _fit(
    signal: NDArray[np.generic],
    te_s: Float,
    scale: float,
    mask: NDArray[np.bool_],
    sigma: ArrayLike | None,
    rician: bool,
    n_threads: int,
) -> ApparentT2Result:
    """Fit with times `scale` times as long, and undo it."""
    fit = fit_mono_exponential(
        signal, te_s * scale, mask, sigma, rician=rician, n_threads=n_threads
    )
    return ApparentT2Result(fit.t2_s / scale, fit.t2_se_s / scale, fit.m0, fit.m0_se, fit.status)
