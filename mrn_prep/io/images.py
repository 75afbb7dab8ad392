"""NIfTI in, NIfTI out; the only place where arrays meet affines."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mrn_prep.errors import GridMismatchError
from mrn_prep.io.atomic import whole

# Scanners round what they write into headers; less than this is the same place.
AFFINE_TOLERANCE_MM = 1e-3


def load(path: str | Path) -> nb.Nifti1Image:
    """Open a NIfTI file; voxels are read when asked for."""
    return nb.Nifti1Image.from_filename(path)


def array(image: nb.Nifti1Image) -> NDArray[np.float32]:
    """Return the voxels as float32, scaled as the header says."""
    return np.asarray(image.dataobj, dtype=np.float32)


def grids_differ(first: nb.Nifti1Image, other: nb.Nifti1Image) -> str:
    """Say how two grids differ (first three dimensions and affine); empty when they agree."""
    if first.shape[:3] != other.shape[:3]:
        return f"shape {other.shape[:3]} differs from {first.shape[:3]}"
    corners = np.array([[0, 0, 0, 1], [*(n - 1 for n in first.shape[:3]), 1]], dtype=float).T
    away = np.abs(first.affine @ corners - other.affine @ corners).max()
    turned = np.abs(first.affine - other.affine).max()
    if max(away, turned) > AFFINE_TOLERANCE_MM:
        return f"affine differs (corners up to {away:.3g} mm apart)"
    return ""


def same_grid(*images: nb.Nifti1Image) -> None:
    """Raise GridMismatchError unless all images share shape (3D) and affine."""
    first, *rest = images
    for image in rest:
        difference = grids_differ(first, image)
        if difference:
            raise GridMismatchError(
                f"{image.get_filename()}: {difference}; wanted the grid of {first.get_filename()}."
            )


def voxel_mm(image: nb.Nifti1Image) -> tuple[float, float, float]:
    """Return the edge lengths of a voxel (mm)."""
    x, y, z = nb.affines.voxel_sizes(image.affine)
    return float(x), float(y), float(z)


def save_like(
    values: ArrayLike, like: nb.Nifti1Image, path: str | Path, *, description: str = ""
) -> Path:
    """Write an array on the grid of `like`, whole or not at all.

    Whole numbers and truth values are kept as the smallest fitting type,
    everything else is float32.
    """
    data = np.asarray(values)
    if data.dtype == np.bool_:
        data = data.astype(np.uint8)
    elif data.dtype.kind in "iu":
        data = data.astype(np.min_scalar_type(int(data.max(initial=0))))
    else:
        data = data.astype(np.float32)
    header = nb.Nifti1Header()
    header.set_data_dtype(data.dtype)
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = description[:79].encode("ascii", "replace")
    image = nb.Nifti1Image(data, like.affine, header)
    image.set_sform(like.affine, code=1)
    image.set_qform(like.affine, code=1)
    with whole(path) as part:
        image.to_filename(part)
    return Path(path)
