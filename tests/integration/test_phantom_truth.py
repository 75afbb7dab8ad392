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
from mrn_prep.phantom.options import MODALITIES, PhantomOptions

SNR = 50.0
# Regions with enough pure voxels for a median; blood (T1 1.6 s, FA 0) is checked in models.
MUSCLES = ("vastus", "rectusfemoris", "adductors", "hamstrings")


# Which labels of pure voxels lie on the grid of a map; its key may carry the method.
PURE = {
    "t1": "pure", "m0": "pure", "t2": "puremese", "m0-mese": "puremese", "pdff": "puremegre",
    "t2star": "puremegre", "r2star": "puremegre", "mtsat": "puremts", "t1-mts": "puremts",
    "m0-mts": "puremts", "mtr-mts": "puremts", "t1-ir": "pureir", "mtr": "puremtr",
    "t2-t2prep": "puret2prep", "t2-dual": "puredual",
}  # fmt: skip


@dataclass(frozen=True)
class Truth:
    """What came out and what is true, per metric, inside pure voxels."""

    out: object
    truth: object
    entities: dict

    def values(self, name, regions):
        """Return found, true and standard error in the pure voxels of regions."""
        key, _, method = name.partition("-")
        spec = OUTPUTS[key]
        own = {"acquisition": method} if method in ("t2prep", "dual") else {}
        entities = self.entities | own
        pure, table = self.pure(spec.datatype, PURE.get(name, "pure"))
        index = table.set_index("name")["index"]
        chosen = np.isin(pure, [index[region] for region in regions])
        paths = [self.out / map_path(spec, entities, c, method) for c in ("", "se")]
        found, se = (load(path)[chosen] for path in paths)
        return found, load(self.truth / map_path(spec, entities, "", method))[chosen], se

    def pure(self, datatype, label="pure"):
        """Return the labels of pure voxels on the grid of a series."""
        path = self.truth / "sub-A01" / datatype / f"sub-A01_desc-{label}_dseg.nii.gz"
        table = pd.read_csv(str(path).replace(".nii.gz", ".tsv"), sep="\t")
        return load(path), table


def load(path):
    return np.asarray(nb.load(path).dataobj, dtype=np.float64)


def run(folder, snr):
    bids, out = folder / "bids", folder / "out"
    options = PhantomOptions(sites=1, participants_per_site=1, snr=snr, modalities=MODALITIES)
    simulate_dataset(bids, options, tell=lambda _: None)
    rois = bids / "derivatives" / "rois"
    assert main([str(bids), str(out), "participant", "-d", f"rois={rois}", "--nprocs", "2"]) == 0
    return Truth(out, bids / "derivatives" / "truth", {"subject": "A01"})


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return run(tmp_path_factory.mktemp("noisy"), SNR)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return run(tmp_path_factory.mktemp("clean"), 0.0)


RELATIVE = ["t1", "b1", "t2", "t2star", "r2star", "mtsat", "mtr", "mtr-mts", "t1-mts", "t1-ir",
            "t2-t2prep", "t2-dual"]  # fmt: skip


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
@pytest.mark.parametrize("key", [*RELATIVE, "md"])
def test_relative_bias_of_the_median_at_snr_50(noisy, key, regions):
    found, true, se = noisy.values(key, regions)
    assert np.isfinite(found).mean() > 0.99
    limit = 0.02 if key == "md" else 0.01
    # of a nerve's few voxels the median itself scatters by two and a half of its errors
    error = 2.5 * 1.25 * np.nanmedian(se / true) / np.sqrt(found.size)
    assert abs(np.nanmedian(found / true) - 1) <= limit + (error if regions != MUSCLES else 0)


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
def test_bias_of_the_median_fat_fraction_at_snr_50(noisy, regions):
    found, true, _ = noisy.values("pdff", regions)
    assert abs(np.nanmedian(found - true)) <= 0.5  # percentage points


@pytest.mark.parametrize("key", [*RELATIVE, "pdff"])
def test_spread_is_what_the_standard_errors_say(noisy, key):
    found, true, se = noisy.values(key, MUSCLES)
    spread = np.nanstd(found - true) / np.sqrt(np.nanmean(se**2))
    assert 0.9 <= spread <= 1.1, f"{spread:.3f}"


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
def test_bias_of_median_fa_at_snr_50(noisy, regions):
    found, true, _ = noisy.values("fa", regions)
    assert abs(np.nanmedian(found - true)) <= 0.02


@pytest.mark.parametrize(
    "key", [*RELATIVE, "pdff", "m0", "m0-mese", "m0-mts", "fa", "md", "ad", "rd", "s0"]
)
def test_intervals_of_68_percent_cover_68_percent(noisy, key):
    found, true, se = noisy.values(key, MUSCLES)
    known = np.isfinite(found)
    coverage = np.mean(np.abs(found - true)[known] <= se[known])
    assert 0.60 <= coverage <= 0.76, f"{coverage:.3f}"


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
@pytest.mark.parametrize("key", RELATIVE)
def test_noise_free_relative_bias(clean, key, regions):
    found, true, _ = clean.values(key, regions)
    # T1 of the train is that of muscle everywhere
    assert abs(np.nanmedian(found / true) - 1) <= (5e-3 if key == "t2" else 1e-3)


@pytest.mark.parametrize("regions", [("sciatic",), MUSCLES], ids=["nerve", "muscle"])
def test_noise_free_fat_fraction(clean, regions):
    found, true, _ = clean.values("pdff", regions)
    assert abs(np.nanmedian(found - true)) <= 0.1  # percentage points


def test_fat_is_told_from_water_without_a_swapped_region(clean):
    found, true, _ = clean.values("pdff", (*MUSCLES, "sciatic", "subcutaneousfat"))
    assert np.abs(found - true).max() < 5


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
    of_vfa = table["sequence_class"].str.startswith("VFA")
    rows = table[(table["metric"] == "T1") & (table["tissue"] == "muscle") & of_vfa]
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
