"""The real part of complex images against the signal they were made of."""

import numpy as np
import pytest

from mrn_prep.models.phase import real_part

SHAPE = (64, 64, 6, 12)


def complex_images(signal, sigma, rng):
    """Give each image a smooth phase of its own, as motion and the field do, and noise."""
    x, y, z, i = np.indices(SHAPE) / 64
    phase = 3 * np.sin(3 * x + 64 * i) + 4 * y * np.cos(64 * i) + 40 * z
    noise = rng.normal(0, sigma, (2, *SHAPE))
    noisy = signal * np.exp(1j * phase) + noise[0] + 1j * noise[1]
    return np.abs(noisy), np.angle(noisy)


@pytest.mark.parametrize("snr", [0.0, 0.5, 1.0, 2.0, 5.0])
def test_signal_below_the_floor_keeps_its_mean(snr):
    magnitude, phase = complex_images(np.full(SHAPE, snr), 1.0, np.random.default_rng(0))
    real = real_part(magnitude, phase)[8:-8, 8:-8]
    assert abs(real.mean() - snr) < 0.05 + 0.01 * snr
    assert abs(magnitude.mean() - snr) > 0.08  # which the magnitude does not


def test_noise_is_that_of_one_channel():
    magnitude, phase = complex_images(np.full(SHAPE, 8.0), 1.0, np.random.default_rng(1))
    assert real_part(magnitude, phase)[8:-8, 8:-8].std() == pytest.approx(1.0, rel=0.02)


def test_edges_of_tissue_stay():
    signal = np.zeros(SHAPE)
    signal[20:40, 15:50] = 100.0
    magnitude, phase = complex_images(signal, 0.0, np.random.default_rng(2))
    inside = signal > 0
    error = real_part(magnitude, phase)[inside] / 100 - 1
    assert np.abs(np.median(error)) < 0.002 and np.quantile(error, 0.01) > -0.05


def test_nothing_comes_of_nothing():
    magnitude = np.zeros(SHAPE)
    magnitude[3, 4] = np.nan
    real = real_part(magnitude, np.zeros(SHAPE))
    assert (real == 0).all() and real.dtype == np.float32


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((np.ones((2, 2, 2)), np.ones((2, 2, 2))), "must have one shape"),
        ((np.ones((2, 2, 2, 3)), np.ones((2, 2, 2, 4))), "must have one shape"),
        ((np.ones((2, 2, 2, 3)), np.ones((2, 2, 2, 3)), 0.0), "must be positive"),
    ],
)
def test_wrong_arguments_are_named(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        real_part(*arguments)


def test_edge_of_the_image_has_no_floor():
    magnitude, phase = complex_images(np.zeros(SHAPE), 1.0, np.random.default_rng(3))
    real = real_part(magnitude, phase)
    border = np.concatenate([real[:2].ravel(), real[-2:].ravel(), real[:, :2].ravel()])
    assert abs(border.mean()) < 0.03
    assert border.std() == pytest.approx(1.0, rel=0.03)
