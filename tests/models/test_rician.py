import numpy as np
import pytest

from mrn_prep.models.noise import rician_noise
from mrn_prep.models.rician import amplitude_from_mean, rician_mean


@pytest.mark.parametrize("amplitude", [0.0, 1.0, 3.0, 20.0])
def test_mean_is_that_of_noisy_magnitudes(amplitude):
    draws = rician_noise(np.full(400_000, amplitude), 2.0, np.random.default_rng(1))
    standard_error = draws.std() / np.sqrt(draws.size)
    assert abs(draws.mean() - rician_mean(amplitude, 2.0)) < 4 * standard_error


def test_amplitude_is_recovered_from_the_floor_to_high_signal():
    amplitude = np.geomspace(0.05, 500.0, 200)
    np.testing.assert_allclose(
        amplitude_from_mean(rician_mean(amplitude, 1.5), 1.5), amplitude, rtol=1e-6
    )


def test_mean_below_that_of_noise_has_no_amplitude():
    assert np.isnan(amplitude_from_mean(1.2, 1.0))


def test_without_noise_the_mean_is_the_amplitude():
    np.testing.assert_array_equal(amplitude_from_mean([0.0, 5.0], 0.0), [0.0, 5.0])
