"""Quality of a diffusion series, as numbers against what was put in."""

import numpy as np
import pytest

from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.dwi_quality import counts, shells_of, temporal_snr, tensor_quality
from mrn_prep.models.motion import rotation_matrix
from mrn_prep.models.run_scale import relative_scale
from mrn_prep.phantom.gradients import table

B, G = table(30, 800.0)
SHAPE = (15, 15, 6)
MASK = np.ones(SHAPE, bool)


def series(sigma, seed=0):
    signal = tensor_signal(100.0, axial_tensor(2e-3, 1e-3, [0, 0.6, 0.8]), B, G)
    return signal + sigma * np.random.default_rng(seed).normal(size=(*SHAPE, B.size))


@pytest.mark.parametrize("n", [3, 4, 8])
def test_temporal_snr_is_that_of_the_noise_however_few_volumes(n):
    noise = np.random.default_rng(n).normal(size=(*SHAPE, n))
    assert temporal_snr(100 + 4 * noise, MASK) == pytest.approx(25, rel=0.04)


def test_temporal_snr_of_two_volumes_is_not_known():
    assert np.isnan(temporal_snr(np.ones((*SHAPE, 2)), MASK))
    assert np.isnan(temporal_snr(np.ones((*SHAPE, 5)), ~MASK))


def test_contrast_is_the_spread_over_directions_over_the_noise():
    true = tensor_signal(100.0, axial_tensor(2e-3, 1e-3, [0, 0.6, 0.8]), B, G)
    wanted = true[B > 5].std() / 2.0
    assert tensor_quality(series(2.0), B, G, MASK, 2.0)["cnr_b800"] == pytest.approx(
        wanted, rel=0.03
    )


def test_residual_is_the_noise_in_per_cent():
    freedom = np.sqrt((B.size - 7) / B.size)
    found = tensor_quality(series(2.0), B, G, MASK, 2.0)["residual"]
    assert found == pytest.approx(2.0 * freedom, rel=0.03)


def test_noise_that_is_not_known_gives_no_contrast():
    found = tensor_quality(series(2.0), B, G, MASK, np.nan)
    assert np.isnan(found["cnr_b800"]) and np.isfinite(found["residual"])
    empty = tensor_quality(series(2.0), B, G, ~MASK, 2.0)
    assert np.isnan([empty["residual"], empty["cnr_b800"]]).all()


def test_shells_keep_their_scatter_together():
    b = np.array([0.0, 5, 50, 395, 400, 405, 790, 800, 810, 1000])
    assert {k: int(v.sum()) for k, v in shells_of(b).items()} == {50: 1, 400: 3, 800: 3, 1000: 1}


def test_scale_of_a_run_is_told_though_the_limb_moved():
    rng = np.random.default_rng(0)
    limb = np.zeros((60, 60, 4), bool)
    limb[10:50, 10:50] = True
    reference = 100.0 * limb + rng.normal(size=limb.shape)
    moved = np.roll(1.3 * 100 * limb, 2, axis=0) + rng.normal(size=limb.shape)
    assert relative_scale(moved, reference, limb) == pytest.approx(1.3, rel=2e-3)
    assert np.isnan(relative_scale(moved, reference, np.zeros_like(limb)))
    with pytest.raises(ValueError, match="must agree"):
        relative_scale(moved[1:], reference, limb)


def test_repeats_are_no_further_directions():
    """Two averages of seven directions, the second after the limb turned by a degree."""
    once = np.random.default_rng(3).normal(size=(7, 3))
    once /= np.linalg.norm(once, axis=1, keepdims=True)
    again = -once @ rotation_matrix(np.deg2rad([0.6, 0.6, 0.5])).T
    b = np.r_[0.0, np.full(14, 800.0)]
    used = measured = np.ones(15, np.bool_)
    found = counts(b, np.vstack([np.zeros(3), once, again]), measured, used)
    assert found == {"n_volumes": 15, "n_empty_volumes": 0, "n_b0": 1, "n_directions": 7}
