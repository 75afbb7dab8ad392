"""A few eigenvalues and eigenvectors of small symmetric matrices, without BLAS.

Many small problems run side by side, one per thread. A threaded BLAS called from
there fights for the same cores: ten times slower with 150 volumes. Only what is asked
for is computed: all eigenvalues would take three times as long as the leading two.
"""

import numpy as np
from numba import njit

_EPS = np.finfo(np.float64).eps
_TINY = 1e-300  # keeps 0 / 0 out of the count

SUMS = {"reassoc", "contract", "nsz"}
"""What a sum allows the compiler, for several terms at a time; NaN stays NaN."""


@njit(cache=True, error_model="numpy", fastmath=SUMS)
def tridiagonalise(a, reflectors, diagonal, beside):  # type: ignore[no-untyped-def]
    """Reduce `a` by Householder reflections, kept as rows of unit length.

    Only the upper triangle is read; it is overwritten. Each pass over it takes off the
    previous reflection (v, w) and multiplies by the next one.
    """
    n = diagonal.size  # `a` may be larger
    last_v, last_w, product = np.zeros(n), np.zeros(n), np.empty(n)
    reflectors[:] = 0
    for k in range(n - 1):
        row, v, lv, lw = a[k, k:n], reflectors[k, k:], last_v[k:], last_w[k:]
        for j in range(row.size):
            v[j] = row[j] - lv[0] * lw[j] - lw[0] * lv[j]
        diagonal[k], v[0] = v[0], 0
        if k == n - 2:
            beside[k], v[1] = v[1], 0
            break
        length = 0.0
        for j in range(v.size):
            length += v[j] * v[j]
        length = np.sqrt(length)
        beside[k] = -length if v[1] > 0 else length
        size = np.sqrt(2 * length * (length + abs(v[1])))
        v[1] -= beside[k]
        for j in range(v.size):
            v[j] /= size if size > 0 else 1.0
        product[:] = 0
        for i in range(k + 1, n):
            row, lv, lw = a[i, i:n], last_v[i:], last_w[i:]
            v, out = reflectors[k, i:], product[i:]
            x, y, z, across = lv[0], lw[0], v[0], 0.0
            for j in range(row.size):
                value = row[j] - x * lw[j] - y * lv[j]
                row[j] = value
                out[j] += z * value
                across += v[j] * value
            out[0] += across - z * row[0]  # the diagonal came twice
        along = 0.0
        for j in range(n):
            last_v[j] = reflectors[k, j]
            along += last_v[j] * product[j]
        for j in range(n):
            last_w[j] = 2 * (product[j] - along * last_v[j])
    diagonal[n - 1] = a[n - 1, n - 1] - 2 * last_v[n - 1] * last_w[n - 1]
    beside[n - 1] = 0


@njit(cache=True, error_model="numpy")
def eigenvalue(diagonal, beside, k, low, high, width):  # type: ignore[no-untyped-def]
    """Find the k-th largest eigenvalue (from 0) of those in [low, high], to `width`.

    Quarters the range by counting the eigenvalues above three points (Sturm): the
    three chains of divisions take no longer than one.
    """
    while high - low > width:
        step = (high - low) / 4
        x, y, z = low + step, low + 2 * step, low + 3 * step
        if x == low or z == high:
            break
        p = q = r = np.inf
        square, above_x, above_y, above_z = 0.0, 0, 0, 0
        for i in range(diagonal.size):
            p = diagonal[i] - x - square / p
            q = diagonal[i] - y - square / q
            r = diagonal[i] - z - square / r
            above_x += p >= 0
            above_y += q >= 0
            above_z += r >= 0
            square = beside[i] ** 2 + _TINY
        low += step * ((above_x > k) + (above_y > k) + (above_z > k))
        high = low + step
    return (low + high) / 2


@njit(cache=True, error_model="numpy")
def count_above(diagonal, beside, x):  # type: ignore[no-untyped-def]
    """Count the eigenvalues of a tridiagonal matrix that are not below x."""
    pivot, square, above = np.inf, 0.0, 0
    for i in range(diagonal.size):
        pivot = diagonal[i] - x - square / pivot
        above += pivot >= 0
        square = beside[i] ** 2 + _TINY
    return above


@njit(cache=True, error_model="numpy", fastmath=SUMS)
def leading_vectors(values, diagonal, beside, reflectors, vectors):  # type: ignore[no-untyped-def]
    """Write eigenvectors (rows) of the largest eigenvalues, by inverse iteration."""
    n = diagonal.size
    work = np.zeros((3, n))
    floor = _EPS * max(np.abs(values[0]), 1e-300)
    for k in range(values.size):
        x = vectors[k]
        for i in range(n):  # any start that no eigenvector is orthogonal to
            x[i] = 1 + 0.5 * np.sin(1.7 * (i + 1) * (k + 1))
        shift = values[k] + 2 * floor * (k + 1)  # keeps equal eigenvalues apart
        for _ in range(3):
            _solve_tridiagonal(diagonal, beside, shift, x, floor, work)
            for j in range(k):
                _add(x, -_dot(vectors[j], x), vectors[j])
            length = np.sqrt(_dot(x, x))
            for i in range(n):
                x[i] /= length
    for k in range(values.size):
        for i in range(n - 3, -1, -1):
            v, x = reflectors[i, i:], vectors[k, i:]
            _add(x, -2 * _dot(v, x), v)


@njit(cache=True, error_model="numpy", fastmath=SUMS)
def _dot(x, y):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(x.size):
        total += x[i] * y[i]
    return total


@njit(cache=True, error_model="numpy", fastmath=SUMS)
def _add(x, factor, y):  # type: ignore[no-untyped-def]
    for i in range(x.size):
        x[i] += factor * y[i]


@njit(cache=True, error_model="numpy")
def _solve_tridiagonal(diagonal, beside, shift, x, floor, work):  # type: ignore[no-untyped-def]
    """Solve (T - shift) x = x in place, with row exchange; a zero pivot becomes `floor`."""
    n = diagonal.size
    pivot, first, second = work
    a, b = diagonal[0] - shift, (beside[0] if n > 1 else 0.0)
    for i in range(n - 1):
        low = beside[i]
        next_a, next_b = diagonal[i + 1] - shift, (beside[i + 1] if i < n - 2 else 0.0)
        if abs(low) > abs(a):
            factor = a / low
            pivot[i], first[i], second[i] = low, next_a, next_b
            x[i], x[i + 1] = x[i + 1], x[i] - factor * x[i + 1]
            a, b = b - factor * next_a, -factor * next_b
        else:
            a = a if a != 0 else floor
            factor = low / a
            pivot[i], first[i], second[i] = a, b, 0
            x[i + 1] -= factor * x[i]
            a, b = next_a - factor * b, next_b
    pivot[n - 1] = a if abs(a) > floor else floor
    x[n - 1] /= pivot[n - 1]
    # growth is what inverse iteration wants, an overflow is not
    x[: n - 1] /= max(1.0, abs(x[n - 1]))
    x[n - 1] /= max(1.0, abs(x[n - 1]))
    for i in range(n - 2, -1, -1):
        x[i] -= first[i] * x[i + 1]
        if i < n - 2:
            x[i] -= second[i] * x[i + 2]
        x[i] /= pivot[i]
