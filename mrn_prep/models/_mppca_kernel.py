"""The patches of MP-PCA, one after another: Gram matrix, number of components, projection."""

import numpy as np
from numba import njit, prange

from mrn_prep.models._leading import (
    SUMS,
    count_above,
    eigenvalue,
    leading_vectors,
    tridiagonalise,
)

_EPS = np.finfo(np.float64).eps
_MIN_VOXELS = 8  # a patch at the edge of the mask with fewer tells no noise from signal


@njit(cache=True, error_model="numpy")
def _room(n_patch, n):  # type: ignore[no-untyped-def]
    """Make room for the data of a patch, in multiples of what `_gram` takes, and their places."""
    return np.zeros((n + -n % 4, n_patch + -n_patch % 8)), np.empty((n_patch, 3), np.int64)


@njit(cache=True, error_model="numpy")
def _gather(volumes, usable, corner, size, data, where):  # type: ignore[no-untyped-def]
    """Copy the usable voxels of a patch to `data`, a row per volume; return their number."""
    m = 0
    for x in range(corner[0], corner[0] + size[0]):
        for y in range(corner[1], corner[1] + size[1]):
            for z in range(corner[2], corner[2] + size[2]):
                if usable[x, y, z]:
                    where[m, 0], where[m, 1], where[m, 2] = x, y, z
                    voxel = volumes[x, y, z]
                    for i in range(voxel.size):
                        data[i, m] = voxel[i]
                    m += 1
    data[:, m : m + -m % 8] = 0
    return m


@njit(cache=True, error_model="numpy", fastmath=SUMS)
def _gram(data, m, gram):  # type: ignore[no-untyped-def]
    """Write the products of the rows of `data` to the upper triangle of `gram`.

    Eight at a time, so that what is loaded serves several products.
    """
    filled = m + -m % 8
    for i in range(0, data.shape[0], 2):
        a, b = data[i, :filled], data[i + 1, :filled]
        for j in range(i - i % 4, data.shape[0], 4):
            c, d = data[j, :filled], data[j + 1, :filled]
            e, f = data[j + 2, :filled], data[j + 3, :filled]
            ac = ad = ae = af = bc = bd = be = bf = 0.0
            for k in range(a.size):
                ac, ad = ac + a[k] * c[k], ad + a[k] * d[k]
                ae, af = ae + a[k] * e[k], af + a[k] * f[k]
                bc, bd = bc + b[k] * c[k], bd + b[k] * d[k]
                be, bf = be + b[k] * e[k], bf + b[k] * f[k]
            gram[i, j], gram[i, j + 1], gram[i, j + 2], gram[i, j + 3] = ac, ad, ae, af
            gram[i + 1, j], gram[i + 1, j + 1] = bc, bd
            gram[i + 1, j + 2], gram[i + 1, j + 3] = be, bf


@njit(cache=True, error_model="numpy")
def _components(diagonal, beside, m, values):  # type: ignore[no-untyped-def]
    """Write the leading eigenvalues; return how many exceed the range of noise, and sigma²."""
    n = diagonal.size
    r, q = min(m, n), max(m, n)
    tail = np.sum(diagonal)
    rounding, high, least, bound = _EPS * tail, tail, 0.0, 0.0
    for p in range(1, r):
        values[p - 1] = eigenvalue(diagonal, beside, p - 1, least + bound, high, rounding)
        tail = max(tail - values[p - 1], 0.0)
        if p == 1:
            mean = tail / (r - 1)
            least = eigenvalue(diagonal, beside, r - 1, 0.0, mean, 1e-9 * mean)
        variance = tail / ((r - p) * (q - p))
        bound = 4 * np.sqrt((r - p) * (q - p)) * variance
        if count_above(diagonal, beside, least + bound + rounding) <= p:
            return p, variance
        high = values[p - 1]
    values[r - 1] = least
    return r, 0.0


@njit(cache=True, parallel=True, error_model="numpy", fastmath=SUMS)
def denoise_columns(volumes, usable, xs, ys, zs, size, total, sums):  # type: ignore[no-untyped-def]
    """Add the patches of some columns to the sums of the series and of w, σ², p and leverage."""
    n = volumes.shape[3]
    n_patch = size[0] * size[1] * size[2]
    for column in prange(xs.size):
        data, where = _room(n_patch, n)
        gram = np.empty((data.shape[0], data.shape[0]))
        reflectors, diagonal, beside = np.empty((n, n)), np.empty(n), np.empty(n)
        values, vectors = np.empty(n), np.empty((n, n))
        scores, projected = np.empty((n, data.shape[1])), np.empty(n)
        for z in zs:
            m = _gather(volumes, usable, (xs[column], ys[column], z), size, data, where)
            if m < _MIN_VOXELS:
                continue
            _gram(data, m, gram)
            tridiagonalise(gram, reflectors, diagonal, beside)
            p, variance = _components(diagonal, beside, m, values)
            leading_vectors(values[:p], diagonal, beside, reflectors, vectors)
            for i in range(p):
                score = scores[i, :m]
                score[:] = 0
                for j in range(n):
                    along, volume = vectors[i, j], data[j, :m]
                    for k in range(m):
                        score[k] += along * volume[k]
            weight = m / p**3
            for k in range(m):
                leverage = 0.0
                projected[:] = 0
                for i in range(p):
                    score, vector = scores[i, k], vectors[i]
                    if values[i] > 0:
                        leverage += score**2 / values[i]
                    for j in range(n):
                        projected[j] += score * vector[j]
                x, y, z_ = where[k]
                voxel = total[x, y, z_]
                for j in range(n):
                    voxel[j] += weight * projected[j]
                voxel = sums[x, y, z_]
                voxel[0] += weight
                voxel[1] += weight * variance
                voxel[2] += weight * p
                voxel[3] += weight * leverage


@njit(cache=True, parallel=True, error_model="numpy")
def bases(volumes, usable, corners, size, kept, basis):  # type: ignore[no-untyped-def]
    """Write the leading directions of each patch, as many as any of its voxels kept."""
    n, stored = volumes.shape[3], basis.shape[1]
    for k in prange(corners.shape[0]):
        data, where = _room(size[0] * size[1] * size[2], n)
        gram = np.empty((data.shape[0], data.shape[0]))
        reflectors, diagonal, beside = np.empty((n, n)), np.empty(n), np.empty(n)
        values, vectors = np.empty(n), np.empty((stored, n))
        corner = (corners[k, 0], corners[k, 1], corners[k, 2])
        m = _gather(volumes, usable, corner, size, data, where)
        count = 0
        for j in range(m):
            count = max(count, int(np.ceil(kept[where[j, 0], where[j, 1], where[j, 2]])))
        count = min(count, stored)
        if count == 0:
            continue
        _gram(data, m, gram)
        tridiagonalise(gram, reflectors, diagonal, beside)
        high = trace = np.sum(diagonal)
        for i in range(count):
            values[i] = high = eigenvalue(diagonal, beside, i, 0.0, high, _EPS * trace)
        leading_vectors(values[:count], diagonal, beside, reflectors, vectors)
        basis[k, :count] = vectors[:count]
