"""A denoised series as fits take it: means, freed of their bias, with the noise that is left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.mppca import patch_reach, retained_noise
from mrn_prep.models.retained import RetainedNoise
from mrn_prep.models.rician import amplitude_from_mean

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Denoised:
    """What `mrn_prep.models.mppca.denoise_mppca` said of a series; maps of shape (x, y, z)."""

    sigma: Float
    n_components: Float
    noise_fraction: Float

    def amplitudes(self, series: Float, mask: Bool, *, rician: bool = True) -> NDArray[np.float32]:
        """Return the amplitudes of (some of) the series' volumes.

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
        float32 array, shape (x, y, z, n)
            0 outside the mask. What lies below the mean of noise alone has no amplitude and is
            0, which leaves it out of a fit.
        """
        signal = np.zeros(series.shape, np.float32)
        sigma = self.sigma[mask]
        # volume by volume, lest all be held at once in double precision
        for i in range(series.shape[-1]):
            values = series[..., i][mask]
            known = amplitude_from_mean(values, sigma) if rician else values
            signal[..., i][mask] = np.nan_to_num(known, nan=0.0)
        return signal

    def left_in(self, amplitudes: Float, mask: Bool, slices: slice) -> RetainedNoise:
        """Return the noise left in the amplitudes of some slices (from an even one on).

        Patches reach beyond them, and are those of the whole series.
        """
        grid, n = amplitudes.shape[:3], amplitudes.shape[3]
        reach = patch_reach(grid, n)
        first, last = max(0, slices.start - reach), min(grid[2], slices.stop + reach)
        own = slice(slices.start - first, slices.stop - first)
        wanted = np.zeros((*grid[:2], last - first), np.bool_)
        wanted[:, :, own] = mask[:, :, slices]
        left = retained_noise(
            amplitudes[:, :, first:last], self.n_components[:, :, first:last],
            self.noise_fraction[:, :, first:last], mask[:, :, first:last], wanted=wanted,
        )  # fmt: skip
        maps = (left.fraction[:, :, own], left.n_components[:, :, own])
        return RetainedNoise(*maps, left.basis, left.patch[:, :, own])
