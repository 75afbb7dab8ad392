"""What a session's tables say of derivatives that are written here as the app names them."""

import nibabel as nb
import numpy as np
import pytest

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.io.derivatives import write_map
from mrn_prep.io.images import save_like
from mrn_prep.io.tables import read_table
from mrn_prep.measure.session import measure_session
from mrn_prep.models.status import Reason
from mrn_prep.outputs import OUTPUTS

AFFINE = np.diag([1.0, 1.0, 4.0, 1.0])
LABELS = np.zeros((24, 30, 4), np.uint8)
LABELS[1:9, 1:9], LABELS[13:21, 1:9] = 1, 2  # the nerve of either side
LABELS[1:9, 10:17], LABELS[13:21, 10:17] = 3, 4  # a muscle of either side
LABELS[:, 20:] = 5
N_NERVE, N_MUSCLE = 4 * 8 * 8, 4 * 8 * 7
REGIONS = (
    Region(index=1, name="sciatic", tissue="nerve", side="L", reference="vastus"),
    Region(index=2, name="sciatic", tissue="nerve", side="R", reference="vastus"),
    Region(index=3, name="vastus", tissue="muscle", side="L"),
    Region(index=4, name="vastus", tissue="muscle", side="R"),
    Region(index=5, name="subcutaneous", tissue="fat"),
)


def like(shape=LABELS.shape, affine=AFFINE):
    return nb.Nifti1Image(np.zeros(shape, np.uint8), affine)


def put(out, key, values, method="", acq=None, se=None, status=None, **sidecar):
    """Write a map with its companions; values in the unit of the models."""
    entities = {"subject": "01", **({"acquisition": acq} if acq else {})}
    values = np.broadcast_to(np.asarray(values, np.float32), LABELS.shape)
    for companion, array in (("", values), ("se", se), ("status", status)):
        if array is not None:
            array = np.broadcast_to(array, LABELS.shape)
            image = nb.Nifti1Image(np.asarray(array, np.float32), AFFINE)
            write_map(out, OUTPUTS[key], entities, image, sidecar, companion, method)


def measured(out, regions=REGIONS, **options):
    mask = save_like(LABELS, like(), out.parent / "rois" / "sub-01_dseg.nii.gz")
    files = [RegionFile(file=str(mask), kind="dseg", regions=tuple(regions), source="x")]
    return [read_table(path) for path in measure_session(out, "01", None, "A", files, **options)]


def at(table, metric, region="sciatic", side="L"):
    rows = table[(table["metric"] == metric) & (table["region"] == region)]
    return rows[rows["side"] == side] if side else rows


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def flags(row):
    return set() if row["flags"] != row["flags"] else set(row["flags"].split(";"))


def test_each_method_has_its_own_companions_and_sidecar(out):
    put(out, "t1", 1.2, se=0.01, SequenceClass="VFA", EstimationMethod="angles",
        Quality={"snr": 40.0}, ValidityFlags=["no-b1"])  # fmt: skip
    put(out, "t1", 1.3, "ir", se=0.5, SequenceClass="IR", EstimationMethod="inversion")
    rois, quality = measured(out)
    rows = at(rois, "T1").set_index("sequence_class")
    assert rows["median"].to_dict() == {"IR": 1300, "VFA": 1200}
    assert rows["se"].to_dict() == pytest.approx(
        {"IR": 500 / np.sqrt(N_NERVE), "VFA": 10 / np.sqrt(N_NERVE)}
    )
    assert rows["method"].to_dict() == {"IR": "inversion", "VFA": "angles"}
    assert flags(rows.loc["IR"]) == {"low-snr"}
    assert flags(rows.loc["VFA"]) == {"no-b1"}
    assert quality["sequence_class"].tolist() == ["VFA"]


def test_quality_is_that_of_the_series_and_told_once(out):
    told = {"SequenceClass": "MESE", "Modality": "t2", "Quality": {"snr": 40.0}}
    put(out, "t2", 0.04, **told)
    put(out, "pdff", 0.1, "ise", **told)
    _, quality = measured(out)
    assert quality[["modality", "metric", "value"]].to_numpy().tolist() == [["t2", "snr", 40.0]]


def test_undetermined_parameter_is_told(out):
    status = np.where(LABELS == 1, Reason.NOT_IDENTIFIABLE, Reason.FITTED)
    put(out, "t2", np.where(LABELS == 1, np.nan, 0.04), status=status)
    rois, _ = measured(out)
    assert flags(at(rois, "T2").iloc[0]) == {"not-identifiable", "not-fitted"}
    assert flags(at(rois, "T2", side="R").iloc[0]) == set()


def test_fat_flags_what_fat_changes_and_nothing_else(out):
    put(out, "pdff", np.choose(LABELS, [0, 0.15, 0.05, 0.02, 0.3, 0.95]))
    put(out, "t1", 1.2)
    put(out, "t2", 0.04)
    put(out, "mtr", 30.0)
    rois, _ = measured(out)
    flagged = rois[rois["flags"].fillna("").str.contains("fat")]
    assert set(flagged["metric"]) == {"T1", "MTR"}
    # where fat is the tissue that is meant, nothing is biased
    assert set(zip(flagged["region"], flagged["side"], strict=True)) == {
        ("sciatic", "L"), ("vastus", "R"),
    }  # fmt: skip


