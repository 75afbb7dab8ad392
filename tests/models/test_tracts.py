import sys
from pathlib import Path

import numpy as np
import pytest

from mrn_prep.models.dti import axial_tensor, fit_dti
from mrn_prep.models.motion import rigid_matrix
from mrn_prep.models.tract_profile import along_tract
from mrn_prep.models.tracts import (
    Streamlines,
    TractOptions,
    density,
    length_mm,
    seeds_in,
    select,
    track,
)
from mrn_prep.phantom.gradients import directions

sys.path.insert(0, str(Path(__file__).parents[1]))
from distorted_limb import DistortedLimb, noisy

LIMB = DistortedLimb()
TUBE = LIMB.limb.shape.tubes["sciatic"]
B = np.r_[0.0, 0.0, np.full(30, 800.0)]
G = np.vstack([np.zeros((2, 3)), directions(30)])
ALONG_Z = np.broadcast_to(axial_tensor(2.0, 1.0, [0, 0, 1]), (6, 6, 20, 6))
PLAIN = np.diag([2.0, 2.0, 2.0, 1.0])


def centre_at(z):
    """Where the phantom's sciatic nerve is."""
    wave = np.sin(TUBE.wave_per_mm * z)
    return np.stack([
        TUBE.x_mm + TUBE.slope_x * z + TUBE.bend_x_mm * wave,
        TUBE.y_mm + TUBE.slope_y * z + TUBE.bend_y_mm * wave,
        z,
    ], axis=-1)  # fmt: skip


def off_centre_mm(points):
    z = np.linspace(-40, 40, 8001)
    return np.array([np.linalg.norm(centre_at(z) - p, axis=1).min() for p in points])


def nerve_lines(tensor, fa):
    """Streamlines through the nerve's middle, from one end of the stack to the other."""
    nerve = LIMB.fractions[..., 1] > 0.5
    middle, first, last = (nerve & (np.arange(12) == k) for k in (6, 1, 10))
    lines = track(tensor, fa, LIMB.affine, seeds_in(middle, LIMB.affine, 2))
    return select(lines, LIMB.affine, include=[first, last], min_length_mm=30)


@pytest.fixture(scope="module")
def nerve():
    near = ((LIMB.points_mm[..., :2] - centre_at(LIMB.points_mm[..., 2])[..., :2]) ** 2).sum(-1)
    return near < 14**2


@pytest.fixture(scope="module")
def fitted(nerve):
    """Tensor and FA around the nerve: without noise, and at an SNR of 20."""
    still = LIMB.still(B, G)
    sigma = still[..., 0][LIMB.muscle].mean() / 20
    series = (still, noisy(still, sigma, np.random.default_rng(0)))
    fits = [fit_dti(signal, B, G, nerve) for signal in series]
    return [(axial_tensor(f.ad_mm2_s, f.rd_mm2_s, f.v1), f.fa, f.fa_se) for f in fits]


@pytest.mark.parametrize(("which", "centre_mm", "fa_off"), [(0, 0.15, 0.02), (1, 0.3, 0.03)])
def test_nerve_is_followed_and_measured_along_its_length(fitted, which, centre_mm, fa_off):
    tensor, fa, fa_se = fitted[which]
    lines = nerve_lines(tensor, fa)
    assert len(lines) > 50
    profile = along_tract(lines, fa, LIMB.affine, 2.0, fa_se if which else None)
    inner = slice(2, -2)
    assert np.sqrt((off_centre_mm(profile.centre_mm[inner]) ** 2).mean()) < centre_mm
    z = np.linspace(*profile.centre_mm[[0, -1], 2], 1000)
    truth = np.linalg.norm(np.diff(centre_at(z), axis=0), axis=1).sum()
    assert truth > 42
    np.testing.assert_allclose(profile.arc_mm[-1], truth, rtol=0.005)
    # the weighted mean holds voxels at the nerve's border, which fat and muscle share
    pure = profile.mean[inner, 0] - 0.5
    assert np.abs(np.median(pure)) < fa_off
    assert (profile.n_streamlines[inner] > 50).all()


