"""Perfusion steps on a small limb of known truth: a nerve and muscle around an artery and vein."""

from dataclasses import dataclass
from pathlib import Path

import nibabel as nb
import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter

from mrn_prep.errors import BadDataError
from mrn_prep.inputs.dce import DCEInputs
from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.interfaces import dce_frames
from mrn_prep.interfaces._dce import interpolated_noise
from mrn_prep.interfaces.dce import FitDCE
from mrn_prep.interfaces.dce_curves import FitCurves
from mrn_prep.interfaces.dce_frames import FindBaseline, RegisterFrames, baseline_of, thinning
from mrn_prep.interfaces.dce_input import FindInput, read_input
from mrn_prep.interfaces.sinks import map_files
from mrn_prep.io.headers import read_grid
from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_concentration import Acquisition, signal_from_concentration
from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood
from mrn_prep.models.dce_semi import measure_enhancement
from mrn_prep.models.mask import limb_mask
from mrn_prep.models.motion import rigid_matrix, voxel_to_centred_mm
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.resample import grid_points, resample, warp
from mrn_prep.models.status import Reason
from mrn_prep.options import DCEOptions, Options
from mrn_prep.outputs import OUTPUTS
from mrn_prep.workflows.dce import init_dce_wf

SHAPE, AFFINE = (36, 36, 4), np.diag([2.0, 2.0, 4.0, 1.0])
T_S = [4.0 * i for i in range(60)]
HEMATOCRIT, ARRIVAL_S = 0.42, 30.0
SEQUENCE = {"t_s": T_S, "flip_deg": 15.0, "tr_s": 0.005, "relaxivity": 4.5}
ACQUISITION = Acquisition(0.005, np.deg2rad(15), 4.5, slice(0, 7))
TRUTH = {"nerve": (0.03, 0.2, 0.02), "muscle": (0.12, 0.15, 0.03)}  # 1/min, 1, 1
T1_S = {"muscle": 1.4, "nerve": 1.2, "artery": 1.65, "vein": 1.65}
LABELS = {"muscle": 1, "nerve": 2, "artery": 3, "vein": 4}


@dataclass
class Limb:
    """Files of one synthetic limb."""

    folder: Path
    labels: np.ndarray
    blood: np.ndarray
    b1: np.ndarray
    series: str
    t1: str
    b1_file: str

    def save(self, name, values, affine=AFFINE):
        path = self.folder / f"{name}.nii"
        nb.Nifti1Image(np.asarray(values), affine).to_filename(path)
        return str(path)

    def regions(self, *names, kind="dseg", values=None):
        name = f"regions{len(list(self.folder.glob('regions*')))}"
        file = self.save(name, (self.labels if values is None else values).astype(np.uint8))
        known = [Region(index=LABELS[n], name=n, tissue=n, side="L") for n in names]
        return [RegionFile(file=file, kind=kind, regions=tuple(known), source="").record()]


def blood_curve(delay_s=0.0):
    return parker_aif(np.array(T_S), arrival_s=ARRIVAL_S + delay_s)


def make(folder, *, sigma=0.0, t_s=T_S, blood=None):
    """Make the series with the forward models, T1 and B1 known in each voxel."""
    folder.mkdir(exist_ok=True)
    x, y, _ = np.indices(SHAPE) - 17.5
    labels = np.where(np.hypot(x, y) < 14, 1, 0)
    labels[10:15, 10:15] = LABELS["nerve"]
    labels[20:23, 12:15] = LABELS["artery"]
    labels[20:24, 22:26] = LABELS["vein"]
    blood = parker_aif(np.array(t_s), arrival_s=ARRIVAL_S) if blood is None else blood
    plasma = plasma_from_blood(blood, HEMATOCRIT)
    b1 = (1.0 + 0.01 * x).astype(np.float32)
    signal, t1 = np.zeros((*SHAPE, len(t_s))), np.full(SHAPE, np.nan, np.float32)
    for name, label in LABELS.items():
        here = labels == label
        t1[here] = T1_S[name]
        if name in TRUTH:
            ktrans, ve, vp = TRUTH[name]
            curve = extended_tofts_curve(ktrans / 60, ve, vp, plasma, t_s)
        else:
            curve = blood if name == "artery" else np.interp(t_s, np.array(t_s) + 4, blood)
        n = int(here.sum())
        signal[here] = signal_from_concentration(
            np.broadcast_to(curve, (n, len(t_s))), np.full(n, 100.0), ACQUISITION,
            np.full(n, T1_S[name]), b1[here],
        )  # fmt: skip
    if sigma:
        signal = rician_noise(signal, sigma, np.random.default_rng(1))
    limb = Limb(folder, labels, blood, b1, "", "", "")
    limb.series = limb.save("series", signal.astype(np.float32))
    limb.t1, limb.b1_file = limb.save("t1", t1), limb.save("b1", b1)
    return limb


@pytest.fixture(scope="module")
def limb(tmp_path_factory):
    return make(tmp_path_factory.mktemp("dce") / "clean")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return make(tmp_path_factory.mktemp("dce") / "noisy", sigma=2.5)


def run(interface, folder):
    folder.mkdir(exist_ok=True)
    return interface.run(cwd=str(folder)).outputs


def baseline(limb, tmp_path, **more):
    return run(
        FindBaseline(in_file=limb.series, raw_file=limb.series, t_s=T_S, **more),
        tmp_path / "baseline",
    )


def find(limb, tmp_path, **more):
    before = baseline(limb, tmp_path)
    told = {"hematocrit": HEMATOCRIT, "b1": limb.b1_file, **SEQUENCE, **more}
    return run(
        FindInput(in_file=limb.series, mask=before.mask, baseline=before.baseline,
                  sigma=before.sigma, **told),
        tmp_path / f"aif{len(list(tmp_path.glob('aif*')))}",
    )  # fmt: skip


