import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel

from mrn_prep.models.dti import axial_tensor, fit_dti, select_tensor_volumes, tensor_signal
from mrn_prep.models.retained import RetainedNoise
from mrn_prep.models.status import Reason


def sphere(n):
    """Directions spread over half a sphere (golden spiral)."""
    z = (np.arange(n) + 0.5) / n
    angle = np.pi * (1 + 5**0.5) * np.arange(n)
    r = np.sqrt(1 - z**2)
    return np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=-1)


BVECS = np.vstack([np.zeros((4, 3)), sphere(32)])
BVALS = np.r_[np.zeros(3), 1.0, np.full(32, 800.0)]
BVECS[3] = [1, 0, 0]
VALUES = ("fa", "md_mm2_s", "ad_mm2_s", "rd_mm2_s", "s0")
ERRORS = ("fa_se", "md_se_mm2_s", "ad_se_mm2_s", "rd_se_mm2_s", "s0_se")


def random_tensors(n, seed=0):
    rng = np.random.default_rng(seed)
    lower = rng.normal(scale=0.25, size=(n, 3, 3)) + 1.1 * np.eye(3)
    d = lower @ lower.transpose(0, 2, 1) * 1e-3
    return d[:, [0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]], d


def noisy(signal, seed=0):
    rng = np.random.default_rng(seed)
    return np.hypot(signal + rng.normal(size=signal.shape), rng.normal(size=signal.shape))


def test_signal_of_a_full_tensor_is_its_quadratic_form():
    elements, d = random_tensors(20)
    quadratic = np.einsum("ni,vij,nj->vn", BVECS, d, BVECS)
    np.testing.assert_allclose(
        tensor_signal(70.0, elements, BVALS, BVECS), 70 * np.exp(-BVALS * quadratic), rtol=1e-12
    )


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4)])
def test_noise_free_tensors_are_recovered(shape):
    rng = np.random.default_rng(3)
    elements = axial_tensor(
        rng.uniform(1.5e-3, 2.2e-3, shape),
        rng.uniform(4e-4, 1.2e-3, shape),
        rng.normal(size=(*shape, 3)),
    )
    d = elements[..., [0, 1, 3, 1, 2, 4, 3, 4, 5]].reshape(*shape, 3, 3)
    evals, evecs = np.linalg.eigh(d)
    fit = fit_dti(tensor_signal(np.full(shape, 40.0), elements, BVALS, BVECS), BVALS, BVECS)
    assert fit.v1.shape == (*shape, 3)
    np.testing.assert_allclose(fit.md_mm2_s, evals.mean(-1), rtol=1e-8)
    np.testing.assert_allclose(fit.ad_mm2_s, evals[..., 2], rtol=1e-8)
    np.testing.assert_allclose(fit.rd_mm2_s, evals[..., :2].mean(-1), rtol=1e-8)
    np.testing.assert_allclose(fit.s0, 40.0, rtol=1e-8)
    spread = ((evals - evals.mean(-1, keepdims=True)) ** 2).sum(-1)
    np.testing.assert_allclose(fit.fa, np.sqrt(1.5 * spread / (evals**2).sum(-1)), rtol=1e-7)
    np.testing.assert_allclose(np.abs((fit.v1 * evecs[..., 2]).sum(-1)), 1.0, rtol=1e-8)


def test_noisy_values_are_those_of_dipy():
    elements, _ = random_tensors(2000)
    data = noisy(tensor_signal(30.0, elements, BVALS, BVECS))
    table = gradient_table(BVALS, bvecs=BVECS)
    theirs = TensorModel(table, fit_method="WLS", return_S0_hat=True, min_signal=1e-9).fit(data)
    ours = fit_dti(data, BVALS, BVECS)
    ok = ours.status == 0
    assert ok.mean() > 0.95
    for key, value in zip(
        VALUES, (theirs.fa, theirs.md, theirs.ad, theirs.rd, theirs.S0_hat), strict=True
    ):
        np.testing.assert_allclose(getattr(ours, key)[ok], value[ok], rtol=1e-7)
    aligned = np.abs((ours.v1 * theirs.evecs[..., 0]).sum(-1))[ok]
    np.testing.assert_allclose(aligned, 1.0, rtol=1e-6)


def test_standard_errors_are_the_spread_of_repeated_measurements():
    truth = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0.2, 0.4, 1.0]), BVALS, BVECS)
    fit = fit_dti(noisy(np.tile(truth, (20000, 1))), BVALS, BVECS, sigma=1.0)
    for value, error in zip(VALUES, ERRORS, strict=True):
        spread = getattr(fit, value).std()
        np.testing.assert_allclose(getattr(fit, error).mean(), spread, rtol=0.03, err_msg=value)


def test_residuals_give_the_same_errors_as_a_known_sigma():
    truth = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0.2, 0.4, 1.0]), BVALS, BVECS)
    data = noisy(np.tile(truth, (4000, 1)))
    known, guessed = fit_dti(data, BVALS, BVECS, sigma=1.0), fit_dti(data, BVALS, BVECS)
    np.testing.assert_allclose(guessed.md_se_mm2_s.mean(), known.md_se_mm2_s.mean(), rtol=0.02)


