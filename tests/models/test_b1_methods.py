import numpy as np
import pytest

from mrn_prep.models.b1_methods import (
    b1_from_rfm,
    b1_from_tfl,
    dam_looks_swapped,
    dam_signal,
    fit_dam,
    ready_b1_ratio,
)
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.status import Reason

FLIP = np.deg2rad(50.0)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("b1", [0.3, 0.6, 1.0, 1.4])
def test_double_angle_recovers_b1_from_noiseless_signal(shape, b1):
    fit = fit_dam(dam_signal(np.full(shape, 700.0), b1 * FLIP), FLIP)
    assert fit.b1.shape == fit.b1_se.shape == fit.status.shape == shape
    np.testing.assert_allclose(fit.b1, b1, rtol=1e-9)


@pytest.mark.parametrize("b1", [0.3, 0.6, 1.0, 1.7, 2.5])
@pytest.mark.parametrize("t1_s", [0.05, 0.37, 1.4, 5.0])
def test_known_t1_makes_the_inversion_exact_also_at_signed_large_angles(b1, t1_s):
    signal = dam_signal(700.0, b1 * FLIP, t1_s, 2.0)
    np.testing.assert_allclose(fit_dam(signal, FLIP, t1_s=t1_s, tr_s=2.0).b1, b1, rtol=1e-9)


def test_signal_is_the_steady_state_of_the_pulse_train():
    for angle, signal in zip((0.7, 1.4), dam_signal(3.0, 0.7, 1.2, 0.8), strict=True):
        mz = 3.0
        for _ in range(200):
            read, mz = mz * np.sin(angle), mz * np.cos(angle)
            mz = 3.0 + (mz - 3.0) * np.exp(-0.8 / 1.2)
        np.testing.assert_allclose(signal, read, rtol=1e-12)


def test_where_t1_is_unknown_recovery_is_taken_as_complete():
    signal = dam_signal(np.ones(2), 0.8 * FLIP, 1.2, 2.0)
    mixed = fit_dam(signal, FLIP, t1_s=[1.2, np.nan], tr_s=2.0).b1
    np.testing.assert_allclose(mixed, [0.8, fit_dam(signal[1], FLIP).b1], rtol=1e-9)
    assert mixed[1] > 0.85


def test_what_has_no_angle_is_nan_with_its_reason():
    good = dam_signal(100.0, FLIP)
    signal = np.array([good, good, [np.nan, 1], [0, 0], [50, 101], [50, 100], [4.0, 3.0]])
    mask = np.ones(7, bool)
    mask[1] = False
    before = signal.copy()
    fit = fit_dam(signal, FLIP, mask, sigma=[1, 1, 1, 1, 0.1, 0, 1])
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.OUTSIDE_MASK, Reason.NON_FINITE, Reason.NO_SIGNAL,
        Reason.INVALID_RATIO, Reason.OUT_OF_RANGE, Reason.NO_SIGNAL,
    ]  # fmt: skip
    assert np.isnan(fit.b1[1:]).all() and np.isnan(fit.b1_se[1:]).all()
    assert np.isnan(fit_dam(good, FLIP).b1_se)
    np.testing.assert_array_equal(signal, before)


@pytest.mark.parametrize("b1", [0.6, 0.8, 1.0, 1.2])
@pytest.mark.parametrize("t1_s", [None, 1.2])
def test_standard_errors_cover_the_truth(b1, t1_s):
    flip = np.pi / 3
    tr_s = None if t1_s is None else 2.0
    clean = dam_signal(np.ones(20000), b1 * flip, t1_s, tr_s)
    sigma = clean.max() / 50
    noisy = rician_noise(clean, sigma, np.random.default_rng(0))
    fit = fit_dam(noisy, flip, t1_s=t1_s, tr_s=tr_s, sigma=sigma)
    assert abs(np.median(fit.b1) / b1 - 1) < 0.002
    assert 0.66 < np.mean(np.abs(fit.b1 - b1) < fit.b1_se) < 0.705
    # two signals, two unknowns: the bound is the standard error at the truth
    bound = fit_dam(clean[0], flip, t1_s=t1_s, tr_s=tr_s, sigma=sigma).b1_se
    np.testing.assert_allclose(np.std(fit.b1), bound, rtol=0.05)


def test_exchanged_images_are_noticed_below_fifty_degrees():
    b1 = np.random.default_rng(0).uniform(0.6, 1.15, (20, 20))
    for degrees in (35, 40, 45):
        flip = np.deg2rad(degrees)
        signal = dam_signal(np.full(b1.shape, 100.0), b1 * flip)
        signal[0, 0] = np.nan
        assert not dam_looks_swapped(signal, flip)
        assert dam_looks_swapped(signal[..., ::-1], flip)
        assert not dam_looks_swapped(signal[..., ::-1], flip, np.zeros(b1.shape, bool))