def fit(limb, tmp_path, kind=FitDCE, aif=None, **more):
    before = baseline(limb, tmp_path)
    aif = aif or find(limb, tmp_path, kind="artery", regions=limb.regions("artery")).aif
    own = {"b1": limb.b1_file, "t1": limb.t1, "model": "etofts", "sigma": before.sigma}
    told = {**own, **SEQUENCE, **more}
    told = {key: value for key, value in told.items() if value is not None}
    return run(
        kind(in_file=limb.series, mask=before.mask, baseline=before.baseline, aif=aif, **told),
        tmp_path / "fit",
    )  # fmt: skip


def data(file):
    return np.asanyarray(nb.load(file).dataobj).copy()


def table(file):
    return pd.read_csv(file, sep="\t")


def aif_table(tmp_path, **columns):
    path = tmp_path / "sub-01_desc-aif_timeseries.tsv"
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)
    return str(path)


# --- baseline


def test_baseline_ends_before_the_artery_is_filled(limb, tmp_path):
    found = baseline(limb, tmp_path)
    first, end = found.baseline
    assert (first, T_S[end - 1] <= ARRIVAL_S) == (0, True)
    assert end >= 5
    assert found.facts["ValidityFlags"] == ["motion-not-corrected"]


def test_noise_is_that_of_the_air(noisy, tmp_path):
    assert baseline(noisy, tmp_path).sigma == pytest.approx(2.5, rel=0.03)


def test_noise_is_the_spread_of_the_baseline_where_the_air_was_blanked(noisy, tmp_path):
    series = data(noisy.series)
    series[noisy.labels == 0] = 0
    file = noisy.save("blanked", series)
    found = run(FindBaseline(in_file=file, raw_file=file, t_s=T_S), tmp_path / "blanked")
    assert found.sigma == pytest.approx(2.5, rel=0.1)
    assert "noise from the spread of the baseline" in found.facts["EstimationMethod"]


def test_injection_before_the_rise_shortens_the_baseline(limb, tmp_path):
    assert baseline(limb, tmp_path, injection_s=13.0).baseline == [0, 4]


def test_rise_before_the_injection_is_believed_and_flagged(limb, tmp_path):
    found = baseline(limb, tmp_path, injection_s=60.0)
    assert T_S[found.baseline[1] - 1] <= ARRIVAL_S
    assert "injection-mismatch" in found.facts["ValidityFlags"]


@pytest.mark.parametrize("told", [None, 20.0])
def test_skin_that_moves_is_no_early_vessel(limb, tmp_path, told):
    series, rng = data(limb.series), np.random.default_rng(0)
    x, y, _ = np.indices(SHAPE) - 17.5
    skin = (limb.labels > 0) & (np.hypot(x, y) > 12.5)
    series[skin] *= rng.uniform(0.5, 1.5, (skin.sum(), len(T_S))).astype(np.float32)
    file = limb.save("skin", series)
    more = {} if told is None else {"injection_s": told}
    found = run(FindBaseline(in_file=file, raw_file=file, t_s=T_S, **more), tmp_path / "skin")
    assert found.baseline == ([0, 7] if told is None else [0, 5])


def test_bright_first_frame_is_not_in_the_baseline():
    t = np.arange(0.0, 200.0, 4.0)
    curve = 100 + 50 * np.clip((t - 40) / 20, 0, 1)
    curve[0] = 140
    first, end = baseline_of(curve, t)
    assert first == 1
    assert 8 <= end <= 11


@pytest.mark.parametrize(
    ("curve", "sentence"),
    [
        (lambda t: 100 + 50 * np.clip(t / 30, 0, 1), "frame(s) before contrast"),
        (lambda t: 100 + 50 * np.exp(-t / 100), "does not enhance"),
        (lambda t: 100 + 0 * t, "does not enhance"),
        (lambda t: 100 + 50 * np.clip((t - 4) / 30, 0, 1), "frame(s) before contrast"),
    ],
)
def test_series_without_baseline_is_refused(curve, sentence):
    t = np.arange(0.0, 200.0, 4.0)
    with pytest.raises(BadDataError, match=r".*") as error:
        baseline_of(curve(t), t)
    assert sentence in str(error.value)


# --- motion


def moving_limb(folder, n=16, shape=(56, 56, 10), voxel_mm=2.0):
    """An enhancing limb with fat, bone and vessel that moves by up to 3 voxels and 3 degrees."""
    size, rng = np.array([voxel_mm, voxel_mm, 4.0]), np.random.default_rng(3)
    t_s = 6.0 * np.arange(n)
    to_mm = voxel_to_centred_mm(shape, size)
    points = np.indices(shape).reshape(3, -1).T @ to_mm[:3, :3].T + to_mm[:3, 3]
    x, y, z = points.T.reshape(3, *shape)
    limb = np.hypot(x, 1.15 * y) < 44
    texture = gaussian_filter(rng.normal(size=shape), (8 / voxel_mm, 8 / voxel_mm, 3))
    s0 = np.where(limb, 100 + 15 * texture / texture.std(), 0.0)
    s0[limb & (np.hypot(x, 1.15 * y) > 38)] = 220
    s0[np.hypot(x - 12 - 0.1 * z, y - 8) < 7] = 30
    artery = np.hypot(x - 2, y + 18) < 4
    plasma = plasma_from_blood(parker_aif(t_s, arrival_s=32.0), HEMATOCRIT)
    rate = 0.1 + 0.03 * np.clip(texture / texture.std(), -2, 2)
    curves = extended_tofts_curve(
        rate / 60, np.full(shape, 0.15), np.full(shape, 0.03), plasma, t_s
    )
    curves[artery] = plasma * (1 - HEMATOCRIT)
    signal = signal_from_concentration(
        curves, gaussian_filter(s0, 0.4), ACQUISITION, np.full(shape, 1.4)
    )
    turn = np.deg2rad(rng.uniform(-3, 3, (n, 3))) * [0.3, 0.3, 1]
    shift = rng.uniform(-1, 1, (n, 3)) * 3 * [2, 2, 4] * [1, 1, 0.3]
    turn[:3], shift[:3] = 0, 0
    rigid = rigid_matrix(turn, shift)
    for i in range(3, n):
        back = np.linalg.inv(to_mm) @ np.linalg.inv(rigid[i]) @ to_mm
        moved = warp(signal[..., i].astype(np.float32), grid_points(shape), back[:3], 3)
        signal[..., i] = np.nan_to_num(moved.reshape(shape))
    file = folder / "moving.nii"
    noisy = rician_noise(signal, 3.0, rng).astype(np.float32)
    nb.Nifti1Image(noisy, np.diag([*size, 1])).to_filename(file)
    return str(file), t_s.tolist(), rigid, np.c_[points[limb.ravel()], np.ones(limb.sum())], size


