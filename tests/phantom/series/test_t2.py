"""Spin echoes: signals are the model's, the fits of pure voxels give what was put in."""

import numpy as np
import pytest

from mrn_prep.models.epg import cpmg_signal
from mrn_prep.models.spin_echo import spin_echo_signal
from mrn_prep.models.t2_mese import fit_mese
from mrn_prep.models.t2_simple import fit_dual_echo, fit_mono_exponential
from mrn_prep.models.t2_water_fat import calibrate_fat_t2, fit_mese_two_component

FAT = "subcutaneousfat"


def test_fat_is_suppressed_and_nerve_is_bright(view):
    seen = view("t2w", 0)
    signal = seen.signal[..., 0]
    mean = {name: signal[seen.pure(name)].mean() for name in ("sciatic", "vastus", "marrow")}
    assert mean["sciatic"] > 1.8 * mean["vastus"] > 3 * mean["marrow"]
    t = seen.tissue("sciatic")
    expected = spin_echo_signal(1000 * t.pd, t.t1_s, t.t2_s, seen.series.te_s, seen.series.tr_s)
    assert mean["sciatic"] == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_array_equal(seen.truth["t2w", ""], signal)


def test_pure_voxels_follow_the_echo_train_of_water_and_fat(view, site_index, names):
    seen = view("mese", site_index)
    mese, fat = seen.series, seen.tissue(FAT)
    train = (mese.spacing_s, mese.n_echoes)
    for name in names:
        t, where = seen.tissue(name), seen.pure(name)
        m0, b1 = seen.scene.gain * t.pd, seen.scene.b1[where]
        water = cpmg_signal(m0 * (1 - t.fat_fraction), t.t1_s, t.t2_s, b1, *train)
        expected = water + cpmg_signal(m0 * t.fat_fraction, fat.t1_s, fat.t2_s, b1, *train)
        np.testing.assert_allclose(seen.signal[where], expected, rtol=1e-6)


def test_fat_tissue_decays_as_one(view, site_index):
    seen = view("mese", site_index)
    where, fat = seen.pure(FAT), seen.tissue(FAT)
    fit = fit_mese(seen.signal[where], seen.series.spacing_s, fat.t1_s, seen.scene.b1[where])
    np.testing.assert_allclose(fit.t2_s, fat.t2_s, rtol=1e-4)
    np.testing.assert_allclose(seen.truth["t2", ""][where], fat.t2_s, rtol=1e-6)


@pytest.mark.parametrize("fraction", ["known", "fitted"])
def test_water_beside_fat_has_the_true_t2(view, site_index, fraction):
    seen = view("mese", site_index)
    where = seen.pure("sciatic", "vastus", "femoralartery")
    known = seen.truth["pdff", "mese"][where] if fraction == "known" else None
    fit = fit_mese_two_component(
        seen.signal[where], seen.series.spacing_s, seen.tissue(FAT).t2_s,
        seen.values("t1_s", where), known, b1=seen.truth["b1", "mese"][where],
    )  # fmt: skip
    np.testing.assert_allclose(fit.t2_s, seen.truth["t2", ""][where], rtol=5e-3)
    np.testing.assert_allclose(fit.m0, seen.truth["m0", "mese"][where], rtol=5e-3)
    np.testing.assert_allclose(fit.fat_fraction, seen.truth["pdff", "mese"][where], atol=2e-3)


def test_t1_need_not_be_known_for_t2(view, site_index):
    seen = view("mese", site_index)
    where = seen.pure("sciatic", "vastus")
    fit = fit_mese_two_component(
        seen.signal[where], seen.series.spacing_s, seen.tissue(FAT).t2_s,
        fat_fraction=seen.truth["pdff", "mese"][where], b1=seen.scene.b1[where],
    )  # fmt: skip
    np.testing.assert_allclose(fit.t2_s, seen.truth["t2", ""][where], rtol=5e-3)


def test_the_t2_of_fat_is_found_under_the_skin(view, site_index):
    seen = view("mese", site_index)
    limb = seen.scene.fractions[..., 0] < 0.5
    found = calibrate_fat_t2(
        seen.signal, seen.series.spacing_s, limb, seen.scene.grid.voxel_mm, b1=seen.scene.b1
    )
    assert found.t2_s == pytest.approx(seen.tissue(FAT).t2_s, rel=5e-3)


@pytest.mark.parametrize("key", ["t2prep", "dual"])
def test_prepared_and_dual_echo_images_have_the_true_t2(view, site_index, key, names):
    seen = view(key, site_index)
    where = seen.pure(*names)
    fit = {"t2prep": fit_mono_exponential, "dual": fit_dual_echo}[key]
    found = fit(seen.signal[where], np.array(seen.series.te_s))
    np.testing.assert_allclose(found.t2_s, seen.truth["t2", key][where], rtol=1e-4)
    np.testing.assert_allclose(found.m0, seen.truth["m0", key][where], rtol=1e-4)


def test_echo_times_are_those_of_the_train(view, site_index):
    mese = view("mese", site_index).series
    times = [file.sidecar["EchoTime"] for file in mese.files()]
    np.testing.assert_allclose(times, mese.spacing_s * np.arange(1, mese.n_echoes + 1), rtol=1e-12)
