import numpy as np
import pytest

from mrn_prep.models.fat_water_magnitude import fit_fat_water_magnitude
from mrn_prep.models.megre import FatPeaks, megre_signal
from mrn_prep.models.status import Reason

TE_S = 0.00123 + 0.00115 * np.arange(6)
IN_AND_OPPOSED_S = 0.00115 * np.arange(1, 4)  # opposed, in phase, opposed at 3 T


def magnitude(signal, sigma, seed=0):
    noise = np.random.default_rng(seed).normal(0, sigma, (2, *signal.shape))
    return np.abs(signal + noise[0] + 1j * noise[1])


def clean(pdff, te_s=TE_S, n_voxels=None, r2star=40.0, **kwargs):
    total = 1000.0 if n_voxels is None else np.full(n_voxels, 1000.0)
    field = 130.0  # of no matter
    signal = megre_signal(
        total * (1 - pdff), total * pdff, te_s, r2star_per_s=r2star, field_hz=field, **kwargs
    )
    return np.abs(signal)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
@pytest.mark.parametrize("pdff", [0.0, 0.1, 0.4, 0.7, 1.0])
@pytest.mark.parametrize(
    ("te_s", "field_t"),
    [(TE_S, 3.0), (0.0023 * np.arange(1, 7), 1.5), (0.0012 + 0.0011 * np.arange(12), 3.0)],
)
def test_recovers_every_parameter_from_noiseless_signal(shape, pdff, te_s, field_t):
    signal = np.broadcast_to(clean(pdff, te_s, field_t=field_t), (*shape, te_s.size))
    fit = fit_fat_water_magnitude(signal, te_s, field_t)
    np.testing.assert_allclose(fit.pdff, pdff, atol=1e-4)
    np.testing.assert_allclose(fit.water, 1000 * (1 - pdff), atol=0.1)
    np.testing.assert_allclose(fit.fat, 1000 * pdff, atol=0.1)
    np.testing.assert_allclose(fit.t2star_s, 0.025, rtol=1e-3)
    assert np.isnan(fit.field_hz).all()
    assert fit.pdff_limit == 1.0
    assert fit.status.shape == fit.pdff_se.shape == shape
    assert not fit.status.any()


@pytest.mark.parametrize("pdff", [0.0, 0.05, 0.3, 0.97])
def test_noise_brings_no_bias_and_intervals_cover(pdff):
    fit = fit_fat_water_magnitude(
        magnitude(clean(pdff, n_voxels=4000), 20.0), TE_S, 3.0, sigma=20.0
    )
    assert np.mean(fit.status == Reason.FITTED) > 0.95
    error = (fit.pdff - pdff)[fit.status == 0]
    assert abs(np.median(error)) < 0.005
    right = np.abs(error) < 0.2
    assert right.mean() > 0.985
    assert 0.60 < np.mean((np.abs(error) < fit.pdff_se[fit.status == 0])[right]) < 0.76
    decay = fit.r2star_per_s[fit.status == 0] - 40.0
    assert abs(np.median(decay)) < 0.8
    assert 0.60 < np.mean(np.abs(decay) < fit.r2star_se_per_s[fit.status == 0]) < 0.76


def test_noise_floor_of_late_echoes_is_no_fat():
    te_s = 0.00115 * np.arange(1, 17)
    signal = magnitude(clean(0.1, te_s, 4000, r2star=150.0), 50.0)
    fit = fit_fat_water_magnitude(signal, te_s, 3.0, sigma=50.0)
    assert abs(np.nanmedian(fit.pdff) - 0.1) < 0.006
    assert abs(np.nanmedian(fit.r2star_per_s) / 150 - 1) < 0.01
    ignored = fit_fat_water_magnitude(signal, te_s, 3.0)
    assert abs(np.nanmedian(ignored.r2star_per_s) / 150 - 1) > 0.05


def test_answers_that_fit_alike_are_not_given():
    # few echoes and much noise: a tenth of fat or nine
    te_s = 0.00115 * np.arange(1, 5)
    signal = magnitude(clean(0.9, te_s, 2000), 20.0)
    fit = fit_fat_water_magnitude(signal, te_s, 3.0, sigma=20.0)
    assert np.mean(fit.status == Reason.NOT_IDENTIFIABLE) > 0.5
    assert np.isnan(fit.pdff[fit.status > 0]).all()
    certain = fit_fat_water_magnitude(magnitude(clean(0.9, te_s, 2000), 2.0), te_s, 3.0, sigma=2.0)
    assert np.mean(certain.status == Reason.FITTED) > 0.98
    assert np.nanmedian(certain.pdff) == pytest.approx(0.9, abs=0.005)


