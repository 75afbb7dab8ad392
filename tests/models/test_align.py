"""Simulated thighs whose images of different contrast were taken in different places."""

import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mrn_prep.models._align_kernel import agreement, boxes_of
from mrn_prep.models.align import MOVED_VOXELS, align_series
from mrn_prep.models.epg import cpmg_signal
from mrn_prep.models.motion import rigid_matrix, voxel_to_centred_mm
from mrn_prep.models.noise import rician_noise
from mrn_prep.models.status import Reason
from mrn_prep.models.t1_vfa import fit_vfa, spgr_signal
from mrn_prep.phantom.geometry import MUSCLES, REGIONS, Shape
from mrn_prep.phantom.tissues import TISSUES

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_legs import legs_folder

POSE = rigid_matrix([0.02, -0.03, 0.04], [2.0, -1.0, 3.0])
FLIPS, TR_S = np.deg2rad([3.0, 10.0, 20.0]), 0.015
PD, T1, T2, T2STAR = (
    np.array([getattr(TISSUES[row.tissue], name) for row in REGIONS.values()])
    for name in ("pd", "t1_s", "t2_s", "t2star_s")
)
MT_LEFT = np.array([{"nerve": 0.72, "muscle": 0.7}.get(r.tissue, 0.98) for r in REGIONS.values()])
SMALL = SimpleNamespace(shape=(84, 84, 8), voxel_mm=(2.0, 2.0, 4.0), finer=(4, 4, 4))
THICK = SimpleNamespace(shape=(100, 100, 10), voxel_mm=(1.6, 1.6, 8.0), finer=(3, 3, 5))
REFERENCE = {"vfa": 1, "mt": 1, "mese": 0}
legs = pytest.mark.skipif(legs_folder() is None, reason="MRN_PREP_REFERENCE is not set")


def b1_at(points_mm):
    u = points_mm / 75.0
    return 0.95 + u @ np.array([0.10, -0.16, 0.03]) - 0.04 * (u[..., :2] ** 2).sum(axis=-1)


def signals(kind, b1):
    """Full signal of every region, shape (*b1.shape, n_regions, n_images)."""
    m0 = np.broadcast_to(1000 * PD * np.exp(-0.0025 / T2STAR), (*b1.shape, len(PD)))
    flip = b1[..., None, None]
    if kind == "vfa":
        return spgr_signal(m0, T1, flip * FLIPS, TR_S)
    if kind == "mt":  # on, off, T1-weighted
        images = spgr_signal(m0, T1, flip * np.deg2rad([6.0, 6.0, 20.0]), 0.028)
        images[..., 0] *= MT_LEFT
        return images
    grid = np.linspace(0.5, 1.2, 36)
    trains = np.abs(cpmg_signal(1000 * PD, T1, T2, grid[:, None], 0.0095, 10))
    return trains[np.abs(b1[..., None] - grid).argmin(axis=-1)][..., [0, 1, 4, 9]]


@cache
def limb(kind, grid_name, shift_mm, turn_deg, seed=0):
    """Clean images of a limb that lies elsewhere in each, but for the reference."""
    grid = {"small": SMALL, "thick": THICK}[grid_name]
    rng, fixed = np.random.default_rng(seed), REFERENCE[kind]
    to_mm = voxel_to_centred_mm(grid.shape, grid.voxel_mm)
    n = {"vfa": 3, "mt": 3, "mese": 4}[kind]
    turn, shift = rng.normal(size=(2, n, 3))
    turn *= np.deg2rad(turn_deg) / np.linalg.norm(turn, axis=1)[:, None]
    shift *= shift_mm / np.linalg.norm(shift, axis=1)[:, None]
    turn[fixed] = shift[fixed] = 0
    rigid, index = rigid_matrix(turn, shift), np.moveaxis(np.indices(grid.shape), 0, -1)
    images, seen = [], {}
    for i in range(n):
        key = rigid[i].tobytes()
        if key not in seen:
            warp = np.linalg.inv(POSE) @ np.linalg.inv(rigid[i]) @ to_mm
            shares = Shape().fractions(warp, grid.shape, grid.finer)
            points = index @ warp[:3, :3].T + warp[:3, 3]
            seen[key] = shares, np.einsum("...r,...rn->...n", shares, signals(kind, b1_at(points)))
        images.append(seen[key][1][..., i])
    shares, still = seen[np.eye(4).tobytes()]
    muscle = shares[..., [REGIONS[name].index for name in MUSCLES]].sum(axis=-1) > 0.999
    return SimpleNamespace(
        clean=np.stack(images, axis=-1), still=still, rigid=rigid, fixed=fixed, muscle=muscle,
        limb=shares[..., 0] < 0.5, to_mm=to_mm, voxel_mm=np.array(grid.voxel_mm),
        sigma=still[muscle].mean(axis=0).max(),
    )  # fmt: skip


def noisy(moved, snr, seed=1, images=None):
    images = moved.clean if images is None else images
    return rician_noise(images, moved.sigma / snr, np.random.default_rng(seed)).astype(np.float32)


