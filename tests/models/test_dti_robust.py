import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel

from mrn_prep.models.dti import DTIResult, axial_tensor, fit_dti, tensor_signal
from mrn_prep.models.dti_robust import fit_dti_nlls, fit_dti_restore
from mrn_prep.models.retained import RetainedNoise
from mrn_prep.models.status import Reason

VALUES = ("fa", "md_mm2_s", "ad_mm2_s", "rd_mm2_s", "s0")
ERRORS = ("fa_se", "md_se_mm2_s", "ad_se_mm2_s", "rd_se_mm2_s", "s0_se")
FITS = (fit_dti_nlls, fit_dti_restore)


def sphere(n):
    """Directions spread over half a sphere (golden spiral)."""
    z = (np.arange(n) + 0.5) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=-1)


BVECS = np.vstack([np.zeros((4, 3)), sphere(32)])
BVALS = np.r_[np.zeros(4), np.full(32, 800.0)]


def tensors(n, seed=0):
    rng = np.random.default_rng(seed)
    ad, rd = rng.uniform(1.6e-3, 2e-3, n), rng.uniform(0.7e-3, 1.3e-3, n)
    return axial_tensor(ad, rd, rng.normal(size=(n, 3)))


def noisy(signal, seed=0):
    rng = np.random.default_rng(seed)
    return np.hypot(signal + rng.normal(size=signal.shape), rng.normal(size=signal.shape))


def spoil(data, share, seed=3):
    """Weaken some of the weighted volumes to 20 to 70 %."""
    rng = np.random.default_rng(seed)
    spoilt = rng.random(data.shape) < share
    spoilt[..., :4] = False
    return np.where(spoilt, data * rng.uniform(0.2, 0.7, data.shape), data), spoilt


def rmse(fit, truth, key):
    return np.sqrt(np.nanmean((getattr(fit, key) - getattr(truth, key)) ** 2))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_noise_free_tensors_are_recovered(fit, shape):
    elements = tensors(int(np.prod(shape))).reshape(*shape, 6)
    signal = tensor_signal(np.full(shape, 40.0), elements, BVALS, BVECS)
    linear, found = fit_dti(signal, BVALS, BVECS), fit(signal, BVALS, BVECS)
    assert isinstance(found, DTIResult) and found.v1.shape == (*shape, 3)
    assert not found.status.any()
    for key in VALUES:
        np.testing.assert_allclose(getattr(found, key), getattr(linear, key), rtol=1e-7)
    np.testing.assert_allclose(np.abs((found.v1 * linear.v1).sum(-1)), 1.0, rtol=1e-7)


def test_nonlinear_fit_without_noise_floor_is_that_of_dipy():
    data = noisy(tensor_signal(25.0, tensors(300), BVALS, BVECS))
    table = gradient_table(BVALS, bvecs=BVECS)
    theirs = TensorModel(table, fit_method="NLLS", return_S0_hat=True).fit(data)
    ours = fit_dti_nlls(data, BVALS, BVECS, sigma=1.0, rician=False)
    assert (ours.status == 0).all()
    for key, value in zip(
        VALUES, (theirs.fa, theirs.md, theirs.ad, theirs.rd, theirs.S0_hat), strict=True
    ):
        np.testing.assert_allclose(getattr(ours, key), value, rtol=1e-4)


@pytest.mark.parametrize("fit", FITS)
def test_standard_errors_are_the_spread_of_repeated_measurements(fit):
    truth = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0.2, 0.4, 1.0]), BVALS, BVECS)
    found = fit(noisy(np.tile(truth, (10000, 1))), BVALS, BVECS, sigma=1.0)
    for value, error in zip(VALUES, ERRORS, strict=True):
        spread = getattr(found, value).std()
        np.testing.assert_allclose(getattr(found, error).mean(), spread, rtol=0.05, err_msg=value)


