"""Following the main direction of a tensor field, compiled: one streamline per seed.

Positions are in mm along the voxel axes, from the centre of the first voxel.
"""

import numpy as np
from numba import njit, prange

_SHARE = 0.5  # of the trilinear weight that must lie on voxels with a tensor


@njit(cache=True, error_model="numpy")
def _main_direction(d, v):  # type: ignore[no-untyped-def]
    """Fill `v` with the unit eigenvector of the largest eigenvalue; False where there is none.

    The eigenvalue is the largest root of the characteristic cubic (Smith 1961), the vector the
    longest cross product of two rows of D - λ.
    """
    mean = (d[0] + d[2] + d[5]) / 3
    a, b, c = d[0] - mean, d[2] - mean, d[5] - mean
    power = (a * a + b * b + c * c + 2 * (d[1] * d[1] + d[3] * d[3] + d[4] * d[4])) / 6
    if not power > 0:
        return False
    root = np.sqrt(power)
    determinant = a * (b * c - d[4] * d[4]) - d[1] * (d[1] * c - d[4] * d[3])
    determinant += d[3] * (d[1] * d[4] - b * d[3])
    cosine = min(max(determinant / (2 * power * root), -1.0), 1.0)
    largest = 2 * root * np.cos(np.arccos(cosine) / 3)
    a, b, c = a - largest, b - largest, c - largest
    longest = 0.0
    for k in range(3):
        if k == 0:
            x, y, z = d[1] * d[4] - d[3] * b, d[3] * d[1] - a * d[4], a * b - d[1] * d[1]
        elif k == 1:
            x, y, z = d[1] * c - d[3] * d[4], d[3] * d[3] - a * c, a * d[4] - d[1] * d[3]
        else:
            x, y, z = b * c - d[4] * d[4], d[4] * d[3] - d[1] * c, d[1] * d[4] - b * d[3]
        length = x * x + y * y + z * z
        if length > longest:
            longest = length
            v[0], v[1], v[2] = x, y, z
    # two equal largest eigenvalues have no direction
    if not longest > 1e-20 * power * power:
        return False
    v /= np.sqrt(longest)
    return True


@njit(cache=True, error_model="numpy")
def _direction(field, voxel_mm, fa_min, p, before, d, v):  # type: ignore[no-untyped-def]
    """Fill `v` with the direction at `p`, pointing on from `before`; False where to stop."""
    low = np.empty(3, np.int64)
    part = np.empty(3)
    for r in range(3):
        x = p[r] / voxel_mm[r]
        n = field.shape[r]
        if not -0.5 <= x <= n - 0.5:
            return False
        low[r] = int(np.floor(x))
        part[r] = x - low[r]
    d[:] = 0
    share = 0.0
    for corner in range(8):
        w = 1.0
        i, j, k = low[0] + (corner & 1), low[1] + (corner >> 1 & 1), low[2] + (corner >> 2)
        w *= part[0] if corner & 1 else 1 - part[0]
        w *= part[1] if corner >> 1 & 1 else 1 - part[1]
        w *= part[2] if corner >> 2 else 1 - part[2]
        if w == 0:
            continue
        i = min(max(i, 0), field.shape[0] - 1)
        j = min(max(j, 0), field.shape[1] - 1)
        k = min(max(k, 0), field.shape[2] - 1)
        voxel = field[i, j, k]
        if np.isfinite(voxel[6]):
            share += w
            for r in range(7):
                d[r] += w * voxel[r]
    if not share >= _SHARE or d[6] < fa_min * share or not _main_direction(d, v):
        return False
    if v[0] * before[0] + v[1] * before[1] + v[2] * before[2] < 0:
        v *= -1
    return True


@njit(cache=True, parallel=True, error_model="numpy")
def follow(field, voxel_mm, seeds, fa_min, cos_max, step, order, points, counts):  # type: ignore[no-untyped-def]
    """Fill `points` (seeds, most, 3) with streamlines through the seeds, and their lengths.

    `field` (x, y, z, 7) holds Dxx, Dxy, Dyy, Dxz, Dyz, Dzz and FA; NaN where there is none.
    """
    most = points.shape[1]
    for s in prange(len(seeds)):
        line = points[s]
        d, here, stage, first = np.empty(7), np.empty(3), np.empty(3), np.empty(3)
        total, p, before = np.empty(3), np.empty(3), np.zeros(3)
        counts[s] = 0
        if not _direction(field, voxel_mm, fa_min, seeds[s], before, d, first):
            continue
        n = 0
        for side in range(2):
            p[:] = seeds[s]
            here[:] = first
            if side == 1:  # backwards: what was found so far is turned round
                here *= -1
                for i in range(n // 2):
                    for r in range(3):
                        line[i, r], line[n - 1 - i, r] = line[n - 1 - i, r], line[i, r]
                n -= 1  # the seed comes again
            before[:] = here
            while n < most:
                line[n] = p
                n += 1
                # Runge-Kutta: stages at half, half and a whole step ahead; the second order's
                # only stage is the direction itself
                total[:] = here
                stage[:] = here
                good = True
                for k in range(1, order):
                    ahead = step if k == 3 else 0.5 * step
                    good = good and _direction(
                        field, voxel_mm, fa_min, p + ahead * stage, here, d, stage
                    )
                    if order == 2:
                        total[:] = stage
                    else:
                        total += stage if k == 3 else 2 * stage
                total /= np.sqrt(np.sum(total * total))
                if not good or np.sum(total * before) < cos_max:
                    break
                p += step * total
                before[:] = total
                # the end of the step must be in the field as well
                if not _direction(field, voxel_mm, fa_min, p, before, d, here):
                    break
        counts[s] = n
