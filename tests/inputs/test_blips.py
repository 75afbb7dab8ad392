"""Images with reversed phase encoding: which belong to a series, and what forbids using them."""

import json

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs import DWIInputs, find_inputs
from mrn_prep.inputs.select import Selection
from mrn_prep.inputs.voxels import check_voxels
from mrn_prep.io.dataset import Dataset
from mrn_prep.options import Options

SHAPE = (8, 8, 4)
DIRECTIONS = np.vstack([np.zeros(3), np.eye(3), [[0, 1, 1], [1, 0, 1], [1, 1, 0]] / np.sqrt(2)]).T


def image(root, name, shape=SHAPE, n=1, at_mm=(0, 0, 0), **sidecar):
    path = root / "sub-01" / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.ones((*shape, n) if n > 1 else shape, np.float32)
    affine = np.diag([2.0, 2, 4, 1])
    affine[:3, 3] = at_mm
    nb.Nifti1Image(data, affine).to_filename(path)
    path.with_name(f"{path.name[:-7]}.json").write_text(json.dumps(sidecar))


def series(root, name="dwi/sub-01_dwi", **sidecar):
    told = {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.04} | sidecar
    image(root, name, n=7, **{k: v for k, v in told.items() if v is not None})
    stem = root / "sub-01" / name
    np.savetxt(stem.with_suffix(".bval"), [[0] + [800] * 6], fmt="%g")
    np.savetxt(stem.with_suffix(".bvec"), DIRECTIONS, fmt="%.6f")


def blip(root, name="fmap/sub-01_dir-PA_epi", shape=SHAPE, **sidecar):
    told = {"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.05} | sidecar
    image(root, name, shape, **{k: v for k, v in told.items() if v is not None})


def found_in(root):
    found = find_inputs(Dataset(root), Selection((("01", None),)))
    assert [str(p) for p in found.problems if not p.is_remark] == []
    told = " ".join(str(problem) for problem in found.problems)
    return found.sessions[0].of(DWIInputs), told


def test_opposite_blip_of_the_session_is_taken(tmp_path):
    series(tmp_path)
    blip(tmp_path)
    (dwi,), _ = found_in(tmp_path)
    assert (dwi.pe_axis, dwi.pe_sign, dwi.readout_s) == (1, 1, 0.04)
    assert (dwi.blip.pe_sign, dwi.blip.readout_s, dwi.blip.volumes) == (-1, 0.05, (0,))
    assert dwi.sources[1].endswith("sub-01_dir-PA_epi.nii.gz")
    assert "blip_field" in {product.key for product in dwi.products(Options())}


def test_blip_that_names_the_series_comes_before_others(tmp_path):
    series(tmp_path)
    blip(tmp_path, "fmap/sub-01_run-1_epi")
    blip(tmp_path, "fmap/sub-01_run-2_epi", IntendedFor=["bids::sub-01/dwi/sub-01_dwi.nii.gz"])
    (dwi,), _ = found_in(tmp_path)
    assert dwi.blip.file.endswith("run-2_epi.nii.gz")


@pytest.mark.parametrize("key", ["B0FieldIdentifier", "B0FieldSource"])
def test_blip_of_the_same_field_identifier_comes_first(tmp_path, key):
    series(tmp_path, **{key: "pepolar0"})
    blip(tmp_path, "fmap/sub-01_run-1_epi")
    blip(tmp_path, "fmap/sub-01_run-2_epi", B0FieldIdentifier=["pepolar0"])
    (dwi,), _ = found_in(tmp_path)
    assert dwi.blip.file.endswith("run-2_epi.nii.gz")


def test_unweighted_reversed_series_in_dwi_counts(tmp_path):
    series(tmp_path)
    blip(tmp_path, "dwi/sub-01_dir-PA_dwi")
    stem = tmp_path / "sub-01/dwi/sub-01_dir-PA_dwi"
    stem.with_suffix(".bval").write_text("0\n")
    stem.with_suffix(".bvec").write_text("0\n0\n0\n")
    (dwi,), _ = found_in(tmp_path)
    assert dwi.blip.file.endswith("dir-PA_dwi.nii.gz")


def test_two_whole_series_of_opposite_blips_correct_one_another(tmp_path):
    series(tmp_path, "dwi/sub-01_dir-AP_dwi")
    series(tmp_path, "dwi/sub-01_dir-PA_dwi", PhaseEncodingDirection="j-")
    pair, _ = found_in(tmp_path)
    assert [dwi.blip.file.rpartition("dir-")[2][:2] for dwi in pair] == ["PA", "AP"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"PhaseEncodingDirection": "j"}, "has the same phase encoding as the series"),
        ({"PhaseEncodingDirection": "i-"}, "has its phase encoding along another axis"),
        ({"PhaseEncodingDirection": None}, "PhaseEncodingDirection is missing"),
        ({"TotalReadoutTime": None}, "TotalReadoutTime is missing or not in seconds"),
        ({"TotalReadoutTime": 45}, "TotalReadoutTime is missing or not in seconds"),
        ({"at_mm": (0, 6, 8)}, "lies elsewhere than the series (voxels up to 10.0 mm apart)"),
        ({"shape": (10, 8, 4)}, "has the matrix (10, 8, 4), the series (8, 8, 4)"),
    ],
)
def test_blip_that_cannot_be_used_is_told_and_costs_only_the_correction(tmp_path, wrong, sentence):
    series(tmp_path)
    blip(tmp_path, **wrong)
    (dwi,), told = found_in(tmp_path)
    assert dwi.blip is None
    assert f"{sentence}. Distortion of sub-01_dwi.nii.gz is not corrected." in told
    assert "blip_field" not in {product.key for product in dwi.products(Options())}


def test_blip_less_than_half_a_voxel_off_is_taken(tmp_path):
    series(tmp_path)
    blip(tmp_path, at_mm=(0, 0.3, 0.4))
    assert found_in(tmp_path)[0][0].blip is not None


@pytest.mark.parametrize("key", ["TotalReadoutTime", "PhaseEncodingDirection"])
def test_series_that_does_not_tell_its_encoding_is_not_corrected(tmp_path, key):
    series(tmp_path, **{key: None})
    blip(tmp_path)
    (dwi,), told = found_in(tmp_path)
    assert dwi.blip is None
    assert f"sub-01_dwi.json: {key} is missing. Distortion is not corrected" in told


@pytest.mark.parametrize("broken", ["no signal", "truncated"])
def test_blip_without_usable_voxels_costs_only_the_correction(tmp_path, broken):
    series(tmp_path)
    blip(tmp_path)
    path = tmp_path / "sub-01/fmap/sub-01_dir-PA_epi.nii.gz"
    if broken == "truncated":
        # whole in its header, which is read before
        noise = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        nb.Nifti1Image(noise, np.diag([2.0, 2, 4, 1])).to_filename(path)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        nb.Nifti1Image(np.zeros(SHAPE, np.float32), np.diag([2.0, 2, 4, 1])).to_filename(path)
    found = check_voxels(find_inputs(Dataset(tmp_path), Selection((("01", None),))))
    (dwi,) = found.sessions[0].of(DWIInputs)
    assert dwi.blip is None and len(dwi.sources) == 1
    (told,) = (str(problem) for problem in found.problems if not problem.is_remark)
    assert told.startswith("sub-01/fmap/sub-01_dir-PA_epi.nii.gz: ")
    assert told.endswith("Distortion is not corrected by it.")
