"""Tissue models of DCE perfusion, fitted to concentration curves with standard errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._dce_kernel import FREE, INTEGRAL, NONE, PLASMA
from mrn_prep.models.dce_engine import (
    Between,
    Delay,
    Estimates,
    Quantity,
    TissueModel,
    fit_volume,
)
from mrn_prep.models.dce_results import (
    ExchangeFit,
    ExtendedToftsFit,
    PatlakFit,
    SharedError,
    ToftsFit,
    UptakeFit,
)

Complex = NDArray[np.complex128]
Columns = tuple[Complex, ...]

KEP_MAX_PER_S = 1.0
"""Upper limit of kep (1/s), 60 per minute: faster exchange is not told from plasma."""
RATE_MAX_PER_S = 2.0
"""Upper limit of the rates of two compartments (1/s)."""

_INF = float("inf")


def fit_extended_tofts(
    concentration: ArrayLike,
    aif: ArrayLike,
    t_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    delay: Delay = None,
    delay_range_s: tuple[float, float] = (-3.0, 12.0),
    aif_t_s: ArrayLike | None = None,
    aif_between: Between | None = None,
    shared_error: SharedError | None = None,
    n_threads: int = 1,
) -> ExtendedToftsFit:
    r"""Fit the extended Tofts model by nonlinear least squares.

    .. math:: C(t) = v_p C_p(t - d) + K^{trans} \int_0^t C_p(u - d)\, e^{-k_{ep}(t - u)}\,du,
        \quad v_e = K^{trans} / k_{ep}

    Parameters
    ----------
    concentration : array, shape (..., n_frames)
        Concentration in tissue (mM). Single precision is not copied as a whole.
    aif : array, shape (n_frames,) or (n,)
        Concentration in arterial *plasma* (mM; see `plasma_from_blood`). It is taken as 0 before
        its first time and constant after its last.
    t_s : array, shape (n_frames,)
        Times of the frames (s), with any spacing.
    mask : bool array, shape (...), optional
        Voxels to fit; all by default.
    sigma : float or array, shape (...), optional
        Noise standard deviation of the concentration (mM). Without it (or where it is NaN) the
        standard errors come from the residuals if there are six degrees of freedom, else are
        NaN.
    delay : None, "fit" or float
        How much later the bolus comes in tissue than in `aif`: not at all, to be fitted in every
        voxel, or a known time (s).
    delay_range_s : tuple of float
        Where a delay is sought (s).
    aif_t_s : array, shape (n,), optional
        Times of `aif` if they are not those of the frames (s).
    aif_between : {"lines", "spline"} or None
        How `aif` runs between its times. By default by straight lines, and by a spline where a
        delay shifts an input that has one value a frame (`refine_input`).
    shared_error : SharedError, optional
        Errors that all frames of a voxel share (baseline, T1), carried into the standard errors.
    n_threads : int
        Threads to fit in.

    Returns
    -------
    ExtendedToftsFit
        What lies beyond its limits (Ktrans and vp not negative, vp and ve at most 1) by more
        than two standard errors is NaN with ``Reason.OUT_OF_RANGE``, nothing is clamped. Kep
        and ve whose standard error is as large as they are NaN with
        ``Reason.NOT_IDENTIFIABLE`` in `ve_status` alone. A curve of zeros has
        ``Reason.NO_SIGNAL``.

    Raises
    ------
    ValueError
        If shapes disagree, times do not increase, there are not more frames than unknowns, or
        `aif` is not finite or never positive.

    Notes
    -----
    The amplitudes are linear and eliminated (variable projection [1]_), which leaves
    Levenberg-Marquardt steps in kep and the delay, from the best of a grid. The convolution is
    exact for straight lines between the times of the input [2]_; a rectangle rule would bias vp by
    :math:`-K^{trans}\Delta t/2`. Values may pass their limits by what noise can do, and kep even
    0: cutting at the limit would drop one half of the noise and bias what is left.

    Standard errors are first order: :math:`\sigma^2(J^TJ)^{-1}`, plus what `shared_error` brings.
    The error of the input is not carried on.

    References
    ----------
    .. [1] Golub GH, Pereyra V. SIAM J Numer Anal 1973;10:413-432. doi:10.1137/0710036
    .. [2] Flouri D, Lesnic D, Sourbron SP. Magn Reson Med 2016;76:998-1006.
       doi:10.1002/mrm.25991

    Examples
    --------
    >>> from mrn_prep.models.aif_population import parker_aif
    >>> from mrn_prep.models.dce_convolution import refine_input
    >>> from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood
    >>> t = np.arange(0.0, 300.0, 3.0)
    >>> plasma = plasma_from_blood(parker_aif(t - 20.0), hematocrit=0.42)
    >>> curve = extended_tofts_curve(0.03 / 60, 0.2, 0.02, plasma, t)
    >>> fit = fit_extended_tofts(curve, plasma, t)
    >>> [round(float(v), 6) for v in (60 * fit.ktrans_per_s, fit.ve, fit.vp)]
    [0.03, 0.2, 0.02]

    A bolus that comes 4 s later is not what the model expects, unless it may look for it:

    >>> late = extended_tofts_curve(0.03 / 60, 0.2, 0.02, *refine_input(plasma, t), t, 4.0)
    >>> fit = fit_extended_tofts(late, plasma, t, delay="fit")
    >>> [round(float(v), 4) for v in (fit.delay_s, 60 * fit.ktrans_per_s, fit.vp)]
    [4.0, 0.03, 0.02]
    >>> bool(fit_extended_tofts(late, plasma, t).vp < 0.015)
    True
    """
    found = fit_volume(
        concentration,
        aif,
        t_s,
        _EXTENDED_TOFTS,
        mask,
        sigma,
        delay=delay,
        delay_range_s=delay_range_s,
        aif_t_s=aif_t_s,
        aif_between=aif_between,
        shared_error=shared_error,
        n_threads=n_threads,
    )
    return ExtendedToftsFit(**_fields(found, weak=True))


def fit_tofts(
    concentration: ArrayLike,
    aif: ArrayLike,
    t_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    **options: Any,
) -> ToftsFit:
    r"""Fit the Tofts model, which has no blood in it.

    .. math:: C(t) = K^{trans} \int_0^t C_p(u - d)\, e^{-k_{ep}(t - u)}\,du

    Parameters
    ----------
    concentration, aif, t_s, mask, sigma, **options
        As of `fit_extended_tofts`.

    Returns
    -------
    ToftsFit

    References
    ----------
    Tofts PS, Kermode AG. Magn Reson Med 1991;17:357-367. doi:10.1002/mrm.1910170208

    Examples
    --------
    >>> from mrn_prep.models.dce_curves import extended_tofts_curve
    >>> t = np.arange(0.0, 300.0, 5.0)
    >>> plasma = np.exp(-t / 200.0) * (t > 20)
    >>> fit = fit_tofts(extended_tofts_curve(0.002, 1.0, 0.0, plasma, t), plasma, t)
    >>> round(float(fit.ktrans_per_s), 8), round(float(fit.ve), 6)
    (0.002, 1.0)
    """
    found = fit_volume(concentration, aif, t_s, _TOFTS, mask, sigma, **options)
    return ToftsFit(**_fields(found, weak=True))


def fit_patlak(
    concentration: ArrayLike,
    aif: ArrayLike,
    t_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    **options: Any,
) -> PatlakFit:
    r"""Fit the Patlak model, in which nothing comes back.

    .. math:: C(t) = v_p C_p(t - d) + PS \int_0^t C_p(u - d)\,du

    Parameters
    ----------
    concentration, aif, t_s, mask, sigma, **options
        As of `fit_extended_tofts`.

    Returns
    -------
    PatlakFit

    References
    ----------
    Patlak CS, Blasberg RG, Fenstermacher JD. J Cereb Blood Flow Metab 1983;3:1-7.
    doi:10.1038/jcbfm.1983.1

    Examples
    --------
    >>> from mrn_prep.models.dce_curves import patlak_curve
    >>> t = np.arange(0.0, 300.0, 5.0)
    >>> plasma = np.exp(-t / 200.0) * (t > 20)
    >>> fit = fit_patlak(patlak_curve(0.0005, 0.04, plasma, t), plasma, t)
    >>> round(float(fit.ps_per_s), 8), round(float(fit.vp), 6)
    (0.0005, 0.04)
    """
    found = fit_volume(concentration, aif, t_s, _PATLAK, mask, sigma, **options)
    return PatlakFit(**_fields(found))


def fit_two_compartment_uptake(
    concentration: ArrayLike,
    aif: ArrayLike,
    t_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    **options: Any,
) -> UptakeFit:
    r"""Fit the two-compartment uptake model, in which the flow is limited too.

    .. math:: C(t) = C_p(t - d) * \left[(F_p - K_i)\, e^{-t/T_p} + K_i\right]

    Parameters
    ----------
    concentration, aif, t_s, mask, sigma, **options
        As of `fit_extended_tofts`.

    Returns
    -------
    UptakeFit
        Where the data do not determine the flow (frames too long), everything is NaN with
        ``Reason.NOT_IDENTIFIABLE`` or, if the rate leaves its range, ``Reason.OUT_OF_RANGE``.

    Notes
    -----
    From amplitudes a1 of the exponential, a2 of the integral, and the rate k:
    :math:`F_p = a_1 + a_2`, :math:`PS = F_p a_2/a_1`, :math:`v_p = F_p^2/(a_1 k)`.

    References
    ----------
    Sourbron SP, Buckley DL. NMR Biomed 2013;26:1004-1027. doi:10.1002/nbm.2940

    Examples
    --------
    >>> from mrn_prep.models.dce_curves import two_compartment_uptake_curve
    >>> t = np.arange(0.0, 300.0, 2.0)
    >>> plasma = np.exp(-t / 200.0) * (t > 20)
    >>> curve = two_compartment_uptake_curve(0.006, 0.0005, 0.04, plasma, t)
    >>> fit = fit_two_compartment_uptake(curve, plasma, t)
    >>> [round(float(value), 6) for value in (fit.fp_per_s, fit.ps_per_s, fit.vp)]
    [0.006, 0.0005, 0.04]
    """
    found = fit_volume(concentration, aif, t_s, _UPTAKE, mask, sigma, **options)
    return UptakeFit(**_fields(found))


def fit_two_compartment_exchange(
    concentration: ArrayLike,
    aif: ArrayLike,
    t_s: ArrayLike,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    **options: Any,
) -> ExchangeFit:
    r"""Fit the two-compartment exchange model.

    .. math:: C(t) = C_p(t - d) * \left[A_+ e^{-K_+ t} + A_- e^{-K_- t}\right]

    Parameters
    ----------
    concentration, aif, t_s, mask, sigma, **options
        As of `fit_extended_tofts`.

    Returns
    -------
    ExchangeFit
        Where the data do not determine the flow, as of `fit_two_compartment_uptake`; ve alone
        may be ``Reason.NOT_IDENTIFIABLE`` in `ve_status`.

    Notes
    -----
    With :math:`K_+ > K_-`: :math:`F_p = A_+ + A_-`, :math:`E = A_-/F_p`,
    :math:`1/T_b = K_+ - E(K_+ - K_-)`, :math:`1/T_e = K_+K_-T_b`,
    :math:`1/T_p = K_+ + K_- - 1/T_e`, and from these :math:`v_p = F_pT_b`,
    :math:`PS = v_p/T_p - F_p`, :math:`v_e = PS\,T_e`.

    References
    ----------
    Sourbron SP, Buckley DL. NMR Biomed 2013;26:1004-1027. doi:10.1002/nbm.2940

    Examples
    --------
    >>> from mrn_prep.models.dce_curves import two_compartment_exchange_curve
    >>> t = np.arange(0.0, 300.0, 2.0)
    >>> plasma = np.exp(-t / 200.0) * (t > 20)
    >>> curve = two_compartment_exchange_curve(0.006, 0.001, 0.04, 0.15, plasma, t)
    >>> fit = fit_two_compartment_exchange(curve, plasma, t)
    >>> [round(float(v), 6) for v in (fit.fp_per_s, fit.ps_per_s, fit.vp, fit.ve)]
    [0.006, 0.001, 0.04, 0.15]
    """
    found = fit_volume(concentration, aif, t_s, _EXCHANGE, mask, sigma, **options)
    return ExchangeFit(**_fields(found, weak=True))


def _tofts(x: Complex) -> Columns:
    return x[0], x[2], x[0] / x[2]


def _extended_tofts(x: Complex) -> Columns:
    return x[0], x[2], x[0] / x[2], x[1]


def _patlak(x: Complex) -> Columns:
    return x[0], x[1]


def _uptake(x: Complex) -> Columns:
    fp = x[0] + x[1]
    return fp, fp * x[1] / x[0], fp**2 / (x[0] * x[2])


def _exchange(x: Complex) -> Columns:
    swap = x[2].real < x[3].real
    fast, slow = np.where(swap, x[3], x[2]), np.where(swap, x[2], x[3])
    fp, share = x[0] + x[1], np.where(swap, x[0], x[1]) / (x[0] + x[1])
    per_tb = fast - share * (fast - slow)
    per_te = fast * slow / per_tb
    vp = fp / per_tb
    ps = vp * (fast + slow - per_te) - fp
    return fp, ps, vp, ps / per_te


_KTRANS = Quantity("ktrans", 0.0, _INF)
_KEP = Quantity("kep", 0.0, _INF, weak=True)
_VE = Quantity("ve", 0.0, 1.0, weak=True)
_VP = Quantity("vp", 0.0, 1.0)
_PS = Quantity("ps", 0.0, _INF)
_FP = Quantity("fp", 0.0, _INF, must=True)

_TOFTS = TissueModel(FREE, NONE, KEP_MAX_PER_S, 26, (_KTRANS, _KEP, _VE), _tofts)
_EXTENDED_TOFTS = TissueModel(
    FREE, PLASMA, KEP_MAX_PER_S, 26, (_KTRANS, _KEP, _VE, _VP), _extended_tofts
)
_PATLAK = TissueModel(INTEGRAL, PLASMA, RATE_MAX_PER_S, 2, (_PS, _VP), _patlak)
_UPTAKE = TissueModel(FREE, INTEGRAL, RATE_MAX_PER_S, 24, (_FP, _PS, _VP), _uptake)
_EXCHANGE = TissueModel(FREE, FREE, RATE_MAX_PER_S, 16, (_FP, _PS, _VP, _VE), _exchange)
_RATES = ("ktrans", "kep", "ps", "fp")


def _fields(found: Estimates, weak: bool = False) -> dict[str, Any]:
    """Fields of a result: rates carry their unit in their names."""
    fields: dict[str, Any] = {
        f"{key}_per_s" if key.removesuffix("_se") in _RATES else key: value
        for key, value in found.values.items()
    }
    for key in ("delay_s", "delay_se_s", "residual_ss", "status", "n_frames", "n_parameters"):
        fields[key] = getattr(found, key)
    if weak:
        fields["ve_status"] = found.weak_status
    return fields
