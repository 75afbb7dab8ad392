import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import least_squares

from mrn_prep.models.epg import SliceProfile, cpmg_signal
from mrn_prep.models.status import Reason
from mrn_prep.models.t2_mese import fit_mese

SPACING_S, N = 0.0095, 17
# half of a slice: angles fall towards its edge
SLICE = SliceProfile(np.array([1.0, 0.98, 0.9, 0.6, 0.2]), np.array([1.0, 0.99, 0.93, 0.75, 0.4]))


def clean(t2_s=0.035, b1=0.9, n_voxels=None, t1_s=1.4, **kwargs):
    m0 = 1000.0 if n_voxels is None else np.full(n_voxels, 1000.0)
    return np.abs(cpmg_signal(m0, t1_s, t2_s, b1, SPACING_S, N, **kwargs))


def magnitude(signal, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1])


@pytest.mark.parametrize("t2_s", [0.015, 0.035, 0.064, 0.15, 0.6])
@pytest.mark.parametrize("b1", [0.5, 0.8, 0.97, 1.0])
def test_recovers_t2_b1_and_m0_from_noiseless_signal(t2_s, b1):
    for known in (None, b1):
        fit = fit_mese(clean(t2_s, b1), SPACING_S, b1=known)
        np.testing.assert_allclose((fit.t2_s, fit.m0), (t2_s, 1000.0), rtol=1e-4)
        # B1 enters by its distance from 180°, squared
        np.testing.assert_allclose((1 - fit.b1) ** 2, (1 - b1) ** 2, atol=1e-6)
        assert fit.status == Reason.FITTED


@pytest.mark.parametrize("b1", [0.6, 0.9, 1.1])
@pytest.mark.parametrize("known", [False, True])
def test_recovers_t2_through_a_slice_profile(b1, known):
    fit = fit_mese(
        clean(0.04, b1, profile=SLICE), SPACING_S, b1=b1 if known else None, profile=SLICE
    )
    np.testing.assert_allclose((fit.t2_s, fit.m0, fit.b1), (0.04, 1000.0, b1), rtol=1e-4)
    assert abs(fit_mese(clean(0.04, b1, profile=SLICE), SPACING_S).t2_s / 0.04 - 1) > 0.005


@pytest.mark.parametrize("refocusing_deg", [120, 150])
def test_smaller_nominal_refocusing_angles(refocusing_deg):
    angles = {"refocusing_rad": np.deg2rad(refocusing_deg), "excitation_rad": np.deg2rad(80)}
    fit = fit_mese(clean(0.05, 1.1, **angles), SPACING_S, **angles)
    np.testing.assert_allclose((fit.t2_s, fit.m0, fit.b1), (0.05, 1000.0, 1.1), rtol=1e-4)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_maps_have_the_shape_of_the_signal(shape):
    signal = np.broadcast_to(clean(), (*shape, N))
    fit = fit_mese(signal, SPACING_S, sigma=5.0)
    for values in vars(fit).values():
        assert values.shape == shape
    np.testing.assert_allclose(fit.t2_s, 0.035, rtol=0.01)


def test_echoes_may_begin_later():
    fit = fit_mese(clean(0.05, 0.8)[2:], SPACING_S, first_echo=3)
    np.testing.assert_allclose((fit.t2_s, fit.m0, fit.b1), (0.05, 1000.0, 0.8), rtol=1e-4)


@pytest.mark.parametrize("b1", [0.6, 0.9, 1.0])
@pytest.mark.parametrize("t2_s", [0.035, 0.064, 0.12])
def test_unbiased_efficient_and_covered_at_snr_50(t2_s, b1):
    sigma, n = 20.0, 4000
    signal = magnitude(clean(t2_s, b1, n), sigma)
    for known, bias in ((None, 0.01), (b1, 0.002)):
        fit = fit_mese(signal, SPACING_S, b1=known, sigma=sigma)
        assert np.mean(fit.status == Reason.FITTED) > 0.998
        ok = fit.status == Reason.FITTED
        error, se = fit.t2_s[ok] - t2_s, fit.t2_se_s[ok]
        bound = fit_mese(clean(t2_s, b1), SPACING_S, b1=known, sigma=sigma).t2_se_s
        assert abs(np.median(error)) < bias * t2_s
        assert 0.93 < np.std(error) / bound < 1.10
        assert 0.64 < np.mean(np.abs(error) < se) < 0.72
        assert 0.60 < np.mean(np.abs(fit.m0[ok] - 1000) < fit.m0_se[ok]) < 0.76
        if known is None:
            assert 0.60 < np.mean(np.abs(fit.b1[ok] - b1) < fit.b1_se[ok]) < 0.76


