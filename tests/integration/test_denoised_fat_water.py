"""Fat fraction and T2* of denoised gradient echoes at SNR 20, end to end against their truth."""

import json

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.cli.main import main
from mrn_prep.io.derivatives import map_path
from mrn_prep.outputs import OUTPUTS
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.options import PhantomOptions

RUNS = {
    "raw": (), "clean": ("--fatwater-denoise", "mppca"),
    "magnitude": ("--fatwater-denoise", "mppca", "--no-fatwater-phase"),
}  # fmt: skip
MUSCLES = ("vastus", "rectusfemoris", "adductors", "hamstrings")
ENTITIES = {"subject": "A01"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fatwater")
    options = PhantomOptions(sites=1, participants_per_site=1, snr=20, modalities=("fatwater",))
    simulate_dataset(folder / "bids", options, tell=lambda _: None)
    for name, flags in RUNS.items():
        call = [str(folder / "bids"), str(folder / name), "participant", "--nprocs", "2", *flags]
        assert main(call) == 0
    return folder


def load(path):
    return np.asarray(nb.load(path).dataobj, dtype=np.float64)


def errors(made, run, key, *regions):
    """Return error and standard error in the pure voxels of regions (percent, or ms)."""
    truth = made / "bids/derivatives/truth"
    pure = truth / "sub-A01/anat/sub-A01_desc-puremegre_dseg.nii.gz"
    table = pd.read_csv(str(pure).replace(".nii.gz", ".tsv"), sep="\t").set_index("name")
    chosen = np.isin(load(pure), [table.loc[region, "index"] for region in regions])
    spec, scale = OUTPUTS[key], 1e3 if key == "t2star" else 1.0
    method = "magnitude" if run == "magnitude" else ""
    found, se = (load(made / run / map_path(spec, ENTITIES, c, method))[chosen]
                 for c in ("", "se"))  # fmt: skip
    true = load(truth / map_path(spec, ENTITIES, "", ""))[chosen]
    return (found - true) * scale, se * scale


def spread(error):
    """Standard deviation, by quartiles: a few voxels of short trains lie far out."""
    return np.subtract(*np.nanquantile(error, [0.75, 0.25])) / 1.349


@pytest.mark.parametrize(("key", "least"), [("pdff", 4), ("t2star", 6)])
@pytest.mark.parametrize("run", ["clean", "magnitude"])
def test_noise_in_muscle_falls(made, run, key, least):
    raw, left = (spread(errors(made, name, key, *MUSCLES)[0]) for name in ("raw", run))
    assert left < raw / least


@pytest.mark.parametrize("run", ["clean", "magnitude"])
def test_medians_of_muscle_stay(made, run):
    assert abs(np.nanmedian(errors(made, run, "pdff", *MUSCLES)[0])) < 0.1  # percentage points
    assert abs(np.nanmedian(errors(made, run, "t2star", *MUSCLES)[0])) < 0.01 * 25


@pytest.mark.parametrize(("region", "pull_ms"), [("sciatic", 1.0), ("femoral", 2.5)])
def test_nerve_keeps_its_fat_but_its_t2star_is_drawn_towards_muscle(made, region, pull_ms):
    raw, clean = (errors(made, run, "pdff", region)[0] for run in ("raw", "clean"))
    # its fat is a component of each patch, so that no noise is removed along it
    assert abs(np.median(clean) - np.median(raw)) < 0.3  # percentage points
    assert spread(clean) == pytest.approx(spread(raw), rel=0.1)
    # its 22 ms beside muscle's 25 ms are none; the femoral nerve is three voxels across
    pull = np.nanmedian(errors(made, "clean", "t2star", region)[0])
    assert 0.3 < pull < pull_ms


@pytest.mark.parametrize("key", ["pdff", "t2star"])
@pytest.mark.parametrize("run", ["clean", "magnitude"])
def test_errors_are_an_upper_bound(made, run, key):
    error, se = errors(made, run, key, *MUSCLES)
    known = np.isfinite(error)
    assert known.mean() > 0.99
    assert np.mean(np.abs(error)[known] < se[known]) > 0.9


def test_sidecar_tells_of_denoising(made):
    told = json.loads((made / "clean/sub-A01/anat/sub-A01_PDFFmap.json").read_text())
    assert told["EstimationMethod"].startswith(
        "Marchenko-Pastur PCA denoising of real and imaginary parts (phase in 12 bits, signed and "
        "doubled); 6 echoes, complex signal, smooth field map"
    )
    assert "doi:10.1016/j.neuroimage.2016.08.016" in told["EstimationReference"]
    assert "se-upper-bound" in told["ValidityFlags"]
    assert "draw a small nerve towards what is around it" in told["StandardErrorNote"]
