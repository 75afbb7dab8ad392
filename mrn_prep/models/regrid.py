"""From a fine grid to a coarse one: what a large voxel sees of small ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.resample import resample

Float = NDArray[np.floating]

_MAX_SAMPLES = 5  # per axis


def average_in_voxels(
    volume: Float, affine_from: Float, affine_to: Float, shape_to: tuple[int, int, int]
) -> Float:
    """Average a volume over each voxel of a coarser grid.

    Parameters
    ----------
    volume : array, shape (x, y, z)
        NaN marks voxels without a value; they do not count.
    affine_from, affine_to : array, shape (4, 4)
        Voxel-to-world affines (mm) of the volume and of the new grid.
    shape_to : three ints
        Shape of the new grid.

    Returns
    -------
    array, shape shape_to
        NaN where nothing of the voxel has a value.

    Examples
    --------
    >>> coarse = np.diag([2.0, 1, 1, 1])
    >>> coarse[0, 3] = 0.5  # its first voxel holds the first two of the line
    >>> line = np.array([1.0, 3, 7, 7]).reshape(4, 1, 1)
    >>> average_in_voxels(line, np.eye(4), coarse, (2, 1, 1)).ravel().round(6).tolist()
    [2.0, 7.0]
    """
    steps = np.abs(np.linalg.inv(affine_from)[:3, :3] @ affine_to[:3, :3]).max(axis=0)
    n = np.clip(np.ceil(2 * steps), 1, _MAX_SAMPLES).astype(int)
    fine = np.diag([*(1.0 / n), 1.0])
    fine[:3, 3] = (1.0 / n - 1) / 2
    sampled = resample(volume, affine_from, affine_to @ fine, tuple(n * shape_to), order=0)
    blocks = sampled.reshape(shape_to[0], n[0], shape_to[1], n[1], shape_to[2], n[2])
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3, 5))
    total = np.where(known, blocks, 0.0).sum(axis=(1, 3, 5), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        mean: Float = total / count
    return mean
