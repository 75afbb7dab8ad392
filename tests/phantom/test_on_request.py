"""What is on disk of series and options that only some ask for."""

import json
import subprocess
import sys

import nibabel as nb
import numpy as np
import pandas as pd
import pytest

from mrn_prep.io.tables import read_table
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.geometry import REGIONS
from mrn_prep.phantom.options import PhantomOptions

OPTIONS = PhantomOptions(
    small=True, participants_per_site=1, seed=2, modalities=("b1", "dwi", "dce"),
    motion_mm=0.6, motion_deg=0.4, distort=True, b0_hz=150.0, b_values=(20.0,),
)  # fmt: skip
TRUTH = "derivatives/truth"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("on_request") / "bids"
    simulate_dataset(root, OPTIONS)
    return root


def image(root, path):
    return nb.load(root / f"{path}.nii.gz")


def sidecar(root, path):
    return json.loads((root / f"{path}.json").read_text())


@pytest.mark.parametrize("folder", [".", TRUTH])
def test_the_validator_has_nothing_to_say(made, folder, tmp_path):
    report = tmp_path / "report.json"
    validator = f"{sys.prefix}/bin/bids-validator-deno"
    subprocess.run(
        [validator, str(made / folder), "--format", "json", "-o", str(report)], check=False
    )
    issues = json.loads(report.read_text())["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error" or "RECOMMENDED" not in i["code"]] == []


def test_only_a_dynamic_series_needs_to_be_ignored(made, tmp_path):
    assert (made / ".bidsignore").read_text() == "**/perf/*_dce.*\n"
    simulate_dataset(
        tmp_path / "bids",
        PhantomOptions(sites=1, participants_per_site=1, small=True, modalities=("b1",)),
    )
    assert not (tmp_path / "bids/.bidsignore").exists()


@pytest.mark.parametrize("site", "AB")
def test_a_dynamic_series_tells_its_times_and_its_agent(made, site):
    stem = f"sub-{site}01/perf/sub-{site}01_dce"
    told, series = sidecar(made, stem), image(made, stem)
    t_s = np.array(told["VolumeTiming"])
    assert len(t_s) == series.shape[3] == 48
    steps = np.diff(t_s)
    assert (steps > 4).all() and (steps <= 5).all()
    assert t_s[0] == 0 and (t_s < told["InjectionStart"]).sum() >= 8
    assert told["ContrastAgent"] == "gadobutrol" and told["ContrastDose"] == 0.1
    assert told["Hematocrit"] == 0.42 and told["MagneticFieldStrength"] == 3.0
    assert 10 <= told["FlipAngle"] <= 20 and told["RepetitionTimeExcitation"] < 0.006
    first = "tr1_TB1AFI"
    b1 = sidecar(made, f"sub-{site}01/fmap/sub-{site}01_acq-{first}")
    assert b1["IntendedFor"] == [f"bids::{stem}.nii.gz"]


def test_perfusion_is_in_the_units_of_the_outputs(made):
    stem = f"{TRUTH}/sub-A01/perf/sub-A01"
    rows = read_table(made / f"{stem}_desc-pure_dseg.tsv").set_index("name")
    pure = np.asarray(image(made, f"{stem}_desc-pure_dseg").dataobj)
    raw = image(made, "sub-A01/perf/sub-A01_dce")
    for param, units, expected in (
        ("ktrans", "1/min", 0.026), ("kep", "1/min", 0.26), ("ve", "1", 0.10), ("vp", "1", 0.015),
    ):  # fmt: skip
        path = f"{stem}_model-etofts_param-{param}_dcemap"
        found = image(made, path)
        np.testing.assert_allclose(found.affine, raw.affine, atol=1e-5)
        nerve = found.get_fdata()[pure == REGIONS["sciatic"].index]
        assert len(nerve) > 3 and sidecar(made, path)["Units"] == units
        np.testing.assert_allclose(nerve, expected, rtol=1e-5)
    assert 60 * rows.loc["sciatic", "ktrans_per_s"] == pytest.approx(0.026, rel=1e-5)


def test_the_true_input_function_is_told(made):
    stem = f"{TRUTH}/sub-B01/perf/sub-B01_desc-aif_timeseries"
    rows = read_table(made / f"{stem}.tsv")
    assert list(rows) == ["time", "blood", "plasma"] and set(sidecar(made, stem)) == set(rows)
    np.testing.assert_allclose(
        rows["time"], sidecar(made, "sub-B01/perf/sub-B01_dce")["VolumeTiming"]
    )
    np.testing.assert_allclose(rows["plasma"] * 0.58, rows["blood"], rtol=1e-6)
    assert 5 < rows["blood"].max() < 6.1  # the first pass, over frames of 5 s


