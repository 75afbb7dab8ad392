"""Each bad input: a clear sentence, the right code, everything else still done.

Most are found before any step, so that a plan tells them; what only voxels tell,
and what is left behind, is looked at in one run over several spoilt participants.
"""

import gzip
import json
import re
import shutil

import nibabel as nb
import numpy as np
import pytest
from helpers import change, command, edit, leftovers, rename, truncate

VFA = "sub-A01/anat/sub-A01_flip-{}_VFA"
AFI = "sub-A01/fmap/sub-A01_acq-tr{}_TB1AFI"
DWI = "sub-A01/dwi/sub-A01_dwi"


def key(path, **values):
    return lambda bids: edit(bids / f"{path}.json", **values)


def bytes_of(path, content):
    return lambda bids: (bids / path).write_bytes(content)


def remove(path):
    return lambda bids: (bids / path).unlink()


def broken_link(path):
    def spoil(bids):
        (bids / path).unlink()
        (bids / path).symlink_to("../../.git/annex/objects/xx/nowhere")

    return spoil


def table(path, function):
    def spoil(bids):
        file = bids / path
        np.savetxt(file, function(np.loadtxt(file, ndmin=2)), fmt="%g")

    return spoil


def image(path, function=lambda data: data, **header):
    return lambda bids: change(bids / f"{path}.nii.gz", function, **header)


def swapped_sidecars(bids):
    one, two = (bids / f"{AFI.format(i)}.json" for i in (1, 2))
    edit(one, RepetitionTimeExcitation=0.1), edit(two, RepetitionTimeExcitation=0.02)


def half_header(bids):
    path = bids / f"{VFA.format(1)}.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:100]))


def complex_voxels(bids):
    path = bids / f"{VFA.format(1)}.nii.gz"
    whole = nb.load(path)
    nb.Nifti1Image(np.asarray(whole.dataobj) * 1j, whole.affine).to_filename(path)


