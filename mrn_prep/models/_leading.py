"""Eigenvalues and leading eigenvectors of small symmetric matrices, without BLAS.

Many small problems run side by side, one per thread. A threaded BLAS called from
there fights for the same cores: ten times slower with 150 volumes.
"""

import numpy as np
from numba import njit

_EPS = np.finfo(np.float64).eps


@njit(cache=True, error_model="numpy")
def tridiagonalise(a, reflectors, diagonal, beside):  # type: ignore[no-untyped-def]
    """Reduce `a` (overwritten) by Householder reflections, kept as rows of unit length."""
    n = a.shape[0]
    w = np.empty(n)
    reflectors[:] = 0
    for k in range(n - 2):
        v = reflectors[k]
        length = 0.0
        for i in range(k + 1, n):
            v[i] = a[k, i]
            length += v[i] ** 2
        diagonal[k] = a[k, k]
        length = np.sqrt(length)
        beside[k] = -length if v[k + 1] > 0 else length
        v[k + 1] -= beside[k]
        size = np.sqrt(np.sum(v * v))
        if size == 0:
            continue
        for i in range(k + 1, n):
            v[i] /= size
        w[:] = 0
        for i in range(k + 1, n):
            for j in range(k + 1, n):
                w[j] += v[i] * a[i, j]
        along = np.sum(v[k + 1 :] * w[k + 1 :])
        for i in range(k + 1, n):
            w[i] = 2 * (w[i] - along * v[i])
        for i in range(k + 1, n):
            for j in range(k + 1, n):
                a[i, j] -= v[i] * w[j] + w[i] * v[j]
    diagonal[n - 2], diagonal[n - 1] = a[n - 2, n - 2], a[n - 1, n - 1]
    beside[n - 2] = a[n - 1, n - 2]
    beside[n - 1] = 0


@njit(cache=True, error_model="numpy")
def eigenvalues(diagonal, beside):  # type: ignore[no-untyped-def]
    """Eigenvalues, descending, of a tridiagonal matrix, by QL steps with implicit shifts."""
    d, e = diagonal.copy(), beside.copy()
    n = d.size
    floor = _EPS * (np.max(np.abs(d)) + np.max(np.abs(e)))
    for first in range(n):
        for _ in range(60):
            last = first
            while last < n - 1 and abs(e[last]) > floor:
                last += 1
            if last == first:
                break
            g = (d[first + 1] - d[first]) / (2 * e[first])
            r = np.sqrt(g * g + 1)
            g = d[last] - d[first] + e[first] / (g + (r if g >= 0 else -r))
            s, c, p = 1.0, 1.0, 0.0
            broken = False
            for i in range(last - 1, first - 1, -1):
                f, b = s * e[i], c * e[i]
                r = np.sqrt(f * f + g * g)
                e[i + 1] = r
                if r == 0:
                    d[i + 1] -= p
                    e[last] = 0
                    broken = True
                    break
                s, c = f / r, g / r
                g = d[i + 1] - p
                r = (d[i] - g) * s + 2 * c * b
                p = s * r
                d[i + 1] = g + p
                g = c * r - b
            if not broken:
                d[first] -= p
                e[first], e[last] = g, 0.0
    return np.sort(d)[::-1]


@njit(cache=True, error_model="numpy")
def leading_vectors(values, p, diagonal, beside, reflectors):  # type: ignore[no-untyped-def]
    """Eigenvectors (rows) of the p largest eigenvalues, by inverse iteration."""
    n = diagonal.size
    vectors = np.empty((p, n))
    floor = _EPS * max(np.abs(values[0]), 1e-300)
    for k in range(p):
        x = vectors[k]
        for i in range(n):  # any start that no eigenvector is orthogonal to
            x[i] = 1 + 0.5 * np.sin(1.7 * (i + 1) * (k + 1))
        shift = values[k] + 2 * floor * (k + 1)  # keeps equal eigenvalues apart
        for _ in range(3):
            _solve_tridiagonal(diagonal, beside, shift, x, floor)
            for j in range(k):
                x -= np.sum(vectors[j] * x) * vectors[j]
            x /= np.sqrt(np.sum(x * x))
    for k in range(p):
        x = vectors[k]
        for i in range(n - 3, -1, -1):
            x -= 2 * np.sum(reflectors[i] * x) * reflectors[i]
    return vectors


@njit(cache=True, error_model="numpy")
def _solve_tridiagonal(diagonal, beside, shift, x, floor):  # type: ignore[no-untyped-def]
    """Solve (T - shift) x = x in place, with row exchange; a zero pivot becomes `floor`."""
    n = diagonal.size
    pivot, first, second = np.empty(n), np.zeros(n), np.zeros(n)
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
            pivot[i], first[i] = a, b
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
