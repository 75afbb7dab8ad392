"""Concentration curves of tissue: the models that `mrn_prep.models.dce_models` fits.

Everywhere Cp is the concentration in arterial *plasma* (`plasma_from_blood`) and concentrations
are per volume of tissue. Rates are 1/s: 0.03 / 60 for 0.03 per minute, and a flow of
40 ml/100 ml/min is 0.4 / 60.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.dce_convolution import convolve_exponential, delayed

Float = NDArray[np.float64]


def plasma_from_blood(concentration: ArrayLike, hematocrit: float) -> Float:
    r"""Concentration in plasma, where the agent is, from that in whole blood.

    .. math:: C_p = \frac{C_b}{1 - \mathrm{Hct}}

    Parameters
    ----------
    concentration : array
        Concentration in blood (mM).
    hematocrit : float
        Volume fraction of the cells, as a fraction and not in percent.

    Returns
    -------
    array

    Raises
    ------
    ValueError
        If `hematocrit` is not between 0 and 1.

    References
    ----------
    Tofts PS, et al. J Magn Reson Imaging 1999;10:223-232.
    doi:10.1002/(SICI)1522-2586(199909)10:3<223::AID-JMRI2>3.0.CO;2-S

    Examples
    --------
    >>> round(float(plasma_from_blood(2.9, 0.42)), 6)
    5.0
    """
    if not 0.0 < hematocrit < 1.0:
        raise ValueError(f"The haematocrit is a fraction between 0 and 1, got {hematocrit}.")
    plasma: Float = np.asarray(concentration, dtype=np.float64) / (1.0 - hematocrit)
    return plasma


def extended_tofts_curve(
    ktrans_per_s: ArrayLike,
    ve: ArrayLike,
    vp: ArrayLike,
    aif: ArrayLike,
    aif_t_s: ArrayLike,
    t_s: ArrayLike | None = None,
    delay_s: float = 0.0,
) -> Float:
    r"""Concentration by the extended Tofts model; by the Tofts model where vp is 0.

    .. math:: C(t) = v_p C_p(t) + K^{trans}\, C_p(t) * e^{-K^{trans} t / v_e}

    Parameters
    ----------
    ktrans_per_s : array, shape (...)
        Transfer constant (1/s).
    ve, vp : array, shape (...)
        Volume fractions of the extravascular extracellular space and of plasma.
    aif, aif_t_s : array, shape (n,)
        Concentration in arterial plasma (mM), at its times (s).
    t_s : array, shape (n_frames,), optional
        Times of the tissue (s); `aif_t_s` by default.
    delay_s : float
        By how much the tissue's bolus comes later (s).

    Returns
    -------
    array, shape (..., n_frames)
        Concentration in tissue (mM).

    Raises
    ------
    ValueError
        If shapes disagree or times do not increase.

    References
    ----------
    Tofts PS, et al. J Magn Reson Imaging 1999;10:223-232.
    doi:10.1002/(SICI)1522-2586(199909)10:3<223::AID-JMRI2>3.0.CO;2-S

    Examples
    --------
    At constant plasma concentration, tissue fills to (vp + ve) Cp:

    >>> curve = extended_tofts_curve(0.002, 0.2, 0.05, [2.0, 2.0], [0.0, 5000.0])
    >>> [round(float(c), 6) for c in curve]
    [0.1, 0.5]
    """
    ktrans, ve, vp = _columns(ktrans_per_s, ve, vp)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(ktrans == 0, 0.0, ktrans / ve)[..., 0]
    t_s = aif_t_s if t_s is None else t_s
    filled = convolve_exponential(aif, aif_t_s, rate, t_s, delay_s)[0]
    curve: Float = vp * delayed(aif, aif_t_s, t_s, delay_s) + ktrans * filled
    return curve


def patlak_curve(
    ps_per_s: ArrayLike,
    vp: ArrayLike,
    aif: ArrayLike,
    aif_t_s: ArrayLike,
    t_s: ArrayLike | None = None,
    delay_s: float = 0.0,
) -> Float:
    r"""Concentration by the Patlak model: nothing comes back.

    .. math:: C(t) = v_p C_p(t) + PS \int_0^t C_p(u)\,du

    Parameters
    ----------
    ps_per_s : array, shape (...)
        Permeability surface area product (1/s).
    vp : array, shape (...)
        Plasma volume fraction.
    aif, aif_t_s, t_s, delay_s
        As of `extended_tofts_curve`.

    Returns
    -------
    array, shape (..., n_frames)
        Concentration in tissue (mM).

    References
    ----------
    Patlak CS, Blasberg RG, Fenstermacher JD. J Cereb Blood Flow Metab 1983;3:1-7.
    doi:10.1038/jcbfm.1983.1

    Examples
    --------
    >>> patlak_curve(0.001, 0.05, [2.0, 2.0], [0.0, 100.0])
    array([0.1, 0.3])
    """
    ps, vp = _columns(ps_per_s, vp)
    t_s = aif_t_s if t_s is None else t_s
    integral = convolve_exponential(aif, aif_t_s, 0.0, t_s, delay_s)[0]
    curve: Float = vp * delayed(aif, aif_t_s, t_s, delay_s) + ps * integral
    return curve


def two_compartment_uptake_curve(
    fp_per_s: ArrayLike,
    ps_per_s: ArrayLike,
    vp: ArrayLike,
    aif: ArrayLike,
    aif_t_s: ArrayLike,
    t_s: ArrayLike | None = None,
    delay_s: float = 0.0,
) -> Float:
    r"""Concentration by the two-compartment uptake model.

    .. math:: C(t) = C_p(t) * \left[(F_p - K_i)\, e^{-t/T_p} + K_i\right],\quad
        T_p = \frac{v_p}{F_p + PS},\quad K_i = \frac{F_p\,PS}{F_p + PS}

    Parameters
    ----------
    fp_per_s, ps_per_s : array, shape (...)
        Plasma flow and permeability surface area product (1/s).
    vp : array, shape (...)
        Plasma volume fraction.
    aif, aif_t_s, t_s, delay_s
        As of `extended_tofts_curve`.

    Returns
    -------
    array, shape (..., n_frames)
        Concentration in tissue (mM).

    References
    ----------
    Sourbron SP, Buckley DL. NMR Biomed 2013;26:1004-1027. doi:10.1002/nbm.2940

    Examples
    --------
    With much flow it is Patlak's model:

    >>> t = np.array([0.0, 50.0, 100.0])
    >>> fast = two_compartment_uptake_curve(1e3, 0.001, 0.05, [0.0, 2.0, 1.0], t)
    >>> bool(np.allclose(fast, patlak_curve(0.001, 0.05, [0.0, 2.0, 1.0], t), atol=1e-5))
    True
    """
    fp, ps, vp = _columns(fp_per_s, ps_per_s, vp)
    ki = fp * ps / (fp + ps)
    leaving = convolve_exponential(aif, aif_t_s, ((fp + ps) / vp)[..., 0], t_s, delay_s)[0]
    staying = convolve_exponential(aif, aif_t_s, 0.0, t_s, delay_s)[0]
    curve: Float = (fp - ki) * leaving + ki * staying
    return curve


def two_compartment_exchange_curve(
    fp_per_s: ArrayLike,
    ps_per_s: ArrayLike,
    vp: ArrayLike,
    ve: ArrayLike,
    aif: ArrayLike,
    aif_t_s: ArrayLike,
    t_s: ArrayLike | None = None,
    delay_s: float = 0.0,
) -> Float:
    r"""Concentration by the two-compartment exchange model.

    .. math:: C(t) = F_p\, C_p(t) * \left[(1 - E)\, e^{-K_+ t} + E\, e^{-K_- t}\right]

    .. math:: K_\pm = \tfrac12\left(s \pm \sqrt{s^2 - \tfrac{4}{T_e T_b}}\right),\quad
        s = \frac1{T_p} + \frac1{T_e},\quad E = \frac{K_+ - 1/T_b}{K_+ - K_-}

    with :math:`T_p = v_p/(F_p + PS)`, :math:`T_e = v_e/PS` and :math:`T_b = v_p/F_p`.

    Parameters
    ----------
    fp_per_s, ps_per_s : array, shape (...)
        Plasma flow and permeability surface area product (1/s); PS must be positive.
    vp, ve : array, shape (...)
        Volume fractions of plasma and of the extravascular extracellular space.
    aif, aif_t_s, t_s, delay_s
        As of `extended_tofts_curve`.

    Returns
    -------
    array, shape (..., n_frames)
        Concentration in tissue (mM).

    References
    ----------
    Sourbron SP, Buckley DL. NMR Biomed 2013;26:1004-1027. doi:10.1002/nbm.2940

    Examples
    --------
    In the end both spaces are full, at first plasma alone takes up Fp times the input:

    >>> t = np.array([0.0, 0.01, 1e5])
    >>> curve = two_compartment_exchange_curve(0.01, 0.002, 0.05, 0.2, [2.0, 2.0, 2.0], t)
    >>> [round(float(c), 6) for c in curve]
    [0.0, 0.0002, 0.5]
    """
    fp, ps, vp, ve = _columns(fp_per_s, ps_per_s, vp, ve)
    per_tb, per_te = fp / vp, ps / ve
    s = (fp + ps) / vp + per_te
    root = np.sqrt(s**2 - 4 * per_te * per_tb)
    fast, slow = 0.5 * (s + root), 0.5 * (s - root)
    share = (fast - per_tb) / root
    first = convolve_exponential(aif, aif_t_s, fast[..., 0], t_s, delay_s)[0]
    second = convolve_exponential(aif, aif_t_s, slow[..., 0], t_s, delay_s)[0]
    curve: Float = fp * ((1 - share) * first + share * second)
    return curve


def _columns(*values: ArrayLike) -> list[Float]:
    """Broadcast parameters and append an axis for time."""
    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values))
    return [array[..., np.newaxis] for array in arrays]
