"""Diffusion at low SNR with its phase and without, end to end against its truth."""

import json

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.cli.main import main
from mrn_prep.io.names import parse
from mrn_prep.phantom import cli

RUNS = {
    "phase": [],
    "left": ["--no-dwi-phase", "--no-dwi-rician"],
    "raw": ["--dwi-denoise", "none"],
}  # fmt: skip
STEM = "sub-A01/dwi/sub-A01"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("complex")
    who = ["--sites", "1", "--participants-per-site", "1", "--small", "--modalities", "dwi"]
    assert cli.main([str(folder / "bids"), *who, "--snr", "8", "--dwi-phase"]) == 0
    for name, flags in RUNS.items():
        call = [str(folder / "bids"), str(folder / name), "participant", "--nprocs", "2", *flags]
        assert main(call) == 0
    return folder


def values(made, run, stem):
    return nb.load(made / run / f"{STEM}_{stem}_dwimap.nii.gz").get_fdata()


def bias_in_muscle(made, run, param):
    truth = "bids/derivatives/truth"
    pure = made / truth / f"{STEM}_desc-pure_dseg.nii.gz"
    table = pd.read_csv(str(pure).replace(".nii.gz", ".tsv"), sep="\t")
    muscle = np.isin(
        nb.load(pure).get_fdata(), table.loc[table["tissue"] == "muscle", "index"].to_numpy()
    )
    found = values(made, run, f"model-{'adc' if param == 'adc' else 'dti'}_param-{param}")[muscle]
    true = values(made, truth, "model-dti_param-md")[muscle]
    assert np.isfinite(found).mean() > 0.99
    return np.nanmedian(found) / np.median(true) - 1


def sidecar(made, run):
    return json.loads((made / run / f"{STEM}_model-dti_param-md_dwimap.json").read_text())


@pytest.mark.parametrize("param", ["md", "adc"])
def test_phase_takes_the_floor_away(made, param):
    assert abs(bias_in_muscle(made, "phase", param)) < 0.015
    assert bias_in_muscle(made, "left", param) < -0.06
    # logarithms of single values, of which a hundredth is not even positive
    assert abs(bias_in_muscle(made, "raw", param)) < 0.035


def test_noise_is_that_of_one_channel(made):
    sigma = values(made, "phase", "model-mppca_param-sigma")
    true = values(made, "bids/derivatives/truth", "model-mppca_param-sigma")
    assert np.nanmedian(sigma / true) == pytest.approx(1, abs=0.03)


def test_what_was_done_is_told(made):
    told, without = sidecar(made, "phase"), sidecar(made, "left")
    assert told["EstimationMethod"].startswith("real part of complex images; Marchenko-Pastur")
    assert "doi:10.1016/j.neuroimage.2015.07.074" in told["EstimationReference"]
    sources = [[parse(s)["part"] for s in one["Sources"]] for one in (told, without)]
    assert sources == [["mag", "phase"], ["mag"]]
    assert "real part" not in without["EstimationMethod"]
    assert "noise-floor" not in told["ValidityFlags"]
    assert "noise-floor" in without["ValidityFlags"]
    assert "noise-floor" not in sidecar(made, "raw")["ValidityFlags"]
