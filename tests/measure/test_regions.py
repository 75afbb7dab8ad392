import numpy as np
import pytest

from mrn_prep.measure.regions import memberships, probability_membership

FINE = np.diag([0.5, 0.5, 3.0, 1.0])
COARSE = np.diag([1.5, 1.5, 3.0, 1.0])


def disc(shape, affine, centre_mm, radius_mm, label=1):
    """A cylinder along z, drawn on a grid by voxel centres."""
    ijk = np.indices(shape).reshape(3, -1)
    xyz = affine[:3, :3] @ ijk + affine[:3, 3:]
    inside = np.hypot(xyz[0] - centre_mm[0], xyz[1] - centre_mm[1]) <= radius_mm
    return (label * inside).reshape(shape).astype(np.int16)


def on_grid(region, shape):
    """Fractions and pure voxels of a region on the whole grid."""
    fraction, pure = np.zeros(shape), np.zeros(shape, bool)
    fraction[region.box], pure[region.box] = region.fraction, region.pure
    return fraction, pure


def test_mask_on_its_own_grid_keeps_its_voxels():
    mask = disc((20, 20, 3), COARSE, (14, 14), 5)
    region = memberships(mask, COARSE, [1], mask.shape, COARSE)[1]
    np.testing.assert_array_equal(on_grid(region, mask.shape)[0], mask)
    assert region.fraction.size < 0.5 * mask.size  # only where the region is
    assert region.inside_image == 1.0


def test_pure_voxels_have_no_neighbour_of_another_label_in_plane():
    mask = np.zeros((9, 9, 3), int)
    mask[2:7, 2:7, 1] = 1
    region = memberships(mask, COARSE, [1], mask.shape, COARSE)[1]
    expected = np.zeros_like(mask, bool)
    expected[3:6, 3:6, 1] = True
    np.testing.assert_array_equal(on_grid(region, mask.shape)[1], expected)


def test_region_at_the_edge_of_its_image_is_not_pure_there():
    mask = np.ones((5, 5, 1), int)
    pure = memberships(mask, COARSE, [1], mask.shape, COARSE)[1].pure
    assert pure.sum() == 9
    assert not pure[0].any()


def test_volume_is_kept_on_a_coarser_grid():
    mask = disc((120, 120, 4), FINE, (30, 30), 7)
    region = memberships(mask, FINE, [1], (40, 40, 4), COARSE)[1]
    fine_mm3, coarse_mm3 = 0.5 * 0.5 * 3, 1.5 * 1.5 * 3
    assert region.fraction.sum() * coarse_mm3 == pytest.approx(mask.sum() * fine_mm3, rel=5e-3)
    assert region.fraction.max() <= 1


def test_fraction_of_a_voxel_is_the_part_that_the_region_covers():
    mask = np.zeros((6, 3, 1), int)
    mask[:2] = 1  # covers x from -0.25 to 0.75 mm
    mask_affine = np.diag([0.5, 0.5, 3.0, 1.0])
    target = np.diag([1.5, 1.5, 3.0, 1.0])
    target[:3, 3] = [0.5, 0.5, 0.0]  # its first voxel covers x from -0.25 to 1.25 mm
    region = memberships(mask, mask_affine, [1], (1, 1, 1), target)[1]
    assert region.fraction[0, 0, 0] == pytest.approx(2 / 3, abs=0.05)
    assert not region.pure[0, 0, 0]


def test_grids_meet_by_world_coordinates_when_axes_are_turned_and_flipped():
    mask = disc((60, 60, 5), FINE, (20, 12), 4)
    flipped = FINE.copy()
    flipped[0, 0], flipped[0, 3] = -0.5, 29.5  # the same places, first axis reversed
    turned = np.swapaxes(mask[::-1], 0, 1)
    turned_affine = flipped[:, [1, 0, 2, 3]]
    one, other = (
        on_grid(memberships(*drawn, [1], (20, 20, 5), COARSE)[1], (20, 20, 5))
        for drawn in ((mask, FINE), (turned, turned_affine))
    )
    np.testing.assert_allclose(one[0], other[0], atol=1e-6)
    np.testing.assert_array_equal(one[1], other[1])


def test_region_beyond_the_image_is_told():
    mask = disc((60, 60, 6), FINE, (15, 15), 5)
    region = memberships(mask, FINE, [1], (20, 20, 3), COARSE)[1]
    assert region.inside_image == pytest.approx(0.5, abs=0.01)


def test_absent_label_has_no_voxels():
    region = memberships(np.zeros((4, 4, 2), int), COARSE, [7], (4, 4, 2), COARSE)[7]
    assert not region.fraction.size
    assert not region.pure.size
    assert region.inside_image == 0


def test_region_outside_the_grid_has_no_voxels():
    mask = disc((60, 60, 6), FINE, (15, 15), 5)
    away = COARSE.copy()
    away[:3, 3] = [200.0, -90.0, 0.0]
    region = memberships(mask, FINE, [1], (20, 20, 3), away)[1]
    assert not region.fraction.size
    assert region.inside_image == 0


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2])
def test_box_holds_all_of_the_region_on_oblique_grids(angle):
    mask = disc((40, 40, 6), FINE, (9, 11), 4)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    target = turn @ np.diag([1.0, 1.0, 2.0, 1.0])
    shape = (25, 40, 30)
    target[:3, 3] = [10.0, 10.0, 7.5] - target[:3, :3] @ np.array(shape) / 2
    region = memberships(mask, FINE, [1], shape, target)[1]
    assert region.fraction.size < 0.3 * np.prod(shape)
    assert region.fraction.sum() * 2.0 == pytest.approx(mask.sum() * 0.75, rel=0.02)
    assert region.inside_image == pytest.approx(1.0, abs=0.02)


def test_neighbouring_regions_share_no_volume():
    mask = disc((80, 80, 2), FINE, (20, 20), 9)
    mask[40:][mask[40:] == 1] = 2
    found = memberships(mask, FINE, [1, 2], (27, 27, 2), COARSE)
    (one, pure), (other, also_pure) = (on_grid(found[i], (27, 27, 2)) for i in (1, 2))
    assert (one + other).max() <= 1 + 1e-6
    assert not (pure & also_pure).any()


def test_probability_is_averaged_over_the_voxel():
    probability = np.zeros((8, 8, 2), np.float32)
    probability[:4] = 1.0
    probability[4] = 0.5
    region = probability_membership(probability, COARSE, probability.shape, COARSE)
    fraction, pure = on_grid(region, probability.shape)
    np.testing.assert_allclose(fraction, probability)
    np.testing.assert_array_equal(pure, probability >= 0.99)
    nothing = probability_membership(0 * probability, COARSE, probability.shape, COARSE)
    assert nothing.inside_image == 0
