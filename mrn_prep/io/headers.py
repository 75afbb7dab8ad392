"""Image headers without voxels: quick enough for a whole cohort."""

from __future__ import annotations

import errno
import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np

_HEADER_BYTES = 348
# What git-annex and git-lfs leave in place of a file that was not fetched.
_POINTERS = (b"/annex/objects/", b"version https://git-lfs")
_POINTER_BYTES = 1000


@dataclass(frozen=True)
class Grid:
    """Shape and place of an image.

    Attributes
    ----------
    shape
        All dimensions of the file.
    affine
        4 × 4, row by row (mm), so that grids can be compared and hashed.
    """

    shape: tuple[int, ...]
    affine: tuple[float, ...]

    @property
    def n_volumes(self) -> int:
        """Number of volumes; 1 for a 3D image."""
        return int(np.prod(self.shape[3:]))

    @property
    def float32_bytes(self) -> int:
        """Size of the voxels as float32."""
        return 4 * int(np.prod(self.shape))

    @property
    def voxel_mm(self) -> tuple[float, ...]:
        """Size of a voxel along each axis."""
        sizes = np.linalg.norm(np.reshape(self.affine, (4, 4))[:3, :3], axis=0)
        return tuple(float(size) for size in sizes)

    def apart_mm(self, other: Grid) -> float:
        """Return how far apart the corner voxels of two grids of one shape lie at most."""
        corners = np.array([(*corner, 1.0) for corner in np.ndindex(2, 2, 2)])
        corners[:, :3] *= np.array(self.shape[:3]) - 1
        change = np.subtract(self.affine, other.affine).reshape(4, 4)
        return float(np.linalg.norm(corners @ change.T, axis=1).max())

    def differs(self, other: Grid) -> str:
        """Say how another grid differs; empty when it is the same (3D, 1e-3 mm)."""
        if self.shape[:3] != other.shape[:3]:
            return f"its shape {other.shape[:3]} differs from {self.shape[:3]}"
        if not np.allclose(self.affine, other.affine, atol=1e-3):
            return "its affine differs"
        return ""


def read_grid(path: Path) -> Grid:
    """Read shape and affine.

    Raises
    ------
    FileNotFoundError
        If the file, or what a link or git-annex pointer stands for, is not there.
    ValueError
        If it is empty, truncated (within the header, where it is compressed), of a
        type that cannot be used, or no NIfTI image.
    """
    size = path.stat().st_size
    if size == 0:
        raise ValueError("is empty")
    if size < _POINTER_BYTES and path.read_bytes().startswith(_POINTERS):
        raise FileNotFoundError(errno.ENOENT, "not fetched", str(path))
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                block = stream.read(_HEADER_BYTES)
        else:
            with path.open("rb") as stream:
                block = stream.read(_HEADER_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"is truncated or no gzip file ({error})") from error
    if len(block) < _HEADER_BYTES:
        raise ValueError("is truncated within its header")
    try:
        header: Any
        if block[344:347] in (b"n+1", b"ni1"):
            header = nb.Nifti1Header(block)
        else:
            header = nb.load(path).header
    except (nb.spatialimages.HeaderDataError, nb.filebasedimages.ImageFileError) as error:
        raise ValueError(f"is no NIfTI image ({error})") from error
    if header.get_data_dtype().kind not in "iuf":
        raise ValueError(f"holds {header.get_data_dtype()} voxels; only real numbers can be used")
    if min(header.get_data_shape(), default=0) < 1:
        raise ValueError(f"has the shape {header.get_data_shape()}")
    _check_length(path, header, size)
    affine = header.get_best_affine()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ValueError("has an affine that maps to no volume")
    return Grid(
        shape=tuple(int(n) for n in header.get_data_shape()),
        affine=tuple(float(v) for v in affine.ravel()),
    )


def _check_length(path: Path, header: nb.Nifti1Header, size: int) -> None:
    """Raise ValueError if an uncompressed file is shorter than its header says."""
    if path.suffix != ".nii":
        return
    voxels = int(np.prod(header.get_data_shape(), dtype=np.int64))
    needed = int(header.get_data_offset()) + voxels * header.get_data_dtype().itemsize
    if size < needed:
        raise ValueError(f"is truncated ({size} of {needed} bytes)")
