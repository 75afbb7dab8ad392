"""Diffusion of a limb that moves in a field that distorts it, end to end against its truth."""

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.cli.main import main
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.options import PhantomOptions

PARAM = "sub-A01/dwi/sub-A01_model-dti_param-{}_dwimap.nii.gz"


@pytest.fixture(scope="module")
def corrected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distorted")
    options = PhantomOptions(
        small=True, sites=1, participants_per_site=1, modalities=("dwi",), snr=30.0,
        motion_mm=1.0, motion_deg=1.0, eddy_mm=1.0, distort=True,
    )  # fmt: skip
    simulate_dataset(folder / "bids", options, tell=lambda _: None)
    for name, flags in (("on", []), ("off", ["--no-dwi-distortion"])):
        call = [str(folder / "bids"), str(folder / name), "participant", "--nprocs", "2", *flags]
        assert main(call) == 0
    return folder


def median(folder, run, param, region):
    truth = folder / "bids/derivatives/truth"
    pure = truth / "sub-A01/dwi/sub-A01_desc-pure_dseg.nii.gz"
    index = pd.read_csv(str(pure).replace(".nii.gz", ".tsv"), sep="\t").set_index("name")["index"]
    chosen = np.asarray(nb.load(pure).dataobj) == index[region]
    values = np.asarray(nb.load(folder / run / PARAM.format(param)).dataobj)[chosen]
    true = np.asarray(nb.load(truth / PARAM.format(param)).dataobj)[chosen]
    return np.nanmedian(values), np.nanmedian(true), np.isfinite(values).mean()


@pytest.mark.parametrize("region", ["sciatic", "hamstrings", "vastus"])
def test_fa_and_md_are_those_of_a_limb_at_rest_in_a_true_field(corrected, region):
    fa, true_fa, fitted = median(corrected, "on", "fa", region)
    md, true_md, _ = median(corrected, "on", "md", region)
    assert fitted > 0.95
    assert abs(fa - true_fa) <= 0.03
    assert abs(md / true_md - 1) <= 0.04


def test_without_the_correction_the_limb_lies_elsewhere(corrected):
    limb = [np.isfinite(nb.load(corrected / run / PARAM.format("fa")).get_fdata())
            for run in ("on", "off")]  # fmt: skip
    assert (limb[0] != limb[1]).sum() > 0.02 * limb[0].sum()


def test_field_is_written_in_hertz(corrected):
    path = "sub-A01/fmap/sub-A01_desc-blips_fieldmap.nii.gz"
    found = nb.load(corrected / "on" / path).get_fdata()
    true = nb.load(
        corrected / "bids/derivatives/truth/sub-A01/fmap/sub-A01_desc-truth_fieldmap.nii.gz"
    ).get_fdata()
    inside = np.isfinite(true) & np.isfinite(nb.load(corrected / "on" / PARAM.format("fa")).dataobj)
    error_hz = (found - true)[inside]
    # 0.3 voxel of displacement at this readout time, but for a shift of the whole limb
    assert np.sqrt(np.mean((error_hz - np.median(error_hz)) ** 2)) <= 0.3 / 0.045
