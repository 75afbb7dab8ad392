"""Mean curves of regions, and the T1 that belongs to them."""

import numpy as np
import pytest
from dce_limb import ACQUISITION, AFFINE, LABELS, SHAPE, T_S, TRUTH, Limb, data, find, fit, table
from scipy.ndimage import binary_erosion

from mrn_prep.interfaces.dce_curves import FitCurves
from mrn_prep.models.dce_concentration import signal_from_concentration
from mrn_prep.models.dce_curves import extended_tofts_curve, plasma_from_blood
from mrn_prep.models.status import Reason


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
