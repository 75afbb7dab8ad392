"""Dynamic series: concentrations are in the frames, and the truth is in the concentrations."""

from dataclasses import replace

import numpy as np
import pytest

from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_concentration import Acquisition, concentration_from_signal
from mrn_prep.models.dce_curves import extended_tofts_curve
from mrn_prep.models.dce_models import fit_extended_tofts
from mrn_prep.phantom.geometry import REGIONS
from mrn_prep.phantom.limb import Limb
from mrn_prep.phantom.motion import Motion
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.sites import site

HCT, R1 = 0.42, 4.5  # haematocrit; relaxivity of gadobutrol in blood at 3 T


def concentrations(seen, where):
    """Concentrations in some voxels, with the true T1 and B1+."""
    dce = seen.series
    baseline = slice(0, int((dce.onsets_s < dce.injection_s).sum()))
    acquisition = Acquisition(dce.tr_s, np.deg2rad(dce.flip_deg), R1, baseline)
    t1_s = seen.values("t1_s", where)
    found = concentration_from_signal(
        seen.signal[where], acquisition, t1_s, b1=seen.scene.b1[where]
    )
    return found.concentration_mm


def test_the_artery_holds_blood(view, site_index):
    seen = view("dce", site_index)
    blood, plasma = seen.series.aif
    found = concentrations(seen, seen.pure("femoralartery"))
    np.testing.assert_allclose(found, np.broadcast_to(blood, found.shape), atol=1e-9)
    np.testing.assert_allclose(plasma, blood / (1 - HCT), rtol=1e-12)


@pytest.mark.parametrize("name", ["sciatic", "vastus", "femoralartery", "subcutaneousfat"])
def test_frames_hold_the_mean_concentration(view, site_index, name):
    """Against sums of ten times as many points."""
    seen, t = view("dce", site_index), view("dce", site_index).tissue(name)
    dce, n_parts = seen.series, 500
    parts = (np.arange(n_parts) + 0.5) / n_parts * dce.frame_s
    fine_s = (dce.onsets_s[:, None] + parts).ravel()
    plasma = parker_aif(fine_s, 0.1, dce.injection_s + dce.transit_s) / (1 - HCT)
    curve = extended_tofts_curve(t.ktrans_per_s, t.ve, t.vp, plasma, fine_s)
    expected = curve.reshape(dce.n_frames, n_parts).mean(axis=-1)
    found = concentrations(seen, seen.pure(name))[0]
    np.testing.assert_allclose(found, expected, atol=1e-3 * expected.max())


def test_nothing_enhances_before_the_bolus_arrives(view, site_index):
    seen = view("dce", site_index)
    dce = seen.series
    before = dce.onsets_s + dce.frame_s < dce.injection_s + dce.transit_s
    assert before.sum() > 8
    first = seen.signal[..., :1]
    np.testing.assert_allclose(seen.signal[..., before], np.repeat(first, before.sum(), axis=-1))
    artery = seen.pure("femoralartery")
    assert (seen.signal[artery].max(axis=-1) > 4 * first[artery][:, 0]).all()


# straight lines between frames of 4.5 and 5 s cost most where exchange is fast
@pytest.mark.parametrize(("name", "within"), [("sciatic", 0.005), ("vastus", 0.012)])
def test_extended_tofts_finds_the_truth(view, site_index, name, within):
    seen = view("dce", site_index)
    where = seen.pure(name)
    fit = fit_extended_tofts(concentrations(seen, where), seen.series.aif[1], seen.series.onsets_s)
    found = {"ktrans": fit.ktrans_per_s, "kep": fit.kep_per_s, "ve": fit.ve, "vp": fit.vp}
    for param, values in found.items():
        truth = seen.truth[f"etofts_{param}", ""][where]
        np.testing.assert_allclose(values, truth, rtol=within)


def test_kep_is_told_only_where_something_is_exchanged(view):
    seen = view("dce", 0)
    kep = seen.truth["etofts_kep", ""]
    for name in ("femur", "femoralartery"):
        assert np.isnan(kep[seen.pure(name)]).all()
    nerve = seen.pure("sciatic")
    np.testing.assert_allclose(kep[nerve], 0.026 / 60 / 0.10, rtol=1e-6)
    assert np.isnan(kep[seen.scene.fractions[..., 0] == 1]).all()


@pytest.mark.parametrize("small", [False, True])
def test_an_input_function_can_be_read_from_the_artery(site_index, small):
    place = site(site_index, small=small)
    scene = Scene(limb=Limb(), grid=place.series["dce"].grid, pose=np.eye(4))
    assert (scene.pure == REGIONS["femoralartery"].index).sum() >= 15
    assert REGIONS["femoralartery"].drawn and REGIONS["femoralartery"].tissue == "artery"


def moved(n, rotation_rad, translation_mm):
    return Motion(
        rotation_rad=np.tile(rotation_rad, (n, 1)).astype(float),
        translation_mm=np.tile(translation_mm, (n, 1)).astype(float), eddy=np.zeros((n, 4)),
    )  # fmt: skip


def test_moved_frames_show_a_limb_that_lies_elsewhere(view):
    seen = view("dce", 1)
    dce, scene = replace(seen.series, n_frames=16, frame_s=6.0), seen.scene
    np.testing.assert_allclose(
        dce.moving_signal(scene, moved(16, [0, 0, 0], [0, 0, 0])), dce.signal(scene), rtol=1e-9
    )
    motion = moved(16, [0.05, 0.02, -0.06], [3.0, -2.0, 4.0])
    axes = np.eye(4)
    axes[:3, :3] = scene.grid.axes
    lies = replace(scene, pose=axes @ motion.rigid[0] @ axes.T @ scene.pose)
    found, expected = dce.moving_signal(scene, motion), dce.signal(lies)
    assert np.isclose(found, expected, rtol=1e-9).mean() > 0.999
    assert not np.isclose(found, dce.signal(scene), rtol=1e-2).mean() > 0.95


def test_eddy_currents_do_not_move_frames():
    dce, rng = site(0).series["dce"], np.random.default_rng(0)
    assert dce.draw_motion(rng, shift_mm=0.0, turn_deg=0.0, eddy_mm=2.0) is None
    motion = dce.draw_motion(rng, shift_mm=1.5, turn_deg=0.0, eddy_mm=2.0)
    assert not motion.eddy.any() and not motion.rotation_rad.any()
    assert np.sqrt((motion.translation_mm**2).sum(1).mean()) == pytest.approx(1.5)
