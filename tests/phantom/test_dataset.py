"""What is on disk: valid, complete, repeatable."""

import hashlib
import json
import subprocess
import sys

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.errors import CannotCreateError, ExitCode, UsageError
from mrn_prep.io.derivatives import map_path
from mrn_prep.io.names import parse
from mrn_prep.io.tables import read_table
from mrn_prep.outputs import OUTPUTS, Product
from mrn_prep.phantom import cli
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.geometry import REGIONS
from mrn_prep.phantom.options import B1_METHODS, MODALITIES, USUAL, PhantomOptions

OPTIONS = PhantomOptions(
    small=True, participants_per_site=1, sessions=2, groups=2, motion_mm=0.5, motion_deg=0.5,
    eddy_mm=1.0, seed=4, modalities=tuple(name for name in MODALITIES if name != "dce"),
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


# what the app makes of the series, and the label of those in whose names it is
PRODUCTS = {
    "": [
        Product("b1"), Product("t1"), Product("m0"), Product("t1", "ir"), Product("t2"),
        Product("m0", "mese"), Product("pdff", "mese"), Product("b1", "mese"), Product("t2w"),
        Product("pdff"), Product("t2star"), Product("r2star"), Product("water"), Product("fat"),
        Product("field"), Product("mtsat"), Product("mtr", "mts"), Product("t1", "mts"),
        Product("r1", "mts"), Product("m0", "mts"), Product("mtr"),
        *(Product(key) for key in ("fa", "md", "ad", "rd", "s0", "v1", "sigma")),
    ],
    "t2prep": [Product("t2", "t2prep"), Product("m0", "t2prep")],
    "dual": [Product("t2", "dual"), Product("m0", "dual")],
}  # fmt: skip


# Curves are made by one model, and what others would make of them is not known; an apparent
# diffusion coefficient is what the b-values make of tensor and perfusion.
NO_TRUTH = ("tofts_", "patlak_", "2cum_", "2cxm_", "semi_", "select_", "etofts_delay",
            "etofts_aicc", "adc", "blip_field", "density", "denoising_residual", "vessel", "gfa",
            "peaks")  # fmt: skip
ON_REQUEST = {
    *("etofts_ktrans", "etofts_kep", "etofts_ve", "etofts_vp"),
    *("ivim_f", "ivim_d", "ivim_dstar"),
}


def test_every_map_of_the_app_has_its_truth(made):
    known = {key for key in OUTPUTS if not key.startswith(NO_TRUTH)}
    made_here = {p.key for products in PRODUCTS.values() for p in products}
    assert made_here == known - ON_REQUEST and known > ON_REQUEST
    for acquisition, products in PRODUCTS.items():
        entities = {"subject": "A01", "session": "01"}
        entities |= {"acquisition": acquisition} if acquisition else {}
        for product in products:
            path = map_path(OUTPUTS[product.key], entities, method=product.method)
            truth = image(made / "derivatives/truth", path)
            assert np.isfinite(truth.get_fdata()).any(), path


# a file of each series, the maps on its grid, and what tells its labels apart
GRIDS = {
    "flip-1_VFA": ("", ["T1map", "R1map", "M0map"]),
    "echo-1_MESE": ("mese", ["T2map", "desc-mese_M0map", "desc-mese_PDFFmap"]),
    "echo-1_part-phase_MEGRE": (
        "megre", ["PDFFmap", "T2starmap", "R2starmap", "desc-water_MEGRE", "desc-fat_MEGRE"]
    ),
    "flip-1_mt-on_MTS": ("mts", ["MTsat", "desc-mts_MTRmap", "desc-mts_T1map", "desc-mts_R1map"]),
    "mt-on_MTR": ("mtr", ["MTRmap"]),
    "inv-1_IRT1": ("ir", ["desc-ir_T1map"]),
    "acq-t2prep_echo-1_MESE": ("t2prep", ["acq-t2prep_desc-t2prep_T2map"]),
    "acq-dual_echo-2_MESE": ("dual", ["acq-dual_desc-dual_T2map"]),
    "T2w": (None, ["desc-preproc_T2w"]),
}  # fmt: skip


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("site", "AB")
def test_truth_lies_on_the_grid_of_its_series(made, site, name):
    labels, maps = GRIDS[name]
    stem = f"sub-{site}01/ses-02/anat/sub-{site}01_ses-02"
    raw = image(made, f"{stem}_{name}.nii.gz")
    named = [] if labels is None else [f"desc-pure{labels}_dseg", f"desc-regions{labels}_probseg"]
    for one in (*maps, *named):
        truth = image(made, f"derivatives/truth/{stem}_{one}.nii.gz")
        assert truth.shape[:3] == raw.shape
        np.testing.assert_allclose(truth.affine, raw.affine, atol=1e-5)


# name of a map, its unit, and the column of the tissue's property with the factor to it
UNITS = {
    "anat/{}_T1map": ("s", "t1_s", 1), "anat/{}_T2map": ("s", "t2_s", 1),
    "anat/{}_T2starmap": ("s", "t2star_s", 1), "anat/{}_PDFFmap": ("percent", "fat_fraction", 100),
    "anat/{}_desc-mese_PDFFmap": ("percent", "fat_fraction", 100),
    "anat/{}_MTsat": ("percent", "mtsat_percent", 1),
    "dwi/{}_model-dti_param-md_dwimap": ("mm^2/s", "md_mm2_s", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", UNITS)
def test_truth_is_in_the_units_of_the_outputs(made, name):
    units, column, factor = UNITS[name]
    stem = f"derivatives/truth/sub-A01/ses-01/{name.format('sub-A01_ses-01')}"
    assert sidecar(made, stem)["Units"] == units
    rows = read_table(made / "derivatives/truth/sub-A01/ses-01/anat/"
                      "sub-A01_ses-01_desc-pure_dseg.tsv").set_index("name")  # fmt: skip
    values = image(made, f"{stem}.nii.gz").get_fdata()
    # the value that most voxels have is that of muscle
    found = np.nanmedian(values)
    assert found == pytest.approx(factor * rows.loc["vastus", column], rel=1e-4)


def test_b1_and_mtr_are_in_percent(made):
    stem = "derivatives/truth/sub-A01/ses-01"
    b1 = image(made, f"{stem}/fmap/sub-A01_ses-01_TB1map.nii.gz").get_fdata()
    mtr = image(made, f"{stem}/anat/sub-A01_ses-01_desc-mts_MTRmap.nii.gz").get_fdata()
    assert 60 < np.nanmedian(b1) < 120 and 20 < np.nanmedian(mtr) < 40


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


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("echo-17_MESE", "EchoTime", 0.1615), ("echo-6_part-mag_MEGRE", "EchoTime", 0.0067),
        ("echo-1_part-phase_MEGRE", "Units", "arbitrary"),
        ("echo-1_part-phase_MEGRE", "MagneticFieldStrength", 3.0),
        ("flip-1_mt-on_MTS", "MTState", True), ("flip-1_mt-off_MTS", "MTState", False),
        ("flip-2_mt-off_MTS", "FlipAngle", 15.0),
        ("flip-2_mt-off_MTS", "RepetitionTimeExcitation", 0.015),
        ("mt-on_MTR", "MTState", True), ("inv-6_IRT1", "InversionTime", 3.5),
        ("acq-t2prep_echo-4_MESE", "EchoTime", 0.08), ("acq-dual_echo-2_MESE", "EchoTime", 0.078),
    ],
)  # fmt: skip
def test_series_tell_their_timing(made, name, key, expected):
    found = sidecar(made, f"sub-A01/ses-01/anat/sub-A01_ses-01_{name}")[key]
    assert found == expected and type(found) is type(expected)


def test_b1_is_meant_for_every_quantitative_series(made):
    intended = sidecar(made, "sub-A01/ses-01/fmap/sub-A01_ses-01_acq-tr1_TB1AFI")["IntendedFor"]
    folder = made / "sub-A01/ses-01/anat"
    quantitative = {p.name for p in folder.glob("*.nii.gz") if not p.name.endswith("_T2w.nii.gz")}
    assert {uri.rsplit("/", 1)[1] for uri in intended} == quantitative


@pytest.mark.parametrize("method", B1_METHODS)
def test_b1_as_each_method_stores_it_is_valid(method, tmp_path):
    options = PhantomOptions(
        participants_per_site=1, small=True, modalities=("b1",), b1_method=method
    )
    simulate_dataset(tmp_path / "bids", options)
    files = {
        "afi": ["acq-tr1_TB1AFI", "acq-tr2_TB1AFI"], "dam": ["flip-1_TB1DAM", "flip-2_TB1DAM"],
        "tfl": ["acq-anat_TB1TFL", "acq-famp_TB1TFL"],
        "rfm": ["acq-anat_TB1RFM", "acq-famp_TB1RFM"], "map": ["TB1map"],
    }[method]  # fmt: skip
    found = (tmp_path / "bids/sub-B01/fmap").glob("*.nii.gz")
    assert sorted(path.name for path in found) == [f"sub-B01_{name}.nii.gz" for name in files]
    desc = {} if method == "afi" else {"desc": method}
    truth = (tmp_path / "bids/derivatives/truth/sub-B01/fmap").glob("*_TB1map.nii.gz")
    assert [parse(str(path)).get("desc") for path in truth] == [desc.get("desc")]
    for folder in (".", "derivatives/truth"):
        assert problems(tmp_path / "bids" / folder, tmp_path) == []


def test_off_resonance_is_as_large_as_asked_for(tmp_path):
    options = PhantomOptions(
        sites=1, participants_per_site=1, small=True, modalities=("fatwater",), b0_hz=300.0
    )
    simulate_dataset(tmp_path, options)
    path = "derivatives/truth/sub-A01/fmap/sub-A01_desc-fatwater_fieldmap.nii.gz"
    field = image(tmp_path, path).get_fdata()
    assert 270 < np.nanmax(np.abs(field)) < 320
    assert np.nanmin(field) < -150 and np.nanmax(field) > 150


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


def test_what_costs_more_is_made_only_when_asked_for(tmp_path):
    assert set(MODALITIES) - set(USUAL) == {"ir", "t2prep", "dual", "mtr", "dce"}
    simulate_dataset(tmp_path, PhantomOptions(sites=1, participants_per_site=1, small=True))
    names = [path.name for path in (tmp_path / "sub-A01").rglob("*.nii.gz")]
    assert sum("_MESE" in name for name in names) == 17
    assert sum("_MEGRE" in name for name in names) == 12
    assert sum("_MTS" in name for name in names) == 3
    assert not any("IRT1" in name or "MTR" in name or "acq-dual" in name for name in names)


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
        ({"modalities": ("t9",)}, "t9: wanted some of t1 b1 t2"), ({"seed": -1}, "--seed"),
        ({"b1_method": "guess"}, "--b1-method guess: wanted one of afi dam"),
        ({"b_values": (10.0, 0.0)}, "--b-values 0"), ({"b_values": (9e3,)}, "--b-values 9000"),
        ({"b0_hz": -1.0}, "--b0 -1"), ({"b0_hz": float("nan")}, "--b0 nan"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(changes, text):
    with pytest.raises(UsageError, match=text):
        PhantomOptions(**changes)


@pytest.mark.parametrize(
    "argv",
    [
        ["--sites", "many"],
        ["--modalities", "t9"],
        ["--unknown"],
        ["--motion", "1"],
        ["--b1-method", "guess"],
        ["--b0", "much"],
        ["--b-values", "low"],
    ],
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