@pytest.mark.parametrize(
    ("shape", "voxel_mm", "step"), [((56, 56, 10), 2.0, 1), ((125, 127, 10), 0.9, 2)]
)
def test_frames_meet_within_a_third_of_a_voxel_though_the_limb_enhances(
    tmp_path, monkeypatch, shape, voxel_mm, step
):
    monkeypatch.setattr(dce_frames, "_ENOUGH_VOXELS", 10_000)  # of a small limb
    file, t_s, rigid, points, size = moving_limb(tmp_path, shape=shape, voxel_mm=voxel_mm)
    assert thinning(limb_mask(data(file)[..., 0]), size).tolist() == [step, step, 1]
    found = run(RegisterFrames(in_file=file, t_s=t_s), tmp_path / "register")
    rows = table(found.confounds)
    turn = np.deg2rad(rows[[f"rot_{a}_deg" for a in "xyz"]].to_numpy())
    shift = rows[[f"trans_{a}_mm" for a in "xyz"]].to_numpy()
    left = np.linalg.inv(rigid) @ rigid_matrix(turn, shift)
    moved_to = data(found.out_file)
    assert moved_to.shape == (*shape, len(t_s))
    for moved, wrong in zip(rigid, left, strict=True):
        before, after = (
            np.linalg.norm(((m - np.eye(4)) @ points.T)[:3].T / size, axis=1).mean()
            for m in (moved, wrong)
        )
        assert after < 0.15  # wanted: 0.3
        assert before == 0 or before > 3 * after
    # before contrast, frames that moved differ by little more than their noise
    limb = data(file)[..., 0] > 60
    apart = [np.nanmedian(np.abs(s[..., 3:5] - s[..., :1])[limb]) for s in (data(file), moved_to)]
    assert apart[1] < 1.6 * 0.6745 * np.sqrt(2) * 3.0
    assert apart[1] < 0.6 * apart[0]
    quality = found.facts["Quality"]
    assert quality["frame_change_after"] < 0.5 * quality["frame_change_before"]
    assert (rows["status"] == 0).all()
    assert found.facts["ValidityFlags"] == ["motion"]
    assert rows["displacement_mm"].max() == pytest.approx(
        found.facts["Quality"]["displacement_max"], rel=1e-4
    )


# --- input function


def test_region_of_an_artery_gives_its_curve(limb, tmp_path):
    found = find(limb, tmp_path, kind="artery", regions=limb.regions("artery", "nerve"))
    aif = table(found.aif)
    assert aif["blood"].to_numpy() == pytest.approx(limb.blood, abs=3e-3)
    plasma = aif["blood"].to_numpy() / (1 - HEMATOCRIT)
    assert aif["plasma"].to_numpy() == pytest.approx(plasma, rel=1e-4, abs=1e-6)
    assert data(found.vessel).sum() == (limb.labels == LABELS["artery"]).sum()
    assert found.facts["Quality"]["aif_peak"] == pytest.approx(limb.blood.max(), rel=1e-3)
    assert found.facts["ValidityFlags"] == []


def test_first_source_that_is_there_is_taken(limb, tmp_path):
    own = aif_table(tmp_path, time=T_S, blood=blood_curve())
    both, vein = limb.regions("artery", "vein"), limb.regions("vein")
    for given, word in (
        ({"table": own, "regions": both}, "from sub-01_desc-aif"),
        ({"regions": both}, "region of the artery"),
        ({"regions": vein}, "region of the vein"),
        ({}, "vessels found in the series"),
    ):
        assert word in find(limb, tmp_path, **given).facts["EstimationMethod"]


def test_automatic_input_has_the_area_of_the_truth(noisy, tmp_path):
    found = find(noisy, tmp_path, kind="auto")
    area = np.trapezoid(noisy.blood, T_S)
    assert found.facts["Quality"]["aif_area"] == pytest.approx(area, rel=0.1)
    assert found.facts["ValidityFlags"] == ["aif-auto"]
    inside = data(found.vessel) > 0
    assert np.isin(noisy.labels[inside], (LABELS["artery"], LABELS["vein"])).mean() > 0.9


def test_without_vessels_a_population_is_taken_and_arrives_with_the_contrast(tmp_path):
    limb = make(tmp_path / "tissue", sigma=1.0)
    series = data(limb.series)
    muscle = series[limb.labels == LABELS["muscle"]]
    vessels = limb.labels > 2
    series[vessels] = muscle[: vessels.sum()]
    limb.series = limb.save("series", series)
    found = find(limb, tmp_path, dose_mmol_per_kg=0.1)
    assert found.facts["ValidityFlags"] == ["aif-population"]
    assert "not used: auto" in found.facts["EstimationMethod"]
    aif = table(found.aif)
    arrival = aif["time"][aif["blood"] > 0].min()
    assert arrival == pytest.approx(ARRIVAL_S, abs=1.0)


