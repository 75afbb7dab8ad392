import numpy as np
import pytest

from mrn_prep.models.dce_concentration import (
    Acquisition,
    concentration_from_signal,
    signal_from_concentration,
)
from mrn_prep.models.dce_signal import Interruption
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.status import Reason
from mrn_prep.models.t1_vfa import spgr_signal

TRUE = np.r_[np.zeros(6), np.linspace(0.0, 2.0, 20), np.linspace(2.0, 0.3, 34)]
BASELINE = slice(1, 6)
PLAIN = Acquisition(0.005, np.deg2rad(20), 4.5, BASELINE)
PAUSED = Acquisition(0.005, np.deg2rad(20), 4.5, BASELINE, Interruption(24, 0.03, 12))


@pytest.mark.parametrize("acquisition", [PLAIN, PAUSED])
@pytest.mark.parametrize("b1", [0.6, 1.0, 1.2])
@pytest.mark.parametrize("t1_s", [0.37, 1.2, 1.65])
def test_inverts_the_signal_exactly(acquisition, b1, t1_s):
    signal = signal_from_concentration(TRUE, 80.0, acquisition, t1_s, b1)
    found = concentration_from_signal(signal, acquisition, t1_s, b1=b1)
    np.testing.assert_allclose(found.concentration_mm, TRUE, atol=1e-10)
    assert found.status == Reason.FITTED


def test_signal_is_that_of_the_spoiled_gradient_echo():
    rates = 1 / 1.2 + 4.5 * TRUE
    truth = spgr_signal(1000.0, 1 / rates, [PLAIN.flip_rad], 0.005)[:, 0]
    np.testing.assert_allclose(signal_from_concentration(TRUE, truth[0], PLAIN, 1.2), truth)


def test_pauses_that_are_ignored_cost_much():
    small = {"tr_s": 0.005, "flip_rad": np.deg2rad(10), "relaxivity_per_mm_per_s": 4.5}
    paused = Acquisition(**small, baseline=BASELINE, interruption=PAUSED.interruption)
    signal = signal_from_concentration(TRUE, 80.0, paused, 1.2)
    wrong = concentration_from_signal(signal, Acquisition(**small, baseline=BASELINE), 1.2)
    assert wrong.concentration_mm[25] / TRUE[25] < 0.65


def test_error_of_t1_scales_concentrations():
    signal = signal_from_concentration(TRUE, 80.0, PLAIN, 1.2)
    right = concentration_from_signal(signal, PLAIN, 1.2, sigma=1.0, t1_se_s=0.012)
    longer = concentration_from_signal(signal, PLAIN, 1.212).concentration_mm
    scale = np.sum(longer * TRUE) / np.sum(TRUE**2) - 1
    np.testing.assert_allclose(abs(right.shared_error.gain), -scale, rtol=0.02)
    assert -0.02 < scale < -0.01  # 1 % of T1, and more for the bend of the signal's curve


def test_error_of_the_baseline_shifts_and_scales_concentrations():
    signal = signal_from_concentration(TRUE, 80.0, PLAIN, 1.2)
    shared = concentration_from_signal(signal, PLAIN, 1.2, sigma=0.8).shared_error
    step = 0.8 / np.sqrt(5) / 80  # five frames
    high = concentration_from_signal(signal, PLAIN, 1.2, baseline_signal=80 * (1 - step))
    change = high.concentration_mm - TRUE
    np.testing.assert_allclose(change[0], shared.offset_mm, rtol=0.01)
    gain = np.sum((change - change[0]) * TRUE) / np.sum(TRUE**2)
    np.testing.assert_allclose(gain, shared.offset_gain, rtol=0.03)


def test_errors_cover_frames_baseline_and_t1():
    n, sigma, t1_se, rng = 6000, 1.0, 0.05, np.random.default_rng(3)
    true = TRUE / 10
    signal = rician_noise(
        np.broadcast_to(signal_from_concentration(true, 30.0, PLAIN, 1.2), (n, true.size)),
        sigma,
        rng,
    )
    t1 = 1.2 + t1_se * rng.standard_normal(n)
    found = concentration_from_signal(signal, PLAIN, t1, sigma=sigma, t1_se_s=t1_se)
    error = found.concentration_mm - true
    shared = found.shared_error
    jumps = np.diff(error, axis=1).std(axis=1) / np.sqrt(2)  # frames' own noise
    assert abs(np.median(found.sigma_mm / jumps) - 1) < 0.03
    late = true[30:].mean()
    common = np.sqrt(
        (shared.offset_mm + shared.offset_gain * late) ** 2
        + (shared.gain * late) ** 2
        + found.sigma_mm**2 / 30
    )
    assert abs(np.mean(np.abs(error[:, 30:].mean(axis=1)) < common) - 0.68) < 0.03


def test_without_sigma_errors_are_unknown():
    found = concentration_from_signal(TRUE * 10 + 50, PLAIN, 1.2)
    assert np.isnan(found.sigma_mm)
    assert np.isnan(found.shared_error.offset_mm)


