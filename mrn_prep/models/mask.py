"""Where the limb is."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_erosion, binary_fill_holes, label, uniform_filter1d

_LARGE = 0.05  # of the largest component
_BINS = 256
_CLIP_PERCENTILE = 99.0


def limb_mask(image: ArrayLike) -> NDArray[np.bool_]:
    """Find the limbs: bright components, however many, without holes.

    Parameters
    ----------
    image : array, shape (nx, ny, nz) or (nx, ny, nz, n)
        Magnitude image, slices along the third axis; a series is averaged first.

    Returns
    -------
    bool array, shape (nx, ny, nz)
        Empty where the image has no contrast at all.

    Raises
    ------
    ValueError
        If the image has neither three nor four axes.

    Notes
    -----
    The threshold is half of Otsu's [1]_ on the image averaged over 3 x 3 voxels, so that
    muscle, darker than fat and marrow, stays inside. Every component of at least a
    twentieth of the largest is kept (the other leg must not be lost) and holes are filled
    slice by slice (the cortex of a bone is dark).

    References
    ----------
    .. [1] Otsu N. IEEE Trans Syst Man Cybern 1979;9:62-66. doi:10.1109/TSMC.1979.4310076

    Examples
    --------
    >>> image = np.zeros((20, 9, 3))
    >>> image[1:8, 2:7], image[12:19, 2:7] = 100.0, 60.0
    >>> image[4, 4] = 0.0
    >>> mask = limb_mask(image)
    >>> bool(mask[1:8, 2:7].all() and mask[12:19, 2:7].all()), bool(mask[9:11].any())
    (True, False)
    """
    values = np.asarray(image, dtype=np.float64)
    if values.ndim not in (3, 4):
        raise ValueError(f"A limb mask needs a 3D image or a 4D series, got {values.shape}.")
    if values.ndim == 4:
        values = values.mean(axis=-1)
    raw = values = np.where(np.isfinite(values), values, 0.0)
    for axis in (0, 1):
        values = uniform_filter1d(values, 3, axis=axis)
    # a few very bright voxels (vessels, fat by the coil) must not pull the threshold up
    values = np.minimum(values, np.percentile(values, _CLIP_PERCENTILE))
    threshold = 0.5 * _otsu(values)
    bright: NDArray[np.bool_] = values > threshold
    components, n = label(bright)
    if not n:
        return bright
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    large = sizes >= _LARGE * sizes.max()
    mask: NDArray[np.bool_] = large[components]
    for z in range(mask.shape[2]):
        mask[..., z] = binary_fill_holes(mask[..., z])
    # the average reaches one voxel into the air; a dim rim of muscle stays
    rim = mask & ~binary_erosion(mask, np.ones((3, 3, 1), dtype=np.bool_))
    return mask & ~(rim & (raw <= 0.4 * threshold))


def _otsu(image: NDArray[np.float64]) -> float:
    """Return the threshold that separates two classes best; the maximum if there is one only."""
    if image.min() == image.max():
        return float(2 * np.abs(image.max()))
    counts, edges = np.histogram(image, _BINS)
    centres = 0.5 * (edges[1:] + edges[:-1])
    below, total = np.cumsum(counts)[:-1], counts.sum()
    sums = np.cumsum(counts * centres)
    means_below = sums[:-1] / below
    means_above = (sums[-1] - sums[:-1]) / (total - below)
    between = below * (total - below) * (means_above - means_below) ** 2
    return float(edges[1 + int(between.argmax())])