@pytest.mark.parametrize("kind", ["parker", "georgiou", "weinmann"])
def test_population_scales_with_the_dose_or_is_flagged(limb, tmp_path, kind):
    told = find(limb, tmp_path, kind=kind, dose_mmol_per_kg=0.2)
    unknown = find(limb, tmp_path, kind=kind)
    assert "dose-assumed" not in told.facts["ValidityFlags"]
    assert "dose-assumed" in unknown.facts["ValidityFlags"]
    peaks = [f.facts["Quality"]["aif_peak"] for f in (told, unknown)]
    assert peaks[0] == pytest.approx(2 * peaks[1], rel=0.05)


def test_plasma_of_weinmann_is_not_divided_by_the_haematocrit(limb, tmp_path):
    aif = table(find(limb, tmp_path, kind="weinmann", dose_mmol_per_kg=0.1).aif)
    assert aif["plasma"].max() == pytest.approx(0.877, rel=0.01)


def test_table_of_plasma_is_taken_as_it_is(limb, tmp_path):
    given = aif_table(tmp_path, time=T_S, plasma=blood_curve())
    found = find(limb, tmp_path, kind="table", table=given, hematocrit_known=False)
    assert table(found.aif)["plasma"].to_numpy() == pytest.approx(blood_curve(), rel=1e-5)
    assert "hematocrit-assumed" not in found.facts["ValidityFlags"]


def test_assumed_haematocrit_is_flagged(limb, tmp_path):
    found = find(limb, tmp_path, kind="artery", regions=limb.regions("artery"),
                 hematocrit_known=False)  # fmt: skip
    assert found.facts["ValidityFlags"] == ["hematocrit-assumed"]


def moved_vessel(folder, radius=2.3):
    """A narrow artery in fat that moves: as acquired, brought back by splines, and how it moved."""
    shape, over = (24, 24, 4), 8
    blood = blood_curve()
    fat = np.full(len(T_S), 90.0)
    inside = signal_from_concentration(blood, 25.0, ACQUISITION, 1.65)
    shift = np.where(np.arange(len(T_S))[:, None] < 7, [1.0, 0.8, 0.0], 0.0)  # half a voxel
    fine = (np.arange(24 * over) + 0.5) / over - 0.5 - 11.5
    raw = np.empty((*shape, len(T_S)), np.float32)
    for i, (dx, dy, _) in enumerate(shift / 2.0):
        share = np.hypot(fine[:, None] - dx, fine - dy) < radius
        share = share.reshape(24, over, 24, over).mean(axis=(1, 3))[..., None].repeat(4, axis=2)
        raw[..., i] = share * inside[i] + (1 - share) * fat[i]
    to_mm = voxel_to_centred_mm(shape, [2.0, 2.0, 4.0])
    back = np.empty_like(raw)
    for i in range(len(T_S)):
        matrix = np.linalg.inv(to_mm) @ rigid_matrix(np.zeros((1, 3)), shift[i : i + 1])[0] @ to_mm
        back[..., i] = warp(raw[..., i], grid_points(shape), matrix[:3], 3).reshape(shape)
    rows = {f"trans_{axis}_mm": shift[:, k] for k, axis in enumerate("xyz")}
    rows |= {f"rot_{axis}_deg": np.zeros(len(T_S)) for axis in "xyz"}
    confounds = folder / "confounds.tsv"
    pd.DataFrame(rows).to_csv(confounds, sep="\t", index=False)
    limb = Limb(
        folder, (np.hypot(*(np.indices(shape)[:2] - 11.5)) < 4) * 3, blood, None, "", "", ""
    )
    return limb, limb.save("raw", raw), limb.save("back", back), str(confounds)


def test_input_of_a_moved_narrow_vessel_is_that_of_its_raw_middle(tmp_path):
    vessel, raw, back, confounds = moved_vessel(tmp_path)
    mask = vessel.save("mask", np.ones((24, 24, 4), np.uint8))
    told = {"in_file": back, "mask": mask, "baseline": [0, 7], "hematocrit": 0.42, **SEQUENCE,
            "kind": "artery", "regions": vessel.regions("artery")}  # fmt: skip
    plain = run(FindInput(**told), tmp_path / "plain")
    moved = run(FindInput(**told, raw_file=raw, confounds=confounds), tmp_path / "moved")
    truth = np.trapezoid(vessel.blood, T_S)
    wrong, right = (
        abs(np.trapezoid(table(found.aif)["blood"], T_S) / truth - 1) for found in (plain, moved)
    )
    assert wrong > 0.2
    assert right < 0.01
    # a vessel without such a middle is taken as interpolated, and told
    vessel, raw, back, confounds = moved_vessel(tmp_path, radius=2.0)
    told["in_file"] = back
    narrow = run(FindInput(**told, raw_file=raw, confounds=confounds), tmp_path / "narrow")
    assert "aif-low-quality" in narrow.facts["ValidityFlags"]


def with_inflow(limb, tmp_path, factor):
    series = data(limb.series)
    artery = limb.labels == LABELS["artery"]
    series[artery, :7] *= factor
    changed = Limb(tmp_path, limb.labels, limb.blood, limb.b1, "", limb.t1, limb.b1_file)
    changed.series = changed.save("inflow", series)
    return changed


def test_inflow_is_flagged(limb, tmp_path):
    changed = with_inflow(limb, tmp_path, 1.8)
    told = {"kind": "artery", "regions": changed.regions("artery"), "t1": limb.t1}
    low = find(changed, tmp_path, **told)
    assert low.facts["ValidityFlags"] == ["aif-inflow"]
    assert table(low.aif)["blood"].max() < 0.5 * limb.blood.max()
    calm = find(limb, tmp_path, **{**told, "regions": limb.regions("artery")})
    assert "aif-inflow" not in calm.facts["ValidityFlags"]
    brighter = low.facts["Quality"]["aif_inflow"] / calm.facts["Quality"]["aif_inflow"]
    assert brighter == pytest.approx(1.8, rel=1e-3)


