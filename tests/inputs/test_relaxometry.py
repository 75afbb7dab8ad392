"""Each kind of relaxometry series: found as it should be, and what can be wrong with it."""

import json

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs import (
    AFIInputs,
    B1Inputs,
    B1MapInputs,
    DAMInputs,
    IRInputs,
    MEGREInputs,
    MESEInputs,
    MTRInputs,
    MTSInputs,
    RFMInputs,
    TFLInputs,
    VFAInputs,
    find_inputs,
)
from mrn_prep.inputs.select import Selection
from mrn_prep.inputs.voxels import check_voxels
from mrn_prep.io.dataset import Dataset
from mrn_prep.io.derivatives import map_path
from mrn_prep.options import Options
from mrn_prep.outputs import OUTPUTS

SHAPE = (12, 12, 3)
FIELD = {"MagneticFieldStrength": 3.0}


def write(root, name, values=100.0, **sidecar):
    """Write an image (one value, or an array) with its sidecar."""
    path = root / "sub-01" / f"{name}.nii.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.broadcast_to(np.float32(values), SHAPE)
    nb.Nifti1Image(np.array(data), np.diag([2.0, 2, 4, 1])).to_filename(path)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(FIELD | sidecar))


def found_in(root, derivatives=(), options=None):
    """Find and check all series of the one session."""
    chosen = Selection((("01", None),))
    found = find_inputs(Dataset(root), chosen, derivatives, options=options)
    return check_voxels(found)


def one(root, kind):
    found = found_in(root)
    assert [str(p) for p in found.problems if not p.is_remark] == []
    (series,) = found.sessions[0].of(kind)
    return series


def faults(root):
    return " ".join(str(p) for p in found_in(root).problems if not p.is_remark)


def remarks(root, options=None):
    return " ".join(str(p) for p in found_in(root, options=options).problems if p.is_remark)


def mese(root, times=(0.01, 0.02, 0.03, 0.04, 0.05, 0.06), acq="", **sidecar):
    name = f"acq-{acq}_" if acq else ""
    for i, time in enumerate(times, start=1):
        write(root, f"anat/sub-01_{name}echo-{i}_MESE", 100 / i, EchoTime=time, **sidecar)


def megre(root, times=(0.0012, 0.0024, 0.0036), phase=None, field_t=3.0):
    for i, time in enumerate(times, start=1):
        told = {"EchoTime": time, "MagneticFieldStrength": field_t}
        told = {k: v for k, v in told.items() if v is not None}
        path = root / f"sub-01/anat/sub-01_echo-{i}_part-mag_MEGRE.json"
        write(root, f"anat/sub-01_echo-{i}_part-mag_MEGRE", **told)
        path.write_text(json.dumps(told))
        if phase is not None:
            write(root, f"anat/sub-01_echo-{i}_part-phase_MEGRE", phase, **told)


def mts(root, flips=(6, 6, 21), times=(0.028, 0.028, 0.018), states=(False, True, False)):
    for flip, tr_s, state, (i, on) in zip(
        flips, times, states, ((1, "off"), (1, "on"), (2, "off")), strict=True
    ):
        write(root, f"anat/sub-01_flip-{i}_mt-{on}_MTS", FlipAngle=flip,
              RepetitionTimeExcitation=tr_s, MTState=state)  # fmt: skip


def mtr(root, times=(0.03, 0.03), states=(False, True), **sidecar):
    for on, tr_s, state in zip(("off", "on"), times, states, strict=True):
        write(root, f"anat/sub-01_mt-{on}_MTR", 100 - 30 * state, FlipAngle=9, MTState=state,
              RepetitionTimeExcitation=tr_s, **sidecar)  # fmt: skip


def turned(n=12):
    """A phase that fills its range."""
    return np.linspace(-1, 1, int(np.prod(SHAPE))).reshape(SHAPE)


# --- T2