def run(moved, series, **options):
    return align_series(series, moved.voxel_mm, reference=moved.fixed, **options)


def left(moved, rigid, unit=1.0):
    """Mean distance over the limb between true and found place, per image but the reference."""
    points = np.argwhere(moved.limb)[::5] @ moved.to_mm[:3, :3].T + moved.to_mm[:3, 3]
    wrong = (moved.rigid - rigid)[:, None, :3]
    away = (wrong[..., :3] @ points[..., None])[..., 0] + wrong[..., 3]
    away = np.linalg.norm(away / unit, axis=-1).mean(axis=-1)
    return np.delete(away, moved.fixed)


@pytest.mark.parametrize("snr", [50, 20])
@pytest.mark.parametrize("kind", ["vfa", "mt", "mese"])
@pytest.mark.parametrize("grid", ["small", "thick"])
def test_moved_images_are_brought_back(grid, kind, snr):
    moved = limb(kind, grid, 3.0, 3.0)
    result = run(moved, noisy(moved, snr))
    assert result.registered.all()
    assert left(moved, np.eye(4)).mean() > 2.5
    assert left(moved, result.rigid, moved.voxel_mm).max() < 0.2


@pytest.mark.parametrize("snr", [50, 20, 8])
@pytest.mark.parametrize("kind", ["vfa", "mt", "mese"])
@pytest.mark.parametrize("grid", ["small", "thick"])
def test_images_that_did_not_move_are_left_bitwise(grid, kind, snr):
    moved = limb(kind, grid, 3.0, 3.0)
    series = noisy(moved, snr, images=moved.still)
    result = run(moved, series)
    np.testing.assert_array_equal(result.series, series)
    assert result.registered.all() and not result.displacement_mm.any()


def test_large_motion_is_found():
    moved = limb("vfa", "small", 8.0, 8.0, seed=2)
    result = run(moved, noisy(moved, 30))
    assert left(moved, np.eye(4)).min() > 7
    assert left(moved, result.rigid, moved.voxel_mm).max() < 0.2


@pytest.mark.parametrize("kind", ["vfa", "mt"])
def test_what_is_too_far_away_is_told_or_found(kind):
    moved = limb(kind, "small", 14.0, 5.0, seed=3)
    series = noisy(moved, 30)
    result = run(moved, series)
    found = np.delete(result.registered, moved.fixed)
    assert not found.all()
    assert (left(moved, result.rigid)[found] < 1.0).all()
    np.testing.assert_array_equal(
        result.series[..., ~result.registered], series[..., ~result.registered]
    )


def test_fields_of_the_coil_may_differ():
    moved = limb("vfa", "thick", 3.0, 3.0)
    x = np.linspace(-1, 1, THICK.shape[0])[:, None, None, None]
    series = noisy(moved, 30) * np.exp(x * np.array([0.7, 0.0, -0.7])).astype(np.float32)
    result = run(moved, series)
    assert result.registered.all()
    assert left(moved, result.rigid, moved.voxel_mm).max() < 0.2
    rest = noisy(moved, 30, images=moved.still) * np.exp(0.7 * x).astype(np.float32)
    rest[..., moved.fixed] /= np.exp(1.4 * x[..., 0])
    assert not run(moved, rest).displacement_mm.any()


def test_displacement_is_that_of_the_limb():
    moved = limb("mt", "small", 3.0, 3.0)
    result = run(moved, noisy(moved, 50))
    true = left(moved, np.eye(4))
    np.testing.assert_allclose(np.delete(result.displacement_mm, moved.fixed), true, atol=0.3)
    assert result.displacement_mm[moved.fixed] == 0 and result.reference == moved.fixed
    np.testing.assert_allclose(
        result.rigid, rigid_matrix(result.rotation_rad, result.translation_mm)
    )


def test_motion_too_small_to_be_worth_interpolating_is_let_be():
    moved = limb("vfa", "small", 0.15, 0.05)
    series = noisy(moved, 50)
    assert 0 < left(moved, np.eye(4), moved.voxel_mm).max() < MOVED_VOXELS
    np.testing.assert_array_equal(run(moved, series).series, series)


def test_images_that_tell_nothing_are_left_and_told():
    moved = limb("mese", "small", 3.0, 3.0)
    series = noisy(moved, 30)
    rng = np.random.default_rng(3)
    series[..., 1] = rician_noise(np.zeros(SMALL.shape), 5.0, rng)
    series[..., 2] = 7.0
    series[..., 3] = np.nan
    result = run(moved, series)
    assert result.registered.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(result.series, series)
    assert not result.translation_mm.any() and not result.rotation_rad.any()


def test_what_came_from_outside_is_not_fitted():
    moved = limb("vfa", "small", 3.0, 3.0)
    series = noisy(moved, 50, images=moved.still)
    series[..., 1:, 2] = series[..., :-1, 2].copy()  # one slice further on
    result = run(moved, series)
    np.testing.assert_allclose(result.translation_mm[2], [0, 0, 4], atol=0.5)
    gone = np.isnan(result.series[..., 2])
    assert gone[:, :, -1].mean() > 0.9 and not gone[:, :, :-1].any()
    assert not np.isnan(result.series[..., :2]).any()
    fit = fit_vfa(result.series, FLIPS, TR_S)
    assert (fit.status[gone] == Reason.NON_FINITE).all() and np.isnan(fit.t1_s[gone]).all()