def test_noise_floor_does_not_lower_the_diffusivity():
    tensor = axial_tensor(2.2e-3, 1.2e-3, [0.2, 0.4, 1.0])
    data = noisy(np.tile(tensor_signal(12.0, tensor, BVALS, BVECS), (10000, 1)))
    bias = [
        fit_dti_nlls(data, BVALS, BVECS, sigma=1.0, rician=r).md_mm2_s.mean() / (4.6e-3 / 3) - 1
        for r in (False, True)
    ]
    assert bias[0] < -0.025 and abs(bias[1]) < 0.01


@pytest.mark.parametrize(("share", "keys"), [(0.1, ("fa", "md_mm2_s")), (0.2, ("md_mm2_s",))])
def test_outliers_do_less_harm_than_in_the_other_fits(share, keys):
    signal = tensor_signal(25.0, tensors(400), BVALS, BVECS)
    truth = fit_dti(signal, BVALS, BVECS)
    data, _ = spoil(noisy(signal), share)
    robust = fit_dti_restore(data, BVALS, BVECS, sigma=1.0)
    for fit in (fit_dti, fit_dti_nlls):
        other = fit(data, BVALS, BVECS, sigma=1.0)
        for key in keys:
            assert rmse(robust, truth, key) < 0.8 * rmse(other, truth, key)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
def test_errors_with_outliers_are_no_larger_than_those_of_dipy(share):
    signal = tensor_signal(25.0, tensors(400), BVALS, BVECS)
    truth = fit_dti(signal, BVALS, BVECS)
    data, _ = spoil(noisy(signal), share)
    table = gradient_table(BVALS, bvecs=BVECS)
    theirs = TensorModel(table, fit_method="RESTORE", sigma=1.0).fit(data)
    ours = fit_dti_restore(data, BVALS, BVECS, sigma=1.0, rician=False)  # as dipy takes it
    for key, value in (("fa", theirs.fa), ("md_mm2_s", theirs.md)):
        error = np.sqrt(np.mean((value - getattr(truth, key)) ** 2))
        assert rmse(ours, truth, key) < error


def test_gross_outliers_are_left_out_and_counted():
    signal = tensor_signal(60.0, tensors(500), BVALS, BVECS)
    data = noisy(signal)
    rng = np.random.default_rng(1)
    spoilt = np.array([rng.choice(np.arange(4, 36), 3, replace=False) for _ in data])
    np.put_along_axis(data, spoilt, 0.1 * np.take_along_axis(data, spoilt, 1), 1)
    data[:, 20] = 0  # not measured: neither used nor an outlier
    clean = noisy(signal)
    clean[:, 20] = 0
    found = fit_dti_restore(data, BVALS, BVECS, sigma=1.0)
    clean_fit = fit_dti_restore(clean, BVALS, BVECS, sigma=1.0)
    too_many = np.round(found.outlier_fraction * 35) - (spoilt != 20).sum(1)
    assert (too_many >= 0).all() and too_many.mean() < 0.25
    assert clean_fit.outlier_fraction.mean() < 0.006
    truth = fit_dti(signal, BVALS, BVECS)
    assert rmse(found, truth, "fa") < 1.25 * rmse(clean_fit, truth, "fa")
    inside = np.abs(found.md_mm2_s - truth.md_mm2_s) < found.md_se_mm2_s
    assert 0.6 < inside.mean() < 0.76


def test_without_outliers_it_is_the_nonlinear_fit():
    data = noisy(tensor_signal(25.0, tensors(300), BVALS, BVECS))
    plain = fit_dti_nlls(data, BVALS, BVECS, sigma=1.0)
    robust = fit_dti_restore(data, BVALS, BVECS, sigma=1.0)
    same = robust.outlier_fraction == 0
    assert 0.85 < same.mean() < 1
    for key in (*VALUES, *ERRORS, "v1", "status"):
        np.testing.assert_array_equal(getattr(robust, key)[same], getattr(plain, key)[same])


