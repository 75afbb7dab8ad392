from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as pieces

from mrn_prep.models.fat_water import fit_fat_water
from mrn_prep.models.fat_water_field import label, noise_from_misfits, unwrap
from mrn_prep.models.megre import FatPeaks, megre_signal
from mrn_prep.models.status import Reason

TE_S = 0.00123 + 0.00115 * np.arange(6)
VOXEL_MM = (1.6, 1.6, 4.0)
SHAPE = (72, 60, 6)
SNR = 50.0
OTHER_PEAKS = FatPeaks(
    (-3.8, -3.4, -3.11, -2.7, -2.45, -1.93, -0.5, 0.61),
    (0.087, 0.568, 0.058, 0.092, 0.058, 0.027, 0.038, 0.073),
)
X, Y, Z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")


def limbs():
    """Two limbs in air: skin fat, muscle with strands of fat, a nerve, a bone with marrow."""
    total, fraction, r2star = np.zeros(SHAPE), np.zeros(SHAPE), np.full(SHAPE, 40.0)

    def paint(where, total_here, fraction_here, r2star_here=40.0):
        total[where], fraction[where], r2star[where] = total_here, fraction_here, r2star_here

    for centre in (-0.5, 0.5):
        x = (X - centre) / 0.43
        radius = np.hypot(x, Y / 0.85)
        paint(radius < 1, 1200.0, 0.95)
        paint(radius < 0.85, 800.0, 0.04)
        strand = np.abs(np.sin(3 * np.arctan2(Y, x) + 4 * Z)) < 0.08
        paint(strand & (radius > 0.3) & (radius < 0.85), 900.0, 0.6)
        paint(np.hypot((x - 0.3) / 0.13, (Y + 0.35) / 0.09) < 1, 700.0, 0.12, 45.0)
        paint(radius < 0.22, 60.0, 0.0, 300.0)
        paint(radius < 0.16, 1100.0, 0.97, 70.0)
    return total, fraction, r2star


TOTAL, FRACTION, R2STAR = limbs()
LIMB = TOTAL > 0


def smooth_field(seed, peak_hz=300.0):
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal([n + 60 for n in SHAPE]), (14, 14, 8))
    field = field[30:-30, 30:-30, 30:-30]
    field = field - field[LIMB].mean()
    return field * (peak_hz / np.abs(field[LIMB]).max())


def echoes(field_hz, snr=SNR, te_s=TE_S, field_t=3.0, seed=0, fat_phase=0.0, eddy=0.0, **kwargs):
    signal = megre_signal(
        TOTAL * (1 - FRACTION),
        TOTAL * FRACTION * np.exp(1j * fat_phase),
        te_s,
        field_hz=field_hz,
        r2star_per_s=R2STAR,
        phase_rad=1 + X,
        field_t=field_t,
        **kwargs,
    )
    signal[..., 0] *= np.exp(1j * eddy)
    noise = np.random.default_rng(seed + 100).normal(0, 800.0 / snr, (2, *signal.shape))
    return signal + noise[0] + 1j * noise[1], 800.0 / snr


def largest_swap(fit, inside=LIMB):
    """Voxels in the largest connected piece whose fraction is wrong by half."""
    wrong = inside & (fit.status == Reason.FITTED) & (np.abs(fit.pdff - FRACTION) > 0.5)
    found, n = pieces(wrong)
    return int(np.bincount(found.ravel())[1:].max()) if n else 0


def test_no_swaps_in_a_limb_in_a_field_of_600_hz():
    field = 1.2 * X**2 - Y**2 + 0.5 * Z + 0.6 * X * Y + X
    field -= 0.5 * (field[LIMB].max() + field[LIMB].min())
    field *= 300.0 / field[LIMB].max()
    signal, sigma = echoes(field)
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, LIMB, sigma)
    assert largest_swap(fit) <= 10
    assert largest_swap(fit, TOTAL > 100) == 0
    tissue = (TOTAL > 100) & LIMB
    assert np.median(np.abs(fit.field_hz - field)[tissue]) < 1.0
    assert np.abs(fit.field_hz - field)[tissue].max() < 30.0
    assert np.mean(fit.status[tissue] == Reason.FITTED) == 1


@pytest.mark.parametrize("seed", range(10))
def test_no_swaps_in_random_smooth_fields(seed):
    signal, sigma = echoes(smooth_field(seed), seed=seed)
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, LIMB, sigma)
    assert largest_swap(fit) <= 10
    assert largest_swap(fit, TOTAL > 100) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"snr": 12.0},
        {"field_t": 1.5, "te_s": 0.0013 + 0.0021 * np.arange(6)},
        {"field_t": 1.5, "te_s": 0.0011 + 0.0011 * np.arange(6)},
        {"te_s": 0.0012 + 0.0009 * np.arange(3)},
        {"te_s": 0.00115 * np.arange(1, 7)},
        {"te_s": np.array([1.1, 2.1, 3.37, 4.2, 5.55, 7.1]) * 1e-3},
    ],
)
def test_no_swaps_in_other_protocols(change):
    signal, sigma = echoes(smooth_field(3, 250.0), **change)
    te_s, field_t = change.get("te_s", TE_S), change.get("field_t", 3.0)
    fit = fit_fat_water(signal, te_s, field_t, VOXEL_MM, LIMB, sigma)
    assert largest_swap(fit, TOTAL > 100) <= 1


