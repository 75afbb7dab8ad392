"""Which diffusion files are one series, under which name, and why others are not."""

import json

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs import DWIInputs, find_inputs
from mrn_prep.inputs.select import Selection
from mrn_prep.io.dataset import Dataset
from mrn_prep.options import Options

AFFINE = np.diag([2.0, 2, 4, 1])
SIX = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, -1], [1, 0, -1], [1, -1, 0]]) / np.sqrt(2)
PROTOCOL = {"PhaseEncodingDirection": "j", "TotalReadoutTime": 0.04, "EchoTime": 0.06,
            "RepetitionTime": 5.0, "MagneticFieldStrength": 3}  # fmt: skip
APART = Options().with_values("dwi", {"combine": False})


def run(root, name, b=(0, 800), affine=AFFINE, **sidecar):
    """Write a series: one image at the first b-value, and six directions at each other."""
    bvals = [b[0], *(value for value in b[1:] for _ in range(6))]
    bvecs = np.vstack([np.zeros(3) if b[0] <= 5 else SIX[0], *(SIX for _ in b[1:])])
    stem = root / "sub-01/dwi" / f"sub-01_{name}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    data = np.ones((8, 8, 4, len(bvals)), np.float32)
    nb.Nifti1Image(data, affine).to_filename(stem.with_suffix(".nii.gz"))
    told = {k: v for k, v in (PROTOCOL | sidecar).items() if v is not None}
    stem.with_suffix(".json").write_text(json.dumps(told))
    np.savetxt(stem.with_suffix(".bval"), [bvals], fmt="%g")
    np.savetxt(stem.with_suffix(".bvec"), bvecs.T, fmt="%.8f")


def found_in(root, options=None):
    found = find_inputs(Dataset(root), Selection((("01", None),)), options=options)
    assert [str(p) for p in found.problems if not p.is_remark] == []
    return found.sessions[0].of(DWIInputs), " ".join(str(p) for p in found.problems)


def names(series):
    return [[path.rpartition("sub-01_")[2][:-7] for path in one.files] for one in series]


def own(one):
    return {k: v for k, v in one.entities.items() if k in ("run", "acquisition", "direction")}


def test_runs_are_one_series_that_has_no_run_in_its_name(tmp_path):
    run(tmp_path, "run-1_dwi")
    run(tmp_path, "run-2_dwi")
    (dwi,), told = found_in(tmp_path)
    assert names([dwi]) == [["run-1_dwi", "run-2_dwi"]]
    assert dwi.b_s_mm2 == (0.0, *[800.0] * 6) * 2
    assert (dwi.grid.n_volumes, dwi.n_directions, own(dwi)) == (14, 6, {})
    assert [len(files) for files in (dwi.bval_files, dwi.bvec_files, dwi.sources)] == [2, 2, 2]
    assert dwi.size_gb * 2**30 == 4 * 8 * 8 * 4 * 14
    assert "2 files taken together" in dwi.description
    assert "not combined" not in told


def test_shells_in_files_of_their_own_are_one_series(tmp_path):
    run(tmp_path, "acq-b400_dwi", (0, 400))
    run(tmp_path, "acq-b800_dwi", (0, 800), RepetitionTime=5.3)
    (dwi,), _ = found_in(tmp_path)
    assert own(dwi) == {}
    assert dwi.sequence_class == "DWI-3T-TE60-b400-800-n12"


def test_one_without_an_unweighted_image_lives_on_those_of_the_other(tmp_path):
    run(tmp_path, "run-1_dwi")
    run(tmp_path, "run-2_dwi", (800, 800))
    (dwi,), told = found_in(tmp_path)
    assert dwi.has_tensor and "no tensor" not in told
    alone = find_inputs(Dataset(tmp_path), Selection((("01", None),)), options=APART)
    assert len(alone.sessions[0].of(DWIInputs)) == 1
    assert "run-2_dwi.bval: all volumes have b near 800" in " ".join(map(str, alone.problems))


def test_unweighted_run_of_the_same_blips_joins(tmp_path):
    run(tmp_path, "run-1_dwi", (0,))
    run(tmp_path, "run-2_dwi", (0, 800))
    (dwi,), told = found_in(tmp_path)
    assert dwi.b_s_mm2 == (0.0, 0.0, *[800.0] * 6)
    assert "It is left" not in told


def test_files_alone_on_request(tmp_path):
    run(tmp_path, "run-1_dwi")
    run(tmp_path, "run-2_dwi")
    both, told = found_in(tmp_path, APART)
    assert [own(one) for one in both] == [{"run": "1"}, {"run": "2"}]
    assert "not combined" not in told


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"EchoTime": 0.07}, "EchoTime differs: 0.06 and 0.07"),
        ({"TotalReadoutTime": 0.05}, "TotalReadoutTime differs: 0.04 and 0.05"),
        ({"TotalReadoutTime": None}, "TotalReadoutTime differs: 0.04 and missing"),
        ({"RepetitionTime": 3.0}, "RepetitionTime differs: 5.0 and 3.0"),
        ({"affine": np.diag([2.0, 2, 5, 1])}, "its affine differs"),
    ],
)  # fmt: skip
def test_runs_of_another_protocol_stay_apart_and_it_is_told(tmp_path, other, why):
    run(tmp_path, "run-1_dwi")
    run(tmp_path, "run-2_dwi", **other)
    both, told = found_in(tmp_path)
    assert [own(one) for one in both] == [{"run": "1"}, {"run": "2"}]
    assert (
        f"sub-01_run-2_dwi.nii.gz: is not combined with other runs: {why} "
        "(sub-01_run-1_dwi.nii.gz). It is a series of its own." in told
    )


