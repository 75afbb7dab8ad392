import numpy as np
import pytest

from mrn_prep.models.fat_water import fit_fat_water, phase_sign
from mrn_prep.models.megre import FatPeaks, megre_signal
from mrn_prep.models.status import Reason

TE_S = 0.00123 + 0.00115 * np.arange(6)
VOXEL_MM = (1.2, 1.2, 4.0)
SHAPE = (20, 20, 15)


def volume(pdff, te_s=TE_S, shape=SHAPE, total=1000.0, field_hz=0.0, r2star=40.0, field_t=3.0):
    """A smooth field around `field_hz`, one tissue."""
    x, y, _ = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    field = field_hz + 20 * x - 15 * y
    signal = megre_signal(
        total * (1 - np.broadcast_to(pdff, shape)),
        total * np.broadcast_to(pdff, shape),
        te_s,
        field_hz=field,
        r2star_per_s=r2star,
        phase_rad=1.0 + x,
        field_t=field_t,
    )
    return signal, field


def noisy(signal, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (2, *signal.shape))
    return signal + noise[0] + 1j * noise[1]


def bound(pdff, te_s, r2star, sigma, total=1000.0, field_t=3.0):
    """Cramér-Rao bounds of W, F, field and R2* from differences of the forward model."""

    def signal(p):
        s = megre_signal(
            p[0],
            p[1],
            te_s,
            field_hz=p[2],
            r2star_per_s=p[3],
            phase_rad=p[4],
            field_t=field_t,
        )
        return np.concatenate([s.real, s.imag])

    at = np.array([total * (1 - pdff), total * pdff, 30.0, r2star, 0.4])
    step = np.array([1e-3, 1e-3, 1e-4, 1e-4, 1e-6])
    jacobian = np.stack(
        [(signal(at + h) - signal(at - h)) / (2 * h.sum()) for h in np.diag(step)], axis=1
    )
    cov = sigma**2 * np.linalg.inv(jacobian.T @ jacobian)
    slope = np.array([-at[1], at[0]]) / total**2
    return np.append(np.sqrt(np.diag(cov)[:4]), np.sqrt(slope @ cov[:2, :2] @ slope))


@pytest.mark.parametrize(
    ("te_s", "field_t"),
    [
        (TE_S, 3.0),
        (0.0012 + 0.001 * np.arange(3), 3.0),
        (0.0013 + 0.0016 * np.arange(6), 1.5),
        (np.array([1.1, 2.1, 3.37, 4.2, 5.55, 7.1]) * 1e-3, 3.0),
        (0.0012 + 0.0012 * np.arange(12), 3.0),
    ],
)
def test_recovers_every_parameter_from_noiseless_signal(te_s, field_t):
    shape = (9, 8, 3)
    pdff = np.linspace(0, 1, 9)[:, np.newaxis, np.newaxis]
    r2star = np.linspace(15, 300, 8)[:, np.newaxis]
    signal, field = volume(pdff, te_s, shape, r2star=r2star, field_hz=120.0, field_t=field_t)
    fit = fit_fat_water(signal, te_s, field_t, VOXEL_MM)
    truth = np.broadcast_to(pdff, shape), np.broadcast_to(r2star, shape)
    np.testing.assert_allclose(fit.pdff, truth[0], atol=1e-4)
    np.testing.assert_allclose(fit.water, 1000 * (1 - truth[0]), atol=0.1)
    np.testing.assert_allclose(fit.fat, 1000 * truth[0], atol=0.1)
    np.testing.assert_allclose(fit.r2star_per_s, truth[1], rtol=1e-3)
    np.testing.assert_allclose(fit.t2star_s, 1 / truth[1], rtol=1e-3)
    np.testing.assert_allclose(fit.field_hz, field, rtol=1e-3, atol=1e-3)
    assert not fit.status.any()


