"""Which of several tissue models a curve asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.dce_results import DCEFit
from mrn_prep.models.status import Reason

Float = NDArray[np.float64]

NOT_CHOSEN = -1
"""In the map of choices: no model was fitted."""


@dataclass(frozen=True)
class Selection:
    """What `select_model` returns."""

    names: tuple[str, ...]
    """Names of the models."""
    aicc: Float
    """Corrected Akaike information of each model, shape (n_models, ...); NaN where not fitted."""
    weight: Float
    """Akaike weight of each model, shape (n_models, ...): they add up to 1."""
    chosen: NDArray[np.int8]
    """Position in `names` of the model with the smallest, shape (...); `NOT_CHOSEN` if none."""


def corrected_akaike(fit: DCEFit) -> Float:
    r"""Corrected Akaike information of a least-squares fit.

    .. math:: \mathrm{AICc} = n\ln\frac{\mathrm{RSS}}{n} + 2p + \frac{2p(p + 1)}{n - p - 1}

    Parameters
    ----------
    fit : DCEFit
        A fit. Its parameters and the noise variance make up p, its frames n.

    Returns
    -------
    array
        NaN where not fitted, or where there are not more than p + 1 frames.

    References
    ----------
    Hurvich CM, Tsai CL. Biometrika 1989;76:297-307. doi:10.1093/biomet/76.2.297

    Examples
    --------
    >>> ok, none = np.uint8(0), np.array(0.0)
    >>> fit = DCEFit(none, none, np.array(20.0), ok, n_frames=20, n_parameters=3)
    >>> round(float(corrected_akaike(fit)), 4)  # 0 + 8 + 40 / 15
    10.6667
    """
    n, p = fit.n_frames, fit.n_parameters + 1
    if n <= p + 1:
        return np.full(np.shape(fit.residual_ss), np.nan)
    with np.errstate(divide="ignore"):
        aicc: Float = n * np.log(fit.residual_ss / n) + 2 * p + 2 * p * (p + 1) / (n - p - 1)
    return np.where(fit.status == Reason.FITTED, aicc, np.nan)


def select_model(fits: Mapping[str, DCEFit]) -> Selection:
    r"""Choose in every voxel the model with the smallest corrected Akaike information.

    .. math:: w_m = \frac{e^{-\Delta_m/2}}{\sum_k e^{-\Delta_k/2}},\quad
        \Delta_m = \mathrm{AICc}_m - \min_k \mathrm{AICc}_k

    Parameters
    ----------
    fits : mapping of str to DCEFit
        Fits of the same curves, by name.

    Returns
    -------
    Selection

    Raises
    ------
    ValueError
        If there is no fit, or they are not of the same curves.

    References
    ----------
    Hurvich CM, Tsai CL. Biometrika 1989;76:297-307. doi:10.1093/biomet/76.2.297

    Examples
    --------
    A second model that fits no better costs more:

    >>> ok, none = np.uint8(0), np.array(0.0)
    >>> small = DCEFit(none, none, np.array(20.0), ok, n_frames=20, n_parameters=2)
    >>> large = DCEFit(none, none, np.array(19.5), ok, n_frames=20, n_parameters=3)
    >>> select_model({"large": large, "small": small}).chosen
    array(1, dtype=int8)
    """
    if not fits:
        raise ValueError("There is no fit to choose from.")
    kinds = {(fit.n_frames, np.shape(fit.residual_ss)) for fit in fits.values()}
    if len(kinds) > 1:
        raise ValueError(f"The fits are not of the same curves: (frames, shape) {sorted(kinds)}.")
    aicc = np.stack([corrected_akaike(fit) for fit in fits.values()])
    none = np.all(np.isnan(aicc), axis=0)
    filled = np.where(np.isnan(aicc), np.inf, aicc)
    chosen = np.where(none, NOT_CHOSEN, np.argmin(filled, axis=0)).astype(np.int8)
    with np.errstate(invalid="ignore"):
        weight = np.exp(-0.5 * (filled - filled.min(axis=0)))
        weight /= weight.sum(axis=0)
    return Selection(tuple(fits), aicc, np.where(np.isnan(aicc), np.nan, weight), chosen)
