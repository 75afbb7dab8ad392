"""Intervals of tensors hold the truth whatever was done to the noise before."""

import numpy as np
import pytest

from mrn_prep.models import slabs
from mrn_prep.models.denoised import Denoised
from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.dti_map import map_dti
from mrn_prep.models.mppca import denoise_mppca
from mrn_prep.models.resample import warp
from mrn_prep.models.sampling import Sampling

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


def coverage(fit, inside=MASK):
    fa = np.abs(fit.fa - FA) <= fit.fa_se
    md = np.abs(fit.md_mm2_s - MD) <= fit.md_se_mm2_s
    return fa[inside].mean(), md[inside].mean()


def read_at(shifts):
    matrices = np.tile(np.eye(4)[:3], (N, 1, 1))
    matrices[:, :, 3] = shifts
    return Sampling(matrices, np.zeros((N, 0)), 0)


def shifted_apart(series):
    """Volumes of a uniform block shifted by whole voxels: nothing changes but whose noise it is."""
    offsets = RNG.integers(-4, 5, size=(N, 3)) * [1, 1, 0]
    shifted = [np.roll(series[..., i], offsets[i], axis=(0, 1, 2)) for i in range(N)]
    return np.stack(shifted, axis=-1), read_at(-offsets)


def test_intervals_hold_the_truth_while_volumes_lie_still(denoised):
    fit, _ = map_dti(denoised[0], B, G, MASK, denoised[1])
    for share in coverage(fit):
        assert 0.6 <= share <= 0.78


def test_noise_that_volumes_no_longer_share_is_in_the_intervals(denoised):
    series, noise = denoised
    series, sampling = shifted_apart(series)
    fit, _ = map_dti(series, B, G, MASK, noise, sampling=sampling)
    for share in coverage(fit):
        assert 0.6 <= share <= 0.78
    blind, _ = map_dti(series, B, G, MASK, noise)
    fa, md = coverage(blind)
    assert fa > 0.76 and md < 0.6


@pytest.mark.parametrize("method", ["wls", "nlls"])
def test_interpolation_averages_noise_that_nothing_has_removed(noisy, method):
    shifts = RNG.uniform(-0.5, 0.5, size=(N, 3))
    sampling, out = read_at(shifts), np.empty_like(noisy)
    for i in range(N):
        values = warp(noisy[..., i], sampling.points(SHAPE), sampling.matrices[i], 3)
        out[..., i] = values.reshape(SHAPE)
    inner = MASK.copy()
    inner[[0, -1]], inner[:, [0, -1]], inner[:, :, [0, -1]] = False, False, False
    sigma = np.ones(SHAPE)
    fit, _ = map_dti(out, B, G, inner, sigma, sampling=sampling, method=method)
    for share in coverage(fit, inner):
        assert 0.62 <= share <= 0.78
    blind, _ = map_dti(out, B, G, inner, sigma, method=method)
    assert min(coverage(blind, inner)) > 0.76


def test_what_no_tensor_explains_widens_the_intervals(noisy):
    uneasy = noisy * (1 + 0.15 * RNG.normal(size=N))
    calm, _ = map_dti(noisy, B, G, MASK, np.ones(SHAPE))
    fit, _ = map_dti(uneasy, B, G, MASK, np.ones(SHAPE))
    assert np.median(fit.fa_se) > 1.3 * np.median(calm.fa_se)


def test_slabs_describe_the_same_noise(denoised, monkeypatch):
    series, sampling = shifted_apart(denoised[0])
    whole, _ = map_dti(series, B, G, MASK, denoised[1], sampling=sampling)
    monkeypatch.setattr(slabs, "_VALUES", series[:, :, :2].size)
    joined, _ = map_dti(series, B, G, MASK, denoised[1], sampling=sampling)
    np.testing.assert_array_equal(joined.fa_se, whole.fa_se)
