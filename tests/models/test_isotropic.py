"""Signals freed of their dependence on direction."""

import numpy as np
import pytest

from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.isotropic import without_anisotropy
from mrn_prep.models.ivim import fit_ivim
from mrn_prep.phantom.gradients import directions

LOW, HIGH = (10, 20, 40, 80, 120, 180), (400, 800)
B = np.r_[0.0, 0.0, np.repeat([*LOW, *HIGH], 6).astype(float)]
G = np.vstack([np.zeros((2, 3)), *[directions(6)] * (len(LOW) + len(HIGH))])
NERVE = axial_tensor(1.9e-3, 0.8e-3, [0.3, 0.2, 0.93])
F, DSTAR = 0.08, 0.015


def tissue(shape=()):
    one = (1 - F) * tensor_signal(300.0, NERVE, B, G) + 300 * F * np.exp(-B * DSTAR)
    return np.broadcast_to(one, (*shape, B.size)).copy()


def ivim(signal, mask):
    return fit_ivim(without_anisotropy(signal, B, G, mask), B, mask, method="segmented")


@pytest.mark.parametrize("order", ["C", "F"])
def test_perfusion_of_anisotropic_tissue_is_that_of_isotropic(order):
    mask = np.ones((2, 3, 4), bool)
    signal = np.array(tissue(mask.shape), order=order)
    plain = fit_ivim(signal, B, mask, method="segmented")
    assert plain.f.mean() > F + 0.01
    freed = ivim(signal, mask)
    assert freed.f == pytest.approx(F, abs=0.002)
    assert freed.d_mm2_s == pytest.approx(3.5e-3 / 3, rel=0.005)
    assert signal == pytest.approx(tissue(mask.shape))


def test_directions_that_were_not_measured_do_not_matter():
    """At the edge of the field of view half of one shell is missing."""
    mask = np.ones(1, bool)
    signal = tissue((1,))
    signal[0, np.flatnonzero(B == 400)[[0, 2, 5]]] = 0.0
    assert abs(fit_ivim(signal, B, mask, method="segmented").f[0] - F) > 0.04
    assert ivim(signal, mask).f[0] == pytest.approx(F, abs=0.003)


def test_what_tells_no_tensor_stays_as_it_is():
    mask = np.array([True, True, False])
    signal = tissue((3,))
    signal[1, B > 200] = 0.0
    freed = without_anisotropy(signal, B, G, mask)
    np.testing.assert_array_equal(freed[1:], signal[1:].astype(np.float32))
    assert np.abs(freed[0] / signal[0] - 1).max() > 0.1
    few = np.flatnonzero(B < 500)  # one strong shell: S0 and trace cannot be told apart
    same = without_anisotropy(signal[:, few], B[few], G[few], mask)
    np.testing.assert_array_equal(same, signal[:, few].astype(np.float32))


def test_noise_changes_a_voxel_by_no_more_than_its_own_tensor():
    noise = np.abs(np.random.default_rng(0).normal(size=(500, B.size)))
    freed = without_anisotropy(noise, B, G, np.ones(500, bool))
    assert np.isfinite(freed).all()