def test_ratio_over_one_is_impossible_only_the_other_way_round_at_small_angles():
    signal = dam_signal(np.full(9, 100.0), np.deg2rad(75))[..., ::-1]  # cosine 0.97
    assert not dam_looks_swapped(signal[..., ::-1], np.deg2rad(75))


def test_scanner_angles_become_ratios():
    flip = np.deg2rad(80.0)
    values = np.array([800.0, 600.0, 0.0, np.nan, 9000.0, 400.0])
    mask = np.array([True] * 5 + [False])
    fit = b1_from_tfl(values, flip, mask, sigma=8.0)
    np.testing.assert_allclose(fit.b1[:2], [1.0, 0.75], rtol=1e-12)
    np.testing.assert_allclose(fit.b1_se[:2], 0.01, rtol=1e-12)
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.FITTED, Reason.NO_SIGNAL, Reason.NON_FINITE, Reason.OUT_OF_RANGE,
        Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    assert np.isnan(fit.b1[2:]).all() and np.isnan(fit.b1_se[2:]).all()
    assert np.isnan(b1_from_tfl(values, flip).b1_se).all()


def test_rf_map_counts_from_2048_on_either_side_of_zero():
    flip = np.deg2rad(60.0)
    fit = b1_from_rfm([2048 + 2048 / 3, -2048 - 1024 / 3, 2048.0, 0.0], flip, sigma=20.48)
    np.testing.assert_allclose(fit.b1, [1.0, 0.5, np.nan, np.nan], rtol=1e-12)
    np.testing.assert_allclose(fit.b1_se[:2], 1.8 / 60, rtol=1e-12)
    assert fit.status.tolist() == [0, 0, Reason.NO_SIGNAL, Reason.NO_SIGNAL]


@pytest.mark.parametrize("scale", [0.5, 0.7, 1.0, 1.2])
@pytest.mark.parametrize(("unit", "one"), [("ratio", 1), ("percent", 100), ("10xdegrees", 600)])
def test_unit_of_a_ready_map_is_told_from_its_values(scale, unit, one):
    b1 = scale * np.random.default_rng(0).uniform(0.8, 1.2, (8, 9, 4))
    values = one * b1
    values[0], values[1, 0, 0], values[1, 1, 1] = 0.0, np.nan, 5 * one
    ready = ready_b1_ratio(values, flip_rad=np.pi / 3)
    assert ready.unit == unit
    assert (ready.status[0] == Reason.NO_B1).all()
    assert ready.status[1, 0, 0] == Reason.NON_FINITE
    assert ready.status[1, 1, 1] == Reason.OUT_OF_RANGE
    fitted = ready.status == 0
    np.testing.assert_allclose(ready.b1[fitted], b1[fitted], rtol=1e-12)
    assert np.isnan(ready.b1[~fitted]).all() and np.isnan(ready.b1_se).all()


def test_only_the_mask_decides_the_unit():
    values, mask = np.full((6, 6), 4096.0), np.zeros((6, 6), bool)
    values[2:4, 2:4], mask[2:4, 2:4] = 90.0, True
    ready = ready_b1_ratio(values, mask)
    assert ready.unit == "percent"
    assert (ready.status == np.where(mask, 0, Reason.OUTSIDE_MASK)).all()


@pytest.mark.parametrize(
    ("values", "flip_deg", "message"),
    [
        (0.0, None, "positive value in only 0 of 4"),
        (np.nan, 60, "positive value in only 0 of 4"),
        (500.0, None, "needs the nominal flip angle"),
        (9000.0, 60, "neither a ratio nor percent nor 10 x 60"),
        (7.0, None, r"median of 7 is neither a ratio nor percent\."),
        (100.0, 10, "percent or 10xdegrees"),
        (80.0, 80000, "between 0 and pi"),
    ],
)
def test_doubtful_ready_maps_are_refused(values, flip_deg, message):
    flip = None if flip_deg is None else np.deg2rad(flip_deg)
    with pytest.raises(ValueError, match=message):
        ready_b1_ratio(np.full(4, values), flip_rad=flip)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signal": np.ones((4, 3))}, "two images"),
        ({"flip_rad": 60.0}, "smaller flip angle"),
        ({"flip_rad": np.pi / 2}, "smaller flip angle"),
        ({"t1_s": 1.2}, "both or neither"),
        ({"tr_s": 1.2}, "both or neither"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        fit_dam(**{"signal": np.ones((4, 2)), "flip_rad": FLIP} | changes)


def test_angle_of_a_scanner_map_in_degrees_is_refused():
    for convert in (b1_from_tfl, b1_from_rfm):
        with pytest.raises(ValueError, match="between 0 and pi"):
            convert([800.0], 80.0)
