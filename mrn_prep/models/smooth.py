"""Smoothing of a field inside a mask, without bias at its edges."""

from __future__ import annotations

from itertools import product

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import correlate1d, distance_transform_edt

Float = NDArray[np.float64]

B1_FWHM_MM = 10.0
"""B1+ at 3 T varies over centimetres."""

_TRUNCATE = 3.0  # standard deviations of the Gaussian
_PIVOT_MIN = 2e-3  # a basis function that varies less beside the others is left out
_SLAB_VOXELS = 400_000  # bounds the memory: 80 moments of this many voxels


def smooth_in_mask(
    values: ArrayLike,
    mask: ArrayLike,
    fwhm_mm: float,
    voxel_mm: tuple[float, float, float],
    se: ArrayLike | None = None,
    order: int = 2,
    extrapolate_mm: float = 5.0,
) -> tuple[Float, Float]:
    r"""Smooth by local polynomial regression with Gaussian weights.

    At each voxel :math:`p` the value at :math:`q = p` of the polynomial that minimises

    .. math:: \sum_{q \in mask} e^{-|q-p|^2 / 2 s^2}
        \Big(v_q - \sum_j \beta_j \phi_j(q - p)\Big)^2,
        \quad s = \mathrm{FWHM} / \sqrt{8 \ln 2}

    Parameters
    ----------
    values : array, shape (nx, ny, nz)
        The field; where it is not finite it is filled from its neighbours.
    mask : bool array, shape (nx, ny, nz)
        Voxels that take part.
    fwhm_mm : float
        Full width at half maximum of the weights (mm).
    voxel_mm : tuple of 3 floats
        Size of a voxel (mm).
    se : float or array, shape (nx, ny, nz), optional
        Standard error of each value; the errors of different voxels are independent.
        Where it is not finite the value does not take part.
    order : {0, 1, 2}
        Degree of the polynomial. A term that the voxels at hand cannot determine (across
        a single slice, say) is left out there.
    extrapolate_mm : float
        How far from the nearest value to fill (mm).

    Returns
    -------
    smoothed, smoothed_se : array, shape (nx, ny, nz)
        NaN beyond `extrapolate_mm`, and where no value lies within 1.3 FWHM (where the
        weights end). The standard error, NaN without `se`, follows from the weights that
        each value got; neighbours' errors are correlated over about the FWHM.

    Raises
    ------
    ValueError
        If shapes disagree, the field is not three-dimensional, or a width is not positive.

    Notes
    -----
    Degree 0 is normalised convolution [2]_, which flattens slopes at the edge of the
    mask and curvature everywhere; degree 2 keeps both [1]_. The weighted sums over the
    products of basis functions are separable Gaussian-moment filters.

    References
    ----------
    .. [1] Cleveland WS, Devlin SJ. J Am Stat Assoc 1988;83:596-610.
       doi:10.1080/01621459.1988.10478639
    .. [2] Knutsson H, Westin CF. IEEE CVPR 1993:515-523. doi:10.1109/CVPR.1993.341081

    Examples
    --------
    A parabola stays what it is, up to the edge and beyond:

    >>> x = np.arange(24.0) - 9
    >>> field = np.broadcast_to((1 + 0.002 * x**2)[:, None, None], (24, 12, 8))
    >>> mask = np.zeros(field.shape, bool)
    >>> mask[4:20] = True
    >>> smoothed, _ = smooth_in_mask(field, mask, 10.0, (2.0, 2.0, 4.0))
    >>> bool(np.allclose(smoothed[2:22], field[2:22], atol=1e-8))
    True
    >>> bool(np.isnan(smoothed[:2]).all())
    True
    """
    values = np.asarray(values, dtype=np.float64)
    mask = np.asarray(mask, dtype=np.bool_)
    _check(values, mask, fwhm_mm, voxel_mm, order)
    used = mask & np.isfinite(values)
    variance = np.full(values.shape, np.nan)
    if se is not None:
        variance = np.asarray(se, dtype=np.float64) ** 2
        used &= np.isfinite(variance)
    smoothed, smoothed_se = np.full(values.shape, np.nan), np.full(values.shape, np.nan)
    if not used.any():
        return smoothed, smoothed_se
    target = distance_transform_edt(~used, sampling=voxel_mm) <= extrapolate_mm
    values, variance = np.where(used, values, 0.0), np.where(used, variance, 0.0)
    scale = fwhm_mm / np.sqrt(8 * np.log(2))
    steps = tuple(size / scale for size in voxel_mm)
    halo = int(np.ceil(_TRUNCATE / steps[2]))
    box = tuple(_extent(target, axis) for axis in (0, 1))
    for first, last in _slabs(np.any(target[box], axis=(0, 1)), target[box].shape):
        here = (*box, slice(max(first - halo, 0), last + halo))
        wanted = target[here].copy()
        wanted[..., : first - here[2].start] = False
        wanted[..., last - here[2].start :] = False
        fit = _local_fit(values[here], used[here], variance[here], wanted, steps, order)
        smoothed[here][wanted] = fit[0]
        if se is not None:
            smoothed_se[here][wanted] = np.sqrt(fit[1])
    return smoothed, smoothed_se


def _check(
    values: Float,
    mask: NDArray[np.generic],
    fwhm_mm: float,
    voxel_mm: tuple[float, float, float],
    order: int,
) -> None:
    if values.ndim != 3 or mask.shape != values.shape:
        raise ValueError(f"values {values.shape} and mask {mask.shape} must share one 3D shape.")
    if len(voxel_mm) != 3 or not min(*voxel_mm, fwhm_mm) > 0:
        raise ValueError(f"fwhm_mm {fwhm_mm} and the three voxel_mm {voxel_mm} must be positive.")
    if order not in (0, 1, 2):
        raise ValueError(f"order must be 0, 1 or 2, got {order}.")


