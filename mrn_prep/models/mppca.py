"""Denoising by Marchenko-Pastur PCA, and the covariance of the noise it leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models._mppca_kernel import bases, denoise_columns
from mrn_prep.models.retained import RetainedNoise

Float = NDArray[np.floating]
Int = NDArray[np.intp]
Bool = NDArray[np.bool_]

MIN_VOLUMES = 5
"""With fewer volumes there is no noise spectrum to tell from the signal's."""

_MAX_STORED = 12  # components described by `retained_noise`; beyond, noise counts as unreduced


@dataclass(frozen=True)
class MPPCAResult:
    """What `denoise_mppca` returns; maps have shape (x, y, z) and are NaN outside the mask."""

    denoised: NDArray[np.float32]
    """Series, shape (x, y, z, n); outside the mask it is the input."""
    sigma: Float
    """Standard deviation of the noise in the input, in its unit."""
    n_components: Float
    """Components kept, averaged over the patches that hold the voxel."""
    noise_fraction: Float
    """Variance of the noise left in the directions that were not kept, over sigma²."""


def denoise_mppca(
    series: Float, mask: Bool | None = None, patch: int = 5, stride: int = 2
) -> MPPCAResult:
    r"""Denoise a series by local PCA with the Marchenko-Pastur threshold.

    The M voxels of a patch times N volumes are projected on their p leading
    components. Noise of variance :math:`\sigma^2` alone has eigenvalues over a
    range of :math:`4\sigma^2\sqrt{(M-p)(N-p)}`, and p is the smallest number that
    leaves no more than that:

    .. math:: \lambda_{p+1} - \lambda_{\min(M,N)} < 4\hat\sigma_p^2\sqrt{(M-p)(N-p)},\quad
              \hat\sigma_p^2 = \frac{\sum_{i>p} \lambda_i}{(M-p)(N-p)}.

    Patches overlap, and a voxel is the average of its patches, weighted by
    :math:`p^{-3}`: where fewer components suffice less noise was kept.

    Parameters
    ----------
    series : array, shape (x, y, z, n)
        Real series of at least five volumes. Voxels that are not finite, or
        zero in every volume, are passed through and do not enter any patch.
    mask : bool array, shape (x, y, z), optional
        Voxels to denoise; only these enter the patches (air has another noise).
    patch : int
        Extent of a patch (voxels). It is cut to the extent of the volume, then
        enlarged along the shortest sides until M is at least n.
    stride : int
        Step from one patch to the next (voxels); the last one is moved inward, and
        every other layer is shifted by half a step.

    Returns
    -------
    MPPCAResult
        Independent of the number of threads. In the mask, finite input gives finite
        output: a voxel without enough neighbours keeps its value, and its noise
        (``n_components`` n, ``noise_fraction`` 1, the median sigma).

    Raises
    ------
    ValueError
        If the series is not 4D, has fewer than five volumes, the mask has another
        shape, or the stride would leave gaps.

    Notes
    -----
    The mean is not subtracted, and at least one component is kept. Subtracting it
    would average the overall signal of patches that look homogeneous, and with it
    true changes of S0 of up to about 2 %.

    To first order the projections on volumes (V) and voxels (U) leave, in voxel m,
    noise of covariance :math:`\sigma^2[P_V + (P_U)_{mm}(I - P_V)]`: along the signal
    nothing is removed, so that S0 is hardly less noisy than before.
    ``noise_fraction`` is the mean :math:`(P_U)_{mm}`, times what averaging patches
    adds for a uniform U. `retained_noise` finds :math:`P_V` again. Neither knows of
    changes in the tissue too weak to be kept: their loss is a bias.

    A complex series is given as its real and imaginary parts, 2n volumes. What is p
    components of complex numbers is 2p of real ones at most, in twice as many volumes:
    to first order the same noise is left, and less where phase hardly varies over a patch.

    References
    ----------
    Veraart J, Novikov DS, Christiaens D, Ades-aron B, Sijbers J, Fieremans E.
    NeuroImage 2016;142:394-406. doi:10.1016/j.neuroimage.2016.08.016
    Cordero-Grande L, Christiaens D, Hutter J, Price AN, Hajnal JV. NeuroImage
    2019;200:391-404. doi:10.1016/j.neuroimage.2019.06.039 (degrees of freedom)

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> truth = np.full((8, 8, 8, 20), 100.0) * np.exp(-np.arange(20) / 10)
    >>> result = denoise_mppca(truth + rng.normal(size=truth.shape))
    >>> bool(abs(result.sigma.mean() - 1) < 0.01)
    True
    >>> bool(np.std(result.denoised - truth) < 0.3)
    True
    """
    volumes = np.ascontiguousarray(series, dtype=np.float32)
    inside, usable = _checked(volumes, mask, patch, stride)
    grid, n = volumes.shape[:3], volumes.shape[3]
    size = _patch_size(grid, n, patch)
    layers = _layers(grid, size, stride)
    total = np.zeros((*grid, n), np.float32)
    sums = np.zeros((*grid, 4), np.float32)
    for *in_plane, zs in layers:
        for xs, ys in _separate_columns(in_plane, size):
            denoise_columns(volumes, usable, xs, ys, zs, np.array(size), total, sums)
    done = sums[..., 0] > 0
    weight = np.where(done, sums[..., 0], 1)
    variance, kept, leverage = (sums[..., k] / weight for k in (1, 2, 3))
    sigma = np.sqrt(variance)
    typical = float(np.median(sigma[done])) if done.any() else np.nan
    left = inside & ~done

    def volume(values: Float, where_left: float) -> Float:
        return np.where(done, values, np.where(left, where_left, np.nan))

    total /= weight[..., np.newaxis].astype(np.float32)
    total[~done] = volumes[~done]
    return MPPCAResult(
        denoised=total,
        sigma=volume(sigma, typical),
        n_components=volume(kept, n),
        noise_fraction=volume(leverage * _gain_of_overlap(layers, grid, size), 1.0),
    )


