"""Which phase belongs to a diffusion series, and why it is not used."""

import json
import shutil

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.errors import ExitCode
from mrn_prep.inputs import DWIInputs, find_inputs
from mrn_prep.inputs.select import Selection
from mrn_prep.inputs.voxels import check_voxels
from mrn_prep.io.dataset import Dataset
from mrn_prep.options import Options

AFFINE = np.diag([2.0, 2, 4, 1])
SIX = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, -1], [1, 0, -1], [1, -1, 0]]) / np.sqrt(2)
SHAPE = (8, 8, 4, 7)
ALONE = "The series goes on by magnitudes alone."


def image(root, name, data, affine=AFFINE):
    stem = root / "sub-01/dwi" / f"sub-01_{name}_dwi"
    stem.parent.mkdir(parents=True, exist_ok=True)
    nb.Nifti1Image(np.asarray(data, np.float32), affine).to_filename(f"{stem}.nii.gz")
    told = {"PhaseEncodingDirection": "j", "EchoTime": 0.06, "RepetitionTime": 5.0}
    stem.with_suffix(".json").write_text(json.dumps(told))
    np.savetxt(stem.with_suffix(".bval"), [[0, *[800] * 6]], fmt="%g")
    np.savetxt(stem.with_suffix(".bvec"), np.vstack([np.zeros(3), SIX]).T, fmt="%.8f")


def radians(shape=SHAPE):
    return np.random.default_rng(0).uniform(-np.pi, np.pi, shape)


def magnitude(root, name, **how):
    image(root, name, np.ones(SHAPE), **how)


def found_in(root, options=None):
    found = find_inputs(Dataset(root), Selection((("01", None),)), options=options)
    return found, found.sessions[0].of(DWIInputs), " ".join(map(str, found.problems))


def test_phase_beside_the_magnitude_is_taken_and_listed(tmp_path):
    magnitude(tmp_path, "part-mag")
    image(tmp_path, "part-phase", radians())
    found, (dwi,), told = found_in(tmp_path)
    assert [path.rpartition("_part-")[2] for path in dwi.phase_files] == ["phase_dwi.nii.gz"]
    assert [source.rpartition("_part-")[2] for source in dwi.sources] == [
        "mag_dwi.nii.gz", "phase_dwi.nii.gz",
    ]  # fmt: skip
    assert "part" not in dwi.entities
    assert "with phase" in dwi.description and ALONE not in told
    assert dwi.memory_gb > dwi.without_phase().memory_gb
    assert check_voxels(found).sessions[0].of(DWIInputs) == (dwi,)


def test_magnitude_alone_and_phase_unasked_for_are_as_ever(tmp_path):
    magnitude(tmp_path, "part-mag")
    _, (alone,), _ = found_in(tmp_path)
    image(tmp_path, "part-phase", radians())
    off = Options().with_values("dwi", {"phase": False})
    _, (unasked,), told = found_in(tmp_path, off)
    assert alone == unasked and alone.phase_files == ()
    assert "with phase" not in alone.description and ALONE not in told


def test_phase_alone_is_no_series(tmp_path):
    image(tmp_path, "part-phase", radians())
    assert found_in(tmp_path)[1] == ()


def test_each_run_has_its_own(tmp_path):
    for run in (1, 2):
        magnitude(tmp_path, f"run-{run}_part-mag")
        image(tmp_path, f"run-{run}_part-phase", radians())
    _, (dwi,), _ = found_in(tmp_path)
    runs = [[path.rpartition("run-")[2][0] for path in f] for f in (dwi.files, dwi.phase_files)]
    assert runs == [["1", "2"], ["1", "2"]]
    assert len(dwi.sources) == 4
    assert dwi.without_phase().sources == dwi.sources[:2]


def test_phase_for_one_run_only_is_told_and_not_used(tmp_path):
    for run in (1, 2):
        magnitude(tmp_path, f"run-{run}_part-mag")
    image(tmp_path, "run-1_part-phase", radians())
    _, (dwi,), told = found_in(tmp_path)
    assert len(dwi.files) == 2 and dwi.phase_files == () and len(dwi.sources) == 2
    assert (
        "sub-01/dwi/sub-01_run-2_part-mag_dwi.nii.gz: has no part-phase beside it, "
        f"sub-01_run-1_part-phase_dwi.nii.gz is that of another part. {ALONE}" in told
    )


@pytest.mark.parametrize(
    ("shape", "affine", "why"),
    [
        (SHAPE, np.diag([2.0, 2, 5, 1]), "its affine differs"),
        ((8, 9, 4, 7), AFFINE, "its shape (8, 9, 4) differs from (8, 8, 4)"),
        ((8, 8, 4, 6), AFFINE, "has 6 volumes, the magnitude 7"),
    ],
)  # fmt: skip
def test_phase_on_another_grid_is_told_and_not_used(tmp_path, shape, affine, why):
    magnitude(tmp_path, "part-mag")
    image(tmp_path, "part-phase", radians(shape), affine)
    found, (dwi,), told = found_in(tmp_path)
    assert dwi.phase_files == () and all(problem.is_remark for problem in found.problems)
    assert f"sub-01/dwi/sub-01_part-phase_dwi.nii.gz: {why}. {ALONE}" in told


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 50, "Phases range from 0 to 49"),
        (np.full(SHAPE, np.nan), "voxels are not finite"),
    ],
)
def test_phase_of_unknown_unit_is_a_problem_and_the_series_goes_on(tmp_path, values, what):
    magnitude(tmp_path, "part-mag")
    image(tmp_path, "part-phase", values)
    found = check_voxels(found_in(tmp_path)[0])
    (dwi,) = found.sessions[0].of(DWIInputs)
    assert dwi.phase_files == () and len(dwi.sources) == 1
    (fault,) = [problem for problem in found.problems if not problem.is_remark]
    assert fault.where == "sub-01/dwi/sub-01_part-phase_dwi.nii.gz" and what in fault.what
    assert (fault.code, fault.costs) == (ExitCode.BAD_DATA, ALONE[:-1])


def test_phase_that_is_not_there_costs_the_phase_only(tmp_path):
    magnitude(tmp_path, "part-mag")
    image(tmp_path, "part-phase", radians())
    file = tmp_path / "sub-01/dwi/sub-01_part-phase_dwi.nii.gz"
    shutil.move(file, tmp_path / "elsewhere")
    file.symlink_to("nowhere")
    _, (dwi,), told = found_in(tmp_path)
    assert dwi.phase_files == ()
    assert f"is a link to a file that is not there. {ALONE}" in told
