"""Every measurement of B1+: signals are the model's, the fit gives what was put in."""

import numpy as np
import pytest

from mrn_prep.models.b1_afi import afi_signal, fit_afi
from mrn_prep.models.b1_methods import b1_from_rfm, b1_from_tfl, fit_dam, ready_b1_ratio
from mrn_prep.phantom.noise import sigma_for


def stored(seen, sigma=0.0):
    return seen.series.images(seen.signal, sigma, np.random.default_rng(0))


def test_pure_voxels_follow_actual_flip_angle_imaging(view, site_index, names):
    seen = view("afi", site_index)
    afi = seen.series
    for name in names:
        t, where = seen.tissue(name), seen.pure(name)
        m0 = seen.scene.gain * t.pd * np.exp(-afi.te_s / t.t2star_s)
        flip = seen.truth["b1", ""][where] * np.deg2rad(afi.flip_deg)
        expected = afi_signal(m0, t.t1_s, flip, afi.tr1_s, afi.tr2_s)
        np.testing.assert_allclose(seen.signal[where], expected, rtol=1e-12)


def test_actual_flip_angle_imaging_gives_the_true_b1(view, site_index, names):
    seen = view("afi", site_index)
    where, afi = seen.pure(*names), seen.series
    fit = fit_afi(seen.signal[where], np.deg2rad(afi.flip_deg), afi.tr1_s, afi.tr2_s,
                  t1_s=seen.values("t1_s", where))  # fmt: skip
    np.testing.assert_allclose(fit.b1, seen.truth["b1", ""][where], rtol=1e-9)


def test_the_double_angle_gives_the_true_b1(view, site_index, names):
    seen = view("dam", site_index)
    where, dam = seen.pure(*names), seen.series
    t1_s = seen.values("t1_s", where)
    fit = fit_dam(seen.signal[where], np.deg2rad(dam.flip_deg), t1_s=t1_s, tr_s=dam.tr_s)
    np.testing.assert_allclose(fit.b1, seen.truth["b1", "dam"][where], rtol=1e-9)
    assert seen.series.files()[1].sidecar["FlipAngle"] == 2 * dam.flip_deg


@pytest.mark.parametrize(("key", "convert"), [("tfl", b1_from_tfl), ("rfm", b1_from_rfm)])
def test_angle_images_give_the_true_b1_to_half_a_step(view, site_index, key, convert):
    seen = view(key, site_index)
    anatomy, angles = stored(seen)
    limb = seen.scene.fractions[..., 0] == 0
    b1 = convert(angles, np.deg2rad(seen.series.flip_deg)).b1
    step_deg = {"tfl": 0.1, "rfm": 180 / 2048}[key]
    off = np.abs(b1 - seen.truth["b1", key])[limb] * seen.series.flip_deg
    assert off.max() <= step_deg / 2 + 1e-6
    assert np.median(np.abs(b1 / seen.truth["b1", key] - 1)[limb]) < 1e-3
    np.testing.assert_array_equal(angles, np.round(angles))
    np.testing.assert_allclose(anatomy, seen.signal[..., 0], rtol=1e-6)


def test_a_finished_map_is_percent_at_one_site_and_a_ratio_at_the_other(view):
    for index, unit in enumerate(("percent", "ratio")):
        seen = view("map", index)
        limb = seen.scene.fractions[..., 0] == 0
        found = ready_b1_ratio(stored(seen)[0], limb)
        assert found.unit == unit
        np.testing.assert_allclose(found.b1[limb], seen.truth["b1", "map"][limb], rtol=1e-6)


@pytest.mark.parametrize("key", ["tfl", "rfm", "map"])
def test_noise_of_a_scanner_s_own_map_is_that_of_its_images(view, key):
    """First order: the cosine c of two signals S, S c has sigma / S sqrt(1 + c²)."""
    seen = view(key, 0)
    sigma = sigma_for(seen.signal, seen.scene.muscle, 50)
    where = seen.scene.muscle
    noisy, clean = (stored(seen, s)[-1][where] for s in (sigma, 0.0))
    per_degree = {"tfl": 10, "rfm": 2048 / 180, "map": 100 / seen.series.flip_deg}[key]
    angle = np.deg2rad(seen.scene.b1[where] * seen.series.flip_deg)
    expected = sigma / seen.signal[where, 0] * np.sqrt(1 + np.cos(angle) ** 2) / np.sin(angle)
    z = np.deg2rad((noisy - clean) / per_degree) / expected
    assert z.std() == pytest.approx(1, rel=0.05) and abs(z.mean()) < 0.1


@pytest.mark.parametrize(("key", "nothing"), [("tfl", 0), ("rfm", 2048), ("map", 0)])
def test_angles_are_blank_where_there_is_no_signal(view, key, nothing):
    seen = view(key, 0)
    sigma = sigma_for(seen.signal, seen.scene.muscle, 50)
    air = seen.scene.fractions[..., 0] == 1
    assert np.mean(stored(seen, sigma)[-1][air] == nothing) == pytest.approx(
        1 - np.exp(-4.5), abs=0.01
    )
