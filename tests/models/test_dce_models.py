import numpy as np
import pytest
from scipy.optimize import curve_fit

from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_curves import (
    extended_tofts_curve,
    patlak_curve,
    plasma_from_blood,
    two_compartment_exchange_curve,
    two_compartment_uptake_curve,
)
from mrn_prep.models.dce_models import (
    fit_extended_tofts,
    fit_patlak,
    fit_tofts,
    fit_two_compartment_exchange,
    fit_two_compartment_uptake,
)
from mrn_prep.models.dce_results import SharedError
from mrn_prep.models.status import Reason

T = np.arange(0.0, 300.0, 3.0)
PLASMA = plasma_from_blood(parker_aif(T, arrival_s=20.0), 0.42)
FINE = np.arange(0.0, 320.0, 0.1)
FINE_PLASMA = plasma_from_blood(parker_aif(FINE, arrival_s=20.0), 0.42)
MIN = 60.0


def nerve(n=None, t=T, plasma=PLASMA, **kwargs):
    k = 0.03 / MIN if n is None else np.full(n, 0.03 / MIN)
    return extended_tofts_curve(k, 0.2, 0.02, plasma, t, **kwargs)


def noisy(curve, sigma, seed=0):
    return curve + np.random.default_rng(seed).normal(0, sigma, curve.shape)


def grid(*axes):
    return [a.ravel() for a in np.meshgrid(*axes, indexing="ij")]


@pytest.mark.parametrize("delay_s", [0.0, 3.3, 10.0])
def test_recovers_extended_tofts_over_the_whole_range(delay_s):
    k, ve, vp = grid([0.01, 0.05, 0.35], [0.01, 0.1, 0.5, 1.0], [0.001, 0.02, 0.1])
    curve = extended_tofts_curve(k / MIN, ve, vp, PLASMA, T, delay_s=delay_s)
    fit = fit_extended_tofts(curve, PLASMA, T, delay=delay_s, aif_between="lines", sigma=1e-9)
    assert not fit.status.any()
    assert not fit.ve_status.any()
    for found, truth in ((MIN * fit.ktrans_per_s, k), (fit.ve, ve), (fit.vp, vp)):
        np.testing.assert_allclose(found, truth, rtol=1e-5)
    np.testing.assert_allclose(fit.kep_per_s, fit.ktrans_per_s / fit.ve)
    assert np.all(fit.delay_s == delay_s)


@pytest.mark.parametrize("delay_s", [0.0, 2.2, 10.0])
def test_finds_the_delay_and_all_else_with_a_finely_sampled_input(delay_s):
    k, ve, vp = grid([0.02, 0.1, 0.35], [0.1, 0.3, 1.0], [0.01, 0.1])
    curve = extended_tofts_curve(k / MIN, ve, vp, FINE_PLASMA, FINE, T, delay_s)
    fit = fit_extended_tofts(curve, FINE_PLASMA, T, delay="fit", aif_t_s=FINE)
    assert not fit.status.any()
    np.testing.assert_allclose(fit.delay_s, delay_s, atol=0.01)
    for found, truth in ((MIN * fit.ktrans_per_s, k), (fit.ve, ve), (fit.vp, vp)):
        np.testing.assert_allclose(found, truth, rtol=0.005)


def test_1321_frames_and_uneven_frames():
    for t in (0.5 * np.arange(1321), np.cumsum(np.r_[0, np.tile([1.5, 2, 6.0], 40)])):
        plasma = plasma_from_blood(parker_aif(t, arrival_s=20.0), 0.42)
        fit = fit_extended_tofts(nerve(3, t, plasma), plasma, t)
        np.testing.assert_allclose(MIN * fit.ktrans_per_s, 0.03, rtol=1e-6)
        np.testing.assert_allclose(fit.ve, 0.2, rtol=1e-6)