def test_standard_error_is_the_cramer_rao_bound_of_a_gaussian_signal():
    # 180°, B1 known, no noise floor: ln S = ln M0 - TE / T2
    te, t2, sigma = SPACING_S * np.arange(1, N + 1), 0.06, 2.0
    fit = fit_mese(clean(t2, 1.0), SPACING_S, b1=1.0, sigma=sigma, rician=False)
    s = 1000 * np.exp(-te / t2)
    jacobian = np.stack([s / 1000, s * te / t2**2], axis=1)
    bound = sigma * np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    np.testing.assert_allclose((fit.m0_se, fit.t2_se_s), bound, rtol=1e-4)


def test_noise_floor_does_not_lengthen_t2():
    sigma, t2 = 1000 / 15, 0.035  # ten of the 17 echoes are below 3 sigma
    signal = magnitude(clean(t2, 0.9, 8000), sigma)

    def bias(**kwargs):
        return float(np.nanmedian(fit_mese(signal, SPACING_S, b1=0.9, **kwargs).t2_s) / t2 - 1)

    assert abs(bias(sigma=sigma)) < 0.01
    assert bias(sigma=sigma, rician=False) > 0.03
    assert bias() > 0.03
    fit = fit_mese(signal, SPACING_S, b1=0.9, sigma=sigma)
    assert 0.64 < np.mean(np.abs(fit.t2_s - t2) < fit.t2_se_s) < 0.72


def test_error_of_b1_reaches_t2_and_m0():
    n, b1_se = 8000, 0.04
    b1 = 0.75 + np.random.default_rng(1).normal(0, b1_se, n)
    signal = magnitude(clean(0.05, 0.75, n), 5.0)
    fit = fit_mese(signal, SPACING_S, b1=b1, b1_se=b1_se, sigma=5.0)
    blind = fit_mese(signal, SPACING_S, b1=b1, sigma=5.0)
    for value, se, truth in ((fit.t2_s, fit.t2_se_s, 0.05), (fit.m0, fit.m0_se, 1000.0)):
        assert 0.64 < np.mean(np.abs(value - truth) < se) < 0.72
    assert np.mean(np.abs(blind.t2_s - 0.05) < blind.t2_se_s) < 0.5


def test_reaches_the_least_squares_optimum_of_scipy():
    signal = magnitude(clean(0.05, 0.8, 12), 10.0)
    fit = fit_mese(signal, SPACING_S)
    for v in range(12):
        best = least_squares(
            lambda x, v=v: np.abs(cpmg_signal(x[0], 1.4, x[1], x[2], SPACING_S, N)) - signal[v],
            (950.0, 0.045, 0.85), x_scale=(1000.0, 0.05, 1.0), xtol=1e-14, ftol=1e-14, gtol=1e-14,
        )  # fmt: skip
        np.testing.assert_allclose((fit.m0[v], fit.t2_s[v], fit.b1[v]), best.x, rtol=1e-4)


def test_residuals_give_standard_errors():
    fit = fit_mese(magnitude(clean(0.06, 0.8, 4000), 5.0), SPACING_S)
    assert 0.60 < np.mean(np.abs(fit.t2_s - 0.06) < fit.t2_se_s) < 0.70  # 14 degrees of freedom
    few = fit_mese(clean()[:8], SPACING_S)
    assert few.status == Reason.FITTED
    assert np.isnan(few.t2_se_s)


