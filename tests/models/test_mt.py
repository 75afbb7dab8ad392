import os
from pathlib import Path

import numpy as np
import pytest

from mrn_prep.models.mt import fit_mtsat, mtr_percent, mtsat_signal
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.status import Reason
from mrn_prep.models.t1_vfa import T1_MAX_S, fit_vfa, spgr_signal

FLIPS = np.deg2rad([6.0, 21.0, 6.0])
TRS = np.array([0.025, 0.018, 0.027])
NAMES = ("mtsat_percent", "t1_s", "m0")
ERRORS = ("mtsat_se_percent", "t1_se_s", "m0_se")


def helms(shape=(), t1_s=1.2, mtsat=3.0, b1=1.0):
    """Three images in the definition of MTsat; the pulse's power goes with B1 squared."""
    deltas = (0.0, 0.0, b1**2 * mtsat)
    rows = zip(FLIPS, TRS, deltas, strict=True)
    return np.stack(
        [mtsat_signal(np.full(shape, 1000.0), t1_s, d, b1 * a, tr) for a, tr, d in rows], axis=-1
    )


def saturated(m0, t1_s, delta, flip, tr_s):
    """Saturate, excite, read, recover; again and again."""
    mz = m0
    for _ in range(3000):
        mz *= 1 - delta
        read, mz = mz * np.sin(flip), mz * np.cos(flip)
        mz = m0 + (mz - m0) * np.exp(-tr_s / t1_s)
    return read


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("t1_s", [0.37, 1.2, 4.0])
@pytest.mark.parametrize("b1", [0.6, 1.0, 1.3])
def test_recovers_saturation_t1_and_m0_from_noiseless_signal(shape, t1_s, b1):
    fit = fit_mtsat(helms(shape, t1_s, b1=b1), FLIPS, TRS, b1=np.full(shape, b1))
    assert fit.mtsat_percent.shape == fit.m0_se.shape == fit.status.shape == shape
    for name, truth in zip(NAMES, (3.0, t1_s, 1000.0), strict=True):
        np.testing.assert_allclose(getattr(fit, name), truth, rtol=1e-9)
    assert not fit.status.any()


@pytest.mark.parametrize("t1_s", [0.2, 0.37, 1.2, 4.0])
@pytest.mark.parametrize("delta", [0.0, 0.02, 0.06])
def test_exact_solution_is_the_steady_state_of_the_pulse_train(t1_s, delta):
    b1 = 0.8
    signal = [
        saturated(1000.0, t1_s, d, b1 * flip, tr)
        for flip, tr, d in zip(FLIPS, TRS, (0, 0, delta), strict=True)
    ]
    fit = fit_mtsat(signal, FLIPS, TRS, b1=b1, exact=True)
    np.testing.assert_allclose(fit.t1_s, t1_s, rtol=1e-9)
    np.testing.assert_allclose(fit.m0, 1000.0, rtol=1e-9)
    np.testing.assert_allclose(fit.mtsat_percent, 100 * delta / b1**2, rtol=1e-7, atol=1e-9)


def test_exact_t1_is_that_of_the_variable_flip_angle_fit():
    flips, rng = np.deg2rad([5.0, 20.0]), np.random.default_rng(0)
    two = spgr_signal(np.full(50, 900.0), 1.2, flips, 0.02) + rng.normal(0, 0.5, (50, 2))
    three = np.concatenate([two, two[:, :1]], axis=-1)
    trs = (0.02, 0.02, 0.02)
    fit = fit_mtsat(three, [*flips, flips[0]], trs, sigma=0.5, exact=True)
    vfa = fit_vfa(two, flips, 0.02, sigma=0.5)
    for name in ("t1_s", "t1_se_s", "m0", "m0_se"):
        np.testing.assert_allclose(getattr(fit, name), getattr(vfa, name), rtol=1e-8)


def test_limit_of_small_angles_reads_a_few_percent_above_the_steady_state():
    signal = [
        saturated(1.0, 1.2, d, flip, tr)
        for flip, tr, d in zip(FLIPS, TRS, (0, 0, 0.03), strict=True)
    ]
    error = float(fit_mtsat(signal, FLIPS, TRS).mtsat_percent) / 3.0 - 1
    assert 0.03 < error < 0.04


