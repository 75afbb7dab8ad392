import os
import time
from pathlib import Path

import numpy as np
import pytest

from mrn_prep.models.mask import limb_mask
from mrn_prep.models.noise import rician_noise


def phantom():
    """Two legs of unequal brightness: fat around muscle around a dark cortex with marrow."""
    x, y, z = np.meshgrid(np.arange(96), np.arange(64), np.arange(6), indexing="ij")
    image = np.zeros(x.shape)
    for centre, gain in ((26, 1.0), (70, 0.5)):
        r = np.hypot(x - centre, y - 32 + z)
        for radius, value in ((20, 250.0), (17, 100.0), (6, 3.0), (4, 250.0)):
            image[r < radius] = gain * value
    return image


@pytest.mark.parametrize("snr", [8, 15, 50])
@pytest.mark.parametrize("n_images", [0, 3])
def test_both_legs_are_kept_whole_and_air_left_out(snr, n_images):
    clean = phantom()
    series = np.stack([clean] * n_images, axis=-1) if n_images else clean
    mask = limb_mask(rician_noise(series, 100 / snr, np.random.default_rng(0)))
    assert mask.shape == clean.shape and mask.dtype == np.bool_
    legs = clean > 0
    assert mask[:48][legs[:48]].mean() > 0.999
    assert mask[48:][legs[48:]].mean() > 0.99
    assert mask[~legs].mean() < 0.05


def test_specks_are_not_limbs():
    image = phantom()
    image[0:3, 0:3] = 200.0
    assert not limb_mask(image)[:5, :5].any()


def test_an_image_without_contrast_has_no_limb():
    assert not limb_mask(np.zeros((8, 8, 3))).any()
    assert not limb_mask(np.full((8, 8, 3), 7.0)).any()


def test_non_finite_voxels_are_not_limb_and_the_input_stays():
    image = phantom()
    image[0, 0, 0] = np.nan
    before = image.copy()
    assert not limb_mask(image)[0, 0, 0]
    np.testing.assert_array_equal(image, before)


def test_two_axes_are_refused():
    with pytest.raises(ValueError, match="3D"):
        limb_mask(np.ones((4, 4)))


def test_all_muscle_of_real_legs_is_kept_quickly():
    folder = os.environ.get("MRN_PREP_REFERENCE")
    if not folder:
        pytest.skip("MRN_PREP_REFERENCE is not set")
    nib = pytest.importorskip("nibabel")
    legs = Path(folder) / "legs"
    dwi = nib.load(legs / "dwi.nii.gz").get_fdata()
    muscle = np.asarray(nib.load(legs / "muscles_dseg.nii.gz").dataobj)[::-1] > 0
    for image in (dwi[..., 0], dwi):
        assert limb_mask(image)[muscle].mean() > 0.999
    start = time.perf_counter()
    limb_mask(dwi[..., 0])
    assert time.perf_counter() - start < 0.5  # 0.03 s when nothing else runs