@pytest.mark.parametrize("delay_s", [0.0, 10.0])
def test_every_model_takes_1321_frames_and_the_whole_range(delay_s):
    t = 0.5 * np.arange(1321)
    plasma = plasma_from_blood(parker_aif(t, arrival_s=20.0), 0.42)
    k, ve, vp = grid([0.01, 0.35], [0.05, 0.3, 1.0], [0.005, 0.05])
    known = {"delay": delay_s, "aif_between": "lines", "sigma": 1e-9}
    place = {"aif": plasma, "aif_t_s": t, "t_s": t, "delay_s": delay_s}

    def check(found, truth):
        np.testing.assert_allclose(found, np.broadcast_to(truth, found.shape), rtol=1e-4)

    fit = fit_tofts(extended_tofts_curve(k / MIN, ve, 0 * vp, **place), plasma, t, **known)
    check(MIN * fit.ktrans_per_s, k)
    check(fit.ve, ve)
    fit = fit_extended_tofts(extended_tofts_curve(k / MIN, ve, vp, **place), plasma, t, **known)
    check(np.stack([MIN * fit.ktrans_per_s, fit.ve, fit.vp]), np.stack([k, ve, vp]))
    fit = fit_patlak(patlak_curve(k / MIN, vp, **place), plasma, t, **known)
    check(np.stack([MIN * fit.ps_per_s, fit.vp]), np.stack([k, vp]))
    # plasma that is replaced faster than twice a second cannot be told from the input
    fp, vp = np.full(k.shape, 0.5), np.maximum(vp, 0.02)
    curve = two_compartment_uptake_curve(fp / MIN, k / MIN, vp, **place)
    fit = fit_two_compartment_uptake(curve, plasma, t, **known)
    check(np.stack([MIN * fit.fp_per_s, MIN * fit.ps_per_s, fit.vp]), np.stack([fp, k, vp]))
    curve = two_compartment_exchange_curve(fp / MIN, k / MIN, vp, ve, **place)
    fit = fit_two_compartment_exchange(curve, plasma, t, **known)
    found = np.stack([MIN * fit.fp_per_s, MIN * fit.ps_per_s, fit.vp, fit.ve])
    check(found, np.stack([fp, k, vp, ve]))


def test_units_of_osipi_and_qiba_are_the_same_tissue():
    # OSIPI: minutes, ml/100 ml/min, blood; QIBA: seconds, 1/min, plasma
    t_min = np.arange(0, 5, 0.05)
    blood = parker_aif(60 * t_min, arrival_s=20.0)
    plasma = plasma_from_blood(blood, 0.42)
    per_min = extended_tofts_curve(0.05, 0.2, 0.02, plasma, t_min)  # all in minutes
    fit = fit_extended_tofts(per_min, plasma, 60 * t_min)
    np.testing.assert_allclose([60 * fit.ktrans_per_s, fit.ve, fit.vp], [0.05, 0.2, 0.02], 1e-6)
    # an input in blood taken for plasma reads (1 - Hct) too high
    wrong = fit_extended_tofts(per_min, blood, 60 * t_min)
    np.testing.assert_allclose(fit.ktrans_per_s / wrong.ktrans_per_s, 1 - 0.42, 1e-6)
    # flow of 30 ml/100 ml/min
    flow = two_compartment_uptake_curve(0.30, 0.02, 0.05, plasma, t_min)
    fit = fit_two_compartment_uptake(flow, plasma, 60 * t_min)
    np.testing.assert_allclose([6000 * fit.fp_per_s, 60 * fit.ps_per_s], [30.0, 0.02], 1e-5)


