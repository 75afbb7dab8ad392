"""Rigid transforms as ITK's text files, which ANTs, SimpleITK and nitransforms read."""

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
    reference to the moving image.
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


def read_itk(path: str | Path) -> Float:
    """Read what `write_itk` wrote, shape (n, 4, 4), in its world coordinates.

    Raises
    ------
    ValueError
        If the file holds anything but affine transforms about the origin.
    """
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(":")
        if name == "FixedParameters" and any(float(v) for v in rest.split()):
            raise ValueError(f"{path}: has a centre that is not the origin.")
        if name != "Parameters":
            continue
        values = [float(v) for v in rest.split()]
        if len(values) != 12:
            raise ValueError(f"{path}: has a transform of {len(values)} parameters; wanted 12.")
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = np.reshape(values[:9], (3, 3)), values[9:]
        found.append(_LPS @ matrix @ _LPS)
    return np.array(found).reshape(-1, 4, 4)
