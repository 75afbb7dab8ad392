"""What the fits of `mrn_prep.models.dce_models` take beside curves, and what they return."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class SharedError:
    """What moves all concentrations of a voxel together; maps of shape (...) or numbers.

    Concentrations are wrong by `offset` e1 + `offset_gain` e1 C + `gain` e2 C, with e1 and e2
    independent of standard deviation 1. Noise of the mean baseline signal is such an error
    (`offset` and `offset_gain`), that of the native T1 another (`gain`).
    """

    offset_mm: ArrayLike = 0.0
    offset_gain: ArrayLike = 0.0
    gain: ArrayLike = 0.0


@dataclass(frozen=True)
class DCEFit:
    """What every fit has. Maps have the concentration's shape without its last axis.

    Values are NaN where `status` is not 0, standard errors (``_se``) also where the noise is
    unknown. Rates are 1/s.
    """

    delay_s: Float
    """How much later than in the input the bolus comes (s); 0 or as given unless fitted."""
    delay_se_s: Float
    """Its standard error; 0 unless it was fitted."""
    residual_ss: Float
    """Sum of squared residuals (mM²)."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""
    n_frames: int
    """Number of frames."""
    n_parameters: int
    """Number of parameters, a fitted delay included."""


@dataclass(frozen=True)
class ToftsFit(DCEFit):
    """Maps of `fit_tofts`."""

    ktrans_per_s: Float
    """Transfer constant (1/s)."""
    ktrans_se_per_s: Float
    """Its standard error."""
    kep_per_s: Float
    """Rate of return (1/s); NaN where `ve_status` is not 0."""
    kep_se_per_s: Float
    """Its standard error."""
    ve: Float
    """Volume fraction of the extravascular extracellular space; NaN as kep is."""
    ve_se: Float
    """Its standard error."""
    ve_status: NDArray[np.uint8]
    """Reason codes of kep and ve: they may stay open where Ktrans is determined."""


@dataclass(frozen=True)
class ExtendedToftsFit(ToftsFit):
    """Maps of `fit_extended_tofts`."""

    vp: Float
    """Plasma volume fraction."""
    vp_se: Float
    """Its standard error."""


@dataclass(frozen=True)
class PatlakFit(DCEFit):
    """Maps of `fit_patlak`."""

    ps_per_s: Float
    """Permeability surface area product (1/s)."""
    ps_se_per_s: Float
    """Its standard error."""
    vp: Float
    """Plasma volume fraction."""
    vp_se: Float
    """Its standard error."""


@dataclass(frozen=True)
class UptakeFit(PatlakFit):
    """Maps of `fit_two_compartment_uptake`."""

    fp_per_s: Float
    """Plasma flow (1/s)."""
    fp_se_per_s: Float
    """Its standard error."""


@dataclass(frozen=True)
class ExchangeFit(UptakeFit):
    """Maps of `fit_two_compartment_exchange`."""

    ve: Float
    """Volume fraction of the extravascular extracellular space; NaN where `ve_status` is not 0."""
    ve_se: Float
    """Its standard error."""
    ve_status: NDArray[np.uint8]
    """Reason codes of ve, which may stay open where the others are determined."""
