"""Streamlines as TRK, in the world of a reference image."""

from __future__ import annotations

from pathlib import Path

import nibabel as nb
import numpy as np
from nibabel.streamlines import Field, Tractogram, TrkFile
from numpy.typing import NDArray

from mrn_prep.io.atomic import whole
from mrn_prep.models.tracts import Streamlines

BUNDLE = "bundle"
"""Property of each streamline: the number of its bundle."""


def write_tractogram(
    lines: Streamlines, bundle: NDArray[np.integer], like: nb.Nifti1Image, path: str | Path
) -> Path:
    """Write streamlines as TRK, whole or not at all.

    Parameters
    ----------
    lines : Streamlines
        World coordinates (mm); there may be none.
    bundle : int array, shape (n,)
        Number of the bundle that each streamline belongs to.
    like
        Image whose grid the header describes, so that viewers lay the lines over it.
    path
        Ends in ``.trk``.

    Returns
    -------
    Path
    """
    affine = np.asarray(like.affine)
    header = {
        Field.VOXEL_TO_RASMM: affine.astype(np.float32),
        Field.VOXEL_SIZES: nb.affines.voxel_sizes(affine).astype(np.float32),
        Field.DIMENSIONS: np.array(like.shape[:3], np.int16),
        Field.VOXEL_ORDER: "".join(nb.aff2axcodes(affine)),
    }
    tractogram = Tractogram(
        [lines[i].astype(np.float32) for i in range(len(lines))],
        data_per_streamline={BUNDLE: np.asarray(bundle, np.float32)[:, np.newaxis]},
        affine_to_rasmm=np.eye(4),
    )
    with whole(path) as part:
        TrkFile(tractogram, header).save(str(part))
    return Path(path)
