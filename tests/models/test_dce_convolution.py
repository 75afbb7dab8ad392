import numpy as np
import pytest
from scipy.integrate import quad

from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_convolution import convolve_exponential, delayed, refine_input

UNEVEN = np.cumsum(np.r_[0.0, np.tile([0.5, 2.0, 4.0, 1.0, 11.0], 8)])


def polygon(t, cp, times):
    return np.interp(t, times, cp, left=0.0)


def by_quadrature(cp, times, k, at, delay=0.0):
    knots = [s + delay for s in times if times[0] + delay < s + delay < at]
    return quad(
        lambda u: polygon(u - delay, cp, times) * np.exp(-k * (at - u)),
        times[0] + delay, at, points=knots, limit=400, epsabs=1e-13, epsrel=1e-12,
    )[0]  # fmt: skip


@pytest.mark.parametrize("rate", [0.0, 1e-6, 3e-4, 0.01, 0.12, 0.9, -0.004])
def test_is_exact_for_a_polygon_at_uneven_times(rate):
    cp = parker_aif(UNEVEN, arrival_s=10.0)
    value, _ = convolve_exponential(cp, UNEVEN, rate)
    for i in (1, 7, 23, 40):
        np.testing.assert_allclose(value[i], by_quadrature(cp, UNEVEN, rate, UNEVEN[i]), rtol=1e-9)


@pytest.mark.parametrize("delay", [-4.3, 0.0, 0.25, 7.7])
def test_is_exact_between_the_times_of_the_input_and_for_any_delay(delay):
    cp = parker_aif(UNEVEN, arrival_s=10.0)
    frames = np.arange(15.0, 140.0, 3.7)
    value, _ = convolve_exponential(cp, UNEVEN, 0.02, frames, delay)
    truth = [by_quadrature(cp, UNEVEN, 0.02, at, delay) for at in frames]
    np.testing.assert_allclose(value, truth, rtol=1e-8)


@pytest.mark.parametrize("rate", [0.0, 1e-5, 2e-3, 0.07, 0.7, -0.003])
@pytest.mark.parametrize("frames", [None, np.arange(5.0, 140.0, 2.9)])
def test_slope_is_the_derivative_by_the_rate(rate, frames):
    cp, step = parker_aif(UNEVEN, arrival_s=10.0), 1e-5
    slope = convolve_exponential(cp, UNEVEN, rate, frames)[1]
    around = convolve_exponential(cp, UNEVEN, [rate + step, rate - step], frames)[0]
    np.testing.assert_allclose(slope, (around[0] - around[1]) / (2 * step), rtol=1e-5, atol=1e-5)


def test_series_and_closed_form_meet():
    # they change over at k h = 0.5
    h = np.array([0.0, 1.0, 2.0])
    below, above = (convolve_exponential([0.0, 1.0, 3.0], h, k) for k in (0.5 - 1e-12, 0.5 + 1e-12))
    np.testing.assert_allclose(below[0], above[0], rtol=1e-11)
    np.testing.assert_allclose(below[1], above[1], rtol=1e-11)


def test_one_exponential_with_another():
    t = np.arange(0.0, 300.0, 0.1)
    value, _ = convolve_exponential(np.exp(-t / 40), t, 1 / 90)
    truth = (np.exp(-t / 90) - np.exp(-t / 40)) / (1 / 40 - 1 / 90)
    np.testing.assert_allclose(value[1:], truth[1:], rtol=2e-5)


def test_delayed_input_is_nothing_before_and_constant_after():
    cp = np.array([1.0, 3.0, 2.0])
    found = delayed(cp, [0.0, 2.0, 4.0], [0.0, 0.9, 1.0, 2.0, 3.0, 5.0, 60.0], delay_s=1.0)
    np.testing.assert_allclose(found, [0.0, 0.0, 1.0, 2.0, 3.0, 2.0, 2.0])


def test_spline_restores_a_peak_between_frames():
    t, fine = np.arange(0.0, 120.0, 4.0), np.arange(0.0, 116.0, 0.1)
    truth = parker_aif(fine, arrival_s=18.7)
    finer, times = refine_input(np.interp(t, fine, truth), t)
    assert np.array_equal(times, np.arange(0.0, 116.5, 1.0))
    spline = np.abs(np.interp(fine, times, finer) - truth).max()
    lines = np.abs(np.interp(fine, t, np.interp(t, fine, truth)) - truth).max()
    assert spline < 0.5 * lines
    with pytest.raises(ValueError, match="factor"):
        refine_input(truth, fine, 0)


def test_shapes_follow_the_rates():
    value, slope = convolve_exponential(
        np.ones(4), np.arange(4.0), np.full((2, 3), 0.1), [1.0, 2.5]
    )
    assert value.shape == slope.shape == (2, 3, 2)
    assert convolve_exponential(np.ones(4), np.arange(4.0), 0.1)[0].shape == (4,)


@pytest.mark.parametrize(
    ("cp", "t", "said"),
    [
        (np.ones(3), [0.0, 1.0], "one value for each"),
        (np.ones(3), [0.0, 1.0, 1.0], "increase"),
        (np.ones(3), [0.0, 1.0, np.inf], "increase"),
        ([1.0, np.nan], [0.0, 1.0], "finite"),
        (np.ones(1), [0.0], "increase"),
    ],
)
def test_refuses_times_that_make_no_sense(cp, t, said):
    with pytest.raises(ValueError, match=said):
        convolve_exponential(cp, t, 0.1)
