"""The public series of both lower legs, through the app (only where the reference data is)."""

import json
import os
import shutil
from pathlib import Path

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.cli.main import main

ROOT = os.environ.get("MRN_PREP_REFERENCE")
LEGS = Path(ROOT or ".") / "legs"
MUSCLES = range(13, 27)
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not ROOT, reason="MRN_PREP_REFERENCE is not set"),
]


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """FA, MD, IVIM's f and D, and the muscles."""
    folder = tmp_path_factory.mktemp("legs")
    stem = folder / "bids/sub-legs/dwi/sub-legs_dwi"
    stem.parent.mkdir(parents=True)
    shutil.copy(LEGS / "dwi.nii.gz", f"{stem}.nii.gz")
    sidecar = {"Manufacturer": "Philips", "MagneticFieldStrength": 3, "EchoTime": 0.05}
    Path(f"{stem}.json").write_text(json.dumps(sidecar))
    for name in ("bval", "bvec"):
        table = np.atleast_2d(np.loadtxt(LEGS / f"dwi.{name}"))
        np.savetxt(f"{stem}.{name}", table if len(table) in (1, 3) else table.T, fmt="%.6g")
    description = {"Name": "legs", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "bids/dataset_description.json").write_text(json.dumps(description))
    assert main([str(folder / "bids"), str(folder / "out"), "participant", "--nprocs", "2"]) == 0
    out = folder / "out/sub-legs/dwi/sub-legs_model-{}_param-{}_dwimap.nii.gz"
    found = {
        key: nb.load(str(out).format(model, param)).get_fdata()
        for key, model, param in (
            ("fa", "dti", "fa"), ("md", "dti", "md"), ("f", "ivim", "f"), ("d", "ivim", "d"),
        )
    }  # fmt: skip
    # the labels' voxels are the series' with x mirrored
    labels = np.asarray(nb.load(LEGS / "muscles_dseg.nii.gz").dataobj)[::-1]
    return found, labels


@pytest.mark.parametrize("muscle", MUSCLES)
def test_fa_and_md_of_each_muscle_are_those_of_muscle(maps, muscle):
    found, labels = maps
    fa, md = (found[key][labels == muscle] for key in ("fa", "md"))
    assert np.isfinite(fa).mean() > 0.95
    assert 0.18 <= np.nanmedian(fa) <= 0.28
    assert 1.52e-3 <= np.nanmedian(md) <= 1.75e-3


def test_ivim_of_muscle_is_that_of_the_mean_curve(maps):
    """Whose segmented f is 0.025 and D 1.55e-3 mm²/s over all muscles."""
    found, labels = maps
    curve = nb.load(LEGS / "dwi.nii.gz").get_fdata()[np.isin(labels, list(MUSCLES))].mean(axis=0)
    b = np.loadtxt(LEGS / "dwi.bval")
    high = b >= 200
    slope, level = np.polyfit(b[high], np.log(curve[high]), 1)
    inside = np.isin(labels, list(MUSCLES))
    assert abs(np.nanmean(found["f"][inside]) - (1 - np.exp(level) / curve[b <= 5].mean())) < 0.012
    np.testing.assert_allclose(np.nanmedian(found["d"][inside]), -slope, rtol=0.03)
