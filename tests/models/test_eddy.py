import sys
from pathlib import Path

import numpy as np
import pytest

from mrn_prep.models import motion
from mrn_prep.models.dti import fit_dti
from mrn_prep.models.eddy import EddyOptions, correct_motion_eddy
from mrn_prep.models.eddy_steps import least_motion, log_design, predict_from_others
from mrn_prep.models.resample import resample
from mrn_prep.models.status import Reason

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_legs import legs_folder, moved_legs, moved_limb, residual_mm, whole_sphere

SMALL = {"shape": (64, 64, 12), "voxel_mm": (2.0, 2.0, 4.0), "n_dwi": 24, "n_b0": 3, "snr": 30}
RNG = np.random.default_rng(5)
legs = pytest.mark.skipif(legs_folder() is None, reason="MRN_PREP_REFERENCE is not set")


def run(moved, series=None, pe_axis=1, **options):
    series = moved.series if series is None else series
    return correct_motion_eddy(
        series, moved.b_s_mm2, moved.bvecs, moved.voxel_mm, moved.mask, pe_axis,
        EddyOptions(**options),
    )  # fmt: skip


def found_mm(moved, result, pe_axis=1):
    pairs = zip(result.rigid, result.eddy, strict=True)
    return np.stack([motion.displaced(moved.points_mm, r, e, pe_axis) for r, e in pairs])


def rms(values):
    return np.sqrt(np.mean(values**2))


@pytest.fixture(scope="module")
def limb():
    return moved_limb(0, **SMALL)


@pytest.fixture(scope="module")
def rigid_limb():
    return moved_limb(0, eddy_mm=0.0, within_mm=0.0, **SMALL)


@pytest.fixture(scope="module")
def fixed(limb):
    return run(limb)


def test_moved_limb_is_aligned(limb, fixed):
    left = residual_mm(limb, found_mm(limb, fixed))
    still = residual_mm(limb, limb.points_mm[None])
    np.testing.assert_allclose(rms(still), 2.0, rtol=0.01)
    assert rms(left) < 0.5
    # no transform of a volume undoes the drift of 0.2 mm within it
    assert rms(left[limb.b_s_mm2 == 0]) < np.hypot(0.1, 0.2)
    assert (fixed.reference, fixed.whole_sphere) == (0, True)
    np.testing.assert_array_equal(fixed.rigid[0], np.eye(4))


def test_volumes_count_as_registered_where_the_series_settles(limb, fixed):
    assert (fixed.status == Reason.FITTED).all()
    few = moved_limb(0, **{**SMALL, "n_dwi": 12})
    unsettled = run(few)
    assert (unsettled.status[few.b_s_mm2 > 0] == Reason.NOT_CONVERGED).all()
    left, wrong = (
        rms(residual_mm(m, found_mm(m, r))) for m, r in ((limb, fixed), (few, unsettled))
    )
    assert left < 0.5 < 0.7 < wrong


def test_bvecs_follow_the_limb(limb, fixed):
    true = np.einsum("nji,nj->ni", limb.rotation, limb.bvecs)
    weighted = limb.b_s_mm2 > 0
    angle = np.rad2deg(np.arccos(np.clip((fixed.bvecs * true).sum(1)[weighted], -1, 1)))
    before = np.rad2deg(np.arccos(np.clip((limb.bvecs * true).sum(1)[weighted], -1, 1)))
    assert rms(angle) < 0.6 < rms(before)
    np.testing.assert_allclose(np.linalg.norm(fixed.bvecs, axis=1), weighted, atol=1e-9)


def test_volumes_agree_better_with_the_still_series_than_before(limb, fixed):
    inside = limb.mask & np.isfinite(fixed.corrected).all(-1)
    truth = limb.still[inside].mean(axis=-1)

    def error(series):
        return rms(series[inside].mean(axis=-1) - truth)

    assert error(fixed.corrected) < 0.5 * error(limb.series)


def test_displacement_is_that_of_the_limb(limb, fixed):
    # of the rigid part along x and z, which no eddy current moves
    true = np.linalg.norm((limb.truth_mm - limb.points_mm)[..., [0, 2]], axis=-1).mean(axis=-1)
    assert np.corrcoef(true, fixed.displacement_mm)[0, 1] > 0.7
    assert fixed.displacement_mm[0] == fixed.framewise_mm[0] == 0
    np.testing.assert_allclose(fixed.framewise_mm[1], fixed.displacement_mm[1])


