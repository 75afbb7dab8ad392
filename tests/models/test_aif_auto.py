from itertools import pairwise

import numpy as np
import pytest

from mrn_prep.models.aif_auto import find_input, fullest_voxels
from mrn_prep.models.aif_measure import input_from_region
from mrn_prep.models.aif_population import georgiou_aif, parker_aif
from mrn_prep.models.dce_concentration import Acquisition, signal_from_concentration
from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.t1_vfa import spgr_signal

FINE = np.arange(0.0, 320.0, 0.2)
N, SLICES, VOXEL_MM, OVER, TR_S = 64, 3, 1.5, 4, 0.004
FAT, MUSCLE, ARTERY, VEIN, NERVE = range(1, 6)
T1_S = {FAT: 0.37, MUSCLE: 1.4, ARTERY: 1.65, VEIN: 1.65, NERVE: 1.2}


def limb(
    snr=20.0, step_s=4.0, flip_deg=20.0, radius_mm=3.0, aif=parker_aif, seed=0, vessels=True,
    b1=1.0,
):  # fmt: skip
    """Make a noisy series of a limb, with the true input and the fraction of artery in voxels."""
    blood = aif(FINE, arrival_s=30.0)
    plasma = plasma_from_blood(blood, 0.42)
    spread = np.exp(-np.arange(0, 60, 0.2) / 8.0)
    vein = np.convolve(np.interp(FINE - 10, FINE, blood, left=0.0), spread / spread.sum())
    curves = {
        FAT: extended_tofts_curve(0.01 / 60, 0.05, 0.005, plasma, FINE),
        MUSCLE: extended_tofts_curve(0.12 / 60, 0.15, 0.03, plasma, FINE, delay_s=5.0),
        ARTERY: blood,
        VEIN: vein[: FINE.size],
        NERVE: extended_tofts_curve(0.03 / 60, 0.2, 0.02, plasma, FINE, delay_s=5.0),
    }
    edges = np.round(np.arange(0.0, 300.1, step_s) / 0.2).astype(int)
    acquisition = Acquisition(TR_S, np.deg2rad(flip_deg), 4.5, slice(0, int(24 / step_s)))

    def frames(curve):
        return np.array([curve[a:b].mean() for a, b in pairwise(edges)])

    side = N * VOXEL_MM
    x, y = np.meshgrid(
        *2 * [(np.arange(N * OVER) + 0.5) / OVER * VOXEL_MM - side / 2], indexing="ij"
    )
    radius = np.hypot(x, y)
    label = np.where(radius < 0.38 * side, MUSCLE, np.where(radius < 0.45 * side, FAT, 0))
    label[np.hypot(x, y + 12) < 3.5] = NERVE
    if vessels:
        label[np.hypot(x - 12, y - 8) < radius_mm] = ARTERY
        label[np.hypot(x - 12 - 2 * radius_mm - 1.5, y - 10) < 1.2 * radius_mm] = VEIN
        label[np.hypot(x + 18, y + 12) < 1.2] = ARTERY  # no voxel is full of this one
    blocks = label.reshape(N, OVER, N, OVER)
    fraction = {k: (blocks == k).mean(axis=(1, 3)) for k in curves}
    flips = [b1 * np.deg2rad(flip_deg)]
    unit = snr / spgr_signal(1.0, T1_S[MUSCLE], flips, TR_S)[0]
    signal = 0.0
    for kind, curve in curves.items():
        before = unit * spgr_signal(1.0, T1_S[kind], flips, TR_S)[0]
        shown = signal_from_concentration(curve, before, acquisition, T1_S[kind], b1)
        signal = signal + fraction[kind][..., np.newaxis] * frames(shown)
    signal = np.repeat(signal[:, :, np.newaxis], SLICES, axis=2)
    t = 0.1 * (edges[1:] + edges[:-1])
    noisy = rician_noise(signal, 1.0, np.random.default_rng(seed)).astype(np.float32)
    share = np.repeat(fraction[ARTERY][:, :, np.newaxis], SLICES, axis=2)
    return noisy, t, acquisition, frames(blood), share


