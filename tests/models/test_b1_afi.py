import numpy as np
import pytest

from mrn_prep.models.b1_afi import afi_looks_swapped, afi_signal, fit_afi, smooth_b1
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.status import Reason

FLIP = np.deg2rad(60.0)
TR1_S, TR2_S = 0.02, 0.1


def iterated(m0, t1_s, flip, tr1_s, tr2_s, n=4000):
    """Pulse, read, recover; again and again."""
    mz, signals = m0, (0.0, 0.0)
    for _ in range(n):
        signals = []
        for tr in (tr1_s, tr2_s):
            signals.append(mz * np.sin(flip))
            mz = m0 + (mz * np.cos(flip) - m0) * np.exp(-tr / t1_s)
    return signals


@pytest.mark.parametrize("flip_deg", [20, 60, 85, 120])
@pytest.mark.parametrize("t1_s", [0.37, 1.4])
def test_signal_is_the_steady_state_of_the_pulse_train(flip_deg, t1_s):
    flip = np.deg2rad(flip_deg)
    np.testing.assert_allclose(
        afi_signal(700.0, t1_s, flip, TR1_S, TR2_S),
        iterated(700.0, t1_s, flip, TR1_S, TR2_S),
        rtol=1e-12,
    )


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (2, 3, 4)])
@pytest.mark.parametrize("b1", [0.3, 0.6, 1.0, 1.2, 1.8])
@pytest.mark.parametrize("t1_s", [0.1, 0.37, 1.2])
def test_known_t1_makes_the_inversion_exact(shape, b1, t1_s):
    signal = afi_signal(np.full(shape, 700.0), t1_s, b1 * FLIP, TR1_S, TR2_S)
    fit = fit_afi(signal, FLIP, TR1_S, TR2_S, t1_s=np.full(shape, t1_s))
    assert fit.b1.shape == fit.b1_se.shape == fit.status.shape == shape
    np.testing.assert_allclose(fit.b1, b1, rtol=1e-9)


def test_first_order_formula_reads_low_by_what_its_order_allows():
    error = [
        float(fit_afi(afi_signal(1.0, t1, FLIP, TR1_S, TR2_S), FLIP, TR1_S, TR2_S).b1) - 1
        for t1 in (0.37, 1.2, 1.4, 1e4)
    ]
    assert -0.01 < error[0] < -0.004
    assert -0.003 < error[1] < error[2] < -0.001 / 2
    assert abs(error[3]) < 1e-6


def test_where_t1_is_unknown_the_first_order_formula_is_used():
    signal = afi_signal(np.ones(3), 0.37, 0.8 * FLIP, TR1_S, TR2_S)
    mixed = fit_afi(signal, FLIP, TR1_S, TR2_S, t1_s=np.array([0.37, np.nan, 0.37]))
    plain = fit_afi(signal, FLIP, TR1_S, TR2_S)
    np.testing.assert_allclose(mixed.b1, [0.8, plain.b1[1], 0.8], rtol=1e-9)


def test_what_cannot_be_fitted_is_nan_with_its_reason():
    good = afi_signal(100.0, 1.2, FLIP, TR1_S, TR2_S)
    signal = np.array([good, good, [np.nan, 1], [0, 0], [50.0, 60.0], [50.0, 50.0], [4.0, 3.0]])
    mask = np.ones(7, bool)
    mask[1] = False
    before = signal.copy()
    fit = fit_afi(signal, FLIP, TR1_S, TR2_S, mask, sigma=1.0)
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.OUTSIDE_MASK, Reason.NON_FINITE, Reason.NO_SIGNAL,
        Reason.INVALID_RATIO, Reason.FITTED, Reason.NO_SIGNAL,
    ]  # fmt: skip
    unfitted = fit.status != 0
    assert np.isnan(fit.b1[unfitted]).all() and np.isnan(fit.b1_se[unfitted]).all()
    assert fit_afi([50.0, 50.0], FLIP, TR1_S, TR2_S).status == Reason.OUT_OF_RANGE
    assert np.isnan(fit_afi(good, FLIP, TR1_S, TR2_S).b1_se)
    np.testing.assert_array_equal(signal, before)


@pytest.mark.parametrize("b1", [0.6, 0.8, 1.0, 1.2])
@pytest.mark.parametrize("t1_s", [0.37, 1.2])
def test_standard_errors_cover_the_truth(b1, t1_s):
    clean = afi_signal(np.ones(20000), t1_s, b1 * FLIP, TR1_S, TR2_S)
    sigma = clean.max() / 80
    noisy = rician_noise(clean, sigma, np.random.default_rng(0))
    fit = fit_afi(noisy, FLIP, TR1_S, TR2_S, t1_s=t1_s, sigma=sigma)
    covered = np.mean(np.abs(fit.b1 - b1) < fit.b1_se)
    assert 0.66 < covered < 0.70
    np.testing.assert_allclose(np.std(fit.b1), np.median(fit.b1_se), rtol=0.04)


@pytest.mark.parametrize("b1", [0.7, 0.9, 1.2])
@pytest.mark.parametrize("snr", [20, 50])
def test_smoothing_the_cosine_leaves_no_bias(b1, snr):
    shape = (40, 40, 20)
    clean = afi_signal(np.ones(shape), 1.4, b1 * FLIP, TR1_S, TR2_S)
    sigma = clean.max() / snr
    noisy = rician_noise(clean, sigma, np.random.default_rng(0))
    fit = fit_afi(noisy, FLIP, TR1_S, TR2_S, t1_s=1.4, sigma=sigma)
    mask = np.ones(shape, bool)
    smooth, se = smooth_b1(fit.b1, fit.b1_se, FLIP, mask, (2.0, 2.0, 4.0))
    assert abs(smooth.mean() / b1 - 1) < 0.003
    assert np.median(se) < np.nanmedian(fit.b1_se) / 5


def test_a_b1_map_without_errors_is_smoothed_all_the_same():
    b1 = np.full((12, 12, 4), 0.9)
    b1[5, 5, 2] = np.nan
    smooth, se = smooth_b1(b1, np.full_like(b1, np.nan), FLIP, b1 > 0, (3.0, 3.0, 5.0))
    np.testing.assert_allclose(smooth, 0.9, rtol=1e-9)
    assert np.isnan(se).all()


def test_swapped_images_are_noticed():
    signal = afi_signal(np.full((5, 5), 100.0), 1.2, FLIP, TR1_S, TR2_S)
    signal[0, 0] = np.nan
    mask = np.ones((5, 5), bool)
    assert not afi_looks_swapped(signal, mask)
    assert afi_looks_swapped(signal[..., ::-1], mask)
    assert not afi_looks_swapped(signal[..., ::-1], np.zeros((5, 5), bool))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tr1_s": 0.1, "tr2_s": 0.02}, "swapped"),
        ({"tr1_s": 0.1}, "tr1_s < tr2_s"),
        ({"signal": np.ones((4, 3))}, "two signals"),
        ({"flip_rad": 60.0}, "between 0 and pi"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    given = {"signal": np.ones((4, 2)), "flip_rad": FLIP, "tr1_s": TR1_S, "tr2_s": TR2_S}
    with pytest.raises(ValueError, match=message):
        fit_afi(**given | changes)
