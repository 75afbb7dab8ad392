"""Maps of perfusion against the truth, and what they say where nothing is fitted."""

import nibabel as nb
import numpy as np
import pytest
from dce_limb import (
    AFFINE,
    ARRIVAL_S,
    HEMATOCRIT,
    LABELS,
    SHAPE,
    T_S,
    TRUTH,
    Limb,
    aif_table,
    data,
    find,
    fit,
)

from mrn_prep.errors import BadDataError
from mrn_prep.interfaces._dce import interpolated_noise
from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood
from mrn_prep.models.dce_semi import measure_enhancement
from mrn_prep.models.resample import resample
from mrn_prep.models.status import Reason


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