@pytest.mark.parametrize(
    "kwargs",
    [
        {}, {"seed": 1}, {"seed": 2}, {"step_s": 2.0}, {"step_s": 6.0}, {"radius_mm": 2.0},
        {"aif": georgiou_aif}, {"flip_deg": 12.0}, {"snr": 10.0}, {"snr": 40.0},
    ],
)  # fmt: skip
def test_area_is_right_within_10_percent_at_snr_20(kwargs):
    signal, t, acquisition, blood, share = limb(**kwargs)
    found = find_input(signal, t, acquisition, sigma=1.0)
    assert found.usable
    assert abs(found.area_mm_s / np.trapezoid(blood, t) - 1) < 0.10
    assert abs(found.peak_mm / blood.max() - 1) < 0.10
    assert share[found.voxels].mean() > 0.95
    assert abs(found.curve_mm - blood).max() < 0.1 * blood.max()


def test_noise_need_not_be_known_and_lost_voxels_do_no_harm():
    signal, t, acquisition, blood, _ = limb()
    signal[:5] = np.nan
    found = find_input(signal, t, acquisition)
    assert abs(found.area_mm_s / np.trapezoid(blood, t) - 1) < 0.10


def test_b1_matters():
    signal, t, acquisition, blood, _ = limb(b1=0.8)
    b1 = np.full(signal.shape[:3], 0.8)
    area = np.trapezoid(blood, t)
    assert abs(find_input(signal, t, acquisition, b1=b1, sigma=1.0).area_mm_s / area - 1) < 0.10
    assert abs(find_input(signal, t, acquisition, sigma=1.0).area_mm_s / area - 1) > 0.15


def test_vein_is_found_when_asked_for():
    signal, t, acquisition, blood, share = limb()
    found = find_input(signal, t, acquisition, sigma=1.0, vessel="vein")
    assert found.usable
    assert not share[found.voxels].any()
    assert found.peak_s > t[blood.argmax()]
    late = t > 150
    np.testing.assert_allclose(found.curve_mm[late].mean(), blood[late].mean(), rtol=0.1)


def test_only_the_search_region_is_looked_at():
    signal, t, acquisition, _, share = limb()
    search = np.zeros(signal.shape[:3], bool)
    search[:, :, 1] = share[:, :, 1] > 0
    found = find_input(signal, t, acquisition, search, sigma=1.0)
    assert found.voxels[:, :, 1].any()
    assert not found.voxels[:, :, [0, 2]].any()


def test_without_vessels_nothing_is_usable():
    signal, t, acquisition, _, _ = limb(vessels=False)
    found = find_input(signal, t, acquisition, sigma=1.0)
    assert not found.usable


def test_nothing_that_enhances_is_empty():
    signal, t, acquisition, _, _ = limb()
    flat = np.repeat(signal[..., :1], t.size, axis=-1)
    found = find_input(flat, t, acquisition, sigma=1.0)
    assert "empty" in found.flags
    assert not found.usable
    assert not found.voxels.any()


def test_saturated_vessels_are_told():
    signal, t, acquisition, _, share = limb()
    signal[share > 0] *= np.where(t > 30, 50.0, 1.0).astype(np.float32)
    search = share > 0
    found = find_input(signal, t, acquisition, search, sigma=1.0)
    assert "saturated" in found.flags
    assert not found.usable


def test_refuses_shapes_that_do_not_belong_together():
    signal, t, acquisition, _, share = limb()
    with pytest.raises(ValueError, match="search"):
        find_input(signal, t, acquisition, share[:-1] > 0)
    with pytest.raises(ValueError, match="signal"):
        find_input(signal, t[:-1], acquisition)
    late = Acquisition(TR_S, 0.3, 4.5, slice(500, 510))
    with pytest.raises(ValueError, match="none of the"):
        find_input(signal, t, late)


def test_voxels_that_interpolation_made_too_full_are_not_preferred():
    t, rng = np.arange(0.0, 240.0, 4.0), np.random.default_rng(0)
    acquisition = Acquisition(0.005, np.deg2rad(18), 4.5, slice(0, 5))
    blood = parker_aif(t, arrival_s=24.0)
    clean = signal_from_concentration(blood, 20.0, acquisition, 1.65)
    full = np.tile(clean, (50, 1))
    full[:, :5] *= 1 + 0.05 * rng.standard_normal((50, 1))  # their borders over- and undershoot
    share = rng.uniform(0.2, 0.9, (40, 1))
    shared = share * clean + (1 - share) * 60.0  # with fat
    signal = np.concatenate([full, shared])
    chosen = fullest_voxels(signal, t, acquisition, sigma=0.1)
    assert chosen[:50].sum() > 15
    assert not chosen[50:].sum() > 3
    found = input_from_region(signal, chosen, t, acquisition)
    assert abs(found.area_mm_s / np.trapezoid(blood, t) - 1) < 0.03
