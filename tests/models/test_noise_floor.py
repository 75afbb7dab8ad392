"""Raw magnitudes near their noise floor: what the tensor reads with and without it."""

import numpy as np
import pytest

from mrn_prep.models.dti import axial_tensor, fit_dti, tensor_signal
from mrn_prep.models.dti_map import map_dti
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.noise_floor import _signed_excess, without_floor, without_log_bias
from mrn_prep.phantom.gradients import table

B, G = table(30, 1000.0)
SHAPE = (20, 20, 8)
MASK = np.ones(SHAPE, bool)
MUSCLE = axial_tensor(1.9e-3, 1.3e-3, [0.3, 0.2, 0.93])


def noisy(snr, seed=0):
    signal = np.broadcast_to(tensor_signal(1.0, MUSCLE, B, G), (*SHAPE, B.size))
    return rician_noise(signal, 1 / snr, np.random.default_rng(seed))


def md_bias(series, snr, **how):
    fit, _ = map_dti(series, B, G, MASK, np.full(SHAPE, 1 / snr), **how)
    return np.nanmedian(fit.md_mm2_s) / 1.5e-3 - 1


@pytest.mark.parametrize(("snr", "within"), [(5, 0.015), (7, 0.01), (10, 0.005), (25, 0.002)])
def test_mean_diffusivity_has_no_bias_at_low_snr(snr, within):
    assert abs(md_bias(noisy(snr), snr)) < within


def test_bias_is_there_where_the_floor_is_left_in():
    assert md_bias(noisy(5), 5, rician=False) < -0.12
    assert md_bias(noisy(7), 7, rician=False) < -0.05


def test_nonlinear_fit_takes_the_floor_out_only_on_request():
    with_floor, without = (md_bias(noisy(8), 8, method="nlls", rician=on) for on in (False, True))
    assert with_floor < -0.03 < without


def test_standard_errors_hold():
    repeats = []
    for seed in range(3):
        fit, _ = map_dti(noisy(10, seed), B, G, MASK, np.full(SHAPE, 0.1))
        repeats.append(np.nanmedian(fit.md_se_mm2_s) / np.nanstd(fit.md_mm2_s))
    assert 0.85 < np.mean(repeats) < 1.1


def test_strong_signal_and_unknown_noise_stay_as_they_are():
    series = noisy(200)
    np.testing.assert_allclose(without_floor(series, B, G, MASK, 1 / 200), series, rtol=1e-4)
    unknown = without_floor(series, B, G, MASK, np.full(SHAPE, np.nan))
    np.testing.assert_array_equal(unknown, series.astype(np.float32))


def test_outside_the_mask_nothing_changes_and_zeros_stay_zeros():
    series = noisy(5)
    series[0, 0, 0, 3] = 0.0
    mask = MASK.copy()
    mask[10:] = False
    out = without_floor(series, B, G, mask, 0.2)
    assert out[0, 0, 0, 3] == 0.0
    np.testing.assert_array_equal(out[10:], series[10:].astype(np.float32))
    assert (out[:10] <= series[:10].astype(np.float32)).all()
    assert (out[:10] < series[:10]).mean() > 0.9
    assert np.isfinite(fit_dti(out, B, G, mask).md_mm2_s[:10]).mean() > 0.95


def test_order_in_memory_does_not_matter():
    series = noisy(6)
    turned = np.asfortranarray(series)[..., ::2]
    plain = without_floor(np.ascontiguousarray(turned), B[::2], G[::2], MASK, 1 / 6)
    np.testing.assert_array_equal(without_floor(turned, B[::2], G[::2], MASK, 1 / 6), plain)
    assert not np.array_equal(plain, turned.astype(np.float32))


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match="must be"):
        without_floor(np.ones((2, 2, 2, 3)), B, G, np.ones((2, 2, 2), bool), 1.0)


def signed(snr, seed=0):
    signal = np.broadcast_to(tensor_signal(1.0, MUSCLE, B, G), (*SHAPE, B.size))
    return signal + np.random.default_rng(seed).normal(0, 1 / snr, signal.shape)


@pytest.mark.parametrize("rho", [0.05, 0.5, 2.0, 6.0])
def test_mean_logarithm_of_positive_values_is_that_of_many_draws(rho):
    drawn = rho + np.random.default_rng(0).normal(size=400_000)
    expected = np.log(drawn[drawn > 0]).mean() - np.log(rho)
    assert _signed_excess(np.array([rho]))[0] == pytest.approx(expected, abs=0.008)


def test_logarithms_of_signed_values_give_the_mean_diffusivity():
    for snr, before, within in ((6, 0.04, 0.035), (8, 0.035, 0.025), (15, 0.015, 0.01)):
        series = signed(snr)
        freed = without_log_bias(series, B, G, MASK, 1 / snr)
        assert abs(md_bias(freed, snr, rician=False)) < within
        # what is not positive, and what is small, pull against each other
        if snr > 6:
            assert md_bias(series, snr, rician=False) > before - 0.02


@pytest.mark.parametrize("method", ["nlls", "restore"])
@pytest.mark.parametrize(("snr", "within"), [(5, 0.055), (8, 0.025)])
def test_nonlinear_fit_keeps_values_below_zero(method, snr, within):
    series = signed(snr)
    assert abs(md_bias(series, snr, method=method, rician=False)) < within
    if snr == 5:
        without = np.maximum(series, 0.0)  # 0 is what was not measured
        assert md_bias(without, snr, method=method, rician=False) < -0.1


def test_signed_values_without_logarithm_are_left_out():
    series = signed(3)
    freed = without_log_bias(series, B, G, MASK, 1 / 3)
    np.testing.assert_array_equal(freed == 0, series <= 0)
    assert np.isfinite(freed).all() and (series <= 0).mean() > 0.05
    unknown = without_log_bias(series, B, G, MASK, np.nan)
    np.testing.assert_array_equal(unknown, series.astype(np.float32))
