import os
from pathlib import Path

import numpy as np
import pytest

from mrn_prep.models.epg import SliceProfile, cpmg_signal, train

SPACING_S = 0.0095


def isochromats(t1_s, t2_s, b1, n_echoes, n_spins=400):
    """Bloch simulation of many spins: exact where there are more spins than orders."""
    phase = 2 * np.pi * np.arange(n_spins) / n_spins
    half = SPACING_S / 2

    def rotate(m, angle, axis):
        c, s = np.cos(angle), np.sin(angle)
        a, b = {"x": (1, 2), "y": (2, 0)}[axis]
        out = m.copy()
        out[a], out[b] = c * m[a] - s * m[b], s * m[a] + c * m[b]
        return out

    def precess(m):
        c, s = np.cos(phase), np.sin(phase)
        x, y = c * m[0] - s * m[1], s * m[0] + c * m[1]
        e1, e2 = np.exp(-half / t1_s), np.exp(-half / t2_s)
        return np.stack([e2 * x, e2 * y, 1 + e1 * (m[2] - 1)])

    m = np.zeros((3, n_spins))
    m[2] = 1
    m = rotate(m, b1 * np.pi / 2, "x")
    echoes = []
    for _ in range(n_echoes):
        m = precess(rotate(precess(m), b1 * np.pi, "y"))
        echoes.append(-m[1].mean())
    return np.array(echoes)


@pytest.mark.parametrize("b1", [0.5, 0.85, 1.0, 1.2])
@pytest.mark.parametrize(("t1_s", "t2_s"), [(1.4, 0.035), (0.37, 0.15), (0.05, 0.05)])
def test_agrees_with_a_bloch_simulation_of_many_spins(t1_s, t2_s, b1):
    signal = cpmg_signal(1.0, t1_s, t2_s, b1, SPACING_S, 17)
    np.testing.assert_allclose(signal, isochromats(t1_s, t2_s, b1, 17), atol=1e-12)


def test_agrees_with_published_trains():
    folder = os.environ.get("MRN_PREP_REFERENCE")
    if not folder:
        pytest.skip("MRN_PREP_REFERENCE is not set")
    rows = np.loadtxt(Path(folder) / "epg" / "cpmg_17x9p5ms.csv", delimiter=",", skiprows=1)
    assert rows.shape == (36, 20)
    signal = cpmg_signal(1.0, rows[:, 0], rows[:, 1], rows[:, 2], SPACING_S, 17)
    np.testing.assert_allclose(np.abs(signal), rows[:, 3:], atol=1e-6)  # they are magnitudes


@pytest.mark.parametrize("n", [1, 2, 3, 8, 17, 32])
def test_a_shorter_train_is_the_beginning_of_a_longer_one(n):
    longest = cpmg_signal(1.0, 1.4, 0.06, 0.7, SPACING_S, 33)
    np.testing.assert_allclose(cpmg_signal(1.0, 1.4, 0.06, 0.7, SPACING_S, n), longest[:n])


def test_perfect_refocusing_leaves_exponential_decay():
    te = SPACING_S * np.arange(1, 18)
    signal = cpmg_signal(3.0, 0.4, 0.05, 1.0, SPACING_S, 17)
    np.testing.assert_allclose(signal, 3.0 * np.exp(-te / 0.05), rtol=1e-12)


def test_nominal_180_cannot_tell_too_much_from_too_little():
    trains = cpmg_signal(1.0, 1.4, 0.035, np.array([0.8, 1.2]), SPACING_S, 17)
    np.testing.assert_allclose(trains[0], trains[1], rtol=1e-12)
    trains = cpmg_signal(1.0, 1.4, 0.035, np.array([0.8, 1.2]), SPACING_S, 17, np.deg2rad(150))
    assert np.abs(trains[0] - trains[1]).max() > 0.1


def test_slice_profile_is_the_mean_over_the_slice():
    excitation, refocusing = np.array([0.2, 0.7, 1.0]), np.array([0.4, 0.9, 1.0])
    whole = cpmg_signal(
        2.0, 1.4, 0.04, 0.9, SPACING_S, 9, profile=SliceProfile(excitation, refocusing)
    )
    parts = [
        cpmg_signal(2.0, 1.4, 0.04, 0.9, SPACING_S, 9, np.pi * r, 0.5 * np.pi * e)
        for e, r in zip(excitation, refocusing, strict=True)
    ]
    np.testing.assert_allclose(whole, np.mean(parts, axis=0), rtol=1e-12)


@pytest.mark.parametrize("u", [-0.03, 0.0, 0.2, 0.6])
def test_derivatives_are_those_of_the_train(u):
    n, h = 17, 1e-5

    def all_of(ln_t2, u):
        rows, work = np.empty((3, n)), np.zeros((12, n + 2))
        train(1.4, np.exp(ln_t2), u, SPACING_S, n, *rows, work)
        return rows

    x = np.log(0.04)
    _, by_t2, by_u = all_of(x, u)
    np.testing.assert_allclose(
        by_t2, (all_of(x + h, u)[0] - all_of(x - h, u)[0]) / (2 * h), atol=1e-8
    )
    # with u = 0 a difference to both sides shows that the train goes on smoothly beyond 180°
    np.testing.assert_allclose(
        by_u, (all_of(x, u + h)[0] - all_of(x, u - h)[0]) / (2 * h), atol=1e-5
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_signal_has_the_shape_of_its_maps(shape):
    t2 = np.full(shape, 0.05)
    assert cpmg_signal(1.0, 1.4, t2, 0.9, SPACING_S, 5).shape == (*shape, 5)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="positive"):
        cpmg_signal(1.0, 1.4, 0.05, 1.0, 0.0, 5)
    with pytest.raises(ValueError, match="pair"):
        SliceProfile(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="finite"):
        SliceProfile(np.array([1.0, np.nan]), np.ones(2))
