"""Images of one limb, taken one after the other in different contrasts, into one frame."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from mrn_prep.models._align_kernel import Agreement, Blocks, agreement
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.motion import (
    Float,
    Mask,
    mean_displacement_mm,
    rotation_matrix,
    rotation_vector,
    voxel_to_centred_mm,
)
from mrn_prep.models.noise import sigma_from_background
from mrn_prep.models.resample import grid_points, warp

MOVED_VOXELS = 0.15
"""Mean displacement below which an image is left as it is: interpolation would cost more."""
UNCERTAIN_VOXELS = 0.25
"""Standard error of the displacement from which an image counts as not registered."""

_COARSEST_MM = 4.0
_FINEST_VOXELS = 0.6
_BOX_MM, _BOX_VOXELS = 6.0, 3.0
_ITERATIONS = 30
_STEP_VOXELS = 0.01
_CHI2 = 22.46  # 99.9th percentile with six degrees of freedom
_FEWEST_BOXES = 20
_POINTS = 5000
_DARK_SIGMA = 3.0  # an image below shows no limb
_THICK = 1.5  # of the slice over the pixel: from here on blurring does not replace the prefilter


@dataclass(frozen=True)
class AlignResult:
    """Series in one frame, and how far each image was from it."""

    series: NDArray[np.float32]
    """Shape (x, y, z, n); NaN where a moved image does not reach."""
    translation_mm: Float
    rotation_rad: Float
    """Rotation vectors; with the translation the point x of the reference lies at R x + t."""
    registered: Mask
    """False where an image was left as it is because nothing could be said of its motion."""
    displacement_mm: Float
    """Mean over the limb; 0 where the image was not touched."""
    displacement_se_mm: Float
    """Its standard error; NaN where nothing could be said."""
    reference: int


@dataclass(frozen=True)
class _Level:
    """The reference at one resolution."""

    sigma_mm: float
    blocks: Blocks


@dataclass(frozen=True)
class _Frame:
    """What all images of a series share."""

    voxel_mm: Float
    to_mm: Float
    points_mm: Float
    """Some of the limb's voxels, shape (m, 3)."""
    noise: float
    """Standard deviation in each channel; NaN where unknown."""
    levels: Sequence[_Level]
    mask: Mask

    def smooth(self, image: Float, sigma_mm: float) -> Float:
        return _smooth(_without_floor(image, self.noise), sigma_mm, self.voxel_mm)


def align_series(
    signal: ArrayLike,
    voxel_mm: ArrayLike,
    *,
    reference: int | None = None,
    mask: ArrayLike | None = None,
    n_threads: int = 1,
) -> AlignResult:
    r"""Bring the images of a series into the place of one of them, whatever their contrast.

    In boxes of some millimetres the intensities of two images of different contrast are nearly a
    linear function of one another, so that the motion sought is the one that makes the local
    correlation largest,

    .. math:: \max_{R, t} \sum_{boxes} w_k\,\rho_k^2\big(I_{ref}(x), I(R x + t)\big)

    by Gauss-Newton steps from coarse to fine.

    Parameters
    ----------
    signal : array, shape (x, y, z, n)
        Magnitude images; slices along z.
    voxel_mm : array, shape (3,)
        Size of a voxel (mm).
    reference : int, optional
        The image that stays; the brightest by default.
    mask : bool array, shape (x, y, z), optional
        The limb in the reference; found by default.
    n_threads : int
        Images registered at once.

    Returns
    -------
    AlignResult
        An image is left as it is where its motion is less than `MOVED_VOXELS` or not beyond its
        error, where that error exceeds `UNCERTAIN_VOXELS` (not registered), and where the images
        agree no better after it.

    Notes
    -----
    Standard errors come from how much the boxes disagree on the motion. Each moved image is
    interpolated once, by a cubic spline.

    References
    ----------
    Cachier P, Bardinet E, Dormont D, Pennec X, Ayache N. Comput Vis Image Underst
    2003;89:272-298. (local correlation)
    """
    values = np.asarray(signal, dtype=np.float32)
    size = np.asarray(voxel_mm, dtype=np.float64)
    n = values.shape[-1]
    fixed = _brightest(values) if reference is None else reference
    image = np.nan_to_num(values[..., fixed], posinf=0.0, neginf=0.0)
    inside = limb_mask(image) if mask is None else np.asarray(mask, dtype=np.bool_)
    frame = _frame(image, inside, size)
    rigid, se = np.repeat(np.eye(4)[None], n, axis=0), np.full(n, np.nan)
    registered = np.arange(n) == fixed
    se[fixed] = 0.0

    def estimate(i: int) -> None:
        other = np.nan_to_num(values[..., i][inside])
        dark = np.median(other) < _DARK_SIGMA * frame.noise
        if i != fixed and not dark:
            rigid[i], se[i], registered[i] = _register(frame, values[..., i])

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(estimate, range(n)))
    aligned = values.copy()
    points = grid_points(inside.shape)
    for i in range(n):
        if (rigid[i] != np.eye(4)).any():
            matrix = np.linalg.inv(frame.to_mm) @ rigid[i] @ frame.to_mm
            aligned[..., i] = warp(values[..., i], points, matrix[:3], 3).reshape(inside.shape)
    return AlignResult(
        aligned, rigid[:, :3, 3], rotation_vector(rigid[:, :3, :3]), registered,
        mean_displacement_mm(rigid, np.eye(4), frame.points_mm), se, fixed,
    )  # fmt: skip


