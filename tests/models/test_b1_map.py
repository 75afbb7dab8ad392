import numpy as np
import pytest

from mrn_prep.models.b1_afi import afi_signal
from mrn_prep.models.b1_map import MAX_SE, map_b1_afi, map_b1_dam, smooth_b1_image
from mrn_prep.models.b1_methods import b1_from_tfl, dam_signal
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


@pytest.mark.parametrize("t1_s", [None, 1.4], ids=["complete recovery", "exact"])
def test_field_of_a_double_angle_pair_is_found(limb, t1_s):
    _, b1, inside = limb
    m0 = np.where(inside, 1000.0, 0.0)
    signal = np.abs(dam_signal(m0, FLIP * b1, 1.4, 2.0))
    sigma = signal[inside].mean(axis=0).max() / 50
    t1 = None if t1_s is None else np.full(b1.shape, t1_s)
    found = map_b1_dam(noisy(signal, sigma), FLIP, VOXEL, tr_s=2.0, t1_s=t1)
    error = np.median((found.b1 - b1)[inside])
    # a TR of 1.4 T1 leaves the usual formula wrong by per cents
    assert abs(error) < 0.003 if t1_s else abs(error) > 0.02


def test_angle_image_is_smoothed_with_the_noise_it_shows(limb):
    _, b1, inside = limb
    rng = np.random.default_rng(0)
    values = np.where(inside, 800 * b1 + rng.normal(0, 24, b1.shape), 0.0)
    found = smooth_b1_image(b1_from_tfl(values, np.deg2rad(80), inside), inside, VOXEL)
    assert found.sigma == pytest.approx(0.03, rel=0.1)
    error = (found.b1 - b1)[inside]
    assert np.abs(error / found.b1_se[inside]).max() < 5
    assert 0.58 < np.mean(np.abs(error) < found.b1_se[inside]) < 0.78


def test_angle_image_as_measured_has_no_standard_error(limb):
    _, b1, inside = limb
    raw = b1_from_tfl(np.where(inside, 800 * b1, 0.0), np.deg2rad(80), inside)
    found = smooth_b1_image(raw, inside, VOXEL, smoothing_mm=0)
    assert np.isnan(found.b1_se).all()
    np.testing.assert_allclose(found.b1[inside], b1[inside])