@pytest.mark.parametrize(
    "change",
    [{"peaks": OTHER_PEAKS}, {"fat_phase": 0.3, "snr": 100.0}, {"eddy": -0.2, "snr": 100.0}],
)
def test_no_swaps_where_the_model_errs(change):
    signal, sigma = echoes(smooth_field(4), **change)
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, LIMB, sigma)
    assert largest_swap(fit, TOTAL > 100) == 0


def test_limbs_in_different_fields_do_not_disturb_one_another():
    field = smooth_field(5, 150.0) + 250.0 * np.sign(X)
    signal, sigma = echoes(field)
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, LIMB, sigma)
    assert largest_swap(fit, TOTAL > 100) == 0
    assert np.abs(fit.field_hz - field)[TOTAL > 100].max() < 40.0


def test_neither_mask_nor_noise_is_needed():
    field = smooth_field(6)
    signal, _ = echoes(field)
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM)
    assert largest_swap(fit, TOTAL > 100) == 0


@pytest.mark.parametrize("factor", [1e-5, 1e5])
def test_the_unit_of_the_signal_does_not_matter(factor):
    signal, sigma = echoes(smooth_field(7), snr=15.0)
    one = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, LIMB, sigma)
    other = fit_fat_water(factor * signal, TE_S, 3.0, VOXEL_MM, LIMB, factor * sigma)
    np.testing.assert_array_equal(other.status, one.status)
    np.testing.assert_allclose(other.pdff, one.pdff, atol=1e-3)
    np.testing.assert_allclose(other.water, factor * one.water, atol=factor)
    np.testing.assert_allclose(other.t2star_se_s, one.t2star_se_s, rtol=1e-2)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20, 60))
def test_no_swaps_in_many_fields_with_model_errors_and_noise(seed):
    rng = np.random.default_rng(seed)
    change = {"peaks": OTHER_PEAKS, "eddy": rng.uniform(-0.2, 0.2), "snr": rng.uniform(12, 100)}
    signal, sigma = echoes(smooth_field(seed, rng.uniform(100, 600)), seed=seed, **change)
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, LIMB, sigma)
    assert largest_swap(fit, TOTAL > 100) <= 1


def test_noise_is_found_from_misfits():
    rng = np.random.default_rng(0)
    misfit = 7.0**2 * rng.chisquare(2 * 6 - 5, 20000).astype(np.float32)
    assert abs(noise_from_misfits(misfit, 6) / 7.0 - 1) < 0.01


@pytest.mark.parametrize("shape", [(9, 1), (3, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_labels_are_the_best_of_all(shape, seed):
    n, period_hz, variance = 9, 800.0, 400.0
    rng = np.random.default_rng(seed)
    costs = rng.uniform(0, 4, (n, 3)).astype(np.float32)
    # either side of where fields wrap, too
    fields = (rng.uniform(-80, 80, (n, 3)) + 400 * (seed % 2)).astype(np.float32)
    fields = (fields + np.float32(400)) % np.float32(800) - np.float32(400)
    index = np.arange(n).reshape(shape)
    neighbours = np.full((n, 6), -1, np.int32)
    edges = []
    for axis in range(2):
        first = np.delete(index, -1, axis).ravel()
        second = np.delete(index, 0, axis).ravel()
        neighbours[second, axis], neighbours[first, 3 + axis] = first, second
        edges.append((first, second))
    first, second = np.concatenate(edges, axis=1)

    def energy(labels):
        chosen = np.take_along_axis(fields, labels, axis=1)
        jump = np.abs(chosen[first] - chosen[second])
        jump = np.minimum(jump, period_hz - jump)
        smooth = np.minimum(jump**2 / (2 * (variance + 2 * 10.0**2)), 4.0).sum(axis=0)
        return np.take_along_axis(costs, labels, axis=1).sum(axis=0) + smooth

    spreads = np.full(n, 10.0, np.float32)
    found = label(costs, fields, spreads, neighbours, np.full(3, variance), period_hz)
    least = energy(np.array(list(product(range(3), repeat=n))).T).min()
    np.testing.assert_allclose(energy(found[:, np.newaxis].astype(int))[0], least, rtol=1e-5)
    assert energy(costs.argmin(axis=1)[:, np.newaxis])[0] > least + 0.1


def test_unwrapping_restores_a_ramp_and_leaves_unsure_voxels():
    truth = np.linspace(-900, 1100, 60).astype(np.float32)
    wrapped = (truth + 400) % 800 - 400
    neighbours = np.full((60, 6), -1, np.int32)
    neighbours[1:, 0], neighbours[:-1, 3] = np.arange(59), np.arange(1, 60)
    sure = np.ones(60, bool)
    np.testing.assert_allclose(unwrap(wrapped, sure, neighbours, 800.0), truth, atol=1e-3)
    sure[30] = False
    found = unwrap(wrapped, sure, neighbours, 800.0)
    assert found[30] == wrapped[30]
    # two pieces now, each with its median within half a period
    assert abs(np.median(found[:30])) <= 400
    assert abs(np.median(found[31:])) <= 400
