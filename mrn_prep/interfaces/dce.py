"""Nipype face of the perfusion models: maps, and the mean curves of regions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits

from mrn_prep.interfaces._base import FactsOutputSpec
from mrn_prep.interfaces._dce import (
    OF_RETURN,
    TISSUE_T1_S,
    Bool,
    Float32,
    TissueInputSpec,
    TissueInterface,
    parameters,
    value_of,
)
from mrn_prep.interfaces.sinks import map_files
from mrn_prep.io.images import array, load
from mrn_prep.models.dce_results import DCEFit
from mrn_prep.models.dce_select import select_model
from mrn_prep.models.dce_semi import measure_enhancement
from mrn_prep.models.status import Reason
from mrn_prep.outputs import dce_products

_TOFTS = "doi:10.1002/(SICI)1522-2586(199909)10:3<223::AID-JMRI2>3.0.CO;2-S"
_REFERENCES = {
    "tofts": "doi:10.1002/mrm.1910170208",
    "etofts": _TOFTS,
    "patlak": "doi:10.1038/jcbfm.1983.1",
    "2cum": "doi:10.1002/nbm.2940",
    "2cxm": "doi:10.1002/nbm.2940",
}
_NOT_CARRIED = "The errors of B1+ and of the input function{} are not in the standard errors."
_FROM_RESIDUALS = " They are from the residuals: noise unknown."
_SNR_SAMPLE = 20_000  # voxels
_SPREAD_FRAMES = 4  # of the baseline, from which on their own spread is taken as the noise


class _FitDCEInputSpec(TissueInputSpec):
    fat_saturation = traits.Bool(
        False, usedefault=True, desc="fat is saturated, it is not known how often"
    )
    relaxivity_source = traits.Str("", usedefault=True, desc="where the relaxivity is from")


_PRODUCTS = (*dce_products("select", delay=True), *dce_products("etofts", delay=True))
_MAPS = dict.fromkeys(
    [
        *(name for product in _PRODUCTS for _, name in map_files(product)),
        *(f"{model}_ve_status" for model in OF_RETURN),
    ]
)
_FitDCEOutputSpec = type(
    "_FitDCEOutputSpec",
    (FactsOutputSpec,),
    {"__module__": __name__, **{name: File(desc="see the outputs table") for name in _MAPS}},
)


class FitDCE(TissueInterface):
    """Fit tissue models to every voxel of the limb, and measure the enhancement."""

    input_spec = _FitDCEInputSpec
    output_spec = _FitDCEOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        inside = array(load(self.inputs.mask)) > 0
        signal, found, flags = self.convert(image, inside)
        self._semi(runtime, image, inside, signal, found)
        snr = _snr(signal, self.inputs.sigma)
        del signal
        usable = found.status == Reason.FITTED
        fits = {}
        for name in self.models:
            fit = self.fit(
                name, found.concentration_mm, usable,
                sigma=found.sigma_mm, shared_error=found.shared_error,
            )  # fmt: skip
            self._write_model(runtime, image, inside, name, fit, found.status)
            fits[name] = DCEFit(fit.delay_s, fit.delay_se_s, fit.residual_ss, fit.status,
                                fit.n_frames, fit.n_parameters)  # fmt: skip
        if self.inputs.model == "select":
            self._choose(runtime, image, inside, fits)
        fitted = np.max([fit.status == Reason.FITTED for fit in fits.values()], axis=0)
        known = np.isfinite(found.sigma_mm).any()
        error = self.inputs.aif_error
        noise = f" ({100 * error:.2g} % of its area)" if error else ""
        self.tell(
            quality={"noise_sigma": self.inputs.sigma or float("nan"), "snr": snr,
                     "fitted_fraction": float(fitted.mean())},
            flags=[*flags, *["fat-saturation"] * self.inputs.fat_saturation],
            method=self._method(flags),
            references=list(dict.fromkeys(_REFERENCES[name] for name in self.models)),
            note=_NOT_CARRIED.format(noise) + _FROM_RESIDUALS * (not known),
        )  # fmt: skip
        return runtime

    def _method(self, flags: list[str]) -> str:
        fixed = self.inputs.t1_s or TISSUE_T1_S
        t1 = f"T1 of {fixed:g} s everywhere" if "t1-assumed" in flags else "T1 of the map"
        b1 = "not B1-corrected" if "no-b1" in flags else "B1-corrected"
        source = f" ({self.inputs.relaxivity_source})" if self.inputs.relaxivity_source else ""
        pauses = ", interrupted train of pulses" if self.inputs.n_pulses > 1 else ""
        return (
            f"spoiled gradient echo inverted exactly{pauses}, {t1}, {b1}, relaxivity "
            f"{self.inputs.relaxivity:g} 1/(mM s){source}; {', '.join(self.models)} by nonlinear "
            f"least squares{', delay fitted' * self.inputs.delay}"
        )

    def _semi(self, runtime: Any, image: Any, inside: Bool, signal: Any, found: Any) -> None:
        """Write what needs no model: heights are those of the signal, areas of concentration."""
        baseline = slice(*self.inputs.baseline)
        shared: dict[str, Any] = {"t_s": self.frames_s, "baseline": baseline}
        # the baseline ends before the artery is filled
        shared["earliest_s"] = self.frames_s[baseline.stop - 1]
        if baseline.stop - baseline.start < _SPREAD_FRAMES:  # too few for their own spread
            shared["sigma"] = self.inputs.sigma
        rise = measure_enhancement(signal, relative=True, **shared)
        if "sigma" in shared:
            shared["sigma"] = np.nan_to_num(found.sigma_mm)
        area = measure_enhancement(found.concentration_mm, **shared)
        maps = {
            "arrival": rise.arrival_s, "ttp": rise.time_to_peak_s, "peak": rise.peak,
            "washin": rise.wash_in_per_s, "washout": rise.wash_out_per_s,
            "iauc60": area.iauc60, "iauc90": area.iauc90,
        }  # fmt: skip
        for name, values in maps.items():
            self.write(runtime, image, **{f"semi_{name}": _volume(values, inside)})

    def _write_model(
        self, runtime: Any, image: Any, inside: Bool, name: str, fit: DCEFit, before: Any
    ) -> None:
        """Write the maps of a model with errors and status."""
        for param in parameters(name, delay=self.inputs.delay):
            value, se = value_of(fit, param)
            self.write(runtime, image, **{f"{name}_{param}": _volume(value, inside),
                                          f"{name}_{param}_se": _volume(se, inside)})  # fmt: skip
        statuses = {"status": fit.status}
        if name in OF_RETURN:
            statuses["ve_status"] = fit.ve_status  # type: ignore[attr-defined]
        for key, status in statuses.items():
            # why there is no concentration tells more than that it was not fitted
            told = np.where(before != Reason.FITTED, before, status)
            volume = np.full(inside.shape, Reason.OUTSIDE_MASK, np.uint8)
            volume[inside] = told
            self.write(runtime, image, **{f"{name}_{key}": volume})

    def _choose(self, runtime: Any, image: Any, inside: Bool, fits: Mapping[str, DCEFit]) -> None:
        selection = select_model(fits)
        for name, aicc in zip(selection.names, selection.aicc, strict=True):
            self.write(runtime, image, **{f"{name}_aicc": _volume(aicc, inside)})
        chosen = np.zeros(inside.shape, np.uint8)
        chosen[inside] = selection.chosen + 1
        self.write(runtime, image, select_model=chosen)


def _volume(values: Any, inside: Bool) -> Float32:
    volume = np.full(inside.shape, np.nan, np.float32)
    volume[inside] = values
    return volume


def _snr(signal: Float32, sigma: float) -> float:
    """Return the median signal of the strongest frame over the noise, from a sample of voxels."""
    sample = signal[:: max(len(signal) // _SNR_SAMPLE, 1)]
    return float(np.nanmedian(sample, axis=0).max() / sigma) if sigma > 0 else float("nan")
