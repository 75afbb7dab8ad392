import itertools

import numba
import numpy as np
import pytest

from mrn_prep.models._leading import count_above, eigenvalue, leading_vectors, tridiagonalise
from mrn_prep.models.megre import megre_signal
from mrn_prep.models.mppca import _gain_of_overlap, _layers, denoise_mppca, retained_noise

DECAYS = np.exp(-np.outer([0.5, 1.5], np.linspace(0, 1, 20)))


def two_tissues(shape=(16, 14, 10)):
    tissue = (np.arange(shape[0]) < shape[0] // 2).astype(int)
    return 40 * np.broadcast_to(DECAYS[tissue][:, None, None], (*shape, DECAYS.shape[1]))


def noisy(truth, sigma=1.0, seed=0):
    return truth + sigma * np.random.default_rng(seed).normal(size=truth.shape)


def tridiagonal(matrix, reflectors):
    diagonal, beside = np.empty(len(matrix)), np.empty(len(matrix))
    tridiagonalise(np.triu(matrix).copy(), reflectors, diagonal, beside)
    return diagonal, beside


def eigen(matrix, p):
    n = len(matrix)
    reflectors, vectors = np.empty((n, n)), np.empty((p, n))
    diagonal, beside = tridiagonal(matrix, reflectors)
    high = np.trace(matrix)
    values = np.array([eigenvalue(diagonal, beside, k, -high, high, 0.0) for k in range(n)])
    leading_vectors(values[:p], diagonal, beside, reflectors, vectors)
    return values, vectors


@pytest.mark.parametrize(("n", "p"), [(5, 2), (36, 6), (150, 20)])
def test_eigenvectors_are_those_of_lapack(n, p):
    x = np.random.default_rng(n).normal(size=(200, n)) + 5
    values, vectors = eigen(x.T @ x, p)
    expected, theirs = np.linalg.eigh(x.T @ x)
    np.testing.assert_allclose(values, expected[::-1], rtol=1e-10)
    projector = theirs[:, -p:] @ theirs[:, -p:].T
    np.testing.assert_allclose(vectors.T @ vectors, projector, atol=1e-10)


@pytest.mark.parametrize(
    "matrix", [np.eye(8), np.ones((8, 8)), np.diag([3.0, 3, 3, 1, 1, 0, 0, 0])]
)
def test_equal_eigenvalues_still_give_orthonormal_eigenvectors(matrix):
    values, vectors = eigen(matrix, 3)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-12)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(3), atol=1e-10)
    np.testing.assert_allclose(matrix @ vectors.T, vectors.T * values[:3], atol=1e-10)


def test_eigenvalues_above_a_limit_are_counted():
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0]
    matrix = rotation @ np.diag([9.0, 5, 5, 2, 1, 1, 1, 0, 0]) @ rotation.T
    diagonal, beside = tridiagonal(matrix, np.empty((9, 9)))
    limits = (-0.5, 0.5, 1.5, 3, 7, 10)
    assert [count_above(diagonal, beside, x) for x in limits] == [9, 7, 4, 3, 1, 0]


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_noise_level_and_number_of_components_are_found(sigma):
    result = denoise_mppca(noisy(two_tissues(), sigma))
    assert abs(np.median(result.sigma) / sigma - 1) < 0.01
    np.testing.assert_allclose(result.n_components[:3], 1, atol=0.3)
    # in the first slice voxel 7 lies in mixed patches only, voxel 8 in two of these (weight 1/8)
    # and a pure one; the patches of the last slice are shifted by a voxel, so there it is reversed
    for at, slice_, expected in ((7, 0, 2), (8, 0, 6 / 5), (7, -1, 6 / 5), (8, -1, 2)):
        found = result.n_components[at, :, slice_].mean()
        np.testing.assert_allclose(found, expected, atol=0.05)


def test_denoising_leaves_what_the_theory_says():
    truth = two_tissues()
    error = (denoise_mppca(noisy(truth)).denoised - truth)[:5]
    assert error.var() == pytest.approx(1 / 20, rel=0.15)  # one direction of twenty


def test_noise_fraction_is_the_variance_left_outside_the_signal():
    truth = np.broadcast_to(40 * DECAYS[0], (24, 24, 20, 20))
    result = denoise_mppca(noisy(truth))
    signal = DECAYS[0] / np.linalg.norm(DECAYS[0])
    error = result.denoised - truth
    outside = error - (error @ signal)[..., None] * signal
    assert (outside**2).sum(-1).mean() / 19 == pytest.approx(result.noise_fraction.mean(), rel=0.15)


@pytest.mark.parametrize(("grid", "stride"), [((9, 8, 11), 2), ((6, 9, 5), 2), ((9, 12, 10), 3)])
def test_gain_of_overlap_is_the_variance_of_averaged_patch_means(grid, stride):
    layers = _layers(grid, (5, 5, 5), stride)
    corners = np.concatenate(
        [np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3) for axes in layers]
    )
    voxels = np.indices(grid).reshape(3, -1)[:, None]
    holds = ((voxels >= corners.T[..., None]) & (voxels < corners.T[..., None] + 5)).all(axis=0)
    weights = holds.T / holds.sum(axis=0)[:, None] @ (holds / 125)  # noise to averaged means
    gain = _gain_of_overlap(layers, grid, (5, 5, 5))
    np.testing.assert_allclose(gain.ravel(), 125 * (weights**2).sum(axis=1), rtol=1e-12)


def test_retained_directions_are_those_of_the_signal():
    result = denoise_mppca(noisy(two_tissues()))
    left = retained_noise(result.denoised, result.n_components, result.noise_fraction)
    at_edge = left.basis[left.patch[8, 7, 5]].astype(float)
    np.testing.assert_allclose(np.linalg.norm(at_edge[:2], axis=1), 1, rtol=1e-5)
    span = np.linalg.qr(DECAYS.T)[0]
    np.testing.assert_allclose(np.linalg.norm(at_edge[:2] @ span, axis=1), 1, atol=0.01)


