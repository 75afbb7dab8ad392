"""Diffusion-weighted images with phase: the real part, whose noise is Gaussian."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

SMOOTHING_VOXELS = 2.5
"""Standard deviation of the filter that tells the background phase (voxels)."""


def real_part(
    magnitude: ArrayLike, phase_rad: ArrayLike, smoothing_voxels: float = SMOOTHING_VOXELS
) -> NDArray[np.float32]:
    r"""Signal of complex images freed of their smooth phase.

    .. math:: S = \mathrm{Re}\left(z\, e^{-i \arg (g * z)}\right),\quad z = m\, e^{i\varphi}

    with a Gaussian g within each slice of each volume [1]_, its centre left out. Motion under
    diffusion gradients and the field give each image a phase of its own, which is smooth; tissue
    has none left. What is left is signal with Gaussian noise of mean zero, without the floor of
    magnitudes.

    Parameters
    ----------
    magnitude : array, shape (x, y, z, n)
        Images (arbitrary units); slices along z. What is not finite counts as 0.
    phase_rad : array, shape (x, y, z, n)
        Their phase (rad).
    smoothing_voxels : float
        Standard deviation of g (voxels).

    Returns
    -------
    array, shape (x, y, z, n)
        Real signal, negative where noise has it so, in the unit of `magnitude`.

    Raises
    ------
    ValueError
        If the shapes differ, or the filter has no width.

    Notes
    -----
    Were the voxel itself in g, its own noise would be in the phase it is freed of, which leaves
    a quarter of the floor of magnitudes. A phase that turns within the filter's width loses
    signal; nothing is lost to a slope, along which the filter is symmetric.

    References
    ----------
    .. [1] Eichner C, Cauley SF, Cohen-Adad J, et al. NeuroImage 2015;122:373-384.
       doi:10.1016/j.neuroimage.2015.07.074

    Examples
    --------
    Magnitudes of noise alone have a mean of 1.25 sigma; the real part has hardly any:

    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(64, 64, 4, 1)) + 1j * rng.normal(size=(64, 64, 4, 1))
    >>> bool(np.abs(noise).mean() > 1.2)
    True
    >>> bool(abs(real_part(np.abs(noise), np.angle(noise)).mean()) < 0.03)
    True
    """
    values, angle = np.asarray(magnitude), np.asarray(phase_rad)
    if values.ndim != 4 or values.shape != angle.shape:
        raise ValueError(
            f"magnitude {values.shape} and phase {angle.shape} must have one shape (x, y, z, n)."
        )
    if not smoothing_voxels > 0:
        raise ValueError(f"The filter's width must be positive (voxels), got {smoothing_voxels}.")
    result = np.empty(values.shape, dtype=np.float32)
    width = (smoothing_voxels, smoothing_voxels, 0)
    point = np.zeros(2 * [2 * int(5 * smoothing_voxels) + 3])
    point[tuple(n // 2 for n in point.shape)] = 1
    own = gaussian_filter(point, smoothing_voxels).max()
    for i in range(values.shape[-1]):
        image = values[..., i] * np.exp(1j * angle[..., i])
        image[~np.isfinite(image)] = 0
        # nothing beyond the edge: reflected there, a voxel would be among its own neighbours
        smooth = gaussian_filter(image.real, width, mode="constant").astype(np.complex128)
        smooth.imag = gaussian_filter(image.imag, width, mode="constant")
        smooth -= own * image
        size = np.abs(smooth)
        turn = np.divide(smooth.conj(), size, out=np.ones_like(smooth), where=size > 0)
        result[..., i] = (image * turn).real
    return result