@pytest.mark.parametrize("snr", [3.0, 5.0])
def test_noise_floor_does_not_lower_concentrations(snr):
    # the baseline is raised most by noise, which makes all enhancement look smaller
    n, rng, true = 60_000, np.random.default_rng(1), np.r_[np.zeros(40), np.full(2, 0.5)]
    acquisition = Acquisition(0.005, np.deg2rad(20), 4.5, slice(0, 40))
    signal = signal_from_concentration(true, snr, acquisition, 1.2)
    signal = rician_noise(np.broadcast_to(signal, (n, true.size)), 1.0, rng)

    def bias(**kwargs):
        found = concentration_from_signal(signal, acquisition, 1.2, **kwargs)
        return np.nanmedian(found.concentration_mm[:, 40:]) / 0.5 - 1

    assert abs(bias(sigma=1.0)) < 0.01
    assert bias(sigma=1.0, noise_floor=None) < -0.02


def test_means_of_magnitudes_are_inverted_as_means():
    n, sigma, rng = 4000, 5.0, np.random.default_rng(2)
    clean = signal_from_concentration(TRUE, 12.0, PLAIN, 1.2)
    mean = rician_noise(np.broadcast_to(clean, (n, clean.size)), sigma, rng).mean(axis=0)
    kwargs = {"sigma": sigma / np.sqrt(n), "floor_sigma": sigma}
    right = concentration_from_signal(mean, PLAIN, 1.2, noise_floor="mean", **kwargs)
    wrong = concentration_from_signal(mean, PLAIN, 1.2, **kwargs)
    assert np.max(np.abs(right.concentration_mm - TRUE)) < 0.05
    assert np.max(np.abs(wrong.concentration_mm - TRUE)) > 0.1


def test_what_is_undefined_is_nan_with_its_reason():
    signal = np.stack([signal_from_concentration(TRUE, 80.0, PLAIN, 1.2)] * 8)
    t1, b1, mask = np.full(8, 1.2), np.ones(8), np.ones(8, bool)
    signal[1, 20] = 1e5  # no R1 is high enough
    signal[2, 30] = 0.0
    signal[3, BASELINE] = 0.0
    t1[4], t1[5] = np.nan, 0.0
    b1[6] = np.nan
    mask[7] = False
    found = concentration_from_signal(signal, PLAIN, t1, mask=mask, b1=b1)
    assert found.status.tolist() == [
        Reason.FITTED, Reason.SATURATED, Reason.NO_SIGNAL, Reason.NO_SIGNAL,
        Reason.NO_T1, Reason.NO_T1, Reason.NO_B1, Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    lost = np.isnan(found.concentration_mm)
    assert lost[1].sum() == lost[2].sum() == 1
    assert lost[3:].all()
    assert not lost[0].any()


def test_frames_below_the_noise_are_undefined():
    signal = signal_from_concentration(TRUE, 80.0, PLAIN, 1.2)
    signal[0] = 3.0
    found = concentration_from_signal(signal, PLAIN, 1.2, sigma=4.0)
    assert np.isnan(found.concentration_mm[0])
    assert found.status == Reason.NO_SIGNAL


def test_single_precision_stays_single_and_threads_agree():
    signal = np.stack([signal_from_concentration(TRUE, 80.0, PLAIN, 1.2)] * 6).reshape(2, 3, -1)
    single = concentration_from_signal(signal.astype(np.float32), PLAIN, 1.2, n_threads=2)
    assert single.concentration_mm.dtype == np.float32
    assert single.concentration_mm.shape == signal.shape
    assert single.status.shape == single.sigma_mm.shape == (2, 3)
    np.testing.assert_allclose(single.concentration_mm[1, 2], TRUE, atol=1e-5)


def test_a_known_baseline_replaces_the_measured_one():
    signal = signal_from_concentration(TRUE, 80.0, PLAIN, 1.65)
    signal[BASELINE] *= 2  # fresh blood
    found = concentration_from_signal(signal, PLAIN, 1.65, baseline_signal=80.0)
    np.testing.assert_allclose(found.concentration_mm[6:], TRUE[6:], atol=1e-10)


@pytest.mark.parametrize(
    "change",
    [
        {"tr_s": 0.0},
        {"flip_rad": 20.0},
        {"relaxivity_per_mm_per_s": 0.0},
        {"interruption": Interruption(10, 0.01, 10)},
        {"interruption": Interruption(10, -0.01, 0)},
    ],
)
def test_refuses_an_impossible_acquisition(change):
    values = {
        "tr_s": 0.005, "flip_rad": 0.3, "relaxivity_per_mm_per_s": 4.5, "baseline": BASELINE,
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"positive|pulse"):
        Acquisition(**(values | change))


def test_refuses_a_baseline_without_frames_and_maps_of_another_shape():
    empty = Acquisition(0.005, 0.3, 4.5, slice(90, 95))
    with pytest.raises(ValueError, match="none of the 60 frames"):
        concentration_from_signal(TRUE + 1, empty, 1.2)
    with pytest.raises(ValueError, match="t1_s"):
        concentration_from_signal(TRUE + 1, PLAIN, np.ones(3))