def test_area_is_made_that_of_the_dose(limb, tmp_path):
    changed = with_inflow(limb, tmp_path, 1.4)
    told = {"kind": "artery", "regions": changed.regions("artery"), "rescale": "area"}
    found = find(changed, tmp_path, **told, dose_mmol_per_kg=0.1)
    t = np.array(T_S)
    area = np.trapezoid(table(found.aif)["blood"], t) / np.trapezoid(limb.blood, t)
    assert area == pytest.approx(1, abs=0.03)
    assert "area of Parker's curve" in found.facts["EstimationMethod"]
    assert "dose-assumed" in find(changed, tmp_path, **told).facts["ValidityFlags"]


def test_rescaling_to_a_vein_that_is_not_drawn_is_told(limb, tmp_path):
    told = {"regions": limb.regions("artery"), "rescale": "vein"}
    with pytest.raises(BadDataError, match="no region of tissue vein"):
        find(limb, tmp_path, kind="artery", **told)
    found = find(limb, tmp_path, **told)
    assert "no region of tissue vein" in found.facts["EstimationMethod"]
    assert "aif-region-unused" in found.facts["ValidityFlags"]


def test_narrow_artery_is_rescaled_to_the_tail_of_the_vein(limb, tmp_path):
    series = data(limb.series)
    artery = limb.labels == LABELS["artery"]
    pure = data(limb.series)
    base = pure[artery][:, :1]
    series[artery] = base + 0.6 * (series[artery] - base)
    limb = Limb(tmp_path, limb.labels, limb.blood, limb.b1, "", limb.t1, limb.b1_file)
    limb.series = limb.save("partial", series)
    regions = limb.regions("artery", "vein")
    low = find(limb, tmp_path, kind="artery", regions=regions)
    scaled = find(limb, tmp_path, kind="artery", regions=regions, rescale="vein")
    late = np.array(T_S) > 150
    assert table(low.aif)["blood"][late].mean() < 0.7 * limb.blood[late].mean()
    vein = np.interp(T_S, np.array(T_S) + 4, limb.blood)[late].mean()
    assert table(scaled.aif)["blood"][late].mean() == pytest.approx(vein, rel=0.02)
    assert "rescaled to the tail of the vein" in scaled.facts["EstimationMethod"]


@pytest.mark.parametrize(
    ("names", "values", "sentence"),
    [
        ((), None, "there is no region of tissue artery"),
        (("artery",), np.zeros, "is empty or lies outside the series"),
        (("artery",), "nerve", "does not rise|has a peak below 1 mM|has no peak"),
    ],
)
def test_region_of_no_use_is_refused_where_it_is_asked_for(limb, tmp_path, names, values, sentence):
    drawn = None
    if values == "nerve":
        drawn = np.where(limb.labels == LABELS["nerve"], LABELS["artery"], 0)
    elif values is not None:
        drawn = np.zeros(SHAPE)
    regions = limb.regions(*names, values=drawn) if names else []
    with pytest.raises(BadDataError, match=sentence):
        find(limb, tmp_path, kind="artery", regions=regions)
    found = find(limb, tmp_path, regions=regions)
    assert ("aif-region-unused" in found.facts["ValidityFlags"]) == bool(names)


def test_saturated_artery_is_refused(limb, tmp_path):
    series = data(limb.series)
    artery = limb.labels == LABELS["artery"]
    series[artery, 10:14] = 1e4
    limb = Limb(tmp_path, limb.labels, limb.blood, limb.b1, "", limb.t1, limb.b1_file)
    limb.series = limb.save("saturated", series)
    with pytest.raises(BadDataError, match="is saturated"):
        find(limb, tmp_path, kind="artery", regions=limb.regions("artery"))


@pytest.mark.parametrize("hematocrit", [42.0, 1.0, -0.1])
def test_impossible_haematocrit_is_refused(limb, tmp_path, hematocrit):
    with pytest.raises(BadDataError, match="fraction between 0 and 1"):
        find(limb, tmp_path, kind="artery", regions=limb.regions("artery"), hematocrit=hematocrit)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"time": T_S, "concentration": blood_curve()}, "wanted the columns time"),
        ({"t": T_S, "blood": blood_curve()}, "has the columns t, blood"),
        ({"time": T_S, "blood": ["x"] * 60}, "rows without numbers"),
        ({"time": T_S[::-1], "blood": blood_curve()}, "times do not increase"),
        ({"time": T_S[:30], "blood": blood_curve()[:30]}, "ends at 116 s"),
        ({"time": T_S, "blood": np.arange(60.0)}, "has no peak"),
        ({"time": T_S, "blood": np.zeros(60)}, "has no peak"),
        ({"time": T_S, "blood": 1e3 * blood_curve()}, "wanted mM"),
    ],
)
def test_bad_table_is_refused(tmp_path, columns, sentence):
    with pytest.raises(BadDataError) as error:
        read_input(aif_table(tmp_path, **columns), T_S)
    assert str(error.value).startswith("sub-01_desc-aif_timeseries.tsv")
    assert sentence in str(error.value)


# --- maps


def test_truth_is_recovered_without_noise(limb, tmp_path):
    found = fit(limb, tmp_path)
    for name, (ktrans, ve, vp) in TRUTH.items():
        here = limb.labels == LABELS[name]
        for key, truth in (
            ("ktrans", ktrans / 60),
            ("ve", ve),
            ("vp", vp),
            ("kep", ktrans / ve / 60),
        ):
            values = data(getattr(found, f"etofts_{key}"))[here]
            assert values == pytest.approx(truth, rel=5e-4)
    assert found.facts["ValidityFlags"] == ["t1-no-se"]
    assert found.facts["Quality"]["fitted_fraction"] > 0.95


