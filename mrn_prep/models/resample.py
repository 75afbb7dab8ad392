"""Volumes on another grid: by world coordinates, or through motion and eddy distortion.

A voxel is a box: a point up to half a voxel outside the outermost centres is still
inside the volume. Beyond that nothing was measured, and the result is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage

Float = NDArray[np.floating]

_EDGE = 0.5 + 1e-4  # a little more than half a voxel, so that rounding does not cut a border


def resample(
    volume: NDArray[np.generic],
    affine_from: Float,
    affine_to: Float,
    shape_to: Sequence[int],
    order: int = 1,
) -> Float:
    """Sample a volume on another grid, at the same world coordinates.

    Parameters
    ----------
    volume : array, shape (x, y, z) or (x, y, z, n)
        NaN marks voxels without a value.
    affine_from, affine_to : array, shape (4, 4)
        Voxel-to-world affines of the volume and of the new grid.
    shape_to : three ints
        Shape of the new grid.
    order : {0, 1, 3}
        Nearest neighbour (labels), linear, cubic B-spline.

    Returns
    -------
    float32 array, shape (*shape_to) or (*shape_to, n)
        NaN outside the volume, and where most of the weight (trilinear) would come
        from NaN; elsewhere NaN neighbours are replaced by the nearest finite voxel.

    Raises
    ------
    ValueError
        If the order is another one, or the volume has not three or four axes.

    Examples
    --------
    A grid shifted by half a voxel reads the mean of two neighbours:

    >>> half = np.eye(4)
    >>> half[0, 3] = 0.5
    >>> line = np.array([1.0, 3, 7, np.nan]).reshape(4, 1, 1)
    >>> resample(line, np.eye(4), half, (2, 1, 1)).ravel().tolist()
    [2.0, 5.0]
    >>> resample(line, np.eye(4), half, (5, 1, 1), order=0).ravel()[3:].tolist()
    [nan, nan]
    """
    if order not in (0, 1, 3):
        raise ValueError(f"order is 0 (nearest), 1 (linear) or 3 (cubic B-spline), got {order}.")
    if volume.ndim not in (3, 4):
        raise ValueError(f"volume has shape {volume.shape}; (x, y, z) or (x, y, z, n) is wanted.")
    series = volume.reshape(*volume.shape[:3], -1)
    matrix = np.linalg.inv(affine_from) @ affine_to
    voxels = grid_points(shape_to)
    out = np.empty((*shape_to, series.shape[-1]), dtype=np.float32)
    for i in range(series.shape[-1]):
        out[..., i] = warp(series[..., i], voxels, matrix[:3], order).reshape(shape_to)
    return out.reshape(*shape_to, *volume.shape[3:])


def warp(
    volume: NDArray[np.generic],
    points: Float,
    matrix: Float,
    order: int,
    eddy: Float | None = None,
    pe_axis: int = 0,
) -> Float:
    """Interpolate one volume, which may hold NaN, at transformed points.

    Parameters
    ----------
    volume : array, shape (x, y, z)
    points : array, shape (m, 3)
    matrix : array, shape (3, 4)
    order, eddy, pe_axis
        As for `sample`, but for one volume: `eddy` has shape (k,).

    Returns
    -------
    float32 array, shape (m,)
        NaN outside, and where most of the (trilinear) weight is on NaN.
    """
    values = np.ascontiguousarray(volume, dtype=np.float32)
    finite = np.isfinite(values)
    terms = None if eddy is None else eddy[None]
    if not finite.any():
        return np.full(len(points), np.nan, dtype=np.float32)
    if not finite.all():
        nearest = ndimage.distance_transform_edt(
            ~finite, return_distances=False, return_indices=True
        )
        values = values[tuple(nearest)]
    if order == 3:
        values = spline_coefficients(values)
    sampled: Float = sample(values[None], points, matrix[None], order, terms, pe_axis)[0]
    if not finite.all():
        # the stretch has no business in a share, hence the comparison with all-present
        share = sample(finite[None], points, matrix[None], min(order, 1), terms, pe_axis)[0]
        whole = sample(np.ones_like(finite)[None], points, matrix[None], 0, terms, pe_axis)[0]
        sampled[~(share >= 0.5 * whole)] = np.nan
    return sampled


def grid_points(shape: Sequence[int]) -> Float:
    """Voxel indices of a grid in C order, shape (n_voxels, 3), float32.

    >>> grid_points((1, 2, 2)).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
    """
    return np.indices(tuple(shape), dtype=np.float32).reshape(3, -1).T.copy()


def spline_coefficients(volume: Float) -> Float:
    """Cubic B-spline coefficients that make `sample` interpolate (Unser 1999).

    Parameters
    ----------
    volume : array, shape (x, y, z)
        Finite values; mirrored at the borders.

    Returns
    -------
    float32 array, shape (x, y, z)

    References
    ----------
    Unser M. IEEE Signal Process Mag 1999;16(6):22-38. doi:10.1109/79.799930

    Examples
    --------
    >>> v = np.random.default_rng(0).normal(size=(5, 4, 3))
    >>> at = sample(spline_coefficients(v)[None], grid_points(v.shape),
    ...             np.eye(4)[None, :3], 3)
    >>> bool(np.abs(at.reshape(v.shape) - v).max() < 1e-5)
    True
    """
    coefficients = np.asarray(volume, dtype=np.float32)
    for axis, length in enumerate(volume.shape):
        if length > 1:
            coefficients = ndimage.spline_filter1d(
                coefficients, order=3, axis=axis, output=np.float32, mode="mirror"
            )
    return coefficients


def sample(
    volumes: Float,
    points: Float,
    matrices: Float,
    order: int,
    eddy: Float | None = None,
    pe_axis: int = 0,
    centre: Float | None = None,
) -> Float:
    r"""Sample volumes at transformed points, in voxel units.

    .. math:: p = A x,\quad y = p + e_\mathrm{pe}\sum_k c_k\phi_k(p),\quad
              S(x) = V(y)\,\Bigl(1 + \sum_k c_k \partial_\mathrm{pe}\phi_k(p)\Bigr)

    The factor restores the signal that stretching along phase encoding has spread.

    Parameters
    ----------
    volumes : float32 array, shape (n, x, y, z)
        Values (order 0, 1) or B-spline coefficients (order 3; plain values give the
        volume smoothed by the cubic B-spline, variance 1/3 voxel²).
    points : array, shape (m, 3)
    matrices : array, shape (n, 3, 4)
        Affine from points to voxels of each volume.
    order : {0, 1, 3}
    eddy : array, shape (n, k), optional
        Coefficients of the polynomials 1, x, y, z, xx, yy, zz, xy, xz, yz of ``p``
        (voxels, from `centre`); k is 0, 4 or 10.
    pe_axis : int
        Axis along which the polynomial displaces.
    centre : array, shape (3,), optional
        Origin of the polynomials (voxel indices); the volume's centre without it.

    Returns
    -------
    float32 array, shape (n, m)
        NaN outside the volume.
    """
    coefficients = np.zeros((len(matrices), 10))
    if eddy is not None:
        coefficients[:, : eddy.shape[1]] = eddy
    if centre is None:
        centre = (np.array(volumes.shape[1:]) - 1) / 2
    out = np.empty((len(matrices), len(points)), dtype=np.float32)
    _sample(
        np.ascontiguousarray(volumes, dtype=np.float32),
        np.ascontiguousarray(points, dtype=np.float32),
        np.ascontiguousarray(matrices, dtype=np.float64),
        coefficients,
        pe_axis,
        np.asarray(centre, dtype=np.float64),
        order,
        out,
    )
    return out


@njit(cache=True, error_model="numpy")
def _mirror(i, n):  # type: ignore[no-untyped-def]
    """Index mirrored about the outermost voxels' centres."""
    if n == 1:
        return 0
    if i < 0:
        i = -i
    period = 2 * n - 2
    i = i % period
    return period - i if i >= n else i


