"""A denoised series as fits take it: means, freed of their bias, with the noise that is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.mppca import RetainedNoise, retained_noise
from mrn_prep.models.rician import amplitude_from_mean

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Denoised:
    """What `mrn_prep.models.mppca.denoise_mppca` said of a series; maps of shape (x, y, z)."""

    sigma: Float
    n_components: Float
    noise_fraction: Float

    def for_fit(
        self, series: Float, mask: Bool, *, rician: bool = True
    ) -> tuple[Float, RetainedNoise]:
        """Return the amplitudes of (some of) the series' volumes and the noise left in them.

        Parameters
        ----------
        series : array, shape (x, y, z, n)
            Denoised magnitudes, which are means: their Rician bias exceeds their error.
        mask : bool array, shape (x, y, z)
            Voxels to describe.
        rician : bool
            Free the means of their Rician bias.

        Returns
        -------
        signal : float32 array, shape (x, y, z, n)
            0 outside the mask. What lies below the mean of noise alone has no amplitude and is
            0, which leaves it out of a fit.
        noise : RetainedNoise
        """
        signal = np.zeros(series.shape, dtype=np.float32)
        # volume by volume, lest all be held at once in double precision
        for i in range(series.shape[-1]):
            values = series[..., i][mask]
            known = amplitude_from_mean(values, self.sigma[mask]) if rician else values
            signal[..., i][mask] = np.nan_to_num(known, nan=0.0)
        return signal, retained_noise(signal, self.n_components, self.noise_fraction, mask)