def test_profile_of_a_map_that_changes_along_the_nerve(fitted):
    lines = nerve_lines(*fitted[0][:2])
    maps = np.stack([LIMB.points_mm[..., 2] ** 2 / 100, LIMB.points_mm[..., 0]], axis=-1)
    profile = along_tract(lines, maps, LIMB.affine, 1.5)
    truth = profile.centre_mm[:, 2] ** 2 / 100
    # between slices 4 mm apart a parabola is read 0.02 too high on average, at most 0.04
    np.testing.assert_allclose(profile.mean[2:-2, 0], truth[2:-2], atol=0.15)
    assert np.abs(profile.mean[2:-2, 1] - profile.centre_mm[2:-2, 0]).max() < 0.3


@pytest.mark.parametrize(("order", "drift_mm"), [(4, 0.02), (2, 0.1)])
def test_circle_is_closed(order, drift_mm):
    shape, affine = (50, 50, 3), np.diag([1.5, 1.5, 1.5, 1.0])
    affine[:2, 3] = -1.5 * 24.5
    x, y = (np.indices(shape)[:2] - 24.5) * 1.5
    tensor = axial_tensor(2.0, 1.0, np.stack([-y, x, 0 * x], axis=-1))
    options = TractOptions(order=order, step_mm=1.0, max_length_mm=2 * np.pi * 25)
    line = track(tensor, np.full(shape, 0.4), affine, np.array([[25.0, 0, 1.5]]), None, options)[0]
    radius = np.linalg.norm(line[:, :2], axis=1)
    # linear interpolation of the tensor shortens no radius but for its own error
    assert np.abs(radius - 25).max() < drift_mm
    assert np.linalg.norm(line[0] - line[-1]) < 1.0


def test_orientation_of_the_image_does_not_matter():
    rng = np.random.default_rng(0)
    direction = np.array([0.2, -0.3, 1.0]) / np.linalg.norm([0.2, -0.3, 1.0])
    turned = rigid_matrix([0.3, -0.2, 0.5], [5.0, -7.0, 3.0])
    mirrored = turned @ np.diag([-1.0, 1, 1, 1])
    lines = []
    for axes in (np.eye(4), turned, mirrored):
        affine = axes @ np.diag([2.0, 1.5, 3.0, 1.0])
        affine[:3, 3] -= affine[:3, :3] @ [9.5, 9.5, 9.5]
        along = axes[:3, :3].T @ direction
        tensor = np.broadcast_to(axial_tensor(2.0, 1.0, along), (20, 20, 20, 6))
        seed = axes[:3, 3] + rng.normal(scale=1e-3, size=(1, 3))
        options = TractOptions(max_length_mm=20)
        lines.append(track(tensor, np.full((20, 20, 20), 0.4), affine, seed, None, options))
    for line in lines:
        step = np.diff(line[0], axis=0)
        np.testing.assert_allclose(step / np.linalg.norm(step, axis=1)[:, None],
                                   np.broadcast_to(direction, step.shape), atol=1e-6)  # fmt: skip


def test_streamlines_end_where_fa_is_low_the_mask_ends_or_nothing_was_fitted():
    fa, seed = np.full((6, 6, 20), 0.4), np.array([[5.0, 5.0, 20.0]])
    low = fa.copy()
    low[..., 15:] = 0.0
    missing = fa.copy()
    missing[..., 15:] = np.nan
    mask = np.arange(20) < np.full((6, 6, 1), 15)
    ends = [
        track(ALONG_Z, values, PLAIN, seed, where)[0][-1, 2]
        for values, where in ((fa, None), (low, None), (missing, None), (fa, mask))
    ]
    # the volume's end; FA interpolated to 0.1; half of the weight missing
    np.testing.assert_allclose(ends, [39, 29, 29, 29], atol=0.51)
    assert ends[0] > 38.4 and max(ends[1:]) < 29.51