def test_mtsat_needs_no_b1_in_the_limit_but_t1_and_m0_do():
    signal = helms(b1=0.8)
    with_b1, without = fit_mtsat(signal, FLIPS, TRS, b1=0.8), fit_mtsat(signal, FLIPS, TRS)
    np.testing.assert_allclose(without.mtsat_percent, with_b1.mtsat_percent, rtol=1e-12)
    np.testing.assert_allclose(without.t1_s, with_b1.t1_s * 0.8**2, rtol=1e-12)
    np.testing.assert_allclose(without.m0, with_b1.m0 * 0.8, rtol=1e-12)


def test_residual_b1_constant_scales_mtsat_only():
    signal = helms(b1=0.8)
    plain = fit_mtsat(signal, FLIPS, TRS, b1=0.8)
    corrected = fit_mtsat(signal, FLIPS, TRS, b1=0.8, residual_b1_c=0.4)
    ratio = corrected.mtsat_percent / plain.mtsat_percent
    np.testing.assert_allclose(ratio, 0.6 / 0.68, rtol=1e-12)
    assert corrected.t1_s == plain.t1_s


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("t1_s", [0.37, 1.2, 1.4])
def test_standard_errors_cover_the_truth(exact, t1_s):
    clean = helms((20000,), t1_s, b1=0.9)
    sigma = clean.max() / 50
    noisy = rician_noise(clean, sigma / 2, np.random.default_rng(0))
    fit = fit_mtsat(noisy, FLIPS, TRS, b1=0.9, sigma=sigma / 2, exact=exact)
    truth = fit_mtsat(clean[0], FLIPS, TRS, b1=0.9, sigma=sigma / 2, exact=exact)
    for name, error in zip(NAMES, ERRORS, strict=True):
        value, true = getattr(fit, name), getattr(truth, name)
        assert 0.66 < np.mean(np.abs(value - true) < getattr(fit, error)) < 0.71
        assert abs(np.median(value) / true - 1) < 0.01
        # three signals, three unknowns: the bound is the standard error at the truth
        middle = np.diff(np.percentile(value, [15.87, 84.13]))[0] / 2
        np.testing.assert_allclose(middle, getattr(truth, error), rtol=0.05)


@pytest.mark.parametrize("c", [None, 0.4])
def test_error_of_b1_reaches_every_map_that_depends_on_it(c):
    rng = np.random.default_rng(1)
    b1 = 0.9 + rng.normal(0, 0.02, 20000)
    signal = helms((20000,), b1=0.9)
    truth = fit_mtsat(signal[0], FLIPS, TRS, b1=0.9, residual_b1_c=c)
    fit = fit_mtsat(signal, FLIPS, TRS, b1=b1, b1_se=0.02, sigma=1e-9, residual_b1_c=c)
    for name, error in list(zip(NAMES, ERRORS, strict=True))[c is None :]:
        covered = np.abs(getattr(fit, name) - getattr(truth, name)) < getattr(fit, error)
        assert 0.66 < np.mean(covered) < 0.71
    if c is None:
        assert np.max(fit.mtsat_se_percent) < 1e-6


def test_what_cannot_be_fitted_is_nan_with_its_reason():
    good = helms()
    signal = np.array([good] * 9)
    b1 = np.ones(9)
    signal[1, 0], signal[2], signal[3], signal[4, 2] = np.nan, 0.0, 1.0, -5.0
    b1[5], b1[6] = np.nan, 0.0
    signal[7] = helms(t1_s=2 * T1_MAX_S)
    mask = np.ones(9, bool)
    mask[8] = False
    before = signal.copy()
    fit = fit_mtsat(signal, FLIPS, TRS, mask, b1, sigma=0.5)
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.NO_SIGNAL, Reason.NO_SIGNAL,
        Reason.NO_B1, Reason.NO_B1, Reason.OUT_OF_RANGE, Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    for name in NAMES + ERRORS:
        assert np.isfinite(getattr(fit, name)[0]) and np.isnan(getattr(fit, name)[1:]).all()
    np.testing.assert_array_equal(signal, before)
    assert np.isnan(fit_mtsat(good, FLIPS, TRS).t1_se_s)
    swapped = fit_mtsat(good[[1, 0, 2]] * [0.1, 1, 1], FLIPS, TRS)
    assert swapped.status == Reason.OUT_OF_RANGE


