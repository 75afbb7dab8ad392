import numpy as np
import pytest

from mrn_prep.models.megre import FAT_PEAKS, FatPeaks, fat_phasor, megre_signal, scaled_phase

TE_S = np.array([0.0013, 0.0024, 0.0041])


@pytest.mark.parametrize("field_t", [1.5, 3.0, 7.0])
def test_signal_is_the_sum_of_its_resonances(field_t):
    water, fat, field_hz, r2star, phase = 700.0, 250.0, -83.0, 55.0, 0.7
    expected = []
    for te in TE_S:
        spins = [(water, 0.0)]
        for ppm, amplitude in zip(*FAT_PEAKS, strict=True):
            spins.append((fat * amplitude, ppm * 42.577478518 * field_t))
        expected.append(
            sum(a * np.exp(1j * (2 * np.pi * (f + field_hz) * te + phase)) for a, f in spins)
            * np.exp(-te * r2star)
        )
    signal = megre_signal(
        water,
        fat,
        TE_S,
        field_hz=field_hz,
        r2star_per_s=r2star,
        phase_rad=phase,
        field_t=field_t,
    )
    np.testing.assert_allclose(signal, expected, rtol=1e-12)


def test_fat_spectrum_agrees_with_what_its_source_reports():
    ppm, amplitude = (np.array(x) for x in FAT_PEAKS)
    at = (ppm + 4.7).round(2)  # water at 4.7 ppm
    np.testing.assert_allclose(amplitude.sum(), 1.0)
    # Hamilton 2011, abstract: 8.6 % of fat overlies water, 0.6 % is at 2.75 ppm, the peaks near
    # 2.1 ppm are 0.172 and the one at 0.9 ppm is 0.125 of those near 1.3 ppm
    methylene = amplitude[(at > 1.2) & (at < 1.7)].sum()
    np.testing.assert_allclose(amplitude[at > 4].sum(), 0.086)
    np.testing.assert_allclose(amplitude[at == 2.75], 0.006)
    np.testing.assert_allclose(
        amplitude[(at > 1.9) & (at < 2.5)].sum() / methylene, 0.172, atol=1e-3
    )
    np.testing.assert_allclose(amplitude[at == 0.9] / methylene, 0.125, atol=1e-3)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_shapes_broadcast(shape):
    signal = megre_signal(np.ones(shape), 0.5, TE_S, field_hz=np.full(shape, 20.0))
    assert signal.shape == (*shape, 3)
    assert signal.dtype == np.complex128


def test_amplitudes_of_fat_count_only_in_proportion():
    double = FatPeaks(FAT_PEAKS.ppm, tuple(2 * a for a in FAT_PEAKS.amplitude))
    np.testing.assert_allclose(fat_phasor(TE_S, 3.0, double), fat_phasor(TE_S, 3.0))


@pytest.mark.parametrize("field_t", [0.0, -3.0, np.nan])
def test_impossible_field_strengths_are_refused(field_t):
    with pytest.raises(ValueError, match="field strength must be positive"):
        fat_phasor(TE_S, field_t)


def test_peaks_that_do_not_pair_are_refused():
    with pytest.raises(ValueError, match="must pair"):
        fat_phasor(TE_S, 3.0, FatPeaks((-3.4, 0.6), (1.0,)))


TURNS = np.random.default_rng(0).uniform(-0.5, 0.5, (40, 40, 5))
WRITTEN = {
    "radians": 2 * np.pi * TURNS,
    "radians, 0 to 2 pi": 2 * np.pi * (TURNS + 0.5),
    "milliradians": np.round(2000 * np.pi * TURNS),
    "degrees": 360 * TURNS,
    "degrees, 0 to 360": np.round(360 * (TURNS + 0.5)),
    "12 bits": np.floor(4096 * (TURNS + 0.5)),
    "12 bits, signed": np.floor(4096 * TURNS).astype(np.int16),
    "12 bits, signed and doubled": (2 * np.floor(4096 * TURNS)).astype(np.float32),
    "16 bits": np.floor(65536 * (TURNS + 0.5)),
    "16 bits, signed": np.floor(65536 * TURNS),
    "range -1 to 1": np.concatenate([2 * TURNS.ravel(), [-1.0, 1.0]]),
    "range 0 to 254": np.floor(255 * (TURNS + 0.5)),
}


@pytest.mark.parametrize("unit", WRITTEN)
def test_scanner_units_become_radians(unit):
    radians, found = scaled_phase(WRITTEN[unit])
    assert found == unit
    turns = np.append(TURNS, [-0.5, 0.5]) if unit == "range -1 to 1" else TURNS
    # to a constant, and the values were rounded
    difference = np.exp(1j * (radians - 2 * np.pi * turns))
    assert np.abs(np.angle(difference / difference.mean())).max() < 2 * np.pi / 250


def test_phases_that_do_not_fill_a_turn_are_taken_for_radians_or_refused():
    some = 1.0 + 0.8 * TURNS
    np.testing.assert_array_equal(scaled_phase(some)[0], some)
    bell = np.random.default_rng(1).normal(size=5000)
    for values in (0.1 * bell, np.floor(300 * bell), np.zeros((5, 5)), 10 + TURNS**2):
        with pytest.raises(ValueError, match=f"Phases range from {values.min():g}"):
            scaled_phase(values)


def test_a_stated_unit_is_believed_unless_impossible():
    np.testing.assert_array_equal(scaled_phase(0.5 * TURNS, "rad")[0], 0.5 * TURNS)
    with pytest.raises(ValueError, match="cannot be radians"):
        scaled_phase(WRITTEN["12 bits"], "rad")


def test_values_that_are_not_finite_stay_so_and_the_input_is_not_changed():
    values = WRITTEN["12 bits"].copy()
    values[0, 0, 0] = np.nan
    before = values.copy()
    radians, unit = scaled_phase(values)
    assert unit == "12 bits"
    assert np.isnan(radians[0, 0, 0])
    assert np.isnan(radians).sum() == 1
    np.testing.assert_array_equal(values, before)
