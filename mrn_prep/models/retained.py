"""What denoising leaves of the noise, as the fits take it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]
Int = NDArray[np.intp]


@dataclass(frozen=True)
class RetainedNoise:
    r"""Covariance over the n volumes of the noise left by denoising, voxel by voxel.

    .. math:: C = \sigma^2 \Big[f I + \sum_{i<p} \max(c\,g_i^2 - f, 0)\, v_i v_i^T\Big],\quad
              g_i = \min(1, p - i)
    """

    fraction: Float
    """f, shape (...)."""
    n_components: Float
    """p, shape (...)."""
    basis: Float
    """Unit vectors v of every patch, shape (n_patches, p, n); unused rows are 0."""
    patch: Int
    """Which patch describes the voxel, shape (...)."""
    coherence: Float | None = None
    """c, shape (...): 1 (as without it) unless volumes were moved against one another."""

    @property
    def shares(self) -> Float:
        """F and c, shape (..., 2), as the kernels take them."""
        one = np.ones(np.shape(self.fraction))
        return np.stack([self.fraction, one if self.coherence is None else self.coherence], -1)


def untouched(fraction: Float, n: int) -> RetainedNoise:
    """Describe noise of n volumes that nothing has removed, but for a factor of its variance."""
    grid, none = np.shape(fraction), np.zeros((1, 0, n))
    return RetainedNoise(fraction, np.zeros(grid), none, np.zeros(grid, np.intp))
