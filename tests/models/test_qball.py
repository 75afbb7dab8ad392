import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.qball import FEWEST_DIRECTIONS, fit_qball
from mrn_prep.models.status import Reason
from mrn_prep.phantom.gradients import directions

N = 60
FRAMES = Rotation.random(N, random_state=1).as_matrix()
FIRST, SECOND = FRAMES[:, :, 2], FRAMES[:, :, 0]
ALL = np.ones(N, bool)


def table(n, b=1000.0):
    return np.r_[0.0, np.full(n, b)], np.vstack([np.zeros(3), directions(n)])


def signal(b, g, *fibres):
    return sum(100 * tensor_signal(1.0, axial_tensor(1.8e-3, 5e-4, f), b, g) for f in fibres)


def degrees_between(a, b):
    return np.rad2deg(np.arccos(np.clip(np.abs((a * b).sum(-1)), 0, 1)))


@pytest.mark.parametrize("n", [FEWEST_DIRECTIONS, 30, 60])
def test_single_fibre_has_one_peak_along_it(n):
    b, g = table(n)
    found = fit_qball(signal(b, g, FIRST), b, g, ALL)
    assert (found.n_peaks == 1).all() and (found.status == Reason.FITTED).all()
    # the sphere's points are some four degrees apart
    assert degrees_between(found.directions[:, 0], FIRST).max() < 7
    assert np.isnan(found.directions[:, 1:]).all() and np.isnan(found.values[:, 1:]).all()
    np.testing.assert_array_equal(found.values[:, 0], 1.0)
    np.testing.assert_allclose(np.linalg.norm(found.directions[:, 0], axis=-1), 1, rtol=1e-6)


@pytest.mark.parametrize("n", [FEWEST_DIRECTIONS, 30])
def test_crossing_at_right_angles_has_two_peaks(n):
    b, g = table(n)
    found = fit_qball(signal(b, g, FIRST, SECOND), b, g, ALL)
    assert (found.n_peaks == 2).all()
    straight = degrees_between(found.directions[:, 0], FIRST) < 45
    other = np.where(straight, 1, 0)
    rows = np.arange(N)
    off = [degrees_between(found.directions[rows, 1 - other], FIRST),
           degrees_between(found.directions[rows, other], SECOND)]  # fmt: skip
    assert np.median(off) < 5 and np.max(off) < 15


def test_crossing_at_sixty_degrees_is_one_peak():
    b, g = table(30)
    between = np.cos(np.pi / 3) * FIRST + np.sin(np.pi / 3) * SECOND
    found = fit_qball(signal(b, g, FIRST, between), b, g, ALL)
    assert (found.n_peaks == 1).all()


def test_gfa_tells_fibres_from_water():
    b, g = table(30)
    fibre = fit_qball(signal(b, g, FIRST), b, g, ALL).gfa
    water = fit_qball(100 * tensor_signal(np.ones(N), [1e-3, 0, 1e-3, 0, 0, 1e-3], b, g), b, g, ALL)
    assert fibre.min() > 0.3 and water.gfa.max() < 0.01


def test_other_shells_have_no_part():
    b, g = table(30)
    rows = np.random.default_rng(0).normal(size=(20, 3))
    more_g = np.vstack([g, rows / np.linalg.norm(rows, axis=1, keepdims=True)])
    more_b = np.r_[b, np.full(20, 300.0)]
    alone = fit_qball(signal(b, g, FIRST), b, g, ALL)
    mixed = fit_qball(signal(more_b, more_g, FIRST), more_b, more_g, ALL)
    np.testing.assert_allclose(mixed.directions, alone.directions)
    np.testing.assert_allclose(mixed.gfa, alone.gfa)


def test_voxels_that_cannot_be_fitted_say_why():
    b, g = table(20)
    values = signal(b, g, FIRST)
    values[0], values[1, 3], values[2, 5] = 0, np.nan, -1
    mask = ALL.copy()
    mask[3] = False
    found = fit_qball(values.reshape(6, 10, -1), b, g, mask.reshape(6, 10))
    reasons = [Reason.NO_SIGNAL, Reason.NON_FINITE, Reason.TOO_FEW, Reason.OUTSIDE_MASK]
    assert found.status[0, :4].tolist() == reasons
    assert np.isnan(found.gfa[0, :4]).all() and np.isnan(found.directions[0, :4]).all()
    assert (found.n_peaks[0, :4] == 0).all() and (found.status[1:] == Reason.FITTED).all()
    empty = fit_qball(values, b, g, np.zeros(N, bool))
    assert (empty.status == Reason.OUTSIDE_MASK).all() and empty.directions.shape == (N, 3, 3)


def test_too_few_directions_are_refused():
    b, g = table(FEWEST_DIRECTIONS)
    values = signal(b, g, FIRST)
    with pytest.raises(ValueError, match="15 directions at one b-value, got 14"):
        fit_qball(values[:, :-1], b[:-1], g[:-1], ALL)
    # the same direction again, or its opposite, is no other
    with pytest.raises(ValueError, match="got 14"):
        fit_qball(values, b, np.vstack([g[:-1], -g[-2:-1]]), ALL)
    with pytest.raises(ValueError, match="needs a volume"):
        fit_qball(values[:, 1:], b[1:], g[1:], ALL)
    with pytest.raises(ValueError, match="must be"):
        fit_qball(values, b, g[1:], ALL)