def test_train_of_echoes_knows_its_spacing_and_first_echo(tmp_path):
    mese(tmp_path, times=tuple(0.0264 + 0.0132 * i for i in range(8)))
    series = one(tmp_path, MESEInputs)
    assert (series.kind, series.first_echo) == ("train", 2)
    assert series.spacing_s == pytest.approx(0.0132)


def test_two_echoes_and_prepared_images_are_not_taken_for_a_train(tmp_path):
    mese(tmp_path, times=(0.02, 0.08), acq="dual")
    mese(tmp_path, times=(0.02, 0.04, 0.08), acq="t2prep")
    session = found_in(tmp_path).sessions[0]
    assert sorted(s.kind for s in session.of(MESEInputs)) == ["dual", "t2prep"]


def test_methods_of_t2_never_share_a_name(tmp_path):
    mese(tmp_path, times=(0.02, 0.08), acq="a")
    mese(tmp_path, times=tuple(0.01 * i for i in range(1, 8)), acq="b")
    for series in found_in(tmp_path).sessions[0].of(MESEInputs):
        (t2,) = (p for p in series.products(Options()) if p.key == "t2")
        name = map_path(OUTPUTS["t2"], series.entities, method=t2.method)
        assert name.endswith(
            {"dual": "_acq-a_desc-dual_T2map.nii.gz", "train": "_acq-b_T2map.nii.gz"}[series.kind]
        )


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        ((0.02, 0.01, 0.03, 0.04, 0.05), "EchoTime (0.01 s) is not longer than that of the echo "
         "before (0.02 s)"),
        ((0.01, 0.01, 0.03, 0.04, 0.05), "is not longer than that of the echo before"),
        ((0.01, 0.02, 0.035, 0.05, 0.06), "wanted echoes of one train, multiples of their spacing"),
        ((0.01, 0.02, 0.03), "the series has 3 echoes (10, 20, 30 ms)"),
        ((0.01,), "is one image; wanted two or more echo times"),
        ((10.0, 20.0, 30.0, 40.0, 50.0), "EchoTime is 10 (it looks like milliseconds)"),
    ],
)  # fmt: skip
def test_bad_echo_times_are_named(tmp_path, times, sentence):
    mese(tmp_path, times)
    assert sentence in faults(tmp_path)
    assert not found_in(tmp_path).sessions[0].of(MESEInputs)


def test_missing_echo_time_is_named(tmp_path):
    mese(tmp_path)
    write(tmp_path, "anat/sub-01_echo-3_MESE")
    assert "sub-01_echo-3_MESE.json: EchoTime is missing; MESE needs it" in faults(tmp_path)


# --- fat and water


def test_gradient_echoes_with_phase_are_complex(tmp_path):
    megre(tmp_path, phase=4095 * turned())
    series = one(tmp_path, MEGREInputs)
    assert (series.kind, len(series.files)) == ("polar", 6)
    assert {p.key for p in series.products(Options())} >= {"pdff", "t2star", "field"}


def test_option_leaves_the_phase_out(tmp_path):
    megre(tmp_path, phase=4095 * turned())
    series = one(tmp_path, MEGREInputs)
    options = Options().with_values("fatwater", {"phase": False})
    assert len(series.as_used(options).files) == 3
    assert all(p.method == "magnitude" for p in series.products(options) if p.key == "pdff")


def test_magnitudes_alone_are_a_marked_fallback(tmp_path):
    megre(tmp_path)
    assert "flagged magnitude-only" in remarks(tmp_path)
    assert one(tmp_path, MEGREInputs).kind == "magnitude"


def test_denoising_takes_three_echoes_with_phase_or_five_magnitudes(tmp_path):
    options = Options().with_values("fatwater", {"denoise": "mppca"})
    megre(tmp_path, phase=4095 * turned())
    assert one(tmp_path, MEGREInputs).plan(options).endswith(", denoised")
    assert "denois" not in one(tmp_path, MEGREInputs).plan(Options())
    assert "denoising" not in remarks(tmp_path, options)
    alone = options.with_values("fatwater", {"phase": False})
    assert (
        "MEGRE.nii.gz: denoising (--fatwater-denoise) needs 5 magnitudes or three echoes with "
        "phase, there are 3 magnitudes. It is left out." in remarks(tmp_path, alone)
    )
    assert not one(tmp_path, MEGREInputs).denoised(alone)
    assert "MAGNITUDE ONLY" in one(tmp_path, MEGREInputs).plan(alone)


