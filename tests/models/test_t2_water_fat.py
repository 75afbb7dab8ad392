import os
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from mrn_prep.models.epg import cpmg_signal
from mrn_prep.models.status import Reason
from mrn_prep.models.t2_mese import fit_mese
from mrn_prep.models.t2_water_fat import calibrate_fat_t2, fit_mese_two_component

SPACING_S, N, FAT_T2_S = 0.0095, 17, 0.15


def clean(fraction, t2_s=0.035, b1=0.9, m0=1000.0):
    fraction = np.asarray(fraction, float)
    water = cpmg_signal(m0 * (1 - fraction), 1.4, t2_s, b1, SPACING_S, N)
    return water + cpmg_signal(m0 * fraction, 0.37, FAT_T2_S, b1, SPACING_S, N)


def magnitude(signal, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (2, *signal.shape))
    return np.hypot(signal + noise[0], noise[1])


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.2, 0.45])
@pytest.mark.parametrize("b1", [0.7, 1.0])
@pytest.mark.parametrize("known", [(), ("b1",), ("fat_fraction",), ("b1", "fat_fraction")])
def test_recovers_water_t2_from_noiseless_signal(fraction, b1, known):
    given = {"b1": b1, "fat_fraction": fraction}
    fit = fit_mese_two_component(
        clean(fraction, 0.04, b1), SPACING_S, FAT_T2_S, **{key: given[key] for key in known}
    )
    assert fit.status == Reason.FITTED
    np.testing.assert_allclose((fit.t2_s, fit.m0), (0.04, 1000.0), rtol=1e-3)
    np.testing.assert_allclose(fit.fat_fraction, fraction, atol=1e-3)


def test_fat_lengthens_t2_where_it_is_not_modelled():
    plain = fit_mese(clean(0.1), SPACING_S, b1=0.9).t2_s
    assert plain / 0.035 > 1.1


@pytest.mark.parametrize("fraction", [0.05, 0.3])
@pytest.mark.parametrize("b1", [0.8, 1.0])
def test_unbiased_efficient_and_covered_at_snr_50(fraction, b1):
    sigma, n = 20.0, 4000
    signal = magnitude(clean(np.full(n, fraction), b1=b1), sigma)
    for known in ({}, {"fat_fraction": fraction}, {"b1": b1, "fat_fraction": fraction}):
        fit = fit_mese_two_component(signal, SPACING_S, FAT_T2_S, sigma=sigma, **known)
        bound = fit_mese_two_component(
            clean(fraction, b1=b1), SPACING_S, FAT_T2_S, sigma=sigma, **known
        ).t2_se_s
        ok = fit.status == Reason.FITTED
        error = fit.t2_s[ok] - 0.035
        assert np.mean(ok) > 0.998
        assert abs(np.median(error)) < 0.01 * 0.035
        assert 0.9 < np.std(error) / bound < 1.1
        assert 0.64 < np.mean(np.abs(error) < fit.t2_se_s[ok]) < 0.72
        if "fat_fraction" not in known:
            miss = np.abs(fit.fat_fraction[ok] - fraction)
            assert 0.64 < np.mean(miss < fit.fat_fraction_se[ok]) < 0.76
            assert abs(np.median(fit.fat_fraction[ok]) - fraction) < 0.005


def test_error_of_the_fraction_reaches_t2():
    n = 8000
    given = 0.2 + np.random.default_rng(3).normal(0, 0.02, n)
    signal = magnitude(clean(np.full(n, 0.2)), 3.0)
    fit = fit_mese_two_component(
        signal, SPACING_S, FAT_T2_S, fat_fraction=given, fat_fraction_se=0.02, b1=0.9, sigma=3.0
    )
    assert 0.66 < np.mean(np.abs(fit.t2_s - 0.035) < fit.t2_se_s) < 0.71


def test_water_t2_in_fat_is_not_identifiable():
    fractions = np.array([0.3, 0.6, 0.9, 1.0])
    for given in (None, fractions):
        fit = fit_mese_two_component(
            clean(fractions), SPACING_S, FAT_T2_S, fat_fraction=given, b1=0.9, sigma=1.0
        )
        assert fit.status[0] == Reason.FITTED
        assert (fit.status[1:] == Reason.NOT_IDENTIFIABLE).all()
        assert np.isnan(fit.t2_s[1:]).all()
        assert np.isnan(fit.m0[1:]).all()
        np.testing.assert_allclose(fit.fat_fraction[:3], fractions[:3], atol=0.01)