def _extent(target: NDArray[np.bool_], axis: int) -> slice:
    """Smallest range of `axis` that holds every target."""
    index = np.flatnonzero(target.any(axis=tuple({0, 1, 2} - {axis})))
    return slice(int(index[0]), int(index[-1]) + 1)


def _slabs(wanted: NDArray[np.generic], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    index = np.flatnonzero(wanted)
    first, last = int(index[0]), int(index[-1]) + 1
    thick = max(1, _SLAB_VOXELS // (shape[0] * shape[1]))
    return [(z, min(z + thick, last)) for z in range(first, last, thick)]


def _exponents(degree: int) -> list[tuple[int, int, int]]:
    """Powers of the monomials up to `degree`, low degrees first, pure squares before mixed."""
    each = range(degree + 1)
    powers = [(a, b, c) for a, b, c in product(each, each, each) if a + b + c <= degree]
    return sorted(powers, key=lambda p: (sum(p), -max(p), tuple(-e for e in p)))


def _local_fit(
    values: Float,
    used: NDArray[np.bool_],
    variance: Float,
    wanted: NDArray[np.bool_],
    steps: tuple[float, ...],
    order: int,
) -> tuple[Float, Float]:
    basis, powers = _exponents(order), _exponents(2 * order)
    place = {power: i for i, power in enumerate(powers)}
    table = np.array([
        [place[p[0] + q[0], p[1] + q[1], p[2] + q[2]] for q in basis] for p in basis
    ])  # fmt: skip
    weight = used.astype(np.float64)
    moments = _moments(weight, wanted, steps, powers, 1)
    right = _moments(weight * values, wanted, steps, basis, 1)
    # the equivalent kernel's norm needs the same moments under the squared weights
    noise = _moments(variance, wanted, steps, powers, 2)
    value, value_variance = _solve(moments, right, noise, table)
    return value, value_variance


def _moments(
    field: Float,
    wanted: NDArray[np.bool_],
    steps: tuple[float, ...],
    powers: list[tuple[int, int, int]],
    exponent: int,
) -> Float:
    """Return sums of ``weight**exponent * offset**power * field`` around each wanted voxel."""
    out = np.empty((np.count_nonzero(wanted), len(powers)))
    x_pass: dict[int, Float] = {}
    xy_pass: dict[tuple[int, int], Float] = {}
    kernels = [
        [_kernel(step, power, exponent) for power in range(max(map(max, powers)) + 1)]
        for step in steps
    ]
    for i, (a, b, c) in enumerate(powers):
        if a not in x_pass:
            x_pass[a] = correlate1d(field, kernels[0][a], axis=0, mode="constant")
        if (a, b) not in xy_pass:
            xy_pass[a, b] = correlate1d(x_pass[a], kernels[1][b], axis=1, mode="constant")
        out[:, i] = correlate1d(xy_pass[a, b], kernels[2][c], axis=2, mode="constant")[wanted]
    return out


def _kernel(step: float, power: int, exponent: int) -> Float:
    reach = max(1, int(np.ceil(_TRUNCATE / step)))
    t = step * np.arange(-reach, reach + 1)
    kernel: Float = np.exp(-0.5 * exponent * t**2) * t**power
    return kernel


@njit(cache=True, error_model="numpy", nogil=True)
def _solve(moments, right, noise, table):  # type: ignore[no-untyped-def]
    """Intercept of each voxel's normal equations and its variance."""
    n_voxels, n = moments.shape[0], table.shape[0]
    value, variance = np.full(n_voxels, np.nan), np.full(n_voxels, np.nan)
    lower, kernel = np.zeros((n, n)), np.zeros(n)
    for v in range(n_voxels):
        mass = moments[v, 0]
        if not mass > 0.0:
            continue
        _intercept(moments[v], table, lower, kernel)
        total = spread = 0.0
        for i in range(n):
            total += kernel[i] * right[v, i]
            for j in range(n):
                spread += kernel[i] * kernel[j] * noise[v, table[i, j]]
        value[v] = total / mass
        variance[v] = max(spread, 0.0) / (mass * mass)
    return value, variance


@njit(cache=True, error_model="numpy", nogil=True)
def _intercept(moments, table, lower, kernel):  # type: ignore[no-untyped-def]
    """First column of the inverse normal matrix (times its first element), by Cholesky.

    A term whose pivot is too small is left out; its diagonal is then 0.
    """
    n = table.shape[0]
    for i in range(n):
        pivot = moments[table[i, i]] / moments[0]
        for j in range(i):
            entry = 0.0
            if lower[j, j] > 0.0:
                entry = moments[table[i, j]] / moments[0]
                for k in range(j):
                    entry -= lower[i, k] * lower[j, k]
                entry /= lower[j, j]
            lower[i, j] = entry
            pivot -= entry * entry
        lower[i, i] = np.sqrt(pivot) if pivot > _PIVOT_MIN else 0.0
    for i in range(n):
        entry = 1.0 if i == 0 else 0.0
        for k in range(i):
            entry -= lower[i, k] * kernel[k]
        kernel[i] = entry / lower[i, i] if lower[i, i] > 0.0 else 0.0
    for i in range(n - 1, -1, -1):
        entry = kernel[i]
        for k in range(i + 1, n):
            entry -= lower[k, i] * kernel[k]
        kernel[i] = entry / lower[i, i] if lower[i, i] > 0.0 else 0.0