def test_streamlines_do_not_turn_sharply():
    tensor = np.array(ALONG_Z)
    tensor[..., 10:, :] = axial_tensor(2.0, 1.0, [0, np.sin(np.pi / 3), np.cos(np.pi / 3)])
    seed, fa = np.array([[5.0, 2.0, 4.0]]), np.full((6, 6, 20), 0.4)
    options = [TractOptions(angle_deg=angle, step_mm=2.0) for angle in (20, 80)]
    ends = [track(tensor, fa, PLAIN, seed, None, o)[0][-1, 2] for o in options]
    assert ends[0] < 20 < 22 < ends[1]


def test_seed_without_a_tensor_has_no_streamline():
    fa = np.full((6, 6, 20), 0.4)
    fa[0], fa[1] = np.nan, 0.05
    seeds = np.array([[0.0, 4, 8], [2.0, 4, 8], [6.0, 4, 8], [100.0, 4, 8]])
    lines = track(ALONG_Z, fa, PLAIN, seeds)
    assert len(lines) == 1 and np.allclose(lines[0][:, 0], 6.0)
    none = track(ALONG_Z, fa, PLAIN, seeds[:1])
    assert len(none) == 0 and len(length_mm(none)) == 0
    assert density(none, PLAIN, (6, 6, 20)).sum() == 0 and len(select(none, PLAIN)) == 0


def test_isotropic_tensor_has_no_direction():
    tensor = np.broadcast_to([1.0, 0, 1, 0, 0, 1], (4, 4, 4, 6))
    assert len(track(tensor, np.full((4, 4, 4), 0.4), PLAIN, np.full((1, 3), 3.0))) == 0


def test_main_direction_is_that_of_the_eigenvectors():
    rng = np.random.default_rng(1)
    root = rng.normal(size=(40, 3, 3))
    matrices = root @ root.swapaxes(1, 2)
    v1 = np.linalg.eigh(matrices)[1][:, :, -1]
    for matrix, v in zip(matrices, v1, strict=True):
        d = matrix[[0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]]
        field = np.broadcast_to(d, (4, 4, 4, 6))
        options = TractOptions(max_length_mm=2.0)
        line = track(field, np.full((4, 4, 4), 0.4), PLAIN, np.full((1, 3), 3.0), None, options)[0]
        step = line[1] - line[0]
        assert abs(step @ v) / np.linalg.norm(step) > 1 - 1e-9


def bundle(n=60, seed=0):
    """Straight streamlines along z within a circle of 3 mm."""
    rng = np.random.default_rng(seed)
    r, angle = 3 * np.sqrt(rng.random(n)), 2 * np.pi * rng.random(n)
    z = np.arange(0, 38.0, 1.0)
    return [np.stack([10 + a * np.cos(b) + 0 * z, 10 + a * np.sin(b) + 0 * z, z], axis=1)
            for a, b in zip(r, angle, strict=True)]  # fmt: skip


def test_standard_error_is_the_spread_of_repeated_profiles():
    rng, lines = np.random.default_rng(2), Streamlines.of(bundle())
    maps = 0.5 + 0.05 * rng.normal(size=(12, 12, 20, 300))
    profile = along_tract(lines, maps, PLAIN, 4.0, np.full(maps.shape, 0.05))
    spread = profile.mean[1:-1].std(axis=1)
    np.testing.assert_allclose(spread, profile.se[1:-1, 0], rtol=0.15)
    # without errors per voxel they come from the spread across the bundle, within a tenth
    own = along_tract(lines, maps, PLAIN, 4.0).se[1:-1]
    np.testing.assert_allclose(np.sqrt((own**2).mean(axis=1)) / spread, 1.0, atol=0.25)


