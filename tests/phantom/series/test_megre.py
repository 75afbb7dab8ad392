"""Gradient echoes with phase: signals are the model's, truth is what they hold."""

import numpy as np
import pytest

from mrn_prep.models.megre import fat_phasor, megre_signal
from mrn_prep.models.t1_vfa import spgr_signal


def test_pure_voxels_follow_water_and_fat(view, site_index, names):
    seen = view("megre", site_index)
    megre, scene = seen.series, seen.scene
    for name in names:
        t, where = seen.tissue(name), seen.pure(name)
        flip = scene.b1[where][:, None] * np.deg2rad(megre.flip_deg)
        m0 = spgr_signal(scene.gain * t.pd, t.t1_s, flip, megre.tr_s)[:, 0]
        expected = megre_signal(
            m0 * (1 - t.fat_fraction), m0 * t.fat_fraction, megre.echoes_s,
            field_hz=scene.b0_hz[where], r2star_per_s=1 / t.t2star_s,
            phase_rad=scene.phase_rad[where], field_t=3.0,
        )  # fmt: skip
        np.testing.assert_allclose(seen.signal[where], expected, rtol=1e-12)


def test_the_signal_holds_the_true_water_and_fat(view, site_index, names):
    """With field, R2* and phase known, water and fat follow linearly."""
    seen = view("megre", site_index)
    where, te = seen.pure(*names), np.array(seen.series.echoes_s)
    rate = 2j * np.pi * seen.truth["field", ""] - seen.truth["r2star", ""]
    bare = seen.signal[where] * np.exp(
        -rate[where][:, None] * te - 1j * seen.scene.phase_rad[where][:, None]
    )
    basis = np.stack([np.ones(len(te)), fat_phasor(te, 3.0)], axis=-1)
    water, fat = np.linalg.lstsq(basis, bare.T, rcond=None)[0].real
    np.testing.assert_allclose(water, seen.truth["water", ""][where], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(fat, seen.truth["fat", ""][where], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fat / (water + fat), seen.truth["pdff", ""][where], atol=1e-6)
    product = seen.truth["t2star", ""] * seen.truth["r2star", ""]
    np.testing.assert_allclose(product[where], 1.0, rtol=1e-6)


def complex_of(seen, sigma=0.0):
    parts = seen.series.images(seen.signal, sigma, np.random.default_rng(0))
    scale = np.pi / 4096 if seen.series.phase_steps else 1.0
    magnitude, phase = (np.stack(parts[i::2], axis=-1).astype(float) for i in (0, 1))
    return magnitude * np.exp(1j * phase * scale), phase


def test_the_files_hold_the_complex_signal(view, site_index):
    seen = view("megre", site_index)
    found, _ = complex_of(seen)
    step = np.pi / 2048 if seen.series.phase_steps else 1e-6
    assert (np.abs(found - seen.signal) <= np.abs(seen.signal) * 0.51 * step + 1e-4).all()


def test_phase_is_in_steps_at_one_site_and_in_radians_at_the_other(view):
    for index, (low, high, units) in enumerate(
        [(-4096, 4094, "arbitrary"), (-np.pi, np.pi, "rad")]
    ):
        seen = view("megre", index)
        _, phase = complex_of(seen, sigma=1.0)
        assert phase.min() == pytest.approx(low, rel=1e-4)
        assert phase.max() == pytest.approx(high, rel=1e-4)
        sidecars = [f.sidecar for f in seen.series.files() if f.entities["part"] == "phase"]
        assert {sidecar["Units"] for sidecar in sidecars} == {units}
    assert len(sidecars) == 6


def test_air_has_noise_of_any_phase(view):
    seen = view("megre", 1)
    found, phase = complex_of(seen, sigma=2.0)
    air = seen.scene.fractions[..., 0] == 1
    assert found[air].real.std() == pytest.approx(2.0, rel=0.01)
    assert phase[air].std() == pytest.approx(np.pi / np.sqrt(3), rel=0.01)