def test_denoising_of_what_is_no_train_is_left_out_and_told(tmp_path):
    mese(tmp_path, (0.02, 0.08))
    options = Options().with_values("t2", {"denoise": "mppca"})
    assert "needs the echoes of a train, there are 2 images. It is" in remarks(tmp_path, options)
    assert "denois" not in remarks(tmp_path)


def test_phase_whose_unit_cannot_be_told_is_refused(tmp_path):
    megre(tmp_path, phase=37.5 * turned())
    assert "wanted radians or a scanner's full range" in faults(tmp_path)
    assert not found_in(tmp_path).sessions[0].of(MEGREInputs)


def test_fat_needs_the_field_strength(tmp_path):
    megre(tmp_path, field_t=None)
    assert (
        "MagneticFieldStrength is missing; fat fraction needs it in every file (tesla). "
        "Fat fraction of sub-01 is left out." in faults(tmp_path)
    )


def test_phase_of_some_echoes_only_is_refused(tmp_path):
    megre(tmp_path, phase=4095 * turned())
    (tmp_path / "sub-01/anat/sub-01_echo-2_part-phase_MEGRE.nii.gz").unlink()
    assert "part-mag has 3 echoes and part-phase 2; wanted both for each echo" in faults(tmp_path)


# --- magnetisation transfer


def test_images_of_mtsat_are_told_by_state_and_angle(tmp_path):
    mts(tmp_path)
    series = one(tmp_path, MTSInputs)
    assert series.flip_deg == (6, 21, 6)
    assert [name.rpartition("sub-01_")[2] for name in series.files] == [
        "flip-1_mt-off_MTS.nii.gz", "flip-2_mt-off_MTS.nii.gz", "flip-1_mt-on_MTS.nii.gz",
    ]  # fmt: skip


def mpm(root, n_echoes=(3, 2, 3), spacing_s=(0.0025, 0.0025, 0.0025)):
    parts = zip((6, 6, 21), (0.028, 0.028, 0.018), (False, True, False), n_echoes, spacing_s,
                strict=True)  # fmt: skip
    for flip, tr_s, on, n, spacing in parts:
        for echo in range(1, n + 1):
            name = f"anat/sub-01_echo-{echo}_flip-{1 + (flip > 6)}_mt-{'on' if on else 'off'}_MPM"
            write(root, name, FlipAngle=flip, RepetitionTimeExcitation=tr_s, MTState=on,
                  EchoTime=round(echo * spacing, 6))  # fmt: skip


def test_echoes_that_all_images_have_are_averaged(tmp_path):
    mpm(tmp_path)
    series = one(tmp_path, MTSInputs)
    assert (series.n_echoes, series.tr_s) == (2, (0.028, 0.018, 0.028))
    assert [name.rpartition("sub-01_")[2].removesuffix("_MPM.nii.gz") for name in series.files] == [
        "echo-1_flip-1_mt-off", "echo-2_flip-1_mt-off", "echo-1_flip-2_mt-off",
        "echo-2_flip-2_mt-off", "echo-1_flip-1_mt-on", "echo-2_flip-1_mt-on",
    ]  # fmt: skip
    assert series.sequence_class.startswith("MPM")


def test_images_of_other_echo_times_are_not_averaged(tmp_path):
    mpm(tmp_path, spacing_s=(0.0025, 0.0025, 0.0021))
    assert "echo times of the images differ (2.1-4.2 ms; 2.5-5 ms); wanted the same" in faults(
        tmp_path
    )


