"""Steps of the eddy-current estimation without images: predict, find losses, choose."""

from __future__ import annotations

import numpy as np

from mrn_prep.models.dti import tensor_signal
from mrn_prep.models.motion import (
    Float,
    Mask,
    rotation_matrix,
    rotation_vector,
)

_N_RIGID = 6
_TREMOR_MM = 0.3  # steps of motion below this count as quiet
# On half a sphere some odd functions of the gradient are almost even: what tells the two apart is
# below this share of the strongest pattern there, and is noise.
_TOLD = 0.1


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
        even = np.linalg.lstsq(both, eddy[:, 1:], rcond=_TOLD)[0][: design.shape[1]]
        eddy[:, 1:] -= design @ even
    steps = np.diff(np.eye(n), axis=0)
    chosen = motion
    for _ in range(30):
        weight = (((steps @ chosen) ** 2).sum(axis=1) + _TREMOR_MM**2) ** -0.25
        chosen = motion.copy()
        for k, X in enumerate(regressors):
            left, right = weight[:, None] * (steps @ X), weight * (steps @ motion[:, k])
            chosen[:, k] -= X @ np.linalg.lstsq(left, right, rcond=_TOLD)[0]
            if pe_axis is not None and k == 3 + pe_axis:
                share = np.linalg.lstsq(left, right, rcond=_TOLD)[0][design.shape[1] :]
    if pe_axis is not None:
        eddy[:, 0] += gradients @ share
    rotations = rotation_matrix(chosen[:, :3] / radius)
    return rotations, chosen[:, 3:] + centre - rotations @ centre, eddy