@njit(cache=True, error_model="numpy")
def _weights(x, n, order, index, weight):  # type: ignore[no-untyped-def]
    """Fill indices and weights of the neighbours of ``x`` along one axis; return how many."""
    if order == 0:
        index[0] = min(max(int(np.floor(x + 0.5)), 0), n - 1)
        weight[0] = 1.0
        return 1
    low = int(np.floor(x))
    f = np.float32(x - low)
    if order == 1:
        index[0], index[1] = min(max(low, 0), n - 1), min(max(low + 1, 0), n - 1)
        weight[0], weight[1] = 1 - f, f
        return 2
    for k in range(4):
        index[k] = low - 1 + k
    if low < 1 or low + 2 >= n:
        for k in range(4):
            index[k] = _mirror(index[k], n)
    _cubic(f, weight)
    return 4


@njit(cache=True, error_model="numpy", inline="always")
def _cubic(fraction, weight):  # type: ignore[no-untyped-def]
    """Fill the weights of the four neighbours of a point that far behind the second."""
    f = np.float32(fraction)
    one = np.float32(1)
    g = one - f
    sixth = np.float32(1 / 6)
    two_thirds = np.float32(2 / 3)
    half = np.float32(0.5)
    weight[0] = g * g * g * sixth
    weight[1] = two_thirds - f * f * (one - half * f)
    weight[2] = two_thirds - g * g * (one - half * g)
    weight[3] = f * f * f * sixth