def test_still_limb_is_left_alone(limb):
    result = run(limb, limb.still)
    assert rms(found_mm(limb, result) - limb.points_mm) * np.sqrt(3) < 0.2
    inner = limb.mask & np.isfinite(result.corrected).all(-1)
    before = fit_dti(limb.still, limb.b_s_mm2, limb.bvecs, inner)
    after = fit_dti(result.corrected, limb.b_s_mm2, result.bvecs, inner)
    # cubic interpolation averages a little noise away, which lowers FA
    np.testing.assert_allclose(np.nanmedian(after.fa), np.nanmedian(before.fa), atol=0.01)
    np.testing.assert_allclose(
        np.nanmedian(after.md_mm2_s), np.nanmedian(before.md_mm2_s), rtol=0.01
    )


def test_empty_and_broken_volumes_are_left_out_and_disturb_nobody(limb):
    series = limb.series.copy()
    series[..., 4] = 0
    series[20:30, 20:30, :, 9] = np.nan
    result = run(limb, series)
    status = result.status.tolist()
    assert status[4] == Reason.NO_SIGNAL and status[9] == Reason.NON_FINITE
    for name in ("rigid", "eddy", "displacement_mm", "framewise_mm", "gain", "outside_fraction"):
        assert np.isnan(getattr(result, name)[[4, 9]]).all(), name
    assert np.isnan(result.corrected[..., [4, 9]]).all()
    np.testing.assert_array_equal(result.bvecs[[4, 9]], limb.bvecs[[4, 9]])
    rest = np.setdiff1d(np.arange(27), [4, 9])
    left = residual_mm(limb, found_mm(limb, result))[rest]
    assert rms(left) < 0.7


def test_lost_slices_disturb_nobody(limb, fixed):
    series = limb.series.copy()
    hit = np.zeros((27, 12), bool)
    for volume in (3, 8, 12):
        hit[volume, [2, 5]] = True
    series *= np.where(hit.T, 0.2, 1.0)
    before = series.copy()
    result = run(limb, series)
    np.testing.assert_array_equal(series, before)  # bridged in a copy
    np.testing.assert_array_equal(result.lost_slices, hit)
    assert not fixed.lost_slices.any()
    left = residual_mm(limb, found_mm(limb, result))
    assert rms(left) < rms(residual_mm(limb, found_mm(limb, fixed))) + 0.1


def test_without_phase_encoding_axis_only_rigid_motion_is_estimated(rigid_limb):
    result = run(rigid_limb, pe_axis=None)
    assert result.eddy.shape == (27, 0)
    assert rms(residual_mm(rigid_limb, found_mm(rigid_limb, result, None))) < 0.5


def test_world_transforms_reproduce_the_correction(limb):
    result = run(limb, pe_axis=None)
    affine = np.array([[-2.5, 0, 0.2, 70], [0, 2.4, 1, -70], [0.1, -0.6, 3.9, 0], [0, 0, 0, 1]])
    # the columns' lengths are near enough voxel_mm for the frame, which uses only voxel_mm
    world = motion.rigid_to_world(result.rigid[5], affine, limb.mask.shape, limb.voxel_mm)
    again = resample(limb.series[..., 5], affine, world @ affine, limb.mask.shape, 3)
    inside = np.isfinite(again) & np.isfinite(result.corrected[..., 5])
    assert inside.mean() > 0.9
    np.testing.assert_allclose(again[inside], result.corrected[..., 5][inside], atol=0.05)


def test_half_a_sphere_of_directions_is_told(limb):
    bvecs = limb.bvecs * np.where(limb.bvecs[:, 2:] < 0, -1, 1)
    result = correct_motion_eddy(
        limb.series, limb.b_s_mm2, bvecs, limb.voxel_mm, limb.mask, 1, EddyOptions(quadratic=False)
    )
    assert not result.whole_sphere and result.eddy.shape == (27, 4)


def test_series_too_short_for_a_tensor_follows_its_b0s(rigid_limb):
    chosen = [0, 1, 9, 12, 17]
    result = correct_motion_eddy(
        rigid_limb.series[..., chosen], rigid_limb.b_s_mm2[chosen], rigid_limb.bvecs[chosen],
        rigid_limb.voxel_mm, rigid_limb.mask, 1,
    )  # fmt: skip
    few, fitted = Reason.TOO_FEW, Reason.FITTED
    assert result.status.tolist() == [fitted, few, fitted, few, fitted]
    assert not result.eddy.any()
    error = np.linalg.norm(found_mm(rigid_limb, result) - rigid_limb.truth_mm[chosen], axis=-1)
    assert rms(error[[0, 2, 4]]) < 0.1
    np.testing.assert_allclose(result.rigid[1, :3, 3], result.rigid[2, :3, 3] / 2, rtol=1e-9)


