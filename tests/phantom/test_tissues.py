import numpy as np
import pytest

from mrn_prep.phantom.limb import Limb, draw_limb
from mrn_prep.phantom.tissues import TISSUES


@pytest.mark.parametrize("name", ["nerve", "muscle", "fat", "artery"])
def test_eigenvalues_give_back_md_and_fa(name):
    t = TISSUES[name]
    evals = np.array([t.ad_mm2_s, t.rd_mm2_s, t.rd_mm2_s])
    fa = np.sqrt(1.5 * ((evals - evals.mean()) ** 2).sum() / (evals**2).sum())
    assert evals.mean() == pytest.approx(t.md_mm2_s, rel=1e-12)
    assert fa == pytest.approx(t.fa, abs=1e-12)


def test_every_value_has_a_source():
    assert all(tissue.source for tissue in TISSUES.values())


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