@njit(cache=True, error_model="numpy", inline="always")
def _inner_cubic(image, x, y, z, weight):  # type: ignore[no-untyped-def]
    """Weighted sum of 4 x 4 x 4 voxels from a corner on, all of them inside."""
    # four sums at a time, which compilers turn into vector instructions
    a = b = c = d = np.float32(0)
    for i in range(4):
        for k in range(4):
            w = weight[0, i] * weight[1, k]
            a += w * image[x + i, y + k, z]
            b += w * image[x + i, y + k, z + 1]
            c += w * image[x + i, y + k, z + 2]
            d += w * image[x + i, y + k, z + 3]
    return a * weight[2, 0] + b * weight[2, 1] + c * weight[2, 2] + d * weight[2, 3]


@njit(cache=True, error_model="numpy", inline="always")
def _inner_linear(image, x, y, z, f, g, h):  # type: ignore[no-untyped-def]
    """Trilinear interpolation between a voxel and the next ones, all of them inside."""
    total = np.float32(0)
    for i in range(2):
        for k in range(2):
            first, last = image[x + i, y + k, z], image[x + i, y + k, z + 1]
            w = (f if i else 1 - f) * (g if k else 1 - g)
            total += w * (first + h * (last - first))
    return total


@njit(cache=True, error_model="numpy", inline="always")
def _displace(a, q, point, centre, pe, p):  # type: ignore[no-untyped-def]
    """Write where a volume shows a point into `p`; return by how much it is stretched there."""
    for r in range(3):
        p[r] = a[r, 3] + a[r, 0] * point[0] + a[r, 1] * point[1] + a[r, 2] * point[2]
    x, y, z = p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]
    shift = q[0] + q[1] * x + q[2] * y + q[3] * z
    shift += q[4] * x * x + q[5] * y * y + q[6] * z * z + q[7] * x * y + q[8] * x * z
    p[pe] += shift + q[9] * y * z
    if pe == 0:
        return 1 + q[1] + 2 * q[4] * x + q[7] * y + q[8] * z
    if pe == 1:
        return 1 + q[2] + 2 * q[5] * y + q[7] * x + q[9] * z
    return 1 + q[3] + 2 * q[6] * z + q[8] * x + q[9] * y


@njit(cache=True, error_model="numpy", inline="always")
def _interpolate(image, p, order, index, weight):  # type: ignore[no-untyped-def]
    """Value at a point inside the volume."""
    nx, ny, nz = image.shape
    i, k, o = int(np.floor(p[0])), int(np.floor(p[1])), int(np.floor(p[2]))
    edge = order // 2  # voxels needed beyond the nearest two
    inner = edge <= i < nx - 1 - edge and edge <= k < ny - 1 - edge and edge <= o < nz - 1 - edge
    if inner and order == 3:
        _cubic(p[0] - i, weight[0])
        _cubic(p[1] - k, weight[1])
        _cubic(p[2] - o, weight[2])
        return _inner_cubic(image, i - 1, k - 1, o - 1, weight)
    if inner and order == 1:
        f, g, h = np.float32(p[0] - i), np.float32(p[1] - k), np.float32(p[2] - o)
        return _inner_linear(image, i, k, o, f, g, h)
    kx = _weights(p[0], nx, order, index[0], weight[0])
    ky = _weights(p[1], ny, order, index[1], weight[1])
    kz = _weights(p[2], nz, order, index[2], weight[2])
    total = np.float32(0)
    for i in range(kx):
        plane = np.float32(0)
        for k in range(ky):
            row = np.float32(0)
            for o in range(kz):
                row += weight[2, o] * image[index[0, i], index[1, k], index[2, o]]
            plane += weight[1, k] * row
        total += weight[0, i] * plane
    return total


@njit(cache=True, parallel=True, error_model="numpy")
def _sample(volumes, points, matrices, eddy, pe, centre, order, out):  # type: ignore[no-untyped-def]
    n, nx, ny, nz = volumes.shape
    m = points.shape[0]
    chunk = 256
    n_chunks = (m + chunk - 1) // chunk
    for task in prange(n * n_chunks):
        v = task // n_chunks
        c = task % n_chunks
        image = volumes[v]
        index = np.empty((3, 4), np.int64)
        weight = np.empty((3, 4), np.float32)
        p = np.empty(3)
        for j in range(c * chunk, min(m, (c + 1) * chunk)):
            stretch = _displace(matrices[v], eddy[v], points[j], centre, pe, p)
            inside = -_EDGE <= p[0] <= nx - 1 + _EDGE and -_EDGE <= p[1] <= ny - 1 + _EDGE
            if inside and -_EDGE <= p[2] <= nz - 1 + _EDGE:
                out[v, j] = _interpolate(image, p, order, index, weight) * stretch
            else:
                out[v, j] = np.nan
