"""B1+ and T1 together: AFI, smoothed, into VFA, whose T1 makes the AFI exact; twice around."""

import numpy as np
import pytest

from mrn_prep.models.b1_afi import afi_signal, fit_afi, smooth_b1
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.t1_vfa import fit_vfa, spgr_signal

SHAPE, VOXEL_MM = (80, 80, 12), (2.0, 2.0, 4.0)
AFI_RAD, TR1_S, TR2_S = np.deg2rad(60.0), 0.02, 0.1
VFA_RAD, TR_S = np.deg2rad([3.0, 10.0, 20.0]), 0.015
T1_S = {"nerve": 1.2, "muscle": 1.4, "fat": 0.37}


def limb():
    """Thigh: fat, muscle, a bone with dark cortex and marrow, three nerves."""
    x, y, z = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * size for n, size in zip(SHAPE, VOXEL_MM, strict=True)],
        indexing="ij",
    )
    t1, m0 = np.full(SHAPE, np.nan), np.zeros(SHAPE)

    def disc(cx, cy, radius, t1_s, density):
        inside = np.hypot(x - cx, (y - cy) / 0.95) < radius
        t1[inside], m0[inside] = t1_s, density
        return inside

    mask = disc(0, 0, 70, T1_S["fat"], 1000.0)
    disc(0, 0, 60, T1_S["muscle"], 800.0)
    cortex = disc(15, 10, 14, T1_S["fat"], 15.0) & ~disc(15, 10, 10, T1_S["fat"], 1000.0)
    for centre in ((-20, 15), (-5, -30), (35, -20)):
        disc(*centre, 6, T1_S["nerve"], 800.0)
    b1 = 0.8 + 0.38 * np.cos(x / 38 + 0.3) * np.cos(y / 50 - 0.3) + 0.05 * np.sin(z / 30 + x / 60)
    assert 0.58 < b1[mask].min() < 0.63 and 1.17 < b1[mask].max() < 1.23
    tissue = {name: (t1 == t1_s) & ~cortex for name, t1_s in T1_S.items()}
    t1 = np.where(mask, t1, 1.0)
    afi = afi_signal(m0, t1, b1 * AFI_RAD, TR1_S, TR2_S)
    vfa = spgr_signal(m0, t1, b1[..., None] * VFA_RAD, TR_S)
    return mask, tissue, b1, afi, vfa


def chain(afi, vfa, mask, sigma_afi, sigma_vfa):
    t1_s = None
    for _ in range(2):
        raw = fit_afi(afi, AFI_RAD, TR1_S, TR2_S, mask, t1_s, sigma_afi)
        b1, b1_se = smooth_b1(raw.b1, raw.b1_se, AFI_RAD, mask, VOXEL_MM)
        fit = fit_vfa(vfa, VFA_RAD, TR_S, mask, b1, b1_se, sigma_vfa)
        t1_s = fit.t1_s
    return b1, b1_se, fit


def test_without_noise_b1_and_t1_are_right_within_a_thousandth():
    mask, tissue, b1_true, afi, vfa = limb()
    b1, _, fit = chain(afi, vfa, mask, 0.0, 0.0)
    for name, where in tissue.items():
        assert np.abs(b1 / b1_true - 1)[where].max() < 1e-3, name
        assert np.abs(fit.t1_s[where] / T1_S[name] - 1).max() < 1e-3, name
        assert abs(np.median(fit.t1_s[where]) / T1_S[name] - 1) < 2e-4, name


@pytest.mark.parametrize("snr", [25, 50])
def test_with_noise_medians_are_right_and_intervals_cover(snr):
    mask, tissue, b1_true, afi, vfa = limb()
    muscle = tissue["muscle"]
    sigma_afi = afi[muscle].mean(axis=0).max() / snr
    sigma_vfa = vfa[muscle].mean(axis=0).max() / snr
    b1, b1_se, t1, t1_se = ([] for _ in range(4))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        b1_map, b1_map_se, fit = chain(
            rician_noise(afi, sigma_afi, rng), rician_noise(vfa, sigma_vfa, rng),
            mask, sigma_afi, sigma_vfa,
        )  # fmt: skip
        for values, new in zip(
            (b1, b1_se, t1, t1_se), (b1_map, b1_map_se, fit.t1_s, fit.t1_se_s), strict=True
        ):
            values.append(new)
    b1, b1_se, t1, t1_se = map(np.array, (b1, b1_se, t1, t1_se))
    for name, where in tissue.items():
        b1_error, t1_error = (b1 - b1_true)[:, where], t1[:, where] - T1_S[name]
        b1_z, t1_z = b1_error / b1_se[:, where], t1_error / t1_se[:, where]
        assert abs(np.median(b1_error / b1_true[where])) < 0.002
        assert abs(np.median(t1_error) / T1_S[name]) < 0.01
        assert 0.64 < np.mean(np.abs(b1_z) < 1) < 0.72
        assert 0.66 < np.mean(np.abs(t1_z) < 1) < 0.72
        assert 0.94 < np.mean(np.abs(t1_z) < 1.96) < 0.96
        # the worst regions too: where B1 is lowest and highest
        for part in (b1_true[where] < 0.8, b1_true[where] > 1.0):
            if part.sum() > 500:
                assert 0.60 < np.mean(np.abs(t1_z[:, part]) < 1) < 0.76
                assert abs(np.median(t1_error[:, part]) / T1_S[name]) < 0.02
