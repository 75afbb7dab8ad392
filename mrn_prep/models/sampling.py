"""Where the volumes of a resampled series were read: whose noise a voxel holds now."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mrn_prep.models._retained_kernel import STEPS
from mrn_prep.models.resample import _displace, grid_points

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Sampling:
    """Transforms by which each volume was resampled, in voxel units (`resample.sample`)."""

    matrices: Float
    """From voxels of the new grid to those of each volume, shape (n, 3, 4)."""
    eddy: Float
    """Coefficients of the polynomials that displace along phase encoding, shape (n, k)."""
    pe_axis: int
    shift: Float | None = None
    """By how much a field displaces, before that, along `shift_axis`, shape (x, y, z)."""
    shift_axis: int = 0

    def of(self, volumes: Bool | slice) -> Sampling:
        """Return the sampling of some volumes."""
        return replace(self, matrices=self.matrices[volumes], eddy=self.eddy[volumes])

    def points(self, shape: tuple[int, ...], slices: slice = slice(None)) -> NDArray[np.float32]:
        """Voxels of (some slices of) the new grid as the transforms take them, shape (m, 3)."""
        first, last, _ = slices.indices(shape[2])
        points = grid_points((*shape[:2], last - first))
        points[:, 2] += first
        if self.shift is not None:
            points[:, self.shift_axis] += self.shift[:, :, first:last].ravel()
        return points

    def at(self, shape: tuple[int, ...], slices: slice = slice(None)) -> NDArray[np.int16]:
        """Where each volume was read, as `RetainedNoise.at` has it.

        Parameters
        ----------
        shape : three ints
            Of the grid, which the volumes and the resampled series share.
        slices
            Slices of the grid to describe.

        Returns
        -------
        int16 array, shape (x, y, number of slices, n, 3)
            0 for a volume that has no transform.

        Examples
        --------
        The second volume was read half a voxel further along x:

        >>> matrices = np.stack([np.eye(4)[:3]] * 2)
        >>> matrices[1, 0, 3] = 0.5
        >>> at = Sampling(matrices, np.zeros((2, 0)), 1).at((2, 1, 1))
        >>> (at[1, 0, 0] / 16).tolist()
        [[1.0, 0.0, 0.0], [1.5, 0.0, 0.0]]
        """
        first, last, _ = slices.indices(shape[2])
        curves = np.zeros((len(self.matrices), 10))
        curves[:, : self.eddy.shape[1]] = self.eddy
        known: Bool = np.isfinite(np.c_[self.matrices.reshape(-1, 12), curves]).all(axis=1)
        matrices = np.where(known[:, None, None], self.matrices, 0.0)
        centre = (np.array(shape) - 1) / 2
        curves[~known] = 0.0
        found = _read_at(self.points(shape, slices), matrices, curves, centre, self.pe_axis)
        at: NDArray[np.int16] = found.reshape(*shape[:2], last - first, len(known), 3)
        return at


@njit(cache=True, parallel=True, error_model="numpy")
def _read_at(points, matrices, eddy, centre, pe):  # type: ignore[no-untyped-def]
    """Positions of each point in each volume, shape (points, volumes, 3)."""
    out = np.empty((points.shape[0], matrices.shape[0], 3), np.int16)
    for j in prange(points.shape[0]):
        p = np.empty(3)
        for v in range(matrices.shape[0]):
            _displace(matrices[v], eddy[v], points[j], centre, pe, p)
            for k in range(3):
                out[j, v, k] = int(np.rint(min(max(p[k], -2000.0), 2000.0) * STEPS))
    return out
