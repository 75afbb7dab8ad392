import numpy as np
import pytest

from mrn_prep.io.gradients import read_gradients, to_scanner_axes, write_gradients

NEGATIVE, POSITIVE = np.diag([-2.0, 2, 2, 1]), np.diag([2.0, 2, 2, 1])


@pytest.fixture
def fsl(tmp_path):
    (tmp_path / "bval").write_text("0 1000 1000\n")
    (tmp_path / "bvec").write_text("0 1 0\n0 0 0.6\n0 0 0.8\n")
    return tmp_path / "bval", tmp_path / "bvec"


@pytest.mark.parametrize(("affine", "x"), [(NEGATIVE, 1.0), (POSITIVE, -1.0)])
def test_first_axis_is_reversed_when_the_determinant_is_positive(fsl, affine, x):
    b, bvecs = read_gradients(*fsl, affine)
    np.testing.assert_array_equal(b, [0, 1000, 1000])
    np.testing.assert_allclose(bvecs, [[0, 0, 0], [x, 0, 0], [0, 0.6, 0.8]])


@pytest.mark.parametrize("affine", [NEGATIVE, POSITIVE])
def test_what_is_written_is_read_again(fsl, affine, tmp_path):
    b, bvecs = read_gradients(*fsl, affine)
    paths = tmp_path / "out.bval", tmp_path / "out.bvec"
    write_gradients(b, bvecs, affine, *paths)
    again = read_gradients(*paths, affine)
    np.testing.assert_allclose(again[0], b)
    np.testing.assert_allclose(again[1], bvecs, atol=1e-6)
    assert "-0.000000" not in paths[1].read_text()


@pytest.mark.parametrize("affine", [NEGATIVE, POSITIVE])
def test_a_direction_means_the_same_in_the_scanner_whatever_the_storage(fsl, affine):
    """FSL's x is radiological: +x of the file is the patient's left-to-right reversed."""
    _, bvecs = read_gradients(*fsl, affine)
    np.testing.assert_allclose(to_scanner_axes(bvecs[1], affine), [-1, 0, 0])


def test_oblique_axes_are_turned():
    turn = np.eye(4)
    turn[:2, :2] = 2 * np.array([[0.6, -0.8], [0.8, 0.6]])
    np.testing.assert_allclose(to_scanner_axes(np.array([1.0, 0, 0]), turn), [0.6, 0.8, 0])
