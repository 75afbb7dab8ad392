"""Echo-planar images in an inhomogeneous field: tissue is displaced, and none of it lost."""

from dataclasses import replace

import numpy as np
import pytest
from distorted_limb import DistortedLimb

from mrn_prep.models.susceptibility import apply_field
from mrn_prep.phantom.distortion import Distortion
from mrn_prep.phantom.fields import Field
from mrn_prep.phantom.geometry import Shape
from mrn_prep.phantom.grid import Grid
from mrn_prep.phantom.limb import Limb
from mrn_prep.phantom.motion import Motion
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.series.blips import with_blips
from mrn_prep.phantom.series.dwi import DWI

GRID = Grid(shape=(80, 96, 3), voxel_mm=(2.0, 2.0, 4.0), mirrored=False)
B0 = np.zeros(1), np.zeros((1, 3))


@pytest.fixture(scope="module", params=[80.0, 250.0], ids=["80 Hz", "250 Hz"])
def pair(request):
    """A limb with a field, and both images of it with the sign of their blips."""
    scene = Scene(limb=Limb().with_b0(request.param), grid=GRID, pose=np.eye(4))
    both = with_blips(DWI(grid=GRID))
    images = [(sign, one.weighted(one.shown(scene), *B0)[..., 0]) for sign, one in
              zip((1, -1), both, strict=True)]  # fmt: skip
    return scene, both[0].weighted(scene, *B0)[..., 0], images


def test_tissue_is_shown_where_another_simulation_pushes_it(pair):
    scene, still, images = pair
    other = DistortedLimb(
        shape=GRID.shape, voxel_mm=GRID.voxel_mm, limb=scene.limb, hz=scene.limb.b0_hz.at
    )
    unit = still[scene.muscle].mean()
    for sign, image in images:
        apart = image - other.seen(sign)[..., 0]
        assert np.sqrt((apart**2).mean()) < 0.015 * unit  # both count points at borders
        assert np.sqrt(((image - still) ** 2).mean()) > 0.1 * unit


def test_no_signal_is_lost_along_a_line(pair):
    _, still, images = pair
    for _, image in images:
        lines, shown = still.sum(axis=1), image.sum(axis=1)
        np.testing.assert_allclose(shown, lines, atol=0.02 * lines.max())
        assert shown.sum() == pytest.approx(lines.sum(), rel=2e-3)


def test_the_true_field_undoes_it(pair):
    scene, still, images = pair
    unit = still[scene.muscle].mean()
    for sign, image in images:
        found = apply_field(image[..., None], scene.b0_hz, 1, sign, 0.045)[..., 0]
        error = (found - still)[scene.muscle] / unit
        assert np.sqrt(np.nanmean(error**2)) < 0.03


def test_a_constant_field_shifts_by_whole_voxels():
    affine, body = GRID.affine, Shape()
    shifted = Distortion(1, 0.05, Field(centre=60.0, tilt=(0, 0, 0), bowl=0.0))
    found = shifted.fractions(body, affine, GRID.shape, (3, 3, 2))
    expected = body.fractions(affine, GRID.shape, (3, 6, 2))
    np.testing.assert_allclose(found[:, 3:], expected[:, :-3], atol=1e-5)
    back = Distortion(1, -0.05, shifted.field_hz).fractions(body, affine, GRID.shape, (3, 3, 2))
    np.testing.assert_allclose(back[:, :-3], expected[:, 3:], atol=1e-5)


def test_a_slope_thins_tissue_by_its_jacobian():
    # 0.02 s * 1 Hz/mm * 2 mm per voxel: everything is 4 % longer
    field = Field(centre=0.0, tilt=(0, 75.0, 0), bowl=0.0)
    shares = Distortion(1, 0.02, field).fractions(Shape(), GRID.affine, GRID.shape, (3, 3, 2))
    inside = shares[38:42, 46:50, 1].sum(axis=-1)
    np.testing.assert_allclose(inside, 1 / 1.04, rtol=1e-5)


def test_where_the_image_folds_both_places_count():
    """y = x - x² / 40 about the centre, in voxels: the image turns back at x = 20, y = 10."""
    bent = Distortion(1, 0.05, Field(centre=0.0, tilt=(0, 0, 0), bowl=-(75**2) / (40 * 4 * 0.05)))
    shares = bent.fractions(Shape(), GRID.affine, GRID.shape, (2, 8, 2))
    line = shares[40, :, 1, 1:].sum(axis=-1)
    still = Shape().fractions(GRID.affine, GRID.shape, (2, 16, 2))[40, :, 1, 1:].sum(axis=-1)
    x = np.arange(GRID.shape[1]) - 47.5
    assert not line[x > 10].any()
    # what lies within sqrt(40) of the turning point is shown between 9 and 10
    assert line[x == 9.5][0] == pytest.approx(2 * np.sqrt(40), rel=0.01)
    # all is shown but what leaves the image at y = -48, from x = -28.17 down
    assert line.sum() == pytest.approx(still[x > -28].sum() + 0.17, rel=0.005)


def test_sources_are_what_the_equation_displaces_there():
    scene = Scene(limb=Limb().with_b0(200.0), grid=GRID, pose=np.eye(4))
    distortion = Distortion(1, -0.045, scene.limb.b0_hz)
    index = np.moveaxis(np.indices(GRID.shape, dtype=float), 0, -1)
    source = distortion.sources(index, scene.to_limb)
    hz = scene.limb.b0_hz.at(source @ scene.to_limb[:3, :3].T + scene.to_limb[:3, 3])
    np.testing.assert_allclose(source[..., 1] - 0.045 * hz, index[..., 1], atol=1e-9)
    np.testing.assert_array_equal(source[..., [0, 2]], index[..., [0, 2]])


def test_a_distorted_limb_that_does_not_move_gives_the_series_at_rest():
    series = replace(DWI(grid=replace(GRID, shape=(40, 48, 2), voxel_mm=(4.0, 4.0, 4.0))),
                     n_directions=6, distorted=True)  # fmt: skip
    scene = Scene(limb=Limb(), grid=series.grid, pose=np.eye(4))
    n = len(series.gradients[0])
    still = Motion(rotation_rad=np.zeros((n, 3)), translation_mm=np.zeros((n, 3)),
                   eddy=np.zeros((n, 4)))  # fmt: skip
    np.testing.assert_allclose(series.moving_signal(scene, still), series.signal(scene), rtol=1e-6)


def test_noise_follows_the_undistorted_limb():
    scene = Scene(limb=Limb().with_b0(300.0), grid=GRID, pose=np.eye(4))
    series, blips = with_blips(DWI(grid=GRID))
    plain = DWI(grid=GRID).weighted(scene, *B0)
    for one in (series, blips):
        np.testing.assert_array_equal(one.unspoilt(scene, np.zeros(1)), plain)
