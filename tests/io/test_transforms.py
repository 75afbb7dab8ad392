"""Transforms in ITK's text format."""

import numpy as np
from helpers import read_itk

from mrn_prep.io.transforms import write_itk
from mrn_prep.models.motion import rigid_matrix, rigid_to_world


def test_transforms_are_read_back(tmp_path):
    there = rigid_matrix([[0.1, -0.2, 0.3], [0, 0, 0.5]], [[1, 2, 3], [-4, 5, 6]])
    back = read_itk(write_itk(there, tmp_path / "x.txt"))
    np.testing.assert_allclose(back, there, atol=1e-7)


def test_file_says_left_and_posterior_as_itk_does(tmp_path):
    path = write_itk(rigid_matrix([0, 0, 0], [1.5, 2.5, 3.5])[None], tmp_path / "x.txt")
    lines = path.read_text().splitlines()
    assert lines[0] == "#Insight Transform File V1.0"
    assert lines[2] == "Transform: MatrixOffsetTransformBase_double_3_3"
    assert lines[3] == "Parameters: 1 0 0 0 1 0 0 0 1 -1.5 -2.5 3.5"
    assert lines[4] == "FixedParameters: 0 0 0"


def test_transform_takes_a_point_of_the_reference_to_the_volume(tmp_path):
    """A limb that moved 2 mm along the first axis of an image whose first axis points left."""
    affine = np.diag([-2.0, 2, 2, 1])
    world = rigid_to_world(rigid_matrix([0, 0, 0], [2.0, 0, 0])[None], affine, (8, 8, 8), (2, 2, 2))
    (matrix,) = read_itk(write_itk(world, tmp_path / "x.txt"))
    np.testing.assert_allclose(matrix @ [5, 6, 7, 1], [3, 6, 7, 1])


def test_volume_that_was_not_registered_has_the_identity(tmp_path):
    transforms = np.stack([np.eye(4), np.full((4, 4), np.nan)])
    np.testing.assert_array_equal(read_itk(write_itk(transforms, tmp_path / "x.txt"))[1], np.eye(4))
