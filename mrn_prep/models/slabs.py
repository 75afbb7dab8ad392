"""Fits to a long series, some slices at a time, so that what they need beside it stays small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.denoised import Denoised
from mrn_prep.models.retained import untouched
from mrn_prep.models.sampling import Sampling

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]
Result = TypeVar("Result")

_VALUES = 3_000_000  # of the series in a slab, about


def fit_in_slabs(
    fit: Callable[..., Result],
    series: Float,
    mask: Bool,
    noise: Denoised | Float | None,
    *,
    rician: bool = True,
    sampling: Sampling | None = None,
) -> Result:
    """Fit slabs of a processed series, and join the maps.

    Parameters
    ----------
    fit
        Takes ``signal, mask=, sigma=, noise=, rician=`` and returns a dataclass of maps whose
        first three axes are the voxels'.
    series : array, shape (x, y, z, n)
        NaN where a volume was not measured, which is left out of that voxel's fit.
    mask : bool array, shape (x, y, z)
        Voxels to fit.
    noise
        `Denoised` for a denoised series, whose voxels are means and are freed of their
        Rician bias; else the standard deviation of the noise per voxel, or None.
    rician
        Whether the noise floor of magnitudes is taken into account.
    sampling
        Where the volumes were read, if they were resampled.

    Returns
    -------
    The result of `fit`, as if the whole series had been given.

    Examples
    --------
    >>> from mrn_prep.models.adc import fit_adc
    >>> b = np.array([0.0, 800.0])
    >>> series = np.exp(-b * 1e-3) * np.full((1, 1, 3, 1), 100.0)
    >>> fit = lambda signal, **given: fit_adc(signal, b, **given)
    >>> found = fit_in_slabs(fit, series, np.ones((1, 1, 3), bool), None)
    >>> found.adc_mm2_s.ravel().round(9).tolist()
    [0.001, 0.001, 0.001]
    """
    n_slices = series.shape[2]
    thick = max(2, _VALUES * n_slices // max(1, series.size) // 2 * 2)  # even, for `left_in`
    signal = series
    if isinstance(noise, Denoised):
        signal, rician = noise.amplitudes(series, mask, rician=rician), False
    sigma = noise.sigma if isinstance(noise, Denoised) else noise
    joined: dict[str, NDArray[Any]] = {}
    kind: Any = None
    for first in range(0, n_slices, thick):
        part = slice(first, min(first + thick, n_slices))
        given: dict[str, Any] = {"mask": mask[:, :, part], "sigma": None, "rician": rician}
        if sigma is not None:
            given["sigma"] = sigma[:, :, part]
        if isinstance(noise, Denoised):
            given["noise"] = noise.left_in(signal, mask, part)
        elif sigma is not None:
            given["noise"] = untouched(np.ones(given["mask"].shape), series.shape[-1])
        if sampling is not None and sigma is not None:
            given["noise"] = replace(given["noise"], at=sampling.at(series.shape[:3], part))
        found: Any = fit(np.nan_to_num(signal[:, :, part], nan=0.0), **given)
        kind = type(found)
        for field in fields(found):
            values = getattr(found, field.name)
            if field.name not in joined:
                shape = (*values.shape[:2], n_slices, *values.shape[3:])
                joined[field.name] = np.empty(shape, values.dtype)
            joined[field.name][:, :, part] = values
    result: Result = kind(**joined)
    return result
