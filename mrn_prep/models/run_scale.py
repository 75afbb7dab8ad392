"""The scale of one run of a series relative to another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating]


def relative_scale(image: Float, reference: Float, mask: NDArray[np.bool_]) -> float:
    r"""Return what one image must be divided by to have the other's scale.

    .. math:: s = \mathrm{median}_v\, I_v / R_v

    Parameters
    ----------
    image, reference : array, shape (...)
        The same tissue with the same weighting, such as mean unweighted volumes of two runs.
    mask : bool array, shape (...)
        The limb; voxels without signal in either do not count.

    Returns
    -------
    float
        NaN where no voxel counts. The median hardly minds that the limb has moved in between.

    Examples
    --------
    >>> reference = np.array([10.0, 20.0, 0.0, 40.0])
    >>> relative_scale(1.5 * reference, reference, np.ones(4, bool))
    1.5
    """
    if image.shape != reference.shape or image.shape != mask.shape:
        raise ValueError(
            f"image {image.shape}, reference {reference.shape} and mask {mask.shape} must agree."
        )
    counts = mask & (image > 0) & (reference > 0)
    if not counts.any():
        return float("nan")
    return float(np.median(image[counts] / reference[counts]))
