"""From images to a B1+ map that other fits can use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.b1_afi import B1_FWHM_MM, B1Result, fit_afi, smooth_b1
from mrn_prep.models.b1_methods import fit_dam
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.noise import sigma_from_background
from mrn_prep.models.smooth import smooth_in_mask
from mrn_prep.models.status import Reason

Float = NDArray[np.floating]

MAX_SE = 0.1
"""Standard error of relative B1+ above which an extrapolated value says nothing."""


_LEAST_NOISE = 1e-6  # of relative B1+: a map without any noise still weighs its voxels


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
    return _of_angle(raw, flip_rad, sigma, mask, voxel_mm, smoothing_mm, extrapolate_mm)


def map_b1_dam(
    signal: Float,
    flip_rad: float,
    voxel_mm: tuple[float, float, float],
    *,
    tr_s: float | None = None,
    t1_s: Float | None = None,
    smoothing_mm: float = B1_FWHM_MM,
    extrapolate_mm: float = 5.0,
) -> B1Map:
    """Map B1+ in the limb from two images, one at twice the angle of the other, and smooth it.

    Parameters
    ----------
    signal : array, shape (x, y, z, 2)
        Images of the angle and of its double.
    flip_rad, tr_s, t1_s
        As `fit_dam` takes them (rad, s); with both times recovery is inverted exactly.
    voxel_mm, smoothing_mm, extrapolate_mm
        As in `map_b1_afi`.
    """
    mask = limb_mask(signal.mean(axis=-1))
    sigma = sigma_from_background(signal, mask)
    noise = sigma if np.isfinite(sigma) else None
    known = t1_s is not None and tr_s is not None
    raw = fit_dam(signal, flip_rad, mask, t1_s if known else None, tr_s if known else None, noise)
    return _of_angle(raw, flip_rad, sigma, mask, voxel_mm, smoothing_mm, extrapolate_mm)


def smooth_b1_image(
    raw: B1Result,
    mask: NDArray[np.bool_],
    voxel_mm: tuple[float, float, float],
    *,
    smoothing_mm: float = B1_FWHM_MM,
    extrapolate_mm: float = 5.0,
) -> B1Map:
    """Smooth a B1+ map that a scanner made, its noise being what varies from voxel to voxel.

    Parameters
    ----------
    raw
        Relative B1+ without standard errors (`b1_from_tfl`, `b1_from_rfm`, `ready_b1_ratio`).
    mask : bool array, shape (x, y, z)
        The limb.
    voxel_mm, smoothing_mm, extrapolate_mm
        As in `map_b1_afi`.

    Returns
    -------
    B1Map
        `sigma` is the noise of one voxel of the map (relative B1+), from the median absolute
        difference to its smoothed self; a map that was smoothed before shows too little of it.
    """
    b1 = np.where(mask, raw.b1, np.nan)
    if smoothing_mm <= 0:
        return B1Map(b1, np.full(b1.shape, np.nan), raw.status, np.nan, mask)
    # what smoothing leaves of white noise tells how much of the map's own it leaves
    white = np.where(np.isfinite(b1), np.random.default_rng(0).normal(size=b1.shape), np.nan)
    rough, unit = (_roughness(x, mask, voxel_mm, smoothing_mm, extrapolate_mm) for x in (b1, white))
    sigma = rough / unit
    noise = np.where(np.isfinite(b1), max(sigma, _LEAST_NOISE), np.nan)
    smooth, smooth_se = smooth_in_mask(
        b1, mask, smoothing_mm, voxel_mm, se=noise, extrapolate_mm=extrapolate_mm
    )
    status = np.where(np.isfinite(smooth), np.uint8(Reason.FITTED), raw.status)
    return B1Map(smooth, smooth_se, status, sigma, mask)


def _roughness(
    values: Float,
    mask: NDArray[np.bool_],
    voxel_mm: tuple[float, float, float],
    smoothing_mm: float,
    extrapolate_mm: float,
) -> float:
    """Return the median absolute difference of a map to its smoothed self."""
    smooth, _ = smooth_in_mask(values, mask, smoothing_mm, voxel_mm, extrapolate_mm=extrapolate_mm)
    rest = (values - smooth)[mask & np.isfinite(values) & np.isfinite(smooth)]
    return float(np.median(np.abs(rest))) if rest.size else np.nan


def _of_angle(
    raw: B1Result,
    flip_rad: float,
    sigma: float,
    mask: NDArray[np.bool_],
    voxel_mm: tuple[float, float, float],
    smoothing_mm: float,
    extrapolate_mm: float,
) -> B1Map:
    """Smooth B1+ that an arccosine gave."""
    if smoothing_mm <= 0:
        return B1Map(raw.b1, raw.b1_se, raw.status, sigma, mask)
    b1, b1_se = smooth_b1(raw.b1, raw.b1_se, flip_rad, mask, voxel_mm, smoothing_mm, extrapolate_mm)
    status = np.where(np.isfinite(b1), np.uint8(Reason.FITTED), raw.status)
    vague = b1_se > MAX_SE
    status[vague] = Reason.NOT_IDENTIFIABLE
    b1, b1_se = (np.where(vague, np.nan, values) for values in (b1, b1_se))
    return B1Map(b1, b1_se, status, sigma, mask)
