"""From an AFI pair to a B1+ map that other fits can use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.b1_afi import B1_FWHM_MM, fit_afi, smooth_b1
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.noise import sigma_from_background
from mrn_prep.models.status import Reason

Float = NDArray[np.floating]

MAX_SE = 0.1
"""Standard error of relative B1+ above which an extrapolated value says nothing."""


@dataclass(frozen=True)
class B1Map:
    """Smoothed B1+ with what was found on the way; maps of shape ``(x, y, z)``."""

    b1: Float
    """Relative B1+ (1 = nominal); NaN where unknown."""
    b1_se: Float
    """Its standard error; NaN where the noise is unknown."""
    status: NDArray[np.uint8]
    """`Reason`: 0 where `b1` has a value, measured or filled from its neighbours."""
    sigma: float
    """Standard deviation of the images' noise (NaN where it cannot be estimated)."""
    mask: NDArray[np.bool_]
    """The limb."""


def map_b1_afi(
    signal: Float,
    flip_rad: float,
    tr1_s: float,
    tr2_s: float,
    voxel_mm: tuple[float, float, float],
    *,
    t1_s: Float | None = None,
    smoothing_mm: float = B1_FWHM_MM,
    extrapolate_mm: float = 5.0,
) -> B1Map:
    """Map B1+ in the limb from an AFI pair and smooth it.

    Parameters
    ----------
    signal : array, shape (x, y, z, 2)
        Images of the shorter and of the longer repetition time.
    flip_rad, tr1_s, tr2_s
        Protocol, as `fit_afi` takes it (rad, s).
    voxel_mm
        Size of a voxel (mm).
    t1_s : array, shape (x, y, z), optional
        T1 (s) for the exact inversion; NaN where unknown.
    smoothing_mm
        Full width at half maximum (mm); 0 leaves the voxels as measured.
    extrapolate_mm
        How far beyond measured voxels to fill (mm).
    """
    mask = limb_mask(signal.mean(axis=-1))
    sigma = sigma_from_background(signal, mask)
    noise = sigma if np.isfinite(sigma) else None
    raw = fit_afi(signal, flip_rad, tr1_s, tr2_s, mask, t1_s, noise)
    if smoothing_mm <= 0:
        return B1Map(raw.b1, raw.b1_se, raw.status, sigma, mask)
    b1, b1_se = smooth_b1(raw.b1, raw.b1_se, flip_rad, mask, voxel_mm, smoothing_mm, extrapolate_mm)
    status = np.where(np.isfinite(b1), np.uint8(Reason.FITTED), raw.status)
    vague = b1_se > MAX_SE
    status[vague] = Reason.NOT_IDENTIFIABLE
    b1, b1_se = (np.where(vague, np.nan, values) for values in (b1, b1_se))
    return B1Map(b1, b1_se, status, sigma, mask)
