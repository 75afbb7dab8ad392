import sys
from pathlib import Path

import numpy as np
import pytest

from mrn_prep.models.dti import fit_dti
from mrn_prep.models.outlier_slices import (
    OutlierOptions,
    find_outliers,
    predict_slices,
    repair_slices,
    replace_outliers,
)
from mrn_prep.phantom.gradients import directions

sys.path.insert(0, str(Path(__file__).parents[1]))
from distorted_limb import DistortedLimb, noisy

LIMB = DistortedLimb(shape=(60, 60, 10), voxel_mm=(2.8, 2.8, 5.0))
B = np.r_[np.zeros(3), np.full(30, 800.0)]
G = np.vstack([np.zeros((3, 3)), directions(30)])
STILL = LIMB.still(B, G)
SIGMA = STILL[..., 0][LIMB.muscle].mean() / 20
ONE_VOLUME = np.arange(33) == 12


def spoilt(share, loss, seed=0, gain_sd=0.01):
    """Noisy series of which a share of the slices has lost signal; and which."""
    rng = np.random.default_rng(seed)
    bad = rng.random((10, 33)) < share
    bad[:, B == 0] = False  # it is motion during the weighting that loses signal
    kept = np.where(bad, 1 - loss, 1.0) * (1 + gain_sd * rng.normal(size=33))
    return noisy(kept * STILL, SIGMA, rng), bad


def fa_error(series):
    fa = fit_dti(np.asarray(series, float), B, G, LIMB.mask).fa[LIMB.muscle]
    return np.sqrt(np.nanmean((fa - fit_dti(STILL, B, G, LIMB.mask).fa[LIMB.muscle]) ** 2))


@pytest.mark.parametrize(("share", "loss"), [(0.02, 0.4), (0.15, 0.4), (0.05, 0.2), (0.3, 0.7)])
def test_every_lost_slice_is_found_and_no_other(share, loss):
    for seed in range(2):
        series, bad = spoilt(share, loss, seed)
        assert bad.any()
        np.testing.assert_array_equal(repair_slices(series, B, G, LIMB.mask)[1].outlier, bad)


def test_slices_that_lost_nothing_are_kept():
    found = [
        repair_slices(spoilt(0, 0, seed)[0], B, G, LIMB.mask)[1].outlier.sum() for seed in range(3)
    ]
    assert sum(found) == 0


@pytest.mark.parametrize("part", [0.3, 1.0])
def test_what_a_moved_volume_did_not_reach_is_not_taken_for_dark(part):
    series, bad = spoilt(0.02, 0.4)
    series = series.copy()
    columns = int(part * series.shape[0])
    series[:columns, :, -1, 5:20] = np.nan
    repaired, found = repair_slices(series, B, G, LIMB.mask)
    np.testing.assert_array_equal(found.outlier[:-1], bad[:-1])
    if part == 1:
        assert not found.outlier[-1].any()
    else:
        np.testing.assert_array_equal(found.outlier[-1], bad[-1])
    np.testing.assert_array_equal(np.isnan(repaired), np.isnan(series))


def test_error_of_fa_is_that_of_fewer_volumes():
    series, bad = spoilt(0.15, 0.4, gain_sd=0.0)
    repaired, _ = repair_slices(series, B, G, LIMB.mask)
    whole, _ = spoilt(0, 0, gain_sd=0.0)
    spoilt_error, repaired_error, whole_error = map(fa_error, (series, repaired, whole))
    assert spoilt_error > 1.2 * whole_error
    assert repaired_error < 1.15 * whole_error
    # signal of the lost slices themselves: nearer to the truth than noise alone would be
    lost = LIMB.muscle[..., None] & bad
    assert np.sqrt(((repaired - STILL)[lost] ** 2).mean()) < 0.8 * SIGMA
    assert np.sqrt(((series - STILL)[lost] ** 2).mean()) > 2 * SIGMA


def test_only_lost_slices_are_changed():
    series, bad = spoilt(0.05, 0.4)
    before = series.copy()
    repaired, found = repair_slices(series, B, G, LIMB.mask)
    changed = (repaired != series.astype(np.float32)).any(axis=(0, 1))
    np.testing.assert_array_equal(changed, bad)
    np.testing.assert_array_equal(series, before)
    np.testing.assert_allclose(found.loss[bad], 0.4, atol=0.06)
    # outside the mask there is no prediction
    np.testing.assert_array_equal(repaired[~LIMB.mask], series.astype(np.float32)[~LIMB.mask])


def test_weak_volumes_and_gain_are_no_outliers():
    rng = np.random.default_rng(1)
    gain = 1 + 0.03 * rng.normal(size=33)
    assert not repair_slices(noisy(gain * STILL, SIGMA, rng), B, G, LIMB.mask)[1].outlier.any()


