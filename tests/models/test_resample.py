import numpy as np
import pytest
from scipy import ndimage

from mrn_prep.models.resample import grid_points, resample, sample, spline_coefficients, warp

RNG = np.random.default_rng(11)
VOLUME = RNG.normal(size=(9, 8, 7))
AFFINE = np.array([[-2.0, 0, 0.3, 9], [0, 1.5, 0.2, -8], [0.1, 0, 4.0, 3], [0, 0, 0, 1]])


def shifted(*by):
    move = np.eye(4)
    move[:3, 3] = by
    return AFFINE @ move


@pytest.mark.parametrize("order", [0, 1, 3])
def test_same_grid_returns_the_volume(order):
    same = resample(VOLUME, AFFINE, AFFINE, VOLUME.shape, order)
    np.testing.assert_allclose(same, VOLUME, atol=3e-6)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_agrees_with_scipy_inside(order):
    to = AFFINE @ np.array(
        [[0.9, 0.1, 0, 0.43], [-0.1, 0.9, 0.05, 1.13], [0, 0, 0.81, 0.72], [0, 0, 0, 1]]
    )
    ours = resample(VOLUME, AFFINE, to, (7, 7, 6), order)
    at = np.linalg.inv(AFFINE) @ to @ np.vstack([grid_points((7, 7, 6)).T, np.ones(294)])
    theirs = ndimage.map_coordinates(VOLUME, at[:3], order=order, mode="mirror")
    beyond = at[:3].T - (np.array(VOLUME.shape) - 1)
    inside = ((at[:3].T >= 0) & (beyond <= 0)).all(1)
    assert inside.sum() > 150
    np.testing.assert_allclose(ours.ravel()[inside], theirs[inside], atol=1e-4)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_nothing_is_invented_more_than_half_a_voxel_outside(order):
    near = resample(VOLUME, AFFINE, shifted(0, 0, 0.49), VOLUME.shape, order)
    far = resample(VOLUME, AFFINE, shifted(0, 0, 0.51), VOLUME.shape, order)
    assert np.isfinite(near).all()
    assert np.isnan(far[..., -1]).all() and np.isfinite(far[..., :-1]).all()


@pytest.mark.parametrize("order", [0, 1, 3])
def test_holes_stay_holes_and_do_not_spread(order):
    volume = np.full((12, 12, 12), 5.0)
    volume[4:7, 4:7, 4:7] = np.nan
    out = resample(volume, np.eye(4), np.eye(4), volume.shape, order)
    np.testing.assert_array_equal(np.isnan(out), np.isnan(volume))
    np.testing.assert_allclose(out[np.isfinite(out)], 5.0, rtol=1e-5)


def test_series_is_resampled_volume_by_volume():
    series = np.stack([VOLUME, 2 * VOLUME], -1)
    out = resample(series, AFFINE, shifted(0.3, 0, 0), (8, 8, 7), 3)
    np.testing.assert_allclose(out[..., 1], 2 * out[..., 0], rtol=1e-5)


def test_empty_volume_is_nan():
    assert np.isnan(resample(np.full((3, 3, 3), np.nan), AFFINE, AFFINE, (3, 3, 3))).all()


def test_single_slice_can_be_resampled():
    flat = VOLUME[..., :1]
    np.testing.assert_allclose(resample(flat, AFFINE, AFFINE, flat.shape, 3), flat, atol=3e-6)


def test_unknown_order_is_refused():
    with pytest.raises(ValueError, match="order is 0"):
        resample(VOLUME, AFFINE, AFFINE, (3, 3, 3), 2)


@pytest.mark.parametrize("pe_axis", [0, 1, 2])
def test_stretching_keeps_the_total_signal(pe_axis):
    grid = (np.indices((40, 40, 40)).T - 19.5).T
    bump = np.exp(-(grid**2).sum(0) / 18).astype(np.float32)
    eddy = np.zeros(10)
    eddy[[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]] = [
        0.7, 0.03, -0.05, 0.04, 1e-3, -2e-3, 1e-3, 2e-3, -1e-3, 1.5e-3]  # fmt: skip
    out = warp(bump, grid_points(bump.shape), np.eye(4)[:3], 3, eddy, pe_axis)
    np.testing.assert_allclose(np.nansum(out), bump.sum(), rtol=2e-4)
    # the shear must not be lost in it: the warped bump is a different one
    assert np.nanmax(np.abs(out.reshape(bump.shape) - bump)) > 0.1


def test_unfiltered_spline_smooths_by_a_third_of_a_voxel_squared():
    point = np.zeros((1, 21, 21, 21), np.float32)
    point[0, 10, 10, 10] = 1
    out = sample(point, grid_points((21, 21, 21)), np.eye(4)[None, :3], 3).reshape(21, 21, 21)
    offset = np.arange(21) - 10
    np.testing.assert_allclose((out.sum((1, 2)) * offset**2).sum(), 1 / 3, rtol=1e-5)
    assert spline_coefficients(point[0])[10, 10, 10] > 1