def test_two_echoes_with_one_peak_are_dixons():
    single = FatPeaks((-3.4,), (1.0,))
    half_turn = 0.5 / (3.4 * 42.577478518 * 3.0)
    te_s = half_turn * np.array([1.0, 2.0])
    opposed, in_phase = 640.0, 1000.0
    fit = fit_fat_water_magnitude([opposed, in_phase], te_s, 3.0, peaks=single)
    np.testing.assert_allclose(fit.fat, (in_phase - opposed) / 2, rtol=1e-4)
    np.testing.assert_allclose(fit.water, (in_phase + opposed) / 2, rtol=1e-4)
    assert fit.pdff_limit == pytest.approx(0.5)
    assert np.isnan(fit.t2star_s)
    assert np.isnan(fit.r2star_per_s)
    assert fit.status == Reason.FITTED
    assert fit.t2star_status == Reason.TOO_FEW


def test_two_echoes_read_decay_as_little_fat():
    # what the documentation says: opposed first, three percentage points at 40/s
    fit = fit_fat_water_magnitude(clean(0.1, TE_S[:2]), TE_S[:2], 3.0)
    assert -0.04 < fit.pdff - 0.1 < -0.015


@pytest.mark.parametrize("pdff", [0.0, 0.1, 0.4])
def test_three_echoes_give_t2star_too(pdff):
    fit = fit_fat_water_magnitude(clean(pdff, IN_AND_OPPOSED_S), IN_AND_OPPOSED_S, 3.0)
    np.testing.assert_allclose(fit.pdff, pdff, atol=1e-4)
    np.testing.assert_allclose(fit.t2star_s, 0.025, rtol=1e-3)
    assert 0.5 < fit.pdff_limit < 0.6


@pytest.mark.parametrize("n_echoes", [2, 3])
def test_few_echoes_take_fat_for_water_and_say_where(n_echoes):
    te_s = IN_AND_OPPOSED_S[:n_echoes]
    fit = fit_fat_water_magnitude(clean(0.95, te_s, r2star=0.0), te_s, 3.0)
    assert fit.pdff < fit.pdff_limit < 0.6


@pytest.mark.parametrize(
    "te_s", [[0.0023, 0.0046], [0.0011, 0.0014], [0.0011, 0.0034, 0.0057], [0.0006, 0.0017]]
)
def test_few_echoes_must_be_in_phase_and_opposed(te_s):
    with pytest.raises(ValueError, match="one must be near in phase and one near opposed"):
        fit_fat_water_magnitude(np.ones(len(te_s)), te_s, 3.0)


def test_broken_voxels_are_not_fitted():
    signal = clean(0.2, n_voxels=6)
    signal[0], signal[1, 2], signal[2] = 0.0, np.nan, 10.0
    before = signal.copy()
    fit = fit_fat_water_magnitude(signal, TE_S, 3.0, np.arange(6) != 3, sigma=5.0)
    reasons = [Reason.NO_SIGNAL, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.OUTSIDE_MASK, 0, 0]
    np.testing.assert_array_equal(fit.status, reasons)
    np.testing.assert_array_equal(fit.t2star_status, reasons)
    np.testing.assert_array_equal(np.isnan(fit.pdff), fit.status > 0)
    np.testing.assert_array_equal(signal, before)


def test_threads_change_nothing():
    signal = magnitude(clean(0.3, n_voxels=40000), 20.0)
    one = fit_fat_water_magnitude(signal, TE_S, 3.0, sigma=20.0)
    two = fit_fat_water_magnitude(signal, TE_S, 3.0, sigma=20.0, n_threads=2)
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values, getattr(two, name))


@pytest.mark.parametrize(
    ("signal", "te_s", "message"),
    [
        (np.ones(6, complex), TE_S, "real magnitudes"),
        (np.ones(5), TE_S, "a time for each of 5"),
        (np.ones(1), TE_S[:1], "2 or more echoes"),
    ],
)
def test_what_cannot_be_fitted_is_refused(signal, te_s, message):
    with pytest.raises(ValueError, match=message):
        fit_fat_water_magnitude(signal, te_s, 3.0)
