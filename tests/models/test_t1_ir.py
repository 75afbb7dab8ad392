import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import curve_fit

from mrn_prep.models.noise import rician_noise
from mrn_prep.models.status import Reason
from mrn_prep.models.t1_ir import T1_MAX_S, fit_ir, ir_signal

TI_S = np.array([0.05, 0.1, 0.2, 0.5, 2.0, 4.0])


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("t1_s", [0.1, 0.37, 0.9, 1.2, 4.0])
@pytest.mark.parametrize("sign", [0, 1, -1])
def test_recovers_t1_from_noiseless_signal(shape, t1_s, sign):
    signal = ir_signal(np.full(shape, 900.0), t1_s, TI_S, tr_s=5.0, inversion_rad=2.9)
    fit = fit_ir(sign * signal if sign else np.abs(signal), TI_S, signed=bool(sign))
    assert fit.t1_s.shape == fit.b_se.shape == fit.status.shape == shape
    np.testing.assert_allclose(fit.t1_s, t1_s, rtol=1e-7)
    a, b = ((sign or 1) * value[..., None] for value in (fit.a, fit.b))
    np.testing.assert_allclose(a + b * np.exp(-TI_S / t1_s), signal, rtol=1e-6)


@pytest.mark.parametrize("ti_s", [[0.02, 0.1, 0.3], [2.5, 3.0, 4.0, 6.0], [4.0, 0.5, 0.05, 1.1]])
def test_polarity_is_restored_before_after_and_around_the_crossing(ti_s):
    fit = fit_ir(np.abs(ir_signal(500.0, 1.3, ti_s)), ti_s)
    np.testing.assert_allclose((fit.t1_s, fit.a, fit.b), (1.3, 500.0, -1000.0), rtol=1e-6)


def test_signal_is_the_steady_state_of_the_pulse_train():
    t1, tr, theta, alpha = 1.1, 1.8, 2.7, 0.6
    for ti, signal in zip(TI_S[:4], ir_signal(7.0, t1, TI_S[:4], tr, theta, alpha), strict=True):
        mz = 7.0
        for _ in range(100):
            mz = 7.0 + (mz * np.cos(theta) - 7.0) * np.exp(-ti / t1)
            read, mz = mz * np.sin(alpha), mz * np.cos(alpha)
            mz = 7.0 + (mz - 7.0) * np.exp(-(tr - ti) / t1)
        np.testing.assert_allclose(signal, read, rtol=1e-12)


def test_reaches_the_least_squares_optimum_of_scipy():
    rng = np.random.default_rng(0)
    signal = ir_signal(np.full(60, 1000.0), 1.2, TI_S) + rng.normal(0, 30, (60, 6))
    fit = fit_ir(signal, TI_S, sigma=30.0, signed=True)

    def model(ti, t1, a, b):
        return a + b * np.exp(-ti / t1)

    for v in range(60):
        start = (fit.t1_s[v] * 0.9, fit.a[v] * 1.1, fit.b[v])
        best, cov = curve_fit(
            model, TI_S, signal[v], start, sigma=np.full(6, 30.0), absolute_sigma=True,
            xtol=1e-14, ftol=1e-14, gtol=1e-14,
        )  # fmt: skip
        np.testing.assert_allclose((fit.t1_s[v], fit.a[v], fit.b[v]), best, rtol=1e-5)
        errors = (fit.t1_se_s[v], fit.a_se[v], fit.b_se[v])
        np.testing.assert_allclose(errors, np.sqrt(np.diag(cov)), rtol=1e-3)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("t1_s", "n_ti"), [(0.37, 6), (1.2, 6), (1.4, 6), (1.2, 4), (1.2, 9)])
def test_standard_errors_cover_the_truth(t1_s, n_ti, signed):
    ti_s = {4: [0.05, 0.4, 1.1, 2.5], 6: TI_S, 9: np.geomspace(0.05, 4, 9)}[n_ti]
    clean = ir_signal(np.ones(20000), t1_s, ti_s, tr_s=6.0)
    rng = np.random.default_rng(0)
    noisy = clean + rng.normal(0, 0.02, clean.shape) if signed else rician_noise(clean, 0.02, rng)
    fit = fit_ir(noisy, ti_s, sigma=0.02, signed=signed)
    exact = fit_ir(clean[0], ti_s, sigma=0.02, signed=True)
    for name in ("t1_s", "a", "b"):
        value, truth = getattr(fit, name), getattr(exact, name)
        se = fit.t1_se_s if name == "t1_s" else getattr(fit, f"{name}_se")
        assert 0.66 < np.mean(np.abs(value - truth) < se) < 0.71
        assert abs(np.median(value) / truth - 1) < 0.003
    np.testing.assert_allclose(np.std(fit.t1_s), exact.t1_se_s, rtol=0.05)


