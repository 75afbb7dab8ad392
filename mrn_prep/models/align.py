"""Images of one limb, taken one after the other in different contrasts, into one frame."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from mrn_prep.models._align_kernel import Agreement, Boxes, agreement, boxes_of
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.motion import (
    Float,
    Mask,
    mean_displacement_mm,
    rigid_matrix,
    rotation_matrix,
    rotation_vector,
    voxel_to_centred_mm,
)
from mrn_prep.models.noise import sigma_from_background
from mrn_prep.models.resample import grid_points, warp

MOVED_VOXELS = 0.15
"""Mean displacement (voxels) up to which an image stays: interpolation would cost more."""
UNCERTAIN_VOXELS = 0.5
"""Standard error of the displacement (voxels) beyond which it counts as unknown."""

_COARSEST_MM, _FINEST_VOXELS = 4.0, 0.6  # smoothing (SD)
_BOX_MM, _BOX_VOXELS = 6.0, 3.0
_LEVELS = (4, 2, 1)  # size of the boxes at each resolution, relative to the finest
_THICK = 1.5  # relative to the second finest axis
_MARGIN_VOXELS = 2  # of air around the limb, which shows the skin
_ITERATIONS = 30
_STEP_VOXELS = 0.01  # a step shorter than this ends the search
_REST_VOXELS = 0.05  # what is given up once no step helps any more
_WORSE = 0.01  # interpolation noise may seem to spoil the agreement by this part
_CHI2 = 22.46  # exceeded by chance once in 1000, with six degrees of freedom
# Scatter between boxes misses what they all have in common (voxels of three tissues): in
# simulated thighs errors are up to four times what it says
_SYSTEMATIC = 4.0
_FEWEST_BOXES = 20
_SEEN = 0.5  # part of the limb that must be finite
_OFF_VOXELS, _OFF_SHARE = 2.0, 0.67  # so far off, no more than this of the agreement is left
_POINTS = 5000


@dataclass(frozen=True)
class AlignResult:
    """A series in one frame, and where each image was; arrays start with the image."""

    series: NDArray[np.float32]
    """Shape (x, y, z, n); NaN where a moved image did not reach."""
    translation_mm: Float
    """Shape (n, 3), centred image frame; 0 where an image was left as it was."""
    rotation_rad: Float
    """Rotation vectors, shape (n, 3): reference point x lay at R x + t."""
    registered: Mask
    """False where nothing could be told of the motion, and the image is as it was."""
    displacement_mm: Float
    """Mean over the limb, from the reference."""
    reference: int
    """Number of the image that stood still."""

    @property
    def rigid(self) -> Float:
        """Homogeneous matrices from the reference to each image, shape (n, 4, 4)."""
        return rigid_matrix(self.rotation_rad, self.translation_mm)


def align_series(
    signal: ArrayLike,
    voxel_mm: ArrayLike,
    *,
    reference: int | None = None,
    mask: ArrayLike | None = None,
    n_together: int = 1,
    n_threads: int = 1,
) -> AlignResult:
    r"""Bring images of different contrast into the frame of one of them, by rigid motion.

    Maximises the information that two images have of each other in small boxes [1]_, as if
    intensities were jointly normal in each,

    .. math:: -\frac12\sum_b n_b \ln\left(1 - r_b^2\right)

    with the correlation :math:`r_b` of the :math:`n_b` voxels of box b. Only a straight line
    relates the intensities within a box, which may differ in slope and sign from the next:
    contrasts and fields of transmit and receive coils may differ.

    Parameters
    ----------
    signal : array, shape (x, y, z, n)
        Images in one grid (arbitrary units); voxels that are not finite are taken for air.
    voxel_mm : array, shape (3,)
        Edge lengths of a voxel (mm).
    reference : int, optional
        Number of the image that the others are brought to; by default the one that lies
        nearest to where all lay.
    mask : bool array, shape (x, y, z), optional
        The limb, in the frame of the reference; found in it by default.
    n_together : int
        So many images in a row were taken at the same time (the echoes of one excitation):
        they move as one, as their mean is registered.
    n_threads : int
        Threads in which images are registered side by side.

    Returns
    -------
    AlignResult
        An image stays bitwise as it was if it has not moved: by no more than
        `MOVED_VOXELS`, or by no more than the boxes disagree. It also stays, and is not
        `registered`, if its displacement is uncertain by more than `UNCERTAIN_VOXELS`, if
        moving it does not raise the agreement, if the agreement hardly falls two voxels
        beside the optimum, or if it is empty.

    Raises
    ------
    ValueError
        If shapes disagree, a voxel has no size, there is no such reference, or images are left
        over when n_together are taken at a time.

    Notes
    -----
    Boxes of 24, 12 and 6 mm on images smoothed by 4 mm to 0.6 voxels; 8 mm and 8 degrees are
    found. Gauss-Newton steps take the derivatives from the reference: those of the image
    share its noise and draw towards half voxels. The noise floor is removed by
    :math:`\sqrt{S^2 - 2\sigma^2}` where the air tells :math:`\sigma`; it would shift the skin.

    Whether an image has moved is a Wald test with the covariance :math:`H^{-1} \left(\sum_b
    s_b s_b^\top\right) H^{-1}` of the scores :math:`s_b` of the boxes [2]_, enlarged for what
    boxes have in common. The test needs no interpolated image, whose smoothness alone would
    seem an improvement.

    Moved images are interpolated once, by cubic B-splines. What came from outside the field
    of view is NaN, lest a fit take it for signal.

    References
    ----------
    .. [1] Avants BB, Epstein CL, Grossman M, Gee JC. Med Image Anal 2008;12:26-41.
       doi:10.1016/j.media.2007.06.004 (correlation in neighbourhoods)
    .. [2] Liang KY, Zeger SL. Biometrika 1986;73:13-22. doi:10.1093/biomet/73.1.13

    Examples
    --------
    Of three images with opposite contrasts, the second lay a voxel further along x:

    >>> rng = np.random.default_rng(0)
    >>> tissue = ndimage.gaussian_filter(rng.normal(size=(41, 40, 8)), (2, 2, 1)) + 1
    >>> images = [9 * tissue[1:], 20 - 7 * tissue[:-1], 5 - 3 * tissue[1:]]
    >>> series = np.stack(images, axis=-1) + rng.normal(0, 0.05, (40, 40, 8, 3))
    >>> found = align_series(series, (2, 2, 4), reference=0, mask=np.ones((40, 40, 8)))
    >>> (found.translation_mm.round(1) + 0.0).tolist()
    [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    >>> bool(np.isnan(found.series[-1, ..., 1]).all()), bool(found.registered.all())
    (True, True)
    """
    values = np.asarray(signal, dtype=np.float32)
    size = np.asarray(voxel_mm, dtype=np.float64)
    _check(values, size, reference, mask, n_together)
    shown = values
    if n_together > 1:
        shown = values.reshape(*values.shape[:3], -1, n_together).mean(axis=-1)
    fixed = _brightest(shown) if reference is None else reference % values.shape[-1] // n_together
    if mask is None:
        inside = limb_mask(_finite(shown[..., fixed]))
    else:
        inside = np.asarray(mask, dtype=np.bool_)
    rigid, registered = _places(shown, fixed, inside, size, n_threads)
    to_mm = voxel_to_centred_mm(inside.shape, size)
    if reference is None:
        rigid, fixed = _to_the_middle(rigid, registered, fixed, _some_points(inside, to_mm), size)
    rigid, registered = rigid.repeat(n_together, axis=0), registered.repeat(n_together)
    return AlignResult(
        series=_moved(values, rigid, to_mm),
        translation_mm=rigid[:, :3, 3].copy(),
        rotation_rad=rotation_vector(rigid[:, :3, :3]),
        registered=registered,
        displacement_mm=mean_displacement_mm(rigid, np.eye(4), _some_points(inside, to_mm)),
        reference=fixed * n_together,
    )


def _places(
    values: Float, fixed: int, inside: Mask, size: Float, n_threads: int
) -> tuple[Float, Mask]:
    """Find the transforms from the reference to each image, and whether to trust them."""
    n = values.shape[-1]
    rigid, registered = np.repeat(np.eye(4)[None], n, axis=0), np.arange(n) == fixed
    if not inside.any():
        return rigid, registered
    search = _Search(_finite(values[..., fixed]), inside, size)

    def register(i: int) -> None:
        if i != fixed:
            rigid[i], registered[i] = search.register(values[..., i])

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(register, range(n)))
    return rigid, registered


def _to_the_middle(
    rigid: Float, registered: Mask, fixed: int, points_mm: Float, size: Float
) -> tuple[Float, int]:
    """Make the image that lies nearest to the others the reference, where it is not yet.

    The limb lay there for most of the time, and so do maps and regions of other series.
    """
    apart = np.stack([mean_displacement_mm(rigid, one, points_mm) for one in rigid])
    apart = np.where(registered, apart, 0.0).sum(axis=1)
    middle = int(np.argmin(np.where(registered, apart, np.inf)))
    still = MOVED_VOXELS * float(size.min())
    if apart[fixed] - apart[middle] <= still:
        return rigid, fixed
    centred = rigid @ np.linalg.inv(rigid[middle])
    stays = ~registered | (mean_displacement_mm(centred, np.eye(4), points_mm) <= still)
    centred[stays] = np.eye(4)
    return centred, middle


def _check(
    values: Float, size: Float, reference: int | None, mask: ArrayLike | None, n_together: int
) -> None:
    if values.ndim != 4 or 0 in values.shape:
        raise ValueError(f"signal has shape {values.shape}; (x, y, z, n) is wanted.")
    if size.shape != (3,) or not (size > 0).all():
        raise ValueError(f"voxel_mm is {size.tolist()}; three positive lengths are wanted.")
    if mask is not None and np.shape(mask) != values.shape[:3]:
        raise ValueError(f"mask {np.shape(mask)} must have the images' shape {values.shape[:3]}.")
    n = values.shape[-1]
    if reference is not None and not -n <= reference < n:
        raise ValueError(f"reference is {reference}, but there are {n} images.")
    if n_together < 1 or n % n_together:
        raise ValueError(f"{n} images cannot be taken {n_together} at a time.")


def _brightest(values: Float) -> int:
    means = [np.mean(_finite(values[..., i]), dtype=np.float64) for i in range(values.shape[-1])]
    return int(np.argmax(means))


def _finite(image: Float) -> Float:
    finite: Float = np.nan_to_num(image, posinf=0.0, neginf=0.0)
    return finite


def _some_points(inside: Mask, to_mm: Float) -> Float:
    """Positions of some of the limb's voxels (the centre if there is none)."""
    listed = np.argwhere(inside)
    if not len(listed):
        return np.zeros((1, 3))
    points: Float = listed[:: 1 + len(listed) // _POINTS] @ to_mm[:3, :3].T + to_mm[:3, 3]
    return points


def _moved(values: Float, rigid: Float, to_mm: Float) -> NDArray[np.float32]:
    """Bring images back from where `rigid` had taken them."""
    series = values.copy()
    moved = np.flatnonzero((rigid != np.eye(4)).any(axis=(1, 2)))
    points = grid_points(values.shape[:3] if len(moved) else (0, 0, 0))
    for i in moved:
        matrix = np.linalg.inv(to_mm) @ rigid[i] @ to_mm
        series[..., i] = warp(values[..., i], points, matrix[:3], 3).reshape(values.shape[:3])
    return series


@dataclass(frozen=True)
class _Level:
    """The reference at one resolution."""

    sigma_mm: float
    boxes: Boxes


@dataclass(frozen=True)
class _Optimum:
    """Where the search at one resolution has ended."""

    rigid: Float
    agreement: Agreement
    settled: bool


class _Search:
    """Rigid registration of images to one reference."""

    def __init__(self, image: Float, inside: Mask, voxel_mm: Float) -> None:
        self.voxel_mm, self.inside = voxel_mm, inside
        self.to_mm = voxel_to_centred_mm(inside.shape, voxel_mm)
        self.points_mm = _some_points(inside, self.to_mm)
        self.derivatives = _derivatives(self.points_mm)
        self.noise = sigma_from_background(image, inside)
        near = ndimage.binary_dilation(inside, iterations=_MARGIN_VOXELS)
        for axis, length in enumerate(inside.shape):
            if length >= 6:
                # outermost slices were smoothed with mirrored data, which does not move along
                ends = np.moveaxis(near, axis, 0)
                ends[0] = ends[-1] = False
        self.coarse = _coarse_axes(image, near, voxel_mm)
        in_plane = float(np.sort(voxel_mm)[1])
        finest, box = _FINEST_VOXELS * in_plane, max(_BOX_MM, _BOX_VOXELS * in_plane)
        coarsest = max(_COARSEST_MM, 2.5 * finest)
        plain = self._without_floor(image)
        self.levels: Sequence[_Level] = [
            _Level(sigma, self._boxes(plain, near, sigma, times * box))
            for times, sigma in zip(_LEVELS, np.geomspace(coarsest, finest, 3), strict=True)
        ]

    def _boxes(self, plain: Float, near: Mask, sigma_mm: float, size_mm: float) -> Boxes:
        smooth = self._smooth(plain, sigma_mm)
        for axis in set(range(3)) - self.coarse:  # as the spline will see the other images
            smooth = ndimage.convolve1d(smooth, [1 / 6, 2 / 3, 1 / 6], axis=axis, mode="mirror")
        return boxes_of(smooth, near, self.voxel_mm, self.to_mm, size_mm, sigma_mm)

    def _without_floor(self, image: Float) -> Float:
        if not np.isfinite(self.noise) or image.min() < 0:
            return image  # blanked air, or an image that carries its sign
        power = image * image - np.float32(2 * self.noise**2)
        plain: Float = np.sign(power) * np.sqrt(np.abs(power))
        return plain

    def _smooth(self, image: Float, sigma_mm: float) -> Float:
        # the spline without its prefilter smooths by 1/3 voxel² already
        sigma = np.sqrt(np.maximum((sigma_mm / self.voxel_mm) ** 2 - 1 / 3, 0.0))
        # blurring a stack of few slices along them would leave nothing to hold on to
        sigma = np.minimum(sigma, np.array(image.shape) / 12)
        smooth: Float = ndimage.gaussian_filter(image, sigma, mode="nearest", truncate=3)
        return smooth

    def register(self, image: Float) -> tuple[Float, bool]:
        """Find the transform from the reference to an image, and whether it can be trusted."""
        rest: Float = np.eye(4)
        if np.isfinite(image[self.inside]).mean() < _SEEN:
            return rest, False
        plain = self._without_floor(_finite(image))
        rigid = rest
        for level in self.levels:
            smooth = self._smooth(plain, level.sigma_mm)
            for axis in self.coarse:
                smooth = ndimage.spline_filter1d(smooth, 3, axis, np.float32, mode="mirror")
            found = self._descend(smooth, level, rigid)
            rigid = found.rigid
        if not (found.settled and len(found.agreement.scores) >= _FEWEST_BOXES):
            return rest, False
        covariance = _SYSTEMATIC**2 * found.agreement.covariance()
        spread = np.einsum("pai,ij,paj->pa", self.derivatives, covariance, self.derivatives)
        uncertain = np.sqrt((spread / self.voxel_mm**2).sum(axis=1).mean())
        if not (uncertain < UNCERTAIN_VOXELS and self._is_sharp(smooth, level, found)):
            return rest, False
        pose = np.append(rotation_vector(rigid[None, :3, :3])[0], rigid[:3, 3])
        moved = np.linalg.norm(self.derivatives @ pose / self.voxel_mm, axis=-1).mean()
        chi2 = pose @ np.linalg.pinv(covariance, hermitian=True) @ pose
        if moved <= MOVED_VOXELS or chi2 <= _CHI2:
            return rest, True
        still = agreement(smooth, level.boxes, rest, self.to_mm)
        better = found.agreement.information > still.information
        return (rigid, True) if better else (rest, False)

    def _descend(self, smooth: Float, level: _Level, rigid: Float) -> _Optimum:
        """Gauss-Newton steps, shortened where they do not help."""
        found = agreement(smooth, level.boxes, rigid, self.to_mm)
        finest = float(self.voxel_mm.min())
        longest = max(level.sigma_mm, finest)
        for _ in range(_ITERATIONS):
            step = found.step()
            length = np.linalg.norm(self.derivatives @ step, axis=-1).mean()
            step *= min(1.0, longest / max(length, 1e-9))
            tried = rigid.copy()
            tried[:3, :3] = rotation_matrix(step[:3]) @ rigid[:3, :3]
            tried[:3, 3] += step[3:]
            moved = float(mean_displacement_mm(tried, rigid, self.points_mm))
            after = agreement(smooth, level.boxes, tried, self.to_mm)
            if after.information < (1 - _WORSE) * found.information:
                longest = 0.5 * moved
                if moved < _REST_VOXELS * finest:
                    return _Optimum(rigid, found, True)
                continue
            rigid, found, longest = tried, after, 2 * longest
            if moved < _STEP_VOXELS * finest:
                return _Optimum(rigid, found, True)
        return _Optimum(rigid, found, False)

    def _is_sharp(self, smooth: Float, level: _Level, found: _Optimum) -> bool:
        """Whether the agreement falls to both sides along the two axes that are seen best.

        It does not where a search has gone astray, or where there is only noise.
        """
        best = found.agreement
        axes = np.linalg.eigh(best.hessian[3:, 3:]).eigenvectors[:, 1:]
        off = _OFF_VOXELS * np.sort(self.voxel_mm)[1] * axes.T
        for shift in (*off, *-off):
            beside = found.rigid.copy()
            beside[:3, 3] += shift
            there = agreement(smooth, level.boxes, beside, self.to_mm)
            if there.information > _OFF_SHARE * best.information:
                return False
        return True


def _coarse_axes(image: Float, near: Mask, voxel_mm: Float) -> set[int]:
    """Axes with slices so thick that neighbours differ more than along the finest axis.

    There, smoothing would mix tissues. Along a limb slices may be thick and do not.
    """
    change = np.zeros(3)
    for axis in range(3):
        values, inside = np.moveaxis(image, axis, 0), np.moveaxis(near, axis, 0)
        both = inside[1:] & inside[:-1]
        change[axis] = np.mean((values[1:] - values[:-1])[both] ** 2) if both.any() else 0.0
    order = np.argsort(voxel_mm, kind="stable")
    thick = voxel_mm > _THICK * voxel_mm[order[1]]
    return set(np.flatnonzero(thick & (change > change[order[0]])).tolist())


def _derivatives(points_mm: Float) -> Float:
    """Differentiate the displacement of points by rotation and translation, (m, 3, 6)."""
    derivatives = np.zeros((len(points_mm), 3, 6))
    for axis, unit in enumerate(np.eye(3)):
        derivatives[:, :, axis] = np.cross(unit, points_mm)
        derivatives[:, :, 3 + axis] = unit
    return derivatives