def _brightest(values: Float) -> int:
    means = [np.nan_to_num(values[..., i]).mean(dtype=np.float64) for i in range(values.shape[-1])]
    return int(np.argmax(means))


def _frame(image: Float, inside: Mask, size: Float) -> _Frame:
    to_mm = voxel_to_centred_mm(inside.shape, size)
    limb = np.argwhere(inside)
    limb = limb[:: 1 + len(limb) // _POINTS]
    points = limb @ to_mm[:3, :3].T + to_mm[:3, 3]
    noise = sigma_from_background(image, inside)
    near = ndimage.binary_dilation(inside, iterations=2)
    for axis, length in enumerate(inside.shape):
        if length >= 6:
            # outermost slices were smoothed with mirrored data, which does not move along
            ends = np.moveaxis(near, axis, 0)
            ends[0] = ends[-1] = False
    in_plane = float(np.sort(size)[1])
    finest, box = _FINEST_VOXELS * in_plane, max(_BOX_MM, _BOX_VOXELS * in_plane)
    coarsest = max(_COARSEST_MM, 2.5 * finest)
    levels = []
    plain = _without_floor(image, noise)
    for sigma, times in ((coarsest, 4), (np.sqrt(coarsest * finest), 2), (finest, 1)):
        smooth = _smooth(plain, sigma, size, prefilter=False)
        for axis in range(3):
            if size[axis] > _THICK * in_plane:
                continue
            smooth = ndimage.convolve1d(smooth, [1 / 6, 2 / 3, 1 / 6], axis=axis, mode="mirror")
        levels.append(_Level(sigma, Blocks.of(smooth, near, size, to_mm, times * box, sigma)))
    return _Frame(size, to_mm, points, noise, levels, inside)


def _without_floor(image: Float, noise: float) -> Float:
    finite = np.nan_to_num(image, posinf=0.0, neginf=0.0)
    if not np.isfinite(noise):
        return finite
    power = finite * finite - np.float32(2 * noise**2)
    plain: Float = np.sign(power) * np.sqrt(np.abs(power))
    return plain


def _smooth(image: Float, sigma_mm: float, size: Float, *, prefilter: bool = True) -> Float:
    # the spline without its prefilter smooths by 1/3 voxel² already
    sigma = np.sqrt(np.maximum((sigma_mm / size) ** 2 - 1 / 3, 0.0))
    # blurring a stack of few slices along them would leave nothing to hold on to
    sigma = np.minimum(sigma, np.array(image.shape) / 12)
    smooth: Float = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3)
    for axis in range(3):
        thick = size[axis] > _THICK * np.sort(size)[1]
        if prefilter and thick and smooth.shape[axis] > 1:
            smooth = ndimage.spline_filter1d(smooth, 3, axis=axis, output=np.float32, mode="mirror")
    return smooth


