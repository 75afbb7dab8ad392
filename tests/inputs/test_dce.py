"""The dynamic series: found as it should be, and what can be wrong with it."""

import json

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs.dce import HEMATOCRIT, find_dce
from mrn_prep.io.dataset import Dataset
from mrn_prep.models.noise import rician_noise
from mrn_prep.options import Options

N = 12
T_S = [4.0 * i for i in range(N)]
SIDECAR = {
    "VolumeTiming": T_S,
    "FlipAngle": 15,
    "RepetitionTimeExcitation": 0.005,
    "MagneticFieldStrength": 3,
    "ContrastAgent": "gadobutrol",
    "ContrastDose": 0.1,
    "Hematocrit": 0.42,
    "InjectionStart": 13,
}
COSTS = "DCE of sub-01 is left out"


def signal():
    clean = np.broadcast_to(100.0 + np.arange(N), (6, 6, 3, N))
    return rician_noise(clean, 3.0, np.random.default_rng(0)).astype(np.float32)


def write(root, values=None, *, name="sub-01_dce", folder="perf", without=(), **sidecar):
    path = root / "sub-01" / folder / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    nb.Nifti1Image(signal() if values is None else values, np.eye(4)).to_filename(path)
    content = {k: v for k, v in (SIDECAR | sidecar).items() if k not in without}
    path.with_name(f"{name}.json").write_text(json.dumps(content))
    return path


def find(root, **more):
    dataset = Dataset(root)
    return find_dce(dataset, dataset.files("01", None), (), COSTS, **more)


def one(root, **more):
    (found,), problems = find(root, **more)
    assert [str(p) for p in problems if not p.is_remark] == []
    return found


def faults(root):
    found, problems = find(root)
    said = " ".join(str(p) for p in problems if not p.is_remark)
    assert not (found and said)
    return said


def remarks(root):
    return " ".join(str(p) for p in find(root)[1] if p.is_remark)


def t1_map(root, values):
    path = root / "t1" / "sub-01" / "anat" / "sub-01_T1map.nii.gz"
    path.parent.mkdir(parents=True)
    nb.Nifti1Image(np.full((4, 4, 2), values, np.float32), np.eye(4)).to_filename(path)
    other = Dataset(root / "t1")
    (file,) = other.files("01", None)
    return {"maps": [(other, file)]}


@pytest.mark.parametrize(("folder", "name"), [("perf", "sub-01_dce"), ("dce", "sub-01_DCE")])
def test_series_is_found_in_either_folder_and_case(tmp_path, folder, name):
    write(tmp_path, folder=folder, name=name)
    found = one(tmp_path)
    assert (found.t_s, found.flip_deg, found.tr_s) == (tuple(T_S), 15, 0.005)
    assert found.relaxivity_per_mm_per_s == 4.5
    assert "Shen" in found.relaxivity_source
    assert found.entities["datatype"] == "perf"


def test_products_are_those_of_the_model(tmp_path):
    write(tmp_path)
    keys = {p.key for p in one(tmp_path).products(Options())}
    assert {"etofts_ktrans", "semi_iauc60", "dce", "aif", "curves", "dce_confounds"} <= keys
    still = Options().with_values("dce", {"motion": "none", "model": "patlak"})
    keys = {p.key for p in one(tmp_path).products(still)}
    assert "dce_confounds" not in keys
    assert not {k for k in keys if k.startswith("etofts")}


# --- times


def test_temporal_resolution_tells_times_where_nothing_better_does(tmp_path):
    write(tmp_path, without=("VolumeTiming",), TemporalResolution=2.5, InjectionStart=10)
    assert one(tmp_path).t_s == tuple(2.5 * i for i in range(N))
    write(tmp_path, TemporalResolution=2.5)
    assert one(tmp_path).t_s == tuple(T_S)


def test_repetition_time_is_not_taken_for_frame_times(tmp_path):
    write(tmp_path, without=("VolumeTiming",), RepetitionTime=4)
    assert "there are no frame times; wanted VolumeTiming" in faults(tmp_path)


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        (T_S[:-1], "VolumeTiming has 11 times; wanted 12"),
        ([0, 4, 4, *T_S[3:]], "VolumeTiming does not increase"),
        (T_S[::-1], "VolumeTiming does not increase"),
        ([1000 * t for t in T_S], "steps of 4000 (it looks like milliseconds)"),
        ("0 4 8", "VolumeTiming is no list of numbers"),
        ([None, *T_S[1:]], "VolumeTiming is no list of numbers"),
        ([True, *T_S[1:]], "VolumeTiming is no list of numbers"),
    ],
)
def test_bad_times_are_named(tmp_path, times, sentence):
    write(tmp_path, VolumeTiming=times)
    assert sentence in faults(tmp_path)


def test_three_dimensional_image_is_no_series(tmp_path):
    write(tmp_path, signal()[..., 0], VolumeTiming=[0.0])
    assert "the series has 1 frames; wanted 8 or more" in faults(tmp_path)


# --- injection, agent, blood


@pytest.mark.parametrize(
    ("injection", "sentence"),
    [
        (0, "InjectionStart is 0 s, before the first frame (0 s); there is no baseline"),
        (-5, "before the first frame"),
        (3, "1 frame(s) come before InjectionStart (3 s); the baseline needs 2"),
        (100, "after the last frame (44 s)"),
    ],
)
def test_injection_that_leaves_no_baseline_is_named(tmp_path, injection, sentence):
    write(tmp_path, InjectionStart=injection)
    assert sentence in faults(tmp_path)


def test_unknown_injection_is_left_to_the_curves(tmp_path):
    write(tmp_path, without=("InjectionStart",))
    assert one(tmp_path).injection_s is None


