"""MP-PCA beside dipy's on a simulated thigh: times, errors and their ratios.

Run with ``python benchmarks/mppca.py``; dipy takes a quarter of a minute.
"""

from __future__ import annotations

import os
import time
import warnings

import numpy as np
from dipy.denoise.localpca import mppca
from numpy.typing import NDArray

from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.mppca import denoise_mppca

SHAPE = (96, 54, 20)
SNR = 25.0


def thigh() -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Two legs of muscle whose fibres and intensity vary, with nerves and fat; sigma is 1."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(32, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    g = np.vstack([np.zeros((4, 3)), directions])
    b = np.r_[np.zeros(4), np.full(32, 800.0)]
    x, y, z = np.indices(SHAPE)
    radius = np.hypot(x % 48 - 24, y - 27) / 23
    angle = 0.3 * np.sin(x / 15) + 0.2 * np.cos(y / 11 + z / 9)
    fibre = np.stack([np.sin(angle), 0.3 * np.cos(z / 8), np.cos(angle)], axis=-1)
    tensor = axial_tensor(np.full(SHAPE, 1.9e-3), 1.3e-3 + 1e-4 * np.sin(y / 5), fibre)
    s0 = SNR * (1 + 0.2 * np.sin(x / 9) * np.cos(y / 7))
    nerve = np.zeros(SHAPE, bool)
    for column, row, size in ((20, 30, 2.5), (32, 20, 1.8), (70, 30, 3.5), (82, 22, 1.5)):
        nerve |= np.hypot(x - column, y - row) < size
    tensor[nerve], s0[nerve] = axial_tensor(1.8e-3, 8e-4, [0, 0.1, 1]), 1.2 * SNR
    fat = radius > 0.85
    tensor[fat], s0[fat] = axial_tensor(3e-4, 3e-4, [0, 0, 1]), 0.5 * SNR
    mask = radius < 1
    return tensor_signal(s0 * mask, tensor, b, g), mask


def main() -> None:
    """Print one line per denoiser, and the ratios."""
    warnings.simplefilter("ignore")
    truth, mask = thigh()
    rng = np.random.default_rng(1)
    noisy = np.hypot(truth + rng.normal(size=truth.shape), rng.normal(size=truth.shape))

    def rmse(series: NDArray[np.floating]) -> float:
        return float(np.sqrt(np.mean((series - truth)[mask] ** 2)))

    denoise_mppca(noisy[:12, :12, :12])  # compile
    start = time.perf_counter()
    ours = denoise_mppca(noisy, mask).denoised
    our_time = time.perf_counter() - start
    start = time.perf_counter()
    theirs = mppca(noisy, mask=mask, patch_radius=2)
    their_time = time.perf_counter() - start
    print(f"{mask.sum()} voxels x {truth.shape[-1]} volumes, {os.cpu_count()} processors")
    print(f"noisy               RMSE {rmse(noisy):.3f}")
    print(f"dipy    {their_time:7.2f} s   RMSE {rmse(theirs):.3f}")
    print(f"ours    {our_time:7.2f} s   RMSE {rmse(ours):.3f}")
    print(f"ratio   {their_time / our_time:7.1f} x   RMSE {rmse(ours) / rmse(theirs):.3f}")


if __name__ == "__main__":
    main()
