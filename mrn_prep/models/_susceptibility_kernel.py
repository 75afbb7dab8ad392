"""Compiled sums of the susceptibility estimation: banded products and normal equations."""

import numpy as np
from numba import njit, prange

_EDGE = 0.5 + 1e-4  # a voxel reaches half its width beyond its centre; a little for rounding
_GAIN = 6


@njit(cache=True, error_model="numpy")
def banded(first, taps, a, out):  # type: ignore[no-untyped-def]
    """Fill ``out[p, i, q] = sum_t taps[i, t] * a[p, first[i] + t, q]``.

    Many short products: threads, those of a BLAS too, would wait longer than they work.
    """
    n = out.shape[1]
    for task in range(out.shape[0] * n):
        p, i = task // n, task % n
        out[p, i] = 0.0
        for t in range(taps.shape[1]):
            tap = taps[i, t]
            if tap != 0.0:
                for q in range(out.shape[2]):
                    out[p, i, q] += tap * a[p, first[i] + t, q]


@njit(cache=True, error_model="numpy")
def _spline(x, n, index, weight, slope):  # type: ignore[no-untyped-def]
    """Fill indices (mirrored at the borders), weights and their derivatives along one axis."""
    low = int(np.floor(x))
    f = x - low
    g = 1.0 - f
    weight[0], weight[3] = g * g * g / 6, f * f * f / 6
    weight[1] = 2 / 3 - f * f * (1 - 0.5 * f)
    weight[2] = 2 / 3 - g * g * (1 - 0.5 * g)
    slope[0], slope[3] = -0.5 * g * g, 0.5 * f * f
    slope[1] = f * (1.5 * f - 2)
    slope[2] = g * (2 - 1.5 * g)
    for k in range(4):
        i = low - 1 + k
        if i < 0 or i >= n:
            period = max(2 * n - 2, 1)
            i = abs(i) % period
            i = period - i if i >= n else i
        index[k] = i


@njit(cache=True, error_model="numpy")
def _value_and_gradient(image, p, index, weight, slope, gradient):  # type: ignore[no-untyped-def]
    """Spline value at voxel position `p`; fills its gradient per voxel."""
    for axis in range(3):
        _spline(p[axis], image.shape[axis], index[axis], weight[axis], slope[axis])
    value = dx = dy = dz = 0.0
    for i in range(4):
        plane = plane_y = plane_z = 0.0
        for j in range(4):
            row = row_z = 0.0
            for k in range(4):
                v = image[index[0, i], index[1, j], index[2, k]]
                row += weight[2, k] * v
                row_z += slope[2, k] * v
            plane += weight[1, j] * row
            plane_y += slope[1, j] * row
            plane_z += weight[1, j] * row_z
        value += weight[0, i] * plane
        dx += slope[0, i] * plane
        dy += weight[0, i] * plane_y
        dz += weight[0, i] * plane_z
    gradient[0], gradient[1], gradient[2] = dx, dy, dz
    return value


@njit(cache=True, error_model="numpy")
def _place(matrix, i, j, k, pe, shift, size, p, q):  # type: ignore[no-untyped-def]
    """Fill `q`, where the limb lies, and `p`, where the image shows it; False if outside."""
    inside = True
    for r in range(3):
        q[r] = matrix[r, 0] * i + matrix[r, 1] * j + matrix[r, 2] * k + matrix[r, 3]
        p[r] = q[r]
    p[pe] += shift
    for r in range(3):
        inside = inside and -_EDGE <= p[r] <= size[r] - 1 + _EDGE
    return inside


@njit(cache=True, error_model="numpy")
def _parameter_derivative(kind, value, gradient, at):  # type: ignore[no-untyped-def]
    """Change of a corrected image by one parameter; `at` and `gradient` in mm."""
    if kind == _GAIN:
        return value
    if kind >= 3:
        return gradient[kind - 3]
    y, z = (kind + 1) % 3, (kind + 2) % 3
    return at[y] * gradient[z] - at[z] * gradient[y]