def test_more_streamlines_through_the_same_voxels_add_no_certainty():
    rng = np.random.default_rng(3)
    maps = rng.normal(size=(12, 12, 20))
    once = along_tract(Streamlines.of(bundle()), maps, PLAIN, 4.0)
    twice = along_tract(Streamlines.of(bundle() * 2), maps, PLAIN, 4.0)
    np.testing.assert_allclose(twice.se, once.se)
    np.testing.assert_array_equal(twice.n_streamlines, 2 * once.n_streamlines)


def test_voxels_without_a_value_are_left_out():
    maps = np.full((12, 12, 20, 2), 7.0)
    maps[:, :5, :, 0] = np.nan
    maps[..., 8:12, 1] = np.nan
    profile = along_tract(Streamlines.of(bundle()), maps, PLAIN, 4.0)
    np.testing.assert_allclose(profile.mean[:, 0], 7.0)
    hidden = (profile.centre_mm[:, 2] > 16) & (profile.centre_mm[:, 2] < 22)
    assert np.isnan(profile.mean[hidden, 1]).all() and hidden.sum() >= 1
    assert (profile.n_voxels[:, 0] < profile.n_voxels[:, 1])[~hidden].all()


def test_pieces_and_reversed_streamlines_belong_to_the_same_profile():
    curves = bundle()
    pieces = [c[:25] if k % 3 == 0 else c[::-1][:30] if k % 3 == 1 else c
              for k, c in enumerate(curves)]  # fmt: skip
    ramp = np.broadcast_to(np.arange(20.0), (12, 12, 20))
    profile = along_tract(Streamlines.of(pieces), ramp, PLAIN, 2.0)
    np.testing.assert_allclose(profile.mean[:, 0], profile.centre_mm[:, 2] / 2, atol=0.01)
    assert profile.n_streamlines.max() == 60 and profile.n_streamlines.min() == 40
    np.testing.assert_allclose(profile.arc_mm[-1], 37, atol=0.5)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("must be", lambda: track(ALONG_Z, np.ones((6, 6, 19)), PLAIN, np.ones((1, 3)))),
        ("seeds_mm", lambda: track(ALONG_Z, np.ones((6, 6, 20)), PLAIN, np.ones(3))),
        ("right angles", lambda: track(ALONG_Z, np.ones((6, 6, 20)),
                                       PLAIN + np.eye(4, k=1), np.ones((1, 3)))),
        ("order", lambda: track(ALONG_Z, np.ones((6, 6, 20)), PLAIN, np.ones((1, 3)), None,
                                TractOptions(order=1))),
        ("angle_deg", lambda: track(ALONG_Z, np.ones((6, 6, 20)), PLAIN, np.ones((1, 3)), None,
                                    TractOptions(angle_deg=0))),
        ("mask", lambda: track(ALONG_Z, np.ones((6, 6, 20)), PLAIN, np.ones((1, 3)),
                               np.ones((6, 6, 2), bool))),
        ("need some", lambda: along_tract(Streamlines.of([]), np.ones((6, 6, 20)), PLAIN)),
        ("shorter", lambda: along_tract(Streamlines.of([np.eye(3)]), np.ones((6, 6, 20)), PLAIN,
                                        50.0)),
    ],
)  # fmt: skip
def test_bad_input_is_refused(message, call):
    with pytest.raises(ValueError, match=message):
        call()


def test_pieces_that_lie_apart_are_told_to_have_no_centre_line():
    rng = np.random.default_rng(3)
    told = 0
    for _ in range(60):
        pieces = []
        for _ in range(4):
            way = rng.normal(size=3)
            way /= np.linalg.norm(way)
            pieces.append(rng.uniform(8, 32, 3) + np.arange(4)[:, None] * way)
        try:
            along_tract(Streamlines.of(pieces), np.ones((40, 40, 40)), np.eye(4), 2.0)
        except ValueError as error:
            told += 1
            assert str(error).startswith("The streamlines lie apart and have no centre line")
    assert told > 3
