"""Water, fat and T2* from the complex echoes of a multi-echo gradient echo (MEGRE)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._fat_water_kernel import (
    R2STAR_MAX_PER_S,
    R2STAR_MIN_PER_S,
    Echoes,
    find_candidates,
    fit_rows,
)
from mrn_prep.models._t2_fit import per_voxel
from mrn_prep.models._t2_kernel import MAX_RELATIVE_SE
from mrn_prep.models.fat_water_field import by_chunks, make_search, map_field
from mrn_prep.models.megre import FAT_PEAKS, FatPeaks, fat_phasor
from mrn_prep.models.status import MIN_RESIDUAL_DOF, NOISE_FLOOR_SIGMA, Reason

Float = NDArray[np.float64]

T2STAR_MIN_S, T2STAR_MAX_S = 0.001, 0.5
"""A T2* outside is out of range."""

PDFF_MIN, PDFF_MAX = -0.5, 1.5
"""Noise may bring a fraction below 0 or above 1; beyond these the model is not the signal's."""
MAX_PDFF_SE = 0.25
"""A fraction less certain than this is not identifiable."""
MAX_R2STAR_SE_PER_S = 20.0
"""With a rate less certain than this T2* is not identifiable, unless the rate is five times that.

A limit on the relative error alone would refuse long T2* before short ones of the same tissue,
and bias what is left: by a half where a short train gives muscle's 40/s with an error of 35/s.
"""

_N_PARAMETERS = 5  # W, F, their phase, field, R2*
_N_SAMPLE = 4000


@dataclass(frozen=True)
class FatWaterResult:
    """Maps of the water-fat fits, of shape (...): the signal's without its last axis.

    Everything is NaN where `status` is not 0, and T2* also where `t2star_status` is not;
    standard errors also where the noise is unknown.
    """

    water: Float
    """Water's signal at echo time 0, in the unit of the input."""
    water_se: Float
    """Its standard error."""
    fat: Float
    """Fat's signal at echo time 0, in the unit of the input."""
    fat_se: Float
    """Its standard error."""
    pdff: Float
    """Fat / (water + fat), 0 to 1 within noise: held to no limits, its mean is true."""
    pdff_se: Float
    """Its standard error."""
    r2star_per_s: Float
    """Rate of decay (1/s); near 0 noise may bring it below."""
    r2star_se_per_s: Float
    """Its standard error (1/s)."""
    t2star_s: Float
    """T2* (s), the inverse of the rate."""
    t2star_se_s: Float
    """Its standard error (s)."""
    field_hz: Float
    """Frequency of water relative to the receiver (Hz); NaN from magnitudes."""
    field_se_hz: Float
    """Its standard error (Hz)."""
    status: NDArray[np.uint8]
    """`mrn_prep.models.status.Reason` codes; 0 where fitted."""
    t2star_status: NDArray[np.uint8]
    """Codes of T2* alone: what of the fitted voxels has none. Elsewhere as `status`."""
    pdff_limit: float = 1.0
    """Largest fraction that the method can tell; 0.5 means that fat beyond reads as water."""


