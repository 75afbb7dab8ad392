"""What is on disk: valid, complete, repeatable."""

import hashlib
import json
import subprocess
import sys

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.errors import CannotCreateError, ExitCode, UsageError
from mrn_prep.io.tables import read_table
from mrn_prep.outputs import OUTPUTS
from mrn_prep.phantom import cli
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.geometry import REGIONS
from mrn_prep.phantom.options import PhantomOptions

OPTIONS = PhantomOptions(
    small=True, participants_per_site=1, sessions=2, groups=2, motion_mm=0.5, motion_deg=0.5,
    eddy_mm=1.0, seed=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("phantom") / "bids"
    simulate_dataset(root, OPTIONS)
    return root


def problems(folder, tmp_path):
    report = tmp_path / "report.json"
    validator = f"{sys.prefix}/bin/bids-validator-deno"
    subprocess.run([validator, str(folder), "--format", "json", "-o", str(report)], check=False)
    issues = json.loads(report.read_text())["issues"]["issues"]
    return [(i["code"], i.get("subCode"), i.get("location")) for i in issues
            if i["severity"] == "error" or "RECOMMENDED" not in i["code"]]  # fmt: skip


@pytest.mark.parametrize("folder", [".", "derivatives/rois", "derivatives/truth"])
def test_the_validator_has_nothing_to_say(made, folder, tmp_path):
    assert problems(made / folder, tmp_path) == []


def test_the_validator_would_complain(made, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "README").write_text("x")
    assert problems(broken, tmp_path)


def image(root, path):
    return nb.load(root / path)


def test_every_map_of_the_app_has_its_truth(made):
    truth = made / "derivatives/truth"
    for spec in OUTPUTS.values():
        own = "".join(f"_{name}-{value}" for name, value in spec.entities.items())
        folder = f"sub-A01/ses-01/{spec.datatype}"
        assert (truth / folder / f"sub-A01_ses-01{own}_{spec.suffix}.nii.gz").is_file(), spec.key


def test_truth_is_in_the_units_of_the_outputs(made):
    stem = "derivatives/truth/sub-A01/ses-01"
    b1 = image(made, f"{stem}/fmap/sub-A01_ses-01_TB1map.nii.gz").get_fdata()
    md = image(made, f"{stem}/dwi/sub-A01_ses-01_model-dti_param-md_dwimap.nii.gz").get_fdata()
    assert 60 < np.nanmedian(b1) < 120 and 0.05e-3 <= np.nanmedian(md) < 3e-3


def test_pure_labels_have_rows_and_the_truth_of_the_map(made):
    stem = made / "derivatives/truth/sub-B01/ses-02/anat/sub-B01_ses-02"
    labels = nb.load(f"{stem}_desc-pure_dseg.nii.gz").get_fdata()
    t1 = nb.load(f"{stem}_T1map.nii.gz").get_fdata()
    rows = read_table(f"{stem}_desc-pure_dseg.tsv").set_index("name")
    assert set(np.unique(labels)) <= {0, *rows["index"]}
    for name in ("sciatic", "vastus"):
        inside = t1[labels == REGIONS[name].index]
        assert len(inside) > 3
        np.testing.assert_allclose(inside, rows.loc[name, "t1_s"], rtol=1e-5)


def test_regions_are_drawn_on_the_t2w_image(made):
    stem = "sub-A01/ses-01/anat/sub-A01_ses-01"
    drawn = image(made, f"derivatives/rois/{stem}_desc-nerves_dseg.nii.gz")
    np.testing.assert_array_equal(drawn.affine, image(made, f"{stem}_T2w.nii.gz").affine)
    rows = read_table(made / f"derivatives/rois/{stem}_desc-nerves_dseg.tsv")
    assert list(rows.columns) == ["index", "name", "tissue", "side", "level", "reference"]
    assert set(rows["index"]) == set(np.unique(np.asarray(drawn.dataobj))) - {0}


def test_grids_of_the_series_differ_and_sites_too(made):
    def affine(site, path):
        return image(made, f"sub-{site}01/ses-01/{path.format(f'sub-{site}01_ses-01')}").affine

    vfa, afi = "anat/{}_flip-1_VFA.nii.gz", "fmap/{}_acq-tr1_TB1AFI.nii.gz"
    assert not np.allclose(affine("A", vfa), affine("A", afi))
    assert np.linalg.det(affine("A", vfa)[:3, :3]) < 0 < np.linalg.det(affine("B", vfa)[:3, :3])
    assert np.abs(affine("B", vfa)[0, 1]) > 0.01  # oblique


def sidecar(root, path):
    return json.loads((root / f"{path}.json").read_text())


def test_sidecars_have_what_the_app_needs(made):
    stem = "sub-A01/ses-01"
    vfa = [sidecar(made, f"{stem}/anat/sub-A01_ses-01_flip-{i}_VFA") for i in (1, 2, 3)]
    assert [s["FlipAngle"] for s in vfa] == [3, 10, 20]
    assert {s["RepetitionTimeExcitation"] for s in vfa} == {0.015}
    afi = [sidecar(made, f"{stem}/fmap/sub-A01_ses-01_acq-tr{i}_TB1AFI") for i in (1, 2)]
    assert [s["RepetitionTimeExcitation"] for s in afi] == [0.02, 0.1]
    for uri in afi[0]["IntendedFor"]:
        assert (made / uri.removeprefix("bids::")).is_file()
    dwi = sidecar(made, f"{stem}/dwi/sub-A01_ses-01_dwi")
    assert {"PhaseEncodingDirection", "TotalReadoutTime", "EchoTime"} <= set(dwi)


def test_gradient_files_match_the_volumes(made):
    stem = "sub-B01/ses-01/dwi/sub-B01_ses-01_dwi"
    n = image(made, f"{stem}.nii.gz").shape[3]
    b, g = (np.loadtxt(made / f"{stem}.{kind}") for kind in ("bval", "bvec"))
    assert b.shape == (n,) and g.shape == (3, n) and set(b) == {0, 800}
    np.testing.assert_allclose(np.linalg.norm(g, axis=0), b > 0, atol=1e-7)


def test_motion_is_told(made):
    path = "derivatives/truth/sub-A01/ses-01/dwi/sub-A01_ses-01_desc-confounds_timeseries"
    rows = read_table(made / f"{path}.tsv")
    size = np.sqrt((rows[["trans_x", "trans_y", "trans_z"]] ** 2).sum(axis=1).mean())
    assert size == pytest.approx(0.5, rel=1e-6)
    assert set(sidecar(made, path)) == set(rows.columns)


def test_sessions_share_the_truth_and_differ_in_place_and_noise(made):
    def t1s(session):
        stem = f"derivatives/truth/sub-A01/ses-{session}/anat/sub-A01_ses-{session}"
        return read_table(made / f"{stem}_desc-pure_dseg.tsv")["t1_s"].tolist()

    def t2w(session):
        stem = f"sub-A01/ses-{session}/anat/sub-A01_ses-{session}_T2w.nii.gz"
        return image(made, stem).get_fdata()

    assert t1s("01") == t1s("02")
    assert not np.allclose(t2w("01"), t2w("02"))


def hashes(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    one = PhantomOptions(sites=1, participants_per_site=1, small=True, seed=7)
    simulate_dataset(tmp_path / "a", one)
    simulate_dataset(tmp_path / "b", one)
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")


def test_another_modality_does_not_change_a_series(tmp_path):
    common = {"sites": 1, "participants_per_site": 1, "small": True}
    simulate_dataset(tmp_path / "all", PhantomOptions(**common))
    simulate_dataset(tmp_path / "b1", PhantomOptions(**common, modalities=("b1",)))
    every, fewer = hashes(tmp_path / "all"), hashes(tmp_path / "b1")
    images = [name for name in fewer if name.endswith(".nii.gz")]
    assert images and all(every[name] == fewer[name] for name in images)
    assert not any("VFA" in name or "dwi" in name for name in fewer)


def test_a_folder_that_holds_files_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(CannotCreateError, match="not empty"):
        simulate_dataset(tmp_path, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"sites": 0}, "--sites 0"), ({"sites": 27}, "--sites 27"),
        ({"participants_per_site": 0}, "--participants-per-site"),
        ({"groups": 3}, "--groups 3"), ({"snr": -1.0}, "--snr -1"),
        ({"snr": float("nan")}, "--snr nan"), ({"motion_mm": float("nan")}, "--motion"),
        ({"modalities": ("t9",)}, "t9: wanted some of t1 b1 dwi"), ({"seed": -1}, "--seed"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(changes, text):
    with pytest.raises(UsageError, match=text):
        PhantomOptions(**changes)


@pytest.mark.parametrize(
    "argv", [["--sites", "many"], ["--modalities", "t9"], ["--unknown"], ["--motion", "1"]]
)
def test_wrong_usage_is_64_and_makes_nothing(argv, tmp_path, capsys):
    out = tmp_path / "out"
    try:
        code = cli.main([str(out), *argv])
    except SystemExit as stop:
        code = stop.code
    assert code == ExitCode.USAGE == 64
    assert "mrn_prep-phantom: " in capsys.readouterr().err and not out.exists()


def test_a_place_that_cannot_be_made_is_73(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main([str(tmp_path / "file" / "out")]) == ExitCode.CANNOT_CREATE == 73
    assert "cannot be made" in capsys.readouterr().err


def test_the_command_says_what_it_made(tmp_path, capsys):
    argv = ["--sites", "1", "--participants-per-site", "1", "--small", "--modalities", "b1"]
    assert cli.main([str(tmp_path / "out"), *argv]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("sub-A01") and "done" in last
