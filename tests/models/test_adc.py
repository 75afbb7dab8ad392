import numpy as np
import pytest
from scipy.special import ive

from mrn_prep.models._noise_kernel import log_moments, mean_excess
from mrn_prep.models.adc import ADC_MAX_MM2_S, fit_adc, select_adc_volumes
from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.retained import RetainedNoise
from mrn_prep.models.status import Reason

B = np.array([0.0, 0, 400, 400, 400, 800, 800, 800])
VALUES = (("adc_mm2_s", "adc_se_mm2_s"), ("s0", "s0_se"))


def noisy(n, snr, adc=1.5e-3, b=B, seed=0):
    rng = np.random.default_rng(seed)
    clean = np.tile(snr * np.exp(-b * adc), (n, 1))
    return np.hypot(clean + rng.normal(size=clean.shape), rng.normal(size=clean.shape))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
@pytest.mark.parametrize("adc", [3e-4, 1.5e-3, 3e-3])
@pytest.mark.parametrize("b", [(0, 800), (50, 400, 800), (1, 0, 1000, 1000)])
def test_noise_free_decay_is_recovered(shape, adc, b):
    signal = np.full((*shape, len(b)), 700.0) * np.exp(-np.array(b) * adc)
    fit = fit_adc(signal, b)
    assert fit.adc_mm2_s.shape == fit.status.shape == shape and not fit.status.any()
    np.testing.assert_allclose(fit.adc_mm2_s, adc, rtol=1e-9)
    np.testing.assert_allclose(fit.s0, 700.0, rtol=1e-9)


@pytest.mark.parametrize("amplitude", [0.5, 1.0, 2.5, 11.9, 12.1])
def test_moments_of_a_magnitude_are_those_of_its_distribution(amplitude):
    m = np.arange(1e-4, amplitude + 12, 1e-4)
    density = m * ive(0, m * amplitude) * np.exp(-0.5 * (m - amplitude) ** 2) * 1e-4
    mean, log_mean = (density * m).sum(), (density * np.log(m)).sum()
    log_variance = (density * (np.log(m) - log_mean) ** 2).sum()
    excess, slope, precision = log_moments(3 * amplitude, 3.0)
    np.testing.assert_allclose(mean_excess(3 * amplitude, 3.0), 3 * (mean - amplitude), rtol=1e-3)
    np.testing.assert_allclose(excess, log_mean - np.log(amplitude), atol=2e-4)
    np.testing.assert_allclose(precision, 1 / log_variance, rtol=3e-3)
    h = 0.05
    change = (
        log_moments(amplitude * np.exp(h), 1.0)[0] - log_moments(amplitude * np.exp(-h), 1.0)[0]
    )
    np.testing.assert_allclose(slope, 1 + change / (2 * h), atol=3e-3)


def test_directions_of_a_shell_give_a_third_of_the_trace():
    rng = np.random.default_rng(0)
    tensor = axial_tensor(2.1e-3, 0.9e-3, rng.normal(size=(20, 3)))
    axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    g, b = np.vstack([np.zeros(3), axes, axes]), np.r_[0.0, np.full(3, 500.0), np.full(3, 900.0)]
    fit = fit_adc(tensor_signal(np.ones(20), tensor, b, g), b)
    np.testing.assert_allclose(fit.adc_mm2_s, 1.3e-3, rtol=1e-9)


@pytest.mark.parametrize("snr", [50, 20])
@pytest.mark.parametrize("adc", [5e-4, 1.5e-3])
def test_standard_errors_are_the_spread_and_hold_the_truth(snr, adc):
    fit = fit_adc(noisy(20000, snr, adc), B, sigma=1.0)
    for (value, error), truth in zip(VALUES, (adc, snr), strict=True):
        spread = getattr(fit, value).std()
        np.testing.assert_allclose(np.mean(getattr(fit, error)), spread, rtol=0.03)
        inside = np.abs(getattr(fit, value) - truth) < getattr(fit, error)
        assert 0.66 < inside.mean() < 0.71


def test_standard_errors_know_of_the_noise_floor():
    fit = fit_adc(noisy(40000, 8, 1.8e-3), B, sigma=1.0)  # the last signals are 1.9 sigma
    low, high = np.nanpercentile(fit.adc_mm2_s, [15.87, 84.13])
    np.testing.assert_allclose(np.nanmedian(fit.adc_se_mm2_s), (high - low) / 2, rtol=0.03)


@pytest.mark.parametrize(("snr", "adc"), [(25, 2.5e-3), (10, 1.5e-3), (8, 2.5e-3)])
def test_noise_floor_does_not_lower_the_adc(snr, adc):
    fit = fit_adc(noisy(20000, snr, adc), B, sigma=1.0)
    assert abs(np.nanmedian(fit.adc_mm2_s) / adc - 1) < 0.02
    if snr == 8:  # the last signals are 1.1 sigma
        floor = fit_adc(noisy(20000, snr, adc), B, sigma=1.0, rician=False)
        assert np.nanmedian(floor.adc_mm2_s) / adc < 0.97


