import numpy as np
import pytest

from mrn_prep.models.b1_afi import afi_signal
from mrn_prep.models.b1_map import MAX_SE, map_b1_afi
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.status import Reason

FLIP, TR1, TR2 = np.deg2rad(60.0), 0.02, 0.1
VOXEL = (3.0, 3.0, 6.0)


@pytest.fixture(scope="module")
def limb():
    """A round limb with a smooth B1+ field, noise-free."""
    x, y, _z = np.meshgrid(*(np.arange(n) - n / 2 for n in (40, 40, 6)), indexing="ij")
    inside = np.hypot(x, y) < 14
    b1 = 1.0 - 0.1 * (x / 14) - 0.1 * (y / 14) ** 2
    signal = afi_signal(np.where(inside, 1000.0, 0.0), 1.4, FLIP * b1, TR1, TR2)
    return signal, b1, inside


def noisy(signal, sigma, seed=0):
    return rician_noise(signal, sigma, np.random.default_rng(seed))


def test_field_is_found_with_the_noise_of_the_background(limb):
    signal, b1, inside = limb
    sigma = signal[inside].mean(axis=0).max() / 50
    found = map_b1_afi(noisy(signal, sigma), FLIP, TR1, TR2, VOXEL, t1_s=np.full(b1.shape, 1.4))
    assert found.sigma == pytest.approx(sigma, rel=0.05)
    error = (found.b1 - b1)[inside]
    assert abs(np.median(error)) < 0.002
    assert 0.60 < np.mean(np.abs(error) < found.b1_se[inside]) < 0.76
    assert np.abs(error / found.b1_se[inside]).max() < 5
    assert (found.status[inside] == Reason.FITTED).all()


def test_what_is_too_vague_has_no_value_and_says_why(limb):
    signal, *_ = limb
    sigma = signal.max() / 15
    found = map_b1_afi(noisy(signal, sigma), FLIP, TR1, TR2, VOXEL, extrapolate_mm=30.0)
    vague = found.status == Reason.NOT_IDENTIFIABLE
    assert vague.any()
    assert np.isnan(found.b1[vague]).all()
    assert np.nanmax(found.b1_se) <= MAX_SE


def test_status_is_fitted_exactly_where_there_is_a_value(limb):
    signal, *_ = limb
    found = map_b1_afi(noisy(signal, signal.max() / 40), FLIP, TR1, TR2, VOXEL)
    np.testing.assert_array_equal(found.status == Reason.FITTED, np.isfinite(found.b1))


def test_without_smoothing_voxels_stay_as_measured(limb):
    signal, b1, inside = limb
    t1 = np.full(b1.shape, 1.4)
    found = map_b1_afi(signal, FLIP, TR1, TR2, VOXEL, t1_s=t1, smoothing_mm=0.0)
    np.testing.assert_allclose(found.b1[inside], b1[inside], rtol=1e-6)
    assert np.isnan(found.b1[~inside]).all()
    assert np.isnan(found.sigma)