def test_outside_the_limb_nothing_is_fitted(limb, tmp_path):
    found = fit(limb, tmp_path)
    air = np.zeros(SHAPE, bool)
    air[:3] = True
    assert np.isnan(data(found.etofts_ktrans)[air]).all()
    assert (data(found.etofts_status)[air] == Reason.OUTSIDE_MASK).all()


def test_errors_cover_the_truth(noisy, tmp_path):
    aif = aif_table(tmp_path, time=T_S, blood=noisy.blood)
    aif = find(noisy, tmp_path, kind="table", table=aif).aif
    found = fit(noisy, tmp_path, aif=aif)
    here = noisy.labels == LABELS["muscle"]
    value, se = data(found.etofts_ktrans)[here], data(found.etofts_ktrans_se)[here]
    z = (value - TRUTH["muscle"][0] / 60) / se
    assert np.nanmean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.06)
    assert np.nanmedian(value) == pytest.approx(TRUTH["muscle"][0] / 60, rel=0.01)


def test_return_is_open_where_ktrans_is_not(noisy, tmp_path):
    found = fit(noisy, tmp_path)
    status, own = data(found.etofts_status), data(found.etofts_ve_status)
    ktrans, ve, kep = (data(getattr(found, f"etofts_{k}")) for k in ("ktrans", "ve", "kep"))
    open_ = (status == 0) & (own != 0)
    assert open_.any()
    assert np.isfinite(ktrans[open_]).all()
    assert np.isnan(ve[open_]).all()
    assert np.isnan(kep[open_]).all()
    assert np.isfinite(ve[own == 0]).all()


def test_maps_of_another_grid_meet_by_world_coordinates(limb, tmp_path):
    fine = AFFINE @ np.diag([0.5, 0.5, 1, 1])
    fine[:3, 3] = [-0.5, -0.5, 0]
    t1, b1 = (np.repeat(np.repeat(data(f), 2, 0), 2, 1) for f in (limb.t1, limb.b1_file))
    x = np.arange(72) * 0.5 - 0.25 - 17.5
    b1[:] = (1 + 0.01 * x)[:, None, None]
    found = fit(limb, tmp_path, t1=limb.save("fine_t1", t1, fine),
                b1=limb.save("fine_b1", b1, fine))  # fmt: skip
    inner = np.zeros(SHAPE, bool)
    inner[11:14, 11:14] = True  # of the nerve: its rim shares T1 with muscle
    assert data(found.etofts_ktrans)[inner] == pytest.approx(0.03 / 60, rel=1e-3)


@pytest.mark.parametrize(
    "place", [lambda t1: (np.full_like(t1, np.nan), AFFINE), lambda t1: (t1, AFFINE + 900)]
)
def test_t1_map_without_values_in_the_limb_is_refused(limb, tmp_path, place):
    values, affine = place(data(limb.t1))
    affine = np.array(affine)
    affine[3] = [0, 0, 0, 1]
    affine[:3, :3] = AFFINE[:3, :3]
    with pytest.raises(BadDataError, match=r"none\.nii: the T1 map has no value"):
        fit(limb, tmp_path, t1=limb.save("none", values, affine))


def test_fixed_t1_is_flagged_and_overrides_the_map(limb, tmp_path):
    found = fit(limb, tmp_path, t1_s=1.4)
    muscle, nerve = (limb.labels == LABELS[n] for n in ("muscle", "nerve"))
    ktrans = data(found.etofts_ktrans) * 60
    assert "t1-assumed" in found.facts["ValidityFlags"]
    assert ktrans[muscle] == pytest.approx(0.12, rel=1e-3)
    assert (np.abs(ktrans[nerve] / 0.03 - 1) > 0.05).all()


def test_error_of_t1_shrinks_where_its_map_is_interpolated():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(30, 30, 30)).astype(np.float32)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:3, 3] = [1.5, 2.25, 3.0]  # half a voxel, a quarter, none
    image = nb.Nifti1Image(np.zeros((25, 25, 12), np.float32), affine)
    inside = np.ones(image.shape, bool)
    moved = resample(noise, np.eye(4), image.affine, image.shape)
    expected = interpolated_noise(np.eye(4), image, inside)
    assert expected.std() < 1e-6
    assert moved.std() == pytest.approx(expected[0], rel=0.03)
    assert expected[0] == pytest.approx(np.sqrt(0.5 * (0.25**2 + 0.75**2)))


def test_without_b1_the_maps_are_flagged(limb, tmp_path):
    assert "no-b1" in fit(limb, tmp_path, b1=None).facts["ValidityFlags"]


def test_saturated_voxels_tell_why_they_are_not_fitted(limb, tmp_path):
    series = data(limb.series)
    series[12, 12, 1, 20] = 1e4
    other = Limb(tmp_path, limb.labels, limb.blood, limb.b1, "", limb.t1, limb.b1_file)
    other.series = other.save("bright", series)
    found = fit(other, tmp_path)
    assert data(found.etofts_status)[12, 12, 1] == Reason.SATURATED
    assert np.isnan(data(found.etofts_ktrans)[12, 12, 1])


def test_enhancement_is_measured_without_a_model(limb, tmp_path):
    found = fit(limb, tmp_path)
    here = limb.labels == LABELS["muscle"]
    signal = data(limb.series)[here]
    assert data(found.semi_peak)[here] == pytest.approx(signal.max(axis=-1) / 100 - 1, rel=1e-3)
    curve = extended_tofts_curve(
        0.12 / 60, 0.15, 0.03, plasma_from_blood(limb.blood, HEMATOCRIT), T_S
    )
    assert data(found.semi_arrival)[here] == pytest.approx(ARRIVAL_S + 2, abs=3)
    truth = measure_enhancement(curve, T_S, slice(0, 7), sigma=1e-3)
    assert data(found.semi_iauc60)[here] == pytest.approx(float(truth.iauc60), rel=1e-3)