def test_where_the_given_fraction_is_nan_it_is_fitted():
    fit = fit_mese_two_component(
        clean([0.2, 0.2]), SPACING_S, FAT_T2_S, fat_fraction=[0.1, np.nan], b1=0.9
    )
    np.testing.assert_allclose(fit.fat_fraction, [0.1, 0.2], atol=1e-3)
    np.testing.assert_allclose(fit.t2_s[1], 0.035, rtol=1e-3)
    assert fit.t2_s[0] > 0.038


def limb(sigma=10.0, fat=True):
    """A thigh: skin, a ring of fat, muscle, marrow in a shell of bone."""
    x, y = np.meshgrid(np.arange(48) - 24, np.arange(48) - 24, indexing="ij")
    r = np.hypot(x, y)[..., np.newaxis] * np.ones(3)
    fraction = np.where((r < 20) & (r > 14) & fat, 1.0, 0.03)
    m0 = np.where(r < 21, 1000.0, 0.0)
    m0[(r >= 20) & (r < 21)] = 500.0
    b1 = 0.75 + 0.01 * r
    return magnitude(clean(fraction, m0=m0, b1=b1), sigma), r < 21, (r < 20) & (r > 14)


def test_t2_of_fat_is_found_beneath_the_skin():
    signal, mask, truth = limb()
    found = calibrate_fat_t2(signal, SPACING_S, mask, (2.0, 2.0, 5.0), sigma=10.0)
    assert found.n_voxels == found.region.sum() > 500
    assert truth[found.region].all()
    assert abs(found.t2_s / FAT_T2_S - 1) < 0.01
    assert abs(found.t2_s - FAT_T2_S) < 3 * found.t2_se_s


def test_t2_of_fat_from_a_given_region():
    signal, mask, truth = limb()
    found = calibrate_fat_t2(signal, SPACING_S, mask, (2.0, 2.0, 5.0), truth, sigma=10.0)
    assert found.n_voxels > 0.98 * truth.sum()
    assert abs(found.t2_s / FAT_T2_S - 1) < 0.01


def test_a_limb_without_fat_calibrates_nothing():
    signal, mask, _ = limb(fat=False)
    found = calibrate_fat_t2(signal, SPACING_S, mask, (2.0, 2.0, 5.0), sigma=10.0)
    assert np.isnan(found.t2_s)
    assert found.n_voxels < 30
    empty = calibrate_fat_t2(signal, SPACING_S, np.zeros_like(mask), (2.0, 2.0, 5.0))
    assert np.isnan(empty.t2_s)


def test_water_t2_of_real_muscles():
    folder = os.environ.get("MRN_PREP_REFERENCE")
    if not folder:
        pytest.skip("MRN_PREP_REFERENCE is not set")
    nb = pytest.importorskip("nibabel")
    image, labels, grid = (
        nb.load(Path(folder) / "legs" / f"{name}.nii.gz")
        for name in ("mese", "muscles_dseg", "dwi")
    )
    signal = np.asarray(image.dataobj, dtype=np.float32)
    mask = signal.mean(axis=-1) > 60
    # the labels are on the diffusion grid, mirrored in x
    voxels = np.moveaxis(np.indices(mask.shape), 0, -1)
    at = nb.affines.apply_affine(np.linalg.inv(grid.affine) @ image.affine, voxels)
    muscle = map_coordinates(np.asarray(labels.dataobj)[::-1], np.moveaxis(at, -1, 0), order=0)
    fat = calibrate_fat_t2(signal, 0.0077, mask, (3.0, 3.0, 12.0), sigma=14.0)
    assert 0.13 < fat.t2_s < 0.17
    assert fat.n_voxels > 1000
    fit = fit_mese_two_component(signal, 0.0077, fat.t2_s, mask=mask, sigma=14.0)
    medians = []
    for label in range(13, 27):
        low, median, high = np.nanpercentile(fit.t2_s[muscle == label], (25, 50, 75))
        assert high - low < 0.004
        medians.append(median)
    assert 0.030 < min(medians) < max(medians) < 0.034
    assert np.nanmedian(fit.fat_fraction[muscle > 0]) < 0.12
    seen = fit.fat_fraction[fat.region]
    assert np.mean(np.isfinite(seen)) > 0.5
    assert np.nanmedian(seen) > 0.8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fat_t2_s": 0.0}, "fat"),
        ({"fat_fraction": 20.0}, "percent"),
        ({"fat_fraction": np.ones(3)}, "fat_fraction"),
        ({"signal": np.ones((2, 3))}, "unknowns"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    given = {"signal": np.ones((2, N)), "echo_spacing_s": SPACING_S, "fat_t2_s": 0.1} | changes
    with pytest.raises(ValueError, match=message):
        fit_mese_two_component(**given)