def fit_fat_water(
    signal: ArrayLike,
    te_s: ArrayLike,
    field_t: float,
    voxel_mm: tuple[float, float, float],
    mask: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    *,
    peaks: FatPeaks = FAT_PEAKS,
    n_threads: int = 1,
) -> FatWaterResult:
    r"""Fit water, fat, field and R2* to complex echoes.

    .. math:: \min \sum_n \left|s_n - (W + F\,c_n)\, e^{i(2\pi\psi T_{E,n} + \varphi)}\,
        e^{-R_2^* T_{E,n}}\right|^2,\quad W, F \in \mathbb{R}

    with the fat's phasor :math:`c_n` of `mrn_prep.models.megre.fat_phasor`.

    Parameters
    ----------
    signal : complex array, shape (x, y, z, n_echoes)
        Signal (arbitrary units) whose phase grows with frequency, see `phase_sign`.
    te_s : array, shape (n_echoes,)
        Echo times (s), increasing; three or more. Readouts of one polarity.
    field_t : float
        Field strength (T).
    voxel_mm : tuple
        Size of a voxel, slice gap included (mm).
    mask : bool array, shape (x, y, z), optional
        Voxels to fit; all by default.
    sigma : float or array, shape (x, y, z), optional
        Standard deviation of the noise in each of the two channels, in the unit of the
        signal. Without it (or where it is NaN) standard errors come from the residuals if
        there are six degrees of freedom (six echoes), else are NaN.
    peaks : FatPeaks
        Spectrum of fat.
    n_threads : int
        Threads to fit in.

    Returns
    -------
    FatWaterResult
        A largest signal below 3 sigma is NaN with ``Reason.NO_SIGNAL``, a fraction outside
        -0.5 to 1.5 or a rate at the ends of the search (-200 and 2000/s) with
        ``Reason.OUT_OF_RANGE``, a fraction with a standard error above 0.25 with
        ``Reason.NOT_IDENTIFIABLE``. T2* outside 1 to 500 ms, with a standard error as large as
        itself or a rate less certain than `MAX_R2STAR_SE_PER_S`, is NaN with a reason in
        ``t2star_status``.

    Raises
    ------
    ValueError
        If the signal is not complex, shapes disagree, there are fewer than three echoes, or
        times do not increase or field strength or voxel size are not positive.

    Notes
    -----
    Which of the fields that fit a voxel is the true one is decided for all voxels together
    (`mrn_prep.models.fat_water_field.map_field`); the field chosen is where the voxel's own fit
    starts. That fit is not smoothed. With evenly spaced echoes fields that differ by
    :math:`1/\Delta T_E` give the same water and fat; the field is made continuous, and the
    median of each connected piece lies within half a period of 0.

    Water and fat share their phase at echo time 0, as after one excitation. So W and F are
    real and scatter to both sides of 0 where there is none, and their ratio has no noise bias:
    the phase-constrained way of Liu et al. There is no need to discriminate by magnitude.

    Standard errors are first order, :math:`\sigma^2 (J^T J)^{-1}`.

    References
    ----------
    Yu H, Shimakawa A, McKenzie CA, et al. Magn Reson Med 2008;60:1122-1134.
    doi:10.1002/mrm.21737 (model)
    Hernando D, Kellman P, Haldar JP, Liang ZP. Magn Reson Med 2010;63:79-90.
    doi:10.1002/mrm.22177 (field)
    Liu CY, McKenzie CA, Yu H, Brittain JH, Reeder SB. Magn Reson Med 2007;58:354-364.
    doi:10.1002/mrm.21301 (noise bias)

    Examples
    --------
    >>> from mrn_prep.models.megre import megre_signal
    >>> te = 0.0012 + 0.0011 * np.arange(6)
    >>> field = np.linspace(-200, 250, 8).reshape(2, 2, 2)
    >>> s = megre_signal(700.0, 300.0, te, field_hz=field, r2star_per_s=40.0, phase_rad=2.0)
    >>> fit = fit_fat_water(s, te, 3.0, (1.0, 1.0, 4.0))
    >>> [round(float(x.mean()), 6) for x in (fit.pdff, fit.water, fit.t2star_s)]
    [0.3, 700.0, 0.025]
    >>> bool(np.allclose(fit.field_hz, field))
    True
    """
    signal = np.asarray(signal)
    if not np.iscomplexobj(signal):
        raise ValueError(
            "The signal must be complex; for magnitudes see "
            "mrn_prep.models.fat_water_magnitude.fit_fat_water_magnitude."
        )
    if signal.ndim != 4:
        raise ValueError(f"signal {signal.shape} must be (x, y, z, n_echoes).")
    if not (len(voxel_mm) == 3 and min(voxel_mm) > 0):
        raise ValueError(f"The voxel must have three positive sizes (mm), got {voxel_mm}.")
    echoes = shared_echoes(te_s, field_t, peaks, signal.shape[-1], least=3)
    shape = signal.shape[:-1]
    inside = per_voxel(True if mask is None else mask, shape, "mask").astype(np.bool_)
    noise = per_voxel(np.nan if sigma is None else sigma, shape, "sigma").reshape(-1)
    status = np.full(inside.size, Reason.OUTSIDE_MASK, dtype=np.uint8)
    rows = np.flatnonzero(inside)

    def look(part: slice, block: NDArray[np.complex128]) -> None:
        largest = np.abs(block).max(axis=1)  # NaN if one is
        codes = np.where(largest > 0, Reason.FITTED, Reason.NO_SIGNAL)
        codes[largest < NOISE_FLOOR_SIGMA * noise[rows[part]]] = Reason.NO_SIGNAL
        codes[~np.isfinite(largest)] = Reason.NON_FINITE
        status[rows[part]] = codes

    by_chunks(look, signal, rows, n_threads)
    rows = rows[status[rows] == Reason.FITTED]
    start = map_field(signal, rows, echoes, voxel_mm, noise[rows], n_threads)
    maps = np.full((12, inside.size), np.nan)
    t2star_status = status.copy()

    def fit(part: slice, block: NDArray[np.complex128]) -> None:
        field, rate = start.field_hz[part].astype(float), start.r2star_per_s[part].astype(float)
        found, misfit, spread, converged = fit_rows(block, echoes, field, rate)
        variance = noise[rows[part]] ** 2
        dof = 2 * echoes.te_s.size - _N_PARAMETERS
        residual = misfit / dof if dof >= MIN_RESIDUAL_DOF else np.full_like(misfit, np.nan)
        variance = np.where(np.isnan(variance), residual, variance)
        columns = (found, spread * variance[:, np.newaxis], converged)
        maps[:, rows[part]], status[rows[part]], t2star_status[rows[part]] = assemble(*columns)

    by_chunks(fit, signal, rows, n_threads)
    return FatWaterResult(
        *[*maps.reshape(12, *shape), status.reshape(shape), t2star_status.reshape(shape)]
    )


