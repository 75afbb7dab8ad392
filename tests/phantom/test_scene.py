import numpy as np
import pytest

from mrn_prep.phantom.geometry import MUSCLES, REGIONS


def test_b1_is_the_limb_s_field_times_the_site_s_scale(view):
    seen = view("afi", 1).scene
    index = (20, 30, 2)
    world = seen.grid.affine @ [*index, 1]
    in_limb = (np.linalg.inv(seen.pose) @ world)[:3]
    assert seen.b1[index] == pytest.approx(0.92 * seen.limb.b1.at(in_limb), rel=1e-12)
    assert seen.b0_hz[index] == pytest.approx(seen.limb.b0_hz.at(in_limb), rel=1e-12)


def test_truth_of_a_mixed_voxel_is_weighted_by_protons(view):
    seen = view("vfa", 0).scene
    t1_s = seen.limb.values("t1_s")
    mean = seen.mean(t1_s)
    index = tuple(np.argwhere((seen.fractions[..., 0] == 0) & (seen.pure == 0))[0])
    share, pd = seen.fractions[index], seen.limb.values("pd")
    assert mean[index] == pytest.approx((share * pd * t1_s).sum() / (share * pd).sum(), rel=1e-6)
    assert np.isnan(mean[seen.fractions[..., 0] == 1]).all()


def test_t2_of_a_mixed_voxel_is_that_of_its_water(view):
    seen = view("mese", 0)
    fat = REGIONS["subcutaneousfat"].index
    half = np.abs(seen.scene.fractions[..., fat] - 0.5) < 0.1
    muscle = seen.scene.fractions[..., [REGIONS[name].index for name in MUSCLES]].sum(axis=-1)
    index = tuple(np.argwhere(half & (muscle + seen.scene.fractions[..., fat] == 1))[0])
    shares = {"vastus": muscle[index], "subcutaneousfat": seen.scene.fractions[index][fat]}
    water = {
        name: share * seen.tissue(name).pd * (1 - seen.tissue(name).fat_fraction)
        for name, share in shares.items()
    }
    expected = sum(w * seen.tissue(name).t2_s for name, w in water.items()) / sum(water.values())
    assert seen.truth["t2", ""][index] == pytest.approx(expected, rel=1e-6)
    assert expected < 0.045  # that of all protons would be 0.07 s


def test_muscles_are_where_the_snr_is_measured(view):
    seen = view("dwi", 0).scene
    inside = np.isin(seen.pure, [REGIONS[name].index for name in MUSCLES])
    assert seen.muscle[inside].all() and seen.muscle.sum() < 1.05 * inside.sum()
