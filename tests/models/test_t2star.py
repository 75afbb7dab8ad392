import numpy as np
import pytest

from mrn_prep.models.status import Reason
from mrn_prep.models.t2star import fit_t2star

TE_S = 0.0015 + 0.002 * np.arange(10)


def decay(t2star_s, te_s=TE_S, m0=1000.0):
    return m0 * np.exp(-te_s / np.asarray(t2star_s)[..., np.newaxis])


def magnitude(signal, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1])


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_recovers_t2star_from_noiseless_signal(shape):
    # 0.1 s is where one search hands over to the next
    for t2star in (0.0012, 0.005, 0.025, 0.0999, 0.1001, 0.2, 0.48):
        fit = fit_t2star(decay(np.full(shape, t2star)), TE_S)
        np.testing.assert_allclose(fit.t2star_s, t2star, rtol=1e-5)
        np.testing.assert_allclose(fit.m0, 1000.0, rtol=1e-5)
        assert fit.status.shape == fit.t2star_se_s.shape == shape
        assert not fit.status.any()


@pytest.mark.parametrize("t2star_s", [0.004, 0.025, 0.1])
def test_noise_brings_no_bias_and_intervals_cover(t2star_s):
    fit = fit_t2star(magnitude(decay(np.full(6000, t2star_s)), 20.0), TE_S, sigma=20.0)
    assert not fit.status.any()
    assert abs(np.median(fit.t2star_s) / t2star_s - 1) < 0.01
    assert 0.60 < np.mean(np.abs(fit.t2star_s - t2star_s) < fit.t2star_se_s) < 0.76
    assert abs(np.median(fit.m0) / 1000 - 1) < 0.01
    # least possible spread, where the floor is far
    slope = np.stack([TE_S / t2star_s**2, np.full(TE_S.size, 1e-3)]) * decay(t2star_s)
    least = 20.0 * np.sqrt(np.linalg.inv(slope @ slope.T)[0, 0])
    if t2star_s > 0.01:
        np.testing.assert_allclose(fit.t2star_s.std(), least, rtol=0.1)


def test_noise_floor_is_modelled():
    signal = magnitude(decay(np.full(4000, 0.004)), 50.0)
    assert abs(np.median(fit_t2star(signal, TE_S, sigma=50.0).t2star_s) / 0.004 - 1) < 0.01
    assert np.nanmedian(fit_t2star(signal, TE_S).t2star_s) > 0.0044


def test_what_has_no_t2star_is_not_fitted():
    signal = np.stack([*decay([0.025, 0.0005, 2.0, 0.025, 0.025]), np.zeros(10), np.full(10, 4.0)])
    signal[3, 4] = np.nan
    mask = np.ones(7, bool)
    mask[4] = False
    before = signal.copy()
    fit = fit_t2star(signal, TE_S, mask, sigma=2.0)
    np.testing.assert_array_equal(
        fit.status,
        [
            Reason.FITTED,
            Reason.OUT_OF_RANGE,
            Reason.OUT_OF_RANGE,
            Reason.NON_FINITE,
            Reason.OUTSIDE_MASK,
            Reason.NO_SIGNAL,
            Reason.NO_SIGNAL,
        ],
    )
    for values in (fit.t2star_s, fit.t2star_se_s, fit.m0, fit.m0_se):
        np.testing.assert_array_equal(np.isnan(values), fit.status > 0)
    np.testing.assert_array_equal(signal, before)


def test_rising_signal_is_out_of_range():
    assert fit_t2star(decay(0.02)[::-1], TE_S).status == Reason.OUT_OF_RANGE


@pytest.mark.parametrize(
    ("signal", "te_s"),
    [(np.ones(9), TE_S), (np.ones(1), TE_S[:1]), (np.ones(10), TE_S[::-1])],
)
def test_what_cannot_be_fitted_is_refused(signal, te_s):
    with pytest.raises(ValueError, match=r"must be|must increase"):
        fit_t2star(signal, te_s)
