"""Diffusion alone, without anatomy: what scanners write and what goes wrong, end to end."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from helpers import edit, read_itk

from mrn_prep.cli.main import main
from mrn_prep.models.motion import rotation_matrix
from mrn_prep.models.status import Reason
from mrn_prep.phantom.dataset import simulate_dataset
from mrn_prep.phantom.options import PhantomOptions

TURN = rotation_matrix(np.deg2rad([30.0, -20.0, 25.0]))
GAIN = 1.3
LOST = ((2, 4), (3, 9), (1, 12))  # slice, volume
EMPTY_VOLUME, EMPTY_SLICE = 6, 4


@dataclass
class Series:
    """A diffusion series in memory."""

    data: np.ndarray
    affine: np.ndarray
    b: np.ndarray
    g: np.ndarray
    sidecar: dict

    @classmethod
    def read(cls, stem):
        image = nb.load(f"{stem}.nii.gz")
        table = [np.loadtxt(f"{stem}.{what}") for what in ("bval", "bvec")]
        sidecar = json.loads(Path(f"{stem}.json").read_text())
        return cls(np.asarray(image.dataobj, np.float32), image.affine, *table, sidecar)

    def write(self, bids, name, volumes=slice(None)):
        """Write some volumes as ``sub-..._dwi`` of a participant (and session)."""
        subject, *session = name.split("_")
        parts = [subject, *(p for p in session if p.startswith("ses-"))]
        folder = bids.joinpath(*parts) / "dwi"
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{name}_dwi"
        nb.Nifti1Image(self.data[..., volumes], self.affine).to_filename(f"{stem}.nii.gz")
        np.savetxt(f"{stem}.bval", [self.b[volumes]], fmt="%g")
        np.savetxt(f"{stem}.bvec", self.g[:, volumes], fmt="%.8f")
        Path(f"{stem}.json").write_text(json.dumps(self.sidecar))

    def changed(self, function):
        data = self.data.copy()
        function(data)
        return Series(data, self.affine, self.b, self.g, self.sidecar)


def simulate(folder):
    options = PhantomOptions(small=True, sites=2, participants_per_site=1, modalities=("dwi",))
    simulate_dataset(folder / "phantom", options, tell=lambda _: None)
    bids = folder / "bids"
    bids.mkdir()
    shutil.copy(folder / "phantom/dataset_description.json", bids)
    first, second = (
        Series.read(folder / f"phantom/sub-{who}/dwi/sub-{who}_dwi") for who in ("A01", "B01")
    )
    first.write(bids, "sub-A01")
    second.write(bids, "sub-B01")

    # the same limb lying obliquely, stored with the first axis the other way round
    affine = first.affine @ np.diag([-1.0, 1, 1, 1])
    affine[:, 3] = first.affine @ [first.data.shape[0] - 1, 0, 0, 1]
    affine[:3] = TURN @ affine[:3]
    Series(first.data[::-1], affine, first.b, first.g, first.sidecar).write(bids, "sub-turned")

    half = int(np.flatnonzero(first.b < 5)[1])
    louder = first.changed(lambda data: data[..., half:].__imul__(GAIN))
    louder.write(bids, "sub-two_ses-1_run-1", slice(None, half))
    louder.write(bids, "sub-two_ses-1_run-2", slice(half, None))
    first.write(bids, "sub-two_ses-2")

    def empty(data):
        data[..., EMPTY_VOLUME] = 0
        data[:, :, EMPTY_SLICE] = 0

    def darken(data):
        for k, v in LOST:
            data[:, :, k, v] *= 0.4

    first.changed(empty).write(bids, "sub-empty")
    first.changed(darken).write(bids, "sub-dark")
    three = np.r_[np.flatnonzero(first.b < 5), np.flatnonzero(first.b > 5)[:3]]
    first.write(bids, "sub-three", np.sort(three))
    half_sphere = first.g * np.where(np.array([0.2, 0.3, 0.9]) @ first.g < 0, -1, 1)
    Series(first.data, first.affine, first.b, half_sphere, first.sidecar).write(bids, "sub-half")
    # both shells 50 s/mm2 higher: the same ratio of signals, the same ADC
    lowest = np.where(first.g.any(axis=0), first.g, [[0.0], [0], [1]])
    Series(first.data, first.affine, first.b + 50, lowest, first.sidecar).write(bids, "sub-nob0")
    edit(bids / "sub-half/dwi/sub-half_dwi.json", RepetitionTime=4.8)
    return bids


@pytest.fixture(scope="module")
def done(once):
    def make(folder):
        bids = simulate(folder)
        code = main([str(bids), str(folder / "out"), "participant", "--nprocs", "2"])
        (folder / "code").write_text(str(code))

    return once("diffusion-inputs", make)


def load(done, name, param, desc=""):
    subject, *session = name.split("_")
    model = "adc" if param == "adc" else "dti"
    desc = f"_desc-{desc}" if desc else ""
    path = f"{'/'.join([subject, *session])}/dwi/{name}_model-{model}_param-{param}{desc}_dwimap"
    image = nb.load(done / "out" / f"{path}.nii.gz")
    return np.asarray(image.dataobj, np.float64)


def sidecar(done, name, param="fa"):
    subject, *session = name.split("_")
    model = "adc" if param == "adc" else "dti"
    path = "/".join([subject, *session, "dwi", f"{name}_model-{model}_param-{param}_dwimap.json"])
    return json.loads((done / "out" / path).read_text())


def truth(done, who, param):
    folder = done / f"phantom/derivatives/truth/sub-{who}/dwi"
    path = folder / f"sub-{who}_model-dti_param-{param}_dwimap.nii.gz"
    return np.asarray(nb.load(path).dataobj, np.float64)


def pure(done, who, *regions):
    path = done / f"phantom/derivatives/truth/sub-{who}/dwi/sub-{who}_desc-pure_dseg.nii.gz"
    table = pd.read_csv(str(path).replace(".nii.gz", ".tsv"), sep="\t").set_index("name")["index"]
    return np.isin(np.asarray(nb.load(path).dataobj), [table[region] for region in regions])


def degrees(one, other):
    cosine = np.abs((one * other).sum(axis=-1)).clip(0, 1)
    return np.rad2deg(np.arccos(cosine))


def test_all_of_it_runs_without_anatomy_and_is_valid(done, validator_errors):
    assert (done / "code").read_text() == "0"
    pages = {path.stem for path in (done / "out").glob("sub-*.html")}
    assert pages >= {"sub-A01", "sub-B01", "sub-turned", "sub-two_ses-1", "sub-two_ses-2"}
    assert validator_errors(done / "out") == []


@pytest.mark.parametrize("who", ["A01", "B01"])
def test_positive_and_negative_determinants_give_true_fa_and_directions(done, who):
    image = nb.load(done / f"bids/sub-{who}/dwi/sub-{who}_dwi.nii.gz")
    assert (np.linalg.det(image.affine[:3, :3]) > 0) == (who == "B01")
    chosen = pure(done, who, "sciatic", "vastus", "hamstrings")
    error = degrees(load(done, f"sub-{who}", "v1")[chosen], truth(done, who, "v1")[chosen])
    assert np.nanmedian(error) < 4
    bias = load(done, f"sub-{who}", "fa")[chosen] - truth(done, who, "fa")[chosen]
    assert abs(np.nanmedian(bias)) < 0.02


def test_oblique_image_stored_the_other_way_round_has_the_same_fibres(done):
    chosen = pure(done, "A01", "sciatic", "vastus", "hamstrings")
    v1 = load(done, "sub-turned", "v1")[::-1][chosen]
    assert np.nanmedian(degrees(v1 @ TURN, truth(done, "A01", "v1")[chosen])) < 4
    fa = [load(done, name, "fa") for name in ("sub-A01", "sub-turned")]
    assert np.nanmedian(np.abs(fa[0][chosen] - fa[1][::-1][chosen])) < 0.005


def test_runs_of_one_session_are_one_series_of_one_scale(done):
    told = sidecar(done, "sub-two_ses-1")
    assert [s.rpartition("/")[2] for s in told["Sources"]] == [
        f"sub-two_ses-1_run-{i}_dwi.nii.gz" for i in (1, 2)
    ]
    assert told["Quality"]["n_runs"] == 2
    assert told["Quality"]["run2_scale"] == pytest.approx(GAIN, rel=0.005)
    assert "runs-rescaled" in told["ValidityFlags"]
    # what had been one series before it was cut in two
    for param, within in (("fa", 0.01), ("md", 0.02e-3)):
        cut, whole = (load(done, f"sub-two_ses-{i}", param) for i in (1, 2))
        both = np.isfinite(cut) & np.isfinite(whole)
        assert np.median(np.abs(cut - whole)[both]) < within
    assert "n_runs" not in sidecar(done, "sub-two_ses-2")["Quality"]


def test_one_table_and_one_set_of_maps_for_all_runs(done):
    folder = done / "out/sub-two/ses-1/dwi"
    assert not list(folder.glob("*run-*"))
    whole = np.loadtxt(done / "bids/sub-two/ses-2/dwi/sub-two_ses-2_dwi.bval")
    both = np.loadtxt(folder / "sub-two_ses-1_desc-preproc_dwi.bval")
    np.testing.assert_array_equal(both, whole)
    motion = pd.read_csv(folder / "sub-two_ses-1_desc-confounds_timeseries.tsv", sep="\t")
    assert len(motion) == whole.size


def test_transforms_of_a_limb_at_rest_are_the_identity_nearly(done):
    path = "sub-A01/dwi/sub-A01_from-orig_to-dwiref_mode-image_desc-motion_xfm.txt"
    transforms = read_itk(done / "out" / path)
    n = nb.load(done / "bids/sub-A01/dwi/sub-A01_dwi.nii.gz").shape[3]
    assert len(transforms) == n
    np.testing.assert_allclose(transforms, np.broadcast_to(np.eye(4), (n, 4, 4)), atol=0.5)
    np.testing.assert_allclose(transforms[0], np.eye(4), atol=1e-9)


def test_volume_and_slice_without_signal_cost_nothing_else(done):
    found, whole = (load(done, f"sub-{who}", "md") for who in ("empty", "A01"))
    status = load(done, "sub-empty", "md", "status")
    assert not np.isfinite(found[:, :, EMPTY_SLICE]).any()
    assert set(np.unique(status[:, :, EMPTY_SLICE])) <= {Reason.OUTSIDE_MASK, Reason.NO_SIGNAL}
    # next to the empty slice an interpolated volume is partly empty too
    far = np.r_[0 : EMPTY_SLICE - 1]
    both = np.isfinite(found[:, :, far]) & np.isfinite(whole[:, :, far])
    assert both.sum() > 0.97 * np.isfinite(whole[:, :, far]).sum()
    assert np.median(np.abs(found - whole)[:, :, far][both]) < 0.04e-3
    quality = sidecar(done, "sub-empty")["Quality"]
    assert quality["n_not_registered"] == quality["n_empty_volumes"] == 1
    # neither noise nor replaced slices are those of the empty volume
    assert quality["noise_sigma"] == pytest.approx(
        sidecar(done, "sub-A01")["Quality"]["noise_sigma"], rel=0.05
    )
    assert quality["n_outlier_slices"] == 0
    assert "empty-volumes" in sidecar(done, "sub-empty")["ValidityFlags"]
    assert "empty-volumes" not in sidecar(done, "sub-A01")["ValidityFlags"]
    assert quality["n_directions"] == sidecar(done, "sub-A01")["Quality"]["n_directions"] - 1


def test_darkened_slices_are_found_told_and_replaced(done):
    path = done / "out/sub-dark/dwi/sub-dark_desc-outliers_timeseries.tsv"
    table = pd.read_csv(path, sep="\t", na_values="n/a")
    replaced = {tuple(row) for row in table.loc[table["replaced"] == 1, ["slice", "volume"]].values}
    assert replaced == set(LOST)
    loss = table.set_index(["slice", "volume"])["loss"]
    assert all(loss[where] == pytest.approx(0.6, abs=0.1) for where in LOST)
    quality = sidecar(done, "sub-dark")["Quality"]
    assert quality["n_outlier_slices"] == len(LOST)
    assert quality["outlier_fraction"] == pytest.approx(100 * len(LOST) / table["z"].notna().sum())
    assert sidecar(done, "sub-A01")["Quality"]["n_outlier_slices"] == 0
    chosen = pure(done, "A01", "vastus", "hamstrings")
    for k, _ in LOST:
        here = np.zeros_like(chosen)
        here[:, :, k] = chosen[:, :, k]
        bias = load(done, "sub-dark", "fa")[here] - load(done, "sub-A01", "fa")[here]
        assert abs(np.nanmedian(bias)) < 0.02


def test_three_directions_give_the_adc_and_no_tensor(done):
    assert not list((done / "out/sub-three/dwi").glob("*model-dti*"))
    adc, md = load(done, "sub-three", "adc"), truth(done, "A01", "md")
    chosen = pure(done, "A01", "vastus", "hamstrings")
    # a mean over three directions depends on how they lie to the fibres
    assert np.nanmedian(adc[chosen] / md[chosen]) == pytest.approx(1, abs=0.15)


def test_two_shells_without_b0_give_the_adc_and_no_tensor(done):
    assert not list((done / "out/sub-nob0/dwi").glob("*model-dti*"))
    adc, md = load(done, "sub-nob0", "adc"), truth(done, "A01", "md")
    chosen = pure(done, "A01", "vastus", "hamstrings")
    assert np.nanmedian(adc[chosen] / md[chosen]) == pytest.approx(1, abs=0.02)


def test_series_without_tensor_is_counted_too(done):
    quality = sidecar(done, "sub-three", "adc")["Quality"]
    assert [quality[f"n_{what}"] for what in ("volumes", "b0", "directions")] == [5, 2, 3]


def test_half_a_sphere_is_flagged(done):
    assert "half-sphere" in sidecar(done, "sub-half")["ValidityFlags"]
    assert "half-sphere" not in sidecar(done, "sub-A01")["ValidityFlags"]


def test_quality_of_each_series_is_in_its_table(done):
    table = pd.read_csv(done / "out/sub-A01/sub-A01_desc-quality.tsv", sep="\t", na_values="n/a")
    assert (table["description"].notna() & table["unit"].notna()).all()
    values = table.set_index("metric")["value"]
    wanted = {"snr", "cnr_b800", "residual", "n_directions", "n_outlier_slices", "tsnr_b0",
              "outlier_fraction", "displacement_mean", "displacement_max", "n_b0"}  # fmt: skip
    assert wanted <= set(values.index)
    assert 0.5 < values["cnr_b800"] < 20
    assert 0 < values["residual"] < 5
    page = (done / "out/sub-A01.html").read_text()
    assert "Lowest b-value, before and after" in page
    assert "Slices against their prediction" in page
