"""Shape and place of an image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import nibabel as nb
import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.motion import rotation_matrix

Float = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Shape and place of an image, centred on the scanner's centre.

    Attributes
    ----------
    shape
        Voxels along the image axes.
    voxel_mm
        Their size.
    tilt_deg
        Rotation vector of the image block (degrees), as an oblique prescription gives it.
    mirrored
        Whether the first axis runs to the left, as most converters write it.
    finer
        Points per voxel along each axis where volume fractions are counted.
    """

    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mirrored: bool = True
    finer: tuple[int, int, int] = (5, 5, 3)

    @property
    def axes(self) -> Float:
        """Unit vectors of the image axes in the scanner's frame, as columns."""
        sign = np.array([-1.0 if self.mirrored else 1.0, 1.0, 1.0])
        matrix: Float = rotation_matrix(np.deg2rad(self.tilt_deg)) * sign
        return matrix

    @property
    def affine(self) -> Float:
        """From voxel indices to the scanner's frame (mm), shape (4, 4)."""
        affine = np.eye(4)
        affine[:3, :3] = self.axes * np.asarray(self.voxel_mm)
        affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(self.shape) - 1) / 2)
        return affine

    def image(self) -> nb.Nifti1Image:
        """Return an empty image on this grid, for writers that copy a grid."""
        blank = np.zeros(self.shape, dtype=np.uint8)
        return nb.Nifti1Image(blank, self.affine)  # type: ignore[no-untyped-call]

    def coarser(self) -> Grid:
        """Return larger voxels over the same field of view, in half as many slices."""
        n_x, n_y, n_z = self.shape
        d_x, d_y, d_z = self.voxel_mm
        return replace(
            self,
            shape=(-(-n_x * 2 // 3), -(-n_y * 2 // 3), max(n_z // 2, 3)),
            voxel_mm=(d_x * 1.5, d_y * 1.5, d_z),
            finer=(4, 4, 3),
        )