@pytest.mark.parametrize("crossing_sigma", [0.0, 1.0, 3.0, 5.0])
@pytest.mark.parametrize("n_ti", [4, 9])
def test_standard_errors_hold_where_a_magnitude_hides_its_sign(crossing_sigma, n_ti):
    ti_s = np.array([0.05, 0.4, 1.1, 2.5]) if n_ti == 4 else np.geomspace(0.05, 5, 9)
    at = np.searchsorted(ti_s, 0.8)
    t1_s = ti_s[at] / np.log(2 / (1 - 0.02 * crossing_sigma))
    clean = ir_signal(np.ones(20000), t1_s, ti_s)
    np.testing.assert_allclose(clean[0, at], 0.02 * crossing_sigma, atol=1e-12)
    noisy = rician_noise(clean, 0.02, np.random.default_rng(0))
    fit = fit_ir(noisy, ti_s, sigma=0.02)
    covered = np.mean(np.abs(fit.t1_s - t1_s) < fit.t1_se_s)
    assert covered > 0.60
    if n_ti == 9:  # with four times and one hidden sign the median of T1 is up to 5 % long
        assert covered < 0.76
        assert abs(np.median(fit.t1_s) / t1_s - 1) < 0.01


def test_residuals_give_standard_errors_only_from_nine_times_on():
    assert np.isnan(fit_ir(np.abs(ir_signal(9.0, 1.2, TI_S)), TI_S).t1_se_s)
    many = np.geomspace(0.05, 4, 12)
    clean = ir_signal(np.ones(20000), 1.2, many)
    noisy = clean + np.random.default_rng(0).normal(0, 0.02, clean.shape)
    fit = fit_ir(noisy, many, signed=True)
    assert 0.64 < np.mean(np.abs(fit.t1_s - 1.2) < fit.t1_se_s) < 0.70


def test_what_cannot_be_fitted_is_nan_with_its_reason():
    good = ir_signal(900.0, 1.2, TI_S)
    signal = np.array([good] * 7)
    signal[1, 2], signal[2], signal[3] = np.nan, 0.0, 1.0
    signal[4] = 100.0 + 900.0 * np.exp(-TI_S)  # decays
    signal[5] = ir_signal(900.0, 2 * T1_MAX_S, TI_S)
    mask = np.ones(7, bool)
    mask[6] = False
    before = signal.copy()
    fit = fit_ir(signal, TI_S, mask, sigma=2.0, signed=True)
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.NO_SIGNAL,
        Reason.OUT_OF_RANGE, Reason.OUT_OF_RANGE, Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    for values in (fit.t1_s, fit.t1_se_s, fit.a, fit.a_se, fit.b, fit.b_se):
        assert np.isfinite(values[0]) and np.isnan(values[1:]).all()
    np.testing.assert_array_equal(signal, before)
    assert fit_ir(np.full(6, 5.0), TI_S).status == Reason.OUT_OF_RANGE


def test_order_of_times_and_layout_of_arrays_do_not_matter():
    rng = np.random.default_rng(0)
    signal = rician_noise(ir_signal(np.full((2, 3, 4), 900.0), 1.2, TI_S), 9.0, rng)
    plain = fit_ir(signal, TI_S, sigma=9.0)
    back = fit_ir(np.asfortranarray(signal[..., ::-1]), TI_S[::-1], sigma=np.full((2, 3, 4), 9.0))
    np.testing.assert_array_equal(back.t1_s, plain.t1_s)
    single = fit_ir(signal.astype(np.float32), TI_S, sigma=9.0)
    np.testing.assert_allclose(single.t1_s, plain.t1_s, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ti_s": TI_S[:5]}, "n_ti"),
        ({"ti_s": [0.1, 0.1, 0.1, 0.2, 0.2, 0.2]}, "three or more"),
        ({"ti_s": TI_S - 0.2}, "negative"),
        ({"ti_s": TI_S * 1e3}, "milliseconds"),
        ({"mask": np.ones(3, bool)}, "mask"),
        ({"sigma": np.ones((2, 2))}, "sigma"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fit_ir(**{"signal": np.ones((2, 6)), "ti_s": TI_S} | changes)


def test_magnitudes_of_a_brain_give_the_t1_of_the_signed_images():
    folder = os.environ.get("MRN_PREP_REFERENCE")
    if not folder:
        pytest.skip("MRN_PREP_REFERENCE is not set")
    signal = np.load(Path(folder) / "santini_t1t2" / "t1dataset.npy").astype(float)
    signed, magnitude = fit_ir(signal, TI_S, signed=True), fit_ir(np.abs(signal), TI_S)
    tissue = np.abs(signal).max(axis=-1) > 200
    assert np.count_nonzero(tissue) > 20000
    assert np.mean(signed.status[tissue] == 0) > 0.99
    ratio = magnitude.t1_s[tissue] / signed.t1_s[tissue]
    # the others cross zero so near an inversion time that its sign does not show in the fit
    assert np.mean(np.abs(ratio - 1) < 0.01) > 0.96
    assert abs(np.nanmedian(ratio) - 1) < 1e-6
