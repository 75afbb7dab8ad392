import numpy as np
import pytest

from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood
from mrn_prep.models.dce_semi import measure_enhancement
from mrn_prep.models.status import Reason

T = np.arange(0.0, 300.0, 2.0)
BASELINE = slice(0, 12)
TRIANGLE = np.interp(T, [0, 31, 51, 300], [0.0, 0.0, 1.0, 0.5])


def tissue(n, ktrans=0.1, arrival_s=30.0):
    plasma = plasma_from_blood(parker_aif(T, arrival_s=arrival_s), 0.42)
    return np.tile(extended_tofts_curve(ktrans / 60, 0.2, 0.03, plasma, T), (n, 1))


def test_measures_a_polygon():
    found = measure_enhancement(TRIANGLE, T, BASELINE)
    assert abs(found.arrival_s - 31.0) < 0.3
    assert abs(found.arrival_s + found.time_to_peak_s - 52.0) < 1e-9
    assert abs(found.peak - (1 - 0.5 / 249)) < 1e-9
    assert abs(found.wash_in_per_s - 1 / 20) < 0.003
    assert abs(found.wash_out_per_s - 0.5 / 249) < 1e-6
    # up to 91 s: 10 for the rise, then 40 s from 1 down to 0.92
    assert abs(found.iauc60 - (10 + 40 * 0.96)) < 0.3
    assert abs(found.iauc90 - (10 + 70 * 0.93)) < 0.3


def test_relative_heights_are_fractions_of_the_baseline():
    signal = measure_enhancement(40 * (1 + TRIANGLE), T, BASELINE, relative=True)
    plain = measure_enhancement(TRIANGLE, T, BASELINE)
    for name in ("arrival_s", "peak", "wash_in_per_s", "iauc60"):
        np.testing.assert_allclose(getattr(signal, name), getattr(plain, name), rtol=1e-9)


@pytest.mark.parametrize("sigma", [0.01, 0.03])
def test_arrival_under_noise(sigma):
    curves = tissue(500)
    truth = measure_enhancement(curves[0], T, BASELINE).arrival_s
    noisy = curves + np.random.default_rng(0).normal(0, sigma, curves.shape)
    found = measure_enhancement(noisy, T, BASELINE, sigma=sigma)
    error = found.arrival_s[found.status == 0] - truth
    assert abs(np.median(error)) < 1.5
    assert np.quantile(np.abs(error), 0.9) < 4.0


def test_noise_is_no_arrival_before_contrast_can_come():
    t, rng = np.arange(0.0, 240.0, 4.0), np.random.default_rng(0)
    curve = np.interp(t, [0, 50, 58, 240], [0.0, 0.0, 1.0, 1.2])
    noisy = curve + rng.normal(0, 0.25, (500, t.size))
    told = {"sigma": 0.25}
    free = measure_enhancement(noisy, t, slice(0, 11), **told).arrival_s
    bound = measure_enhancement(noisy, t, slice(0, 11), earliest_s=40.0, **told).arrival_s
    assert np.mean(free < 40) > 0.2
    assert np.nanmin(bound) >= 40
    # where nothing forbids it, the same is found
    np.testing.assert_array_equal(bound[free >= 40], free[free >= 40])


def test_later_bolus_arrives_later():
    for delay in (4.0, 11.0):
        early, late = (
            measure_enhancement(tissue(1, arrival_s=a)[0], T, BASELINE)
            for a in (30.0, 30.0 + delay)
        )
        assert abs(late.arrival_s - early.arrival_s - delay) < 0.5
        np.testing.assert_allclose(late.iauc60, early.iauc60, rtol=0.02)


def test_what_cannot_be_measured_is_nan_with_its_reason():
    curves = np.stack([TRIANGLE] * 5)
    mask = np.ones(5, bool)
    curves[1, 3] = np.nan
    curves[2] = 0.0
    curves[3] = 0.01 * np.sin(np.arange(T.size))
    mask[4] = False
    found = measure_enhancement(curves, T, BASELINE, mask, sigma=0.01)
    assert found.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_ENHANCEMENT, Reason.NO_ENHANCEMENT,
        Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    assert np.isnan(found.peak[1:]).all()


def test_areas_and_slopes_need_frames():
    found = measure_enhancement(TRIANGLE[:50], T[:50], BASELINE, sigma=0.01)
    assert np.isfinite(found.iauc60)
    assert np.isnan(found.iauc90)
    short = measure_enhancement(TRIANGLE[:27], T[:27], BASELINE, sigma=0.01)
    assert np.isnan(short.wash_out_per_s)
    first = measure_enhancement(TRIANGLE[26:], T[26:], slice(0, 1), sigma=0.01)
    assert first.status in (Reason.TOO_FEW, Reason.NO_ENHANCEMENT)


def test_relative_to_nothing_is_no_signal():
    found = measure_enhancement(TRIANGLE, T, BASELINE, sigma=0.01, relative=True)
    assert found.status == Reason.NO_ENHANCEMENT


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"t_s": T[1:]}, "as there are"),
        ({"baseline": slice(200, 210)}, "too few"),
        ({"baseline": slice(0, 2)}, "too few"),
    ],
)
def test_refuses_what_makes_no_sense(change, said):
    arguments = {"curves": TRIANGLE, "t_s": T, "baseline": BASELINE} | change
    with pytest.raises(ValueError, match=said):
        measure_enhancement(**arguments)