def test_unknown_noise_is_read_from_the_residuals():
    signal = tensor_signal(60.0, tensors(300), BVALS, BVECS)
    data = noisy(signal)
    data[:, [7, 23]] *= 0.2
    truth = fit_dti(signal, BVALS, BVECS)
    found = fit_dti_restore(data, BVALS, BVECS)
    assert (found.outlier_fraction >= 2 / 36).mean() > 0.9
    assert rmse(found, truth, "fa") < 0.3 * rmse(fit_dti_nlls(data, BVALS, BVECS), truth, "fa")
    known = fit_dti_restore(data, BVALS, BVECS, sigma=1.0, rician=False)
    # a good volume that happens to be far off is left out too, and the rest looks better
    assert 0.85 < found.md_se_mm2_s.mean() / known.md_se_mm2_s.mean() < 1


def test_too_few_residuals_leave_the_error_unknown():
    few = slice(3, 15)
    data = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0, 0, 1.0]), BVALS, BVECS)[few]
    for fit in FITS:
        found = fit(data[None], BVALS[few], BVECS[few])
        assert found.status[0] == 0 and np.isfinite(found.fa[0]) and np.isnan(found.fa_se[0])


@pytest.mark.parametrize("fit", FITS)
def test_noise_after_denoising_is_that_of_the_linear_fit(fit):
    truth = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0.2, 0.4, 1.0]), BVALS, BVECS)[None]
    basis = np.linalg.qr(np.vstack([truth, BVALS + 1]).T)[0].T[None]
    left = RetainedNoise(np.full(1, 0.1), np.full(1, 1.5), basis, np.zeros(1, np.intp))
    linear = fit_dti(truth, BVALS, BVECS, sigma=1.0, noise=left)
    found = fit(truth, BVALS, BVECS, sigma=1.0, noise=left, rician=False)
    for error in ERRORS:
        np.testing.assert_allclose(getattr(found, error), getattr(linear, error), rtol=1e-5)


@pytest.mark.parametrize("fit", FITS)
def test_each_reason_is_told(fit):
    good = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0, 0, 1.0]), BVALS, BVECS)
    data = np.tile(good, (6, 1))
    data[1, 3] = np.nan
    data[2] = 0
    data[3, 6:] = 0  # six volumes left
    data[4, 4:] = good[0] * 1.2  # grows with b
    mask = np.array([1, 1, 1, 1, 1, 0], bool)
    before = data.copy()
    found = fit(data, BVALS, BVECS, mask, sigma=1.0)
    assert found.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.TOO_FEW, Reason.OUT_OF_RANGE,
        Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    for key in (*VALUES, *ERRORS):
        assert np.isnan(getattr(found, key)[1:]).all() and np.isfinite(getattr(found, key)[0])
    if fit is fit_dti_restore:
        assert np.isnan(found.outlier_fraction[1:]).all() and found.outlier_fraction[0] == 0
    np.testing.assert_array_equal(data, before)


def test_result_does_not_depend_on_the_number_of_threads():
    data, _ = spoil(noisy(tensor_signal(25.0, tensors(9000), BVALS, BVECS)), 0.01)
    one, two = (fit_dti_restore(data, BVALS, BVECS, sigma=1.0, n_threads=k) for k in (1, 2))
    for key in (*VALUES, *ERRORS, "outlier_fraction", "status"):
        np.testing.assert_array_equal(getattr(one, key), getattr(two, key))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("b", "g", "wanted"),
    [
        (BVALS, BVECS * 1.5, "unit length"),
        (BVALS[:-1], BVECS, "must be"),
        (BVALS[4:], BVECS[4:], "determine 6"),
    ],
)
def test_gradients_that_make_no_tensor_are_refused(fit, b, g, wanted):
    with pytest.raises(ValueError, match=wanted):
        fit(np.ones((2, len(g))), b, g)


def test_a_cut_off_that_is_none_is_refused():
    with pytest.raises(ValueError, match="positive"):
        fit_dti_restore(np.ones((2, 36)), BVALS, BVECS, cutoff_sigma=0)
