"""Arterial input functions of populations, for where none can be measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, gammaln

Float = NDArray[np.float64]

PUBLISHED_DOSE_MMOL_PER_KG = 0.1
"""Dose for which all of these curves were published."""

_S_PER_MIN = 60.0


def parker_aif(
    t_s: ArrayLike, dose_mmol_per_kg: float = PUBLISHED_DOSE_MMOL_PER_KG, arrival_s: float = 0.0
) -> Float:
    r"""Arterial *blood* concentration by Parker et al.

    .. math:: C_b(t) = \sum_{n=1}^2 \frac{A_n}{\sigma_n\sqrt{2\pi}}
        e^{-(t - T_n)^2 / 2\sigma_n^2} + \frac{\alpha e^{-\beta t}}{1 + e^{-s(t - \tau)}}

    Parameters
    ----------
    t_s : array
        Times (s).
    dose_mmol_per_kg : float
        Dose (mmol per kg of body weight), with which the curve scales.
    arrival_s : float
        When the bolus arrives (s); 0 before.

    Returns
    -------
    array
        Concentration in blood (mM); see `mrn_prep.models.dce_curves.plasma_from_blood`.

    Raises
    ------
    ValueError
        If the dose is not positive.

    References
    ----------
    Parker GJM, et al. Magn Reson Med 2006;56:993-1000. doi:10.1002/mrm.21066

    Examples
    --------
    The first pass peaks at 6 mM after about 10 s:

    >>> t = np.arange(0.0, 300.0, 0.1)
    >>> curve = parker_aif(t)
    >>> round(float(curve.max()), 2), round(float(t[curve.argmax()]), 1)
    (6.07, 10.4)
    """
    t = _minutes(t_s, arrival_s)
    curve = 1.050 * np.exp(-0.1685 * t) * expit(38.078 * (t - 0.483))
    for area, centre, width in ((0.809, 0.17046, 0.0563), (0.330, 0.365, 0.132)):
        gauss = np.exp(-0.5 * ((t - centre) / width) ** 2)
        curve += area / (width * np.sqrt(2 * np.pi)) * gauss
    return _scaled(curve, t, dose_mmol_per_kg)


def georgiou_aif(
    t_s: ArrayLike, dose_mmol_per_kg: float = PUBLISHED_DOSE_MMOL_PER_KG, arrival_s: float = 0.0
) -> Float:
    r"""Arterial *blood* concentration by Georgiou et al., recirculation included.

    .. math:: C_b(t) = \sum_{i=1}^3 A_i e^{-m_i t} \sum_{j=0}^{\lfloor t/\tau\rfloor}
        \gamma\left((j + 1)\alpha + j, \beta, t - j\tau\right),\quad
        \gamma(a, \beta, t) = \frac{t^a e^{-t/\beta}}{\beta^{a + 1}\,\Gamma(a + 1)}

    Parameters
    ----------
    t_s, dose_mmol_per_kg, arrival_s
        As of `parker_aif`.

    Returns
    -------
    array
        Concentration in blood (mM); the haematocrit of the subject was 0.35.

    Raises
    ------
    ValueError
        If the dose is not positive.

    References
    ----------
    Georgiou L, Wilson DJ, Sharma N, Perren TJ, Buckley DL. Magn Reson Med 2019;81:1955-1963.
    doi:10.1002/mrm.27524

    Examples
    --------
    Passes of the bolus overlap more and more; in the end they come every 0.329 min on average:

    >>> t = np.array([0.0, 600.0])
    >>> late = (0.37 * np.exp(-0.11 * 10) + 0.33 * np.exp(-1.17 * 10)) / 0.32932
    >>> bool(abs(georgiou_aif(t)[1] / late - 1) < 1e-3)
    True
    """
    t = _minutes(t_s, arrival_s)
    alpha, beta, tau = 5.26, 0.032, 0.129
    passes = np.zeros_like(t)
    for j in range(int(np.max(t, initial=0.0) / tau) + 1):
        order, since = (j + 1) * alpha + j, t - j * tau
        here = since > 0
        logarithm = order * np.log(since[here]) - since[here] / beta
        passes[here] += np.exp(logarithm - (order + 1) * np.log(beta) - gammaln(order + 1))
    decays = ((0.37, 0.11), (0.33, 1.17), (10.06, 16.02))
    curve = passes * np.sum([a * np.exp(-m * np.maximum(t, 0.0)) for a, m in decays], axis=0)
    return _scaled(curve, t, dose_mmol_per_kg)


def weinmann_aif(
    t_s: ArrayLike, dose_mmol_per_kg: float = PUBLISHED_DOSE_MMOL_PER_KG, arrival_s: float = 0.0
) -> Float:
    r"""Arterial *plasma* concentration by Weinmann et al., without a first pass.

    .. math:: C_p(t) = D \left(a_1 e^{-m_1 t} + a_2 e^{-m_2 t}\right)

    Parameters
    ----------
    t_s, dose_mmol_per_kg, arrival_s
        As of `parker_aif`.

    Returns
    -------
    array
        Concentration in plasma (mM): not to be divided by one minus the haematocrit.

    Raises
    ------
    ValueError
        If the dose is not positive.

    References
    ----------
    Tofts PS, Kermode AG. Magn Reson Med 1991;17:357-367. doi:10.1002/mrm.1910170208, of data by
    Weinmann HJ, Laniado M, Muetzel W. Physiol Chem Phys Med NMR 1984;16:167-172.

    Examples
    --------
    >>> [round(float(c), 3) for c in weinmann_aif([-1.0, 0.0, 600.0], 0.2)]
    [0.0, 1.754, 1.045]
    """
    t = _minutes(t_s, arrival_s)
    per_kg_l = 3.99 * np.exp(-0.144 * t) + 4.78 * np.exp(-0.0111 * t)
    return _scaled(PUBLISHED_DOSE_MMOL_PER_KG * per_kg_l, t, dose_mmol_per_kg)


def _minutes(t_s: ArrayLike, arrival_s: float) -> Float:
    minutes: Float = (np.asarray(t_s, dtype=np.float64) - arrival_s) / _S_PER_MIN
    return minutes


def _scaled(curve: Float, t_min: Float, dose_mmol_per_kg: float) -> Float:
    """Curve from arrival on, for another dose than the published."""
    if not 0 < dose_mmol_per_kg < np.inf:
        raise ValueError(f"The dose must be positive (mmol/kg), got {dose_mmol_per_kg}.")
    dose: Float = np.where(t_min >= 0, curve, 0.0) * dose_mmol_per_kg / PUBLISHED_DOSE_MMOL_PER_KG
    return dose
