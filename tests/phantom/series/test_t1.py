"""Variable flip angle and inversion recovery: signals are the model's, truth what was put in."""

import numpy as np

from mrn_prep.models.t1_ir import fit_ir, ir_signal
from mrn_prep.models.t1_vfa import fit_vfa, spgr_signal


def test_pure_voxels_follow_the_spoiled_gradient_echo(view, site_index, names):
    seen = view("vfa", site_index)
    vfa = seen.series
    for name in names:
        t, where = seen.tissue(name), seen.pure(name)
        m0 = seen.scene.gain * t.pd * np.exp(-vfa.te_s / t.t2star_s)
        flip = seen.scene.b1[where][:, None] * np.deg2rad(vfa.flip_deg)
        expected = spgr_signal(m0, t.t1_s, flip, vfa.tr_s)
        np.testing.assert_allclose(seen.signal[where], expected, rtol=1e-12)


def test_fitting_flip_angles_with_the_true_b1_gives_the_true_t1_and_m0(view, site_index, names):
    seen = view("vfa", site_index)
    where = seen.pure(*names)
    fit = fit_vfa(seen.signal[where], np.deg2rad(seen.series.flip_deg), seen.series.tr_s,
                  b1=seen.scene.b1[where])  # fmt: skip
    np.testing.assert_allclose(fit.t1_s, seen.truth["t1", ""][where], rtol=1e-5)
    np.testing.assert_allclose(1 / fit.t1_s, seen.truth["r1", ""][where], rtol=1e-5)
    np.testing.assert_allclose(fit.m0, seen.truth["m0", ""][where], rtol=1e-5)


def test_pure_voxels_follow_the_inversion_recovery(view, site_index, names):
    seen = view("ir", site_index)
    ir = seen.series
    for name in names:
        t, where = seen.tissue(name), np.flatnonzero(seen.pure(name))[:3]
        m0 = seen.scene.gain * t.pd * np.exp(-ir.te_s / t.t2star_s)
        for i in where:
            flip = seen.scene.b1.flat[i] * np.deg2rad(ir.flip_deg)
            expected = ir_signal(m0, t.t1_s, ir.ti_s, ir.tr_s, np.deg2rad(ir.inversion_deg), flip)
            np.testing.assert_allclose(seen.signal.reshape(-1, 6)[i], expected, rtol=1e-12)


def test_fitting_magnitudes_of_inversion_recovery_gives_the_true_t1(view, site_index, names):
    seen = view("ir", site_index)
    where = seen.pure(*names)
    assert (seen.signal[where].min(axis=-1) < 0).all()
    fit = fit_ir(np.abs(seen.signal[where]), seen.series.ti_s)
    np.testing.assert_allclose(fit.t1_s, seen.truth["t1", "ir"][where], rtol=1e-5)


def test_no_inversion_time_makes_muscle_or_nerve_vanish(view, site_index):
    """Magnitudes near zero leave the polarity open."""
    seen = view("ir", site_index)
    signal = np.abs(seen.signal[seen.pure("sciatic", "vastus")])
    assert (signal.min(axis=-1) > 0.1 * signal.max(axis=-1)).all()