def test_shell_that_no_tensor_meets_is_no_outlier():
    """Kurtosis sets six volumes of b 600 off the tensor of thirty of b 2000; one slice is lost."""
    b = np.r_[np.zeros(3), np.full(6, 600.0), np.full(30, 2000.0)]
    g = np.vstack([np.zeros((3, 3)), directions(6), directions(30)])
    kurtosis = np.exp((1e-3 * b) ** 2 * 1.0 / 6)
    signal = noisy(LIMB.still(b, g) * kurtosis, SIGMA, np.random.default_rng(4))
    signal[:, :, 4, 5] *= 0.6
    found = repair_slices(signal, b, g, LIMB.mask)[1]
    assert np.argwhere(found.outlier).tolist() == [[4, 5]]
    assert abs(np.nanmedian(found.z[:, b == 600])) < 0.1


def test_slice_beside_a_lost_one_is_replaced_with_it():
    """A volume that moved along the limb by a tenth of a slice, of which one slice was lost."""
    series, _ = spoilt(0.0, 0.0)
    series = series.copy()
    for k, kept in ((3, 1.05), (4, 0.4), (5, 0.94), (8, 0.94)):
        series[:, :, k, 12] *= kept
    repaired, found = repair_slices(series, B, G, LIMB.mask)
    assert np.argwhere(found.outlier).tolist() == [[3, 12], [4, 12], [5, 12]]
    # one as dark by itself may be so for other reasons
    np.testing.assert_array_equal(repaired[:, :, 8], series[:, :, 8].astype(np.float32))


def test_slice_axis_may_be_any():
    series, bad = spoilt(0.05, 0.4)
    for axis in (0, 1):
        turned = np.moveaxis(series, 2, axis)
        repaired, found = repair_slices(turned, B, G, np.moveaxis(LIMB.mask, 2, axis), axis)
        np.testing.assert_array_equal(found.outlier, bad)
        assert repaired.shape == turned.shape


def test_empty_slice_is_lost():
    series, _ = spoilt(0, 0)
    series[:, :, 4, 12] = 0
    repaired, found = repair_slices(series, B, G, LIMB.mask)
    assert np.argwhere(found.outlier).tolist() == [[4, 12]] and found.loss[4, 12] == 1
    assert np.median(repaired[:, :, 4, 12][LIMB.muscle[:, :, 4]]) > 0.5 * SIGMA * 20 * 0.3


def test_prediction_leaves_lost_slices_out():
    series = STILL.copy()
    series[:, :, 4, 12] *= 0.5
    none, lost = np.zeros((10, 33), bool), np.zeros((10, 33), bool)
    lost[4, 12] = True
    inside = LIMB.muscle[:, :, 4]
    off = [
        np.abs(np.log(predict_slices(series, B, G, LIMB.mask, which) / STILL))[:, :, 4][inside]
        for which in (none, lost)
    ]
    # the lost one's own prediction has no part of it either way; those of its neighbours do
    assert off[0][:, ONE_VOLUME].max() < 0.01 and off[0].max() > 0.03
    assert off[1].max() < 0.01


def test_slice_with_too_few_volumes_left_stays_as_it_is():
    series, _ = spoilt(0, 0)
    outlier = np.zeros((10, 33), bool)
    outlier[4, 6:] = True
    predicted = predict_slices(series, B, G, LIMB.mask, outlier)
    assert np.isnan(predicted[:, :, 4]).all()
    assert np.isfinite(predicted[:, :, 5][LIMB.mask[:, :, 5]]).all()
    kept = replace_outliers(series, predicted, outlier)
    np.testing.assert_array_equal(kept, series.astype(np.float32))


def test_small_slices_are_not_judged():
    mask = LIMB.mask.copy()
    mask[..., 9] = False
    mask[28:32, 28:32, 9] = True
    series, _ = spoilt(0, 0)
    series[..., 9, 12] *= 0.3
    found = repair_slices(series, B, G, mask)[1]
    assert np.isnan(found.z[9]).all() and not found.outlier.any()
    judged = repair_slices(series, B, G, mask, options=OutlierOptions(fewest_voxels=10))[1]
    assert np.argwhere(judged.outlier).tolist() == [[9, 12]]


def test_series_without_a_tensor_is_judged_by_its_mean():
    rng = np.random.default_rng(2)
    b = np.zeros(8)
    series = noisy(np.repeat(STILL[..., :1], 8, axis=-1), SIGMA, rng)
    series[:, :, 3, 5] *= 0.6
    found = repair_slices(series, b, np.zeros((8, 3)), LIMB.mask)[1]
    assert np.argwhere(found.outlier).tolist() == [[3, 5]]


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match="must be"):
        find_outliers(STILL, STILL[..., 1:], LIMB.mask, B)
    with pytest.raises(ValueError, match="must be"):
        find_outliers(STILL, STILL, LIMB.mask, B[1:])