def test_too_few_residuals_leave_the_error_unknown():
    few = slice(3, 15)  # one b = 1, eleven directions: five degrees of freedom
    data = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0, 0, 1.0]), BVALS, BVECS)[few]
    fit = fit_dti(data[None], BVALS[few], BVECS[few])
    assert fit.status[0] == 0 and np.isfinite(fit.fa[0]) and np.isnan(fit.fa_se[0])


def test_noise_along_the_signal_moves_s0_alone():
    truth = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0.2, 0.4, 1.0]), BVALS, BVECS)[None]
    along = truth / np.linalg.norm(truth)
    left = RetainedNoise(np.full(1, 1e-12), np.ones(1), along[None], np.zeros(1, np.intp))
    fit = fit_dti(truth, BVALS, BVECS, sigma=1.0, noise=left)
    np.testing.assert_allclose(fit.s0_se, 50 / np.linalg.norm(truth), rtol=1e-6)
    assert fit.fa_se[0] < 1e-6 and fit.md_se_mm2_s[0] < 1e-9


def test_unreduced_noise_has_one_covariance_however_it_is_described():
    data = noisy(
        np.tile(tensor_signal(50.0, axial_tensor(2e-3, 1e-3, [0, 1, 1]), BVALS, BVECS), (9, 1))
    )
    left = RetainedNoise(
        np.zeros(9), np.full(9, 36.0), np.eye(BVALS.size)[None], np.zeros(9, np.intp)
    )
    plain, described = (fit_dti(data, BVALS, BVECS, sigma=2.0, noise=k) for k in (None, left))
    for error in ERRORS:
        np.testing.assert_allclose(getattr(described, error), getattr(plain, error), rtol=1e-6)


def test_each_reason_is_told():
    good = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0, 0, 1.0]), BVALS, BVECS)
    data = np.tile(good, (7, 1))
    data[1, 3] = np.nan
    data[2] = 0
    data[3, 6:] = 0  # six volumes left
    data[4, 5:] = -1  # and none of them weighted but one
    data[5, 4:] = good[0] * 1.2  # grows with b
    mask = np.array([1, 1, 1, 1, 1, 1, 0], bool)
    fit = fit_dti(data, BVALS, BVECS, mask, sigma=1.0)
    assert fit.status.tolist() == [
        Reason.FITTED,
        Reason.NON_FINITE,
        Reason.NO_SIGNAL,
        Reason.TOO_FEW,
        Reason.TOO_FEW,
        Reason.OUT_OF_RANGE,
        Reason.OUTSIDE_MASK,
    ]
    for key in (*VALUES, *ERRORS):
        assert np.isnan(getattr(fit, key)[1:]).all() and np.isfinite(getattr(fit, key)[0])


def test_remaining_volumes_that_do_not_span_the_tensor_are_too_few():
    data = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0, 0, 1.0]), BVALS, BVECS)
    data[:4] = 0  # 32 directions, no b0
    assert fit_dti(data, BVALS, BVECS).status == Reason.TOO_FEW


def test_a_volume_without_signal_is_left_out():
    data = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0, 0, 1.0]), BVALS, BVECS)
    data[[1, 8]] = [0, -3]
    fit = fit_dti(data, BVALS, BVECS, sigma=1.0)
    np.testing.assert_allclose(fit.ad_mm2_s, 1.8e-3, rtol=1e-9)
    data = tensor_signal(50.0, axial_tensor(1.8e-3, 0.8e-3, [0, 0, 1.0]), BVALS, BVECS)
    whole = fit_dti(data, BVALS, BVECS, sigma=1.0)
    assert whole.s0_se < fit.s0_se < 1.5 * whole.s0_se


def test_the_input_is_not_written_to():
    data = noisy(np.full((3, BVALS.size), 20.0))
    before = data.copy()
    fit_dti(data, BVALS, BVECS, sigma=1.0)
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize(
    ("b", "g", "wanted"),
    [
        (BVALS, BVECS * 1.5, "unit length"),
        (BVALS[:-1], BVECS, "must be"),
        (BVALS[4:], BVECS[4:], "determine 6"),
        (np.r_[0.0, np.full(5, 800.0)], np.vstack([np.zeros(3), sphere(5)]), "determine 6"),
        (np.full(36, 800.0), BVECS, "unit length"),
        (np.r_[-1.0, BVALS[1:]], BVECS, "0 or more"),
    ],
)
def test_gradients_that_make_no_tensor_are_refused(b, g, wanted):
    with pytest.raises(ValueError, match=wanted):
        fit_dti(np.ones((2, len(g))), b, g)


def test_noise_relative_to_an_unknown_sigma_is_refused():
    left = RetainedNoise(np.ones(2), np.zeros(2), np.zeros((1, 0, 36)), np.zeros(2, np.intp))
    with pytest.raises(ValueError, match="sigma"):
        fit_dti(np.ones((2, 36)), BVALS, BVECS, noise=left)


def test_low_b_stays_out_only_where_the_rest_makes_a_tensor():
    b = np.r_[BVALS, 50.0, 150.0, 200.0]
    g = np.vstack([BVECS, sphere(3)])
    chosen = select_tensor_volumes(b, g)
    assert chosen[:36].all() and chosen[36:].tolist() == [False, False, True]
    assert select_tensor_volumes(b, g, include_low_b=True).all()
    assert select_tensor_volumes(b[[0, *range(4, 9), 36]], g[[0, *range(4, 9), 36]]).all()
    assert select_tensor_volumes(b[4:], g[4:]).all()
