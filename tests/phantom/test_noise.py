import numpy as np
import pytest

from mrn_prep.phantom.noise import complex_in_noise, magnitude_in_noise, sigma_for


def test_snr_is_muscle_in_the_strongest_image_over_sigma(view):
    seen = view("vfa", 0)
    signal, muscle = seen.signal, seen.scene.muscle
    sigma = sigma_for(signal, muscle, 50)
    assert signal[muscle].mean(axis=0).max() / sigma == pytest.approx(50)
    residual = magnitude_in_noise(signal, sigma, np.random.default_rng(0)) - signal
    for flip in range(3):
        assert residual[muscle][:, flip].std() == pytest.approx(sigma, rel=0.02)


def test_snr_of_complex_images_is_that_of_their_magnitude(view):
    seen = view("megre", 0)
    sigma = sigma_for(seen.signal, seen.scene.muscle, 50)
    assert sigma == sigma_for(np.abs(seen.signal), seen.scene.muscle, 50) > 0
    noisy = complex_in_noise(seen.signal, sigma, np.random.default_rng(0)) - seen.signal
    assert noisy.real.std() == pytest.approx(sigma, rel=0.01)
    assert noisy.imag.std() == pytest.approx(sigma, rel=0.01)


def test_air_has_rayleigh_noise():
    noisy = magnitude_in_noise(np.zeros(200_000), 3.0, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.005)


@pytest.mark.parametrize("snr", [0, np.inf])
def test_no_noise_leaves_the_magnitude(snr):
    assert sigma_for(np.ones((2, 1)), np.ones(2, bool), snr) == 0
    signal = np.array([2.0, -3.0])
    np.testing.assert_array_equal(
        magnitude_in_noise(signal, 0.0, np.random.default_rng()), [2.0, 3.0]
    )


def test_a_grid_without_pure_muscle_is_refused():
    with pytest.raises(ValueError, match="too coarse"):
        sigma_for(np.ones((2, 1)), np.zeros(2, bool), 50)
