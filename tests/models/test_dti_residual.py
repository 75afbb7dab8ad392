import numpy as np
import pytest

from mrn_prep.models import slabs
from mrn_prep.models.denoised import Denoised
from mrn_prep.models.dti import axial_tensor, fit_dti, tensor_signal
from mrn_prep.models.dti_map import map_dti
from mrn_prep.models.dti_residual import residual_fraction
from mrn_prep.models.mppca import denoise_mppca

RNG = np.random.default_rng(11)
N = 34
B = np.where(np.arange(N) < 4, 0.0, 800.0)
G = RNG.normal(size=(N, 3))
G /= np.linalg.norm(G, axis=1, keepdims=True)
G[B == 0] = 0
SHAPE = (28, 28, 10)
MASK = np.ones(SHAPE, bool)
SIGNAL = tensor_signal(20.0, axial_tensor(2.1e-3, 1.3e-3, [0.2, 0, 1]), B, G)
FA, MD = (2.1 - 1.3) / np.sqrt(2.1**2 + 2 * 1.3**2), 4.7e-3 / 3


@pytest.fixture(scope="module")
def noisy():
    shape = (*SHAPE, N)
    return np.hypot(SIGNAL + RNG.normal(size=shape), RNG.normal(size=shape))


@pytest.fixture(scope="module")
def denoised(noisy):
    found = denoise_mppca(noisy, MASK)
    return found.denoised, Denoised(found.sigma, found.n_components, found.noise_fraction)


def coverage(fit):
    fa = np.abs(fit.fa - FA) <= fit.fa_se
    md = np.abs(fit.md_mm2_s - MD) <= fit.md_se_mm2_s
    return fa.mean(), md.mean()


def shifted_apart(series):
    """Volumes of a uniform block shifted by whole voxels: nothing changes but whose noise it is."""
    offsets = RNG.integers(-4, 5, size=(N, 2))
    shifted = [np.roll(series[..., i], tuple(offsets[i]), axis=(0, 1)) for i in range(N)]
    return np.stack(shifted, axis=-1)


def test_untouched_noise_is_its_own_size(noisy):
    found = residual_fraction(noisy, B, G, MASK, np.ones(SHAPE))
    # the logarithm of weak Rician signals spreads a little less
    assert 0.9 < np.median(found) < 1.05


def test_intervals_hold_the_truth_while_volumes_lie_still(denoised):
    fit, _ = map_dti(denoised[0], B, G, MASK, denoised[1])
    for share in coverage(fit):
        assert 0.6 <= share <= 0.78


def test_noise_that_volumes_no_longer_share_is_in_the_intervals(denoised):
    series, noise = denoised
    series = shifted_apart(series)
    fit, _ = map_dti(series, B, G, MASK, noise)
    # the noise is strongest where there is most signal, but counts as alike in all volumes: FA's
    # are somewhat long, MD's somewhat short
    fa, md = coverage(fit)
    assert 0.68 <= fa <= 0.84
    assert 0.58 <= md <= 0.72
    # without the residuals they are far too short
    signal, left = noise.for_fit(series, MASK)
    blind = fit_dti(signal, B, G, MASK, noise.sigma, noise=left)
    assert max(coverage(blind)) < 0.45


def test_slabs_share_one_view_of_the_residuals(denoised, monkeypatch):
    whole, _ = map_dti(denoised[0], B, G, MASK, denoised[1])
    monkeypatch.setattr(slabs, "_VALUES", denoised[0][:, :, :2].size)
    joined, _ = map_dti(denoised[0], B, G, MASK, denoised[1])
    np.testing.assert_array_equal(joined.fa_se, whole.fa_se)
