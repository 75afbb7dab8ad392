"""The whole app on the phantom, as numbers against its truth, inside pure voxels."""

import json
from dataclasses import dataclass

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.cli.main import main
from mrn_prep.io.derivatives import map_path
from mrn_prep.outputs import OUTPUTS
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.options import PhantomOptions

SNR = 50.0
# Regions with enough pure voxels for a median; blood (T1 1.6 s, FA 0) is checked in models.
MUSCLES = ("vastus", "rectusfemoris", "adductors", "hamstrings")


@dataclass(frozen=True)
class Truth:
    """What came out and what is true, per metric, inside pure voxels."""

    out: object
    truth: object
    entities: dict

    def values(self, key, regions):
        """Return found, true and standard error in the pure voxels of regions."""
        spec = OUTPUTS[key]
        pure, table = self.pure(spec.datatype)
        index = table.set_index("name")["index"]
        chosen = np.isin(pure, [index[name] for name in regions])
        paths = [self.out / map_path(spec, self.entities, c) for c in ("", "se")]
        found, se = (load(path)[chosen] for path in paths)
        return found, load(self.truth / map_path(spec, self.entities))[chosen], se

    def pure(self, datatype):
        """Return the labels of pure voxels on the grid of a datatype."""
        (path,) = (self.truth / "sub-A01" / datatype).glob("*_desc-pure_dseg.nii.gz")
        table = pd.read_csv(str(path).replace(".nii.gz", ".tsv"), sep="\t")
        return load(path), table


def load(path):
    return np.asarray(nb.load(path).dataobj, dtype=np.float64)


def run(folder, snr):
    bids, out = folder / "bids", folder / "out"
    simulate_dataset(
        bids, PhantomOptions(sites=1, participants_per_site=1, snr=snr), tell=lambda _: None
    )
    rois = bids / "derivatives" / "rois"
    assert main([str(bids), str(out), "participant", "-d", f"rois={rois}", "--nprocs", "2"]) == 0
    return Truth(out, bids / "derivatives" / "truth", {"subject": "A01"})


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return run(tmp_path_factory.mktemp("noisy"), SNR)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return run(tmp_path_factory.mktemp("clean"), 0.0)


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
@pytest.mark.parametrize(("key", "limit"), [("t1", 0.01), ("b1", 0.01), ("md", 0.02)])
def test_relative_bias_of_the_median_at_snr_50(noisy, key, limit, regions):
    found, true, _ = noisy.values(key, regions)
    assert np.isfinite(found).mean() > 0.99
    assert abs(np.nanmedian(found / true) - 1) <= limit


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
def test_bias_of_median_fa_at_snr_50(noisy, regions):
    found, true, _ = noisy.values("fa", regions)
    assert abs(np.nanmedian(found - true)) <= 0.02


@pytest.mark.parametrize("key", ["t1", "m0", "b1", "fa", "md", "ad", "rd", "s0"])
def test_intervals_of_68_percent_cover_68_percent(noisy, key):
    found, true, se = noisy.values(key, MUSCLES)
    known = np.isfinite(found)
    coverage = np.mean(np.abs(found - true)[known] <= se[known])
    assert 0.60 <= coverage <= 0.76, f"{coverage:.3f}"


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
@pytest.mark.parametrize("key", ["t1", "b1"])
def test_noise_free_relative_bias(clean, key, regions):
    found, true, _ = clean.values(key, regions)
    assert abs(np.nanmedian(found / true) - 1) <= 1e-3


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
@pytest.mark.parametrize("key", ["md", "fa"])
def test_noise_free_diffusion(clean, key, regions):
    found, true, _ = clean.values(key, regions)
    assert abs(np.nanmedian(found / true) - 1) <= 1e-3


def test_noise_free_series_has_no_standard_error_and_says_so(clean):
    sidecar = json.loads((clean.out / "sub-A01/anat/sub-A01_T1map.json").read_text())
    assert "no-se" in sidecar["ValidityFlags"]


def test_region_table_agrees_with_the_truth(noisy):
    table = pd.read_csv(
        noisy.out / "sub-A01" / "sub-A01_desc-roi_measurements.tsv", sep="\t", na_values="n/a"
    )
    _, labels = noisy.pure("anat")
    true_ms = labels.set_index("name")["t1_s"] * 1e3
    rows = table[(table["metric"] == "T1") & (table["tissue"] == "muscle")]
    assert set(rows["region"]) >= set(MUSCLES)
    for _, row in rows[rows["region"].isin(MUSCLES)].iterrows():
        assert row["unit"] == "ms"
        # all voxels of the region count here, so its border pulls towards fat
        assert row["median"] == pytest.approx(true_ms[row["region"]], rel=0.02)


def test_small_nerve_is_flagged_for_partial_volume(noisy):
    table = pd.read_csv(
        noisy.out / "sub-A01" / "sub-A01_desc-roi_measurements.tsv", sep="\t", na_values="n/a"
    )
    row = table[(table["region"] == "saphenous") & (table["metric"] == "FA")].iloc[0]
    assert row["n_vox_pure"] == 0
    assert "partial-volume" in row["flags"].split(";")