def retained_noise(
    denoised: Float,
    n_components: Float,
    noise_fraction: Float,
    mask: Bool | None = None,
    patch: int = 5,
    stride: int = 2,
    wanted: Bool | None = None,
) -> RetainedNoise:
    r"""Describe the noise left in a denoised series, for standard errors.

    The kept directions are the leading components of the denoised series around the
    voxel, as many as `n_components` says; a component that only a part g of the
    patches kept carries :math:`g^2` of the noise. Working from the series itself,
    this holds after resampling too, provided that the two maps were resampled with it.

    Parameters
    ----------
    denoised : array, shape (x, y, z, n)
        Denoised series, as it will be fitted.
    n_components, noise_fraction : array, shape (x, y, z)
        From `denoise_mppca`; NaN outside the mask.
    mask : bool array, shape (x, y, z), optional
        Voxels that enter the patches.
    patch, stride : int
        As they were for denoising (voxels).
    wanted : bool array, shape (x, y, z), optional
        Voxels to describe; those of the mask by default.

    Returns
    -------
    RetainedNoise
        Where more than twelve components were kept, noise counts as not reduced.

    Raises
    ------
    ValueError
        As `denoise_mppca`, or if the maps have another shape.

    Examples
    --------
    One component and no noise outside it: all noise lies along the signal.

    >>> s = np.ones((5, 5, 5, 1)) * np.array([3.0, 4.0, 0.0, 0.0, 0.0])
    >>> left = retained_noise(s, np.ones((5, 5, 5)), np.zeros((5, 5, 5)))
    >>> np.abs(left.basis[left.patch[2, 2, 2], 0]).astype(float).round(3).tolist()
    [0.6, 0.8, 0.0, 0.0, 0.0]
    """
    volumes = np.ascontiguousarray(denoised, dtype=np.float32)
    _, usable = _checked(volumes, mask, patch, stride)
    grid, n = volumes.shape[:3], volumes.shape[3]
    kept, fraction = np.asarray(n_components, float), np.asarray(noise_fraction, float)
    if kept.shape != grid or fraction.shape != grid:
        raise ValueError(f"n_components {kept.shape} and noise_fraction {fraction.shape}: {grid}.")
    known = usable & np.isfinite(fraction) & (kept <= _MAX_STORED)
    kept, fraction = np.where(known, kept, 0.0), np.where(known, fraction, 1.0)
    size = np.array(_patch_size(grid, n, patch))
    # cells of `stride` voxels, each described by the patch around its centre
    cells = [np.arange(0, extent, stride) for extent in grid]
    centres = np.stack(np.meshgrid(*cells, indexing="ij"), axis=-1).reshape(-1, 3) + stride // 2
    corners = np.clip(centres - size // 2, 0, np.array(grid) - size)
    number = np.arange(len(corners)).reshape([c.size for c in cells])
    nearest = number[np.ix_(*[np.arange(extent) // stride for extent in grid])]
    described = known if wanted is None else known & wanted
    chosen = np.unique(nearest[described])
    place = np.zeros(len(corners), np.intp)
    place[chosen] = np.arange(chosen.size)
    stored = int(np.ceil(kept[described].max(initial=0)))
    basis = np.zeros((max(1, chosen.size), stored, n), np.float32)  # one for all the others
    bases(volumes, known, corners[chosen], size, kept, basis)
    return RetainedNoise(fraction, kept, basis, place[nearest])


def patch_reach(grid: tuple[int, ...], n: int, patch: int = 5, stride: int = 2) -> int:
    """Return how far (slices, a multiple of the stride) a voxel's patch reaches at most."""
    along = _patch_size(grid, n, patch)[2] + stride
    return -(-along // stride) * stride


def _checked(
    volumes: NDArray[np.float32], mask: Bool | None, patch: int, stride: int
) -> tuple[Bool, Bool]:
    """Return the mask and its usable voxels; raise on what cannot be denoised."""
    if volumes.ndim != 4 or volumes.shape[3] < MIN_VOLUMES:
        raise ValueError(
            f"MP-PCA needs a series (x, y, z, n) of {MIN_VOLUMES} volumes or more, "
            f"got {volumes.shape}."
        )
    inside = np.ones(volumes.shape[:3], bool) if mask is None else np.asarray(mask, bool)
    if inside.shape != volumes.shape[:3]:
        raise ValueError(f"mask {inside.shape} and series {volumes.shape} differ in shape.")
    if not 1 <= stride <= patch:
        raise ValueError(f"A stride of {stride} leaves gaps between patches of {patch}.")
    usable = inside.copy()
    for x, plane in enumerate(volumes):  # truth values of the whole series would take room
        usable[x] &= np.isfinite(plane).all(axis=-1) & (plane != 0).any(axis=-1)
    return inside, usable


def _patch_size(grid: tuple[int, ...], n: int, patch: int) -> tuple[int, ...]:
    """Extents of a patch: within the volume, and with n voxels or more if possible."""
    size = [min(patch, extent) for extent in grid]
    while np.prod(size) < n and size != list(grid):
        room = [np.inf if s == e else s for s, e in zip(size, grid, strict=True)]
        axis = int(np.argmin(room))
        size[axis] = min(size[axis] + 2, grid[axis])
    return tuple(size)


def _layers(grid: tuple[int, ...], size: tuple[int, ...], stride: int) -> list[list[Int]]:
    """Return first voxels of the patches along x, y and z: of every other layer, and the rest.

    The second set is shifted by half a step in the plane. More voxels then lie at the border
    of some patch, which may hold one tissue only where the others hold two.
    """
    last = [extent - width for extent, width in zip(grid, size, strict=True)]

    def starts(axis: int, first: int) -> Int:
        within = range(first, last[axis], stride)
        return np.array(sorted({0, *within, last[axis]}), dtype=np.intp)

    zs = starts(2, 0)
    return [[starts(0, k * stride // 2), starts(1, k * stride // 2), zs[k::2]] for k in (0, 1)]


def _separate_columns(axes: list[Int], size: tuple[int, ...]) -> Iterator[tuple[Int, Int]]:
    """Yield sets of patch columns that share no voxel, so that threads never collide."""
    groups: list[list[list[int]]] = [[], []]
    for sets, starts, width in zip(groups, axes, size, strict=False):
        for start in starts.tolist():
            fitting = next((g for g in sets if start - g[-1] >= width), None)
            if fitting is None:
                sets.append([start])
            else:
                fitting.append(start)
    for x_set in groups[0]:
        for y_set in groups[1]:
            xs, ys = np.meshgrid(np.array(x_set), np.array(y_set), indexing="ij")
            yield xs.ravel(), ys.ravel()


def _gain_of_overlap(
    layers: list[list[Int]], grid: tuple[int, ...], size: tuple[int, ...]
) -> Float:
    """Variance of the average over patches, each a plain mean, relative to one patch."""
    shared = []  # patches that hold both of two voxels, along each axis
    for axes in layers:
        shared.append([np.zeros((extent, extent)) for extent in grid])
        for both, starts, width in zip(shared[-1], axes, size, strict=True):
            for start in starts:
                both[start : start + width, start : start + width] += 1

    patches, squares = np.zeros(grid), np.zeros(grid)
    for one in shared:
        patches += np.einsum("x,y,z->xyz", *map(np.diag, one))
    for one, other in product(shared, repeat=2):
        rows = [(a * b).sum(axis=1) for a, b in zip(one, other, strict=True)]
        squares += np.einsum("x,y,z->xyz", *rows)
    gain: Float = squares / (np.prod(size) * patches**2)
    return gain
