"""T2 of water in fatty tissue: two components in the echoes of a multi-echo spin echo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from mrn_prep.models._t2_fit import echo_train, fit_volume, per_voxel
from mrn_prep.models._t2_kernel import MAX_FAT_FRACTION
from mrn_prep.models.epg import SliceProfile
from mrn_prep.models.status import Reason
from mrn_prep.models.t2_mese import MUSCLE_T1_S, fit_mese

Float = NDArray[np.float64]

FAT_T1_S = 0.37
"""T1 of fat at 3 T (s)."""
FAT_T2_RANGE_S = (0.05, 0.25)
"""Where the T2 of fat can lie (s): protons of fat are coupled, which the train prolongs."""
MIN_FAT_VOXELS = 30
"""A T2 of fat from fewer voxels is not given."""


@dataclass(frozen=True)
class WaterFatT2Result:
    """Maps of `fit_mese_two_component`, of shape (...): the signal's without its last axis.

    Everything is NaN where `status` is not 0, but for fat fraction and B1 where the water's T2
    alone is not identifiable.
    """

    t2_s: Float
    """T2 of water (s)."""
    t2_se_s: Float
    """Its standard error (s); NaN where the noise is unknown."""
    fat_fraction: Float
    """Fat in the signal without decay, 0 to 1 within noise, fitted or as given."""
    fat_fraction_se: Float
    """Standard error of a fitted `fat_fraction`; 0 where it was given."""
    m0: Float
    """Signal of water and fat without decay, in the unit of the input."""
    m0_se: Float
    """Its standard error."""
    b1: Float
    """Relative B1+ (1 = nominal), fitted or as given."""
    b1_se: Float
    """Standard error of a fitted `b1`; 0 where it was given."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""


@dataclass(frozen=True)
class FatT2:
    """What `calibrate_fat_t2` finds; T2 is NaN if it finds too little fat."""

    t2_s: float
    """T2 of fat (s), the median of its voxels."""
    t2_se_s: float
    """Standard error of the median (s), from the voxels' scatter."""
    n_voxels: int
    region: NDArray[np.bool_]
    """The voxels it comes from."""


def fit_mese_two_component(
    signal: ArrayLike,
    echo_spacing_s: float,
    fat_t2_s: float,
    t1_s: ArrayLike = MUSCLE_T1_S,
    fat_fraction: ArrayLike | None = None,
    fat_fraction_se: ArrayLike | None = None,
    b1: ArrayLike | None = None,
    b1_se: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    fat_t1_s: float = FAT_T1_S,
    refocusing_rad: float = np.pi,
    excitation_rad: float = np.pi / 2,
    profile: SliceProfile | None = None,
    first_echo: int = 1,
    rician: bool = True,
    n_threads: int = 1,
) -> WaterFatT2Result:
    r"""Fit the T2 of water beside fat of known T2.

    .. math:: S = M_0\left[(1 - f)\,\mathrm{EPG}(T_{2,w}, T_{1,w}, b) +
        f\,\mathrm{EPG}(T_{2,f}, T_{1,f}, b)\right]

    by weighted least squares, the noise floor included, as `mrn_prep.models.t2_mese.fit_mese`.

    Parameters
    ----------
    signal : array, shape (..., n_echoes)
        Magnitude signal (arbitrary units).
    echo_spacing_s : float
        Time between echoes (s).
    fat_t2_s : float
        T2 of fat (s), see `calibrate_fat_t2`.
    t1_s : float or array, shape (...)
        T1 of water (s).
    fat_fraction, fat_fraction_se : float or array, shape (...), optional
        Fraction of fat, 0 to 1 within noise, as from a Dixon series, and its standard error,
        which is carried on. Without it, or where it is NaN, the fraction is fitted.
    b1, b1_se, mask, sigma, refocusing_rad, excitation_rad, profile, first_echo, rician, n_threads
        As in `mrn_prep.models.t2_mese.fit_mese`.
    fat_t1_s : float
        T1 of fat (s).

    Returns
    -------
    WaterFatT2Result
        As `fit_mese` has it; and where the fat fraction is above 0.5, the water's T2 and M0 are
        NaN with ``Reason.NOT_IDENTIFIABLE``. A fitted fraction outside -0.5 to 1.5 is
        ``Reason.OUT_OF_RANGE``.

    Raises
    ------
    ValueError
        As `fit_mese`, and if the fat's T1 or T2 is not positive or a given fraction is
        percent.

    Notes
    -----
    A fitted fraction is not held between 0 and 1, so that its mean over lean tissue is true.
    T2 of fat is taken to be the same everywhere, and water and fat to have the same slice
    and angles. The fraction is that of the signal at the train's start; it is a Dixon series'
    where both are free of T1 weighting.

    References
    ----------
    Marty B, Baudin PY, Reyngoudt H, et al. NMR Biomed 2016;29:431-443.
    doi:10.1002/nbm.3459
    Santini F, Deligianni X, Paoletti M, et al. Front Neurol 2021;12:630387.
    doi:10.3389/fneur.2021.630387

    Examples
    --------
    >>> from mrn_prep.models.epg import cpmg_signal
    >>> water = cpmg_signal(800.0, 1.4, 0.035, 0.8, 0.0095, 17)
    >>> fat = cpmg_signal(200.0, 0.37, 0.15, 0.8, 0.0095, 17)
    >>> fit = fit_mese_two_component(water + fat, 0.0095, 0.15)
    >>> [round(float(value), 4) for value in (fit.t2_s, fit.fat_fraction, fit.b1, fit.m0 / 1000)]
    [0.035, 0.2, 0.8, 1.0]

    Taken for water alone, the fat lengthens T2:

    >>> bool(fit_mese(water + fat, 0.0095, b1=0.8).t2_s > 0.045)
    True
    """
    if not (fat_t1_s > 0 and fat_t2_s > 0):
        raise ValueError(f"T1 and T2 of fat must be positive (s), got {fat_t1_s}, {fat_t2_s}.")
    fraction = np.asarray(np.nan if fat_fraction is None else fat_fraction, dtype=np.float64)
    if np.any((fraction < -0.5) | (fraction > 1.5)):
        raise ValueError("A given fat fraction must lie between 0 and 1 (not percent).")
    shared = echo_train(
        echo_spacing_s,
        first_echo,
        refocusing_rad,
        excitation_rad,
        profile,
        b1 is not None,
        fat_t1_s,
        fat_t2_s,
    )
    found = fit_volume(
        signal,
        shared,
        t1_s=t1_s,
        b1=b1,
        b1_se=b1_se,
        fraction=fraction,
        fraction_se=fat_fraction_se,
        mask=mask,
        sigma=sigma,
        rician=rician,
        n_threads=n_threads,
    )
    fat = found.fraction > MAX_FAT_FRACTION
    for values in (found.t2_s, found.t2_se_s, found.m0, found.m0_se):
        values[fat] = np.nan
    return WaterFatT2Result(
        t2_s=found.t2_s,
        t2_se_s=found.t2_se_s,
        fat_fraction=found.fraction,
        fat_fraction_se=found.fraction_se,
        m0=found.m0,
        m0_se=found.m0_se,
        b1=found.b1,
        b1_se=found.b1_se,
        status=found.status,
    )


