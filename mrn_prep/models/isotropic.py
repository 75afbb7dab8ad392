"""Diffusion signals freed of their dependence on direction, for models without directions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.models.dti import LOW_B_MAX_S_MM2
from mrn_prep.models.eddy_steps import log_design

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

_CHUNK = 20_000
_SINGULAR = 1e-10  # of the largest eigenvalue of the normal equations
_TRACE = (0, 2, 5)  # among xx, xy, yy, xz, yz, zz


def without_anisotropy(
    signal: Float, b_s_mm2: ArrayLike, bvecs: ArrayLike, mask: Bool
) -> NDArray[np.float32]:
    r"""Return what each volume would show if tissue diffused alike in all directions.

    .. math:: S_i' = S_i\, e^{b_i (g_i^T D g_i - \mathrm{tr} D / 3)}

    with a tensor D fitted to the logarithms of the volumes with b of 200 s/mm² or more (where
    perfusion is gone), whose intercept is free.

    Parameters
    ----------
    signal : array, shape (..., n)
        A value of 0 or less, or one that is not finite, has no part in the tensor.
    b_s_mm2, bvecs : arrays, shape (n,) and (n, 3)
        b-values (s/mm²) and unit directions.
    mask : bool array, shape (...)
        Voxels to change.

    Returns
    -------
    float32 array, shape (..., n)
        The signal itself outside the mask, where the volumes do not determine a tensor, and
        where that is not positive definite.

    Notes
    -----
    The mean of a shell over its directions lies above that of the mean diffusivity, by
    :math:`b^2 \mathrm{var}(g^T D g) / 2` of itself: in muscle and nerve IVIM then reads D 2 to
    4 % low and f 0.01 high. Where a moved volume does not reach a voxel, the mean of the
    directions that are left has another diffusivity altogether.

    Examples
    --------
    >>> from mrn_prep.models.dti import axial_tensor, tensor_signal
    >>> g = np.random.default_rng(0).normal(size=(13, 3))
    >>> b, g = np.r_[0, 6 * [400.0], 6 * [800.0]], g / np.linalg.norm(g, axis=1, keepdims=True)
    >>> signal = tensor_signal(100.0, axial_tensor(2e-3, 5e-4, [0.6, 0, 0.8]), b, g)
    >>> freed = without_anisotropy(signal[None], b, g, np.ones(1, bool))
    >>> bool(np.allclose(freed, 100 * np.exp(-b * 1e-3)))
    True
    """
    b = np.asarray(b_s_mm2, dtype=np.float64)
    freed = np.array(signal, dtype=np.float32, order="C")
    design = log_design(b, np.asarray(bvecs, dtype=np.float64))
    strong = b >= LOW_B_MAX_S_MM2
    if design.shape[1] != 7 or np.linalg.matrix_rank(design[strong], tol=0.05) < 7:
        return freed
    isotropic = np.zeros_like(design[:, :6])
    isotropic[:, _TRACE] = -1e-3 * b[:, np.newaxis] / 3
    voxels = np.flatnonzero(mask)
    rows = freed.reshape(-1, b.size)
    for first in range(0, voxels.size, _CHUNK):
        part = voxels[first : first + _CHUNK]
        tensor = _tensors(rows[part][:, strong].astype(np.float64), design[strong])
        rows[part] *= np.exp(tensor @ (isotropic - design[:, :6]).T).astype(np.float32)
    return freed


def _tensors(signal: Float, design: Float) -> Float:
    """Fit tensors (10⁻³ mm²/s), shape (m, 6), to signals (m, n); 0 where there is none."""
    usable = np.isfinite(signal) & (signal > 0)
    level = np.where(usable, signal, 1.0)
    weights = np.where(usable, (level / level.max(axis=1, keepdims=True)) ** 2, 0.0)
    products = (design[:, :, np.newaxis] * design[:, np.newaxis]).reshape(len(design), -1)
    normal = (weights @ products).reshape(-1, 7, 7)
    sides = np.linalg.eigvalsh(normal)
    told = sides[:, 0] > _SINGULAR * sides[:, -1]
    found = np.zeros((len(signal), 6))
    right = (weights * np.log(level)) @ design
    found[told] = np.linalg.solve(normal[told], right[told][..., np.newaxis])[:, :6, 0]
    whole = found[:, [0, 1, 3, 1, 2, 4, 3, 4, 5]].reshape(-1, 3, 3)
    found[~(np.linalg.eigvalsh(whole)[:, 0] > 0)] = 0.0
    return found
