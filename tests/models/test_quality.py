"""What is told of a series."""

import numpy as np
import pytest

from mrn_prep.models.quality import denoising_quality, denoising_residual, series_quality
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


def test_signal_that_denoising_took_shows_beside_its_noise():
    noise = np.random.default_rng(1).normal(size=(2, 4000))
    lost = np.array([[0.0], [6.0]]) * np.array([1, -1] * 2000)
    level = np.full((2, 4000), 100.0)
    residual = denoising_residual(level + 2 * noise + lost, level, np.full(2, 2.0))
    assert residual == pytest.approx([1.0, np.sqrt(1 + 9)], rel=0.03)


def test_without_noise_nothing_is_told_of_what_denoising_took():
    ones = np.ones((3, 5))
    residual = denoising_residual(ones, ones, np.array([0.0, np.nan, 1.0]))
    assert np.isnan(residual).tolist() == [True, True, False]
    told = denoising_quality(np.full(2, np.nan), residual[:2])
    assert np.isnan(list(told.values())).all()
