import itertools

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.reports import png, views
from mrn_prep.reports.regions import on_grid, outline, place, tissue_masks


@pytest.mark.parametrize("codes", list(itertools.product("LR", "AP", "SI")))
def test_axial_slices_show_the_right_side_left_and_front_up(codes):
    affine = np.eye(4)
    for axis, code in enumerate(codes):
        affine[axis, axis] = 1 if code in "RAS" else -1
    volume = np.zeros((8, 10, 3))
    right_front = (7 if codes[0] == "R" else 0, 9 if codes[1] == "A" else 0, 1)
    volume[right_front] = 1
    view = views.view_of(np.ones(volume.shape, bool), affine, [1])
    assert view.edges == ("R", "L")
    assert view.picture(volume, 1)[0, 0] == 1
    assert view.tile == (10, 8)


def test_transposed_grids_show_the_same_picture():
    rng = np.random.default_rng(0)
    volume = rng.random((6, 8, 2))
    plain = views.view_of(np.ones(volume.shape, bool), np.eye(4), [0])
    turned = volume.swapaxes(0, 1)
    affine = np.eye(4)[:, [1, 0, 2, 3]]
    other = views.view_of(np.ones(turned.shape, bool), affine, [0])
    np.testing.assert_array_equal(plain.picture(volume, 0), other.picture(turned, 0))


def test_sagittal_slices_show_the_front_left_and_the_head_up():
    affine = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]])  # A S R
    volume = np.zeros((4, 5, 2))
    volume[3, 4, 0] = 1
    view = views.view_of(np.ones(volume.shape, bool), affine, [0])
    assert view.edges == ("A", "P") and view.picture(volume, 0)[0, 0] == 1


def test_chosen_slices_show_nerves():
    limb = np.ones((4, 4, 20), bool)
    nerve = np.zeros_like(limb)
    nerve[1, 1, 3:6] = True
    assert views.choose(limb, [nerve]) == (3, 4, 5)
    assert len(views.choose(limb, [])) == views.MAX_SLICES


def test_slices_are_followed_to_another_grid():
    limb = np.ones((4, 4, 12), bool)
    affine = np.diag([1, 1, 3.0, 1])
    thick = np.diag([2, 2, 6.0, 1])
    points = views.anchors([2, 4, 5], limb, affine)  # z 6, 12, 15 mm
    assert views.at_anchors(points, (2, 2, 6), thick) == (1, 2)
    assert views.at_anchors(points, (2, 2, 2), thick) == (1,)


def test_no_value_is_transparent_and_the_window_is_kept():
    values = np.array([[np.nan, np.inf, -5.0, 0.0, 1.0, 9.0]])
    assert png.to_indices(values, (0.0, 1.0)).tolist() == [[0, 0, 1, 1, 255, 255]]


def test_png_is_read_back_by_others(tmp_path):
    from PIL import Image

    indices = np.arange(12, dtype=np.uint8).reshape(3, 4)
    file = tmp_path / "x.png"
    file.write_bytes(png.indexed(indices, png.palette("viridis")))
    image = Image.open(file)
    np.testing.assert_array_equal(np.asarray(image), indices)
    np.testing.assert_array_equal(
        np.asarray(image.convert("RGBA"))[..., 3], np.where(indices == 0, 0, 255)
    )


def test_outline_parts_neighbours():
    assert outline(np.array([[1, 2]], np.int32)).count("M") == 5


def test_regions_reach_another_grid_by_world_coordinates(tmp_path):
    fine = np.zeros((20, 20, 4), np.uint8)
    fine[4:8, 10:14, 1:3] = 7
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    file = tmp_path / "dseg.nii.gz"
    nb.Nifti1Image(fine, affine).to_filename(file)
    record = RegionFile(file=str(file), kind="dseg", source="x",
                        regions=(Region(index=7, name="n", tissue="nerve"),))  # fmt: skip
    coarse = np.diag([-2.0, 2.0, 5.0, 1.0])
    coarse[:3, 3] = [18.4, 0.4, 0.0]
    placed = place(record)
    expected = np.zeros((10, 10, 4), bool)
    # x = 18.4 - 2 i lies in [3.5, 7.5) for i = 6, 7; y = 0.4 + 2 j in [9.5, 13.5) for j = 5, 6
    expected[6:8, 5:7, 1:3] = True
    np.testing.assert_array_equal(on_grid(placed, (10, 10, 4), coarse) > 0, expected)
    masks = tissue_masks([placed], (10, 10, 4), coarse)
    np.testing.assert_array_equal(masks["nerve"], expected)


@pytest.mark.parametrize(("kind", "value", "inside"), [
    ("mask", 1.0, True), ("probseg", 0.6, True), ("probseg", 0.4, False),
])  # fmt: skip
def test_masks_and_probabilities_have_their_thresholds(tmp_path, kind, value, inside):
    file = tmp_path / "x.nii.gz"
    nb.Nifti1Image(np.full((2, 2, 2), value, np.float32), np.eye(4)).to_filename(file)
    record = RegionFile(file=str(file), kind=kind, source="x", regions=(Region(index=1, name="n"),))
    assert bool(place(record).labels.all()) is inside
