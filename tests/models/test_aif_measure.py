import numpy as np
import pytest

from mrn_prep.models.aif_measure import (
    describe_input,
    input_from_region,
    rescale_to_area,
    rescale_to_tail,
)
from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_concentration import Acquisition, signal_from_concentration
from mrn_prep.models.noise import rician_noise

T = np.arange(0.0, 300.0, 2.0)
BASELINE = slice(0, 9)
BLOOD = parker_aif(T, arrival_s=20.0)
ACQUISITION = Acquisition(0.004, np.deg2rad(20), 4.5, BASELINE)


def vessel(n, baseline_signal, seed=0):
    clean = signal_from_concentration(BLOOD, baseline_signal, ACQUISITION, 1.65)
    return rician_noise(np.tile(clean, (n, 1)), 1.0, np.random.default_rng(seed))


def test_describes_a_curve():
    found = describe_input(BLOOD, T, BASELINE)
    assert found.usable
    assert not found.flags
    assert abs(found.peak_mm - BLOOD.max()) < 1e-12
    assert found.peak_s == T[BLOOD.argmax()]
    assert 20 < found.arrival_s < 25
    np.testing.assert_allclose(found.area_mm_s, np.trapezoid(BLOOD, T))
    np.testing.assert_allclose(60 * found.wash_out_per_s, 0.1685, rtol=1e-3)
    late = found.wash_out_mm * np.exp(-found.wash_out_per_s * (T[-1] - found.peak_s))
    np.testing.assert_allclose(late, BLOOD[-1], rtol=1e-3)


@pytest.mark.parametrize(
    ("curve", "flag"),
    [
        (np.linspace(0, 2, T.size), "no-peak"),
        (0.1 * BLOOD, "low-peak"),
        (BLOOD + np.random.default_rng(0).normal(0, 1.0, T.size), "low-snr"),
        (np.where(np.arange(T.size) == 16, np.nan, BLOOD), "saturated"),
        (parker_aif(T, arrival_s=-10.0), "no-baseline"),
        (np.zeros(T.size), "no-peak"),
    ],
)
def test_quality_gate(curve, flag):
    found = describe_input(curve, T, BASELINE)
    assert flag in found.flags
    assert not found.usable


def test_lost_frames_are_bridged():
    curve = np.where(np.arange(T.size) == 100, np.nan, BLOOD)
    found = describe_input(curve, T, BASELINE)
    np.testing.assert_allclose(found.curve_mm, BLOOD, atol=1e-3)


def test_growing_tail_is_told_but_can_be_used():
    curve = BLOOD + np.where(T > 60, (T - 60) * 0.005, 0.0)
    found = describe_input(curve, T, BASELINE)
    assert found.flags == ("no-wash-out",)
    assert found.usable


def test_region_at_low_signal_is_unbiased():
    # blood without contrast is near the noise floor: the mean magnitude would be too high
    signal = vessel(400, 2.5)
    found = input_from_region(signal, np.ones(400, bool), T, ACQUISITION, sigma=1.0)
    naive = input_from_region(signal, np.ones(400, bool), T, ACQUISITION)
    truth = np.trapezoid(BLOOD, T)
    assert abs(found.area_mm_s / truth - 1) < 0.02
    assert naive.area_mm_s / truth - 1 < -0.05


def test_region_counts_only_its_own_voxels():
    signal = np.concatenate([vessel(5, 40.0), vessel(20, 40.0)[:, :1] * np.ones(T.size)])
    region = np.arange(25) < 5
    found = input_from_region(signal, region, T, ACQUISITION, sigma=1.0)
    assert abs(found.area_mm_s / np.trapezoid(BLOOD, T) - 1) < 0.05
    assert np.array_equal(found.voxels, region)


def test_inflow_is_told_and_undone():
    signal = vessel(50, 40.0)
    signal[:, BASELINE] *= 1.8
    expected = np.full(50, 40.0)
    found = input_from_region(
        signal, np.ones(50, bool), T, ACQUISITION, sigma=1.0, expected_baseline=expected
    )
    assert "inflow" in found.flags
    assert abs(found.peak_mm / BLOOD.max() - 1) < 0.03
    calm = input_from_region(
        vessel(50, 40.0), np.ones(50, bool), T, ACQUISITION, sigma=1.0, expected_baseline=expected
    )
    assert "inflow" not in calm.flags


def test_error_of_the_area_is_its_scatter():
    region = np.ones(12, bool)
    found = [
        input_from_region(vessel(12, 15.0, seed), region, T, ACQUISITION, sigma=1.0)
        for seed in range(200)
    ]
    scatter = np.std([one.area_mm_s for one in found])
    assert np.median([one.area_se_mm_s for one in found]) == pytest.approx(scatter, rel=0.15)
    calm = np.tile(signal_from_concentration(BLOOD, 15.0, ACQUISITION, 1.65), (12, 1))
    known, longer = (
        input_from_region(calm, region, T, ACQUISITION, t1, t1_se_s=0.023) for t1 in (1.65, 1.673)
    )
    assert known.area_se_mm_s == pytest.approx(known.area_mm_s - longer.area_mm_s, rel=1e-6)
    assert known.area_se_mm_s > 0.02 * known.area_mm_s
    alone = input_from_region(vessel(1, 15.0), region[:1], T, ACQUISITION, sigma=1.0)
    assert np.isnan(alone.area_se_mm_s)


def test_few_voxels_are_told():
    found = input_from_region(vessel(2, 40.0), np.ones(2, bool), T, ACQUISITION, sigma=1.0)
    assert found.flags == ("few-voxels",)


@pytest.mark.parametrize("region", [np.zeros(4, bool), np.array([False, False, False, True])])
def test_refuses_a_region_without_signal(region):
    signal = vessel(4, 40.0)
    signal[3] = np.nan
    with pytest.raises(ValueError, match="empty"):
        input_from_region(signal, region, T, ACQUISITION)


def test_refuses_a_region_of_another_shape():
    with pytest.raises(ValueError, match="shape"):
        input_from_region(vessel(4, 40.0), np.ones(3, bool), T, ACQUISITION)


def test_partial_volume_is_undone_by_the_tail_of_a_vein():
    vein = np.interp(T - 12.0, T, BLOOD, left=0.0)
    curve, factor = rescale_to_tail(0.55 * BLOOD, T, vein, from_s=150.0)
    assert abs(0.55 * factor - 1) < 0.04  # blood falls 3 % in 12 s
    np.testing.assert_allclose(curve, 0.55 * factor * BLOOD)
    with pytest.raises(ValueError, match="positive"):
        rescale_to_tail(BLOOD, T, -vein, from_s=150.0)
    with pytest.raises(ValueError, match="positive"):
        rescale_to_tail(BLOOD, T, vein, from_s=1000.0)


def test_area_is_made_that_of_a_population():
    area = float(np.trapezoid(BLOOD, T))
    curve, factor = rescale_to_area(0.4 * BLOOD, T, area)
    np.testing.assert_allclose((factor, np.trapezoid(curve, T)), (2.5, area))
    with pytest.raises(ValueError, match="positive"):
        rescale_to_area(-BLOOD, T, area)