def test_single_volume_is_returned_as_it_is(limb):
    one = slice(0, 1)
    result = correct_motion_eddy(
        limb.series[..., one], limb.b_s_mm2[one], limb.bvecs[one], limb.voxel_mm, limb.mask, 1
    )
    np.testing.assert_allclose(result.corrected, limb.series[..., one], atol=1e-2)


def test_arguments_that_do_not_belong_together_are_refused(limb):
    with pytest.raises(ValueError, match=r"bvecs \(26, 3\)"):
        correct_motion_eddy(limb.series, limb.b_s_mm2, limb.bvecs[1:], limb.voxel_mm, limb.mask, 1)
    with pytest.raises(ValueError, match="mask is empty"):
        correct_motion_eddy(
            limb.series, limb.b_s_mm2, limb.bvecs, limb.voxel_mm, limb.mask & False, 1
        )
    with pytest.raises(ValueError, match="pe_axis is 0, 1, 2 or None"):
        run(limb, pe_axis=3)
    with pytest.raises(ValueError, match="No volume of the series is finite"):
        run(limb, np.zeros_like(limb.series))


def test_prediction_ignores_the_predicted_volume():
    g = whole_sphere(12, RNG)
    design = log_design(np.r_[0.0, np.full(12, 800)], np.vstack([np.zeros(3), g]))
    logs = RNG.normal(size=(13, 4))
    weights = RNG.uniform(0.5, 2, 13)
    predicted = predict_from_others(logs, design, weights)
    for i in range(1, 13):
        keep = np.arange(13) != i
        root = np.sqrt(weights[keep])[:, None]
        beta = np.linalg.lstsq(design[keep] * root, logs[keep] * root, rcond=None)[0]
        np.testing.assert_allclose(predicted[i], design[i] @ beta, atol=1e-9)


def test_least_motion_takes_out_what_diffusion_could_explain():
    n, g = 40, whole_sphere(40, RNG)
    design = log_design(np.r_[0.0, np.full(n, 800.0)], np.vstack([np.zeros(3), g]))[1:, :6]
    points = RNG.normal(size=(200, 3)) * 40
    jump = np.where(np.arange(n) < 22, 0.0, 3.0)[:, None] * np.array([1.0, 0.5, -0.3])
    false = design @ RNG.normal(size=(6, 3)) * 0.8
    shift = g @ np.array([0.4, -0.8, 0.5])
    translation = jump + false
    translation[:, 1] += shift
    still = np.repeat(np.eye(3)[None], n, 0)
    turns, moved, eddy = least_motion(still, translation, np.zeros((n, 10)), design, g, points, 1)
    np.testing.assert_allclose(moved - moved[0], jump, atol=0.25)
    np.testing.assert_allclose(eddy[:, 0], shift, atol=0.25)
    np.testing.assert_allclose(turns, still, atol=1e-3)
    # what the images show together, motion and shift, has changed by the false part alone
    assert rms(false) > 0.5


@legs
@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_moved_legs_are_aligned(seed):
    moved = moved_legs(legs_folder(), seed)
    left = residual_mm(moved, found_mm(moved, run(moved)))
    assert rms(left) < 0.5
    # nothing turns a volume that drifted while it was taken into one that did not
    at_once = moved_legs(legs_folder(), seed, within_mm=0.0)
    least = residual_mm(at_once, found_mm(at_once, run(at_once)))
    assert rms(least) < 0.5
    assert rms(least[moved.b_s_mm2 == 0]) < 0.05


@pytest.mark.long
@pytest.mark.parametrize("snr", [20.0, 30.0, 50.0])
def test_thin_stack_of_a_limb_is_aligned(snr):
    moved = moved_limb(1, n_dwi=30, snr=snr)
    assert rms(residual_mm(moved, found_mm(moved, run(moved)))) < 0.65


@legs
@pytest.mark.long
def test_still_legs_are_left_alone():
    moved = moved_legs(legs_folder(), 0, rms_mm=0.0)
    result = run(moved)
    assert rms(found_mm(moved, result) - moved.points_mm) * np.sqrt(3) < 0.15
