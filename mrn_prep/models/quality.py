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