def test_acquisitions_of_the_same_b_values_are_repeats_and_stay_apart(tmp_path):
    run(tmp_path, "acq-a_dwi", (0, 800))
    run(tmp_path, "acq-b_dwi", (0, 795))
    both, told = found_in(tmp_path)
    assert [own(one) for one in both] == [{"acquisition": "a"}, {"acquisition": "b"}]
    assert "acq- differs and the b-values are those of sub-01_acq-a_dwi.nii.gz" in told


def test_what_differs_in_another_entity_stays_apart(tmp_path):
    run(tmp_path, "rec-a_dwi")
    run(tmp_path, "rec-b_dwi")
    assert len(found_in(tmp_path)[0]) == 2


def test_two_series_never_have_one_name(tmp_path):
    for i, te in enumerate((0.06, 0.06, 0.07, 0.07), start=1):
        run(tmp_path, f"run-{i}_dwi", EchoTime=te)
    both, _ = found_in(tmp_path)
    assert names(both) == [["run-1_dwi", "run-2_dwi"], ["run-3_dwi", "run-4_dwi"]]
    assert [own(one) for one in both] == [{}, {"run": "3"}]


def test_runs_of_opposite_blips_correct_one_another(tmp_path):
    for i, pe in enumerate(("j", "j", "j-", "j-"), start=1):
        run(tmp_path, f"run-{i}_dwi", PhaseEncodingDirection=pe)
    both, told = found_in(tmp_path)
    assert names(both) == [["run-1_dwi", "run-2_dwi"], ["run-3_dwi", "run-4_dwi"]]
    blips = [one.blip.file.rpartition("sub-01_")[2][:5] for one in both]
    assert blips == ["run-3", "run-1"]
    assert "not combined" not in told


def test_blip_that_names_any_part_is_taken_first(tmp_path):
    run(tmp_path, "run-1_dwi")
    run(tmp_path, "run-2_dwi")
    fmap = tmp_path / "sub-01/fmap"
    fmap.mkdir()
    told = {"PhaseEncodingDirection": "j-", "TotalReadoutTime": 0.04}
    for name, more in (
        ("a", {}),
        ("b", {"IntendedFor": ["bids::sub-01/dwi/sub-01_run-2_dwi.nii.gz"]}),
    ):
        nb.Nifti1Image(np.ones((8, 8, 4), np.float32), AFFINE).to_filename(
            fmap / f"sub-01_acq-{name}_epi.nii.gz"
        )
        (fmap / f"sub-01_acq-{name}_epi.json").write_text(json.dumps(told | more))
    (dwi,), _ = found_in(tmp_path)
    assert dwi.blip.file.endswith("acq-b_epi.nii.gz")


@pytest.mark.parametrize("half", [True, False])
def test_half_a_sphere_is_told_and_a_whole_one_is_not(tmp_path, half):
    run(tmp_path, "dwi")
    signs = np.sign(SIX @ [0.3, 0.5, 0.9]) * (1 if half else np.array([1, -1, 1, -1, 1, -1]))
    rows = np.vstack([np.zeros(3), SIX * signs[:, None]]).T
    np.savetxt(tmp_path / "sub-01/dwi/sub-01_dwi.bvec", rows, fmt="%.8f")
    (_,), told = found_in(tmp_path)
    sentence = (
        "sub-01_dwi.bvec: the directions cover one half of the sphere. Motion and eddy currents "
        "can be told apart in part only (flagged half-sphere)."
    )
    assert (sentence in told) is half


@pytest.mark.parametrize(
    ("b", "said"),
    [
        ((0, 10, 20, 40, 80, 800), "there are 5 and 1"),
        ((0, 20, 80, 400, 800), "there are 3 and 2"),
        ((0, 10, 20, 40, 80, 400, 800), ""),
        ((0, 100, 800), ""),
    ],
    ids=["one strong weighting", "three weak ones", "enough", "not meant for it"],
)
def test_what_ivim_lacks_is_told_where_the_series_seems_made_for_it(tmp_path, b, said):
    run(tmp_path, "dwi", b=b)
    (dwi,), told = found_in(tmp_path)
    assert dwi.has_ivim(Options()) == (b[-2] == 400 and not said)
    assert ("sub-01_dwi.nii.gz: IVIM needs 4 b-values below 200 s/mm2" in told) == bool(said)
    assert said in told
    assert "IVIM" not in found_in(tmp_path, Options().with_values("dwi", {"ivim": "none"}))[1]


def test_table_in_a_column_is_read_as_one_in_a_row(tmp_path):
    run(tmp_path, "dwi")
    path = tmp_path / "sub-01/dwi/sub-01_dwi.bval"
    path.write_text("\n".join(path.read_text().split()) + "\n")
    (dwi,), _ = found_in(tmp_path)
    assert dwi.b_s_mm2 == (0.0, *[800.0] * 6)
