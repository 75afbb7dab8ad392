"""Magnetisation transfer: signals are those of Helms's definition, and so is the truth."""

import numpy as np

from mrn_prep.models.mt import fit_mtsat, mtr_percent, mtsat_signal

# proton density, T1 and MT weighting, as `fit_mtsat` wants them
ORDER = [0, 2, 1]


def test_pure_voxels_follow_helms_s_signal(view, site_index, names):
    seen = view("mts", site_index)
    mts = seen.series
    for name in names:
        t, where = seen.tissue(name), seen.pure(name)
        b1 = seen.scene.b1[where]
        m0 = seen.scene.gain * t.pd * np.exp(-mts.te_s / t.t2star_s)
        on = mtsat_signal(m0, t.t1_s, t.mtsat_percent * b1**2,
                          b1 * np.deg2rad(mts.flip_deg[0]), mts.tr_s[0])  # fmt: skip
        off = mtsat_signal(m0, t.t1_s, 0.0, b1 * np.deg2rad(mts.flip_deg[1]), mts.tr_s[1])
        np.testing.assert_allclose(seen.signal[where, 1], on, rtol=1e-12)
        np.testing.assert_allclose(seen.signal[where, 2], off, rtol=1e-12)


def test_fitting_pure_voxels_gives_the_true_mtsat_t1_and_m0(view, site_index, names):
    seen = view("mts", site_index)
    where = seen.pure(*names)
    sidecars = [seen.series.files()[i].sidecar for i in ORDER]
    fit = fit_mtsat(
        seen.signal[where][:, ORDER], np.deg2rad([s["FlipAngle"] for s in sidecars]),
        [s["RepetitionTimeExcitation"] for s in sidecars], b1=seen.scene.b1[where],
    )  # fmt: skip
    np.testing.assert_allclose(
        fit.mtsat_percent / 100, seen.truth["mtsat", ""][where], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(fit.t1_s, seen.truth["t1", "mts"][where], rtol=1e-5)
    np.testing.assert_allclose(1 / fit.t1_s, seen.truth["r1", "mts"][where], rtol=1e-5)
    np.testing.assert_allclose(fit.m0, seen.truth["m0", "mts"][where], rtol=1e-5)


def test_true_mtr_is_that_of_the_noise_free_images_in_mixed_voxels_too(view, site_index):
    seen = view("mts", site_index)
    limb = seen.scene.fractions[..., 0] < 1
    expected = mtr_percent(seen.signal[limb][:, 0], seen.signal[limb][:, 1]).mtr_percent
    np.testing.assert_allclose(seen.truth["mtr", "mts"][limb], expected / 100)
    assert np.isnan(seen.truth["mtr", "mts"][~limb]).all()


def test_a_pair_is_the_first_two_images_of_three(view, site_index):
    pair, three = view("mtr", site_index), view("mts", site_index)
    np.testing.assert_array_equal(pair.signal, three.signal[..., :2])
    assert list(pair.truth) == [("mtr", "")]
    np.testing.assert_array_equal(pair.truth["mtr", ""], three.truth["mtr", "mts"])
    assert [file.entities for file in pair.series.files()] == [{"mt": "off"}, {"mt": "on"}]


def test_mtr_differs_by_protocol_and_stays_in_the_published_range(view):
    seen = [view("mts", index) for index in (0, 1)]
    means = [np.mean(one.truth["mtr", "mts"][one.pure("sciatic")]) for one in seen]
    assert 0.20 < means[0] < means[1] < 0.37
