import os
import sys
from pathlib import Path

import numpy as np
import pytest

from mrn_prep.models.dti import fit_dti
from mrn_prep.models.gradient_check import axis_transforms, check_directions
from mrn_prep.phantom.gradients import directions

sys.path.insert(0, str(Path(__file__).parents[1]))
from distorted_limb import DistortedLimb, noisy
from synthetic_legs import legs_folder, moved_limb

LENGTHWISE = axis_transforms()[:, 2, 2] != 0
"""Transforms that leave the limb's axis in its place."""


@pytest.fixture(scope="module")
def thigh():
    """Tensor fit of the phantom's thigh at an SNR of 20."""
    limb = DistortedLimb()
    b, g = np.r_[0.0, 0.0, np.full(30, 800.0)], np.vstack([np.zeros((2, 3)), directions(30)])
    still = limb.still(b, g)
    sigma = still[..., 0][limb.muscle].mean() / 20
    signal = noisy(still, sigma, np.random.default_rng(0))
    return fit_dti(signal, b, g, limb.mask), limb.voxel_mm, limb.mask


def oblique_bundles(seed=0, shape=(34, 34, 20), voxel_mm=(3.5, 3.5, 4.5)):
    """Bundles side by side that run obliquely to all axes, in tissue without direction."""
    rng = np.random.default_rng(seed)
    along = np.array([0.35, 0.5, 0.8])
    along /= np.linalg.norm(along)
    points = np.moveaxis(np.indices(shape), 0, -1) * voxel_mm
    v1 = rng.normal(size=(*shape, 3))
    fa = np.full(shape, 0.11)
    for _ in range(25):
        offset = points - rng.uniform(0, 1, 3) * np.array(shape) * voxel_mm
        across = offset - (offset @ along)[..., None] * along
        inside = np.linalg.norm(across, axis=-1) < 6
        v1[inside], fa[inside] = along + 0.1 * rng.normal(size=(inside.sum(), 3)), 0.4
    return v1 / np.linalg.norm(v1, axis=-1, keepdims=True), fa, voxel_mm, np.ones(shape, bool)


def test_every_wrong_table_is_found_where_bundles_run_obliquely():
    v1, fa, voxel_mm, mask = oblique_bundles()
    for wrong in axis_transforms():
        found = check_directions(v1 @ wrong.T, fa, voxel_mm, mask)
        # what undoes the error, up to the sign that a line does not have
        undone = found.transform @ wrong
        np.testing.assert_array_equal(undone * undone[0, 0], np.eye(3))
        assert found.clearly_better == (not np.array_equal(wrong, np.eye(3)))


def test_table_and_direction_turn_alike():
    limb = DistortedLimb(shape=(30, 30, 4), voxel_mm=(5.0, 5.0, 8.0))
    b, g = np.r_[0.0, np.full(12, 800.0)], np.vstack([np.zeros(3), directions(12)])
    signal = limb.still(b, g)
    nerve = limb.fractions[..., 1] > 0.5
    right, (wrong) = fit_dti(signal, b, g, nerve), axis_transforms()[14]
    turned = fit_dti(signal, b, g @ wrong.T, nerve)
    along = np.abs((turned.v1 * (right.v1 @ wrong.T)).sum(-1))[nerve]
    np.testing.assert_allclose(along, 1.0, atol=1e-6)


def test_right_table_of_a_thigh_is_the_best(thigh):
    fit, voxel_mm, mask = thigh
    found = check_directions(fit.v1, fit.fa, voxel_mm, mask)
    np.testing.assert_array_equal(found.transform, np.eye(3))
    assert not found.clearly_better and found.margin == 0
    assert found.index[0] == found.index.max() and found.index.shape == (24,)


def test_axis_of_a_thigh_is_told_from_the_others(thigh):
    fit, voxel_mm, mask = thigh
    for wrong in axis_transforms()[~LENGTHWISE][::3]:
        found = check_directions(fit.v1 @ wrong.T, fit.fa, voxel_mm, mask)
        assert found.clearly_better and abs((found.transform @ wrong)[2, 2]) == 1


@pytest.mark.parametrize("seed", range(3))
def test_limb_whose_fibres_follow_no_border_raises_no_doubt(seed):
    limb = moved_limb(seed, shape=(64, 64, 10), voxel_mm=(2.2, 2.2, 4.0), n_dwi=30, rms_mm=1e-6)
    fit = fit_dti(limb.still, limb.b_s_mm2, limb.bvecs, limb.mask)
    assert not check_directions(fit.v1, fit.fa, limb.voxel_mm, limb.mask).clearly_better


@pytest.mark.skipif(legs_folder() is None, reason="MRN_PREP_REFERENCE is not set")
def test_real_legs_raise_no_doubt_unless_their_axis_is_swapped():
    import nibabel as nib

    folder = Path(os.environ["MRN_PREP_REFERENCE"]) / "legs"
    image = nib.load(folder / "dwi.nii.gz")
    b, g = np.loadtxt(folder / "dwi.bval"), np.loadtxt(folder / "dwi.bvec").T
    used = (b <= 1) | (b >= 200)
    g = np.where(b[:, None] > 1, g, 0.0)
    signal = np.asanyarray(image.dataobj)[:, :, 6:18, used].astype(float)
    mask = signal[..., 0] > 0.15 * np.percentile(signal[..., 0][signal[..., 0] > 0], 98)
    fit = fit_dti(signal, np.where(b > 1, b, 0.0)[used], g[used], mask)
    some = np.r_[0:4, 4:24:4]
    doubt = [
        check_directions(fit.v1 @ wrong.T, fit.fa, image.header.get_zooms()[:3], mask)
        for wrong in axis_transforms()[some]
    ]
    np.testing.assert_array_equal([d.clearly_better for d in doubt], ~LENGTHWISE[some])


def test_small_images_are_not_judged():
    v1, fa, voxel_mm, mask = oblique_bundles()
    few = np.zeros_like(mask)
    few[:5, :5, :5] = True
    found = check_directions(v1, fa, voxel_mm, few)
    assert not found.clearly_better and np.isnan(found.index).all() and np.isnan(found.margin_se)
    fa[...] = np.nan
    assert np.isnan(check_directions(v1, fa, voxel_mm, mask).index).all()


def test_shapes_that_disagree_are_refused():
    v1, fa, voxel_mm, mask = oblique_bundles()
    with pytest.raises(ValueError, match="must be"):
        check_directions(v1, fa[1:], voxel_mm, mask)
