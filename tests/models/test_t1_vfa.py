import csv
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import curve_fit

from mrn_prep.models.status import Reason
from mrn_prep.models.t1_vfa import T1_MAX_S, fit_vfa, spgr_signal

FLIPS = np.deg2rad([3.0, 10.0, 20.0])
TR_S = 0.015


def noisy(n, t1_s=1.2, flips=FLIPS, sigma=1.0, b1=1.0, seed=0):
    clean = spgr_signal(np.full(n, 1000.0), t1_s, b1 * flips, TR_S)
    return clean + np.random.default_rng(seed).normal(0, sigma, clean.shape)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("t1_s", [0.2, 0.37, 1.2, 4.0])
@pytest.mark.parametrize("flips_deg", [(3, 15), (3, 10, 20), (2, 5, 9, 14, 20, 30)])
def test_recovers_t1_and_m0_from_noiseless_signal(shape, t1_s, flips_deg):
    flips = np.deg2rad(flips_deg)
    b1 = np.full(shape, 0.85)
    signal = spgr_signal(np.full(shape, 900.0), t1_s, b1[..., None] * flips, 0.005)
    fit = fit_vfa(signal, flips, 0.005, b1=b1)
    assert fit.t1_s.shape == fit.m0_se.shape == fit.status.shape == shape
    np.testing.assert_allclose(fit.t1_s, t1_s, rtol=1e-9)
    np.testing.assert_allclose(fit.m0, 900.0, rtol=1e-9)
    assert not fit.status.any()


def test_signal_has_its_limits():
    # fully relaxed: M0 sin(a); small TR: M0 sin(a) TR / T1 / (1 - cos(a))
    np.testing.assert_allclose(spgr_signal(5.0, 1e-9, FLIPS, 1.0), 5.0 * np.sin(FLIPS))
    np.testing.assert_allclose(spgr_signal(5.0, 1.0, [0.5], 1e-9), 5e-9 / np.tan(0.25), rtol=1e-6)


def test_reaches_the_least_squares_optimum_of_scipy():
    signal = noisy(60, sigma=3.0)
    fit = fit_vfa(signal, FLIPS, TR_S, sigma=3.0)

    def model(flip, m0, t1_s):
        return spgr_signal(m0, t1_s, flip, TR_S)

    for v in np.flatnonzero(fit.status == 0):
        start = (fit.m0[v] * 1.1, fit.t1_s[v] * 0.9)
        best, cov = curve_fit(
            model, FLIPS, signal[v], start, sigma=np.full(3, 3.0), absolute_sigma=True,
            xtol=1e-14, ftol=1e-14, gtol=1e-14,
        )  # fmt: skip
        np.testing.assert_allclose((fit.m0[v], fit.t1_s[v]), best, rtol=1e-5)
        np.testing.assert_allclose((fit.m0_se[v], fit.t1_se_s[v]), np.sqrt(np.diag(cov)), rtol=1e-3)