def test_best_of_all_models_is_chosen_and_each_has_its_maps(noisy, tmp_path):
    found = fit(noisy, tmp_path, model="select")
    chosen = data(found.select_model)
    tissue = noisy.labels == LABELS["muscle"]
    assert (chosen[tissue] == 2).mean() > 0.6  # extended Tofts
    assert (chosen[:3] == 0).all()
    for model in ("tofts", "etofts", "patlak", "2cum"):
        assert np.isfinite(data(getattr(found, f"{model}_aicc"))[tissue]).all()
    # the truth has no limit of flow, which exchange between two compartments would measure
    assert (data(getattr(found, "2cxm_status"))[tissue] != Reason.FITTED).all()


def test_late_bolus_is_found_where_the_delay_is_fitted(limb, tmp_path):
    early = aif_table(tmp_path, time=np.arange(0, 240.0), blood=parker_aif(
        np.arange(0, 240.0), arrival_s=ARRIVAL_S - 5))  # fmt: skip
    aif = find(limb, tmp_path, kind="table", table=early).aif
    found = fit(limb, tmp_path, aif=aif, delay=True)
    here = limb.labels == LABELS["nerve"]
    assert np.median(data(found.etofts_delay)[here]) == pytest.approx(5, abs=0.5)
    assert np.median(data(found.etofts_ktrans)[here]) * 60 == pytest.approx(0.03, rel=0.03)


# --- mean curves


def test_mean_curve_of_a_region_gives_the_truth_per_minute(limb, tmp_path):
    regions = limb.regions("nerve", "muscle", "artery")
    found = fit(limb, tmp_path, FitCurves, regions=regions)
    fits, curves = table(found.curve_fits), table(found.curves)
    assert set(fits["region"]) == {"nerve", "muscle"}  # the artery is the input
    for name, (ktrans, ve, vp) in TRUTH.items():
        own = fits[fits["region"] == name].set_index("parameter")
        assert own["unit"]["ktrans"] == "1/min"
        assert own["value"][["ktrans", "ve", "vp"]].tolist() == pytest.approx(
            [ktrans, ve, vp], rel=5e-4
        )
        # those that touch no other region within their slice
        assert (own["n_vox"] == binary_erosion(limb.labels == LABELS[name], _CROSS).sum()).all()
        assert own["flags"].isna().all()
        rows = curves[curves["region"] == name]
        assert rows["fitted"].to_numpy() == pytest.approx(rows["measured"].to_numpy(), abs=1e-4)
        assert rows["time"].tolist() == T_S


_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[:, :, None]


