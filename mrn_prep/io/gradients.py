"""Gradient tables: FSL's files and the frames in which directions are given.

FSL's ``.bvec`` gives directions along the voxel axes of the image, with the
first axis reversed when the affine's determinant is positive. Inside the app
directions are along the voxel axes as they are; in outputs along the scanner's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io.atomic import write_text

Float = NDArray[np.floating]


def read_rows(path: str | Path) -> Float:
    """Read a table of numbers (``.bval``, ``.bvec``), shape (rows, columns).

    Raises
    ------
    ValueError
        If it is not UTF-8 text, empty, not all numbers, or its rows differ in length; the
        message says which.
    """
    try:
        lines = Path(path).read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start})") from error
    words = [line.split() for line in lines if line.strip()]
    if not words:
        raise ValueError("is empty")
    lengths = [len(row) for row in words]
    if len(set(lengths)) > 1:
        raise ValueError(f"has rows of different lengths ({', '.join(map(str, lengths))})")
    try:
        return np.array([[float(word) for word in row] for row in words])
    except ValueError as error:
        raise ValueError(f"holds what is no number ({error})") from error


def read_gradients(
    bval_file: str | Path, bvec_file: str | Path, affine: Float
) -> tuple[Float, Float]:
    """Read b-values and directions along the voxel axes.

    Parameters
    ----------
    bval_file, bvec_file
        FSL's files (s/mm²; 3 rows).
    affine : array, shape (4, 4)
        Of the image that they belong to.

    Returns
    -------
    b_s_mm2 : array, shape (n,)
    bvecs : array, shape (n, 3)
        Unit vectors; zero where the file has zeros.
    """
    b_s_mm2 = read_rows(bval_file).ravel()
    bvecs = read_rows(bvec_file).T.copy()
    length = np.linalg.norm(bvecs, axis=1, keepdims=True)
    bvecs = np.divide(bvecs, length, out=np.zeros_like(bvecs), where=length > 0)
    return b_s_mm2, _fsl_flip(bvecs, affine)


def write_gradients(
    b_s_mm2: Float, bvecs: Float, affine: Float, bval_file: str | Path, bvec_file: str | Path
) -> None:
    """Write b-values and directions (along the voxel axes) as FSL's files."""
    write_text(bval_file, " ".join(f"{b:g}" for b in b_s_mm2) + "\n")
    rows = _fsl_flip(bvecs, affine).T + 0.0  # + 0.0: no negative zeros in the file
    write_text(bvec_file, "\n".join(" ".join(f"{v:.6f}" for v in row) for row in rows) + "\n")


def to_scanner_axes(directions: Float, affine: Float) -> Float:
    """Turn directions along voxel axes, shape (..., 3), into scanner axes.

    >>> to_scanner_axes(np.array([1.0, 0, 0]), np.diag([-2.0, 2, 2, 1])).tolist()
    [-1.0, 0.0, 0.0]
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    turned: Float = np.asarray(directions) @ axes.T
    return turned + 0.0


def _fsl_flip(bvecs: Float, affine: Float) -> Float:
    if np.linalg.det(affine[:3, :3]) > 0:
        return bvecs * np.array([-1.0, 1.0, 1.0])
    return bvecs