@pytest.mark.parametrize(("datatype", "eddy"), [("dwi", True), ("perf", False)])
def test_motion_of_each_series_is_told(made, datatype, eddy):
    stem = f"{TRUTH}/sub-A01/{datatype}/sub-A01_desc-confounds_timeseries"
    rows = read_table(made / f"{stem}.tsv")
    size = np.sqrt((rows[["trans_x", "trans_y", "trans_z"]] ** 2).sum(axis=1).mean())
    turn = np.sqrt((rows[["rot_x", "rot_y", "rot_z"]] ** 2).sum(axis=1).mean())
    assert size == pytest.approx(0.6, rel=1e-6) and np.rad2deg(turn) == pytest.approx(0.4)
    assert ("eddy_shift" in rows) == eddy and set(sidecar(made, stem)) == set(rows)


def test_the_two_series_move_differently(made):
    walks = [
        pd.read_csv(made / f"{TRUTH}/sub-A01/{name}/sub-A01_desc-confounds_timeseries.tsv",
                    sep="\t")["trans_x"].to_numpy()[:10]
        for name in ("dwi", "perf")
    ]  # fmt: skip
    assert abs(np.corrcoef(walks)[0, 1]) < 0.999


REVERSED = {"A": "fmap/sub-A01_dir-AP_epi", "B": "dwi/sub-B01_dir-PA_dwi"}


@pytest.mark.parametrize("site", "AB")
def test_images_with_reversed_blips_belong_to_the_series(made, site):
    main, other = f"sub-{site}01/dwi/sub-{site}01_dwi", f"sub-{site}01/{REVERSED[site]}"
    told, back = sidecar(made, main), sidecar(made, other)
    directions = {told["PhaseEncodingDirection"], back["PhaseEncodingDirection"]}
    assert directions == {"j", "j-"} and told["TotalReadoutTime"] == back["TotalReadoutTime"]
    assert image(made, main).shape[:3] == image(made, other).shape[:3]
    assert image(made, other).shape[3] == 2
    if site == "A":
        assert back["IntendedFor"] == [f"bids::{main}.nii.gz"]
    else:
        assert told["B0FieldSource"] == back["B0FieldIdentifier"]
        assert np.loadtxt(made / f"{other}.bval").tolist() == [0, 0]


@pytest.mark.parametrize("site", "AB")
def test_blips_pull_the_limb_apart_by_twice_the_true_field(made, site):
    """The centre of gravity of the limb moves by field times readout, one way or the other."""
    main, other = f"sub-{site}01/dwi/sub-{site}01_dwi", f"sub-{site}01/{REVERSED[site]}"
    images = [image(made, path).get_fdata()[..., 0] for path in (main, other)]
    path = f"{TRUTH}/sub-{site}01/fmap/sub-{site}01_desc-truth_fieldmap"
    field = image(made, path).get_fdata()
    told = sidecar(made, main)
    assert "is distorted" in sidecar(made, path)["Description"]
    pe = 1 if told["PhaseEncodingDirection"] == "j" else -1
    centres = [(np.arange(one.shape[1])[:, None] * one).sum() / one.sum() for one in images]
    s0 = image(made, f"{TRUTH}/sub-{site}01/dwi/sub-{site}01_model-dti_param-s0_dwimap").get_fdata()
    expected = 2 * pe * told["TotalReadoutTime"] * np.nansum(field * s0) / np.nansum(s0)
    assert abs(expected) > 0.5
    assert centres[0] - centres[1] == pytest.approx(expected, rel=0.15)


def test_further_shells_come_after_the_usual_ones(made):
    b = np.loadtxt(made / "sub-A01/dwi/sub-A01_dwi.bval")
    assert b[-6:].tolist() == [20] * 6 and set(b[:-6]) == {0, 800}
    stem = f"{TRUTH}/sub-A01/dwi/sub-A01"
    pure = np.asarray(image(made, f"{stem}_desc-pure_dseg").dataobj)
    muscle = pure == REGIONS["vastus"].index
    for param, expected in (("f", 0.06), ("dstar", 0.025)):
        found = image(made, f"{stem}_model-ivim_param-{param}_dwimap").get_fdata()[muscle]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
