"""Signals of voxels that one tissue fills are the model's; truth is what was put in."""

from dataclasses import replace

import numpy as np
import pytest

from mrn_prep.models.b1_afi import afi_signal
from mrn_prep.models.dti import fit_dti
from mrn_prep.models.motion import displaced, rigid_matrix, voxel_to_centred_mm
from mrn_prep.models.spin_echo import spin_echo_signal
from mrn_prep.models.t1_vfa import fit_vfa, spgr_signal
from mrn_prep.phantom import acquire, truth
from mrn_prep.phantom.acquire import Scene, sigma_for, with_noise
from mrn_prep.phantom.geometry import MUSCLES, REGIONS
from mrn_prep.phantom.gradients import table, to_fsl
from mrn_prep.phantom.limb import Limb
from mrn_prep.phantom.motion import Motion, draw_motion
from mrn_prep.phantom.protocols import site

POSE = rigid_matrix([0.02, -0.03, 0.04], [2.0, -1.0, 3.0])
NAMES = ["sciatic", "vastus", "femoralartery", "subcutaneousfat"]


def scene(protocol, index=0, **changes):
    grid = replace(protocol.grid, shape=(*protocol.grid.shape[:2], 4), finer=(4, 4, 3))
    return Scene(limb=Limb(), grid=grid, pose=POSE, b1_scale=site(index).b1_scale, **changes)


@pytest.fixture(scope="module", params=[0, 1], ids=["site A", "site B"])
def place(request):
    return site(request.param, small=False), request.param


def pure(seen, name):
    where = seen.pure == REGIONS[name].index
    assert where.sum() > 3
    return where


def test_pure_voxels_follow_the_spoiled_gradient_echo(place):
    protocol, index = place[0].vfa, place[1]
    seen = scene(protocol, index)
    signal = acquire.vfa(seen, protocol)
    for name in NAMES:
        t, where = seen.limb.tissues[name], pure(seen, name)
        m0 = seen.gain * t.pd * np.exp(-protocol.te_s / t.t2star_s)
        flip = seen.b1[where][:, None] * np.deg2rad(protocol.flip_deg)
        expected = spgr_signal(m0, t.t1_s, flip, protocol.tr_s)
        np.testing.assert_allclose(signal[where], expected, rtol=1e-12)


def test_fitting_pure_voxels_with_the_true_b1_gives_the_true_t1_and_m0(place):
    protocol, index = place[0].vfa, place[1]
    seen = scene(protocol, index)
    where = np.isin(seen.pure, [REGIONS[n].index for n in NAMES])
    fit = fit_vfa(acquire.vfa(seen, protocol)[where], np.deg2rad(protocol.flip_deg),
                  protocol.tr_s, b1=seen.b1[where])  # fmt: skip
    t1 = truth.mean_of(seen, seen.limb.values("t1_s"))[where]
    np.testing.assert_allclose(fit.t1_s, t1, rtol=1e-5)
    np.testing.assert_allclose(fit.m0, truth.m0_map(seen, protocol)[where], rtol=1e-5)


def test_pure_voxels_follow_actual_flip_angle_imaging(place):
    protocol, index = place[0].afi, place[1]
    seen = scene(protocol, index)
    signal = acquire.afi(seen, protocol)
    t, where = seen.limb.tissues["vastus"], pure(seen, "vastus")
    m0 = seen.gain * t.pd * np.exp(-protocol.te_s / t.t2star_s)
    flip = truth.b1_map(seen)[where] * np.deg2rad(protocol.flip_deg)
    expected = afi_signal(m0, t.t1_s, flip, protocol.tr1_s, protocol.tr2_s)
    np.testing.assert_allclose(signal[where], expected, rtol=1e-12)


def test_b1_is_the_limb_s_field_times_the_site_s_scale():
    seen = scene(site(1).afi, 1)
    index = (20, 30, 2)
    world = seen.grid.affine @ [*index, 1]
    in_limb = (np.linalg.inv(POSE) @ world)[:3]
    assert seen.b1[index] == pytest.approx(0.92 * seen.limb.b1.at(in_limb), rel=1e-12)


