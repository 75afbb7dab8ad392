"""What is told of a series."""

import numpy as np

from mrn_prep.models.quality import series_quality
from mrn_prep.models.status import Reason


def test_snr_is_that_of_the_strongest_image_where_it_is_known():
    mask = np.zeros((4, 4, 2), bool)
    mask[1:3] = True
    signal = np.stack([np.full(mask.shape, 30.0), np.full(mask.shape, 80.0)], axis=-1)
    signal[1, 0, 0, 1] = np.nan  # a moved image did not reach there
    status = np.where(mask, Reason.FITTED, Reason.OUTSIDE_MASK).astype(np.uint8)
    status[1, 0, 0] = Reason.NON_FINITE
    quality = series_quality(signal, mask, 4.0, status)
    assert quality == {"noise_sigma": 4.0, "snr": 20.0, "fitted_fraction": 15 / 16}


def test_without_noise_or_limb_there_is_no_snr():
    mask, status = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), np.uint8)
    assert np.isnan(series_quality(np.ones((2, 2, 2, 3)), mask, np.nan, status)["snr"])
    nowhere = series_quality(np.ones((2, 2, 2, 3)), ~mask, 1.0, status)
    assert np.isnan(nowhere["snr"]) and np.isnan(nowhere["fitted_fraction"])
