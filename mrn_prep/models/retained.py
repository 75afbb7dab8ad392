"""What denoising and resampling leave of the noise, as the fits take it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.floating]
Int = NDArray[np.intp]


class NoiseRows(NamedTuple):
    """Noise of some voxels as compiled fits take it: its level, and as of `RetainedNoise`."""

    sigma: NDArray[np.float64]
    fraction: NDArray[np.float64]
    kept: NDArray[np.float64]
    basis: NDArray[np.float32]
    patch: NDArray[np.int64]
    at: NDArray[np.int16]


@dataclass(frozen=True)
class RetainedNoise:
    r"""Covariance over the n volumes of the noise left in a voxel.

    .. math:: C_{ij} = \sigma^2 \Big[f\,\delta_{ij} +
              R_{ij} \sum_{k<p} \max(g_k^2 - f, 0)\, v_{ki} v_{kj}\Big],\quad
              g_k = \min(1, p - k)

    Denoising keeps the voxel's own noise along the components of the signal. Where volumes
    were moved against one another, they were read at points :math:`y_i` that hold the own noise
    of other voxels, of which interpolation with weights :math:`\eta` leaves in common

    .. math:: R_{ij} = \sum_z \eta(y_i - z)\,\eta(y_j - z).

    Noise that nothing has removed (p = 0) has :math:`C_{ij} = \sigma^2 f \delta_{ij} R_{ii}`.
    """

    fraction: Float
    """f, shape (...)."""
    n_components: Float
    """p, shape (...)."""
    basis: Float
    """Unit vectors v of every patch, shape (n_patches, p, n); unused rows are 0."""
    patch: Int
    """Which patch describes the voxel, shape (...)."""
    at: NDArray[np.int16] | None = None
    """Where the volumes were read (1/16 voxel), shape (..., n, 3); None: all in the voxel."""

    def rows(self, sigma: ArrayLike, where: Int) -> NoiseRows:
        """Return the noise of some voxels, `where` in C order, of standard deviation `sigma`."""
        grid, n = np.shape(self.fraction), self.basis.shape[-1]
        level = np.broadcast_to(np.asarray(sigma, np.float64), grid).reshape(-1)[where]
        described = (self.fraction, self.n_components, self.patch)
        fraction, kept, patch = (np.reshape(values, -1)[where] for values in described)
        at = np.zeros((where.size, 0, 3)) if self.at is None else self.at.reshape(-1, n, 3)[where]
        return NoiseRows(
            level, np.asarray(fraction, np.float64), np.asarray(kept, np.float64),
            np.ascontiguousarray(self.basis, np.float32), np.asarray(patch, np.int64),
            np.asarray(at, np.int16),
        )  # fmt: skip


def untouched(fraction: Float, n: int) -> RetainedNoise:
    """Describe noise of n volumes that nothing has removed, but for a factor of its variance."""
    grid, none = np.shape(fraction), np.zeros((1, 0, n))
    return RetainedNoise(fraction, np.zeros(grid), none, np.zeros(grid, np.intp))