def test_recovers_the_other_models():
    k, ve = grid([0.01, 0.1, 0.35], [0.05, 0.3, 1.0])
    tofts = fit_tofts(extended_tofts_curve(k / MIN, ve, 0.0, PLASMA, T), PLASMA, T)
    np.testing.assert_allclose(MIN * tofts.ktrans_per_s, k, rtol=1e-6)
    np.testing.assert_allclose(tofts.ve, ve, rtol=1e-6)
    ps, vp = grid([0.0, 0.01, 0.15], [0.01, 0.5])
    patlak = fit_patlak(patlak_curve(ps / MIN, vp, PLASMA, T), PLASMA, T)
    np.testing.assert_allclose(MIN * patlak.ps_per_s, ps, atol=1e-12)
    np.testing.assert_allclose(patlak.vp, vp, rtol=1e-9)
    fp, ps, vp = grid([0.05, 0.25, 0.4], [0.001, 0.025], [0.02, 0.1])
    curve = two_compartment_uptake_curve(fp / MIN, ps / MIN, vp, PLASMA, T)
    uptake = fit_two_compartment_uptake(curve, PLASMA, T)
    for found, truth in ((MIN * uptake.fp_per_s, fp), (MIN * uptake.ps_per_s, ps), (uptake.vp, vp)):
        np.testing.assert_allclose(found, truth, rtol=1e-5)
    fp, ps, vp, ve = grid([0.1, 0.4], [0.02, 0.1], [0.02, 0.1], [0.1, 0.5])
    curve = two_compartment_exchange_curve(fp / MIN, ps / MIN, vp, ve, PLASMA, T)
    fit = fit_two_compartment_exchange(curve, PLASMA, T)
    for found, truth in (
        (MIN * fit.fp_per_s, fp), (MIN * fit.ps_per_s, ps), (fit.vp, vp), (fit.ve, ve),
    ):  # fmt: skip
        np.testing.assert_allclose(found, truth, rtol=1e-4)


def test_simpler_models_are_limits_of_the_larger():
    exchange = two_compartment_exchange_curve(0.01, 0.001, 0.05, 1e5, PLASMA, T)
    uptake = two_compartment_uptake_curve(0.01, 0.001, 0.05, PLASMA, T)
    np.testing.assert_allclose(exchange, uptake, rtol=1e-4)
    much_flow = two_compartment_exchange_curve(1e3, 0.001, 0.05, 0.2, PLASMA, T)
    tofts = extended_tofts_curve(0.001, 0.2, 0.05, PLASMA, T)
    np.testing.assert_allclose(much_flow, tofts, atol=1e-4)


def models():
    def tofts(_, k, ve):
        return extended_tofts_curve(k / MIN, ve, 0.0, PLASMA, T)

    def extended(_, k, ve, vp):
        return extended_tofts_curve(k / MIN, ve, vp, PLASMA, T)

    def patlak(_, ps, vp):
        return patlak_curve(ps / MIN, vp, PLASMA, T)

    def uptake(_, fp, ps, vp):
        return two_compartment_uptake_curve(fp / MIN, ps / MIN, vp, PLASMA, T)

    def exchange(_, fp, ps, vp, ve):
        return two_compartment_exchange_curve(fp / MIN, ps / MIN, vp, ve, PLASMA, T)

    return [
        (fit_tofts, tofts, (0.1, 0.2), ("ktrans", "ve")),
        (fit_extended_tofts, extended, (0.05, 0.2, 0.03), ("ktrans", "ve", "vp")),
        (fit_patlak, patlak, (0.03, 0.03), ("ps", "vp")),
        (fit_two_compartment_uptake, uptake, (0.3, 0.03, 0.05), ("fp", "ps", "vp")),
        (fit_two_compartment_exchange, exchange, (0.4, 0.06, 0.06, 0.2), ("fp", "ps", "vp", "ve")),
    ]


def column(fit, name):
    """A quantity in the units of the tables, and its standard error."""
    if name in ("ve", "vp"):
        return getattr(fit, name), getattr(fit, f"{name}_se")
    return MIN * getattr(fit, f"{name}_per_s"), MIN * getattr(fit, f"{name}_se_per_s")