def test_noise_free_series_comes_back():
    result = denoise_mppca(two_tissues())
    np.testing.assert_allclose(result.denoised, two_tissues(), rtol=1e-5)
    assert result.sigma.max() < 1e-4


def complex_echoes(phase_rad):
    """Six gradient echoes of muscle, fat and a strip of nerve in a field with a slope."""
    x, y, z = np.indices((22, 22, 9))
    fraction = np.where(y < 8, 0.95, 0.03 + 0.07 * (x > 14) * (y > 14))
    rate = np.where(y < 8, 22.0, 40.0)
    te_s = 0.0012 + 0.0011 * np.arange(6)
    return megre_signal(
        40 * (1 - fraction), 40 * fraction, te_s, field_hz=3 * x - 2 * y + z, r2star_per_s=rate,
        phase_rad=phase_rad,
    )  # fmt: skip


def by_complex_svd(series):
    """Denoise patch by patch as `denoise_mppca` does, by singular values of complex numbers."""
    n, width = series.shape[-1], 5
    total, weights = np.zeros(series.shape, complex), np.zeros(series.shape[:3])
    starts = [sorted({*range(0, extent - width, 2), extent - width}) for extent in weights.shape]
    for corner in itertools.product(*starts):
        at = tuple(slice(first, first + width) for first in corner)
        u, s, vh = np.linalg.svd(series[at].reshape(-1, n), full_matrices=False)
        values, m = s**2, len(u)
        for p in range(1, n):
            freedom = (n - p) * (m - p)
            variance = values[p:].sum() / freedom
            if values[p] - values[-1] <= 4 * np.sqrt(freedom) * variance:
                break
        low_rank = ((u[:, :p] * s[:p]) @ vh[:p]).reshape(total[at].shape)
        total[at] += p**-3.0 * low_rank
        weights[at] += p**-3.0
    return total / weights[..., None]


@pytest.mark.parametrize(("turns", "least", "most"), [(0.003, 0.7, 0.9), (1.0, 0.85, 1.1)])
def test_parts_of_complex_echoes_keep_no_more_noise_than_complex_singular_values(
    turns, least, most
):
    rng = np.random.default_rng(2)
    truth = complex_echoes(2 * np.pi * turns * rng.uniform(size=(22, 22, 9)))
    echoes = truth + rng.normal(size=truth.shape) + 1j * rng.normal(size=truth.shape)
    result = denoise_mppca(np.concatenate([echoes.real, echoes.imag], axis=-1))
    left = result.denoised[..., :6] + 1j * result.denoised[..., 6:] - truth
    assert np.median(result.sigma) == pytest.approx(1.0, rel=0.02)
    # where phase varies from voxel to voxel a complex component takes two real ones of twice as
    # many columns; where it hardly does one is enough
    assert least < np.std(left) / np.std(by_complex_svd(echoes) - truth) < most


def test_outside_the_mask_the_input_stays():
    data = noisy(two_tissues())
    mask = np.zeros(data.shape[:3], bool)
    mask[3:12, 2:12, 1:9] = True
    data[0, 0, 0] = np.nan
    result = denoise_mppca(data, mask)
    np.testing.assert_array_equal(result.denoised[~mask], data[~mask].astype(np.float32))
    for values in (result.sigma, result.n_components, result.noise_fraction):
        np.testing.assert_array_equal(np.isfinite(values), mask)


def test_lonely_voxel_in_the_mask_is_finite_and_keeps_its_noise():
    data = noisy(two_tissues())
    mask = np.zeros(data.shape[:3], bool)
    mask[:8] = True
    mask[14, 7, 5] = True
    result = denoise_mppca(data, mask)
    assert np.isfinite(result.denoised[mask]).all() and np.isfinite(result.sigma[mask]).all()
    assert result.n_components[14, 7, 5] == 20 and result.noise_fraction[14, 7, 5] == 1


def test_many_components_count_as_unreduced_noise():
    data = noisy(two_tissues())
    left = retained_noise(data, np.full(data.shape[:3], 15.0), np.full(data.shape[:3], 0.2))
    assert (left.fraction == 1).all() and (left.n_components == 0).all()


def test_result_does_not_depend_on_the_number_of_threads():
    data = noisy(two_tissues())
    threads = numba.get_num_threads()
    many = denoise_mppca(data)
    try:
        numba.set_num_threads(1)
        one = denoise_mppca(data)
    finally:
        numba.set_num_threads(threads)
    np.testing.assert_array_equal(one.denoised, many.denoised)


@pytest.mark.parametrize("shape", [(16, 14, 1, 20), (7, 7, 3, 60), (3, 3, 3, 40), (9, 5, 6, 5)])
def test_any_grid_is_covered(shape):
    truth = np.broadcast_to(30.0, shape)
    result = denoise_mppca(noisy(truth))
    assert np.isfinite(result.denoised).all() and np.isfinite(result.sigma).all()
    assert np.std(result.denoised - truth) < 0.6


@pytest.mark.parametrize(
    ("shape", "options", "wanted"),
    [
        ((6, 6, 6, 4), {}, "5 volumes"),
        ((6, 6, 60), {}, "5 volumes"),
        ((6, 6, 6, 10), {"stride": 6}, "gaps"),
        ((6, 6, 6, 10), {"mask": np.ones((6, 6, 5), bool)}, "differ"),
    ],
)
def test_what_cannot_be_denoised_is_refused(shape, options, wanted):
    with pytest.raises(ValueError, match=wanted):
        denoise_mppca(np.ones(shape), **options)