def test_agrees_with_published_r1_of_brain_voxels():
    folder = os.environ.get("MRN_PREP_REFERENCE")
    if not folder:
        pytest.skip("MRN_PREP_REFERENCE is not set")
    with (Path(folder) / "osipi_t1" / "t1_brain_data.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 76
    for row in rows:
        flips, signal = (np.array(row[key].split(), dtype=float) for key in ("FA", "s"))
        fit = fit_vfa(signal, np.deg2rad(flips), float(row["TR"].split()[0]))
        assert abs(1 / fit.t1_s - float(row["R1"])) < 1e-4, row["label"]
        np.testing.assert_allclose(fit.m0, float(row["s0"]), rtol=1e-4)


def test_what_cannot_be_fitted_is_nan_with_its_reason():
    good = spgr_signal(900.0, 1.2, FLIPS, TR_S)
    signal = np.array([good] * 9)
    b1 = np.ones(9)
    signal[1] = np.nan, 1.0, 1.0
    signal[2] = 0.0
    signal[3] = -good
    b1[4], b1[5] = np.nan, 0.0
    signal[6] = np.sin(FLIPS) / np.cos(FLIPS)  # on the line of E1 = 1: no T1 is long enough
    signal[7] = spgr_signal(900.0, 1.2 * T1_MAX_S, FLIPS, TR_S)
    mask = np.ones(9, bool)
    mask[8] = False
    before = signal.copy(), b1.copy(), mask.copy()
    fit = fit_vfa(signal, FLIPS, TR_S, mask, b1, b1_se=np.full(9, 0.01), sigma=2.0)
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.NO_SIGNAL, Reason.NO_B1,
        Reason.NO_B1, Reason.NO_SIGNAL, Reason.OUT_OF_RANGE, Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    assert fit_vfa(signal[6], FLIPS, TR_S).status == Reason.OUT_OF_RANGE
    for values in (fit.t1_s, fit.t1_se_s, fit.m0, fit.m0_se):
        assert np.isfinite(values[0]) and np.isnan(values[1:]).all()
    for array, copy in zip((signal, b1, mask), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_two_angles_with_impossible_e1_are_not_fitted():
    flips = FLIPS[:2]
    assert fit_vfa([1.0, 9.0], flips, TR_S).status == Reason.OUT_OF_RANGE
    assert fit_vfa([9.0, -8.0], flips, TR_S).status == Reason.OUT_OF_RANGE


def test_air_is_not_fitted():
    air = np.abs(np.random.default_rng(0).normal(0, 1, (2000, 3, 2))).dot([1, 1j])
    status = fit_vfa(np.abs(air), FLIPS, TR_S, sigma=1.0).status
    assert np.mean(status == Reason.NO_SIGNAL) > 0.95


@pytest.mark.parametrize("t1_s", [0.37, 1.2, 1.4])
def test_standard_errors_cover_the_truth(t1_s):
    fit = fit_vfa(noisy(20000, t1_s), FLIPS, TR_S, sigma=1.0)  # about SNR 55 in the best image
    for value, se, truth in ((fit.t1_s, fit.t1_se_s, t1_s), (fit.m0, fit.m0_se, 1000.0)):
        z = (value - truth) / se
        assert 0.665 < np.mean(np.abs(z) < 1) < 0.70
        assert 0.94 < np.mean(np.abs(z) < 1.96) < 0.96
        assert abs(np.median(value) / truth - 1) < 0.003
    # efficient: the spread is the Cramer-Rao bound, which is the standard error at the truth
    bound = fit_vfa(spgr_signal(1000.0, t1_s, FLIPS, TR_S), FLIPS, TR_S, sigma=1.0).t1_se_s
    np.testing.assert_allclose(np.std(fit.t1_s), bound, rtol=0.03)


def test_residuals_give_standard_errors_only_from_eight_angles_on():
    assert np.isnan(fit_vfa(noisy(5), FLIPS, TR_S).t1_se_s).all()
    seven = np.deg2rad(np.linspace(3, 25, 7))
    assert np.isnan(fit_vfa(noisy(5, flips=seven), seven, TR_S).t1_se_s).all()
    many = np.deg2rad(np.linspace(3, 25, 12))
    fit = fit_vfa(noisy(20000, flips=many), many, TR_S)
    assert 0.64 < np.mean(np.abs(fit.t1_s - 1.2) < fit.t1_se_s) < 0.70


@pytest.mark.parametrize("t1_s", [0.37, 1.2])
def test_error_of_b1_reaches_t1_and_m0(t1_s):
    n, truth = 20000, 0.9
    rng = np.random.default_rng(4)
    b1 = truth + rng.normal(0, 0.02, n)
    signal = noisy(n, t1_s, b1=truth, sigma=0.3)
    fit = fit_vfa(signal, FLIPS, TR_S, b1=b1, b1_se=np.full(n, 0.02), sigma=0.3)
    blind = fit_vfa(signal, FLIPS, TR_S, b1=b1, sigma=0.3)
    for value, se, true in ((fit.t1_s, fit.t1_se_s, t1_s), (fit.m0, fit.m0_se, 1000.0)):
        assert 0.66 < np.mean(np.abs(value - true) < se) < 0.71
    assert np.mean(np.abs(blind.t1_s - t1_s) < blind.t1_se_s) < 0.5


def test_wrong_b1_biases_t1_by_its_square():
    signal = spgr_signal(1000.0, 1.2, 0.9 * FLIPS, 0.005)
    np.testing.assert_allclose(fit_vfa(signal, FLIPS, 0.005).t1_s, 1.2 * 0.9**2, rtol=0.01)


def test_float32_fortran_and_masked_input_give_the_same():
    signal = noisy(24).reshape(2, 3, 4, 3)
    plain = fit_vfa(signal, FLIPS, TR_S).t1_s
    single = fit_vfa(np.asfortranarray(signal.astype(np.float32)), FLIPS, TR_S).t1_s
    np.testing.assert_allclose(single, plain, rtol=1e-3)
    mask = np.zeros((2, 3, 4), bool)
    mask[0, 1:] = True
    masked = fit_vfa(signal, FLIPS, TR_S, mask)
    np.testing.assert_array_equal(masked.t1_s[mask], plain[mask])
    assert np.isnan(masked.t1_s[~mask]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip_rad": FLIPS[:2]}, "n_flip"),
        ({"flip_rad": np.full(3, 0.2)}, "two or more"),
        ({"flip_rad": [0.0, 0.1, 0.2]}, "between 0 and pi"),
        ({"tr_s": 0.0}, "positive"),
        ({"mask": np.ones(3, bool)}, "mask"),
        ({"b1": np.ones((2, 2))}, "b1"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    given = {"signal": np.ones((2, 3)), "flip_rad": FLIPS, "tr_s": TR_S} | changes
    with pytest.raises(ValueError, match=message):
        fit_vfa(**given)
