"""Do 68 % of the intervals hold the truth, before and after denoising?"""

import numpy as np
import pytest

from mrn_prep.models.dti import axial_tensor, fit_dti, tensor_signal
from mrn_prep.models.mppca import denoise_mppca, retained_noise

VALUES = ("fa", "md_mm2_s", "ad_mm2_s", "rd_mm2_s", "s0")
ERRORS = ("fa_se", "md_se_mm2_s", "ad_se_mm2_s", "rd_se_mm2_s", "s0_se")
MUSCLE, NERVE, FAT = range(3)
TENSORS = np.stack(
    [
        axial_tensor(1.9e-3, 1.3e-3, [0.3, 0.2, 1.0]),
        axial_tensor(1.8e-3, 0.8e-3, [0.0, 0.1, 1.0]),
        axial_tensor(3e-4, 3e-4, [0.0, 0.0, 1.0]),
    ]
)
S0 = np.array([1.0, 1.2, 0.5])
SHAPE = (40, 40, 20)


def gradients(n_directions=32, n_b0=4):
    z = (np.arange(n_directions) + 0.5) / n_directions
    angle = np.pi * (1 + 5**0.5) * np.arange(n_directions)
    r = np.sqrt(1 - z**2)
    directions = np.stack([r * np.cos(angle), r * np.sin(angle), z], axis=-1)
    b = np.r_[np.zeros(n_b0), np.full(n_directions, 800.0)]
    return b, np.vstack([np.zeros((n_b0, 3)), directions])


def tissues(kind):
    x, y = np.indices(SHAPE)[:2]
    labels = np.full(SHAPE, MUSCLE)
    if kind == "three tissues":
        labels[x < 10] = FAT
        labels[np.hypot(x - 25, y - 20) < 4.5] = NERVE
        labels[np.hypot(x - 18, y - 32) < 2.5] = NERVE
    return labels


def scan(kind, snr, seed):
    """Labels, true fit, noisy series (sigma 1) and gradients."""
    rng = np.random.default_rng(seed)
    b, g = gradients()
    labels = tissues(kind)
    signal = tensor_signal(snr * S0[labels], TENSORS[labels], b, g)
    series = np.hypot(signal + rng.normal(size=signal.shape), rng.normal(size=signal.shape))
    return labels, fit_dti(signal, b, g), series, b, g


def coverage(fit, truth, where):
    fitted = where & (fit.status == 0)
    assert fitted.sum() > 0.99 * where.sum()
    return {
        value: np.mean(
            np.abs(getattr(fit, value) - getattr(truth, value))[fitted]
            <= getattr(fit, error)[fitted]
        )
        for value, error in zip(VALUES, ERRORS, strict=True)
    }


def check(fit, truth, labels):
    for tissue in np.unique(labels):
        for value, share in coverage(fit, truth, labels == tissue).items():
            assert 0.60 <= share <= 0.76, (int(tissue), value, float(share))


@pytest.mark.parametrize("snr", [50, 25])
@pytest.mark.parametrize("kind", ["homogeneous", "three tissues"])
def test_errors_of_a_raw_series_hold_the_truth_in_68_percent(kind, snr):
    labels, truth, series, b, g = scan(kind, snr, seed=11)
    check(fit_dti(series, b, g, sigma=1.0), truth, labels)


@pytest.mark.parametrize("snr", [50, 25])
@pytest.mark.parametrize("kind", ["homogeneous", "three tissues"])
def test_errors_of_a_denoised_series_hold_the_truth_in_68_percent(kind, snr):
    labels, truth, series, b, g = scan(kind, snr, seed=11)
    clean = denoise_mppca(series)
    left = retained_noise(clean.denoised, clean.n_components, clean.noise_fraction)
    # once the noise is averaged out, the magnitude bias of sigma²/2S outweighs what remains of it
    unbiased = np.sqrt(np.maximum(clean.denoised**2 - clean.sigma[..., None] ** 2, 1e-6))
    check(fit_dti(unbiased, b, g, sigma=clean.sigma, noise=left), truth, labels)


@pytest.mark.parametrize("fa", [0.0, 0.06, 0.12, 0.2, 0.35, 0.6])
def test_errors_hold_the_truth_from_isotropic_to_strongly_anisotropic(fa):
    # AD - RD = FA·3·MD / sqrt(3 - 2 FA²) of an axial tensor
    gap = 3 * fa / np.sqrt(3 - 2 * fa**2) * 1.4e-3
    b, g = gradients()
    tensor = axial_tensor(1.4e-3 + 2 * gap / 3, 1.4e-3 - gap / 3, [0.2, 0.5, 1.0])
    signal = np.tile(tensor_signal(25.0, tensor, b, g), (20000, 1))
    rng = np.random.default_rng(2)
    series = np.hypot(signal + rng.normal(size=signal.shape), rng.normal(size=signal.shape))
    truth = fit_dti(signal, b, g)
    np.testing.assert_allclose(truth.fa, fa, atol=1e-7)
    share = coverage(fit_dti(series, b, g, sigma=1.0), truth, np.ones(20000, bool))
    # where the eigenvalues are as far apart as the noise, the interval is a little wide
    assert min(share.values()) > 0.60 and max(share.values()) < 0.80, share