def test_ratio_comes_with_mtsat_only_where_the_pair_is_alike(tmp_path):
    mts(tmp_path)
    assert "mtr" in {p.key for p in one(tmp_path, MTSInputs).products(Options())}
    mts(tmp_path, times=(0.028, 0.035, 0.018))
    assert "mtr" not in {p.key for p in one(tmp_path, MTSInputs).products(Options())}


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: mts(root, flips=(6, 6, 6), times=(0.02,) * 3), "wanted one image without "
         "saturation, one with it and one without it of a larger flip angle"),
        (lambda root: mts(root, states=(False, False, False)), "the name says mt-on"),
        (lambda root: mts(root, states=(False, "on", False)), "MTState is 'on'; wanted true or "
         "false"),
        (lambda root: mtr(root, times=(0.03, 0.04)), "repetition times of the pair differ (0.03 "
         "and 0.04 s); wanted the same with and without saturation. MT of sub-01 is left out."),
        (lambda root: mtr(root, times=(30, 30)), "it looks like milliseconds"),
    ],
)  # fmt: skip
def test_bad_saturation_series_are_named(tmp_path, spoil, sentence):
    spoil(tmp_path)
    assert sentence in faults(tmp_path)


def test_pair_has_the_image_without_saturation_first(tmp_path):
    mtr(tmp_path)
    assert one(tmp_path, MTRInputs).files[0].endswith("mt-off_MTR.nii.gz")


def test_half_a_pair_is_refused(tmp_path):
    mtr(tmp_path)
    (tmp_path / "sub-01/anat/sub-01_mt-off_MTR.nii.gz").unlink()
    assert "the series has 1 file(s), 1 with saturation; wanted one mt-off and one mt-on" in faults(
        tmp_path
    )


# --- inversion recovery


def ir(root, times):
    for i, time in enumerate(times, start=1):
        write(root, f"anat/sub-01_inv-{i}_IRT1", InversionTime=time)


def test_inversion_times_are_sorted(tmp_path):
    ir(tmp_path, (2.5, 0.05, 0.4, 1.2))
    series = one(tmp_path, IRInputs)
    assert series.ti_s == (0.05, 0.4, 1.2, 2.5)
    assert series.files[0].endswith("inv-2_IRT1.nii.gz")


@pytest.mark.parametrize(
    ("times", "sentence"),
    [
        ((50, 400, 1200), "InversionTime is 50 (it looks like milliseconds)"),
        ((0.05, 0.4), "wanted 3 or more, all different"),
        ((0.05, 0.4, 0.4, 1.2), "the inversion times are 0.05, 0.4, 0.4, 1.2 s"),
    ],
)
def test_bad_inversion_times_are_named(tmp_path, times, sentence):
    ir(tmp_path, times)
    assert sentence in faults(tmp_path)


# --- B1+


def vfa(root, flips=(3, 10, 20)):
    for i, flip in enumerate(flips, start=1):
        write(root, f"anat/sub-01_flip-{i}_VFA", 50.0 + i, FlipAngle=flip, EchoTime=0.002,
              RepetitionTimeExcitation=0.015)  # fmt: skip


def dam(root, low=50.0, high=60.0, flips=(60, 120)):
    for i, (value, flip) in enumerate(zip((low, high), flips, strict=True), start=1):
        limb = np.zeros(SHAPE)
        limb[2:-2, 2:-2] = value
        write(root, f"fmap/sub-01_flip-{i}_TB1DAM", limb, FlipAngle=flip,
              RepetitionTimeExcitation=2.0)  # fmt: skip