def test_fat_is_suppressed_and_nerve_is_bright():
    protocol = site(0).t2w
    seen = scene(protocol)
    signal = acquire.t2w(seen, protocol)[..., 0]
    mean = {name: signal[pure(seen, name)].mean() for name in ("sciatic", "vastus", "marrow")}
    assert mean["sciatic"] > 1.8 * mean["vastus"] > 3 * mean["marrow"]
    t = seen.limb.tissues["sciatic"]
    expected = spin_echo_signal(1000 * t.pd, t.t1_s, t.t2_s, protocol.te_s, protocol.tr_s)
    assert mean["sciatic"] == pytest.approx(float(expected), rel=1e-12)


def test_a_voxel_of_two_tissues_is_their_sum():
    seen = scene(site(0).dwi)
    protocol = site(0).dwi
    signal = acquire.dwi(seen, protocol, np.zeros(1), np.zeros((1, 3)))[..., 0]
    mixed = (seen.fractions.max(axis=-1) < 0.8) & (seen.fractions[..., 0] == 0)
    expected = seen.fractions[mixed] @ acquire.s0_values(seen, protocol)
    np.testing.assert_allclose(signal[mixed], expected, rtol=1e-5)


def test_the_stored_gradients_give_the_true_nerve_direction(place):
    """Fitted as a reader of the files does: flip undone, then turned by the affine."""
    protocol, index = place[0].dwi, place[1]
    seen = scene(protocol, index)
    b, bvecs = table(protocol.n_directions, protocol.b_s_mm2)
    signal = acquire.dwi(seen, protocol, b, bvecs)
    affine = seen.grid.affine
    stored = to_fsl(bvecs, affine)
    read = stored * [-1, 1, 1] if np.linalg.det(affine[:3, :3]) > 0 else stored
    for name in ("sciatic", "femoral", "adductors"):
        where = pure(seen, name)
        fit = fit_dti(signal[where], b, read)
        columns = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        points = np.argwhere(where) @ affine[:3, :3].T + affine[:3, 3]
        z = (points - POSE[:3, 3]) @ POSE[:3, :3][:, 2]
        expected = seen.limb.direction(name, z) @ POSE[:3, :3].T
        cosine = np.abs(((fit.v1 @ columns.T) * expected).sum(axis=-1))
        np.testing.assert_allclose(cosine, 1.0, atol=1e-8)
        t = seen.limb.tissues[name]
        np.testing.assert_allclose(fit.fa, t.fa, atol=1e-6)
        np.testing.assert_allclose(fit.md_mm2_s, t.md_mm2_s, rtol=1e-6)
        np.testing.assert_allclose(truth.v1_map(seen)[where], expected, atol=1e-12)


def test_snr_is_muscle_in_the_strongest_image_over_sigma():
    protocol = site(0).vfa
    seen = scene(protocol)
    signal = acquire.vfa(seen, protocol)
    sigma = sigma_for(signal, seen.muscle, 50)
    strongest = signal[seen.muscle].mean(axis=0).max()
    assert strongest / sigma == pytest.approx(50)
    residual = with_noise(signal, sigma, np.random.default_rng(0)) - signal
    for flip in range(3):
        assert residual[seen.muscle][:, flip].std() == pytest.approx(sigma, rel=0.02)


def test_air_has_rayleigh_noise():
    noisy = with_noise(np.zeros(200_000), 3.0, np.random.default_rng(0))
    assert noisy.mean() == pytest.approx(3 * np.sqrt(np.pi / 2), rel=0.005)


@pytest.mark.parametrize("snr", [0, np.inf])
def test_no_noise_leaves_the_signal(snr):
    assert sigma_for(np.ones((2, 1)), np.ones(2, bool), snr) == 0
    np.testing.assert_array_equal(with_noise(np.ones(5), 0.0, np.random.default_rng()), np.ones(5))


def test_truth_of_a_mixed_voxel_is_weighted_by_protons():
    seen = scene(site(0).vfa)
    t1 = truth.mean_of(seen, seen.limb.values("t1_s"))
    index = tuple(np.argwhere((seen.fractions[..., 0] == 0) & (seen.pure == 0))[0])
    share, pd = seen.fractions[index], seen.limb.values("pd")
    expected = (share * pd * seen.limb.values("t1_s")).sum() / (share * pd).sum()
    assert t1[index] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(t1[seen.fractions[..., 0] == 1]).all()


