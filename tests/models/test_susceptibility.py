import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mrn_prep.models.dti import fit_dti
from mrn_prep.models.motion import (
    eddy_in_voxels,
    rigid_matrix,
    rotation_vector,
    voxel_to_centred_mm,
)
from mrn_prep.models.resample import grid_points, warp
from mrn_prep.models.susceptibility import (
    SusceptibilityOptions,
    apply_field,
    estimate_field,
    voxel_shift,
)
from mrn_prep.phantom.fields import B0_HZ
from mrn_prep.phantom.gradients import directions

sys.path.insert(0, str(Path(__file__).parents[1]))
from distorted_limb import DistortedLimb, local_field, noisy

SMALL = DistortedLimb(shape=(72, 72, 8), voxel_mm=(2.3, 2.3, 6.0))
B = np.r_[0.0, np.full(12, 800.0)]
G = np.vstack([np.zeros(3), directions(12)])
TURNED = rigid_matrix(np.deg2rad([0.5, -1.0, 2.0]), [2.0, 0.0, 1.5])


def pair(limb, snr=20.0, other=None, seed=0):
    """b0 images with either blip; the second of a limb that lies elsewhere, if given."""
    rng = np.random.default_rng(seed)
    up, down = limb.seen(1), (other or limb).seen(-1)
    sigma = up[limb.muscle].mean() / snr
    return np.concatenate([noisy(up, sigma, rng), noisy(down, sigma, rng)], axis=-1)


def estimate(limb, images, **options):
    return estimate_field(
        images, 1, [1, -1], limb.readout_s, limb.voxel_mm, limb.mask,
        SusceptibilityOptions(**options),
    )  # fmt: skip


def error(limb, found):
    """Displacement error (voxels) in the limb."""
    return ((found.field_hz - limb.field_hz) * limb.readout_s)[limb.mask]


def rms(values):
    return np.sqrt(np.mean(values**2))


@pytest.fixture(scope="module")
def limb():
    return DistortedLimb()


@pytest.fixture(scope="module")
def found(limb):
    return estimate(limb, pair(limb))


@pytest.fixture(scope="module")
def small_pair():
    return pair(SMALL)


def test_field_of_the_thigh_is_found_at_snr_20(limb, found):
    assert rms(limb.field_hz[limb.mask] * limb.readout_s) > 1.3
    assert rms(error(limb, found)) < 0.06
    assert np.abs(error(limb, found)).max() < 0.3
    assert np.isfinite(found.field_hz).all() and found.converged and found.improved
    assert found.correlation[0] < 0.7 and found.correlation[1] > 0.98
    np.testing.assert_allclose(found.gain, 1.0, atol=0.01)
    assert found.folded_fraction == 0


def test_fa_of_nerves_is_restored(limb, found):
    still, seen = limb.still(B, G), limb.seen(1, B, G)
    corrected = np.nan_to_num(apply_field(seen, found.field_hz, 1, 1, limb.readout_s))
    for nerve, worst in (("sciatic", 0.004), ("femoral", 0.01)):
        where = limb.pure(nerve)
        fa, fa_distorted, fa_corrected = (
            fit_dti(np.maximum(x[where], 0), B, G).fa for x in (still, seen, corrected)
        )
        assert rms(fa_corrected - fa) < worst
        assert abs(np.median(fa_corrected) - 0.5) < 0.003
    # the femoral nerve, three voxels away from where it is, shows its fat instead
    assert rms(fa_distorted - fa) > 0.1


def test_signal_is_brought_back_where_it_was_diluted(limb, found):
    still, seen = limb.still(), limb.seen(1)
    corrected = apply_field(seen, found.field_hz, 1, 1, limb.readout_s)
    ratio = corrected[limb.muscle] / still[limb.muscle]
    assert np.ptp(np.percentile(seen[limb.muscle] / still[limb.muscle], [5, 95])) > 0.05
    assert abs(np.median(ratio) - 1) < 0.003
    assert np.ptp(np.percentile(ratio, [5, 95])) < 0.03
    np.testing.assert_allclose(np.nansum(corrected), still.sum(), rtol=0.003)


def test_local_field_is_found():
    limb = replace(SMALL, hz=local_field)
    assert rms(error(limb, estimate(limb, pair(limb)))) < 0.15


