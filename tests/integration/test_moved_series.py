"""A limb that moved between the images of a series, end to end against its truth."""

import json

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from helpers import change

from mrn_prep.cli.main import main
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.options import PhantomOptions

SHIFT = 3  # voxels
T1 = ("anat/sub-A01_T1map.nii.gz", "pure")
MTSAT = ("anat/sub-A01_MTsat.nii.gz", "puremts")


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    """Shift the second flip angle, the brightest, and the image with saturation."""
    folder = tmp_path_factory.mktemp("moved")
    options = PhantomOptions(
        small=True, sites=1, participants_per_site=1, modalities=("b1", "t1", "mt"), snr=200.0
    )
    simulate_dataset(folder / "bids", options, tell=lambda _: None)
    anat = folder / "bids/sub-A01/anat"
    for name in ("flip-2_VFA", "flip-1_mt-on_MTS"):
        change(anat / f"sub-A01_{name}.nii.gz", lambda data: np.roll(data, SHIFT, axis=0))
    for name, flags in (("on", []), ("off", ["--no-t1-register", "--no-mt-register"])):
        call = [str(folder / "bids"), str(folder / name), "participant", "--nprocs", "2", *flags]
        assert main(call) == 0
    return folder


def errors(folder, run, path, regions):
    """Errors of the fitted voxels of pure muscle, relative to the truth."""
    truth = folder / "bids/derivatives/truth/sub-A01"
    pure = truth / f"anat/sub-A01_desc-{regions}_dseg.nii.gz"
    index = pd.read_csv(str(pure).replace(".nii.gz", ".tsv"), sep="\t").set_index("name")["index"]
    chosen = np.asarray(nb.load(pure).dataobj) == index["hamstrings"]
    values = np.asarray(nb.load(folder / run / "sub-A01" / path).dataobj)[chosen]
    true = np.asarray(nb.load(truth / path).dataobj)[chosen]
    relative = values / true - 1
    assert np.isfinite(relative).mean() > 0.95
    return relative[np.isfinite(relative)]


@pytest.mark.parametrize("what", [T1, MTSAT], ids=["T1", "MTsat"])
def test_registered_series_gives_the_values_of_a_limb_at_rest(moved, what):
    on, off = errors(moved, "on", *what), errors(moved, "off", *what)
    assert abs(np.median(on)) < 0.01
    assert np.quantile(np.abs(off), 0.9) > 2 * np.quantile(np.abs(on), 0.9)


def test_quality_table_tells_which_image_moved_and_how_far(moved):
    table = pd.read_csv(
        next((moved / "on").rglob("*desc-quality.tsv")), sep="\t", dtype={"value": float}
    )
    shifts = table[table.metric.str.fullmatch(r"image\d_trans_x")].set_index("modality")
    assert shifts.metric.to_dict() == {"t1": "image2_trans_x", "mt": "image3_trans_x"}
    for modality, name in (("t1", "flip-2_VFA"), ("mt", "flip-1_mt-on_MTS")):
        image = nb.load(moved / f"bids/sub-A01/anat/sub-A01_{name}.nii.gz")
        size_mm = float(image.header.get_zooms()[0])
        assert abs(abs(shifts.value[modality]) - SHIFT * size_mm) < 0.1 * size_mm
    sidecar = json.loads((moved / "on/sub-A01/anat/sub-A01_T1map.json").read_text())
    assert sidecar["Quality"]["n_not_registered"] == 0
