import numpy as np
import pytest

from mrn_prep.models.spoiling import (
    B1_RANGE,
    correct_t1,
    spoiled_signal,
    spoiling_coefficients,
)
from mrn_prep.models.t1_vfa import fit_vfa, spgr_signal


def isochromats(t1_s, t2_s, flip, tr_s, increment, n_pulses=900, n=400):
    """Rotate, relax and dephase spins one by one; no diffusion."""
    dephase = np.exp(2j * np.pi * np.arange(n) / n)
    e1, e2 = np.exp(-tr_s / t1_s), np.exp(-tr_s / t2_s)
    mxy, mz = np.zeros(n, complex), np.full(n, float(spgr_signal(1, t1_s, [flip], tr_s)[0]))
    mz /= np.sin(flip)
    for pulse in range(n_pulses):
        frame = np.exp(0.5j * increment * pulse * (pulse + 1))
        turned = mxy * np.conj(frame)
        y = turned.imag * np.cos(flip) - mz * np.sin(flip)
        mz = turned.imag * np.sin(flip) + mz * np.cos(flip)
        mxy = (turned.real + 1j * y) * frame
        read = abs(mxy.mean())
        mxy *= e2 * dephase
        mz = 1 + (mz - 1) * e1
    return read


@pytest.mark.parametrize(
    ("t2_s", "flip_deg", "tr_s", "increment_deg"),
    [(0.05, 15, 0.005, 50), (0.05, 15, 0.005, 117), (0.03, 20, 0.015, 50), (0.06, 26, 0.02, 0.5)],
)
def test_signal_is_that_of_spins_followed_one_by_one(t2_s, flip_deg, tr_s, increment_deg):
    flip, increment = np.deg2rad(flip_deg), np.deg2rad(increment_deg)
    followed = isochromats(1.2, t2_s, flip, tr_s, increment)
    signal = spoiled_signal(1.2, flip, tr_s, increment, None, 1.5e-3, t2_s)
    np.testing.assert_allclose(signal, followed, rtol=1e-5)
    assert abs(signal / spgr_signal(1.0, 1.2, [flip], tr_s)[0] - 1) > 0.005


def test_without_rf_spoiling_the_signal_is_the_gradient_spoiled_steady_state():
    # Hanicke & Vogel, Magn Reson Med 2003;49:771-775: SSFP-FID
    t1_s, t2_s, tr_s, flip = 1.0, 0.05, 0.01, 0.5
    e1, e2, c = np.exp(-tr_s / t1_s), np.exp(-tr_s / t2_s), np.cos(flip)
    p = 1 - e1 * c - e2**2 * (e1 - c)
    q = e2 * (1 - e1) * (1 + c)
    expected = np.tan(flip / 2) * (1 - (e1 - c) * (1 - e2**2) / np.sqrt(p**2 - q**2))
    signal = spoiled_signal(t1_s, flip, tr_s, 0.0, None, 1e-3, t2_s)
    np.testing.assert_allclose(signal, expected, rtol=1e-6)


def test_diffusion_brings_the_signal_to_ideal_spoiling():
    flip, ideal = np.deg2rad(15), spgr_signal(1.0, 1.2, np.deg2rad([15]), 0.005)[0]
    errors = [
        abs(spoiled_signal(1.2, flip, 0.005, np.deg2rad(50), moment) / ideal - 1)
        for moment in (None, 25.0, 100.0, 400.0, 1600.0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.03 and errors[-1] < 0.002


def test_weak_diffusion_damps_as_the_equation_says():
    # first echo path: an order-0 transverse state leaves by b D = dk^2 TR D / 3
    flip, tr_s, moment, d = 0.2, 0.02, 40.0, 1e-3
    dk = 267.5221874 * moment * 1e-3  # rad / mm
    with_d = spoiled_signal(1.2, flip, tr_s, 2.0, moment, d, 0.05)
    none = spoiled_signal(1.2, flip, tr_s, 2.0, None, d, 0.05)
    assert 0 < abs(with_d - none) / none < dk**2 * tr_s * d


@pytest.mark.parametrize(
    ("flips_deg", "tr_s", "increment_deg", "moment"),
    [
        ((4, 20), 0.015, 50, 25.0),
        ((3, 10, 20), 0.015, 117, None),
        ((3, 15), 0.005, 50, 25.0),
        ((3, 15), 0.005, 117, 10.0),
        ((6, 21), 0.025, 150, 40.0),
    ],
)
def test_corrected_t1_is_the_true_one_within_one_percent(flips_deg, tr_s, increment_deg, moment):
    flips, increment = np.deg2rad(flips_deg), np.deg2rad(increment_deg)
    found = spoiling_coefficients(flips, tr_s, increment, moment)
    b1, t1 = np.meshgrid([0.55, 0.77, 1.0, 1.23], [0.8, 1.05, 1.3, 1.55, 1.8])
    signal = np.vectorize(
        lambda t1_s, b, flip: spoiled_signal(t1_s, b * flip, tr_s, increment, moment)
    )(t1[..., None], b1[..., None], flips)
    apparent = fit_vfa(signal, flips, tr_s, b1=b1).t1_s
    corrected = correct_t1(apparent, b1, found)
    np.testing.assert_allclose(corrected, t1, rtol=0.01)
    left, before = np.abs(corrected / t1 - 1).max(), np.abs(apparent / t1 - 1).max()
    assert left < 0.5 * before
    assert left < 1.1 * found.max_error + 1e-4
    assert 0.5 * found.max_error_before < before < 1.01 * found.max_error_before


def test_correction_of_ideal_spoiling_is_none():
    found = spoiling_coefficients(np.deg2rad([4.0, 20.0]), 0.015, np.deg2rad(50), 3e4)
    assert found.max_error_before < 1e-3
    np.testing.assert_allclose(correct_t1([0.8, 1.2, 1.8], 0.9, found), [0.8, 1.2, 1.8], rtol=1e-3)


def test_nothing_is_corrected_outside_the_simulated_b1():
    found = spoiling_coefficients(np.deg2rad([4.0, 20.0]), 0.015, np.deg2rad(50))
    b1 = np.array([B1_RANGE[0] - 0.01, 1.0, B1_RANGE[1] + 0.01, np.nan])
    t1 = np.array([1.0, 1.0, 1.0, 1.0])
    assert np.isfinite(correct_t1(t1, b1, found)).tolist() == [False, True, False, False]
    assert np.isnan(correct_t1(np.nan, 1.0, found))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phase_increment_rad": 50.0}, "degrees"),
        ({"gradient_moment_mt_ms_m": -1.0}, "gradient moment"),
        ({"diffusivity_mm2_s": 0.0}, "Diffusivity"),
        ({"t2_s": -0.05}, "T2"),
        ({"flips_rad": [0.2, 0.2]}, "two or more"),
        ({"tr_s": 0.0}, "repetition time"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    given = {"flips_rad": [0.05, 0.3], "tr_s": 0.015, "phase_increment_rad": 0.87}
    with pytest.raises(ValueError, match=message):
        spoiling_coefficients(**given | changes)
