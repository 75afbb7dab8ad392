import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from mrn_prep.models import motion
from mrn_prep.models.dti import axial_tensor, fit_dti, tensor_signal
from mrn_prep.models.eddy import correct_motion_eddy

RNG = np.random.default_rng(3)
OBLIQUE = np.array(
    [[-2.0, 0.1, 0.4, 80], [0.2, 1.9, -1.5, -60], [0.1, 0.5, 3.6, -20], [0, 0, 0, 1]]
)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.3, np.pi - 1e-3])
def test_rotation_matrix_agrees_with_scipy_and_its_inverse(angle):
    vectors = RNG.normal(size=(5, 3))
    vectors *= angle / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(
        motion.rotation_matrix(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-14
    )
    back = motion.rotation_vector(motion.rotation_matrix(vectors))
    np.testing.assert_allclose(back, vectors, atol=1e-9)


def test_world_transform_moves_the_same_tissue():
    shape, voxel_mm = (20, 30, 10), np.linalg.norm(OBLIQUE[:3, :3], axis=0)
    rigid = motion.rigid_matrix([0.1, -0.05, 0.2], [1, 2, 3])
    to_mm = motion.voxel_to_centred_mm(shape, voxel_mm)
    voxel = np.array([3.0, 20, 7, 1])
    shown_at = np.linalg.inv(to_mm) @ rigid @ to_mm @ voxel
    world = motion.rigid_to_world(rigid, OBLIQUE, shape, voxel_mm)
    np.testing.assert_allclose(world @ OBLIQUE @ voxel, OBLIQUE @ shown_at, atol=1e-10)


def test_eddy_coefficients_in_voxels_displace_the_same():
    voxel_mm, points = np.array([1.5, 2.0, 5.0]), RNG.normal(size=(7, 3)) * 30
    eddy = RNG.normal(size=10) * 1e-3
    moved = motion.displaced(points, np.eye(4), eddy, 1)
    in_voxels = motion.eddy_in_voxels(eddy, voxel_mm, 1)
    expected = points / voxel_mm
    expected[:, 1] += motion.eddy_basis(points / voxel_mm, 10) @ in_voxels
    np.testing.assert_allclose(moved / voxel_mm, expected, atol=1e-12)


def test_half_a_sphere_of_directions_is_unbalanced():
    g = RNG.normal(size=(4000, 3))
    g /= np.linalg.norm(g, axis=1, keepdims=True)
    b = np.full(4000, 800)
    assert motion.gradient_imbalance(g, b) < 0.05
    np.testing.assert_allclose(motion.gradient_imbalance(g * np.sign(g[:, 2:]), b), 0.5, atol=0.02)


def _turned_series(turn):
    """A limb-like block with fibres along x; all but the first volume turned about its centre."""
    shape, voxel_mm, b0 = (44, 44, 14), np.array([2.0, 2.0, 3.0]), [0, 5, 11]
    x, y, z = ((np.indices(shape).T - (np.array(shape) - 1) / 2) * voxel_mm).T
    s0 = 1000.0 * (np.hypot(x / 32, (y - 3) / 25) < 1)
    for u, v, w in RNG.uniform(-18, 18, size=(8, 3)):
        s0[np.sqrt((x - u) ** 2 + (y - v) ** 2 + (z - w / 2) ** 2) < 6] *= 0.4
    s0 = ndimage.gaussian_filter(s0, 0.7)
    k = np.arange(24) + 0.5
    polar, azimuth = np.arccos(1 - k / 12), np.pi * (1 + 5**0.5) * k
    sphere = np.stack(
        [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)], 1
    )
    g = np.insert(RNG.permutation(sphere), [0, 4, 9], 0.0, axis=0)
    b = np.where(np.linalg.norm(g, axis=1) > 0, 800.0, 0.0)
    assert np.flatnonzero(b == 0).tolist() == b0
    tensor = axial_tensor(2.0e-3, 1.0e-3, [1.0, 0, 0])
    seen = g @ turn  # turn.T @ g: the gradient in the frame of the turned limb
    seen[0] = g[0]
    clean = tensor_signal(s0, np.broadcast_to(tensor, (*shape, 6)), b, seen)
    grid = np.stack([x, y, z], -1)
    source = (grid @ turn) / voxel_mm + (np.array(shape) - 1) / 2
    series = np.stack(
        [ndimage.map_coordinates(v, np.moveaxis(source, -1, 0), order=5, mode="nearest")
         for v in np.moveaxis(clean, -1, 0)], -1,
    )  # fmt: skip
    series[..., 0] = clean[..., 0]
    noise = RNG.normal(size=(2, *series.shape)) * 15
    mask = ndimage.binary_fill_holes(s0 > 300)
    return np.hypot(series + noise[0], noise[1]).astype(np.float32), b, g, voxel_mm, mask


def test_fibres_of_a_turned_limb_are_restored_and_not_turned_the_other_way():
    angle = np.deg2rad(8)
    turn = motion.rotation_matrix([0, 0, angle])
    series, b, g, voxel_mm, mask = _turned_series(turn)
    fixed = correct_motion_eddy(series, b, g, voxel_mm, mask, None)
    np.testing.assert_allclose(fixed.rigid[1:, :3, :3], np.repeat(turn[None], 26, 0), atol=0.006)
    inner = ndimage.binary_erosion(mask, iterations=3)

    def off_axis(bvecs):
        fit = fit_dti(np.nan_to_num(fixed.corrected), b, bvecs, inner)
        v1 = fit.v1[inner & (fit.status == 0)]
        v1 *= np.sign(v1[:, :1])
        mean = v1.mean(axis=0)
        return np.rad2deg(np.arctan2(mean[1], mean[0]))

    assert abs(off_axis(fixed.bvecs)) < 0.7
    np.testing.assert_allclose(off_axis(g), 8, atol=0.8)
    wrong = motion.rotate_bvecs(g, np.linalg.inv(fixed.rigid))
    np.testing.assert_allclose(off_axis(wrong), 16, atol=1.2)