@njit(cache=True, parallel=True, error_model="numpy")
def normal_equations(  # type: ignore[no-untyped-def]
    images, matrices, shift, stretch, blips, gain, pe, voxel_mm, centre, use, scale,
    owner, kind, misfit, terms, cross, block, pull,
):  # fmt: skip
    r"""Fill the sums of which Gauss-Newton's normal equations are made.

    Images are B-spline coefficients; `shift` (voxels) and its derivative `stretch` along
    phase encoding belong to a blip of 1. With :math:`r_k = C_k - \bar C` of the corrected
    images and :math:`\delta C_k = a_k\,\delta u + b_k\,\delta u' + \sum_m d_m \delta\theta_m`:

    misfit (x, y, z): :math:`\sum_k r_k^2`; NaN where not used or where an image ends.
    terms (5, x, y, z): robustly weighted sums over k of aa, ab, bb (about their means over
    the images), ra and rb.
    cross (2, m, x, y, z): the same of a and b with parameter m.
    block (x, m, m), pull (x, m): of the parameters among themselves (lower triangle) and
    with r, to be summed over x.

    Parameter m belongs to image ``owner[m]``; kind 0-2 is a turn (rad), 3-5 a shift (mm),
    6 the logarithm of the gain. Nothing but `misfit` is filled where `scale`, the residual
    at which a voxel's weight has fallen to a quarter, is 0.
    """
    n, nx, ny, nz = images.shape
    m = owner.size
    for i in prange(nx):
        p, q = np.empty(3), np.empty(3)
        index = np.empty((3, 4), np.int64)
        weight, slope = np.empty((3, 4)), np.empty((3, 4))
        c, a, b = np.empty(n), np.empty(n), np.empty(n)
        at, gradient, d = np.empty((n, 3)), np.empty((n, 3)), np.empty(m)
        for j in range(ny):
            for k in range(nz):
                misfit[i, j, k] = np.nan
                inside = use[i, j, k]
                for v in range(n):
                    move = blips[v] * shift[i, j, k]
                    inside = inside and _place(
                        matrices[v], i, j, k, pe, move, images.shape[1:], p, q
                    )
                    if not inside:
                        break
                    value = _value_and_gradient(images[v], p, index, weight, slope, gradient[v])
                    jacobian = gain[v] * max(1 + blips[v] * stretch[i, j, k], 0.0)
                    c[v] = jacobian * value
                    a[v] = blips[v] * jacobian * gradient[v, pe]
                    b[v] = blips[v] * gain[v] * value
                    for r in range(3):
                        at[v, r] = (q[r] - centre[r]) * voxel_mm[r]
                        gradient[v, r] *= jacobian / voxel_mm[r]
                if not inside:
                    continue
                c_mean, a_mean, b_mean = np.mean(c), np.mean(a), np.mean(b)
                left = np.sum((c - c_mean) ** 2)
                misfit[i, j, k] = left
                if scale <= 0:
                    continue
                w = 1 / (1 + left / (scale * scale)) ** 2
                for v in range(n):
                    r, da, db = c[v] - c_mean, a[v] - a_mean, b[v] - b_mean
                    terms[0, i, j, k] += w * da * da
                    terms[1, i, j, k] += w * da * db
                    terms[2, i, j, k] += w * db * db
                    terms[3, i, j, k] += w * r * a[v]
                    terms[4, i, j, k] += w * r * b[v]
                for s in range(m):
                    v = owner[s]
                    d[s] = _parameter_derivative(kind[s], c[v], gradient[v], at[v])
                    cross[0, s, i, j, k] = w * (a[v] - a_mean) * d[s]
                    cross[1, s, i, j, k] = w * (b[v] - b_mean) * d[s]
                    pull[i, s] += w * (c[v] - c_mean) * d[s]
                    for t in range(s + 1):
                        same = 1.0 if owner[t] == v else 0.0
                        block[i, s, t] += w * d[s] * d[t] * (same - 1 / n)
