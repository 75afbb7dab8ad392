"""Fibre directions where there is more than one: q-ball imaging, by dipy."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.dti import B0_MAX_S_MM2
from mrn_prep.models.status import Reason

Float = NDArray[np.floating]
Mask = NDArray[np.bool_]

FEWEST_DIRECTIONS = 15
"""Coefficients of an even function of fourth order on the sphere."""

_SPHERE = "repulsion724"  # points about four degrees apart
_ONE_DEGREE = np.cos(np.deg2rad(1.0))
_SHELL = 0.1  # b-values within this part of one another are one shell


@dataclass(frozen=True)
class QBallResult:
    """Maps of `fit_qball`; NaN where `status` is not 0."""

    directions: Float
    """Unit vectors of the peaks, the largest first, shape (..., n_peaks, 3); NaN where there
    are fewer."""
    values: Float
    """Height of the peaks relative to the largest, shape (..., n_peaks); NaN likewise."""
    n_peaks: NDArray[np.uint8]
    """Peaks found, shape (...)."""
    gfa: Float
    """Generalised fractional anisotropy, 0 to 1, shape (...)."""
    status: NDArray[np.uint8]
    """0 where fitted, else the `Reason`."""


def fit_qball(
    signal: Float,
    b_s_mm2: ArrayLike,
    bvecs: ArrayLike,
    mask: Mask,
    *,
    n_peaks: int = 3,
    relative_height: float = 0.5,
    separation_deg: float = 25.0,
) -> QBallResult:
    r"""Find the peaks of the orientation distribution in constant solid angle.

    .. math:: \psi(u) = \frac{1}{4\pi} + \frac{1}{16\pi^2}\,
              \mathrm{FRT}\bigl\{\nabla_b^2 \ln(-\ln E)\bigr\}(u)

    Parameters
    ----------
    signal : array, shape (..., n)
        Magnitude signal.
    b_s_mm2, bvecs : arrays, shape (n,) and (n, 3)
        b-values (s/mm²) and unit directions. One shell: the b0 volumes and those of the
        largest b-value are used.
    mask : bool array, shape (...)
        Voxels to fit, a nerve or muscle; a voxel takes a quarter of a millisecond.
    n_peaks : int
        The most to be kept.
    relative_height : float
        Least height of a peak relative to the largest, above the distribution's minimum.
    separation_deg : float
        Least angle between two peaks.

    Returns
    -------
    QBallResult

    Raises
    ------
    ValueError
        If shapes disagree, there is no b0, or the shell has fewer than 15 different
        directions.

    Notes
    -----
    Spherical harmonics of fourth order for 15 to 27 directions, sixth up to 44, then eighth,
    with Laplace-Beltrami regularisation of 0.006. Even without noise, with 15 to 30 directions at
    b = 1000 s/mm² fibres that cross at less than 70° are one peak, and the peaks of those at
    right angles are off by 4° in the median, by 15° at most.

    References
    ----------
    Aganj I, Lenglet C, Sapiro G, Yacoub E, Ugurbil K, Harel N. Magn Reson Med
    2010;64:554-566. doi:10.1002/mrm.22365
    Tuch DS. Magn Reson Med 2004;52:1358-1372. doi:10.1002/mrm.20279 (GFA)

    Examples
    --------
    >>> from mrn_prep.models.dti import axial_tensor, tensor_signal
    >>> g = np.random.default_rng(0).normal(size=(31, 3))
    >>> b, g = np.r_[0, np.full(30, 1000.0)], g / np.linalg.norm(g, axis=1, keepdims=True)
    >>> signal = tensor_signal(100.0, axial_tensor(2e-3, 5e-4, [0, 0, 1]), b, g)
    >>> found = fit_qball(signal[None], b, g, np.ones(1, bool))
    >>> int(found.n_peaks[0]), bool(abs(found.directions[0, 0, 2]) > 0.99)
    (1, True)
    """
    signal = np.asarray(signal)
    b, g = np.asarray(b_s_mm2, dtype=np.float64), np.asarray(bvecs, dtype=np.float64)
    mask = np.asarray(mask, dtype=np.bool_)
    used, n_directions = _shell(signal, b, g, mask)
    voxels = np.asarray(signal[mask][:, used], dtype=np.float64).reshape(-1, int(used.sum()))
    status = np.full(len(voxels), int(Reason.FITTED), dtype=np.uint8)
    status[~(voxels > 0).any(axis=1)] = Reason.NO_SIGNAL
    # a logarithm of zero or less has no place in the transform
    status[(status == Reason.FITTED) & ~(voxels > 0).all(axis=1)] = Reason.TOO_FEW
    status[~np.isfinite(voxels).all(axis=1)] = Reason.NON_FINITE
    fitted = status == Reason.FITTED
    order = 4 if n_directions < 28 else 6 if n_directions < 45 else 8
    directions = np.full((*mask.shape, n_peaks, 3), np.nan)
    values = np.full((*mask.shape, n_peaks), np.nan)
    count, gfa = np.zeros(mask.shape, dtype=np.uint8), np.full(mask.shape, np.nan)
    codes = np.full(mask.shape, int(Reason.OUTSIDE_MASK), dtype=np.uint8)
    codes[mask] = status
    if fitted.any():
        found = _peaks(
            voxels[fitted], b[used], g[used], order, n_peaks, relative_height, separation_deg
        )
        where = np.zeros(mask.shape, dtype=np.bool_)
        where[mask] = fitted
        directions[where], values[where], gfa[where] = found
        count[where] = np.isfinite(found[1]).sum(axis=-1)
    return QBallResult(directions, values, count, gfa, codes)


def _shell(signal: Float, b: Float, g: Float, mask: Mask) -> tuple[Mask, int]:
    """Volumes to use, and the number of different directions."""
    n = signal.shape[-1] if signal.ndim else 0
    if b.shape != (n,) or g.shape != (n, 3) or mask.shape != signal.shape[:-1]:
        raise ValueError(
            f"signal {signal.shape}, b_s_mm2 {b.shape}, bvecs {g.shape} and mask {mask.shape} "
            "must be (..., n), (n,), (n, 3) and (...)."
        )
    unweighted = b <= B0_MAX_S_MM2
    if not unweighted.any():
        raise ValueError(f"Q-ball imaging needs a volume with b up to {B0_MAX_S_MM2:g} s/mm².")
    shell = ~unweighted & (b >= (1 - _SHELL) * b.max())
    kept: list[Float] = []
    for direction in g[shell]:
        if all(abs(float(direction @ other)) < _ONE_DEGREE for other in kept):
            kept.append(direction)
    if len(kept) < FEWEST_DIRECTIONS:
        raise ValueError(
            f"Q-ball imaging needs {FEWEST_DIRECTIONS} directions at one b-value, got {len(kept)} "
            f"at b = {b.max():g} s/mm²."
        )
    return unweighted | shell, len(kept)


def _peaks(
    voxels: Float,
    b: Float,
    g: Float,
    order: int,
    n_peaks: int,
    relative_height: float,
    separation_deg: float,
) -> tuple[Float, Float, Float]:
    """Directions, relative heights and GFA by dipy, shapes (m, k, 3), (m, k) and (m,)."""
    # imported here, as half of dipy comes with them
    from dipy.core.gradients import gradient_table
    from dipy.data import get_sphere
    from dipy.direction import peaks_from_model
    from dipy.reconst.shm import CsaOdfModel

    table = gradient_table(b, bvecs=np.where(b[:, None] > B0_MAX_S_MM2, g, 0.0),
                           b0_threshold=B0_MAX_S_MM2)  # fmt: skip
    with warnings.catch_warnings():
        # dipy announces another default basis, which changes no peak
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        found = peaks_from_model(
            CsaOdfModel(table, order),
            voxels,
            get_sphere(name=_SPHERE),
            relative_height,
            separation_deg,
            npeaks=n_peaks,
            normalize_peaks=True,
            return_sh=False,
        )
    directions = np.array(found.peak_dirs, dtype=np.float64).reshape(len(voxels), n_peaks, 3)
    heights = np.array(found.peak_values, dtype=np.float64).reshape(len(voxels), n_peaks)
    none = heights <= 0
    directions[none], heights[none] = np.nan, np.nan
    return directions, heights, np.array(found.gfa, dtype=np.float64).reshape(len(voxels))