def small_dwi():
    protocol = site(0, small=True).dwi
    b, g = table(protocol.n_directions, protocol.b_s_mm2)
    grid = replace(protocol.grid, shape=(*protocol.grid.shape[:2], 3))
    return protocol, b, g, Scene(limb=Limb(), grid=grid, pose=np.eye(4))


def test_a_limb_that_does_not_move_gives_the_series_at_rest():
    protocol, b, g, seen = small_dwi()
    still = Motion(rotation_rad=np.zeros((len(b), 3)), translation_mm=np.zeros((len(b), 3)),
                   eddy=np.zeros((len(b), 4)))  # fmt: skip
    moved = acquire.moving_dwi(seen, protocol, b, g, still)
    np.testing.assert_allclose(moved, acquire.dwi(seen, protocol, b, g), rtol=1e-6)


def test_moved_volumes_show_the_limb_where_the_motion_model_says():
    _, b, g, seen = small_dwi()
    motion = draw_motion(np.random.default_rng(1), b, g, shift_mm=2, turn_deg=2, eddy_mm=3)
    to_mm = voxel_to_centred_mm(seen.grid.shape, seen.grid.voxel_mm)
    shown = np.array([10.0, 20.0, 1.0])
    for i, (warp, density) in enumerate(motion.warps(seen.grid, "j")):
        source = to_mm @ (warp @ [*shown, 1])
        there = displaced(source[:3], motion.rigid[i], motion.eddy[i], 1)
        np.testing.assert_allclose(there, (to_mm @ [*shown, 1])[:3], atol=1e-9)
        # what is stretched is as much thinner
        e = 1e-4
        step = displaced(source[:3] + np.array([0, e, 0]), np.eye(4), motion.eddy[i], 1)
        base = displaced(source[:3], np.eye(4), motion.eddy[i], 1)
        assert density * (step - base)[1] / e == pytest.approx(1.0, rel=1e-6)


def test_a_turned_limb_is_seen_as_one_that_lies_turned():
    """Gradients stay with the scanner while the limb and its fibres turn."""
    protocol, b, g, seen = small_dwi()
    turn = np.tile([0.3, 0.1, -0.2], (len(b), 1))
    motion = Motion(rotation_rad=turn, translation_mm=0 * turn, eddy=np.zeros((len(b), 4)))
    axes = np.eye(4)
    axes[:3, :3] = seen.grid.axes
    lies_turned = replace(seen, pose=axes @ motion.rigid[0] @ axes.T @ seen.pose)
    moved = acquire.moving_dwi(seen, protocol, b, g, motion)
    expected = acquire.dwi(lies_turned, protocol, b, g)
    # a point on a border may fall to either side by rounding
    close = np.isclose(moved, expected, rtol=1e-9)
    assert close.mean() > 0.999
    inside = lies_turned.pure > 0
    np.testing.assert_allclose(moved[inside], expected[inside], rtol=0.05)


def test_motion_has_the_size_that_was_asked_for():
    b, g = table(30, 800.0)
    motion = draw_motion(np.random.default_rng(0), b, g, shift_mm=1.5, turn_deg=2.0, eddy_mm=3.0)
    assert np.sqrt((motion.translation_mm**2).sum(1).mean()) == pytest.approx(1.5)
    assert np.degrees(np.sqrt((motion.rotation_rad**2).sum(1).mean())) == pytest.approx(2.0)
    assert not motion.translation_mm[0].any() and not motion.eddy[b == 0].any()
    reach = np.abs(motion.eddy) @ [1, 80, 80, 80]
    assert reach.max() == pytest.approx(3.0)


def test_muscles_are_where_the_snr_is_measured():
    seen = scene(site(0).dwi)
    inside = np.isin(seen.pure, [REGIONS[name].index for name in MUSCLES])
    assert seen.muscle[inside].all() and seen.muscle.sum() < 1.05 * inside.sum()