def test_residuals_give_the_same_errors_as_a_known_sigma():
    data = noisy(5000, 60)
    known, guessed = fit_adc(data, B, sigma=1.0), fit_adc(data, B)
    for _, error in VALUES:
        np.testing.assert_allclose(
            getattr(guessed, error).mean(), getattr(known, error).mean(), rtol=0.06
        )
    few = fit_adc(data[:, :7], B[:7])
    assert np.isfinite(few.adc_mm2_s).all() and np.isnan(few.adc_se_mm2_s).all()


def test_unreduced_noise_has_one_covariance_however_it_is_described():
    data = noisy(9, 40)
    left = RetainedNoise(np.zeros(9), np.full(9, 8.0), np.eye(8)[None], np.zeros(9, np.intp))
    plain, described = (fit_adc(data, B, sigma=1.0, noise=k) for k in (None, left))
    for _, error in VALUES:
        np.testing.assert_allclose(getattr(described, error), getattr(plain, error), rtol=1e-6)


def test_noise_along_the_signal_moves_s0_alone():
    truth = 50 * np.exp(-B * 1.5e-3)[None]
    along = truth / np.linalg.norm(truth)
    left = RetainedNoise(np.full(1, 1e-12), np.ones(1), along[None], np.zeros(1, np.intp))
    fit = fit_adc(truth, B, sigma=1.0, noise=left, rician=False)
    np.testing.assert_allclose(fit.s0_se, 50 / np.linalg.norm(truth), rtol=1e-5)
    assert fit.adc_se_mm2_s < 1e-9


def test_each_reason_is_told():
    good = 100 * np.exp(-B * 1.5e-3)
    data = np.tile(good, (9, 1))
    data[1, 3] = np.nan
    data[2] = 0
    data[3] *= 0.02
    data[4, 2:] = 0  # b = 0 alone
    data[5] = 100 * np.exp(B * 1e-4)  # grows with b
    data[6] = 100 * np.exp(-B * 1.5 * ADC_MAX_MM2_S)
    data[7, [0, 4]] = 0, -1
    mask = np.arange(9) < 8
    before = data.copy()
    fit = fit_adc(data, B, mask, sigma=1.0, rician=False)
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.NO_SIGNAL, Reason.TOO_FEW,
        Reason.OUT_OF_RANGE, Reason.OUT_OF_RANGE, Reason.FITTED, Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    np.testing.assert_allclose(fit.adc_mm2_s[[0, 7]], 1.5e-3, rtol=1e-9)
    for pair in VALUES:
        for key in pair:
            assert np.isnan(getattr(fit, key)[[1, 2, 3, 4, 5, 6, 8]]).all()
            assert np.isfinite(getattr(fit, key)[[0, 7]]).all()
    np.testing.assert_array_equal(data, before)


def test_signal_lost_in_noise_has_no_adc():
    data = noisy(500, 10, 9e-3)  # nothing is left at either b
    fit = fit_adc(data, B, sigma=1.0)
    told = fit.status == 0
    assert told.mean() < 0.6 and np.isin(fit.status[~told], (6, 7)).all()
    assert np.nanmin(fit.adc_mm2_s) > 2e-3


def test_low_b_stays_out_only_where_the_rest_makes_an_adc():
    assert select_adc_volumes([0, 5, 10, 199, 200, 800]).tolist() == [1, 1, 0, 0, 1, 1]
    assert select_adc_volumes([0, 10, 800], include_low_b=True).all()
    assert select_adc_volumes([0, 50, 100]).all()
    assert select_adc_volumes([50, 800, 801]).all()
    assert select_adc_volumes([50, 800, 1000]).tolist() == [False, True, True]


def test_result_does_not_depend_on_the_number_of_threads():
    data = noisy(20000, 30)
    one, two = (fit_adc(data, B, sigma=1.0, n_threads=k) for k in (1, 2))
    np.testing.assert_array_equal(one.adc_mm2_s, two.adc_mm2_s)


@pytest.mark.parametrize(
    ("signal", "b", "options", "wanted"),
    [
        (np.ones((2, 2)), [0, 5], {}, "two b-values"),
        (np.ones((2, 1)), [800], {}, "two b-values"),
        (np.ones((2, 3)), [0, 800], {}, "must be"),
        (np.ones(()), [0, 800], {}, "must be"),
        (np.ones((2, 2)), [0, -800], {}, "0 or more"),
        (np.ones((2, 2)), [0, 800], {"mask": np.ones(3)}, "mask"),
        (np.ones((2, 2)), [0, 800], {"sigma": np.ones(3)}, "sigma"),
    ],
)
def test_what_determines_no_adc_is_refused(signal, b, options, wanted):
    with pytest.raises(ValueError, match=wanted):
        fit_adc(signal, b, **options)


def test_noise_relative_to_an_unknown_sigma_is_refused():
    left = RetainedNoise(np.ones(2), np.zeros(2), np.zeros((1, 0, 8)), np.zeros(2, np.intp))
    with pytest.raises(ValueError, match="sigma"):
        fit_adc(np.ones((2, 8)), B, noise=left)
