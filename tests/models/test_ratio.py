import numpy as np
import pytest

from mrn_prep.models.ratio import MIN_REFERENCE, signal_ratio
from mrn_prep.models.status import Reason

SHAPE = (20, 20, 5)


def regions():
    target, reference = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    target[2:6, 2:6], reference[10:18, 8:16] = True, True
    return target, reference


def test_ratio_is_that_of_the_means_in_each_slice():
    target, reference = regions()
    image = np.random.default_rng(0).uniform(50, 150, SHAPE)
    result = signal_ratio(image, target, reference)
    for z in range(5):
        t, r = image[..., z][target[..., z]], image[..., z][reference[..., z]]
        np.testing.assert_allclose(result.ratio_by_slice[z], t.mean() / r.mean(), rtol=1e-12)
        np.testing.assert_allclose(result.reference_mean[z], r.mean(), rtol=1e-12)
        np.testing.assert_allclose(result.reference_sd[z], r.std(ddof=1), rtol=1e-12)
        assert (result.n_target[z], result.n_reference[z]) == (16, 64)
    np.testing.assert_allclose(result.ratio, result.ratio_by_slice.mean(), rtol=1e-12)


def test_gain_of_each_slice_divides_out():
    target, reference = regions()
    image = np.where(target, 160.0, 100.0) * np.geomspace(0.1, 10, 5)
    result = signal_ratio(image, target, reference)
    np.testing.assert_allclose(result.ratio_by_slice, 1.6, rtol=1e-12)
    np.testing.assert_allclose(result.ratio, 1.6, rtol=1e-12)
    pooled = image[target].mean() / image[reference].mean()
    turned = signal_ratio(
        image.transpose(2, 0, 1), target.transpose(2, 0, 1), reference.transpose(2, 0, 1), axis=0
    )
    np.testing.assert_array_equal(turned.ratio_by_slice, result.ratio_by_slice)
    np.testing.assert_allclose(pooled, 1.6)


def test_slices_weigh_by_their_voxels_of_the_target():
    target, reference = regions()
    target[3:, :, 1] = False  # a quarter of the other slices
    image = np.full(SHAPE, 100.0)
    image[target] = 200.0
    image[..., 1][target[..., 1]] = 100.0
    result = signal_ratio(image, target, reference)
    assert result.n_target.tolist() == [16, 4, 16, 16, 16]
    np.testing.assert_allclose(result.ratio, (64 * 2 + 4 * 1) / 68, rtol=1e-12)


def test_slices_without_enough_of_either_are_left_out_with_their_reason():
    target, reference = regions()
    target[..., 0] = False
    reference[..., 1] = False
    reference[..., 1][10, : MIN_REFERENCE - 1] = True
    image = np.where(target, 150.0, 100.0)
    image[..., 2] = 0.0
    image[..., 3][2, 2] = np.nan
    before = image.copy()
    result = signal_ratio(image, target, reference)
    assert result.status.tolist() == [
        Reason.OUTSIDE_MASK, Reason.TOO_FEW, Reason.NO_SIGNAL, Reason.FITTED, Reason.FITTED,
    ]  # fmt: skip
    assert np.isnan(result.ratio_by_slice).tolist() == [True, True, True, False, False]
    assert np.isnan(result.ratio_se_by_slice).tolist() == [True, True, True, False, False]
    assert result.n_target[3] == 15
    np.testing.assert_allclose(result.ratio, 1.5, rtol=1e-12)
    np.testing.assert_array_equal(image, before)


def test_without_any_usable_slice_the_ratio_is_unknown():
    target, reference = regions()
    result = signal_ratio(np.ones(SHAPE), target, np.zeros(SHAPE, bool))
    assert np.isnan(result.ratio) and np.isnan(result.ratio_se)
    assert np.isnan(result.reference_mean).all() and (result.n_reference == 0).all()
    assert np.isnan(signal_ratio(np.ones(SHAPE), ~target & False, reference).ratio)


def test_standard_error_covers_the_truth():
    target, reference = regions()
    rng = np.random.default_rng(0)
    hits, slice_hits = [], []
    for _ in range(600):
        image = np.where(target, 160.0, 100.0) + rng.normal(0, 20, SHAPE)
        result = signal_ratio(image, target, reference)
        hits.append(abs(result.ratio - 1.6) < result.ratio_se)
        slice_hits.extend(np.abs(result.ratio_by_slice - 1.6) < result.ratio_se_by_slice)
    assert 0.62 < np.mean(hits) < 0.74
    assert 0.64 < np.mean(slice_hits) < 0.71


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.ones((20, 20, 4))}, "one shape"),
        ({"reference_mask": np.ones(SHAPE, bool)}, "share 80 voxels"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    target, reference = regions()
    given = {"image": np.ones(SHAPE), "target_mask": target, "reference_mask": reference}
    with pytest.raises(ValueError, match=message):
        signal_ratio(**given | changes)