@pytest.mark.parametrize(("fit", "model", "truth", "names"), models())
@pytest.mark.parametrize("known", [True, False])
def test_reaches_the_optimum_and_the_errors_of_scipy(fit, model, truth, names, known):
    sigma = 0.005
    curves = noisy(np.stack([model(None, *truth)] * 6), sigma)
    found = fit(curves, PLASMA, T, sigma=sigma if known else None)
    assert not found.status.any()
    for v, curve in enumerate(curves):
        best, cov = curve_fit(
            model, T, curve, truth, sigma=np.full(T.size, sigma), absolute_sigma=known,
            x_scale=truth, method="trf", xtol=1e-12, ftol=1e-12, gtol=1e-12,
        )  # fmt: skip
        for i, name in enumerate(names):
            value, se = column(found, name)
            np.testing.assert_allclose(value[v], best[i], rtol=1e-3 * se[v] / best[i] + 1e-5)
            np.testing.assert_allclose(se[v], np.sqrt(cov[i, i]), rtol=2e-3)
        rss = np.sum((curve - model(None, *best)) ** 2)
        np.testing.assert_allclose(found.residual_ss[v], rss, rtol=1e-6)


@pytest.mark.parametrize(("fit", "model", "truth", "names"), models())
def test_standard_errors_cover_under_noise(fit, model, truth, names):
    sigma, n = 0.01, 3000
    found = fit(noisy(np.stack([model(None, *truth)] * n), sigma), PLASMA, T, sigma=sigma)
    assert np.mean(found.status == Reason.FITTED) > 0.99
    for i, name in enumerate(names):
        value, se = column(found, name)
        ok = np.isfinite(value)
        error = np.abs(value[ok] - truth[i])
        assert 0.64 < np.mean(error < se[ok]) < 0.73
        assert 0.91 < np.mean(error < 1.96 * se[ok]) < 0.98
        assert abs(np.median(value[ok]) / truth[i] - 1) < 0.02


def test_delay_is_unbiased_and_covered_under_noise():
    sigma, n, t = 0.01, 2000, np.arange(0.0, 300.0, 2.0)
    plasma = np.interp(t, FINE, FINE_PLASMA)
    curve = extended_tofts_curve(0.1 / MIN, 0.2, 0.05, FINE_PLASMA, FINE, t, delay_s=4.6)
    fit = fit_extended_tofts(
        noisy(np.stack([curve] * n), sigma), plasma, t, sigma=sigma, delay="fit"
    )
    assert np.mean(fit.status == Reason.FITTED) > 0.99
    assert abs(np.nanmedian(fit.delay_s) - 4.6) < 0.1
    assert 0.60 < np.mean(np.abs(fit.ktrans_per_s * MIN - 0.1) < fit.ktrans_se_per_s * MIN) < 0.76
    assert 0.60 < np.mean(np.abs(fit.delay_s - 4.6) < fit.delay_se_s) < 0.76


def test_no_delay_in_the_model_biases_vp():
    late = extended_tofts_curve(0.03 / MIN, 0.2, 0.02, FINE_PLASMA, FINE, T, delay_s=5.0)
    assert fit_extended_tofts(late, PLASMA, T).vp < 0.01
    assert abs(fit_extended_tofts(late, PLASMA, T, delay=5.0).vp / 0.02 - 1) < 0.02


@pytest.mark.parametrize(
    ("fit", "curve", "truth"),
    [
        (fit_tofts, lambda k, ve, **d: extended_tofts_curve(k, ve, 0.0, **d), (0.1, 0.2)),
        (fit_extended_tofts, extended_tofts_curve, (0.05, 0.2, 0.05)),
        (fit_patlak, patlak_curve, (0.03, 0.05)),
        (fit_two_compartment_uptake, two_compartment_uptake_curve, (0.3, 0.03, 0.05)),
        (fit_two_compartment_exchange, two_compartment_exchange_curve, (0.4, 0.06, 0.06, 0.2)),
    ],
)
@pytest.mark.parametrize("delay_s", [0.4, 7.3, 10.0])
def test_every_model_finds_its_delay(fit, curve, truth, delay_s):
    rates = {fit_tofts: 1, fit_extended_tofts: 1, fit_patlak: 1}.get(fit, 2)
    values = np.divide(truth, [MIN] * rates + [1.0] * (len(truth) - rates))
    seen = curve(*values, aif=FINE_PLASMA, aif_t_s=FINE, t_s=T, delay_s=delay_s)
    found = fit(seen, FINE_PLASMA, T, delay="fit", aif_t_s=FINE)
    assert found.status == Reason.FITTED
    assert abs(found.delay_s - delay_s) < 0.02
    known = [getattr(found, name) for name in ("ktrans_per_s", "fp_per_s") if hasattr(found, name)]
    assert abs((known or [found.ps_per_s])[0] / values[0] - 1) < 0.005


