"""Fits to a diffusion series, as the graph calls them."""

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.interfaces.dwi import Denoise, LimbMask
from mrn_prep.interfaces.dwi_fits import FitADC, FitDTI
from mrn_prep.models.noise import rician_noise

STEM = "sub-A01/dwi/sub-A01_dwi"


@pytest.fixture
def given(phantom, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = {"bval_file": str(phantom / f"{STEM}.bval"), "bvec_file": str(phantom / f"{STEM}.bvec")}
    series = str(phantom / f"{STEM}.nii.gz")
    mask = LimbMask(in_file=series, **table).run().outputs.mask
    return {"in_file": series, "raw_file": series, "mask": mask, **table}


def test_true_gradient_table_is_not_doubted(given):
    assert "gradients-doubtful" not in FitDTI(**given).run().outputs.facts["ValidityFlags"]


def test_table_with_exchanged_axes_is_doubted(given, tmp_path):
    rows = np.loadtxt(given["bvec_file"])
    np.savetxt(tmp_path / "wrong.bvec", rows[[2, 1, 0]], fmt="%.6f")
    wrong = given | {"bvec_file": str(tmp_path / "wrong.bvec")}
    assert "gradients-doubtful" in FitDTI(**wrong).run().outputs.facts["ValidityFlags"]


def test_what_denoising_removed_is_noise_and_no_anatomy(given, phantom):
    names = ("in_file", "mask")
    out = Denoise(**{name: given[name] for name in names}).run().outputs
    inside = nb.load(given["mask"]).get_fdata() > 0
    residual = nb.load(out.residual).get_fdata()
    assert np.isnan(residual[~inside]).all()
    assert 0.8 < np.median(residual[inside]) < 1
    assert out.facts["Quality"]["denoising_residual"] == pytest.approx(np.median(residual[inside]))
    raw, clean = (nb.load(file).get_fdata() for file in (given["in_file"], out.out_file))
    sigma = nb.load(out.sigma).get_fdata()
    by_hand = np.sqrt(((raw - clean) ** 2).mean(axis=-1)) / sigma
    np.testing.assert_allclose(residual[inside], by_hand[inside], rtol=1e-5)


@pytest.mark.parametrize("method", ["nlls", "restore"])
def test_fits_of_the_signal_agree_with_the_linear_one_where_there_is_no_outlier(given, method):
    fa = [nb.load(FitDTI(method=m, **given).run().outputs.fa).get_fdata() for m in ("wls", method)]
    both = np.isfinite(fa[0]) & np.isfinite(fa[1])
    assert np.median(np.abs(fa[0] - fa[1])[both]) < 0.01
    assert (
        FitDTI(method=method, **given)
        .run()
        .outputs.facts["EstimationMethod"]
        .startswith("DTI, nonlinear")
    )


def test_adc_is_the_mean_diffusivity_where_directions_are_even(given):
    md = nb.load(FitDTI(**given).run().outputs.md).get_fdata()
    adc = nb.load(FitADC(**given).run().outputs.adc).get_fdata()
    both = np.isfinite(md) & np.isfinite(adc)
    assert np.median((adc / md)[both]) == pytest.approx(1.0, abs=0.02)


@pytest.fixture
def weak(given, phantom, tmp_path):
    """The series in noise: an SNR of 5 in muscle without weighting; and what it was."""
    image = nb.load(given["in_file"])
    data = np.asarray(image.dataobj, np.float64)
    mask = np.asarray(nb.load(given["mask"]).dataobj) > 0
    sigma = np.median(data[mask][:, 0]) / 5
    noisy = rician_noise(data, sigma, np.random.default_rng(0)).astype(np.float32)
    path = tmp_path / "weak.nii"
    nb.Nifti1Image(noisy, image.affine).to_filename(path)
    pure = phantom / "derivatives/truth/sub-A01/dwi/sub-A01_desc-pure_dseg.nii.gz"
    table = pd.read_csv(str(pure).replace(".nii.gz", ".tsv"), sep="\t")
    muscles = table.loc[table["tissue"] == "muscle", "index"]
    chosen = np.isin(np.asarray(nb.load(pure).dataobj), muscles)
    return given | {"in_file": str(path), "raw_file": str(path)}, chosen


@pytest.mark.parametrize(("fit", "name"), [(FitDTI, "md"), (FitADC, "adc")])
def test_noise_floor_of_a_raw_series_is_taken_out_and_left_in_on_request(given, weak, fit, name):
    series, chosen = weak

    def median(inputs, **how):
        out = fit(**inputs, **how).run().outputs
        return np.nanmedian(nb.load(getattr(out, name)).get_fdata()[chosen]), out.facts

    truth, _ = median(given)
    without, facts = median(series)
    with_floor, told = median(series, floor="left")
    assert abs(without / truth - 1) < 0.02
    assert with_floor / truth - 1 < -0.05
    assert "noise-floor" in told["ValidityFlags"]
    assert "noise-floor" not in facts["ValidityFlags"]


@pytest.fixture
def real(given, weak, tmp_path):
    """The same in Gaussian noise, as the real part of complex images has it; SNR 12."""
    image = nb.load(given["in_file"])
    data = np.asarray(image.dataobj, np.float64)
    mask = np.asarray(nb.load(given["mask"]).dataobj) > 0
    sigma = np.median(data[mask][:, 0]) / 12
    data[~mask] = 0.0  # its own noise is that of magnitudes
    noisy = data + np.random.default_rng(0).normal(0, sigma, data.shape)
    path = tmp_path / "real.nii"
    nb.Nifti1Image(noisy.astype(np.float32), image.affine).to_filename(path)
    return given | {"in_file": str(path), "raw_file": str(path)}, weak[1], sigma


@pytest.mark.parametrize(("fit", "name"), [(FitDTI, "md"), (FitADC, "adc")])
def test_signed_series_has_no_floor_and_its_noise_is_that_of_the_air(given, real, fit, name):
    series, chosen, sigma = real

    def median(inputs, **how):
        out = fit(**inputs, **how).run().outputs
        return np.nanmedian(nb.load(getattr(out, name)).get_fdata()[chosen]), out.facts

    truth, _ = median(given)
    found, facts = median(series, floor="none")
    assert abs(found / truth - 1) < 0.02
    assert not {"noise-floor", "no-se"} & set(facts["ValidityFlags"])
    assert facts["Quality"]["noise_sigma"] == pytest.approx(sigma, rel=0.02)


def test_signed_series_of_unknown_noise_has_no_floor_either(given, real, tmp_path):
    series, _, _ = real
    image, mask = nb.load(series["in_file"]), nb.load(series["mask"]).get_fdata() > 0
    path = tmp_path / "blanked.nii"
    nb.Nifti1Image(image.get_fdata() * mask[..., None], image.affine).to_filename(path)
    blanked = series | {"in_file": str(path), "raw_file": str(path)}
    flags = [FitDTI(**blanked, floor=floor).run().outputs.facts["ValidityFlags"]
             for floor in ("none", "removed")]  # fmt: skip
    assert ["noise-floor" in told for told in flags] == [False, True]
