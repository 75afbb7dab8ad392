"""Denoising by Marchenko-Pastur PCA, and what is left of the noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

_MIN_VOLUMES = 5
MAX = 10
_MIN_VOXELS = 8  # fewer than this in a patch do not show a noise spectrum


@dataclass(frozen=True)
class MPPCAResult:
    """What `denoise_mppca` returns; maps have shape (x, y, z)."""

    denoised: Float
    """Series, shape (x, y, z, n), float32; the input itself outside the mask."""
    sigma: Float
    """Standard deviation of the noise in the input, in its unit; NaN outside the mask."""
    n_components: Float
    """Components kept, averaged over the patches that hold the voxel; NaN outside."""
    noise_fraction: Float
    """Variance of the noise left in directions that were not kept, over sigma²; NaN outside."""


@dataclass(frozen=True)
class RetainedNoise:
    r"""Covariance over volumes of the noise left by a projection, voxel by voxel.

    .. math:: C = \sigma^2 \left(f I + B^T B\right)
    """

    fraction: Float
    """f, shape (...)."""
    basis: Float
    """B of every patch, shape (n_patches, p, n); unused rows are 0."""
    patch: NDArray[np.intp]
    """The patch of each voxel, shape (...)."""


def denoise_mppca(
    series: Float, mask: Bool | None = None, patch: int = 5, stride: int = 2
) -> MPPCAResult:
    volumes = np.ascontiguousarray(series, dtype=np.float32)
    grid, n = volumes.shape[:3], volumes.shape[3]
    inside = np.ones(grid, bool) if mask is None else np.asarray(mask, bool)
    usable = np.isfinite(volumes).all(-1) & (volumes != 0).any(-1)
    size = _patch_size(grid, n, patch)
    chosen = inside & usable
    total = np.zeros((*grid, n), np.float32)
    sums = np.zeros((*grid, 4), np.float32)
    axes = [_starts(extent, width, stride) for extent, width in zip(grid, size, strict=True)]
    for colour in _colours(axes, size):
        _denoise_columns(volumes, chosen, *colour, axes[2], np.array(size), total, sums)
    weight = sums[..., 0]
    done = weight > 0
    w = np.where(done, weight, 1)
    denoised = np.where(done[..., None], total / w[..., None], volumes)
    maps = [np.where(done, sums[..., k] / w, np.nan) for k in (1, 2, 3)]
    overlap = _overlap(axes, grid, size)
    return MPPCAResult(denoised, np.sqrt(maps[0]), maps[1], maps[2] * overlap)


def retained_noise(
    denoised: Float,
    n_components: Float,
    noise_fraction: Float,
    mask: Bool | None = None,
    patch: int = 5,
    stride: int = 2,
) -> RetainedNoise:
    volumes = np.ascontiguousarray(denoised, dtype=np.float32)
    grid, n = volumes.shape[:3], volumes.shape[3]
    inside = np.ones(grid, bool) if mask is None else np.asarray(mask, bool)
    usable = inside & np.isfinite(volumes).all(-1) & (volumes != 0).any(-1)
    size = np.array(_patch_size(grid, n, patch))
    centres = [np.arange((extent + stride - 1) // stride) * stride + stride // 2 for extent in grid]
    nearest = np.ix_(*[np.arange(extent) // stride for extent in grid])
    count = [len(c) for c in centres]
    number = np.arange(np.prod(count)).reshape(count)
    corners = np.stack(np.meshgrid(*centres, indexing="ij"), -1).reshape(-1, 3) - size // 2
    corners = np.clip(corners, 0, np.array(grid) - size)
    kept = np.nan_to_num(np.asarray(n_components, float), nan=n)
    fraction = np.nan_to_num(np.asarray(noise_fraction, float), nan=1.0)
    basis = _bases(volumes, usable, corners, size, kept, fraction, MAX)
    return RetainedNoise(fraction, basis, number[nearest])


@njit(cache=True, parallel=True, error_model="numpy")
def _bases(volumes, usable, corners, size, kept, fraction, limit):
    n = volumes.shape[3]
    bases = np.zeros((corners.shape[0], limit, n), np.float32)
    for k in prange(corners.shape[0]):
        x0, y0, z0 = corners[k, 0], corners[k, 1], corners[k, 2]
        data = np.empty((size[0] * size[1] * size[2], n))
        m = 0
        p = 0.0
        f = 0.0
        for x in range(x0, x0 + size[0]):
            for y in range(y0, y0 + size[1]):
                for z in range(z0, z0 + size[2]):
                    if usable[x, y, z]:
                        for i in range(n):
                            data[m, i] = volumes[x, y, z, i]
                        p += kept[x, y, z]
                        f += fraction[x, y, z]
                        m += 1
        if m == 0:
            continue
        p /= m
        f /= m
        _, vectors = np.linalg.eigh(data[:m].T @ data[:m])
        for i in range(min(limit, int(np.ceil(p)))):
            share = min(1.0, p - i)
            scale = np.sqrt(max(share * share - f, 0.0))
            for j in range(n):
                bases[k, i, j] = scale * vectors[j, n - 1 - i]
    return bases


def _patch_size(grid, n, patch):
    size = [min(patch, extent) for extent in grid]
    while np.prod(size) < n and any(s + 2 <= e for s, e in zip(size, grid, strict=True)):
        room = [s if s + 2 <= e else np.inf for s, e in zip(size, grid, strict=True)]
        size[int(np.argmin(room))] += 2
    return tuple(size)


def _starts(extent, width, stride):
    last = extent - width
    return np.array(sorted({*range(0, last + 1, stride), last}))


def _colours(axes, size):
    """Sets of patch columns that do not touch, so that threads never share a voxel."""
    classes = []
    for starts, width in zip(axes[:2], size[:2], strict=True):
        groups: list[list[int]] = []
        for start in starts:
            for group in groups:
                if start - group[-1] >= width:
                    group.append(int(start))
                    break
            else:
                groups.append([int(start)])
        classes.append(groups)
    for gx in classes[0]:
        for gy in classes[1]:
            xs, ys = np.meshgrid(gx, gy, indexing="ij")
            yield xs.ravel(), ys.ravel()


def _overlap(axes, grid, size):
    ratio = np.ones(grid)
    for axis, (starts, extent, width) in enumerate(zip(axes, grid, size, strict=True)):
        a = np.zeros((extent, extent))
        for s in starts:
            a[s : s + width, s : s + width] += 1 / width
        cover = np.array([((starts <= i) & (i < starts + width)).sum() for i in range(extent)])
        a /= cover[:, None]
        shape = [1, 1, 1]
        shape[axis] = extent
        ratio = ratio * ((a**2).sum(1) * width).reshape(shape)
    return ratio


@njit(cache=True, parallel=True, error_model="numpy")
def _denoise_columns(volumes, chosen, xs, ys, zs, size, total, sums):
    n = volumes.shape[3]
    for column in prange(xs.size):
        x0, y0 = xs[column], ys[column]
        buffer = np.empty((size[0] * size[1] * size[2], n))
        where = np.empty((size[0] * size[1] * size[2], 3), np.int64)
        for z0 in zs:
            m = 0
            for x in range(x0, x0 + size[0]):
                for y in range(y0, y0 + size[1]):
                    for z in range(z0, z0 + size[2]):
                        if chosen[x, y, z]:
                            where[m, 0], where[m, 1], where[m, 2] = x, y, z
                            for i in range(n):
                                buffer[m, i] = volumes[x, y, z, i]
                            m += 1
            if m < _MIN_VOXELS:
                continue
            data = buffer[:m]
            values, vectors = np.linalg.eigh(data.T @ data)
            p, variance = _marchenko_pastur(values[::-1], m, n)
            kept = np.ascontiguousarray(vectors[:, n - p :])
            scores = data @ kept
            back = scores @ kept.T
            w = 1.0 / (p * p)
            for k in range(m):
                x, y, z = where[k, 0], where[k, 1], where[k, 2]
                leverage = 0.0
                for i in range(p):
                    leverage += scores[k, i] ** 2 / values[n - p + i]
                for i in range(n):
                    total[x, y, z, i] += w * back[k, i]
                sums[x, y, z, 0] += w
                sums[x, y, z, 1] += w * variance
                sums[x, y, z, 2] += w * p
                sums[x, y, z, 3] += w * leverage


@njit(cache=True, error_model="numpy")
def _marchenko_pastur(values, m, n):
    r, q = min(m, n), max(m, n)
    tail = 0.0
    for i in range(r):
        tail += max(values[i], 0.0)
    smallest = max(values[r - 1], 0.0)
    for p in range(r - 1):
        freedom = (r - p) * (q - p)
        variance = tail / freedom
        if p > 0 and values[p] - smallest < 4 * np.sqrt(freedom) * variance:
            return p, variance
        tail -= max(values[p], 0.0)
    return r - 1, tail / (q - r + 1)