def test_what_cannot_be_fitted_is_nan_with_its_reason():
    signal = np.stack([clean()] * 9)
    b1, t1, mask = np.full(9, 0.9), np.full(9, 1.4), np.ones(9, bool)
    signal[1, 3] = np.nan
    signal[2] = 0.0
    signal[3] = 2.0  # below 3 sigma
    b1[4], b1[5] = np.nan, 0.0
    signal[6] = clean(0.004)
    signal[7] = 1000.0 * np.exp(0.01 * np.arange(N))  # grows
    mask[8] = False
    before = signal.copy(), b1.copy(), mask.copy()
    fit = fit_mese(signal, SPACING_S, t1, b1, 0.01, mask, sigma=1.0)
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.NO_SIGNAL, Reason.NO_B1,
        Reason.NO_B1, Reason.OUT_OF_RANGE, Reason.OUT_OF_RANGE, Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    for name, values in vars(fit).items():
        if name != "status":
            assert np.isfinite(values[0]), name
            assert np.isnan(values[1:]).all(), name
    for array, copy in zip((signal, b1, mask), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_ends_of_the_range_are_not_clamped():
    codes = [fit_mese(clean(t2, 0.8), SPACING_S).status for t2 in (0.0095, 0.0105, 0.97, 1.03)]
    assert codes == [Reason.OUT_OF_RANGE, Reason.FITTED, Reason.FITTED, Reason.OUT_OF_RANGE]
    assert fit_mese(clean(0.1, 0.3), SPACING_S).status == Reason.OUT_OF_RANGE
    assert fit_mese(clean(0.1, 0.42), SPACING_S).status == Reason.FITTED


def test_t2_longer_than_the_noise_lets_see_is_said_to_be_so():
    signal = magnitude(clean(0.9, 0.9, 1000), 200.0)  # SNR 5, T2 over five times the train
    codes = fit_mese(signal, SPACING_S, b1=0.9, sigma=200.0).status
    told = np.isin(codes, (Reason.NOT_IDENTIFIABLE, Reason.OUT_OF_RANGE))
    assert np.mean(told) > 0.4
    assert np.mean(codes == Reason.NOT_IDENTIFIABLE) > 0.04
    assert np.mean(codes == Reason.NOT_CONVERGED) < 0.02


def test_air_is_not_fitted():
    status = fit_mese(magnitude(np.zeros((1000, N)), 1.0), SPACING_S, sigma=1.0).status
    assert np.mean(status == Reason.NO_SIGNAL) > 0.8


def test_threads_masks_and_single_precision_give_the_same():
    signal = magnitude(clean(0.04, 0.9, 20000), 10.0)
    plain = fit_mese(signal, SPACING_S, sigma=10.0).t2_s
    mask = np.arange(20000) % 7 > 0
    split = fit_mese(signal.astype(np.float32), SPACING_S, mask=mask, sigma=10.0, n_threads=2)
    np.testing.assert_allclose(split.t2_s[mask], plain[mask], rtol=1e-4)
    assert np.isnan(split.t2_s[~mask]).all()


def test_synthetic_prostate_is_recovered():
    folder = os.environ.get("MRN_PREP_REFERENCE")
    if not folder:
        pytest.skip("MRN_PREP_REFERENCE is not set")
    nb = pytest.importorskip("nibabel")
    images, labels = (
        np.asarray(nb.load(Path(folder) / "prostate_mese" / name).dataobj, dtype=float)[:, :, 0]
        for name in ("synth_images.nii.gz", "synth_labels_S0_T2.nii.gz")
    )
    s0, t2 = labels[..., 0], labels[..., 1] * 0.1452
    sigma = 0.025  # of its background, and of the residuals of its bright voxels
    fit = fit_mese(images, 0.0132, b1=1.0, mask=s0 > 4 * sigma, sigma=sigma, first_echo=2)
    for snr, fitted in ((4, 0.95), (10, 0.98)):
        bright = s0 > snr * sigma
        error = fit.t2_s[bright] / t2[bright] - 1
        assert np.mean(np.isfinite(error)) > fitted
        assert abs(np.nanmedian(error)) < 0.01
        # what is not identifiable or out of range would read long, were it written
        assert abs(np.median(np.nan_to_num(error, nan=np.inf))) < 0.005


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"echo_spacing_s": 0.0}, "spacing"),
        ({"first_echo": 0}, "counted from 1"),
        ({"refocusing_rad": 180.0}, "Angles"),
        ({"t1_s": -1.0}, "T1"),
        ({"signal": np.ones((2, 2))}, "unknowns"),
        ({"mask": np.ones(3, bool)}, "mask"),
        ({"b1": np.ones((2, 2))}, "b1"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    given = {"signal": np.ones((2, N)), "echo_spacing_s": SPACING_S} | changes
    with pytest.raises(ValueError, match=message):
        fit_mese(**given)
