import numpy as np
import pytest

from mrn_prep.phantom.geometry import MUSCLES, NERVES, REGIONS, Shape
from mrn_prep.phantom.limb import Limb

SHAPE = Shape()


def fine_slab(z_mm, size_mm=0.5, half_mm=85.0):
    """One thin slice through the whole thigh."""
    n = int(2 * half_mm / size_mm)
    affine = np.diag([size_mm, size_mm, 0.01, 1.0])
    affine[:3, 3] = [-half_mm, -half_mm, z_mm]
    return SHAPE.fractions(affine, (n, n, 1), (5, 5, 1))[:, :, 0]


@pytest.mark.parametrize("z_mm", [-22.0, 0.0, 22.0])
@pytest.mark.parametrize("name", [*NERVES, "femoralartery"])
def test_nerve_has_the_area_that_was_asked_for(name, z_mm):
    tube = SHAPE.tubes[name]
    affine = np.diag([0.04, 0.04, 0.01, 1.0])  # 16 mm around the nerve
    affine[:3, 3] = [tube.x_mm + tube.slope_x * z_mm - 8, tube.y_mm + tube.slope_y * z_mm - 8, z_mm]
    share = SHAPE.fractions(affine, (400, 400, 1), (1, 1, 1))[..., REGIONS[name].index]
    axial = share.sum() * 0.04**2
    across = axial * tube.tangent_at(z_mm)[2]
    assert across == pytest.approx(tube.area_at(z_mm), rel=0.003)


def test_nerves_run_obliquely_and_change_size():
    for name in NERVES:
        tube = SHAPE.tubes[name]
        assert np.degrees(np.arccos(tube.tangent_at(0.0)[2])) > 8
        assert tube.area_at(22) / tube.area_at(-22) > 1.1
    assert SHAPE.tubes["sciatic"].area_at(0) == pytest.approx(43)


def test_nerves_lie_in_fat():
    for name in NERVES:
        tube = SHAPE.tubes[name]
        reach = np.sqrt(tube.area_mm2 * tube.aspect / np.pi) + tube.sheath_mm / 2
        u = np.array([np.cos(tube.angle_rad), np.sin(tube.angle_rad)])
        for sign in (-1, 1):
            x, y = np.array([tube.x_mm, tube.y_mm]) + sign * reach * u
            assert SHAPE.region_at((x, y, 0.0)) == "intermuscularfat"


def test_tangent_is_the_derivative_of_the_centre():
    tube = SHAPE.tubes["sciatic"]
    # the centre of gravity of a leaning tube's cut is its centre line
    centres = []
    for z in (-10.0, 10.0):
        share = fine_slab(z)[..., REGIONS["sciatic"].index].astype(float)
        grid = np.stack(np.indices(share.shape), -1) * 0.5 - 85.0
        centres.append((share[..., None] * grid).sum((0, 1)) / share.sum())
    slope = (centres[1] - centres[0]) / 20.0
    tangents = tube.tangent_at(np.linspace(-10, 10, 201))
    expected = (tangents[:, :2] / tangents[:, 2:]).mean(axis=0)
    np.testing.assert_allclose(slope, expected, atol=2e-3)


def test_shares_sum_to_one_and_all_regions_are_there():
    slab = fine_slab(5.0, size_mm=1.3)
    np.testing.assert_allclose(slab.sum(axis=-1), 1.0, atol=1e-6)
    assert (slab.max(axis=(0, 1)) > 0).all()
    assert {"vastus", "rectusfemoris", "adductors", "hamstrings"} <= set(MUSCLES)


def test_limb_is_inside_the_field_of_view():
    edge = fine_slab(0.0)
    border = np.concatenate([edge[0], edge[-1], edge[:, 0], edge[:, -1]])
    assert (border[:, REGIONS["air"].index] == 1).all()


def test_finer_counting_converges():
    affine = np.diag([1.33, 1.33, 4.0, 1.0])
    affine[:3, 3] = [-10, -40, -4]
    shape = (20, 20, 3)
    exact = SHAPE.fractions(affine, shape, (25, 25, 15))
    usual = SHAPE.fractions(affine, shape, (5, 5, 3))
    assert np.sqrt(((usual - exact) ** 2).mean()) < 0.01


def test_an_oblique_grid_sees_the_same_limb():
    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.array([[1, 0.1, 0], [-0.1, 1, 0.05], [0, -0.05, 1]]))[0]
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-12, -40, -10]
    volume = Limb().fractions(turn @ affine, (12, 12, 8))
    index = (4, 6, 3)
    point = (turn @ affine @ [*index, 1])[:3]
    affine_there = np.diag([1e-3, 1e-3, 1e-3, 1.0])
    affine_there[:3, 3] = point
    there = Limb().fractions(affine_there, (1, 1, 1), (1, 1, 1))[0, 0, 0]
    assert volume[index][there.argmax()] > 0


def test_no_points_per_voxel_is_refused():
    with pytest.raises(ValueError, match="at least one point"):
        SHAPE.fractions(np.eye(4), (1, 1, 1), (5, 0, 3))