def calibrate_fat_t2(
    signal: ArrayLike,
    echo_spacing_s: float,
    mask: ArrayLike,
    voxel_mm: tuple[float, float, float],
    region: ArrayLike | None = None,
    b1: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    depth_mm: float = 15.0,
    fat_t1_s: float = FAT_T1_S,
    refocusing_rad: float = np.pi,
    excitation_rad: float = np.pi / 2,
    profile: SliceProfile | None = None,
    first_echo: int = 1,
    rician: bool = True,
) -> FatT2:
    """Find the T2 of fat from subcutaneous fat.

    Without a region, fat is sought within `depth_mm` of the limb's surface (in the slice):
    voxels that are bright (at least half as bright, echoes summed, as the brightest 2 % of
    the shell) and decay like fat (`FAT_T2_RANGE_S`), and all of whose neighbours in the slice
    do, so that skin and muscle have no part in them.

    Parameters
    ----------
    signal : array, shape (x, y, z, n_echoes)
        Magnitude signal (arbitrary units); slices along z.
    echo_spacing_s : float
        Time between echoes (s).
    mask : bool array, shape (x, y, z)
        The limb, skin included.
    voxel_mm : tuple
        Size of a voxel (mm).
    region : bool array, shape (x, y, z), optional
        Where fat is known to be; then only voxels that could not be fitted are left out.
    b1, sigma, refocusing_rad, excitation_rad, profile, first_echo, rician
        As in `mrn_prep.models.t2_mese.fit_mese`.
    depth_mm : float
        How deep to look (mm).
    fat_t1_s : float
        T1 of fat (s).

    Returns
    -------
    FatT2
        T2 is NaN where there are fewer than `MIN_FAT_VOXELS` (or, in a given region, none).

    Raises
    ------
    ValueError
        If shapes disagree.
    """
    signal = np.asarray(signal)
    if signal.ndim != 4:
        raise ValueError(f"signal {signal.shape} must be (x, y, z, n_echoes).")
    limb = per_voxel(mask, signal.shape[:-1], "mask").astype(np.bool_)
    if region is None:
        depth = distance_transform_edt(
            np.pad(limb, ((1, 1), (1, 1), (0, 0))), sampling=(*voxel_mm[:2], 1e6)
        )[1:-1, 1:-1]
        brightness = np.where(limb, signal.sum(axis=-1, dtype=np.float64), 0.0)
        seen = limb & (depth <= depth_mm) & np.isfinite(brightness)
        if seen.any():
            seen &= brightness >= 0.5 * np.percentile(brightness[seen], 98)
    else:
        seen = limb & per_voxel(region, limb.shape, "region").astype(np.bool_)
    found = fit_mese(
        signal,
        echo_spacing_s,
        fat_t1_s,
        b1,
        None,
        seen,
        sigma,
        refocusing_rad=refocusing_rad,
        excitation_rad=excitation_rad,
        profile=profile,
        first_echo=first_echo,
        rician=rician,
    )
    fat = found.status == Reason.FITTED
    if region is None:
        low, high = FAT_T2_RANGE_S
        cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.bool_)[..., np.newaxis]
        fat = binary_erosion(fat & (found.t2_s >= low) & (found.t2_s <= high), cross)
    values = found.t2_s[fat]
    if values.size < (MIN_FAT_VOXELS if region is None else 1):
        return FatT2(np.nan, np.nan, int(values.size), fat)
    median = float(np.median(values))
    scatter = 1.4826 * float(np.median(np.abs(values - median)))
    return FatT2(median, 1.2533 * scatter / np.sqrt(values.size), int(values.size), fat)