def coarse_t1(limb, factor=4):
    """A T1 map of voxels so large that T1 is mixed at the borders of regions."""
    t1 = np.nan_to_num(data(limb.t1), nan=0.37)  # fat around the limb
    n_x, n_y, n_z = t1.shape
    blocks = t1.reshape(n_x // factor, factor, n_y // factor, factor, n_z).mean(axis=(1, 3))
    affine = AFFINE @ np.diag([factor, factor, 1, 1])
    affine[:2, 3] += (factor - 1) / 2 * 2.0
    return limb.save(f"t1_coarse{factor}", blocks.astype(np.float32), affine)


def nerve_in_fat(limb):
    """A nerve of 10 x 10 voxels, all else is fat by the T1 map."""
    labels = np.zeros(SHAPE, int)
    labels[10:20, 10:20] = LABELS["nerve"]
    t1 = np.where(labels == LABELS["nerve"], 1.2, 0.37).astype(np.float32)
    changed = Limb(limb.folder, labels, limb.blood, limb.b1, "", limb.save("t1_fat", t1),
                   limb.b1_file)  # fmt: skip
    ktrans, ve, vp = TRUTH["nerve"]
    curve = extended_tofts_curve(ktrans / 60, ve, vp, plasma_from_blood(limb.blood, 0.42), T_S)
    every = np.broadcast_to(curve, (*SHAPE, len(T_S)))
    inside = np.hypot(*(np.indices(SHAPE)[:2] - 17.5)) < 14
    signal = signal_from_concentration(every, 100.0 * inside, ACQUISITION, t1, limb.b1)
    changed.series = limb.save("nerve_in_fat", signal.astype(np.float32))
    return changed


def test_t1_that_the_map_has_mixed_with_fat_is_not_that_of_the_nerve(limb, tmp_path):
    changed = nerve_in_fat(limb)
    aif = find(limb, tmp_path, kind="artery", regions=limb.regions("artery")).aif
    regions = changed.regions("nerve")
    coarse = coarse_t1(changed, 2)
    found = fit(changed, tmp_path, FitCurves, aif=aif, regions=regions, t1=coarse)
    own = table(found.curve_fits).set_index("parameter")
    assert own["value"][["ktrans", "ve", "vp"]].tolist() == pytest.approx(TRUTH["nerve"], rel=2e-3)
    assert own["flags"].isna().all()
    # without a voxel of the map that is the nerve's alone, the mixture is told
    found = fit(changed, tmp_path, FitCurves, aif=aif, regions=regions, t1=coarse_t1(changed, 6))
    own = table(found.curve_fits).set_index("parameter")
    assert (own["flags"] == "partial-volume-t1").all()


def test_voxels_of_a_nerve_take_t1_from_voxels_of_the_nerve(limb, tmp_path):
    changed = nerve_in_fat(limb)
    aif = find(limb, tmp_path, kind="artery", regions=limb.regions("artery")).aif
    told = {"aif": aif, "t1": coarse_t1(changed, 3)}
    nerve = changed.labels == LABELS["nerve"]

    def worst(**more):
        ktrans = 60 * data(fit(changed, tmp_path, **told, **more).etofts_ktrans)
        return np.abs(ktrans[nerve] / TRUTH["nerve"][0] - 1).max(), ktrans[~nerve]

    mixed, around = worst()
    own, still_around = worst(regions=changed.regions("nerve"))
    assert mixed > 0.2
    assert own < 0.02
    np.testing.assert_array_equal(around, still_around)


def test_small_region_is_told(limb, tmp_path):
    shown = np.zeros(SHAPE)
    shown[12:14, 12:14, 1] = LABELS["nerve"]
    found = fit(limb, tmp_path, FitCurves, regions=limb.regions("nerve", values=shown))
    own = table(found.curve_fits)
    assert (own["flags"] == "partial-volume").all()
    assert (own["n_vox"] == 4).all()


def test_error_of_the_input_function_is_in_that_of_the_curves(limb, tmp_path):
    exact, rough = (
        table(fit(limb, tmp_path, FitCurves, regions=limb.regions("nerve"), aif_error=error)
              .curve_fits).set_index("parameter") for error in (0.0, 0.1)
    )  # fmt: skip
    for param in ("ktrans", "ve", "vp"):
        more = np.sqrt(rough["se"][param] ** 2 - exact["se"][param] ** 2)
        assert more == pytest.approx(0.1 * exact["value"][param], rel=1e-3)
    assert rough["se"]["kep"] == exact["se"]["kep"]


def test_mean_curve_is_nearer_to_the_truth_than_its_voxels(noisy, tmp_path):
    voxels = data(fit(noisy, tmp_path).etofts_ktrans)[noisy.labels == LABELS["nerve"]] * 60
    found = fit(noisy, tmp_path, FitCurves, regions=noisy.regions("nerve"))
    own = table(found.curve_fits).set_index("parameter").loc["ktrans"]
    assert abs(own["value"] - 0.03) < 0.3 * np.nanstd(voxels)
    assert abs(own["value"] - 0.03) < 3 * own["se"]


def test_fitted_curve_is_there_where_ve_is_open(noisy, tmp_path):
    shown = np.zeros(SHAPE)
    shown[12, 12, 1] = LABELS["nerve"]  # one voxel alone
    found = fit(noisy, tmp_path, FitCurves, regions=noisy.regions("nerve", values=shown),
                model="select", sigma=5.0)  # fmt: skip
    curves = table(found.curves)
    assert curves["fitted"].notna().all()
    residual = curves["measured"] - curves["fitted"]
    assert residual.std() < 1.2 * curves["measured"][:6].std()


def test_region_outside_the_limb_is_told_as_not_fitted(limb, tmp_path):
    shown = np.zeros(SHAPE)
    shown[0, 0, 0] = LABELS["nerve"]
    found = fit(limb, tmp_path, FitCurves, regions=limb.regions("nerve", values=shown))
    fits = table(found.curve_fits)
    assert (fits["status"] == Reason.OUTSIDE_MASK).all()
    assert fits["value"].isna().all()
    assert table(found.curves).empty


def test_without_regions_the_tables_have_no_rows(limb, tmp_path):
    found = fit(limb, tmp_path, FitCurves, regions=[])
    assert table(found.curve_fits).empty
    assert table(found.curves).empty


# --- the graph


def dce_inputs(limb, **more):
    told = {
        "entities": {"subject": "01", "suffix": "dce", "datatype": "perf"},
        "files": (limb.series,), "sources": ("bids:raw:x",), "sequence_class": "DCE",
        "grid": read_grid(Path(limb.series)), "b1": None, "t_s": tuple(T_S), "flip_deg": 15.0,
        "tr_s": 0.005, "field_t": 3.0, "relaxivity_per_mm_per_s": 4.5, "relaxivity_source": "test",
        "dose_mmol_per_kg": 0.1, "hematocrit": HEMATOCRIT, "hematocrit_known": True,
        "injection_s": None, "fat_saturated": False, **more,
    }  # fmt: skip
    return DCEInputs(**told)


MODELS = ("etofts", "tofts", "patlak", "2cum", "2cxm", "select")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("delay", [False, True])
@pytest.mark.parametrize("motion", ["none", "rigid"])
def test_graph_offers_all_products_of_every_option(limb, model, delay, motion):
    options = DCEOptions(model=model, delay=delay, motion=motion)
    wf = init_dce_wf(dce_inputs(limb), with_b1=True, with_t1=True, regions=[], options=options)
    target = wf.get_node("outputnode")
    fields = set(target.inputs.copyable_trait_names())
    whole = Options().with_values("dce", {"model": model, "delay": delay, "motion": motion})
    for product in dce_inputs(limb).products(whole):
        names = [n for _, n in map_files(product)] if product.key in OUTPUTS else [product.key]
        assert set(names) <= fields
    fed = {to for _, _, data in wf._graph.in_edges(target, data=True)
           for _, to in data["connect"]}  # fmt: skip
    assert fields - fed <= {"dce", "dce_confounds"} | (fields - fed if motion == "none" else set())


def test_graph_runs_from_the_series_to_maps_and_tables(noisy, tmp_path):
    regions = [RegionFile.from_record(r) for r in noisy.regions("nerve", "artery")]
    wf = init_dce_wf(
        dce_inputs(noisy, t1_map=noisy.t1), with_b1=False, with_t1=False, regions=regions,
        options=DCEOptions(motion="none"),
    )  # fmt: skip
    wf.base_dir = str(tmp_path)
    wf.config["execution"] = {"crashdump_dir": str(tmp_path)}
    nodes = {node.name: node for node in wf.run("Linear").nodes()}
    facts = nodes["fit"].result.outputs.facts
    assert facts["ValidityFlags"] == ["motion-not-corrected", "no-b1", "t1-no-se"]
    assert {"aif_peak", "baseline_frames", "snr"} <= set(facts["Quality"])
    assert "region of the artery" in facts["EstimationMethod"]
    fits = table(nodes["curves"].result.outputs.curve_fits)
    assert fits["region"].unique().tolist() == ["nerve"]
