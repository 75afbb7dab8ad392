import numpy as np
import pytest

from mrn_prep.models.status import Reason
from mrn_prep.models.t2_simple import (
    fit_dual_echo,
    fit_mono_exponential,
    t2_prepared_signal,
)

PREPARATIONS_S = np.array([0.0, 0.02, 0.04, 0.06, 0.08])
ECHOES_S = np.array([0.022, 0.088])


def magnitude(signal, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1])


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
@pytest.mark.parametrize("t2_s", [0.012, 0.045, 0.2, 0.9])
def test_recovers_t2_and_m0_from_noiseless_signal(shape, t2_s):
    signal = t2_prepared_signal(np.full(shape, 800.0), t2_s, PREPARATIONS_S)
    for fit in (
        fit_mono_exponential(signal, PREPARATIONS_S),
        fit_dual_echo(signal[..., 1:3], PREPARATIONS_S[1:3]),
    ):
        np.testing.assert_allclose(fit.t2_s, t2_s, rtol=1e-5)
        np.testing.assert_allclose(fit.m0, 800.0, rtol=1e-5)
        assert fit.t2_s.shape == fit.m0_se.shape == fit.status.shape == shape
        assert not fit.status.any()


@pytest.mark.parametrize("t2_s", [0.045, 0.1])
def test_prepared_t2_is_unbiased_efficient_and_covered_at_snr_50(t2_s):
    truth = t2_prepared_signal(np.full(8000, 1000.0), t2_s, PREPARATIONS_S)
    fit = fit_mono_exponential(magnitude(truth, 20.0), PREPARATIONS_S, sigma=20.0)
    bound = fit_mono_exponential(truth[0], PREPARATIONS_S, sigma=20.0).t2_se_s
    error = fit.t2_s - t2_s
    assert abs(np.median(error)) < 0.003 * t2_s
    assert 0.95 < np.std(error) / bound < 1.05
    assert 0.66 < np.mean(np.abs(error) < fit.t2_se_s) < 0.71
    assert 0.66 < np.mean(np.abs(fit.m0 - 1000) < fit.m0_se) < 0.71


def test_dual_echo_is_unbiased_and_covered_at_snr_50():
    truth = t2_prepared_signal(np.full(20000, 1000.0), 0.06, ECHOES_S)
    fit = fit_dual_echo(magnitude(truth, 20.0), ECHOES_S, sigma=20.0)
    assert abs(np.median(fit.t2_s) / 0.06 - 1) < 0.005
    assert 0.66 < np.mean(np.abs(fit.t2_s - 0.06) < fit.t2_se_s) < 0.71
    assert 0.66 < np.mean(np.abs(fit.m0 - 1000) < fit.m0_se) < 0.71


def test_both_fits_of_two_echoes_agree():
    signal = magnitude(t2_prepared_signal(np.full(50, 1000.0), 0.05, ECHOES_S), 10.0)
    by_formula = fit_dual_echo(signal, ECHOES_S, sigma=10.0)
    by_search = fit_mono_exponential(signal, ECHOES_S, sigma=10.0, rician=False)
    np.testing.assert_allclose(by_search.t2_s, by_formula.t2_s, rtol=1e-5)
    np.testing.assert_allclose(by_search.t2_se_s, by_formula.t2_se_s, rtol=1e-4)
    np.testing.assert_allclose(by_search.m0_se, by_formula.m0_se, rtol=1e-4)


def test_noise_floor_does_not_lengthen_t2():
    te = 0.01 * np.arange(1, 18)
    signal = magnitude(t2_prepared_signal(np.full(8000, 1000.0), 0.035, te), 66.0)
    aware = fit_mono_exponential(signal, te, sigma=66.0).t2_s
    blind = fit_mono_exponential(signal, te).t2_s
    assert abs(np.median(aware) / 0.035 - 1) < 0.01
    assert np.median(blind) / 0.035 > 1.03


def test_what_cannot_be_fitted_is_nan_with_its_reason():
    good = t2_prepared_signal(1000.0, 0.06, ECHOES_S)
    signal = np.stack([good] * 7)
    signal[1, 0] = np.nan
    signal[2] = 0.0
    signal[3] = good[::-1]  # grows
    signal[4] = t2_prepared_signal(1000.0, 0.005, ECHOES_S * [1, 0.4])
    signal[5] = 110.0, 100.0
    mask = np.ones(7, bool)
    mask[6] = False
    dual = fit_dual_echo(signal, ECHOES_S, mask, sigma=10.0)
    assert dual.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.OUT_OF_RANGE,
        Reason.NO_SIGNAL, Reason.NOT_IDENTIFIABLE, Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    mono = fit_mono_exponential(signal, ECHOES_S, mask, sigma=10.0)
    assert mono.status[:4].tolist() == dual.status[:4].tolist()
    for fit in (dual, mono):
        for values in (fit.t2_s, fit.t2_se_s, fit.m0, fit.m0_se):
            np.testing.assert_array_equal(np.isnan(values), fit.status != 0)
    short = t2_prepared_signal(1000.0, 0.005, ECHOES_S)
    assert fit_dual_echo(short, ECHOES_S).status == Reason.OUT_OF_RANGE


@pytest.mark.parametrize(
    ("function", "te_s", "message"),
    [
        (fit_dual_echo, [0.08, 0.02], "increase"),
        (fit_mono_exponential, [0.02, 0.02], "increase"),
        (fit_mono_exponential, [-0.01, 0.02], "increase"),
        (fit_mono_exponential, [0.02], "2 or more"),
        (fit_dual_echo, [0.02, 0.04, 0.06], "must be"),
    ],
)
def test_wrong_arguments_are_refused(function, te_s, message):
    with pytest.raises(ValueError, match=message):
        function(np.ones((4, 2)), te_s)
    with pytest.raises(ValueError, match="Two echoes"):
        fit_dual_echo(np.ones((4, 3)), [0.02, 0.04, 0.06])
