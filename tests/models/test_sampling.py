import numpy as np
import pytest

from mrn_prep.models._retained_kernel import noise_power, propagate
from mrn_prep.models.resample import grid_points, warp
from mrn_prep.models.retained import RetainedNoise, untouched
from mrn_prep.models.sampling import Sampling

RNG = np.random.default_rng(5)


def moved_by(*shifts):
    matrices = np.tile(np.eye(4)[:3], (len(shifts), 1, 1))
    matrices[:, :, 3] = shifts
    return matrices


def test_noise_in_common_is_that_of_interpolated_noise():
    shape, shifts = (44, 44, 44), [(0, 0, 0), (0.5, 0.25, 0), (0.4375, 1.25, -0.5), (3, 0, 0)]
    white = RNG.normal(size=shape)
    read = [warp(white, grid_points(shape), matrix, 3) for matrix in moved_by(*shifts)]
    inner = np.zeros(shape, bool)
    inner[5:-5, 5:-5, 5:-5] = True
    read = np.array(read)[:, inner.ravel()]
    measured = read @ read.T / inner.sum()
    at = Sampling(moved_by(*shifts), np.zeros((4, 0)), 0).at(shape)[22, 22, 22]
    # one component that is 1 in each volume: its noise is what two volumes have in common
    left = RetainedNoise(np.zeros(1), np.ones(1), np.ones((1, 1, 4)), np.zeros(1, int), at[None])
    found = np.empty((4, 4))
    propagate(np.eye(4), left.rows(1.0, np.arange(1)), 0, found)
    np.testing.assert_allclose(found, measured, atol=0.02)
    assert found[0, 0] == pytest.approx(1) and abs(found[0, 3]) < 1e-12
    assert noise_power(np.ones(4), left.rows(1.0, np.arange(1)), 0) == pytest.approx(
        np.trace(found)
    )


def test_untouched_noise_stays_apart_and_is_averaged():
    at = Sampling(moved_by((0, 0, 0), (0.5, 0.5, 0)), np.zeros((2, 0)), 0).at((1, 1, 1))
    left = untouched(np.ones((1, 1, 1)), 2)
    left = RetainedNoise(left.fraction, left.n_components, left.basis, left.patch, at)
    found = np.empty((2, 2))
    propagate(np.eye(2), left.rows(1.0, np.arange(1)), 0, found)
    assert found[0, 1] == 0 and found[0, 0] == pytest.approx(1) and 0.2 < found[1, 1] < 0.6


def test_volumes_far_apart_have_nothing_in_common():
    at = Sampling(moved_by((0, 0, 0), (12.5, 0, 0)), np.zeros((2, 0)), 0).at((1, 1, 1))
    left = RetainedNoise(np.zeros(1), np.ones(1), np.ones((1, 1, 2)), np.zeros(1, int), at)
    found = np.empty((2, 2))
    propagate(np.eye(2), left.rows(1.0, np.arange(1)), 0, found)
    assert found[0, 1] == 0 and found[1, 1] > 0.2


def test_eddy_currents_and_field_displace():
    shape = (3, 5, 4)
    shift = np.zeros(shape)
    shift[2, 3, 3] = 1.5
    eddy = np.array([[0, 0, 0, 0.5], [np.nan] * 4])  # half a voxel along y per slice
    read = Sampling(moved_by((0, 0, 0), (0, 0, 0)), eddy, 1, shift, 0)
    at = read.at(shape) / 16
    assert at[2, 3, 3, 0].tolist() == [3.5, 3.75, 3]
    assert at[1, 1, 0, 0].tolist() == [1, 0.25, 0]
    assert not at[..., 1, :].any()  # a volume without a transform
    np.testing.assert_array_equal(read.at(shape, slice(2, 4)) / 16, at[:, :, 2:])
    assert read.of(np.array([True, False])).at(shape).shape == (*shape, 1, 3)
