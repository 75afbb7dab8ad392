"""DCE perfusion from the raw series to Ktrans, as numbers against the phantom's truth."""

import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.cli.main import main
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.motion import rigid_matrix, voxel_to_centred_mm
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.options import PhantomOptions

TRUE = {  # Ktrans (1/min), ve, vp
    "nerve": {"ktrans": 0.026, "ve": 0.10, "vp": 0.015},
    "muscle": {"ktrans": 0.16, "ve": 0.12, "vp": 0.02},
}
MUSCLES = ("vastus", "rectusfemoris", "adductors", "hamstrings")


@dataclass(frozen=True)
class Run:
    """One run of the app, and what is true."""

    bids: Path
    out: Path
    truth: Path

    def table(self, name, *, true=False):
        folder = self.truth if true else self.out
        path = folder / "sub-A01" / "perf" / f"sub-A01_desc-{name}.tsv"
        return pd.read_csv(path, sep="\t", na_values="n/a")

    def values(self, param, region):
        """Return found, true and standard error in the pure voxels of a region."""
        stem = f"sub-A01/perf/sub-A01_model-etofts_param-{param}"
        labels = self.table("pure_dseg", true=True).set_index("name")["index"]
        pure = load(self.truth / "sub-A01" / "perf" / "sub-A01_desc-pure_dseg.nii.gz")
        here = pure == labels[region]
        return (
            load(self.out / f"{stem}_dcemap.nii.gz")[here],
            load(self.truth / f"{stem}_dcemap.nii.gz")[here],
            load(self.out / f"{stem}_desc-se_dcemap.nii.gz")[here],
        )

    def curve_fit(self, region, param):
        """Return value and standard error of the mean curve of a region."""
        rows = self.table("curves_measurements")
        row = rows[(rows["region"] == region) & (rows["parameter"] == param)].iloc[0]
        assert row["status"] == 0
        return row["value"], row["se"]

    def area_of_input(self):
        """Return the area under the input function over that of the truth."""
        found, true = (self.table("aif_timeseries", true=t) for t in (False, True))
        return np.trapezoid(found["blood"], found["time"]) / np.trapezoid(
            true["blood"], true["time"]
        )

    def facts(self):
        path = self.out / "sub-A01/perf/sub-A01_model-etofts_param-ktrans_dcemap.json"
        return json.loads(path.read_text())


def load(path):
    return np.asarray(nb.load(path).dataobj, dtype=np.float64)


def run(folder, *options, **phantom):
    bids, out = folder / "bids", folder / "out"
    chosen = PhantomOptions(
        sites=1, participants_per_site=1, modalities=("t1", "b1", "dce"), **phantom
    )
    simulate_dataset(bids, chosen, tell=lambda _: None)
    rois = bids / "derivatives" / "rois"
    told = [str(bids), str(out), "participant", "-d", f"rois={rois}", "--nprocs", "2"]
    assert main([*told, *options]) == 0
    return Run(bids, out, bids / "derivatives" / "truth")


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    return run(tmp_path_factory.mktemp("still"), snr=50.0)


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("moved")
    return run(folder, "--dce-aif", "auto", snr=20.0, motion_mm=3.0, motion_deg=3.0)


def test_mean_curve_of_the_nerve_gives_its_ktrans(still):
    for param, true in TRUE["nerve"].items():
        value, se = still.curve_fit("sciatic", param)
        assert abs(value / true - 1) <= 0.05, param
        assert abs(value - true) <= 2 * se, param
    assert se < 0.05 * true


@pytest.mark.parametrize("region", MUSCLES)
def test_mean_curves_of_muscles_cover_the_truth(still, region):
    for param, true in TRUE["muscle"].items():
        value, se = still.curve_fit(region, param)
        assert abs(value / true - 1) <= 0.04, param
        assert abs(value - true) <= 2 * se, param
        assert se < 0.04 * true, param


@pytest.mark.parametrize("region", MUSCLES)
def test_voxels_of_muscle_are_unbiased(still, region):
    for param in TRUE["muscle"]:
        found, true, _ = still.values(param, region)
        assert np.isfinite(found).mean() > 0.99
        # T1 of blood is 1.64 s here and 1.65 s in the app: 2 % of the input, and of these
        assert abs(np.median(found / true) - 1) <= 0.04, param


def test_voxels_of_the_nerve_are_not_biased_by_fat_in_the_t1_map(still):
    for param in TRUE["nerve"]:
        found, true, se = still.values(param, "sciatic")
        scatter = 2 * 1.25 * np.median(se / true) / np.sqrt(found.size)
        assert abs(np.median(found / true) - 1) <= 0.04 + scatter, param


@pytest.mark.parametrize("region", MUSCLES)
@pytest.mark.parametrize("param", ["ktrans", "ve", "vp"])
def test_standard_errors_of_voxels_cover(still, param, region):
    found, true, se = still.values(param, region)
    assert 0.60 <= np.mean(np.abs(found - true) <= se) <= 0.76
    assert 0.87 <= np.mean(np.abs(found - true) <= 1.96 * se) <= 0.99


def test_drawn_artery_gives_the_true_input(still):
    assert abs(still.area_of_input() - 1) <= 0.05


def test_automatic_input_has_the_true_area_at_snr_20_though_the_limb_moves(moved):
    assert "aif-auto" in moved.facts()["ValidityFlags"]
    assert abs(moved.area_of_input() - 1) <= 0.10


def test_frames_are_brought_back_within_a_third_of_a_voxel(moved):
    image = nb.load(moved.bids / "sub-A01" / "perf" / "sub-A01_dce.nii.gz")
    size = np.array(image.header.get_zooms()[:3])
    limb = limb_mask(np.asarray(image.dataobj[..., 0], dtype=np.float64))
    to_mm = voxel_to_centred_mm(limb.shape, size)
    points = np.argwhere(limb)[::20] @ to_mm[:3, :3].T + to_mm[:3, 3]
    points = np.c_[points, np.ones(len(points))]
    true = moved.table("confounds_timeseries", true=True).to_numpy()
    found = moved.table("confounds_timeseries")
    assert (found["status"] == 0).all()
    moves = rigid_matrix(true[:, 3:6], true[:, :3])
    turns = np.deg2rad(found[[f"rot_{axis}_deg" for axis in "xyz"]].to_numpy())
    undone = rigid_matrix(turns, found[[f"trans_{axis}_mm" for axis in "xyz"]].to_numpy())
    middle = int(moved.facts()["Quality"]["baseline_frames"]) // 2  # stood still
    moves = moves @ np.linalg.inv(moves[middle])

    def voxels(rigid):
        away = (rigid - np.eye(4)) @ points.T
        return np.linalg.norm(away[:, :3] / size[:, None], axis=1).mean(axis=1)

    assert voxels(moves).max() > 1.5
    assert voxels(np.linalg.inv(moves) @ undone).max() <= 0.3


@pytest.mark.parametrize("region", MUSCLES)
def test_muscle_is_right_though_it_moved_and_its_input_was_found(moved, region):
    for param, limit in (("ktrans", 0.08), ("ve", 0.08), ("vp", 0.12)):
        value, se = moved.curve_fit(region, param)
        assert abs(value / TRUE["muscle"][param] - 1) <= limit, param
        assert abs(value - TRUE["muscle"][param]) <= 2.5 * se, param