def shared_echoes(
    te_s: ArrayLike, field_t: float, peaks: FatPeaks, n_echoes: int, least: int
) -> Echoes:
    """Check echo times and pair them with the fat's phasor; raise ValueError where they err."""
    te = np.array(te_s, dtype=np.float64)
    if te.shape != (n_echoes,):
        raise ValueError(f"te_s {te.shape} must hold a time for each of {n_echoes} echoes.")
    if te.size < least:
        raise ValueError(f"{least} or more echoes are needed, got {te.size}.")
    if not (np.all(te >= 0) and np.all(np.diff(te) > 0) and te[-1] < 1.0):
        raise ValueError(f"Echo times must increase (s), got {te.tolist()}.")
    if field_t is None:
        raise ValueError("Water and fat cannot be told apart without the field strength (T).")
    phasor = fat_phasor(te, field_t, peaks)
    return Echoes(te, np.ascontiguousarray(phasor.real), np.ascontiguousarray(phasor.imag))


def assemble(
    found: Float, variance: Float, converged: NDArray[np.bool_]
) -> tuple[Float, NDArray[np.uint8], NDArray[np.uint8]]:
    """Return maps in the order of `FatWaterResult`, and the two reasons, from the kernel's columns.

    `found` has W, F, field and R2*; `variance` theirs and the covariance of W and F.
    """
    water, fat, field, rate = found.T
    total = water + fat
    with np.errstate(invalid="ignore", divide="ignore"):
        pdff, t2star = fat / total, 1.0 / rate
        se = np.sqrt(variance[:, :4]).T
        squared = fat**2 * variance[:, 0] + water**2 * variance[:, 1]
        pdff_se = np.sqrt(squared - 2.0 * water * fat * variance[:, 4]) / total**2
        t2star_se = se[3] * t2star**2
        status = np.where(pdff_se > MAX_PDFF_SE, Reason.NOT_IDENTIFIABLE, Reason.FITTED)
        in_range = (rate > R2STAR_MIN_PER_S) & (rate < R2STAR_MAX_PER_S)
        in_range &= (pdff > PDFF_MIN) & (pdff < PDFF_MAX)
        status[~in_range] = Reason.OUT_OF_RANGE
        status[~converged] = Reason.NOT_CONVERGED
        of_t2star = status.copy()
        unknown = (status == 0) & ~((t2star >= T2STAR_MIN_S) & (t2star <= T2STAR_MAX_S))
        of_t2star[unknown] = Reason.OUT_OF_RANGE
        vague = (se[3] > MAX_R2STAR_SE_PER_S) & (se[3] > 0.2 * rate)
        vague |= se[3] > MAX_RELATIVE_SE * np.abs(rate)
        of_t2star[(status == 0) & vague] = Reason.NOT_IDENTIFIABLE
    maps = np.stack(
        [water, se[0], fat, se[1], pdff, pdff_se, rate, se[3], t2star, t2star_se, field, se[2]]
    )
    maps[:, status != 0] = np.nan
    maps[8:10, of_t2star != 0] = np.nan
    return maps, status.astype(np.uint8), of_t2star.astype(np.uint8)