def test_an_input_of_one_value_a_frame_is_shifted_by_a_spline():
    # 1.5 s is half of a frame, where straight lines lose most of the peak
    late = extended_tofts_curve(0.03 / MIN, 0.2, 0.02, FINE_PLASMA, FINE, T, delay_s=1.5)
    spline = fit_extended_tofts(late, PLASMA, T, delay="fit")
    lines = fit_extended_tofts(late, PLASMA, T, delay="fit", aif_between="lines")
    assert abs(spline.ktrans_per_s * MIN / 0.03 - 1) < 0.01
    assert lines.ktrans_per_s * MIN / 0.03 - 1 < -0.02


def test_no_bias_where_the_truth_is_at_a_limit():
    # ve = 1 and vp = 0: half of the estimates lie beyond, and are kept as far as noise may go
    sigma, n = 0.02, 4000
    curve = extended_tofts_curve(np.full(n, 0.2 / MIN), 1.0, 0.0, PLASMA, T)
    fit = fit_extended_tofts(noisy(curve, sigma), PLASMA, T, sigma=sigma)
    assert np.mean(fit.status == Reason.FITTED) > 0.93
    assert 0.35 < np.mean(fit.vp[fit.status == 0] < 0) < 0.65
    assert abs(np.nanmean(fit.ktrans_per_s) * MIN / 0.2 - 1) < 0.01


def test_slow_tissue_keeps_its_ktrans_where_ve_is_open():
    sigma, n = 0.02, 3000
    curve = extended_tofts_curve(np.full(n, 0.005 / MIN), 0.2, 0.02, PLASMA, T)
    fit = fit_extended_tofts(noisy(curve, sigma), PLASMA, T, sigma=sigma)
    open_ve = fit.ve_status == Reason.NOT_IDENTIFIABLE
    assert np.mean(open_ve) > 0.5
    assert np.all(np.isnan(fit.ve[open_ve]) & np.isnan(fit.kep_per_s[open_ve]))
    assert np.mean(fit.status == Reason.FITTED) > 0.9
    assert np.all(np.isfinite(fit.ktrans_per_s[fit.status == 0]))


def test_what_cannot_be_fitted_is_nan_with_its_reason():
    curves = np.stack([nerve()] * 7)
    mask = np.ones(7, bool)
    curves[1, 5] = np.nan
    curves[2] = 0.0
    curves[3] = -nerve()
    curves[4] = extended_tofts_curve(0.2 / MIN, 1.3, 0.02, PLASMA, T)
    curves[5] = extended_tofts_curve(0.03 / MIN, 0.2, 1.2, PLASMA, T)
    mask[6] = False
    fit = fit_extended_tofts(curves, PLASMA, T, mask=mask, sigma=1e-4)
    assert fit.status.tolist() == [
        Reason.FITTED, Reason.NON_FINITE, Reason.NO_SIGNAL, Reason.OUT_OF_RANGE,
        Reason.OUT_OF_RANGE, Reason.OUT_OF_RANGE, Reason.OUTSIDE_MASK,
    ]  # fmt: skip
    for name in ("ktrans_per_s", "ktrans_se_per_s", "kep_per_s", "ve", "vp", "vp_se", "delay_s"):
        assert np.array_equal(np.isnan(getattr(fit, name)), fit.status != 0)


def test_flow_that_frames_cannot_show_is_not_fitted():
    curve = two_compartment_uptake_curve(np.full(50, 20.0 / MIN), 0.03 / MIN, 0.03, PLASMA, T)
    fit = fit_two_compartment_uptake(noisy(curve, 0.005), PLASMA, T, sigma=0.005)
    assert np.mean(fit.status == Reason.FITTED) < 0.2
    assert set(fit.status) <= {Reason.FITTED, Reason.OUT_OF_RANGE, Reason.NOT_IDENTIFIABLE}