def test_four_times_the_field_is_found():
    limb = replace(SMALL, hz=lambda p: -4 * B0_HZ.at(p))
    assert np.abs(limb.field_hz * limb.readout_s)[limb.mask].max() > 10
    assert rms(error(limb, estimate(limb, pair(limb)))) < 0.25


def test_fat_that_is_shifted_otherwise_leads_astray_by_less_than_0_3_voxel():
    fatty = replace(SMALL, fat_hz=-75.0)
    assert rms(error(SMALL, estimate(SMALL, pair(fatty)))) < 0.3


def test_motion_between_the_blips_is_told_from_the_field():
    other = replace(SMALL, pose=TURNED)
    found = estimate(SMALL, pair(SMALL, other=other))
    assert rms(error(SMALL, found)) < 0.06
    np.testing.assert_allclose(found.rigid[1, [0, 2], 3], [2.0, 1.5], atol=0.15)
    turn = np.rad2deg(rotation_vector(found.rigid[:, :3, :3]))[1]
    np.testing.assert_allclose(turn[1:], [-1.0, 2.0], atol=0.15)
    ignored = estimate(SMALL, pair(SMALL, other=other), rigid=False)
    assert rms(error(SMALL, ignored)) > 0.2
    np.testing.assert_array_equal(ignored.rigid[1], np.eye(4))


def test_still_limb_is_not_moved(found):
    assert np.abs(found.rigid[1, :3, 3]).max() < 0.3
    assert np.rad2deg(np.abs(rotation_vector(found.rigid[1:, :3, :3]))).max() < 0.15


def test_shift_along_phase_encoding_displaces_the_result_by_half():
    shift = 2.3
    other = replace(SMALL, pose=rigid_matrix([0, 0, 0], [0, shift, 0]))
    off = error(SMALL, estimate(SMALL, pair(SMALL, other=other)))
    np.testing.assert_allclose(np.median(off), -0.5 * shift / SMALL.voxel_mm[1], atol=0.05)
    assert rms(off - np.median(off)) < 0.06


def test_images_that_agree_are_left_alone():
    still = SMALL.still()
    found = estimate(SMALL, np.concatenate([still, still], axis=-1))
    assert not found.improved and not found.field_hz.any()


def test_without_a_field_little_is_found():
    limb = replace(SMALL, hz=lambda p: 0 * p[..., 0])
    assert rms(error(limb, estimate(limb, pair(limb)))) < 0.05


def test_axis_order_and_readout_do_not_matter(small_pair):
    reference = estimate(SMALL, small_pair)
    # phase encoding along the first axis, second image first, one blip twice as long
    swapped = small_pair.swapaxes(0, 1)[..., ::-1]
    size = np.array(SMALL.voxel_mm)[[1, 0, 2]]
    again = estimate_field(
        swapped, 0, [-1, 1], SMALL.readout_s, size, SMALL.mask.swapaxes(0, 1)
    ).field_hz  # fmt: skip
    difference = (again.swapaxes(0, 1) - reference.field_hz)[SMALL.mask] * SMALL.readout_s
    assert rms(difference) < 0.03
    longer = replace(SMALL, readout_s=0.06)
    images = np.concatenate([SMALL.seen(1), longer.seen(-1)], axis=-1)
    found = estimate_field(images, 1, [1, -1], [0.045, 0.06], SMALL.voxel_mm, SMALL.mask)
    assert rms(error(SMALL, found)) < 0.05


def test_several_images_of_each_polarity_and_no_mask():
    rng = np.random.default_rng(3)
    up, down = SMALL.seen(1)[..., 0], SMALL.seen(-1)[..., 0]
    sigma = up[SMALL.muscle].mean() / 10
    images = [noisy(image, sigma, rng) for image in (up, up, up, down)]
    found = estimate_field(images, 1, [1, 1, 1, -1], 0.045, SMALL.voxel_mm)
    assert found.gain.shape == (4,) and found.rigid.shape == (4, 4, 4)
    assert rms(error(SMALL, found)) < 0.12


