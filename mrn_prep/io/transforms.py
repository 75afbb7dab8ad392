"""Rigid transforms as ITK's text files, one per volume as nitransforms reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io.atomic import write_text

Float = NDArray[np.floating]

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_KIND = "MatrixOffsetTransformBase_double_3_3"


def write_itk(world: Float, path: str | Path) -> Path:
    """Write transforms between world coordinates, one after the other.

    Parameters
    ----------
    world : array, shape (n, 4, 4)
        Takes a world point (mm, x right, y anterior, z superior) of the image that is
        resampled to, to where the other image shows it. A transform that is not finite is
        written as the identity.
    path
        Ends in ``.txt``.

    Notes
    -----
    ITK's axes are left, posterior, superior; its transforms, too, take points of the
    reference to the moving image. ANTs and SimpleITK read one transform per file: for them
    the file is cut at ``#Transform``.
    """
    lines = ["#Insight Transform File V1.0"]
    for i, matrix in enumerate(np.asarray(world, dtype=np.float64)):
        known = matrix if np.isfinite(matrix).all() else np.eye(4)
        itk = _LPS @ known @ _LPS + 0.0
        values = [*itk[:3, :3].ravel(), *itk[:3, 3]]
        lines += [
            f"#Transform {i}",
            f"Transform: {_KIND}",
            "Parameters: " + " ".join(f"{value:.9g}" for value in values),
            "FixedParameters: 0 0 0",
        ]
    write_text(path, "\n".join(lines) + "\n")
    return Path(path)