def phase_sign(
    signal: ArrayLike,
    te_s: ArrayLike,
    field_t: float,
    mask: ArrayLike | None = None,
    *,
    peaks: FatPeaks = FAT_PEAKS,
) -> int:
    """Tell whether phase grows or falls with frequency, which scanners do not agree on.

    Fat has peaks on both sides of the strongest, so that only one sign fits well where there is
    fat. With the wrong one water and fat change places.

    Parameters
    ----------
    signal, te_s, field_t, mask, peaks
        As in `fit_fat_water`. A few thousand voxels of the mask are looked at.

    Returns
    -------
    int
        1 if phase grows with frequency, as `fit_fat_water` takes it; -1 if it falls, and the
        signal's conjugate should be fitted; 0 if there is too little fat to tell.

    Examples
    --------
    >>> from mrn_prep.models.megre import megre_signal
    >>> te = 0.0012 + 0.0011 * np.arange(6)
    >>> s = megre_signal(np.array([1e3, 600.0, 50.0]), np.array([0.0, 400.0, 1e3]), te)
    >>> s = np.tile(s, (2, 10, 1, 1))
    >>> phase_sign(s, te, 3.0), phase_sign(s.conj(), te, 3.0), phase_sign(s[..., :1, :], te, 3.0)
    (1, -1, 0)
    """
    signal = np.asarray(signal)
    echoes = shared_echoes(te_s, field_t, peaks, signal.shape[-1], least=3)
    inside = per_voxel(True if mask is None else mask, signal.shape[:-1], "mask")
    rows = np.flatnonzero(inside)
    rows = rows[:: max(1, rows.size // _N_SAMPLE)]
    block = signal[np.unravel_index(rows, signal.shape[:-1])].astype(np.complex128)
    power = np.mean(np.abs(block) ** 2, axis=1)
    block = block[power > 0.1 * np.nanmedian(power)] if rows.size else block
    block /= np.sqrt(np.mean(np.abs(block) ** 2, axis=1, keepdims=True))
    search, _ = make_search(echoes.te_s)
    as_is = find_candidates(np.ascontiguousarray(block), echoes, search)[2].min(axis=1)
    turned = find_candidates(np.ascontiguousarray(block.conj()), echoes, search)[2].min(axis=1)
    # differences of less than a thousandth of the power tell of noise and rounding
    gain = np.clip(np.asarray(turned - as_is, dtype=np.float64), -0.1, 0.1)
    gain = gain[np.abs(gain) > 1e-3]
    if gain.size < 10 or abs(gain.sum()) < 5.0 * np.sqrt(np.sum(gain**2)):
        return 0
    return 1 if gain.sum() > 0 else -1
