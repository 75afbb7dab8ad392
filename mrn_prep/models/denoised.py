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
        signal : array, shape (x, y, z, n)
            What lies below the mean of noise alone has no amplitude and is 0, which leaves it
            out of a fit.
        noise : RetainedNoise
        """
        signal = np.nan_to_num(series, nan=0.0)
        if rician:
            amplitude = amplitude_from_mean(series, self.sigma[..., None])
            signal = np.nan_to_num(amplitude, nan=0.0)
        return signal, retained_noise(signal, self.n_components, self.noise_fraction, mask)
