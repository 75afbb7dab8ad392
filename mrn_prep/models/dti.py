"""Diffusion tensor: signal, weighted linear fit, calibrated standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models._dti_kernel import fit_rows
from mrn_prep.models.retained import RetainedNoise, untouched
from mrn_prep.models.status import Reason

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

B0_MAX_S_MM2 = 5.0
"""Volumes up to here count as b0 (scanners write 1 or 5 for their smallest b)."""
LOW_B_MAX_S_MM2 = 200.0
"""Below here perfusion adds to the decay: such volumes belong to IVIM."""

_B_SCALE = 1e-3  # diffusivities near 1 keep the normal equations well conditioned


@dataclass(frozen=True)
class DTIResult:
    """Maps of `fit_dti`; shape ``(...)``, the signal's without its last axis.

    Everything is NaN where `status` is not 0; standard errors are NaN where the
    noise is not known either.
    """

    fa: Float
    """Fractional anisotropy, 0 to 1."""
    md_mm2_s: Float
    """Mean diffusivity (mm²/s)."""
    ad_mm2_s: Float
    """Axial diffusivity: the largest eigenvalue (mm²/s)."""
    rd_mm2_s: Float
    """Radial diffusivity: the mean of the other two (mm²/s)."""
    s0: Float
    """Signal at b = 0, in the unit of the input."""
    fa_se: Float
    """Standard error of `fa`."""
    md_se_mm2_s: Float
    """Standard error of `md_mm2_s` (mm²/s)."""
    ad_se_mm2_s: Float
    """Standard error of `ad_mm2_s` (mm²/s)."""
    rd_se_mm2_s: Float
    """Standard error of `rd_mm2_s` (mm²/s)."""
    s0_se: Float
    """Standard error of `s0`."""
    v1: Float
    """Unit vector of the largest eigenvalue, shape (..., 3), in the frame of `bvecs`."""
    status: NDArray[np.uint8]
    """0 where fitted, else the `Reason`."""


def tensor_signal(
    s0: ArrayLike, tensor_mm2_s: ArrayLike, b_s_mm2: ArrayLike, bvecs: ArrayLike
) -> Float:
    r"""Diffusion-weighted signal of a Gaussian tensor.

    .. math:: S = S_0\, e^{-b\, g^T D g}

    Parameters
    ----------
    s0 : array, shape (...)
        Signal at b = 0 (arbitrary units).
    tensor_mm2_s : array, shape (..., 6)
        Dxx, Dxy, Dyy, Dxz, Dyz, Dzz (mm²/s): the lower triangle, row by row.
    b_s_mm2 : array, shape (n,)
        b-values (s/mm²).
    bvecs : array, shape (n, 3)
        Gradient directions, of unit length; zero for b = 0.

    Returns
    -------
    array, shape (..., n)
        Signal, in the unit of `s0`.

    References
    ----------
    Basser PJ, Mattiello J, LeBihan D. Biophys J 1994;66:259-267.
    doi:10.1016/S0006-3495(94)80775-1

    Examples
    --------
    The off-diagonal element counts twice, with the sign of the direction's product:

    >>> d = np.array([1.0, 0.4, 1.0, 0.0, 0.0, 1.0]) * 1e-3
    >>> g = np.array([[1, 1, 0], [1, -1, 0]]) / np.sqrt(2)
    >>> (-np.log(tensor_signal(1.0, d, [1000, 1000], g))).round(6).tolist()
    [1.4, 0.6]
    """
    design = _design(np.asarray(b_s_mm2, float), np.asarray(bvecs, float))[:, :6]
    decay = np.asarray(tensor_mm2_s, float) @ design.T
    signal: Float = np.asarray(s0, float)[..., np.newaxis] * np.exp(decay)
    return signal


def axial_tensor(ad_mm2_s: ArrayLike, rd_mm2_s: ArrayLike, direction: ArrayLike) -> Float:
    r"""Tensor with one axis of symmetry, such as a nerve's or a muscle fibre's.

    .. math:: D = D_r I + (D_a - D_r)\, v v^T

    Parameters
    ----------
    ad_mm2_s, rd_mm2_s : array, shape (...)
        Diffusivity along and across the axis (mm²/s).
    direction : array, shape (..., 3)
        The axis v, of any length but zero.

    Returns
    -------
    array, shape (..., 6)
        Dxx, Dxy, Dyy, Dxz, Dyz, Dzz (mm²/s).

    Examples
    --------
    >>> axial_tensor(2.0, 1.0, [0, 3, 3]).tolist()
    [1.0, 0.0, 1.5, 0.0, 0.5, 1.5]
    """
    v = np.asarray(direction, float)
    rd = np.asarray(rd_mm2_s, float)
    x, y, z = np.moveaxis(v, -1, 0)
    products = np.stack([x * x, x * y, y * y, x * z, y * z, z * z], axis=-1)
    products = products / (v**2).sum(-1)[..., np.newaxis]
    identity = np.array([1.0, 0, 1, 0, 0, 1])
    excess = (np.asarray(ad_mm2_s, float) - rd)[..., np.newaxis]
    tensor: Float = rd[..., np.newaxis] * identity + excess * products
    return tensor


def select_tensor_volumes(
    b_s_mm2: ArrayLike, bvecs: ArrayLike, include_low_b: bool = False
) -> Bool:
    """Volumes that belong into a tensor fit.

    Volumes with 5 < b < 200 s/mm² carry perfusion and are left out, provided that
    what remains still determines the tensor (a b0 and six directions); otherwise
    all volumes are kept.

    Parameters
    ----------
    b_s_mm2 : array, shape (n,)
        b-values (s/mm²).
    bvecs : array, shape (n, 3)
        Gradient directions.
    include_low_b : bool
        Keep every volume.

    Returns
    -------
    bool array, shape (n,)
        True where the volume is used.

    Examples
    --------
    >>> g = np.vstack([np.zeros(3), [1, 0, 0], np.eye(3), [[1, 1, 0], [1, 0, 1], [0, 1, 1]]])
    >>> g /= np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1)
    >>> select_tensor_volumes([0, 50, 800, 800, 800, 800, 800, 800], g).astype(int).tolist()
    [1, 0, 1, 1, 1, 1, 1, 1]
    """
    b = np.asarray(b_s_mm2, float)
    every = np.ones(b.shape, bool)
    chosen = (b <= B0_MAX_S_MM2) | (b >= LOW_B_MAX_S_MM2)
    if include_low_b or not (b <= B0_MAX_S_MM2).any():
        return every
    design = _design(b[chosen], np.asarray(bvecs, float)[chosen])
    return chosen if np.linalg.matrix_rank(design) == 7 else every


def fit_dti(
    signal: Float,
    b_s_mm2: ArrayLike,
    bvecs: ArrayLike,
    mask: Bool | None = None,
    sigma: ArrayLike | None = None,
    *,
    noise: RetainedNoise | None = None,
    reweightings: int = 1,
) -> DTIResult:
    r"""Fit the diffusion tensor by weighted linear least squares.

    With X the design of :math:`\ln S = \ln S_0 - b\,g^T D g`,

    .. math:: \hat\beta = (X^T W X)^{-1} X^T W \ln S,\quad W = \mathrm{diag}(\hat S^2),

    where the predicted signal comes from an unweighted fit. The noise of
    :math:`\ln S` is :math:`\sigma/S`, hence
    :math:`\mathrm{cov}\,\hat\beta = \sigma^2 (X^T W X)^{-1}`, which the gradients of
    FA, MD, AD, RD and S0 turn into standard errors.

    Parameters
    ----------
    signal : array, shape (..., n)
        Magnitude signal. A value of 0 or less has no logarithm: that volume is
        left out of that voxel's fit.
    b_s_mm2, bvecs : array, shapes (n,) and (n, 3)
        b-values (s/mm²) as they were, and unit directions (zero for b <= 5).
    mask : bool array, shape (...), optional
        Voxels to fit; all of them without one.
    sigma : float or array, shape (...), optional
        Standard deviation of the noise, in the unit of the signal. Without it the
        residuals are used, given at least six degrees of freedom.
    noise : RetainedNoise, optional
        What denoising left of `sigma`, see `mrn_prep.models.mppca.retained_noise`.
    reweightings : int
        Number of weighted fits after the unweighted one.

    Returns
    -------
    DTIResult
        A tensor that is not positive definite is not repaired: it is NaN, with
        status OUT_OF_RANGE.

    Raises
    ------
    ValueError
        If shapes disagree, the directions are not of unit length, the gradients do
        not determine a tensor, or `noise` comes without `sigma`.

    Notes
    -----
    Noise can only raise FA (and AD) of an isotropic tensor, and a gradient does not
    tell. FA is the length of a vector whose noise has a part along it, of variance
    a (the gradient's), and a power c across it, which lengthens the vector by

    .. math:: \sqrt{F^2 + c} - F,\quad F = \sqrt{\max(0, \mathrm{FA}^2 - a - c)}.

    The square of this excess is added to the variance. c is enlarged so that the
    interval holds 68 % of isotropic voxels. AD - RD is treated likewise, with the
    noise that mixes the first eigenvector with the others. Near FA = 0 the errors are
    thus one-sided and not Gaussian. The estimates themselves stay uncorrected.

    Magnitude bias is not corrected here. It is negligible against the noise of a raw
    series of SNR 25, but not against that of a denoised one: correct that series first.

    References
    ----------
    Chung S, Lu Y, Henry RG. NeuroImage 2006;33:531-541.
    doi:10.1016/j.neuroimage.2006.07.001 (weights)
    Koay CG, Chang L-C, Carew JD, Pierpaoli C, Basser PJ. J Magn Reson
    2006;182:115-125. doi:10.1016/j.jmr.2006.06.020 (propagation of errors)

    Examples
    --------
    >>> g = np.array([[1, 0, 1], [-1, 0, 1], [0, 1, 1], [0, 1, -1], [1, 1, 0], [-1, 1, 0]])
    >>> g = np.vstack([np.zeros(3), g / np.sqrt(2)])
    >>> b = np.array([0.0] + 6 * [800.0])
    >>> fit = fit_dti(tensor_signal(90.0, axial_tensor(2e-3, 1e-3, [0, 0, 1]), b, g)[None], b, g)
    >>> [round(float(x), 6) for x in (fit.s0[0], fit.ad_mm2_s[0], fit.rd_mm2_s[0], fit.fa[0])]
    [90.0, 0.002, 0.001, 0.408248]
    """
    signal = np.asarray(signal)
    b, g = np.asarray(b_s_mm2, float), np.asarray(bvecs, float)
    grid = signal.shape[:-1]
    mask = np.ones(grid, bool) if mask is None else np.asarray(mask, bool)
    _check(signal, b, g, mask)
    length = np.linalg.norm(g, axis=1, keepdims=True)
    design = _design(b * _B_SCALE, g / np.where(length > 0, length, 1))
    if (rank := np.linalg.matrix_rank(design)) < 7:
        raise ValueError(
            f"The gradients determine {rank} of the tensor's 7 unknowns: needed are 6 "
            "directions that are not coplanar and two different b-values."
        )
    if noise is not None and sigma is None:
        raise ValueError("The noise left by denoising is known relative to sigma: give both.")
    noise = untouched(np.ones(grid), b.size) if noise is None else noise
    maps, status = fit_rows(
        np.ascontiguousarray(signal[mask], dtype=float).reshape(-1, b.size),
        design,
        np.linalg.pinv(design),
        noise.rows(np.nan if sigma is None else sigma, np.flatnonzero(mask)),
        sigma is None,
        reweightings,
    )
    codes = np.full(grid, int(Reason.OUTSIDE_MASK), np.uint8)
    codes[mask] = status
    volume = np.full((*grid, maps.shape[1]), np.nan)
    volume[mask] = maps
    scale = np.array([1, _B_SCALE, _B_SCALE, _B_SCALE, 1])
    fa, md, ad, rd, s0 = (volume[..., k] * scale[k] for k in range(5))
    fa_se, md_se, ad_se, rd_se, s0_se = (volume[..., 5 + k] * scale[k] for k in range(5))
    v1 = volume[..., 10:].copy()  # a view would keep the other maps in memory
    return DTIResult(fa, md, ad, rd, s0, fa_se, md_se, ad_se, rd_se, s0_se, v1, codes)


def _check(signal: Float, b: Float, g: Float, mask: Bool) -> None:
    """Raise on shapes that disagree and on directions that are none."""
    n = signal.shape[-1] if signal.ndim else 0
    if b.shape != (n,) or g.shape != (n, 3) or mask.shape != signal.shape[:-1]:
        raise ValueError(
            f"signal {signal.shape}, b_s_mm2 {b.shape}, bvecs {g.shape} and mask {mask.shape} "
            "must be (..., n), (n,), (n, 3) and (...)."
        )
    length = np.linalg.norm(g, axis=1)
    unit = (np.abs(length - 1) < 0.01) | ((length == 0) & (b <= B0_MAX_S_MM2))
    if not (unit.all() and np.isfinite(b).all() and (b >= 0).all()):
        raise ValueError(
            f"bvecs need unit length (zero where b <= {B0_MAX_S_MM2:g}) and b-values 0 or more; "
            f"volumes {np.flatnonzero(~unit | ~(b >= 0)).tolist()} have lengths "
            f"{length[~unit].round(3).tolist()}."
        )


def _design(b: Float, g: Float) -> Float:
    """Rows of ln S = X (Dxx, Dxy, Dyy, Dxz, Dyz, Dzz, ln S0), shape (n, 7)."""
    x, y, z = g.T
    products = np.stack([x * x, 2 * x * y, y * y, 2 * x * z, 2 * y * z, z * z], axis=-1)
    return np.concatenate([-b[:, np.newaxis] * products, np.ones((b.size, 1))], axis=1)
