"""What noise, as `mrn_prep.models.retained` describes it, does to what is fitted: compiled."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

STEPS = 16
"""Positions are known to this fraction of a voxel."""

_REACH = 8  # voxels apart where two interpolated values have no noise in common any more


def _interpolator(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weight of a voxel in cubic B-spline interpolation, by its distance (Unser 1999)."""
    pole = np.sqrt(3.0) - 2.0
    total = np.zeros_like(distance)
    for k in range(-2 * _REACH, 2 * _REACH + 1):
        t = np.abs(distance - k)
        near, far = 2.0 / 3.0 - t**2 + t**3 / 2.0, np.maximum(2.0 - t, 0.0) ** 3 / 6.0
        total += np.sqrt(3.0) * pole ** abs(k) * np.where(t < 1.0, near, far)
    return total


def _overlap() -> NDArray[np.float64]:
    """Sum over voxels of the weights of two points, by their phases and whole voxels between."""
    voxel = np.arange(-2 * _REACH, 2 * _REACH + 1)
    weight = _interpolator(np.arange(STEPS)[:, None] / STEPS - voxel)
    table = np.empty((STEPS, STEPS, 2 * _REACH + 1))
    for apart in range(-_REACH, _REACH + 1):
        moved = _interpolator(apart + np.arange(STEPS)[:, None] / STEPS - voxel)
        table[:, :, apart + _REACH] = weight @ moved.T
    return table


_OVERLAP = _overlap()


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _in_common(a, b):  # type: ignore[no-untyped-def]
    """Covariance of two values interpolated at points a and b of white noise of variance 1."""
    common = 1.0
    for k in range(3):
        apart = b[k] // STEPS - a[k] // STEPS
        if apart < -_REACH or apart > _REACH:
            return 0.0
        common *= _OVERLAP[a[k] % STEPS, b[k] % STEPS, apart + _REACH]
    return common


@njit(cache=True, nogil=True, error_model="numpy")
def _own(left, v, i):  # type: ignore[no-untyped-def]
    """How much of untouched noise interpolation has left in a volume."""
    at = left.at[v]
    return _in_common(at[i], at[i]) if at.shape[0] > 0 else 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _excess(left, v, k):  # type: ignore[no-untyped-def]
    """Variance along component k beside that of all directions."""
    share = min(1.0, left.kept[v] - k)
    return max(share * share - left.fraction[v], 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def noise_power(used, left, v):  # type: ignore[no-untyped-def]
    """Variance of the noise, over sigma², summed over the volumes whose `used` is above 0."""
    total, basis = 0.0, left.basis[left.patch[v]]
    for i in range(used.size):
        if not used[i] > 0.0:
            continue
        own = _own(left, v, i)
        total += left.fraction[v] * (own if left.kept[v] == 0.0 else 1.0)
        for k in range(min(basis.shape[0], int(np.ceil(left.kept[v])))):
            total += _excess(left, v, k) * own * basis[k, i] ** 2
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def propagate(gain, left, v, covariance):  # type: ignore[no-untyped-def]
    """Write the covariance, over sigma², of parameters whose change by the signal is `gain`.

    `gain` is (p, n); `left` are `NoiseRows`, of which row `v` is meant.
    """
    p, n = gain.shape
    averaged = left.kept[v] == 0.0 and left.at.shape[1] > 0
    covariance[:] = 0.0
    for i in range(n):
        share = left.fraction[v] * (_own(left, v, i) if averaged else 1.0)
        for r in range(p):
            for c in range(r + 1):
                covariance[r, c] += share * gain[r, i] * gain[c, i]
    basis = left.basis[left.patch[v]]
    count = min(basis.shape[0], int(np.ceil(left.kept[v])))
    if count > 0 and left.at.shape[1] == 0:
        _alike(gain, basis[:count], left, v, covariance)
    elif count > 0:
        _moved(gain, basis[:count], left, v, covariance)
    for r in range(p):
        for c in range(r):
            covariance[c, r] = covariance[r, c]


@njit(cache=True, nogil=True, error_model="numpy")
def _alike(gain, basis, left, v, covariance):  # type: ignore[no-untyped-def]
    """Add the noise along components that lie still."""
    p, n = gain.shape
    error = np.empty(p)
    for k in range(basis.shape[0]):
        excess = _excess(left, v, k)
        for r in range(p):
            error[r] = 0.0
            for i in range(n):
                error[r] += gain[r, i] * basis[k, i]
            for c in range(r + 1):
                covariance[r, c] += excess * error[r] * error[c]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})
def _moved(gain, basis, left, v, covariance):  # type: ignore[no-untyped-def]
    """Add the noise along components whose volumes were moved against one another."""
    p, n = gain.shape
    at = left.at[v]
    common = np.empty((n, n))
    for i in range(n):
        for j in range(i + 1):
            common[i, j] = common[j, i] = _in_common(at[i], at[j])
    error, seen = np.empty((p, n)), np.empty(n)
    for k in range(basis.shape[0]):
        excess = _excess(left, v, k)
        for r in range(p):
            for i in range(n):
                error[r, i] = gain[r, i] * basis[k, i]
        for r in range(p):
            for i in range(n):
                total = 0.0
                for j in range(n):
                    total += common[i, j] * error[r, j]
                seen[i] = total
            for c in range(r + 1):
                total = 0.0
                for i in range(n):
                    total += seen[i] * error[c, i]
                covariance[r, c] += excess * total
