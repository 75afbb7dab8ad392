import numpy as np
import pytest

from mrn_prep.models.smooth import smooth_in_mask

VOXEL_MM = (2.0, 2.0, 4.0)


def grid(shape, voxel_mm=VOXEL_MM):
    axes = [(np.arange(n) - (n - 1) / 2) * size for n, size in zip(shape, voxel_mm, strict=True)]
    return np.meshgrid(*axes, indexing="ij")


def quadratic(shape, voxel_mm=VOXEL_MM):
    x, y, z = grid(shape, voxel_mm)
    slope = 1 + 1e-3 * x - 2e-3 * y + 1e-3 * z
    return slope + 3e-5 * x**2 - 3e-5 * y**2 + 2e-5 * z**2 - 4e-5 * x * y + 1e-5 * (x + y) * z


def two_legs(shape):
    x, y, _ = grid(shape)
    return (np.hypot(x - 40, y) < 32) | (np.hypot(x + 40, y) < 32)


@pytest.mark.parametrize("fwhm_mm", [6.0, 10.0, 15.0])
def test_quadratic_field_is_kept_inside_and_beyond_the_edge(fwhm_mm):
    field = quadratic((80, 40, 12))
    mask = two_legs(field.shape)
    holes = mask & (np.random.default_rng(0).random(field.shape) < 0.2)
    smooth, se = smooth_in_mask(np.where(holes, np.nan, field), mask, fwhm_mm, VOXEL_MM)
    assert np.isfinite(smooth[mask]).all()
    np.testing.assert_allclose(smooth[mask], field[mask], atol=1e-9)
    beyond = np.isfinite(smooth) & ~mask
    assert beyond.sum() > 1000
    np.testing.assert_allclose(smooth[beyond], field[beyond], atol=1e-6)
    assert np.isnan(se).all()


def test_smooth_field_of_any_form_is_kept_within_a_thousandth():
    x, y, z = grid((80, 40, 12))
    field = 0.9 + 0.3 * np.cos(x / 45) * np.cos(y / 50 - 0.3) + 0.03 * np.sin(z / 40)
    mask = two_legs(field.shape)
    smooth, _ = smooth_in_mask(field, mask, 10.0, VOXEL_MM)
    assert np.abs(smooth - field)[mask].max() < 1e-3
    # normalised convolution, for comparison, bends such a field by more than a hundredth
    flat, _ = smooth_in_mask(field, mask, 10.0, VOXEL_MM, order=0)
    assert np.abs(flat - field)[mask].max() > 1e-2


@pytest.mark.parametrize("n_slices", [1, 2, 3])
def test_few_slices_lower_the_degree_across_them_only(n_slices):
    field = quadratic((40, 30, n_slices))
    smooth, se = smooth_in_mask(
        field, np.ones(field.shape, bool), 10.0, VOXEL_MM, se=np.full(field.shape, 0.1)
    )
    np.testing.assert_allclose(smooth, field, atol=1e-9)
    assert (se < 0.1).all()


def test_a_lone_voxel_keeps_its_value_and_error():
    values = np.full((9, 9, 9), np.nan)
    values[4, 4, 4] = 0.7
    smooth, se = smooth_in_mask(
        values, np.ones(values.shape, bool), 10.0, VOXEL_MM, se=np.full(values.shape, 0.02)
    )
    near = np.isfinite(smooth)
    np.testing.assert_allclose(smooth[near], 0.7)
    np.testing.assert_allclose(se[near], 0.02)
    assert near[4, 4, 5] and not near[4, 4, 6]


def test_beyond_the_distance_is_nan():
    mask = np.zeros((40, 10, 6), bool)
    mask[10:20] = True
    smooth, _ = smooth_in_mask(np.ones(mask.shape), mask, 10.0, VOXEL_MM, extrapolate_mm=6.0)
    filled = np.isfinite(smooth).all(axis=(1, 2))
    assert np.flatnonzero(filled).tolist() == list(range(7, 23))
    assert np.isnan(smooth[~filled]).all()
    nothing, _ = smooth_in_mask(np.ones(mask.shape), ~mask & mask, 10.0, VOXEL_MM)
    assert np.isnan(nothing).all()


@pytest.mark.parametrize("order", [0, 1, 2])
def test_standard_error_is_the_spread_of_repeated_noise(order):
    rng = np.random.default_rng(0)
    field = np.ones((48, 24, 6))
    mask = two_legs((80, 40, 6))[:48, :24]
    se = 0.02 + 0.03 * rng.random(field.shape)
    z = []
    for _ in range(60):
        smooth, smooth_se = smooth_in_mask(
            field + se * rng.standard_normal(field.shape), mask, 10.0, VOXEL_MM, se, order
        )
        z.append((smooth - field) / smooth_se)
    spread = np.std(z, axis=0)
    inside, beyond = mask, np.isfinite(smooth) & ~mask
    assert abs(np.median(spread[inside]) - 1) < 0.03
    assert abs(np.median(spread[beyond]) - 1) < 0.05
    assert np.median(smooth_se[mask]) < 0.01


def test_values_without_error_do_not_take_part():
    rng = np.random.default_rng(0)
    values = 1 + 0.01 * rng.standard_normal((20, 20, 6))
    se = np.full(values.shape, 0.01)
    values[10, 10, 3], se[10, 10, 3] = 1e6, np.nan
    before = values.copy()
    smooth, _ = smooth_in_mask(values, np.ones(values.shape, bool), 10.0, VOXEL_MM, se=se)
    assert np.abs(smooth - 1).max() < 0.05
    np.testing.assert_array_equal(values, before)


def test_slabs_join_without_a_seam(monkeypatch):
    rng = np.random.default_rng(0)
    values, mask = rng.random((30, 20, 16)), np.ones((30, 20, 16), bool)
    whole = smooth_in_mask(values, mask, 10.0, VOXEL_MM, se=values)
    monkeypatch.setattr("mrn_prep.models.smooth._SLAB_VOXELS", 30 * 20 * 3)
    parts = smooth_in_mask(values, mask, 10.0, VOXEL_MM, se=values)
    np.testing.assert_allclose(parts, whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.ones((4, 4))}, "3D"),
        ({"mask": np.ones((4, 4, 5), bool)}, "3D"),
        ({"fwhm_mm": 0.0}, "positive"),
        ({"voxel_mm": (1.0, -1.0, 1.0)}, "positive"),
        ({"order": 3}, "order"),
    ],
)
def test_wrong_arguments_are_refused(changes, message):
    given = {
        "values": np.ones((4, 4, 4)), "mask": np.ones((4, 4, 4), bool), "fwhm_mm": 10.0,
        "voxel_mm": VOXEL_MM,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        smooth_in_mask(**given | changes)