def test_motion_field_and_eddy_currents_are_undone_in_one_interpolation():
    field = SMALL.field_hz
    moved = replace(SMALL, pose=TURNED)
    seen, still = moved.seen(1), SMALL.still()
    corrected = apply_field(seen, field, 1, 1, 0.045, SMALL.voxel_mm, TURNED[None])
    before, after = (rms((x - still)[SMALL.mask]) for x in (seen, np.nan_to_num(corrected)))
    assert after < 0.2 * before
    # the same through the interface that motion correction uses
    shift, jacobian = voxel_shift(field, 1, 1, 0.045)
    points = grid_points(field.shape) + np.outer(shift, [0, 1, 0])
    to_mm = voxel_to_centred_mm(SMALL.shape, SMALL.voxel_mm)
    matrix = (np.linalg.inv(to_mm) @ TURNED @ to_mm)[:3]
    curve = eddy_in_voxels(np.zeros(4), SMALL.voxel_mm, 1)
    values = warp(seen[..., 0], points, matrix, 3, curve, 1).reshape(SMALL.shape) * jacobian
    inside = SMALL.mask & np.isfinite(corrected[..., 0])
    assert rms((values - corrected[..., 0])[inside]) < 0.1 * before


def test_point_is_shown_at_field_times_readout():
    field = np.zeros((2, 5, 1))
    field[1, 3] = 40.0
    shift, jacobian = voxel_shift(field, 1, -1, 0.05)
    assert shift[1, 3, 0] == -2 and np.count_nonzero(shift) == 1
    assert jacobian[1, :, 0].tolist() == [1, 1, 0, 1, 3]


def test_voxels_without_a_value_do_no_harm(small_pair):
    images = small_pair.copy()
    images[:3, :, :, 0], images[10, 10, 0, 1] = np.nan, np.inf
    found = estimate(SMALL, images)
    assert np.isfinite(found.field_hz).all()
    assert rms(error(SMALL, found)) < 0.06
    corrected = apply_field(images[..., :1], found.field_hz, 1, 1, 0.045)
    assert np.isnan(corrected[0]).all() and np.isfinite(corrected[8:-1, 10:-10]).all()


def test_single_slice_is_corrected():
    one = replace(SMALL, shape=(72, 72, 1))
    assert rms(error(one, estimate(one, pair(one)))) < 0.12


def test_input_is_not_changed(small_pair):
    before = small_pair.copy()
    estimate(SMALL, small_pair)
    np.testing.assert_array_equal(small_pair, before)


IMAGES = np.ones((6, 6, 2, 2))


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("same polarity", {"pe_sign": [1, 1]}),
        ("share one", {"images": [np.ones((6, 6, 2)), np.ones((6, 7, 2))]}),
        ("x, y, z, n", {"images": np.ones((6, 6, 2))}),
        ("got one", {"images": np.ones((6, 6, 2, 1)), "pe_sign": [1]}),
        ("1 or -1", {"pe_sign": [1, -2]}),
        ("1 or -1", {"pe_sign": [1, -1, 1]}),
        ("positive", {"readout_s": 0.0}),
        ("positive", {"readout_s": [0.05, np.nan]}),
        ("pe_axis", {"pe_axis": 3}),
        ("three positive", {"voxel_mm": (1, 1, 0)}),
        ("not empty", {"mask": np.zeros((6, 6, 2), bool)}),
        ("must be", {"mask": np.ones((6, 6, 3), bool)}),
        ("no signal", {"images": IMAGES * [1.0, 0.0]}),
    ],
)  # fmt: skip
def test_bad_input_is_refused(message, change):
    given = {
        "images": IMAGES, "pe_axis": 1, "pe_sign": [1, -1], "readout_s": 0.05,
        "voxel_mm": (2, 2, 2), "mask": np.ones((6, 6, 2), bool),
    } | change  # fmt: skip
    with pytest.raises(ValueError, match=message):
        estimate_field(**given)


def test_field_of_another_grid_is_refused():
    with pytest.raises(ValueError, match="not on the grid"):
        apply_field(np.ones((4, 4, 4, 2)), np.ones((4, 4, 3)), 1, 1, 0.05)
    with pytest.raises(ValueError, match="voxel_mm"):
        apply_field(np.ones((4, 4, 4, 2)), np.ones((4, 4, 4)), 1, 1, 0.05, rigid=np.eye(4)[None])