def angles(root, kind, value, flip, part="famp"):
    write(root, f"fmap/sub-01_acq-{part}_TB1{kind}", value, FlipAngle=flip)


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        (DAMInputs, dam),
        (TFLInputs, lambda root: angles(root, "TFL", 760, 80)),
        (RFMInputs, lambda root: angles(root, "RFM", 3000, 90)),
        (B1MapInputs, lambda root: write(root, "fmap/sub-01_TB1map", 95)),
        (B1MapInputs, lambda root: write(root, "fmap/sub-01_TB1map", 0.95)),
        (B1MapInputs, lambda root: write(root, "fmap/sub-01_TB1map", 570, FlipAngle=60)),
    ],
)
def test_series_are_corrected_by_b1_of_any_kind(tmp_path, kind, make):
    vfa(tmp_path)
    make(tmp_path)
    series = one(tmp_path, VFAInputs)
    assert isinstance(series.b1, kind)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: write(root, "fmap/sub-01_TB1map", 0), "all voxels are zero"),
        (lambda root: write(root, "fmap/sub-01_TB1map", 570), "needs the nominal flip angle"),
        (lambda root: write(root, "fmap/sub-01_TB1map", 9.5), "is neither a ratio nor percent"),
        (lambda root: angles(root, "TFL", 80, 80), "gives a median B1+ of 0.1 with the nominal 80 "
         "degrees; wanted the image of angles (acq-famp) in the scanner's scale"),
        (lambda root: angles(root, "TFL", 760, 80, part="anat"), "is alone; wanted the image of "
         "angles, acq-famp"),
        (lambda root: write(root, "fmap/sub-01_acq-famp_TB1TFL", 760), "FlipAngle is missing"),
        (lambda root: dam(root, flips=(60, 100)), "flip angles are 60 and 100 degrees; wanted an "
         "angle and its double"),
        (lambda root: dam(root, low=95, high=50, flips=(120, 60)), "look swapped"),
    ],
)  # fmt: skip
def test_unusable_b1_is_named_and_t1_goes_on_without_it(tmp_path, make, sentence):
    vfa(tmp_path)
    make(tmp_path)
    assert sentence in faults(tmp_path)
    (series,) = found_in(tmp_path).sessions[0].of(VFAInputs)
    assert series.b1 is None


def test_b1_map_of_another_data_set_is_used_where_the_session_has_none(tmp_path):
    raw, other = tmp_path / "raw", tmp_path / "other"
    vfa(raw)
    write(other, "fmap/sub-01_desc-smooth_TB1map", 95)
    (session,) = found_in(raw, [Dataset(other, "b1")]).sessions
    assert session.of(VFAInputs)[0].b1.sources == (
        "bids:b1:sub-01/fmap/sub-01_desc-smooth_TB1map.nii.gz",
    )


def test_measured_b1_comes_before_a_map_of_another_data_set(tmp_path):
    raw, other = tmp_path / "raw", tmp_path / "other"
    vfa(raw)
    dam(raw)
    write(other, "fmap/sub-01_TB1map", 95)
    (session,) = found_in(raw, [Dataset(other, "b1")]).sessions
    assert [type(b1) for b1 in session.of(B1Inputs)] == [DAMInputs]


def test_default_method_of_b1_comes_first(tmp_path):
    vfa(tmp_path)
    dam(tmp_path)
    limb = np.zeros(SHAPE)
    limb[2:-2, 2:-2] = 60.0
    for i, (tr_s, factor) in enumerate(((0.02, 1.0), (0.1, 0.6)), start=1):
        write(tmp_path, f"fmap/sub-01_acq-tr{i}_TB1AFI", factor * limb, FlipAngle=60,
              RepetitionTimeExcitation=tr_s)  # fmt: skip
    assert isinstance(one(tmp_path, VFAInputs).b1, AFIInputs)


@pytest.mark.parametrize("flips", [(10,), (10, 10, 10)], ids=["one", "equal"])
def test_flip_angles_must_differ(tmp_path, flips):
    vfa(tmp_path, flips)
    assert "wanted two or more different flip angles" in faults(tmp_path)


def test_every_class_of_series_has_its_own_sequence_class(tmp_path):
    vfa(tmp_path), ir(tmp_path, (0.05, 0.4, 1.2)), mese(tmp_path), mts(tmp_path), mtr(tmp_path)
    classes = [series.sequence_class for series in found_in(tmp_path).sessions[0].series]
    assert len(classes) == len(set(classes)) == 5
