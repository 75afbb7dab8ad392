"""Angles that selective pulses leave across the slice."""

import numpy as np
import pytest

from mrn_prep.models.epg import SliceProfile, cpmg_signal
from mrn_prep.models.slice_profile import _angles, sinc_profile
from mrn_prep.models.t2_mese import fit_mese


def test_small_angles_are_the_fourier_transform_of_the_pulse():
    place = np.linspace(0, 1, 21)
    t = (np.arange(256) + 0.5) / 256 - 0.5
    shape = np.sinc(4 * t) * np.cos(np.pi * t) ** 2
    expected = np.abs(np.exp(2j * np.pi * 4 * np.outer(place, t)) @ shape) / shape.sum()
    found = _angles(place, 1e-3, 4.0) / 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_half_of_the_excitation_angle_lies_near_the_nominal_edge():
    found = _angles(np.array([0.0, 0.5]), 1e-3, 4.0)
    assert found[1] / found[0] == pytest.approx(0.5, abs=0.02)


def test_wider_refocusing_is_flatter_where_there_is_signal():
    narrow, usual, wide = (sinc_profile(refocusing_width=w).refocusing for w in (1.0, 1.25, 3.0))
    strong = sinc_profile().excitation > 0.5
    assert narrow[strong].min() < usual[strong].min() < 0.7 < wide[strong].min()


def test_t2_of_a_train_with_profile_is_found_with_it_and_missed_without():
    profile = sinc_profile()
    signal = cpmg_signal(900.0, 1.4, 0.035, 1.0, 0.0095, 17, profile=profile)
    with_profile = fit_mese(signal, 0.0095, profile=profile)
    without = fit_mese(signal, 0.0095)
    assert float(with_profile.t2_s) == pytest.approx(0.035, rel=2e-3)
    assert abs(float(without.t2_s) / 0.035 - 1) > 0.02


def test_profile_is_nominal_near_its_centre():
    profile = sinc_profile(np.deg2rad(90), np.deg2rad(150))
    assert isinstance(profile, SliceProfile)
    # the first point lies a twentieth of the slice away from it
    assert [profile.excitation[0], profile.refocusing[0]] == pytest.approx([0.995, 0.991], abs=1e-3)


@pytest.mark.parametrize(
    "wrong",
    [{"excitation_rad": 90.0}, {"refocusing_rad": 0.0}, {"time_bandwidth": 0.0},
     {"refocusing_width": -1.0}],
)  # fmt: skip
def test_impossible_pulses_are_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        sinc_profile(**wrong)
