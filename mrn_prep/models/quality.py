"""Numbers on the quality of a series, one dictionary per series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.status import Reason


def series_quality(
    signal: NDArray[np.floating],
    mask: NDArray[np.bool_],
    sigma: float,
    status: NDArray[np.uint8],
) -> dict[str, float]:
    """Return noise, SNR of the strongest image and the fitted part of the limb.

    Parameters
    ----------
    signal : array, shape (x, y, z, n)
        The series.
    mask : bool array, shape (x, y, z)
        The limb.
    sigma
        Standard deviation of the noise (NaN where unknown).
    status : array, shape (x, y, z)
        `Reason` of each voxel.
    """
    # image by image, lest the series be held twice; of a moved one not all is known
    inside = (signal[..., i][mask] for i in range(signal.shape[-1]))
    known = (values[np.isfinite(values)] for values in inside)
    strongest = max((np.median(values) for values in known if values.size), default=np.nan)
    return {
        "noise_sigma": float(sigma),
        "snr": float(strongest / sigma) if sigma > 0 else np.nan,
        "fitted_fraction": float((status[mask] == Reason.FITTED).mean()) if mask.any() else np.nan,
    }


def denoising_residual(
    series: NDArray[np.floating],
    denoised: NDArray[np.floating],
    sigma: NDArray[np.floating],
) -> NDArray[np.float32]:
    r"""Return what denoising took away, over the noise: below 1 it may all be noise.

    .. math:: r = \frac{1}{\sigma} \sqrt{\frac1n \sum_i (S_i - \hat S_i)^2}

    Parameters
    ----------
    series, denoised : array, shape (..., n)
    sigma : array, shape (...)
        Standard deviation of the noise of `series`; the residual is NaN where it is not above 0.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(size=(1, 10_000))
    >>> denoising_residual(5 + 2 * noise, np.full(noise.shape, 5.0), np.array([2.0])).round(1)
    array([1.], dtype=float32)
    """
    squares = np.zeros(sigma.shape)
    for i in range(series.shape[-1]):  # by volumes, as a copy of the series takes room
        squares += (series[..., i].astype(np.float64) - denoised[..., i]) ** 2
    root = np.sqrt(squares / series.shape[-1])
    residual: NDArray[np.float32] = np.divide(
        root, sigma, out=np.full(sigma.shape, np.nan), where=sigma > 0
    ).astype(np.float32)
    return residual


def denoising_quality(
    n_components: NDArray[np.floating], residual: NDArray[np.floating]
) -> dict[str, float]:
    """Return the medians over the limb's voxels of what denoising kept and took away."""
    named = {"n_components": n_components, "denoising_residual": residual}
    return {
        name: float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan
        for name, values in named.items()
    }


def measured_volumes(series: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which volumes of a series were measured: some voxel of the mask has signal.

    Parameters
    ----------
    series : array, shape (x, y, z, n)
        NaN and 0 alike are no signal.
    mask : bool array, shape (x, y, z)

    Returns
    -------
    bool array, shape (n,)

    Examples
    --------
    >>> series = np.array([[[[3.0, 0.0, np.nan]]]])
    >>> measured_volumes(series, np.ones((1, 1, 1), bool)).tolist()
    [True, False, False]
    """
    return np.array(
        [bool((np.nan_to_num(series[..., i][mask]) != 0).any()) for i in range(series.shape[-1])]
    )
