"""A limb that moves during the diffusion series."""

from dataclasses import replace

import numpy as np
import pytest

from mrn_prep.models.motion import displaced, voxel_to_centred_mm
from mrn_prep.phantom.gradients import table
from mrn_prep.phantom.limb import Limb
from mrn_prep.phantom.motion import Motion, draw_motion
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.sites import site


def small_dwi():
    series = site(0, small=True).series["dwi"]
    grid = replace(series.grid, shape=(*series.grid.shape[:2], 3))
    return series, *series.gradients, Scene(limb=Limb(), grid=grid, pose=np.eye(4))


def test_a_limb_that_does_not_move_gives_the_series_at_rest():
    series, b, _, seen = small_dwi()
    still = Motion(rotation_rad=np.zeros((len(b), 3)), translation_mm=np.zeros((len(b), 3)),
                   eddy=np.zeros((len(b), 4)))  # fmt: skip
    np.testing.assert_allclose(series.moving_signal(seen, still), series.signal(seen), rtol=1e-6)


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
    series, b, _, seen = small_dwi()
    turn = np.tile([0.3, 0.1, -0.2], (len(b), 1))
    motion = Motion(rotation_rad=turn, translation_mm=0 * turn, eddy=np.zeros((len(b), 4)))
    axes = np.eye(4)
    axes[:3, :3] = seen.grid.axes
    lies_turned = replace(seen, pose=axes @ motion.rigid[0] @ axes.T @ seen.pose)
    moved = series.moving_signal(seen, motion)
    expected = series.signal(lies_turned)
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
