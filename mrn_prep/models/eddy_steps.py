"""Steps of the motion and eddy-current estimation: predict, register, choose.

All work on a list of voxels: ``values[i, j]`` is volume i at voxel j of a `Region`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from mrn_prep.models.dti import tensor_signal
from mrn_prep.models.motion import (
    N_QUADRATIC,
    Float,
    Mask,
    rotation_matrix,
    rotation_vector,
)

_N_RIGID = 6
_TREMOR_MM = 0.3  # steps of motion below this count as quiet
_OUTLYING = 3.0  # standardised residual at which a voxel's weight has fallen to a quarter


@dataclass(frozen=True)
class Region:
    """Voxels in which volumes are predicted and compared."""

    voxels: Float
    """Their indices, shape (m, 3)."""
    points_mm: Float
    """Their positions in the centred image frame, shape (m, 3)."""
    neighbours: NDArray[np.int32]
    """Number of the voxel before and after along x, y, z, shape (m, 6)."""
    spacing_mm: Float
    """Distance between these two, shape (m, 3)."""


def region_of(mask: Mask, to_mm: Float) -> Region:
    """List the voxels of a mask with their neighbours (the voxel itself where it has none).

    Parameters
    ----------
    mask : bool array, shape (x, y, z)
    to_mm : array, shape (4, 4)
        Affine from its indices to the centred image frame.

    Returns
    -------
    Region

    Examples
    --------
    >>> region_of(np.ones((3, 1, 1), bool), np.diag([2.0, 2, 2, 1])).spacing_mm[:, 0].tolist()
    [2.0, 4.0, 2.0]
    """
    voxels = np.argwhere(mask)
    number = np.full(np.array(mask.shape) + 2, -1, dtype=np.int32)
    number[tuple((voxels + 1).T)] = own = np.arange(len(voxels), dtype=np.int32)
    neighbours = np.empty((len(voxels), 6), dtype=np.int32)
    for axis in range(3):
        for side, step in enumerate((-1, 1)):
            at = voxels + 1
            at[:, axis] += step
            found = number[tuple(at.T)]
            neighbours[:, 2 * axis + side] = np.where(found >= 0, found, own)
    apart = (neighbours != own[:, None]).reshape(-1, 3, 2).sum(-1)
    return Region(
        voxels.astype(np.float32),
        (voxels @ to_mm[:3, :3].T + to_mm[:3, 3]).astype(np.float32),
        neighbours,
        (np.maximum(apart, 1) * np.diag(to_mm)[:3]).astype(np.float32),
    )


def log_design(b_s_mm2: Float, bvecs: Float) -> Float:
    r"""Design of :math:`\ln S = X\beta`: six tensor elements (10⁻³ mm²/s), then ln S0.

    Series that do not determine a tensor get an isotropic diffusivity instead, and those
    of a single b-value only ln S0.

    Parameters
    ----------
    b_s_mm2, bvecs : array, shapes (n,) and (n, 3)

    Returns
    -------
    array, shape (n, 7), (n, 2) or (n, 1)

    Examples
    --------
    >>> log_design(np.array([0.0, 1000]), np.eye(3)[:2]).tolist()
    [[-0.0, 1.0], [-1.0, 1.0]]
    """
    ones = np.ones((len(b_s_mm2), 1))
    # the derivative of ln S by each element, from the one place where the equation is
    elements = np.log(tensor_signal(np.ones(6), 1e-3 * np.eye(6), b_s_mm2, bvecs)).T + 0.0
    tensor = np.concatenate([elements, ones], axis=1)
    enough = len(tensor) > 8 and np.linalg.matrix_rank(tensor, tol=0.05) == 7
    if enough:
        return tensor
    isotropic: Float = np.concatenate([-1e-3 * np.asarray(b_s_mm2)[:, None], ones], axis=1)
    return isotropic if np.ptp(b_s_mm2) > 0 else ones


def predict_from_others(log_signal: Float, design: Float, weights: Float) -> Float:
    r"""Predict every volume from a fit to all others, without fitting n times.

    .. math:: \hat y_i^{(-i)} = \frac{\hat y_i - h_i y_i}{1 - h_i},\quad
              h_i = w_i x_i^\top (X^\top W X)^{-1} x_i

    Parameters
    ----------
    log_signal : array, shape (n, m)
    design : array, shape (n, p)
    weights : array, shape (n,)
        Of the volumes; the variance of ln S goes as 1/S².

    Returns
    -------
    array, shape (n, m)
        Predicted ln S.

    References
    ----------
    Cook RD, Weisberg S. Residuals and Influence in Regression. Chapman and Hall 1982.

    Examples
    --------
    The mean of the other two:

    >>> predict_from_others(np.array([[1.0], [2], [6]]), np.ones((3, 1)), np.ones(3)).ravel()
    array([4. , 3.5, 1.5])
    """
    root = np.sqrt(weights)[:, None]
    hat = design @ (np.linalg.pinv(design * root) * root.T)
    # a volume that alone determines an unknown cannot be predicted: it predicts itself
    own = np.where(np.diag(hat) < 0.99, np.diag(hat), 0.0)
    others = (hat - np.diag(own)) / (1 - own)[:, None]
    predicted: Float = others.astype(log_signal.dtype) @ log_signal
    return predicted


def lost_slices(profile: Float, design: Float) -> Mask:
    """Find slices that lost signal, as motion during the diffusion encoding makes it.

    A slice's mean follows a tensor over the volumes (robust fit, by least absolute values);
    lost is what stays far below it and below the other slices of its volume.

    Parameters
    ----------
    profile : array, shape (n, n_slices)
        Mean signal of every slice; NaN where there is none to be had.
    design : array, shape (n, p)
        As of `log_design`.

    Returns
    -------
    bool array, shape (n, n_slices)
        True where the signal is low by 15 % and by five (robust) standard deviations.

    Examples
    --------
    >>> profile = np.full((12, 5), 100.0)
    >>> profile[7, 2] = 40
    >>> np.argwhere(lost_slices(profile, np.ones((12, 1)))).tolist()
    [[7, 2]]
    """
    left = np.full(profile.shape, np.nan)
    for k in np.flatnonzero((profile > 0).all(axis=0)):
        logs = np.log(profile[:, k])
        weight = np.ones(len(logs))
        for _ in range(30):
            beta = np.linalg.lstsq(design * weight[:, None], logs * weight, rcond=None)[0]
            left[:, k] = logs - design @ beta
            weight = (left[:, k] ** 2 + 1e-4) ** -0.25
    if np.isnan(left).all():
        return np.zeros(profile.shape, dtype=np.bool_)
    left -= np.nanmedian(left, axis=1, keepdims=True)
    spread = 1.4826 * float(np.nanmedian(np.abs(left)))
    lost: Mask = left < min(np.log(0.85), -5 * spread)
    return lost


def without_tensor_part(values: Float, design: Float) -> Float:
    """Remove from values per volume what a tensor fit would take for diffusion.

    Parameters
    ----------
    values : array, shape (n, ...)
    design : array, shape (n, p)

    Returns
    -------
    array, shape (n, ...)
    """
    flat = values.reshape(len(values), -1)
    rest: Float = flat - design @ np.linalg.lstsq(design, flat, rcond=None)[0]
    return rest.reshape(values.shape)


def least_motion(
    rotations: Float,
    translations_mm: Float,
    eddy: Float,
    design: Float,
    gradients: Float,
    points_mm: Float,
    pe_axis: int | None,
) -> tuple[Float, Float, Float]:
    r"""Among transforms that the images cannot tell apart, take the one that moves least.

    A pattern of displacement over the volumes that is a combination :math:`X u` of the
    tensor's regressors looks like diffusion at every edge; images do not determine u. The
    motion is taken to be the one with the smallest total variation in time, and the eddy
    field, which is odd in the gradient, to have no part that is even in it. Likewise a
    shift along phase encoding is motion or eddy current; the part that follows the
    gradient, :math:`G m`, is given to the eddy field.

    .. math:: \min_{u,m} \sum_i \lVert \Delta_i(\theta - X u - e_\mathrm{pe} G m)\rVert

    Parameters
    ----------
    rotations, translations_mm : arrays, shape (n, 3, 3) and (n, 3)
        In order of acquisition.
    eddy : array, shape (n, 10)
    design : array, shape (n, p)
        The tensor's regressors (without ln S0), zero for the reference.
    gradients : array, shape (n, 3)
        Directions times relative gradient strength.
    points_mm : array, shape (m, 3)
        Where displacement counts.
    pe_axis : int or None

    Returns
    -------
    rotations, translations_mm, eddy
    """
    n = len(rotations)
    centre = points_mm.mean(axis=0)
    radius = np.sqrt(((points_mm - centre) ** 2).sum(axis=1).mean())
    at_centre = translations_mm + rotations @ centre - centre
    motion = np.concatenate([radius * rotation_vector(rotations), at_centre], axis=1)
    regressors = [design] * _N_RIGID
    eddy = eddy.copy()
    if pe_axis is not None:
        regressors[3 + pe_axis] = np.concatenate([design, gradients], axis=1)
        both = np.concatenate([design, gradients], axis=1)
        even = np.linalg.lstsq(both, eddy[:, 1:], rcond=None)[0][: design.shape[1]]
        eddy[:, 1:] -= design @ even
    steps = np.diff(np.eye(n), axis=0)
    chosen = motion
    for _ in range(30):
        weight = (((steps @ chosen) ** 2).sum(axis=1) + _TREMOR_MM**2) ** -0.25
        chosen = motion.copy()
        for k, X in enumerate(regressors):
            left, right = weight[:, None] * (steps @ X), weight * (steps @ motion[:, k])
            chosen[:, k] -= X @ np.linalg.lstsq(left, right, rcond=None)[0]
            if pe_axis is not None and k == 3 + pe_axis:
                share = np.linalg.lstsq(left, right, rcond=None)[0][design.shape[1] :]
    if pe_axis is not None:
        eddy[:, 0] += gradients @ share
    rotations = rotation_matrix(chosen[:, :3] / radius)
    return rotations, chosen[:, 3:] + centre - rotations @ centre, eddy


@dataclass(frozen=True)
class Step:
    """One Gauss-Newton step of every volume given; arrays start with the volume."""

    rotation_rad: Float
    """To be applied to the left of the rotation, shape (n, 3)."""
    translation_mm: Float
    eddy: Float
    """Shape (n, 10)."""
    gain: Float
    """Of the volume relative to its prediction (not a step)."""
    offset: Float
    noise: Float
    """Robust standard deviation of what is left."""


def gauss_newton(
    predicted: Float,
    observed: Float,
    region: Region,
    compared: Mask,
    rotations: Float,
    translations_mm: Float,
    gain: Float,
    offset: Float,
    noise: Float,
    pe_axis: int | None,
    n_eddy: int,
) -> Step:
    r"""Move volumes towards their predictions.

    Minimises :math:`\sum_j w_j (a P_j + o - I_j(\theta + \delta))^2` for the step
    :math:`\delta` of rotation, translation and eddy terms, and for gain a and offset o.
    Derivatives are taken from the prediction: those of the volume itself would share its
    noise and pull towards half voxels, where interpolation smooths most.

    Parameters
    ----------
    predicted, observed : float32 arrays, shape (n, m)
        Prediction, and volume resampled by the present transforms (NaN outside).
    region : Region
    compared : bool array, shape (m,)
        Voxels whose difference counts.
    rotations, translations_mm, gain, offset, noise : arrays, shape (n, ...)
        Present state.
    pe_axis : int or None
    n_eddy : int
        Number of eddy coefficients: 0, `N_LINEAR` or `N_QUADRATIC`; the first, the
        shift, is left to the translation.

    Returns
    -------
    Step
    """
    n_terms = max(n_eddy - 1, 0)
    k = _N_RIGID + n_terms + 2
    hessian, gradient = np.zeros((len(predicted), k, k)), np.zeros((len(predicted), k))
    _normal_equations(
        predicted, observed, region.points_mm, region.neighbours, region.spacing_mm,
        np.flatnonzero(compared), rotations, translations_mm, gain, offset, noise,
        pe_axis or 0, n_terms, hessian, gradient,
    )  # fmt: skip
    size = np.sqrt(np.einsum("nii->ni", hessian))
    size[size == 0] = 1.0
    scaled = hessian / size[:, :, None] / size[:, None] + 1e-4 * np.eye(k)
    solution = -np.linalg.solve(scaled, (gradient / size)[..., None])[..., 0] / size
    eddy = np.zeros((len(predicted), N_QUADRATIC))
    eddy[:, 1 : 1 + n_terms] = solution[:, _N_RIGID:-2]
    gain, offset = solution[:, -2], solution[:, -1]
    few = np.flatnonzero(compared)[:: max(1, int(compared.sum()) // 5000)]
    left = gain[:, None] * predicted[:, few] + offset[:, None] - observed[:, few]
    noise = 1.4826 * np.nanmedian(np.abs(left), axis=1)
    return Step(solution[:, :3], solution[:, 3:6], eddy, gain, offset, noise)


@njit(cache=True, error_model="numpy")
def _eddy_derivatives(slope, value, p, pe, n_terms, q):  # type: ignore[no-untyped-def]
    """Fill q[6:]: stretching along phase encoding moves edges and dilutes the signal."""
    if n_terms >= 3:
        for a in range(3):
            q[6 + a] = slope * p[a]
        q[6 + pe] += value
    if n_terms == 9:
        for a in range(3):
            q[9 + a] = slope * p[a] * p[a]
        q[9 + pe] += value * 2 * p[pe]
        c = 12
        for a in range(2):
            for b in range(a + 1, 3):
                q[c] = slope * p[a] * p[b]
                if a == pe:
                    q[c] += value * p[b]
                if b == pe:
                    q[c] += value * p[a]
                c += 1


@njit(cache=True, parallel=True, error_model="numpy")
def _normal_equations(  # type: ignore[no-untyped-def]
    predicted, observed, points, neighbours, spacing, listed, rotations, translations,
    gain, offset, noise, pe, n_terms, hessian, gradient,
):  # fmt: skip
    k = hessian.shape[1]
    for v in prange(predicted.shape[0]):
        r, t = rotations[v], translations[v]
        h, q = np.zeros((k, k)), np.empty(k)
        d, p = np.empty(3), np.empty(3)
        for j in listed:
            image = observed[v, j]
            if not np.isfinite(image):
                continue
            value = gain[v] * predicted[v, j]
            for a in range(3):
                d[a] = 0.0
                p[a] = 0.0
            for b in range(3):
                low, high = neighbours[j, 2 * b], neighbours[j, 2 * b + 1]
                slope = gain[v] * (predicted[v, high] - predicted[v, low]) / spacing[j, b]
                for a in range(3):
                    d[a] += r[a, b] * slope
                    p[a] += r[a, b] * points[j, b]
            q[0] = p[1] * d[2] - p[2] * d[1]
            q[1] = p[2] * d[0] - p[0] * d[2]
            q[2] = p[0] * d[1] - p[1] * d[0]
            for a in range(3):
                q[3 + a] = d[a]
                p[a] += t[a]
            _eddy_derivatives(d[pe], value, p, pe, n_terms, q)
            q[k - 2] = -predicted[v, j]
            q[k - 1] = -1.0
            miss = (value + offset[v] - image) / (_OUTLYING * noise[v])
            w = 1 / (1 + miss * miss)
            w = w * w
            for a in range(k):
                wq = w * q[a]
                gradient[v, a] += wq * image
                for b in range(a + 1):
                    h[a, b] += wq * q[b]
        for a in range(k):
            for b in range(a + 1):
                hessian[v, a, b] = h[a, b]
                hessian[v, b, a] = h[a, b]
