"""A train denoised before the fit: truer voxels, and errors that do not promise too much."""

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.interfaces.denoise import DenoiseFrames, DenoiseSeries
from mrn_prep.interfaces.t2 import FitMESE
from mrn_prep.models.epg import cpmg_signal

SHAPE, N_ECHOES, SPACING_S, SIGMA = (40, 40, 10), 12, 0.0095, 20.0


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """T2 with its standard error and the true T2 inside a limb, without and with denoising."""
    folder = tmp_path_factory.mktemp("train")
    rng = np.random.default_rng(0)
    x, y, _ = np.indices(SHAPE) - np.array([20, 20, 0])[:, None, None, None]
    limb = np.hypot(x, y) < 15
    t2_s = 0.034 + 0.004 * np.sin(x / 6) * np.cos(y / 7)
    b1 = 0.95 - 0.1 * (x / 15) ** 2
    train = 1000 * limb[..., None] * cpmg_signal(1.0, 1.4, t2_s, b1, SPACING_S, N_ECHOES)
    noisy = np.hypot(train + rng.normal(0, SIGMA, train.shape), rng.normal(0, SIGMA, train.shape))
    files = [str(folder / f"echo-{i}.nii") for i in range(N_ECHOES)]
    for i, file in enumerate(files):
        nb.Nifti1Image(noisy[..., i].astype(np.float32), np.eye(4)).to_filename(file)
    (folder / "denoise").mkdir()
    clean = DenoiseSeries(in_files=files).run(cwd=str(folder / "denoise")).outputs
    found = {}
    for name, given in (
        ("raw", {"in_files": files}),
        ("clean", {"in_files": clean.out_files, "sigma": clean.sigma, "before": clean.facts}),
    ):
        (folder / name).mkdir()
        node = FitMESE(spacing_s=SPACING_S, model="single", **given)
        out = node.run(cwd=str(folder / name)).outputs
        inside = np.hypot(x, y) < 12
        maps = [nb.load(getattr(out, key)).get_fdata()[inside] for key in ("t2", "t2_se")]
        found[name] = (*maps, t2_s[inside], out.facts)
    return clean, found


def test_noise_is_that_of_the_raw_images(fits):
    clean, _ = fits
    assert clean.sigma == pytest.approx(SIGMA, rel=0.04)


def test_what_was_removed_is_noise_and_no_more(fits):
    assert 0.8 < fits[0].facts["Quality"]["denoising_residual"] < 1


def test_denoised_t2_is_truer_and_not_biased(fits):
    error = {name: found[0] - found[2] for name, found in fits[1].items()}
    spread = {name: np.nanstd(values) for name, values in error.items()}
    assert spread["clean"] < 0.8 * spread["raw"]
    assert abs(np.nanmedian(error["clean"])) < 0.01 * 0.034


def test_errors_are_told_to_be_an_upper_bound_and_are_one(fits):
    t2, se, truth, facts = fits[1]["clean"]
    assert "se-upper-bound" in facts["ValidityFlags"]
    assert facts["EstimationMethod"].startswith("Marchenko-Pastur PCA denoising; ")
    assert (np.abs(t2 - truth) < se).mean() > 0.68


def test_frames_are_denoised_and_their_noise_told(tmp_path):
    rng = np.random.default_rng(1)
    x, y, _, t = np.indices((*SHAPE, 30))
    limb = np.hypot(x - 20, y - 20) < 15
    rise = np.clip((t - 8) / 5, 0, 1) * np.exp(-np.clip(t - 13, 0, None) / 40)
    true = 300.0 * limb * (1 + (0.3 + 0.1 * np.sin(x / 6)) * rise)
    noisy = np.hypot(true + rng.normal(0, 15, true.shape), rng.normal(0, 15, true.shape))
    nb.Nifti1Image(noisy.astype(np.float32), np.eye(4)).to_filename(tmp_path / "frames.nii")
    out = DenoiseFrames(in_file=str(tmp_path / "frames.nii")).run(cwd=str(tmp_path)).outputs
    assert out.sigma == pytest.approx(15, rel=0.04)
    inside = np.hypot(x - 20, y - 20) < 12
    left = (nb.load(out.out_file).get_fdata() - np.sqrt(true**2 + 15**2))[inside]
    assert left.std() < 0.4 * 15 and abs(left.mean()) < 0.02 * 300
    assert out.facts["ValidityFlags"] == ["se-upper-bound"]