def test_mtr_is_exact_and_its_standard_error_covers_the_truth():
    clean = np.stack([np.full(20000, 100.0), np.full(20000, 65.0)])
    noisy = rician_noise(clean, 2.0, np.random.default_rng(0))
    exact, result = mtr_percent(*clean), mtr_percent(*noisy, sigma=2.0)
    assert (exact.mtr_percent == 35.0).all() and np.isnan(exact.mtr_se_percent).all()
    assert 0.66 < np.mean(np.abs(result.mtr_percent - 35) < result.mtr_se_percent) < 0.705
    assert abs(np.median(result.mtr_percent) / 35 - 1) < 0.003
    bound = mtr_percent(100.0, 65.0, 2.0).mtr_se_percent
    np.testing.assert_allclose(np.std(result.mtr_percent), bound, rtol=0.03)


def test_mtr_without_signal_is_nan_and_negative_mtr_is_kept():
    mask = np.array([True] * 5 + [False])
    result = mtr_percent([100, 0, np.nan, 5, -9, 9e9], [110, 1, 1, 1, 1, 1], 2.0, mask)
    assert result.status.tolist() == [
        Reason.FITTED, Reason.NO_SIGNAL, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.NO_SIGNAL,
        Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    np.testing.assert_allclose(result.mtr_percent[0], -10.0)
    assert np.isnan(result.mtr_percent[1:]).all() and np.isnan(result.mtr_se_percent[1:]).all()
    with pytest.raises(ValueError, match="one shape"):
        mtr_percent(np.ones(3), np.ones(4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signal": np.ones((4, 2))}, "three images"),
        ({"tr_s": TRS[:2]}, "three images"),
        ({"flip_rad": [6.0, 21.0, 6.0]}, "between 0 and pi/2"),
        ({"tr_s": [0.02, 0.0, 0.02]}, "positive"),
        ({"flip_rad": FLIPS[[1, 0, 2]], "tr_s": [0.02] * 3}, "more T1-weighted"),
        ({"residual_b1_c": 1.0}, "constant"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    given = {"signal": np.ones((4, 3)), "flip_rad": FLIPS, "tr_s": TRS} | changes
    with pytest.raises(ValueError, match=message):
        fit_mtsat(**given)


def cord(name):
    folder = os.environ.get("MRN_PREP_REFERENCE")
    if not folder:
        pytest.skip("MRN_PREP_REFERENCE is not set")
    nb = pytest.importorskip("nibabel")
    return nb.load(Path(folder) / "sct_mt" / f"{name}.nii.gz").get_fdata()


def test_mtr_of_a_spinal_cord_is_the_published_map():
    published = cord("mtr")
    result = mtr_percent(cord("mt0_reg_slicereg_goldstandard"), cord("mt1"))
    fitted = result.status == 0
    np.testing.assert_array_equal(fitted, np.isfinite(published))
    np.testing.assert_allclose(result.mtr_percent[fitted], published[fitted], rtol=1e-6, atol=1e-5)


def test_t1_and_mtsat_of_a_spinal_cord_are_the_published_means():
    signal = np.stack([cord("mt0"), cord("t1w"), cord("mt1")], axis=-1)
    fit = fit_mtsat(signal, np.deg2rad([9.0, 15.0, 9.0]), [0.030, 0.015, 0.030])
    assert not fit.status.any()
    assert abs(fit.mtsat_percent.mean() - 2.06855) < 1e-5
    usual = np.abs(fit.mtsat_percent) <= 100
    assert abs(fit.mtsat_percent[usual].mean() - 1.95382) < 1e-5
    assert abs(fit.t1_s[usual].mean() - 1.19374) < 1e-5