TURNED = np.array([[0.0, -2, 0, 0], [2, 0, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
T1_OUT, DWI_OUT = "T1 of sub-A01 is left out", "Diffusion of sub-A01 is left out"
B1_OUT = "B1+ of sub-A01 is left out"

# spoil, exit code, sentence (in full, but for the path before it), what is lost
FAULTS = {
    "missing key": (
        key(VFA.format(2), FlipAngle=None), 65,
        "sub-A01_flip-2_VFA.json: FlipAngle is missing; VFA needs it in every file (degrees).",
        T1_OUT),
    "RepetitionTime in its place": (
        key(VFA.format(2), RepetitionTimeExcitation=None, RepetitionTime=0.015), 65,
        "RepetitionTimeExcitation is missing (RepetitionTime is 0.015 there, which BIDS keeps "
        "apart); VFA needs it in every file (seconds).", T1_OUT),
    "misspelt key": (
        key(VFA.format(2), FlipAngle=None, Flipangle=3), 65,
        "FlipAngle is missing (Flipangle is there)", T1_OUT),
    "string for number": (
        key(AFI.format(1), FlipAngle="60"), 65,
        'sub-A01_acq-tr1_TB1AFI.json: FlipAngle is the text "60"; wanted a number (degrees).',
        B1_OUT),
    "list for number": (
        key(VFA.format(1), FlipAngle=[3]), 65, "FlipAngle is the list [3]; wanted a number",
        T1_OUT),
    "truth value for number": (
        key(VFA.format(1), FlipAngle=True), 65, "FlipAngle is the truth value true", T1_OUT),
    "milliseconds for seconds": (
        key(VFA.format(1), RepetitionTimeExcitation=15), 65,
        "RepetitionTimeExcitation is 15 (it looks like milliseconds); wanted 0.001 to 2 seconds.",
        T1_OUT),
    "milliseconds in an optional key": (
        key(DWI, EchoTime=56), 65, "EchoTime is 56 (it looks like milliseconds)", DWI_OUT),
    "echo after the next excitation": (
        key(VFA.format(1), EchoTime=0.5), 65, "is not longer than EchoTime (0.5 s)", T1_OUT),
    "swapped AFI pair by sidecar": (
        swapped_sidecars, 65,
        "acq-tr1 has RepetitionTimeExcitation 0.1 s and acq-tr2 0.02 s; wanted the shorter one in "
        "acq-tr1; the pair looks swapped.", B1_OUT),
    "one of an AFI pair": (
        remove(f"{AFI.format(2)}.nii.gz"), 65, "sub-A01_acq-tr1_TB1AFI.nii.gz: is alone; AFI needs "
        "a pair acq-tr1 and acq-tr2.", B1_OUT),
    "AFI of two flip angles": (
        key(AFI.format(2), FlipAngle=50), 65, "flip angles differ (60 and 50 degrees)", B1_OUT),
    "different shape": (
        image(VFA.format(2), lambda data: data[:-2]), 65,
        r"sub-A01_flip-2_VFA.nii.gz: its shape \(.*\) differs from \(.*\); wanted the grid of "
        r"sub-A01_flip-1_VFA.nii.gz\.", T1_OUT),
    "different affine": (
        image(VFA.format(3), affine=TURNED), 65,
        "sub-A01_flip-3_VFA.nii.gz: its affine differs; wanted the grid of "
        "sub-A01_flip-1_VFA.nii.gz.", T1_OUT),
    "volumes in a 3D series": (
        image(VFA.format(2), lambda data: np.stack([data, data], -1)), 65, "wanted a 3D image",
        T1_OUT),
    "repetition times differ": (
        key(VFA.format(2), RepetitionTimeExcitation=0.02), 65, "repetition times differ", T1_OUT),
    "one flip angle": (
        lambda bids: [edit(bids / f"{VFA.format(i)}.json", FlipAngle=10) for i in (1, 2, 3)], 65,
        "wanted two or more different flip angles", T1_OUT),
    "empty file": (
        bytes_of(f"{VFA.format(1)}.nii.gz", b""), 65,
        "sub-A01/anat/sub-A01_flip-1_VFA.nii.gz: is empty; wanted a whole NIfTI image.", T1_OUT),
    "no gzip file": (
        bytes_of(f"{DWI}.nii.gz", b"\0" * 5000), 65, "is truncated or no gzip file", DWI_OUT),
    "truncated in its header": (half_header, 65, "is truncated within its header", T1_OUT),
    "another format": (
        bytes_of(f"{DWI}.nii.gz", gzip.compress(b"x" * 5000)), 65, "is no NIfTI image", DWI_OUT),
    "complex numbers": (complex_voxels, 65, "holds complex64 voxels; only real numbers", T1_OUT),
    "broken link": (
        broken_link(f"{VFA.format(1)}.nii.gz"), 66,
        "sub-A01/anat/sub-A01_flip-1_VFA.nii.gz: is a link to a file that is not there; an annexed "
        "file must be fetched first.", T1_OUT),
    "annexed file not fetched": (
        bytes_of(f"{DWI}.nii.gz", b"/annex/objects/SHA256E-s9--ab.nii.gz\n"), 66,
        "sub-A01_dwi.nii.gz: holds no image yet; an annexed file must be fetched first.", DWI_OUT),
    "broken link of a sidecar": (
        broken_link(f"{VFA.format(1)}.json"), 66, "is a link to a file that is not there", T1_OUT),
    "broken link of a gradient table": (
        broken_link(f"{DWI}.bvec"), 66, "sub-A01_dwi.bvec: is a link to a file that is not there",
        DWI_OUT),
    "bval too short": (
        table(f"{DWI}.bval", lambda b: b[:, :-1]), 65,
        "sub-A01/dwi/sub-A01_dwi.bval: has 13 b-values; wanted 14, one per volume.", DWI_OUT),
    "bvec too short": (
        table(f"{DWI}.bvec", lambda v: v[:, :-1]), 65,
        "sub-A01/dwi/sub-A01_dwi.bvec: has 3 rows of 13 values; wanted 3 rows of 14 values.",
        DWI_OUT),
    "bvec transposed": (
        table(f"{DWI}.bvec", lambda v: v.T), 65, "has 14 rows of 3 values (it looks transposed)",
        DWI_OUT),
    "bvec not finite": (
        table(f"{DWI}.bvec", lambda v: np.where(v.any(axis=0), v, np.nan)), 65,
        "2 directions are not finite; wanted unit vectors (b = 0 may have zeros).", DWI_OUT),
    "bvec of other lengths": (
        table(f"{DWI}.bvec", lambda v: 2 * v), 65, "12 directions are not of unit length", DWI_OUT),
    "one b-value": (
        lambda bids: [
            table(f"{DWI}.bval", lambda b: 0 * b + 800)(bids),
            table(f"{DWI}.bvec", lambda v: np.where(v.any(axis=0), v, [[1], [0], [0]]))(bids)],
        65, "all volumes have b near 800; diffusion needs two different b-values", DWI_OUT),
    "bval in s/m2": (
        table(f"{DWI}.bval", lambda b: b * 1e6), 65, "wanted s/mm2 (not s/m2)", DWI_OUT),
    "negative b-value": (
        table(f"{DWI}.bval", lambda b: -b - 6), 65, "negative or not finite", DWI_OUT),
    "empty bval": (bytes_of(f"{DWI}.bval", b"\n"), 65, "sub-A01_dwi.bval: is empty", DWI_OUT),
    "words in bval": (
        bytes_of(f"{DWI}.bval", b"0 800 many"), 65, "holds what is no number", DWI_OUT),
    "ragged bvec": (
        bytes_of(f"{DWI}.bvec", b"0 1\n0 1\n0\n"), 65, "has rows of different lengths (2, 2, 1)",
        DWI_OUT),
    "no bvec": (
        remove(f"{DWI}.bvec"), 66, "sub-A01_dwi.nii.gz: has no .bvec file; wanted one beside it.",
        DWI_OUT),
    "wrong choice": (
        key(DWI, PhaseEncodingDirection="AP"), 65,
        "PhaseEncodingDirection is 'AP'; wanted one of i, i-, j, j-, k, k-.", DWI_OUT),
    "list for choice": (
        key(DWI, PhaseEncodingDirection=["j"]), 65, "PhaseEncodingDirection is ['j']", DWI_OUT),
    "sidecar not in UTF-8": (
        bytes_of(f"{VFA.format(1)}.json", '{"InstitutionName": "Köln"}'.encode("latin-1")), 65,
        "sub-A01/anat/sub-A01_flip-1_VFA.json: is not UTF-8 text (byte 22); wanted a JSON object "
        "in UTF-8.", T1_OUT),
    "sidecar not JSON": (
        bytes_of(f"{VFA.format(1)}.json", b"{'a': 1}"), 65, "is not JSON (line 1:", T1_OUT),
    "sidecar without object": (
        bytes_of(f"{VFA.format(1)}.json", b"[]"), 65, "holds no JSON object", T1_OUT),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_bad_input_is_told_before_any_step(name, bids, call, tmp_path):
    spoil, code, sentence, lost = FAULTS[name]
    spoil(bids)
    ended = call(bids, tmp_path / "out", "--dry-run")
    assert ended.agrees(code), ended.out
    lines = [line for line in ended.out.splitlines() if lost in line]
    assert any(sentence in line or re.search(sentence, line) for line in lines), ended.out
    # the other modality is still in the plan
    other = "T1 by variable flip angle" if lost != T1_OUT else "diffusion, 14 volumes"
    assert other in ended.out
    if lost == B1_OUT:
        assert "WITHOUT B1+ (flagged no-b1)" in ended.out
    assert not (tmp_path / "out").exists()


def test_all_problems_of_all_files_are_told_at_once(bids, call, tmp_path):
    names = ("missing key", "string for number", "bval too short", "bvec too short",
             "wrong choice", "different affine")  # fmt: skip
    for name in names:
        FAULTS[name][0](bids)
    ended = call(bids, tmp_path / "out", "--dry-run")
    assert all(FAULTS[name][2] in ended.out for name in names)
    assert ended.code == 65
    assert f"PROBLEMS ({len(names)})" in ended.out
    assert "; 6 problems" in ended.last_line


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (table(f"{DWI}.bvec", lambda v: np.tile(v[:, -1:], 14)),
         "sub-A01_dwi.bvec: has 1 different directions, the tensor needs 6."),
        (table(f"{DWI}.bvec", lambda v: v.any(axis=0) * np.eye(3)[:, np.arange(14) % 3]),
         "sub-A01_dwi.bvec: has 3 different directions, the tensor needs 6."),
        (lambda bids: [
            table(f"{DWI}.bval", lambda b: np.where(b > 0, b, 50))(bids),
            table(f"{DWI}.bvec", lambda v: np.where(v.any(axis=0), v, [[1], [0], [0]]))(bids)],
         "sub-A01_dwi.bval: no volume has b up to 5, the tensor needs one without weighting."),
    ],
    ids=["one direction", "three directions", "no b0"],
)  # fmt: skip
def test_what_forbids_a_tensor_leaves_the_adc(bids, tmp_path, call, spoil, sentence):
    spoil(bids)
    ended = call(bids, tmp_path / "out", "--dry-run", "--modalities", "dwi")
    assert ended.agrees(0)
    assert f"{sentence} There is no tensor, ADC alone." in ended.said
    assert "_model-adc_param-adc_dwimap.nii.gz" in ended.said
    assert "model-dti" not in ended.said


def copied(bids, function, **sidecar):
    """Make the diffusion series ``run-1``, and write it again as ``run-2``, changed."""
    for source in list((bids / "sub-A01/dwi").glob("sub-A01_dwi.*")):
        shutil.copy(source, source.with_name(source.name.replace("_dwi", "_run-2_dwi")))
        source.rename(source.with_name(source.name.replace("_dwi", "_run-1_dwi")))
    change(bids / "sub-A01/dwi/sub-A01_run-2_dwi.nii.gz", function)
    edit(bids / "sub-A01/dwi/sub-A01_run-2_dwi.json", **sidecar)


@pytest.mark.parametrize(
    ("function", "sidecar", "why"),
    [
        (lambda data: data[:, :, :-1], {}, r"its shape \(.*\) differs from \(.*\)"),
        (lambda data: data, {"EchoTime": 0.08}, "EchoTime differs: 0.056 and 0.08"),
        (lambda data: data, {"TotalReadoutTime": None}, "TotalReadoutTime differs: .* missing"),
    ],
    ids=["slices missing", "another protocol", "no readout time"],
)
def test_run_that_cannot_join_goes_alone_and_it_is_told(bids, call, tmp_path, function, sidecar,
                                                        why):  # fmt: skip
    copied(bids, function, **sidecar)
    ended = call(bids, tmp_path / "out", "--dry-run", "--modalities", "dwi")
    assert ended.agrees(0)
    told = r"sub-A01_run-2_dwi.nii.gz: is not combined with other runs: " + why
    assert re.search(told, ended.said), ended.said
    assert ended.said.count("diffusion, 14 volumes") == 2


@pytest.mark.parametrize("flag", ["", "--no-dwi-combine", "--separate-all-dwis"])
def test_plan_tells_what_is_taken_together(bids, call, tmp_path, flag):
    copied(bids, lambda data: 1.2 * data)
    ended = call(bids, tmp_path / "out", "--dry-run", "--modalities", "dwi", *filter(None, [flag]))
    assert ended.agrees(0)
    together = "diffusion, 28 volumes of 2 files taken together" in ended.said
    assert together is not bool(flag)
    assert ("_run-2_model-dti" in ended.said) is bool(flag)


def test_b0_images_alone_are_left_and_are_no_fault(bids, call, tmp_path):
    for suffix in (".nii.gz", ".json"):
        source = bids / (DWI + suffix)
        shutil.copy(source, source.with_name(f"sub-A01_dir-PA_dwi{suffix}"))
    pa = bids / "sub-A01/dwi/sub-A01_dir-PA_dwi.nii.gz"
    change(pa, lambda data: data[..., :2])
    pa.with_name("sub-A01_dir-PA_dwi.bval").write_text("0 0\n")
    ended = call(bids, tmp_path / "out", "--dry-run")
    assert ended.agrees(0)
    told = "no volume has b above 5, and no series has the opposite blips. It is left."
    assert f"sub-A01_dir-PA_dwi.nii.gz: {told}" in ended.said


@pytest.fixture
def blocked(tmp_path):
    """A folder that not even root can create."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "out"


# what is wrong as a whole: options, code, sentence
WHOLE = {
    "participant": (["--participant-label", "Z"], 18, "There is no participant sub-Z; there are: "
                    "sub-A01."),
    "session": (["--session-label", "1"], 18, "There is no session ses-1; there are: none."),
    "modality": (["--modalities", "dce"], 18, "no series to process in dce."),
    "derivatives": (["-d", "rois=/nowhere"], 66, "--derivatives rois=/nowhere: there is no such "
                    "folder."),
    "filter file": (["--bids-filter-file", "/nowhere"], 64, "--bids-filter-file /nowhere: cannot "
                    "be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_what_selects_nothing_is_told_in_file_too(name, bids, call, tmp_path):
    options, code, sentence = WHOLE[name]
    ended = call(bids, tmp_path / "out", *options)
    assert ended.agrees(code)
    assert sentence in ended.err
    assert bool(ended.status) == (code in {18, 66})
    assert ended.status.get("problems", [{"code": code}])[0]["code"] == code


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "dataset_description.json: is not there; wanted a BIDS data set"),
        (b"{", "is not JSON"),
        (b'{"Name": "x"}', "BIDSVersion missing"),
        (b'{"Name": "\xe4"}', "is not UTF-8 text"),
    ],
)
def test_what_is_not_bids_is_16(content, sentence, bids, call, tmp_path):
    path = bids / "dataset_description.json"
    path.unlink() if content is None else path.write_bytes(content)
    ended = call(bids, tmp_path / "out", "--dry-run")
    assert ended.agrees(16)
    assert sentence in ended.err
    assert call(bids, tmp_path / "out", "--dry-run", "--skip-bids-validation").code == 0


def test_a_data_set_without_participants_selects_nothing(tmp_path, call):
    bids = tmp_path / "bids"
    bids.mkdir()
    (bids / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    assert call(bids, tmp_path / "out").agrees(18)


def test_an_output_folder_that_cannot_be_made_is_73(bids, call, blocked):
    ended = call(bids, blocked)
    assert (ended.code, ended.status) == (73, {})
    assert f"{blocked}/logs" in ended.err
    assert "cannot be created or written (Not a directory)" in ended.err
    assert "exit code 73, cannot create the output" in ended.last_line


def test_a_work_folder_that_cannot_be_made_is_73_and_told_in_file(bids, call, blocked, tmp_path):
    assert call(bids, tmp_path / "out", "-w", blocked).agrees(73)


def test_voxels_are_not_read_by_a_plan(bids, call, tmp_path):
    for path in bids.glob("sub-A01/*/*.nii.gz"):
        path.write_bytes(path.read_bytes()[:-200])
    assert call(bids, tmp_path / "out", "--dry-run").code == 0


# one run over several participants, each spoilt in another way

GOOD, NAN, ZERO, SHORT, SWAPPED, NODE = "A01", "nan", "zero", "short", "swapped", "roi"


def spoil_cohort(bids):
    for label in (NAN, ZERO, SHORT, SWAPPED, NODE):
        rename(bids, GOOD, label)

    def of(label, path):
        return bids / path.replace(GOOD, label)

    def with_nan(data):
        data = data.copy()
        data[3, 4, :2] = np.nan
        return data

    change(of(NAN, f"{VFA.format(2)}.nii.gz"), with_nan)
    change(of(ZERO, f"{DWI}.nii.gz"), np.zeros_like)
    truncate(of(SHORT, f"{VFA.format(1)}.nii.gz"))
    truncate(of(SHORT, f"{DWI}.nii.gz"))
    one, two = (of(SWAPPED, f"{AFI.format(i)}.nii.gz") for i in (1, 2))
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    for path in (bids / f"derivatives/rois/sub-{NODE}").rglob("*_dseg.nii.gz"):
        truncate(path)


@pytest.fixture(scope="module")
def spoilt(phantom, tmp_path_factory, once):
    """The run over the spoilt cohort."""

    def make(folder):
        bids, out = folder / "bids", folder / "out"
        shutil.copytree(phantom, bids)
        spoil_cohort(bids)
        ended = command(bids, out, "participant", "-d", f"rois={bids / 'derivatives/rois'}",
                        "--dwi-denoise", "none", "--dwi-motion", "none")  # fmt: skip
        (folder / "ended.json").write_text(json.dumps([ended.code, ended.out, ended.err]))

    return once("spoilt", make)


@pytest.fixture(scope="module")
def ended(spoilt):
    from helpers import Ended

    return Ended(*json.loads((spoilt / "ended.json").read_text()), spoilt / "out")


def test_the_codes_of_the_run_agree(ended):
    assert ended.agrees(65), ended.out
    assert ended.err == ""
    assert [problem["code"] for problem in ended.status["problems"]].count(65) == 6


@pytest.mark.parametrize(
    "sentence",
    [
        "sub-nan/anat/sub-nan_flip-2_VFA.nii.gz: 2 voxels are not finite (NaN or infinite); wanted "
        "numbers. T1 of sub-nan is left out.",
        "sub-zero/dwi/sub-zero_dwi.nii.gz: all voxels are zero; wanted an image. Diffusion of "
        "sub-zero is left out.",
        "sub-short/anat/sub-short_flip-1_VFA.nii.gz: cannot be read to its end (truncated?); "
        "wanted a whole NIfTI image. T1 of sub-short is left out.",
        "sub-short/dwi/sub-short_dwi.nii.gz: cannot be read to its end (truncated?); wanted a "
        "whole NIfTI image. Diffusion of sub-short is left out.",
        "sub-swapped/fmap/sub-swapped_acq-tr1_TB1AFI.nii.gz: is darker than the image of the "
        "longer TR; the pair looks swapped: wanted acq-tr1 to be the image acquired before the "
        "shorter TR. B1+ of sub-swapped is left out.",
        "sub-roi/anat/sub-roi_desc-nerves_dseg.nii.gz: cannot be read to its end (truncated?); "
        "wanted a whole NIfTI image. Its regions are not measured.",
    ],
)
def test_unusable_voxels_are_told(ended, sentence):
    lines = ended.out.splitlines()
    (told,) = [i for i, line in enumerate(lines) if line == f"PROBLEM: {sentence}"]
    first_step = next(i for i, line in enumerate(lines) if line.startswith("["))
    assert told < first_step
    assert sentence in [problem["text"] for problem in ended.status["problems"]]


@pytest.mark.parametrize(
    ("label", "t1", "fa", "b1"),
    [(GOOD, 1, 1, 1), (NAN, 0, 1, 1), (ZERO, 1, 0, 1), (SHORT, 0, 0, 1), (SWAPPED, 1, 1, 0),
     (NODE, 1, 1, 1)],
)  # fmt: skip
def test_what_can_be_trusted_is_made(spoilt, label, t1, fa, b1):
    folder = spoilt / "out" / f"sub-{label}"
    assert (folder / f"anat/sub-{label}_T1map.nii.gz").exists() == bool(t1)
    fa_map = folder / f"dwi/sub-{label}_model-dti_param-fa_dwimap.nii.gz"
    assert fa_map.exists() == bool(fa)
    assert (folder / f"fmap/sub-{label}_TB1map.nii.gz").exists() == bool(b1)
    assert (spoilt / "out" / f"sub-{label}.html").exists()


def test_t1_without_b1_is_flagged(spoilt, ended):
    def flags(label):
        path = spoilt / f"out/sub-{label}/anat/sub-{label}_T1map.json"
        return json.loads(path.read_text())["ValidityFlags"]

    assert "no-b1" in flags(SWAPPED)
    assert "no-b1" not in flags(GOOD)
    assert "sub-swapped_flip-1_VFA.nii.gz: its B1+ images cannot be used. T1 is made" in ended.out


def test_nothing_is_left_half_written(spoilt):
    assert leftovers(spoilt / "out") == []
    assert leftovers(spoilt / "bids" / f"sub-{SHORT}")  # it would be seen


def test_a_participant_page_tells_what_was_left_out(spoilt):
    page = (spoilt / "out/sub-nan.html").read_text()
    assert "2 voxels are not finite" in page
    assert "all voxels are zero" not in page


def test_the_log_holds_what_the_terminal_said(spoilt, ended):
    (log,) = (spoilt / "out").glob("logs/*/mrn_prep.log")
    said = [line[21:] for line in log.read_text().splitlines()]
    assert said == ended.out.splitlines()


def test_the_derivatives_of_a_spoilt_cohort_pass_the_validator(spoilt, validator_errors):
    assert validator_errors(spoilt / "out") == []
