"""Raw diffusion magnitudes freed of their noise floor, for fits to logarithms."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import exp1

from mrn_prep.models.eddy_steps import log_design

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

_ROUNDS = 3
_LEAST = 0.02  # amplitudes over sigma below which the excess is taken as there
_CHUNK = 20_000


def without_floor(
    series: Float, b_s_mm2: ArrayLike, bvecs: ArrayLike, mask: Bool, sigma: ArrayLike
) -> NDArray[np.float32]:
    r"""Take from single magnitudes what noise adds to the mean of their logarithm.

    With an amplitude A, :math:`\langle \ln m \rangle = \ln A + \tfrac12 E_1(A^2 / 2\sigma^2)`.
    A is what a tensor, fitted to the logarithms as they are so far, predicts; three rounds.

    Parameters
    ----------
    series : array, shape (x, y, z, n)
        Magnitudes as they were measured (of denoised ones, see `mrn_prep.models.denoised`).
    b_s_mm2, bvecs : array, shapes (n,) and (n, 3)
        b-values (s/mm²) and unit directions.
    mask : bool array, shape (x, y, z)
        Voxels to correct.
    sigma : array, broadcastable to (x, y, z)
        Standard deviation of the noise; nothing is changed where it is not known.

    Returns
    -------
    float32 array, shape (x, y, z, n)
        The scatter of single magnitudes stays: one of 0 stays 0.

    Notes
    -----
    :math:`\sqrt{m^2 - 2\sigma^2}`, which is right for second moments, is not for single
    magnitudes whose logarithm is fitted: at an SNR of 10 to 15 without weighting it reads MD 6 %
    high (b = 1000 s/mm², 30 directions), against 0.7 % low with this and 2 % low with neither.

    References
    ----------
    Gudbjartsson H, Patz S. Magn Reson Med 1995;34:910-914. doi:10.1002/mrm.1910340618
    Koay CG, Basser PJ. J Magn Reson 2006;179:317-322. doi:10.1016/j.jmr.2006.01.016

    Examples
    --------
    >>> b, g = np.r_[0, np.full(6, 1500.0)], np.zeros((7, 3))
    >>> g[1:] = [[1, 1, 0], [1, -1, 0], [1, 0, 1], [1, 0, -1], [0, 1, 1], [0, 1, -1]]
    >>> truth = np.exp(-1e-3 * b)
    >>> m = truth * np.exp(0.5 * exp1(truth**2 / 2 / 0.1**2))
    >>> out = without_floor(m[None, None, None], b, g / 2**0.5, np.ones((1, 1, 1), bool), 0.1)
    >>> float(np.log(m / truth).max().round(3)), bool(np.abs(np.log(out / truth)).max() < 1e-3)
    (0.013, True)
    """
    b, g = np.asarray(b_s_mm2, dtype=np.float64), np.asarray(bvecs, dtype=np.float64)
    if series.shape != (*mask.shape, b.size) or g.shape != (b.size, 3):
        raise ValueError(
            f"series {series.shape}, b_s_mm2 {b.shape}, bvecs {g.shape} and mask {mask.shape} must "
            "be (x, y, z, n), (n,), (n, 3) and (x, y, z)."
        )
    out = np.array(series, dtype=np.float32, order="C")
    noise = np.broadcast_to(np.asarray(sigma, dtype=np.float64), mask.shape)
    voxels = np.flatnonzero(mask & (noise > 0))
    design = log_design(b, g)
    flat = out.reshape(-1, b.size)
    for start in range(0, voxels.size, _CHUNK):
        some = voxels[start : start + _CHUNK]
        flat[some] = _corrected(flat[some].astype(np.float64), design, noise.ravel()[some])
    return out


def _corrected(magnitude: Float, design: Float, sigma: Float) -> Float:
    """Correct rows of magnitudes, shape (n_voxels, n)."""
    known = magnitude > 0
    raw = np.log(np.where(known, np.maximum(magnitude, _LEAST * sigma[:, None]), 1.0))
    logs = np.where(known, raw, np.log(_LEAST * sigma)[:, None])
    first = logs.copy()
    for _ in range(_ROUNDS):
        # logarithms of weak signals scatter more
        root = np.exp(logs.mean(axis=0) - logs.mean(axis=0).max())
        fit = np.linalg.pinv(design * root[:, None]) * root
        amplitude = np.exp((logs @ fit.T) @ design.T)
        rho = np.maximum(amplitude / sigma[:, None], _LEAST)
        logs = first - 0.5 * exp1(rho**2 / 2)
    return np.where(known, np.exp(logs), 0.0)