@pytest.mark.parametrize("pdff", [0.0, 0.05, 0.3, 0.6, 0.95])
def test_noise_brings_no_bias_and_the_least_spread(pdff):
    sigma = 20.0
    signal, field = volume(pdff)
    fit = fit_fat_water(noisy(signal, sigma), TE_S, 3.0, VOXEL_MM, sigma=sigma)
    assert not fit.status.any()
    least = bound(pdff, TE_S, 40.0, sigma)
    columns = (
        (fit.water, fit.water_se, 1000 * (1 - pdff), least[0], 10.0),
        (fit.fat, fit.fat_se, 1000 * pdff, least[1], 10.0),
        (fit.field_hz, fit.field_se_hz, field, least[2], 0.3),
        (fit.r2star_per_s, fit.r2star_se_per_s, 40.0, least[3], 0.4),
        (fit.pdff, fit.pdff_se, pdff, least[4], 0.005 if pdff == 0 else max(0.01 * pdff, 0.001)),
    )
    for values, se, truth, smallest, allowed in columns:
        error = values - truth
        assert abs(np.median(error)) < allowed
        np.testing.assert_allclose(error.std(), smallest, rtol=0.1)
        np.testing.assert_allclose(np.median(se), smallest, rtol=0.1)
        assert 0.60 < np.mean(np.abs(error) < se) < 0.76
    # T2*, the inverse, has a tail
    known = np.isfinite(fit.t2star_s)
    assert known.mean() > 0.998
    assert abs(np.median(fit.t2star_s[known]) / 0.025 - 1) < 0.01
    within = np.abs(fit.t2star_s - 0.025) < fit.t2star_se_s
    assert 0.60 < np.mean(within[known]) < 0.76


@pytest.mark.parametrize("pdff", [0.0, 1.0])
def test_the_mean_fraction_of_pure_tissue_has_no_noise_floor(pdff):
    sigma = 50.0  # SNR 20
    signal, _ = volume(pdff)
    fit = fit_fat_water(noisy(signal, sigma), TE_S, 3.0, VOXEL_MM, sigma=sigma)
    assert abs(np.mean(fit.pdff) - pdff) < 0.002
    # as magnitudes it would have
    floor = np.abs(fit.fat) / (np.abs(fit.fat) + np.abs(fit.water))
    assert abs(np.mean(floor) - pdff) > 0.015


def test_standard_errors_come_from_residuals_where_there_are_enough():
    signal, _ = volume(0.2, shape=(12, 12, 8))
    fit = fit_fat_water(noisy(signal, 20.0), TE_S, 3.0, VOXEL_MM)
    covered = np.mean(np.abs(fit.pdff - 0.2) < fit.pdff_se)
    assert 0.58 < covered < 0.76  # seven degrees of freedom: 65 %
    few = fit_fat_water(noisy(signal, 20.0)[..., :5], TE_S[:5], 3.0, VOXEL_MM)
    assert np.isnan(few.pdff_se).all()
    assert np.isnan(few.field_se_hz).all()
    assert abs(np.median(few.pdff) - 0.2) < 0.005


def test_a_field_beyond_the_period_gives_the_same_fractions_and_is_continuous():
    signal, _ = volume(0.2, shape=(30, 10, 3))
    ramp = np.linspace(-700, 700, 30)[:, np.newaxis, np.newaxis, np.newaxis]
    fit = fit_fat_water(signal * np.exp(2j * np.pi * ramp * TE_S), TE_S, 3.0, VOXEL_MM)
    np.testing.assert_allclose(fit.pdff, 0.2, atol=1e-4)
    assert np.abs(np.diff(fit.field_hz, axis=0)).max() < 60
    assert abs(np.median(fit.field_hz)) < 0.5 / 0.00115


def test_empty_and_masked_and_broken_voxels_are_not_fitted():
    signal, _ = volume(0.2, shape=(6, 5, 2))
    signal[0], signal[1, 0], signal[2, 0] = 0.0, np.nan, 1.0
    mask = np.ones((6, 5, 2), bool)
    mask[5] = False
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, mask, sigma=5.0)
    assert (fit.status[0] == Reason.NO_SIGNAL).all()
    assert (fit.status[1, 0] == Reason.NON_FINITE).all()
    assert (fit.status[2, 0] == Reason.NO_SIGNAL).all()
    assert (fit.status[5] == Reason.OUTSIDE_MASK).all()
    fitted = fit.status == Reason.FITTED
    assert fitted.sum() == 4 * 5 * 2 - 2 * 2
    for name, values in vars(fit).items():
        if isinstance(values, np.ndarray) and "status" not in name:
            np.testing.assert_array_equal(np.isfinite(values), fitted, name)


def test_nothing_to_fit_is_no_error():
    signal, _ = volume(0.2, shape=(3, 3, 2))
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, np.zeros((3, 3, 2), bool))
    assert (fit.status == Reason.OUTSIDE_MASK).all()


def test_echoes_all_in_phase_hardly_determine_a_fraction():
    te_s = 0.0023 * np.arange(1, 7)
    fits = [
        fit_fat_water(noisy(volume(0.2, te, (8, 8, 4))[0], 50.0), te, 3.0, VOXEL_MM, sigma=50.0)
        for te in (TE_S, te_s)
    ]
    assert np.nanmedian(fits[1].pdff_se) > 5 * np.nanmedian(fits[0].pdff_se)
    assert not fits[0].status.any()
    assert np.mean(fits[1].status == Reason.NOT_IDENTIFIABLE) > 0.03
    assert np.nanmax(fits[1].pdff_se) <= 0.25


