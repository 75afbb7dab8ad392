"""From a diffusion series as it was processed to tensor maps with standard errors."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.denoised import Denoised
from mrn_prep.models.dti import DTIResult, fit_dti, select_tensor_volumes
from mrn_prep.models.dti_robust import fit_dti_nlls, fit_dti_restore
from mrn_prep.models.noise_floor import without_floor
from mrn_prep.models.quality import measured_volumes
from mrn_prep.models.sampling import Sampling
from mrn_prep.models.slabs import fit_in_slabs

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]
Method = Literal["wls", "nlls", "restore"]


def map_dti(
    series: Float,
    b_s_mm2: Float,
    bvecs: Float,
    mask: Bool,
    noise: Denoised | Float | None,
    *,
    low_b: bool = False,
    method: Method = "wls",
    rician: bool = True,
    sampling: Sampling | None = None,
    n_threads: int = 1,
) -> tuple[DTIResult, Bool]:
    """Fit the tensor to a processed series.

    Parameters
    ----------
    series : array, shape (x, y, z, n)
        NaN where a volume was not measured; it is left out of that voxel's fit.
    b_s_mm2, bvecs : array, shape (n,) and (n, 3)
        b-values (s/mm²) and unit directions along the voxel axes.
    mask : bool array, shape (x, y, z)
        Voxels to fit.
    noise
        `Denoised` for a denoised series, whose voxels are means and are freed of their
        Rician bias; else the standard deviation of the noise per voxel, or None.
    low_b
        Whether volumes with 5 < b < 200 s/mm² stay in the fit.
    method : {"wls", "nlls", "restore"}
        Weighted linear least squares; nonlinear; or nonlinear without volumes that do not belong.
    rician
        Whether the noise floor of magnitudes is taken into account.
    sampling
        Where the volumes were read, if they were resampled.
    n_threads
        Threads of the nonlinear fits.

    Returns
    -------
    result : DTIResult
    used : bool array, shape (n,)
        The volumes in the fit.
    """
    used = measured_volumes(series, mask) & select_tensor_volumes(b_s_mm2, bvecs, low_b)
    b, g = b_s_mm2[used], bvecs[used]

    def fit(
        signal: Float, mask: Bool, sigma: Float | None, *, rician: bool, **given: Any
    ) -> DTIResult:
        if method == "wls":
            if rician and sigma is not None:
                signal = without_floor(signal, b, g, mask, sigma)
            return fit_dti(signal, b, g, mask, sigma, **given)
        robust = {"nlls": fit_dti_nlls, "restore": fit_dti_restore}[method]
        return robust(signal, b, g, mask, sigma, rician=rician, n_threads=n_threads, **given)

    chosen = series if used.all() else series[..., used]
    read = None if sampling is None else sampling.of(used)
    return fit_in_slabs(fit, chosen, mask, noise, rician=rician, sampling=read), used