@pytest.mark.parametrize("shape", [(), (4,), (2, 3, 4)])
def test_maps_have_the_shape_of_the_curves(shape):
    curves = np.broadcast_to(nerve(), (*shape, T.size))
    fit = fit_extended_tofts(curves, PLASMA, T, sigma=0.01, delay="fit")
    for name, values in vars(fit).items():
        if name not in ("n_frames", "n_parameters"):
            assert values.shape == shape, name
    assert (fit.n_frames, fit.n_parameters) == (T.size, 4)


def test_single_precision_threads_and_order_do_not_matter():
    curves = noisy(nerve(40), 0.005).astype(np.float32)
    one = fit_extended_tofts(curves, PLASMA, T)
    two = fit_extended_tofts(np.asfortranarray(curves), PLASMA, T, n_threads=2)
    double = fit_extended_tofts(curves.astype(np.float64), PLASMA, T)
    assert np.array_equal(one.ktrans_per_s, two.ktrans_per_s)
    assert np.array_equal(one.ktrans_per_s, double.ktrans_per_s)


def test_shared_errors_reach_ktrans_and_vp():
    rng, n, sigma = np.random.default_rng(2), 4000, 0.002
    offset, gain = 0.004, 0.1
    curve = noisy(nerve(n), sigma)
    e1, e2 = rng.normal(size=(2, n, 1))
    curve = curve * (1 + gain * e2 + 0.02 * e1) + offset * e1
    shared = SharedError(offset_mm=offset, offset_gain=0.02, gain=gain)
    fit = fit_extended_tofts(curve, PLASMA, T, sigma=sigma, shared_error=shared)
    blind = fit_extended_tofts(curve, PLASMA, T, sigma=sigma)
    for name, truth in (("ktrans", 0.03), ("ve", 0.2), ("vp", 0.02)):
        value, se = column(fit, name)
        assert 0.64 < np.mean(np.abs(value - truth) < se) < 0.72
        value, se = column(blind, name)
        assert np.mean(np.abs(value - truth) < se) < 0.5


def test_few_frames_have_no_residual_errors():
    t = np.linspace(0.0, 300.0, 8)
    plasma = np.exp(-t / 200) * (t > 0)
    fit = fit_extended_tofts(extended_tofts_curve(0.001, 0.2, 0.02, plasma, t), plasma, t)
    assert fit.status == Reason.FITTED
    assert np.isnan(fit.ktrans_se_per_s)


def test_arguments_are_not_written():
    curves, plasma, t = nerve(3), PLASMA.copy(), T.copy()
    before = curves.copy()
    fit_extended_tofts(curves, plasma, t, delay="fit")
    assert np.array_equal(curves, before)
    assert np.array_equal(plasma, PLASMA)
    assert np.array_equal(t, T)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"t_s": T[:-1]}, "one value for each"),
        ({"t_s": T[::-1]}, "increase"),
        ({"aif": np.zeros_like(T)}, "no positive value"),
        ({"aif": np.full_like(T, np.nan)}, "finite"),
        ({"concentration": nerve()[:-1]}, "unknowns"),
        ({"mask": np.ones(3, bool)}, "mask"),
        ({"sigma": np.ones(3)}, "sigma"),
        ({"delay": np.nan}, "delay"),
        ({"delay": "fit", "delay_range_s": (3.0, 3.0)}, "delay_range_s"),
        ({"shared_error": SharedError(gain=np.ones(2))}, "shared_error.gain"),
    ],
)
def test_refuses_what_does_not_belong_together(change, said):
    arguments = {"concentration": nerve(), "aif": PLASMA, "t_s": T} | change
    with pytest.raises(ValueError, match=said):
        fit_extended_tofts(**arguments)


@pytest.mark.parametrize("hematocrit", [0.0, 42.0, -0.1, 1.0, np.nan])
def test_haematocrit_is_a_fraction(hematocrit):
    with pytest.raises(ValueError, match="fraction"):
        plasma_from_blood(np.ones(3), hematocrit)
