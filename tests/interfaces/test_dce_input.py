"""Input function: its sources, what moves and flows in, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from dce_limb import (
    ACQUISITION,
    ARRIVAL_S,
    HEMATOCRIT,
    LABELS,
    SEQUENCE,
    SHAPE,
    T_S,
    Limb,
    aif_table,
    blood_curve,
    data,
    find,
    make,
    run,
    table,
)

from mrn_prep.errors import BadDataError
from mrn_prep.interfaces.dce_input import FindInput, read_input
from mrn_prep.models.dce_concentration import signal_from_concentration
from mrn_prep.models.motion import rigid_matrix, voxel_to_centred_mm
from mrn_prep.models.resample import grid_points, warp


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
