import numpy as np
import pytest

from mrn_prep.measure.flags import FLAGS
from mrn_prep.measure.regions import Membership
from mrn_prep.measure.statistics import region_statistics
from mrn_prep.models.status import Reason
from mrn_prep.outputs import OUTPUTS

T1 = OUTPUTS["t1"]


def region(fraction, pure=None, inside_image=1.0):
    fraction = np.asarray(fraction, np.float32)
    pure = fraction >= 1 if pure is None else np.asarray(pure, bool)
    return Membership((slice(0, fraction.size),), fraction, pure, inside_image)


def test_statistics_are_over_fitted_voxels_of_the_region_only():
    values = np.array([1.0, 1.2, 1.4, np.nan, 9.0])
    stats = region_statistics(values, None, region([1, 1, 1, 1, 0.4]), T1)
    assert (stats.n_vox, stats.n_fitted) == (4, 3)
    assert stats.mean == pytest.approx(1.2)
    assert stats.median == pytest.approx(1.2)
    assert stats.sd == pytest.approx(0.2)
    assert stats.flags == {"partly-fitted"}


def test_standard_error_of_the_mean_is_that_of_independent_voxels():
    values, se = np.full(4, 1.2), np.array([0.1, 0.2, 0.2, 0.4])
    stats = region_statistics(values, se, region(np.ones(4)), T1)
    assert stats.se == pytest.approx(np.sqrt(0.01 + 0.04 + 0.04 + 0.16) / 4)


def test_unknown_standard_error_of_one_voxel_makes_that_of_the_mean_unknown():
    se = np.array([0.1, np.nan])
    assert np.isnan(region_statistics(np.full(2, 1.2), se, region(np.ones(2)), T1).se)


@pytest.mark.parametrize(
    ("values", "se", "member", "flag"),
    [
        (np.full(9, np.nan), None, region(np.ones(9)), "not-fitted"),
        (np.full(9, 1.2), None, region(np.full(9, 0.7)), "partial-volume"),
        (np.full(9, 7.0), None, region(np.ones(9)), "out-of-range"),
        (np.full(9, 1.2), np.full(9, 0.3), region(np.ones(9)), "low-snr"),
        (np.full(9, 1.2), None, region(np.ones(9), inside_image=0.5), "outside-image"),
    ],
)
def test_each_flag_is_raised_by_its_cause_alone(values, se, member, flag):
    assert region_statistics(values, se, member, T1).flags == {flag}
    assert flag in FLAGS


def test_good_region_has_no_flag():
    stats = region_statistics(np.full(9, 1.2), np.full(9, 0.05), region(np.ones(9)), T1)
    assert stats.flags == frozenset()


def test_one_voxel_has_no_spread():
    stats = region_statistics(np.array([1.2]), None, region(np.ones(1)), T1)
    assert np.isnan(stats.sd)
    assert stats.n_fitted == 1


def test_region_without_voxels_is_not_fitted_and_counts_none():
    stats = region_statistics(np.array([1.2]), None, region(np.zeros(1)), T1)
    assert (stats.n_vox, stats.n_fitted, stats.flags) == (0, 0, {"not-fitted"})


@pytest.mark.parametrize(("n", "flagged"), [(1, False), (2, True)])
def test_more_than_a_tenth_of_undetermined_voxels_is_told(n, flagged):
    status = np.zeros(10, np.uint8)
    status[:n], status[9] = Reason.NOT_IDENTIFIABLE, Reason.OUT_OF_RANGE
    values = np.where(status, np.nan, 1.2)
    stats = region_statistics(values, None, region(np.ones(10)), T1, status=status)
    assert ("not-identifiable" in stats.flags) is flagged
    beyond = np.append(status, np.full(50, Reason.NOT_IDENTIFIABLE))  # of another region
    member = region(np.append(np.ones(10), np.zeros(50)))
    more = np.append(values, np.full(50, np.nan))
    assert region_statistics(more, None, member, T1, status=beyond).flags == stats.flags


@pytest.mark.parametrize(
    ("key", "value", "se", "flagged"),
    [
        ("pdff", 0.3, 2.0, False),  # no fat, measured well: nothing to do with noise
        ("pdff", 0.3, 12.0, True),
        ("pdff", 90.0, 12.0, False),
        ("mtr", -0.5, 3.0, False),  # fat has none
        ("mtr", 35.0, 8.0, True),
        ("mtsat", 0.0, 0.3, False),
        ("mtsat", 0.0, 0.7, True),
        ("t1", 1.2, 0.23, False),
        ("t1", 1.2, 0.25, True),
        ("fa", 0.1, 0.03, True),
    ],
)
def test_noise_is_told_relative_to_what_the_quantity_can_be(key, value, se, flagged):
    stats = region_statistics(np.full(9, value), np.full(9, se), region(np.ones(9)), OUTPUTS[key])
    assert ("low-snr" in stats.flags) is flagged
