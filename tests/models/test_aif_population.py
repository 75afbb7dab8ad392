import numpy as np
import pytest
from scipy.special import gamma

from mrn_prep.models.aif_population import georgiou_aif, parker_aif, weinmann_aif

T = np.arange(0.0, 600.0, 1.0)
CURVES = [parker_aif, georgiou_aif, weinmann_aif]


@pytest.mark.parametrize("curve", CURVES)
def test_scales_with_the_dose_and_moves_with_the_arrival(curve):
    np.testing.assert_allclose(curve(T, 0.2), 2 * curve(T))
    late = curve(T, arrival_s=30.0)
    assert not late[:30].any()
    np.testing.assert_allclose(late[30:], curve(T)[:-30])


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("dose", [0.0, -0.1, np.nan, np.inf])
def test_refuses_an_impossible_dose(curve, dose):
    with pytest.raises(ValueError, match="dose"):
        curve(T, dose)


def test_parker_at_published_times():
    # minutes and mM of the published form, by hand: both Gaussians and the sigmoid
    t = 0.3
    first = 0.809 / (0.0563 * np.sqrt(2 * np.pi)) * np.exp(-((t - 0.17046) ** 2) / 2 / 0.0563**2)
    second = 0.330 / (0.132 * np.sqrt(2 * np.pi)) * np.exp(-((t - 0.365) ** 2) / 2 / 0.132**2)
    tail = 1.050 * np.exp(-0.1685 * t) / (1 + np.exp(-38.078 * (t - 0.483)))
    np.testing.assert_allclose(parker_aif(60 * t), first + second + tail, rtol=1e-12)


def test_georgiou_before_and_after_recirculation():
    def gamma_variate(a, t):
        return t**a * np.exp(-t / 0.032) / (0.032 ** (a + 1) * gamma(a + 1))

    def decays(t):
        return 0.37 * np.exp(-0.11 * t) + 0.33 * np.exp(-1.17 * t) + 10.06 * np.exp(-16.02 * t)

    np.testing.assert_allclose(
        georgiou_aif(6.0), decays(0.1) * gamma_variate(5.26, 0.1), rtol=1e-10
    )
    twice = gamma_variate(5.26, 0.2) + gamma_variate(2 * 5.26 + 1, 0.2 - 0.129)
    np.testing.assert_allclose(georgiou_aif(12.0), decays(0.2) * twice, rtol=1e-10)


def test_georgiou_does_not_overflow_in_long_series():
    t = np.arange(0.0, 3600.0, 10.0)
    curve = georgiou_aif(t)
    assert np.isfinite(curve).all()
    assert np.all(np.diff(curve[30:]) < 0)
