import numpy as np
import pytest

from mrn_prep.models.noise import rician_noise, sigma_from_air, sigma_from_background


def legs():
    limb = np.zeros((96, 96, 8), bool)
    limb[20:45, 30:66] = limb[52:78, 30:66] = True
    return limb


def test_noise_has_the_moments_of_rice():
    rng = np.random.default_rng(0)
    air = rician_noise(np.zeros(200_000), 3.0, rng)
    np.testing.assert_allclose(air.mean(), 3 * np.sqrt(np.pi / 2), rtol=0.005)
    np.testing.assert_allclose(np.median(air), 3 * np.sqrt(2 * np.log(2)), rtol=0.01)
    bright = rician_noise(np.full(200_000, 60.0), 3.0, rng)
    np.testing.assert_allclose(bright.mean(), 60 + 9 / 120, atol=0.03)
    np.testing.assert_allclose(bright.std(), 3.0, rtol=0.01)


def test_sign_and_phase_of_the_signal_do_not_matter():
    made = [
        rician_noise(np.full(50_000, s), 1.0, np.random.default_rng(0)).mean()
        for s in (2.0, -2.0, 2j)
    ]
    np.testing.assert_allclose(made, made[0], rtol=0.01)


def test_no_noise_is_the_magnitude():
    np.testing.assert_array_equal(
        rician_noise(np.array([3.0, -4.0]), 0.0, np.random.default_rng(0)), [3.0, 4.0]
    )


def test_sigma_may_vary_in_space():
    sigma = np.array([1.0, 5.0])
    made = rician_noise(np.full((100_000, 2), 100.0), sigma, np.random.default_rng(0))
    np.testing.assert_allclose(made.std(axis=0), sigma, rtol=0.02)


@pytest.mark.parametrize("sigma", [0.7, 1.0, 2.3, 20.0, 700.0])
@pytest.mark.parametrize("step", [0.0, 1.0, 2.7])
@pytest.mark.parametrize("seed", [0, 1])
def test_sigma_of_the_air_is_found(sigma, step, seed):
    sigma *= step or 1.0  # in grey levels
    limb = legs()
    series = np.where(limb, 30 * sigma, 0.0)[..., None] * np.array([1.0, 0.6])
    noisy = rician_noise(series, sigma, np.random.default_rng(seed))
    if step:
        noisy = step * np.rint(noisy / step)
    assert abs(sigma_from_background(noisy, limb) / sigma - 1) < 0.02


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("ghost", [1.5, 4.0, 40.0])
def test_ghosts_beside_the_limb_do_not_count(ghost, whole):
    limb = legs()
    clean = np.where(limb, 90.0, 0.0)
    clean[20:45, 72:92] += 3.0 * ghost  # a tenth of the air
    noisy = rician_noise(clean, 3.0, np.random.default_rng(0))
    noisy = np.rint(noisy) if whole else noisy
    assert abs(sigma_from_background(noisy, limb) / 3.0 - 1) < 0.05


def test_ringing_around_the_limb_does_not_count():
    limb = legs()
    distance = np.abs(np.arange(96) - 48)[None, :, None]
    ringing = 30 * np.cos(distance) * np.exp(-np.maximum(distance - 18, 0) / 4)
    noisy = rician_noise(np.where(limb, 90.0, np.where(limb.any(1)[:, None], ringing, 0)), 3.0,
                         np.random.default_rng(0))  # fmt: skip
    assert abs(sigma_from_background(noisy, limb) / 3.0 - 1) < 0.05


def test_blanked_background_gives_no_sigma():
    limb = legs()
    noisy = rician_noise(np.where(limb, 90.0, 0.0), 3.0, np.random.default_rng(0))
    assert np.isnan(sigma_from_background(noisy * limb, limb))
    mostly = np.random.default_rng(1).random(limb.shape) < 0.8
    assert np.isnan(sigma_from_background(np.where(mostly, 0.0, noisy), limb))


@pytest.mark.parametrize("constant", [1.0, 7.0])
def test_constant_background_gives_no_sigma(constant):
    limb = legs()
    noisy = rician_noise(np.where(limb, 90.0, 0.0), 3.0, np.random.default_rng(0))
    filled = np.where(limb, noisy, constant)
    assert np.isnan(sigma_from_background(filled, limb))
    filled[:3, :3] = 2 * constant
    assert np.isnan(sigma_from_background(filled, limb))


def test_a_blanked_corner_does_no_harm():
    limb = legs()
    noisy = rician_noise(np.where(limb, 90.0, 0.0), 3.0, np.random.default_rng(0))
    noisy[:20, :30] = 0.0
    assert abs(sigma_from_background(noisy, limb) / 3.0 - 1) < 0.05


def test_too_little_air_gives_no_sigma():
    limb = np.ones((20, 20, 4), bool)
    limb[:, :5] = False
    noisy = rician_noise(90.0 * limb, 3.0, np.random.default_rng(0))
    assert np.isnan(sigma_from_background(noisy, limb))


def test_non_finite_air_is_left_out():
    limb = legs()
    noisy = rician_noise(90.0 * limb, 3.0, np.random.default_rng(0))
    noisy[0] = np.nan
    assert abs(sigma_from_background(noisy, limb) / 3.0 - 1) < 0.03


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="limb_mask"):
        sigma_from_background(np.ones((4, 4, 4)), np.ones((4, 4, 5), bool))


@pytest.mark.parametrize("sigma", [0.3, 700.0])
def test_sigma_of_signed_air_is_found_beside_ghosts(sigma):
    limb = legs()
    clean = np.where(limb, 30 * sigma, 0.0)[..., None] * np.array([1.0, 0.6])
    noise = np.random.default_rng(0).normal(0, sigma, clean.shape)
    assert abs(sigma_from_air(clean + noise, limb) / sigma - 1) < 0.02
    clean[20:45, 72:92] += 5 * sigma
    assert abs(sigma_from_air(clean + noise, limb) / sigma - 1) < 0.02


def test_signed_air_that_tells_nothing_gives_no_sigma():
    limb = legs()
    noise = np.random.default_rng(0).normal(0, 3.0, limb.shape)
    assert np.isnan(sigma_from_air(noise * limb, limb))
    assert np.isnan(sigma_from_air(np.abs(noise), limb))
    assert np.isnan(sigma_from_air(noise, np.ones_like(limb)))
    with pytest.raises(ValueError, match="must be"):
        sigma_from_air(noise[0], limb)
