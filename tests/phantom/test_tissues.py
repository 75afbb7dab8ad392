import numpy as np
import pytest

from mrn_prep.models.mt import mtr_percent, mtsat_signal
from mrn_prep.phantom.limb import Limb, draw_limb
from mrn_prep.phantom.tissues import PATIENT_NERVE, TISSUES, scaled


@pytest.mark.parametrize("name", ["nerve", "muscle", "fat", "artery"])
def test_eigenvalues_give_back_md_and_fa(name):
    t = TISSUES[name]
    evals = np.array([t.ad_mm2_s, t.rd_mm2_s, t.rd_mm2_s])
    fa = np.sqrt(1.5 * ((evals - evals.mean()) ** 2).sum() / (evals**2).sum())
    assert evals.mean() == pytest.approx(t.md_mm2_s, rel=1e-12)
    assert fa == pytest.approx(t.fa, abs=1e-12)


def test_every_value_has_a_source():
    assert all(tissue.source for tissue in TISSUES.values())


def mtr(tissue):
    """MTR at 9 degrees and a TR of 30 ms."""
    flip_rad = np.deg2rad(9)
    off, on = (mtsat_signal(1.0, tissue.t1_s, d, flip_rad, 0.03) for d in (0, tissue.mtsat_percent))
    return mtr_percent(off, on).mtr_percent


def test_mtsat_and_t1_give_the_mtr_that_the_source_says():
    assert mtr(TISSUES["nerve"]) == pytest.approx(28, abs=0.3)
    assert mtr(TISSUES["muscle"]) == pytest.approx(30, abs=0.3)
    ill = scaled(TISSUES["nerve"], PATIENT_NERVE)
    assert mtr(ill) / mtr(TISSUES["nerve"]) == pytest.approx(0.88, abs=0.005)


def test_marrow_and_fat_under_the_skin_are_alike():
    limb = draw_limb(np.random.default_rng(5))
    fat, marrow = limb.tissues["subcutaneousfat"], limb.tissues["marrow"]
    assert (fat.t1_s, fat.t2_s) == (marrow.t1_s, marrow.t2_s)
    assert fat.t2_s != TISSUES["fat"].t2_s and limb.fat == fat


def test_patients_nerves_differ_and_their_muscles_do_not():
    control, patient = (draw_limb(np.random.default_rng(3), patient=p) for p in (False, True))
    before, after = control.tissues["sciatic"], patient.tissues["sciatic"]
    assert after.t1_s / before.t1_s == pytest.approx(1.12)
    assert after.fa / before.fa == pytest.approx(0.80)
    assert patient.tissues["vastus"] == control.tissues["vastus"]
    ratio = patient.shape.tubes["sciatic"].area_mm2 / control.shape.tubes["sciatic"].area_mm2
    assert ratio == pytest.approx(1.25)


def test_no_effect_leaves_patients_as_controls():
    control = draw_limb(np.random.default_rng(3))
    patient = draw_limb(np.random.default_rng(3), patient=True, effect=0.0)
    assert patient.tissues["sciatic"] == control.tissues["sciatic"]


def test_participants_vary_within_the_published_range():
    limbs = [draw_limb(np.random.default_rng(seed)) for seed in range(40)]
    t1 = np.array([limb.tissues["sciatic"].t1_s for limb in limbs])
    fa = np.array([limb.tissues["sciatic"].fa for limb in limbs])
    assert 1.1 <= t1.min() < t1.max() <= 1.4 and t1.std() > 0.02
    assert 0.4 <= fa.min() < fa.max() <= 0.6


def test_b1_spans_the_range_measured_in_thighs():
    x, y = np.meshgrid(np.linspace(-72, 72, 61), np.linspace(-68, 68, 61))
    inside = (x / 72) ** 2 + (y / 68) ** 2 < 1
    b1 = Limb().b1.at(np.stack([x, y, 0 * x], axis=-1))[inside]
    assert 0.68 < b1.min() < 0.76 and 1.05 < b1.max() < 1.15
    rectus = Limb().b1.at(np.array([10.0, 46, 0])).item()
    assert 0.54 < rectus < 0.93


def test_b0_stays_within_100_hz():
    points = np.random.default_rng(0).uniform(-70, 70, (1000, 3)) * [1, 1, 0.4]
    assert np.abs(Limb().b0_hz.at(points)).max() < 130


@pytest.mark.parametrize("largest_hz", [0.0, 300.0])
def test_off_resonance_can_be_asked_for(largest_hz):
    usual, asked = Limb(), Limb().with_b0(largest_hz)
    points = np.random.default_rng(0).uniform(-1, 1, (20000, 3)) * [73, 69, 30]
    inside = (points[:, 0] / 73) ** 2 + (points[:, 1] / 69) ** 2 < 1
    found = asked.b0_hz.at(points[inside])
    assert np.abs(found).max() == pytest.approx(largest_hz, rel=0.05)
    factor = asked.b0_hz.centre / usual.b0_hz.centre
    np.testing.assert_allclose(found, factor * usual.b0_hz.at(points[inside]))
    assert asked.tissues == usual.tissues