@pytest.mark.parametrize(
    ("without", "told", "sentence"),
    [
        (("ContrastAgent",), {}, "the contrast agent is not known; wanted ContrastAgent"),
        ((), {"ContrastAgent": "gadopiclenol"}, "No relaxivity of gadopiclenol in blood is known"),
        ((), {"MagneticFieldStrength": 0.55}, "gadobutrol in blood at 0.55 T is known, only at"),
        ((), {"Relaxivity": 4500}, "Relaxivity is 4500 (wanted 1/(mM s))"),
        (("MagneticFieldStrength",), {}, "MagneticFieldStrength is missing; DCE needs it"),
    ],
)
def test_relaxivity_is_never_guessed(tmp_path, without, told, sentence):
    write(tmp_path, without=without, **told)
    assert sentence in faults(tmp_path)


def test_relaxivity_of_the_sidecar_counts_first(tmp_path):
    write(tmp_path, Relaxivity=3.5, ContrastAgent="gadopiclenol")
    assert one(tmp_path).relaxivity_per_mm_per_s == 3.5


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (42, "Hematocrit is 42 (it looks like percent)"),
        (0, "Hematocrit is 0; wanted 0.1 to 0.75"),
        ("0.42", 'Hematocrit is the text "0.42"'),
    ],
)
def test_bad_haematocrit_is_named(tmp_path, value, sentence):
    write(tmp_path, Hematocrit=value)
    assert sentence in faults(tmp_path)


def test_unknown_haematocrit_is_assumed_and_told(tmp_path):
    write(tmp_path, without=("Hematocrit",))
    found = one(tmp_path)
    assert (found.hematocrit, found.hematocrit_known) == (HEMATOCRIT, False)
    assert "flagged hematocrit-assumed" in remarks(tmp_path)


@pytest.mark.parametrize(("field_t", "t1_s"), [(1.5, 1.48), (3.0, 1.65), (2.89, 1.65)])
def test_blood_has_the_t1_of_the_field(tmp_path, field_t, t1_s):
    write(tmp_path, MagneticFieldStrength=field_t)
    assert one(tmp_path).blood_t1_s == t1_s


# --- train of pulses


def test_fat_saturation_of_unknown_rhythm_is_told(tmp_path):
    write(tmp_path, ScanOptions=["PFP", "FS"])
    assert one(tmp_path).fat_saturated
    assert "ShotLength and ShotGap would tell" in remarks(tmp_path)


def test_interrupted_train_is_taken_from_the_sidecar(tmp_path):
    write(tmp_path, ScanOptions="FS", ShotLength=30, ShotGap=0.02)
    found = one(tmp_path)
    assert (found.n_pulses, found.gap_s, found.centre) == (30, 0.02, 15)
    assert "ShotLength" not in remarks(tmp_path)


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"ShotLength": 30}, "ShotLength is there without ShotGap"),
        ({"ShotLength": 30, "ShotGap": 0.02, "ShotCentre": 30}, "ShotCentre is 30"),
        ({"ShotLength": 30.5, "ShotGap": 0.02}, "ShotLength is 30.5"),
    ],
)
def test_impossible_train_is_named(tmp_path, told, sentence):
    write(tmp_path, **told)
    assert sentence in faults(tmp_path)


# --- T1, input function, voxels


def test_ready_t1_map_is_named_among_the_sources(tmp_path):
    write(tmp_path)
    found = one(tmp_path, **t1_map(tmp_path, 1.3))
    assert found.t1_map.endswith("sub-01_T1map.nii.gz")
    assert found.t1_source in found.sources
    assert len(found.files) == 1
    assert found.voxel_faults([signal()]) == []


def test_without_t1_a_fixed_one_is_told(tmp_path):
    write(tmp_path)
    assert "flagged t1-assumed" in remarks(tmp_path)
    assert "fixed T1" in one(tmp_path).description


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.nan, "sub-01_T1map.nii.gz has no T1 anywhere"),
        (0.0, "sub-01_T1map.nii.gz has no T1 anywhere"),
        (1300.0, "a median T1 of 1300 (it looks like milliseconds)"),
    ],
)
def test_t1_map_that_is_none_is_named(tmp_path, value, sentence):
    write(tmp_path)
    ((_, what, wanted),) = one(tmp_path, **t1_map(tmp_path, value)).voxel_faults([signal()])
    assert sentence in what
    assert wanted == "wanted seconds"


def test_clipped_series_is_named(tmp_path):
    write(tmp_path)
    found = one(tmp_path)
    ((_, what, wanted),) = found.voxel_faults([np.minimum(signal(), 108)])
    assert "% of its voxels reach the highest value (108)" in what
    assert wanted == "the series is saturated (clipped)"
    assert found.voxel_faults([signal()]) == []


def test_input_function_belongs_to_the_series_whose_name_it_shares(tmp_path):
    for run in (1, 2):
        write(tmp_path, name=f"sub-01_run-{run}_dce")
    path = tmp_path / "sub-01/perf/sub-01_run-2_desc-aif_timeseries.tsv"
    path.write_text("time\tblood\n0\t0\n")
    found, _ = find(tmp_path)
    assert [bool(series.aif_file) for series in found] == [False, True]
    assert found[1].sources[-1].endswith(path.name)


def test_one_bad_series_leaves_the_other(tmp_path):
    write(tmp_path, name="sub-01_run-1_dce", without=("FlipAngle",))
    write(tmp_path, name="sub-01_run-2_dce")
    found, problems = find(tmp_path)
    assert [series.entities["run"] for series in found] == ["2"]
    (fault,) = [str(p) for p in problems if not p.is_remark]
    assert fault.startswith("sub-01_run-1_dce.json: FlipAngle is missing; DCE needs it")
    assert fault.endswith(f"{COSTS}.")