def _register(frame: _Frame, image: Float) -> tuple[Float, float, bool]:
    rest: Float = np.eye(4)
    rigid: Float = rest
    for level in frame.levels:
        coefficients = frame.smooth(image, level.sigma_mm)
        rigid, found, settled = _descend(frame, level, coefficients, rigid)
    still = agreement(coefficients, level.blocks, rest, frame.to_mm)
    if len(found.scores) < _FEWEST_BOXES:
        return rest, np.nan, False
    covariance = _covariance(found)
    pose = np.concatenate([rotation_vector(rigid[None, :3, :3])[0], rigid[:3, 3]])
    turns = _derivatives(frame.points_mm)
    spread = np.einsum("pai,ij,paj->pa", turns, covariance, turns)
    se_mm = float(np.sqrt(spread.sum(axis=1).mean()))
    se = np.sqrt((spread / frame.voxel_mm**2).sum(axis=1).mean())
    away = np.linalg.norm(turns @ pose / frame.voxel_mm, axis=-1).mean()
    chi2 = pose @ np.linalg.pinv(covariance) @ pose
    if not (settled and se < UNCERTAIN_VOXELS):
        return rest, se_mm, False
    if away < MOVED_VOXELS or chi2 < _CHI2:
        return rest, se_mm, True
    if found.cost >= still.cost:
        return rest, se_mm, False
    return rigid, se_mm, True


def _derivatives(points_mm: Float) -> Float:
    """Of the displacement of points by rotation and translation, shape (m, 3, 6)."""
    out = np.zeros((len(points_mm), 3, 6))
    for axis, unit in enumerate(np.eye(3)):
        out[:, :, axis] = np.cross(unit, points_mm)
        out[:, :, 3 + axis] = unit
    return out


def _covariance(found: Agreement) -> Float:
    """Of rotation and translation, from how much the boxes disagree (sandwich)."""
    bread = np.linalg.pinv(found.hessian, hermitian=True)
    n = len(found.scores)
    covariance: Float = bread @ (found.scores.T @ found.scores) @ bread * n / (n - 6)
    return covariance


def _descend(
    frame: _Frame, level: _Level, coefficients: Float, rigid: Float
) -> tuple[Float, Agreement, bool]:
    found = agreement(coefficients, level.blocks, rigid, frame.to_mm)
    longest = max(level.sigma_mm, float(frame.voxel_mm.min()))
    settled = False
    for _ in range(_ITERATIONS):
        step = _step(found)
        length = float(np.linalg.norm(_derivatives(frame.points_mm) @ step, axis=-1).mean())
        step *= min(1.0, longest / max(length, 1e-9))
        turn, shift = rotation_matrix(step[:3]), step[3:]
        tried = rigid.copy()
        tried[:3, :3], tried[:3, 3] = turn @ rigid[:3, :3], rigid[:3, 3] + shift
        after = agreement(coefficients, level.blocks, tried, frame.to_mm)
        moved = float(mean_displacement_mm(tried, rigid, frame.points_mm))
        if after.cost > 0.99 * found.cost:
            longest = 0.5 * moved
            settled = moved < 0.05 * frame.voxel_mm.min()
            if settled:
                break
            continue
        rigid, found = tried, after
        longest *= 2.0
        settled = bool(moved < _STEP_VOXELS * frame.voxel_mm.min())
        if settled:
            break
    return rigid, found, settled


def _step(found: Agreement) -> Float:
    size = np.sqrt(np.diag(found.hessian))
    size = np.where(size > 0, size, 1.0)
    scaled = found.hessian / size / size[:, None] + 1e-6 * np.eye(6)
    step: Float = -np.linalg.solve(scaled, found.scores.sum(axis=0) / size) / size
    return step
