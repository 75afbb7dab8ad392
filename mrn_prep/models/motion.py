"""Where a moved, eddy-distorted volume shows each point of the reference.

One frame is used throughout: **image axes in mm about the volume's centre**. Voxel
``i`` of a grid of ``shape`` lies at ``voxel_mm * (i - (shape - 1) / 2)``, whatever the
orientation of the image in the scanner; b-vectors are given along the same axes.
`rigid_to_world` takes a transform out of this frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

Float = NDArray[np.floating]
Mask = NDArray[np.bool_]

N_LINEAR = 4
"""Eddy coefficients: shift (mm), and mm per mm along x, y, z."""
N_QUADRATIC = 10
"""The same and mm per mm² for xx, yy, zz, xy, xz, yz."""


def rotation_matrix(rotation_rad: ArrayLike) -> Float:
    r"""Rotation about the axis and by the length of a vector (Rodrigues).

    .. math:: R = I + \frac{\sin\theta}{\theta} K + \frac{1-\cos\theta}{\theta^2} K^2,\quad
              K v = \omega \times v,\ \theta = |\omega|

    Parameters
    ----------
    rotation_rad : array, shape (..., 3)
        Rotation vector (rad), right-handed.

    Returns
    -------
    array, shape (..., 3, 3)

    Examples
    --------
    A quarter turn about z takes x to y:

    >>> rotation_matrix([0, 0, np.pi / 2]).round(6) @ [1, 0, 0]
    array([0., 1., 0.])
    """
    omega = np.asarray(rotation_rad, dtype=np.float64)
    theta = np.linalg.norm(omega, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(omega, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    # np.sinc(t) = sin(pi t) / (pi t) has the limits at zero angle built in
    first = np.sinc(theta / np.pi)
    second = 0.5 * np.sinc(theta / (2 * np.pi)) ** 2
    matrix: Float = np.eye(3) + first * cross + second * (cross @ cross)
    return matrix


def rotation_vector(rotation: Float) -> Float:
    """Rotation vectors (rad) of rotation matrices, the inverse of `rotation_matrix`.

    Parameters
    ----------
    rotation : array, shape (n, 3, 3)

    Returns
    -------
    array, shape (n, 3)

    Examples
    --------
    >>> rotation_vector(rotation_matrix([[0.1, -0.2, 0.3]])).round(6)
    array([[ 0.1, -0.2,  0.3]])
    """
    vectors: Float = Rotation.from_matrix(rotation).as_rotvec()
    return vectors


def rigid_matrix(rotation_rad: ArrayLike, translation_mm: ArrayLike) -> Float:
    r"""Homogeneous matrix of :math:`p = R x + t`.

    Parameters
    ----------
    rotation_rad, translation_mm : array, shape (..., 3)
        Rotation vector (rad) and translation (mm).

    Returns
    -------
    array, shape (..., 4, 4)

    Examples
    --------
    >>> rigid_matrix([0, 0, np.pi], [1, 2, 3]).round(6) @ [1, 0, 0, 1]
    array([0., 2., 3., 1.])
    """
    rotation = rotation_matrix(rotation_rad)
    rigid = np.zeros((*rotation.shape[:-2], 4, 4))
    rigid[..., :3, :3] = rotation
    rigid[..., :3, 3] = translation_mm
    rigid[..., 3, 3] = 1.0
    return rigid


def voxel_to_centred_mm(shape: Sequence[int], voxel_mm: ArrayLike) -> Float:
    """Affine from voxel indices to mm about the volume's centre.

    Parameters
    ----------
    shape : three ints
    voxel_mm : array, shape (3,)

    Returns
    -------
    array, shape (4, 4)

    Examples
    --------
    >>> voxel_to_centred_mm((3, 5, 1), (2.0, 1.0, 4.0)) @ [0, 4, 0, 1]
    array([-2.,  2.,  0.,  1.])
    """
    size = np.asarray(voxel_mm, dtype=np.float64)
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = -size * (np.asarray(shape[:3]) - 1) / 2
    return affine


def rigid_to_world(rigid: Float, affine: Float, shape: Sequence[int], voxel_mm: ArrayLike) -> Float:
    """Express transforms about the volume's centre in world coordinates.

    Parameters
    ----------
    rigid : array, shape (..., 4, 4)
        Transforms in the centred image frame (mm).
    affine : array, shape (4, 4)
        The image's voxel-to-world affine.
    shape, voxel_mm
        Of the same image.

    Returns
    -------
    array, shape (..., 4, 4)
        Takes a world point of the reference to where the volume shows it (mm).

    Examples
    --------
    A shift along the first axis of an image whose first axis points to the left (-x):

    >>> shift = rigid_matrix([0, 0, 0], [1.5, 0, 0])
    >>> flipped = np.diag([-2.0, 2.0, 2.0, 1.0])
    >>> (rigid_to_world(shift, flipped, (4, 4, 4), (2, 2, 2)) @ [0, 0, 0, 1]).tolist()
    [-1.5, 0.0, 0.0, 1.0]
    """
    to_world = np.asarray(affine) @ np.linalg.inv(voxel_to_centred_mm(shape, voxel_mm))
    world: Float = to_world @ rigid @ np.linalg.inv(to_world)
    return world


def rotate_bvecs(bvecs: Float, rigid: Float) -> Float:
    r"""Gradient directions as the tissue of the reference felt them.

    Tissue at :math:`x` lay at :math:`p = R x + t` when the gradient :math:`g` was on, so
    that in the reference frame it was diffusion-weighted along :math:`R^\top g` (Leemans
    and Jones 2009). The eddy distortion is no rotation and has no part in it.

    Parameters
    ----------
    bvecs : array, shape (n, 3)
        Unit vectors along the image axes (x as the voxel index runs: FSL's flip undone).
    rigid : array, shape (n, 4, 4)
        Reference to volume, in the centred image frame.

    Returns
    -------
    array, shape (n, 3)

    References
    ----------
    Leemans A, Jones DK. Magn Reson Med 2009;61:1336-1349. doi:10.1002/mrm.21890

    Examples
    --------
    The limb turned from x to y with the gradient on x: in the limb's frame it was on -y.

    >>> turned = rigid_matrix([[0, 0, np.pi / 2]], [[0, 0, 0]])
    >>> rotate_bvecs(np.array([[1.0, 0, 0]]), turned).round(6) + 0.0
    array([[ 0., -1.,  0.]])
    """
    rotated: Float = np.einsum("nji,nj->ni", rigid[:, :3, :3], np.asarray(bvecs, np.float64))
    return rotated


def eddy_basis(points_mm: Float, n_terms: int) -> Float:
    """Polynomials of position that the eddy coefficients multiply.

    Parameters
    ----------
    points_mm : array, shape (..., 3)
        Centred image frame.
    n_terms : int
        `N_LINEAR` (1, x, y, z) or `N_QUADRATIC` (and xx, yy, zz, xy, xz, yz).

    Returns
    -------
    array, shape (..., n_terms)

    Examples
    --------
    >>> eddy_basis(np.array([2.0, 3.0, 5.0]), 10).tolist()
    [1.0, 2.0, 3.0, 5.0, 4.0, 9.0, 25.0, 6.0, 10.0, 15.0]
    """
    x, y, z = np.moveaxis(np.asarray(points_mm), -1, 0)
    terms = [np.ones_like(x), x, y, z, x * x, y * y, z * z, x * y, x * z, y * z]
    return np.stack(terms[:n_terms], axis=-1)


def eddy_in_voxels(eddy: Float, voxel_mm: ArrayLike, pe_axis: int | None) -> Float:
    """Coefficients for positions and displacements counted in voxels.

    Parameters
    ----------
    eddy : array, shape (..., k)
        For positions and displacements in mm.
    voxel_mm : array, shape (3,)
    pe_axis : int or None
        None gives no coefficients, shape (..., 0).

    Returns
    -------
    array, shape (..., k)

    Examples
    --------
    One per cent of stretch is one per cent in any unit; a shift of 3 mm is 1.5 voxels:

    >>> eddy_in_voxels(np.array([3.0, 0, 0.01, 0]), (1, 2, 4), 1).tolist()
    [1.5, 0.0, 0.01, 0.0]
    """
    if pe_axis is None:
        return np.zeros((*eddy.shape[:-1], 0))
    size = np.asarray(voxel_mm, dtype=np.float64)
    voxels: Float = eddy * eddy_basis(size, eddy.shape[-1]) / size[pe_axis]
    return voxels


def displaced(points_mm: Float, rigid: Float, eddy: Float, pe_axis: int | None) -> Float:
    r"""Where one volume shows points of the reference.

    .. math:: p = R x + t,\qquad y = p + e_\mathrm{pe} \sum_k c_k \phi_k(p)

    The limb moves first; the eddy field stands still in the scanner and shifts what it
    finds along the phase-encoding axis.

    Parameters
    ----------
    points_mm : array, shape (..., 3)
        Points of the reference, centred image frame.
    rigid : array, shape (4, 4)
    eddy : array, shape (k,)
        Coefficients of `eddy_basis`.
    pe_axis : {0, 1, 2} or None
        Image axis of phase encoding; None leaves the eddy term out.

    Returns
    -------
    array, shape (..., 3)
        Positions in the volume (mm, same frame).

    Examples
    --------
    One per cent of stretch along y moves a point at 100 mm by 1 mm:

    >>> displaced(np.array([0.0, 100, 0]), np.eye(4), np.array([0, 0, 0.01, 0]), 1)
    array([  0., 101.,   0.])
    """
    moved = np.asarray(points_mm) @ rigid[:3, :3].T + rigid[:3, 3]
    if pe_axis is not None and len(eddy):
        moved[..., pe_axis] += eddy_basis(moved, len(eddy)) @ eddy
    return moved


def mean_displacement_mm(rigid_a: Float, rigid_b: Float, points_mm: Float) -> Float:
    """Mean distance between where two sets of rigid transforms take the points.

    Parameters
    ----------
    rigid_a, rigid_b : array, shape (..., 4, 4)
    points_mm : array, shape (m, 3)
        Usually the voxels of a mask, centred image frame.

    Returns
    -------
    array, shape (...)
        Displacement (mm). Unlike the sum of six parameters, it needs no assumed radius.

    Examples
    --------
    >>> mean_displacement_mm(np.eye(4), rigid_matrix([0, 0, 0], [3, 0, 4]), np.zeros((5, 3))).item()
    5.0
    """
    delta = np.asarray(rigid_a) - np.asarray(rigid_b)
    turned = np.asarray(points_mm) @ np.swapaxes(delta[..., :3, :3], -1, -2)
    moved = turned + delta[..., None, :3, 3]
    distance: Float = np.linalg.norm(moved, axis=-1).mean(axis=-1)
    return distance


def gradient_imbalance(bvecs: Float, b_s_mm2: Float) -> float:
    r"""How far a gradient table is from covering the whole sphere.

    :math:`\lVert \bar g\rVert` over the diffusion-weighted directions: 0 where each has its
    opposite, 0.5 for a table drawn on one half of the sphere. Eddy currents are odd in the
    gradient and diffusion is even, which is what tells the two apart; on half a sphere
    an odd function looks like an even one.

    Parameters
    ----------
    bvecs : array, shape (n, 3)
        Those with ``b_s_mm2`` of zero are left out.
    b_s_mm2 : array, shape (n,)

    Returns
    -------
    float

    Examples
    --------
    >>> gradient_imbalance(np.array([[1.0, 0, 0], [-1.0, 0, 0]]), np.array([800, 800]))
    0.0
    """
    weighted = np.asarray(bvecs)[np.asarray(b_s_mm2) > 0]
    return float(np.linalg.norm(weighted.mean(axis=0))) if len(weighted) else 0.0
