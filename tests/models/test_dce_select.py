import numpy as np
import pytest

from mrn_prep.models.aif_population import parker_aif
from mrn_prep.models.dce_curves import (
    extended_tofts_curve,
    patlak_curve,
    plasma_from_blood,
    two_compartment_exchange_curve,
)
from mrn_prep.models.dce_models import (
    fit_extended_tofts,
    fit_patlak,
    fit_tofts,
    fit_two_compartment_exchange,
)
from mrn_prep.models.dce_select import NOT_CHOSEN, corrected_akaike, select_model

T = np.arange(0.0, 300.0, 2.0)
PLASMA = plasma_from_blood(parker_aif(T, arrival_s=20.0), 0.42)
FITS = {
    "tofts": fit_tofts,
    "patlak": fit_patlak,
    "etofts": fit_extended_tofts,
    "2cxm": fit_two_compartment_exchange,
}
TRUTHS = {
    "tofts": extended_tofts_curve(0.2 / 60, 0.3, 0.0, PLASMA, T),
    "patlak": patlak_curve(0.02 / 60, 0.05, PLASMA, T),
    "etofts": extended_tofts_curve(0.1 / 60, 0.15, 0.05, PLASMA, T),
    "2cxm": two_compartment_exchange_curve(0.3 / 60, 0.1 / 60, 0.06, 0.2, PLASMA, T),
}


def fits(curves, names=FITS):
    return {name: FITS[name](curves, PLASMA, T) for name in names}


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_model_that_made_the_curve_is_chosen(truth):
    n = 400
    noise = np.random.default_rng(0).normal(0, 0.005, (n, T.size))
    found = select_model(fits(TRUTHS[truth] + noise))
    chosen = np.array(found.names)[found.chosen]
    # a model with one parameter too many wins in one case of seven by chance
    assert np.mean(chosen == truth) > 0.7
    np.testing.assert_allclose(np.nansum(found.weight, axis=0), 1.0)


def test_what_no_model_fits_is_not_chosen():
    curves = np.stack([TRUTHS["etofts"], np.full(T.size, np.nan), np.zeros(T.size)])
    found = select_model(fits(curves, ("tofts", "etofts")))
    assert found.chosen.tolist() == [1, NOT_CHOSEN, NOT_CHOSEN]
    assert np.isnan(found.aicc[:, 1:]).all()
    assert np.isnan(found.weight[:, 1:]).all()


def test_a_fitted_delay_counts_as_a_parameter():
    # there is no delay to be found: it costs 2 (5 - 4) + 2 * 30 / 144 - 2 * 20 / 145
    curve = TRUTHS["etofts"] + np.random.default_rng(1).normal(0, 0.01, T.size)
    fixed = fit_extended_tofts(curve, PLASMA, T, aif_between="spline")
    free = fit_extended_tofts(curve, PLASMA, T, delay="fit")
    assert free.n_parameters == fixed.n_parameters + 1
    gain = T.size * np.log(fixed.residual_ss / free.residual_ss)
    assert abs(corrected_akaike(free) - corrected_akaike(fixed) + gain - 2.1408) < 1e-3


def test_too_few_frames_have_no_information():
    t = np.arange(0.0, 250.0, 50.0)
    plasma = np.exp(-t / 200) * (t > 0)
    fit = fit_extended_tofts(extended_tofts_curve(0.001, 0.2, 0.02, plasma, t), plasma, t)
    assert np.isnan(corrected_akaike(fit))


def test_refuses_fits_of_different_curves():
    with pytest.raises(ValueError, match="no fit"):
        select_model({})
    one, two = (fit_tofts(TRUTHS["tofts"], PLASMA[:n], T[:n]) if n == T.size else fit_tofts(
        TRUTHS["tofts"][:n], PLASMA[:n], T[:n]) for n in (T.size, 100))  # fmt: skip
    with pytest.raises(ValueError, match="same curves"):
        select_model({"one": one, "two": two})
