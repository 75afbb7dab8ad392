import json

import pytest

from mrn_prep.io.dataset import Dataset
from mrn_prep.io.names import build, parse


def write(root, path, content=None):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content) if content is not None else "")


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "VFA.json", {"RepetitionTimeExcitation": 0.01, "MagneticFieldStrength": 3})
    write(tmp_path, "flip-1_VFA.json", {"FlipAngle": 3})
    write(tmp_path, "participants.json", {"site": {}})
    write(tmp_path, "sub-1/sub-1_VFA.json", {"RepetitionTimeExcitation": 0.012})
    write(tmp_path, "sub-1/ses-a/sub-1_ses-a_acq-x_VFA.json", {"EchoTime": 0.002})
    write(tmp_path, "sub-1/ses-a/anat/sub-1_ses-a_flip-1_VFA.nii.gz")
    write(tmp_path, "sub-1/ses-a/anat/sub-1_ses-a_acq-x_flip-1_VFA.nii.gz")
    write(
        tmp_path, "sub-1/ses-a/anat/sub-1_ses-a_acq-x_flip-1_VFA.json",
        {"RepetitionTimeExcitation": 0.02},
    )  # fmt: skip
    write(tmp_path, "dwi.bval")
    write(tmp_path, "sub-1/ses-a/dwi/sub-1_ses-a_dwi.nii.gz")
    return tmp_path


def file_named(dataset, name):
    (file,) = (f for f in dataset.files("1", "a") if f.name == name)
    return file


def test_deeper_sidecars_win_and_all_that_apply_count(root):
    dataset = Dataset(root)
    metadata = dataset.metadata(file_named(dataset, "sub-1_ses-a_acq-x_flip-1_VFA.nii.gz"))
    assert metadata.values == {
        "RepetitionTimeExcitation": 0.02, "MagneticFieldStrength": 3, "FlipAngle": 3,
        "EchoTime": 0.002,
    }  # fmt: skip
    assert metadata.origin["FlipAngle"] == "flip-1_VFA.json"
    assert metadata.sidecar == "sub-1_ses-a_acq-x_flip-1_VFA.json"


def test_a_sidecar_of_another_series_does_not_apply(root):
    dataset = Dataset(root)
    metadata = dataset.metadata(file_named(dataset, "sub-1_ses-a_flip-1_VFA.nii.gz"))
    assert "EchoTime" not in metadata.values
    assert metadata.values["RepetitionTimeExcitation"] == 0.012


def test_gradient_tables_are_inherited_too(root):
    dataset = Dataset(root)
    dwi = file_named(dataset, "sub-1_ses-a_dwi.nii.gz")
    assert [f.path for f in dataset.applicable(dwi, ".bval")] == ["dwi.bval"]


def test_a_sidecar_that_cannot_be_read_is_a_fault_and_hides_no_other(root):
    (root / "sub-1/sub-1_VFA.json").write_bytes(b'{"x": "\xff"}')
    dataset = Dataset(root)
    metadata = dataset.metadata(file_named(dataset, "sub-1_ses-a_flip-1_VFA.nii.gz"))
    assert [path for path, *_ in metadata.faults] == ["sub-1/sub-1_VFA.json"]
    assert metadata.values["FlipAngle"] == 3


def test_sessions_and_participants_are_found_without_prefix(root):
    dataset = Dataset(root)
    assert dataset.subjects == ("1",)
    assert dataset.sessions("1") == ("a",)
    assert Dataset(root / "nowhere").subjects == ()


@pytest.mark.parametrize(
    "path",
    [
        "sub-01/anat/sub-01_T1map.nii.gz",
        "sub-01/ses-b/dwi/sub-01_ses-b_acq-x_dir-AP_run-02_model-dti_param-fa_desc-se_dwimap.nii.gz",
        "sub-01/anat/sub-01_flip-1_mt-on_MTS.json",
    ],
)
def test_names_are_read_and_made_alike(path):
    assert build(parse(path)) == path


def test_a_name_with_an_unknown_entity_is_not_made():
    with pytest.raises(ValueError, match="No BIDS name"):
        build({"subject": "1", "suffix": "x", "extension": ".nii", "flavour": "sweet"})