def test_without_decay_there_is_a_fraction_but_no_t2star():
    signal, _ = volume(0.2, r2star=0.0)
    fit = fit_fat_water(noisy(signal, 20.0), TE_S, 3.0, VOXEL_MM, sigma=20.0)
    assert not fit.status.any()
    assert abs(np.median(fit.pdff) - 0.2) < 0.002
    assert abs(np.median(fit.r2star_per_s)) < 0.5
    assert np.mean(np.isnan(fit.t2star_s)) > 0.8
    np.testing.assert_array_equal(np.isnan(fit.t2star_s), fit.t2star_status > 0)


@pytest.mark.parametrize("sigma", [10.0, 30.0, 50.0, 80.0])
def test_refusing_vague_t2star_does_not_shorten_the_rest(sigma):
    signal, _ = volume(0.05)
    fit = fit_fat_water(noisy(signal, sigma), TE_S, 3.0, VOXEL_MM, sigma=sigma)
    given = fit.t2star_s[np.isfinite(fit.t2star_s)]
    if sigma < 80:
        assert given.size > 0.95 * fit.status.size
        assert abs(np.median(given) / 0.025 - 1) < 0.015
    else:
        assert given.size < 0.05 * fit.status.size
    assert abs(np.median(fit.r2star_per_s) / 40 - 1) < 0.01


def test_sign_of_phase_is_told_by_fat():
    pdff = np.where(np.arange(20) < 10, 0.03, 0.95)[:, np.newaxis, np.newaxis]
    signal = noisy(volume(pdff)[0], 20.0)
    assert phase_sign(signal, TE_S, 3.0) == 1
    assert phase_sign(signal.conj(), TE_S, 3.0) == -1
    assert phase_sign(noisy(volume(0.0)[0], 5.0), TE_S, 3.0) == 0


def test_threads_and_layout_change_nothing_and_nothing_is_written_into_the_input():
    signal = noisy(volume(0.4, shape=(24, 24, 16))[0], 20.0)
    before = signal.copy()
    one = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, sigma=20.0)
    two = fit_fat_water(np.asfortranarray(signal), TE_S, 3.0, VOXEL_MM, sigma=20.0, n_threads=2)
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values, getattr(two, name))
    np.testing.assert_array_equal(signal, before)


def test_another_spectrum_of_fat_changes_the_fraction_by_less_than_a_tenth_of_it():
    # with more olefinic and less methylene, as adipose tissue is given elsewhere
    other = FatPeaks(
        (-3.8, -3.4, -3.11, -2.7, -2.45, -1.93, -0.5, 0.61),
        (0.087, 0.568, 0.058, 0.092, 0.058, 0.027, 0.038, 0.073),
    )
    signal = megre_signal(np.full((6, 6, 3), 800.0), 200.0, TE_S, r2star_per_s=40.0, peaks=other)
    assert abs(fit_fat_water(signal, TE_S, 3.0, VOXEL_MM).pdff - 0.2).max() < 0.02
    fit = fit_fat_water(signal, TE_S, 3.0, VOXEL_MM, peaks=other)
    np.testing.assert_allclose(fit.pdff, 0.2, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"signal": np.ones((2, 2, 2, 6))}, "must be complex"),
        ({"signal": np.ones((2, 2, 6), complex)}, "must be \\(x, y, z, n_echoes\\)"),
        ({"te_s": TE_S[:5]}, "a time for each of 6"),
        ({"signal": np.ones((2, 2, 2, 2), complex), "te_s": TE_S[:2]}, "3 or more echoes"),
        ({"te_s": TE_S[::-1]}, "must increase"),
        ({"te_s": 1e3 * TE_S}, "must increase \\(s\\)"),
        ({"field_t": None}, "without the field strength"),
        ({"field_t": 0.0}, "field strength must be positive"),
        ({"voxel_mm": (1.0, 0.0, 1.0)}, "three positive sizes"),
        ({"mask": np.ones((2, 2), bool)}, "mask"),
        ({"sigma": np.ones(3)}, "sigma"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    given = {
        "signal": np.ones((2, 2, 2, 6), complex),
        "te_s": TE_S,
        "field_t": 3.0,
        "voxel_mm": VOXEL_MM,
    }
    with pytest.raises(ValueError, match=message):
        fit_fat_water(**(given | change))
