"""Rigid registration of images of different contrast, against known motion."""

import numpy as np
import pytest

from mrn_prep.models.align import MOVED_VOXELS, align_series
from mrn_prep.models.motion import rotation_matrix, voxel_to_centred_mm
from mrn_prep.models.noise import rician_noise
from mrn_prep.phantom.limb import Limb
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.sites import site

VALUES = np.array([  # signals by region of three contrasts, as of flip angles, or MT on and off
    [0.0, *np.linspace(40, 100, 13)],
    [0.0, *np.linspace(100, 55, 13)],
    [0.0, *(60 + 35 * np.sin(np.arange(13)))],
])  # fmt: skip


def moved_by(degrees, mm):
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation_matrix(np.deg2rad(degrees)), mm
    return pose


def images(poses, snr, seed=0):
    """Each image of the thigh where its pose puts it (in the frame of the image block)."""
    grid = site(0, small=True).series["vfa"].grid
    to_mm = voxel_to_centred_mm(grid.shape, np.array(grid.voxel_mm))
    series = []
    for values, pose in zip(VALUES, poses, strict=True):
        warp = np.linalg.inv(to_mm) @ np.linalg.inv(pose) @ to_mm
        scene = Scene(limb=Limb(), grid=grid, pose=np.eye(4), warp=warp)
        series.append(scene.fractions @ values)
    clean = np.stack(series, axis=-1)
    noisy = rician_noise(clean, 70.0 / snr, np.random.default_rng(seed))
    return noisy.astype(np.float32), np.array(grid.voxel_mm), to_mm


def residual_voxels(found, poses, voxel_mm, to_mm, shape):
    """Mean distance of each image from where it should be, in voxels."""
    points = np.argwhere(np.ones(shape))[::97] @ to_mm[:3, :3].T + to_mm[:3, 3]
    points = points[np.hypot(*points[:, :2].T) < 60]
    out = []
    for i, pose in enumerate(poses):
        turn = rotation_matrix(found.rotation_rad[i])
        there = points @ turn.T + found.translation_mm[i]
        true = points @ pose[:3, :3].T + pose[:3, 3]
        out.append(np.linalg.norm((there - true) / voxel_mm, axis=1).mean())
    return np.array(out)


POSES = [
    np.eye(4),
    moved_by((0.5, -0.8, 2.5), (2.0, -1.5, 1.0)),
    moved_by((-0.5, 0.5, -3.0), (-1.0, 2.5, -2.0)),
]


@pytest.mark.parametrize("snr", [50.0, 20.0])
def test_motion_between_contrasts_is_found_to_a_fifth_of_a_voxel(snr):
    series, voxel_mm, to_mm = images(POSES, snr)
    found = align_series(series, voxel_mm, reference=0, n_threads=2)
    left = residual_voxels(found, POSES, voxel_mm, to_mm, series.shape[:3])
    assert found.registered.all()
    assert left.max() <= 0.2, left
    assert np.nanmean(np.abs(found.series - images([np.eye(4)] * 3, np.inf)[0])) < 10


def test_image_that_did_not_move_is_not_touched():
    series, voxel_mm, _ = images([np.eye(4)] * 3, 50.0)
    found = align_series(series, voxel_mm)
    assert (found.displacement_mm == 0).all()
    np.testing.assert_array_equal(found.series, series)


def test_image_without_signal_is_left_and_said_not_to_be_registered():
    series, voxel_mm, _ = images(POSES, 50.0)
    rng = np.random.default_rng(1)
    series[..., 1] = rician_noise(np.zeros(series.shape[:3]), 1.4, rng)
    found = align_series(series, voxel_mm, reference=0)
    assert found.registered.tolist() == [True, False, True]
    np.testing.assert_array_equal(found.series[..., 1], series[..., 1])


def test_moved_image_is_not_made_up_beyond_its_field_of_view():
    poses = [np.eye(4), moved_by((0, 0, 0), (0, 0, 8.0)), np.eye(4)]
    series, voxel_mm, _ = images(poses, 50.0)
    found = align_series(series, voxel_mm, reference=0)
    assert found.displacement_mm[1] > MOVED_VOXELS * voxel_mm.min()
    assert np.isnan(found.series[..., -1, 1]).all() or np.isnan(found.series[..., 0, 1]).all()
