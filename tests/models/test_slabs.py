from dataclasses import fields

import numpy as np
import pytest

from mrn_prep.models import slabs
from mrn_prep.models.denoised import Denoised
from mrn_prep.models.dti import axial_tensor, fit_dti, tensor_signal
from mrn_prep.models.mppca import denoise_mppca, retained_noise
from mrn_prep.models.slabs import fit_in_slabs

RNG = np.random.default_rng(3)
G = RNG.normal(size=(20, 3))
G /= np.linalg.norm(G, axis=1, keepdims=True)
B = np.where(np.arange(20) % 5 == 0, 0.0, 800.0)


@pytest.fixture(scope="module")
def series():
    angle = np.indices((9, 10, 23))[2] / 9
    fibre = np.stack([np.sin(angle), np.zeros_like(angle), np.cos(angle)], -1)
    clean = tensor_signal(20.0, axial_tensor(2e-3, 1e-3, fibre), B, G)
    return np.hypot(clean + RNG.normal(size=clean.shape), RNG.normal(size=clean.shape))


def fit(signal, *, rician=True, **given):
    return fit_dti(signal, B, G, **given)


def test_slabs_of_a_denoised_series_give_the_maps_of_the_whole(series, monkeypatch):
    mask = np.ones(series.shape[:3], bool)
    mask[:2, :, 5:9] = False
    clean = denoise_mppca(series, mask)
    noise = Denoised(clean.sigma, clean.n_components, clean.noise_fraction)
    signal = noise.amplitudes(clean.denoised, mask)
    left = retained_noise(signal, noise.n_components, noise.noise_fraction, mask)
    whole = fit_dti(signal, B, G, mask, noise.sigma, noise=left)
    monkeypatch.setattr(slabs, "_VALUES", series[:, :, :4].size)
    joined = fit_in_slabs(fit, clean.denoised, mask, noise)
    assert np.isfinite(joined.fa_se[mask]).mean() > 0.99
    for field in fields(whole):
        np.testing.assert_array_equal(getattr(joined, field.name), getattr(whole, field.name))


def test_what_was_not_measured_is_left_out_of_a_voxel(series):
    hurt = series.copy()
    hurt[4, 4, 4, 7] = np.nan
    mask = np.ones(series.shape[:3], bool)
    sigma = np.ones(series.shape[:3])
    found = fit_in_slabs(fit, hurt, mask, sigma)
    kept = np.arange(20) != 7
    alone = fit_dti(series[4, 4, 4, kept], B[kept], G[kept], sigma=1.0)
    np.testing.assert_allclose(found.fa[4, 4, 4], alone.fa, rtol=1e-9)
    np.testing.assert_allclose(found.fa_se[4, 4, 4], alone.fa_se, rtol=1e-9)
