import numpy as np
import pytest

from mrn_prep.models.dce_signal import CONTINUOUS, Interruption, dynamic_signal, rate_of
from mrn_prep.models.t1_vfa import spgr_signal

TR_S = 0.005


def by_simulation(r1, flip, pause):
    """Magnetisation before the pulse that counts, after many segments."""
    m, seen = 1.0, 0.0
    for _ in range(400):
        for j in range(pause.n_pulses):
            seen = m if j == pause.centre else seen
            m = 1 + (m * np.cos(flip) - 1) * np.exp(-TR_S * r1)
        m = 1 + (m - 1) * np.exp(-pause.gap_s * r1)
    return seen


@pytest.mark.parametrize("r1", [0.6, 2.0, 20.0])
@pytest.mark.parametrize("pause", [Interruption(20, 0.03, 10), Interruption(8, 0.1, 0)])
def test_agrees_with_a_simulation_of_every_pulse(r1, pause):
    found = dynamic_signal(r1, 0.3, TR_S, pause)
    np.testing.assert_allclose(found, by_simulation(r1, 0.3, pause), rtol=1e-10)


def test_without_pauses_it_is_the_spoiled_gradient_echo():
    r1, flip = np.array([0.5, 1.0, 5.0]), 0.35
    truth = spgr_signal(1.0, 1 / r1, [flip], TR_S)[:, 0] / np.sin(flip)
    np.testing.assert_allclose(dynamic_signal(r1, flip, TR_S), truth)
    np.testing.assert_allclose(dynamic_signal(r1, flip, TR_S, Interruption(9, 1e-12, 3)), truth)


@pytest.mark.parametrize(
    "pause", [CONTINUOUS, Interruption(20, 0.03, 10), Interruption(40, 0.2, 0)]
)
def test_rate_is_found_again(pause):
    for r1 in np.geomspace(0.05, 60.0, 30):
        value = float(dynamic_signal(r1, 0.3, TR_S, pause))
        found, slope = rate_of(value, np.cos(0.3), TR_S, *pause)
        np.testing.assert_allclose(found, r1, rtol=1e-9)
        higher, lower = dynamic_signal(np.array([r1 * 1.0001, r1 * 0.9999]), 0.3, TR_S, pause)
        np.testing.assert_allclose(slope, (higher - lower) / (2e-4 * r1), rtol=1e-5)