def test_fat_is_that_of_the_default_method_where_it_has_a_value(out):
    put(out, "pdff", np.where(LABELS == 2, np.nan, 0.02))
    put(out, "pdff", 0.4, "magnitude")
    put(out, "t1", 1.2)
    rois, _ = measured(out)
    assert flags(at(rois, "T1").iloc[0]) == set()
    assert flags(at(rois, "T1", side="R").iloc[0]) == {"fat"}


def test_without_fat_fraction_nothing_is_said_of_fat(out):
    put(out, "t1", 1.2)
    rois, _ = measured(out)
    assert rois["flags"].isna().all()
    assert rois["reference"].isna().all()  # T1 is relative to nothing


def image(per_label, slope=(1.0, 1.0, 1.0, 1.0)):
    """Signal per label, falling off from slice to slice."""
    return np.choose(LABELS, per_label).astype(float) * np.asarray(slope)


FALLING = (1.0, 0.8, 0.5, 0.3)


def test_signal_ratio_is_that_of_the_slices(out):
    put(out, "t2w", image([5, 300, 200, 100, 80, 400], FALLING), acq="stir", SequenceClass="T2W")
    rois, _ = measured(out)
    left, right = (at(rois, "nT2", side=side).iloc[0] for side in "LR")
    assert left["median"] == left["mean"] == pytest.approx(3.0)
    assert right["mean"] == pytest.approx(2.5)
    assert left["sd"] == pytest.approx(0, abs=1e-6)
    assert (left["run"], left["sequence_class"], str(left["unit"])) == ("acq-stir", "T2W", "1")
    assert (left["reference"], left["reference_n"]) == ("vastus", N_MUSCLE)
    assert left["reference_mean"] == pytest.approx(100 * np.mean(FALLING))
    assert left["reference_sd"] == pytest.approx(0, abs=1e-4)  # fall-off is not spread
    assert set(rois["region"]) == {"sciatic"}  # the table names no reference for the others


def test_spread_of_the_reference_is_told_and_enters_the_standard_error(out):
    rng = np.random.default_rng(0)
    noisy = image([5, 300, 200, 100, 80, 400]) + 10 * rng.normal(size=LABELS.shape)
    put(out, "t2w", noisy)
    row = at(measured(out)[0], "nT2").iloc[0]
    assert row["reference_sd"] == pytest.approx(10, rel=0.15)
    expected = np.hypot(10 / 100 / np.sqrt(N_NERVE), 3 * 10 / 100 / np.sqrt(N_MUSCLE))
    assert row["se"] == pytest.approx(expected, rel=0.25)
    assert row["sd"] == pytest.approx(0.1, rel=0.25)


@pytest.mark.parametrize(
    ("reference", "named", "left", "regions"),
    [
        ("contralateral", "sciatic R", 1.5, {"sciatic", "vastus"}),
        ("muscle", "muscle", 3.0, {"sciatic", "vastus", "subcutaneous"}),
        ("fat", "fat", 0.75, {"sciatic", "vastus"}),
        ("subcutaneous", "subcutaneous", 0.75, {"sciatic", "vastus"}),
    ],
)
def test_reference_can_be_chosen(out, reference, named, left, regions):
    put(out, "t2w", image([5, 300, 200, 100, 80, 400], FALLING))
    rois, _ = measured(out, reference=reference)
    row = at(rois, "nT2").iloc[0]
    assert (row["reference"], row["mean"]) == (named, pytest.approx(left))
    assert set(rois["region"]) == regions
    assert rois["mean"].notna().all()


def test_reference_of_the_other_side_is_named_so(out):
    put(out, "t2w", image([5, 300, 200, 100, 80, 400]))
    kept = [region for region in REGIONS if region.index != 3]
    row = at(measured(out, kept)[0], "nT2").iloc[0]
    assert (row["reference"], row["mean"]) == ("vastus R", pytest.approx(300 / 80))


@pytest.mark.parametrize("reference", ["table", "liver", "contralateral"])
def test_lacking_reference_is_told_without_a_value(out, reference):
    put(out, "t2w", image([5, 300, 200, 100, 80, 400]))
    rois, _ = measured(out, REGIONS[:1], reference=reference)
    (row,) = rois.to_dict("records")
    assert flags(row) == {"no-reference"}
    assert np.isnan([row[name] for name in ("mean", "median", "se", "reference_mean")]).all()
    assert row["n_vox"] == N_NERVE and row["reference_n"] == 0


def test_slices_without_reference_are_left_out(out):
    signal = image([5, 300, 200, 100, 80, 400])
    signal[LABELS == 3] = np.where(np.arange(4) < 3, 100, np.nan)[np.argwhere(LABELS == 3)[:, 2]]
    put(out, "t2w", signal)
    row = at(measured(out)[0], "nT2").iloc[0]
    assert row["mean"] == pytest.approx(3.0)
    assert (row["n_fitted"], row["n_vox"]) == (0.75 * N_NERVE, N_NERVE)
    assert row["reference_n"] == 0.75 * N_MUSCLE
    assert flags(row) == {"partly-fitted"}
