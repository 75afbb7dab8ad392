"""Files in, files in one place out, and what the sidecars are told of it."""

import nibabel as nb
import numpy as np
import pytest
from scipy import ndimage

from mrn_prep.interfaces.align import AlignSeries

SHAPE, AFFINE = (
    (48, 48, 8),
    np.array([[-2.0, 0, 0, 50], [0, 2, 0, -50], [0, 0, 4, 0], [0, 0, 0, 1]]),
)
SHIFT = 3  # voxels


@pytest.fixture
def files(tmp_path):
    """Three contrasts of a textured limb; the second lay three voxels on along x."""
    rng = np.random.default_rng(0)
    wide = ndimage.gaussian_filter(rng.normal(size=(SHAPE[0] + SHIFT, *SHAPE[1:])), (2, 2, 1))
    x, y = np.indices(wide.shape[:2]) - np.array([SHAPE[0] / 2, SHAPE[1] / 2])[:, None, None]
    limb = ((x**2 + y**2) < 18**2)[..., None]
    images = [
        (limb * (900 + 2000 * wide))[:-SHIFT],
        (limb * (500 - 900 * wide)),
        (limb * (300 + 400 * wide))[:-SHIFT],
    ]
    moved = np.zeros_like(images[0])
    moved[SHIFT:] = images[1][: -2 * SHIFT]
    images[1] = moved
    paths = []
    for i, image in enumerate(images):
        noisy = np.hypot(image + rng.normal(0, 10, SHAPE), rng.normal(0, 10, SHAPE))
        paths.append(str(tmp_path / f"contrast-{i}.nii.gz"))
        nb.Nifti1Image(np.rint(noisy).astype(np.int16), AFFINE).to_filename(paths[-1])
    return paths


def run(folder, **inputs):
    folder.mkdir()
    return AlignSeries(**inputs).run(cwd=str(folder)).outputs


def test_images_come_out_in_one_place_and_in_order(files, tmp_path):
    out = run(tmp_path / "node", in_files=files)
    assert len(out.out_files) == 3
    for before, after in zip(files, out.out_files, strict=True):
        assert after.startswith(str(tmp_path / "node"))
        image = nb.load(after)
        assert image.shape == SHAPE and image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(image.affine, nb.load(before).affine)
    untouched = [nb.load(out.out_files[i]).get_fdata() for i in (0, 2)]
    np.testing.assert_array_equal(untouched[0], nb.load(files[0]).get_fdata())
    np.testing.assert_array_equal(untouched[1], nb.load(files[2]).get_fdata())
    moved = nb.load(out.out_files[1]).get_fdata()
    assert np.isnan(moved[-SHIFT + 1 :]).all()
    inside = untouched[0] > 300
    assert np.corrcoef(moved[inside], untouched[0][inside])[0, 1] < -0.9


def test_motion_is_told_in_the_facts(files, tmp_path):
    out = run(tmp_path / "node", in_files=files, n_threads=2)
    facts = out.facts
    assert facts["Quality"]["displacement_max"] == pytest.approx(2 * SHIFT, abs=0.3)
    assert facts["Quality"]["displacement_mean"] == pytest.approx(SHIFT, abs=0.2)
    assert facts["Quality"]["n_not_registered"] == 0
    assert facts["Quality"]["image2_trans_x"] == pytest.approx(2 * SHIFT, abs=0.2)
    assert facts["ValidityFlags"] == ["motion"]
    assert "registered" in facts["EstimationMethod"]


def test_still_series_is_said_to_be_still(files, tmp_path):
    out = run(tmp_path / "node", in_files=[files[0], files[2]])
    assert out.facts["ValidityFlags"] == []
    assert out.facts["Quality"] == {
        "displacement_mean": 0, "displacement_max": 0, "n_not_registered": 0
    }  # fmt: skip
    assert "none had to be moved" in out.facts["EstimationMethod"]


def test_image_that_cannot_be_registered_is_flagged_and_left(files, tmp_path):
    rng = np.random.default_rng(1)
    noise = np.hypot(*rng.normal(0, 10, (2, *SHAPE))).astype(np.float32)
    nb.Nifti1Image(noise, AFFINE).to_filename(files[2])
    out = run(tmp_path / "node", in_files=files)
    assert out.facts["Quality"]["n_not_registered"] == 1
    assert "motion-not-corrected" in out.facts["ValidityFlags"]
    np.testing.assert_array_equal(nb.load(out.out_files[2]).get_fdata(), noise)


def test_reference_and_mask_can_be_given(files, tmp_path):
    limb = nb.load(files[1]).get_fdata() > 200
    mask = str(tmp_path / "mask.nii")
    nb.Nifti1Image(limb.astype(np.uint8), AFFINE).to_filename(mask)
    before = {"EstimationMethod": "denoised", "ValidityFlags": ["no-b1"]}
    out = run(tmp_path / "node", in_files=files, reference=1, mask=mask, before=before)
    quality = out.facts["Quality"]
    shifts = [quality[f"image{i}_trans_x"] for i in (1, 3)]
    np.testing.assert_allclose(shifts, -2 * SHIFT, atol=0.3)
    assert "image2_trans_x" not in quality
    assert out.facts["EstimationMethod"].startswith("denoised; images registered")
    assert out.facts["ValidityFlags"] == ["motion", "no-b1"]


def test_noise_is_that_of_the_images_as_they_came_in(files, tmp_path):
    out = run(tmp_path / "node", in_files=files)
    assert out.sigma == pytest.approx(10, rel=0.03)


def test_images_taken_together_move_as_one(files, tmp_path):
    """An echo that shows nothing of its own goes where the echo beside it goes."""
    flat = str(tmp_path / "flat.nii")
    nb.Nifti1Image(np.full(SHAPE, 50, np.int16), AFFINE).to_filename(flat)
    out = run(tmp_path / "node", in_files=[files[0], flat, files[1], flat], n_together=2)
    quality = out.facts["Quality"]
    assert quality["image3_trans_x"] == pytest.approx(2 * SHIFT, abs=0.3)
    assert quality["image4_trans_x"] == quality["image3_trans_x"]
    assert np.isnan(nb.load(out.out_files[3]).get_fdata()[-SHIFT + 1 :]).all()
    assert quality["n_not_registered"] == 0
    with pytest.raises(ValueError, match="3 images cannot be taken 2 at a time"):
        run(tmp_path / "odd", in_files=files, n_together=2)