def test_t1_is_nearer_to_that_of_a_limb_at_rest():
    moved = limb("vfa", "thick", 3.0, 3.0)
    points = np.moveaxis(np.indices(THICK.shape), 0, -1)
    b1 = b1_at(points @ (np.linalg.inv(POSE) @ moved.to_mm)[:3, :3].T)

    def t1(series):
        return fit_vfa(series, FLIPS, TR_S, b1=b1).t1_s

    still = t1(noisy(moved, 50, images=moved.still))
    before, after = noisy(moved, 50), run(moved, noisy(moved, 50)).series
    inside = moved.limb & np.isfinite(still)
    spread = [
        np.nanpercentile(np.abs(t1(series)[inside] / still[inside] - 1), 80)
        for series in (before, after)
    ]
    assert spread[1] < 0.4 * spread[0]


def test_broken_voxels_do_not_spread():
    moved = limb("vfa", "small", 3.0, 3.0)
    series = noisy(moved, 50)
    series[30:34, 30:34, 3, 0] = np.nan
    result = run(moved, series)
    assert result.registered.all()
    assert left(moved, result.rigid, moved.voxel_mm).max() < 0.2
    assert 16 <= np.isnan(result.series[22:42, 22:42, 1:6, 0]).sum() <= 2 * 16


def test_the_brightest_image_stands_still_unless_another_is_named():
    moved = limb("mese", "small", 3.0, 3.0)
    series = noisy(moved, 50)[..., ::-1]
    result = align_series(series, moved.voxel_mm)
    assert result.reference == 3
    np.testing.assert_array_equal(result.series[..., 3], series[..., 3])
    assert align_series(series[..., 2:], moved.voxel_mm, reference=-2).reference == 0


def test_threads_and_a_given_mask_change_nothing_else():
    moved = limb("mt", "small", 3.0, 3.0)
    series = noisy(moved, 50)
    before = series.copy()
    one, two = run(moved, series), run(moved, series, n_threads=2)
    np.testing.assert_array_equal(series, before)
    np.testing.assert_array_equal(one.series, two.series)
    given = run(moved, series, mask=moved.limb)
    np.testing.assert_allclose(given.translation_mm, one.translation_mm, atol=0.15)


def test_single_slice_is_aligned_in_its_plane():
    moved = limb("mt", "small", 3.0, 3.0)
    slice_ = noisy(moved, 50, images=moved.still)[:, :, 4:5]
    slice_[2:, ..., 0] = slice_[:-2, ..., 0].copy()
    result = align_series(slice_, moved.voxel_mm, reference=1)
    assert result.registered.all()
    np.testing.assert_allclose(result.translation_mm[0], [4, 0, 0], atol=0.2)
    assert not result.displacement_mm[1:].any()


def test_without_a_limb_nothing_is_told():
    result = align_series(np.zeros((20, 20, 4, 2)), (1, 1, 1))
    assert result.registered.tolist() == [True, False]
    assert not result.series.any()


def test_information_does_not_depend_on_the_scale_or_sign_of_a_contrast():
    moved = limb("mt", "small", 3.0, 3.0)
    image = moved.still[..., 1].astype(np.float32)
    boxes = boxes_of(image, moved.limb, moved.voxel_mm, moved.to_mm, 6.0, 1.0)
    rng = np.random.default_rng(0)
    other = (image + rng.normal(0, 5, image.shape)).astype(np.float32)
    one = agreement(other, boxes, np.eye(4), moved.to_mm)
    two = agreement(300 - 0.2 * other, boxes, np.eye(4), moved.to_mm)
    assert two.information == pytest.approx(one.information, rel=1e-4) and one.information > 0
    np.testing.assert_allclose(two.hessian, one.hessian, rtol=1e-2)
    np.testing.assert_allclose(two.scores.sum(0), one.scores.sum(0), rtol=0.02, atol=1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"signal": np.ones((4, 4, 4))}, r"\(x, y, z, n\) is wanted"),
        ({"voxel_mm": (1, 0, 1)}, "three positive lengths"),
        ({"mask": np.ones((4, 4, 3))}, r"mask \(4, 4, 3\)"),
        ({"reference": 2}, "there are 2 images"),
    ],
)
def test_arguments_that_do_not_belong_together_are_refused(arguments, said):
    usual = {"signal": np.ones((4, 4, 4, 2)), "voxel_mm": (1, 1, 1)}
    with pytest.raises(ValueError, match=said):
        align_series(**{**usual, **arguments})


@legs
def test_echoes_of_real_legs_did_not_move():
    import nibabel as nb

    image = nb.load(legs_folder() / "mese.nii.gz")
    series = np.asarray(image.dataobj, dtype=np.float32)[..., ::4]
    result = align_series(series, image.header.get_zooms()[:3])
    assert result.registered.all()
    np.testing.assert_array_equal(result.series, series)
