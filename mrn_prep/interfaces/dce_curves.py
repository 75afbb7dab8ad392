"""Nipype face of the perfusion models for the mean curves of regions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits
from scipy.optimize import minimize_scalar

from mrn_prep.inputs.rois import Region
from mrn_prep.interfaces._base import FactsOutputSpec
from mrn_prep.interfaces._dce import (
    OF_RETURN,
    Bool,
    Float,
    InputCurve,
    TissueInputSpec,
    TissueInterface,
    parameters,
    region_memberships,
    value_of,
)
from mrn_prep.io.images import array, load
from mrn_prep.io.tables import frame, write_table
from mrn_prep.measure.regions import Membership
from mrn_prep.models.dce_convolution import refine_input
from mrn_prep.models.dce_curves import (
    extended_tofts_curve,
    patlak_curve,
    two_compartment_exchange_curve,
    two_compartment_uptake_curve,
)
from mrn_prep.models.dce_results import DCEFit, SharedError
from mrn_prep.models.dce_select import corrected_akaike
from mrn_prep.models.status import Reason
from mrn_prep.outputs import OUTPUTS

ENOUGH_PURE = 5
"""Voxels wholly inside a region from which on they alone count."""

_VESSELS = ("artery", "vein")
_OF_HEIGHT = ("ktrans", "ps", "fp", "ve", "vp")
_MAD_TO_SD, _MEDIAN_TO_MEAN = 1.4826, 1.2533  # of normal errors


class _FitCurvesInputSpec(TissueInputSpec):
    regions = traits.List(traits.Dict(), mandatory=True, desc="records of `RegionFile`")
    min_fraction = traits.Float(0.5, usedefault=True, desc="part of a voxel in the region")


class _FitCurvesOutputSpec(FactsOutputSpec):
    curves = File(exists=True, desc="mean concentration of each region, measured and fitted")
    curve_fits = File(exists=True, desc="parameters of the models")


class FitCurves(TissueInterface):
    """Fit the mean concentration of each region, which is more robust than its voxels."""

    input_spec = _FitCurvesInputSpec
    output_spec = _FitCurvesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image = load(self.inputs.in_file)
        limb = array(load(self.inputs.mask)) > 0
        curves: list[dict[str, object]] = []
        fits: list[dict[str, object]] = []
        self._regions: dict[tuple[Any, bytes], list[tuple[Region, Membership]]] = {}
        for region, member in self._on(image):
            if region.tissue in _VESSELS:  # they are the input
                continue
            chosen, pure = voxels_of(member, limb, self.inputs.min_fraction)
            who = {"region": region.name, "tissue": region.tissue, "side": region.side,
                   "level": region.level}  # fmt: skip
            t1 = self._t1_of(region) if pure else None
            own_curves, own_fits = self._region(image, chosen, t1)
            flags = ["partial-volume"] * (not pure)
            flags += ["partial-volume-t1"] * (bool(self.inputs.t1) and pure and t1 is None)
            own_fits = [{**row, "flags": ";".join(flags) or "n/a"} for row in own_fits]
            curves += [who | row for row in own_curves]
            fits += [who | row for row in own_fits]
        folder = Path(runtime.cwd)
        for name, rows in (("curves", curves), ("curve_fits", fits)):
            path = write_table(frame(rows, name), folder / f"{name}.tsv", name)
            self._results[name] = str(path)
        self.tell()
        return runtime

    def _t1_of(self, wanted: Region) -> tuple[float, float] | None:
        """Return T1 of a region (s) and its error, of the voxels of the map that are all its own.

        Between the map's voxels T1 would be mixed with that of fat beside the region.
        """
        if self.inputs.t1_s or not self.inputs.t1:
            return None
        image = load(self.inputs.t1)
        values = array(image)
        for region, member in self._on(image):
            if region == wanted:
                own = values[member.box][member.pure]
                own = own[own > 0]
                if own.size >= ENOUGH_PURE:
                    middle = float(np.median(own))
                    spread = _MAD_TO_SD * float(np.median(np.abs(own - middle)))
                    return middle, _MEDIAN_TO_MEAN * spread / np.sqrt(own.size)
        return None

    def _on(self, image: Any) -> list[tuple[Region, Membership]]:
        """Return all regions on the grid of a map; found once."""
        key = (image.shape[:3], image.affine.tobytes())
        if key not in self._regions:
            self._regions[key] = region_memberships(self.inputs.regions, image)
        return self._regions[key]

    def _region(self, image: Any, chosen: Bool, t1: tuple[float, float] | None) -> tuple[Any, Any]:
        """Return rows of both tables for the voxels of a region."""
        if not chosen.any():
            return [], list(_rows_of_none(self.models, Reason.OUTSIDE_MASK))
        _, found, _ = self.convert(image, chosen, t1)
        good = found.status == Reason.FITTED
        n_vox = int(good.sum())
        if not n_vox:
            codes, counts = np.unique(found.status, return_counts=True)
            return [], list(_rows_of_none(self.models, Reason(int(codes[counts.argmax()]))))
        measured = found.concentration_mm[good].mean(axis=0, dtype=np.float64)
        # noise of the baselines is each voxel's own; the error of T1 is all voxels'
        shared, many = found.shared_error, np.sqrt(n_vox)
        error = SharedError(
            offset_mm=np.nan_to_num(_rms(shared.offset_mm, good) / many),
            offset_gain=np.nan_to_num(_rms(shared.offset_gain, good) / many),
            gain=np.nan_to_num(_rms(shared.gain, good)),
        )
        fits = {
            # errors from the residuals, which have in them what the model does not describe
            name: self.fit(name, measured, None, shared_error=error)
            for name in self.models
        }
        rows = [row for name, fit in fits.items() for row in self._parameters(name, fit, n_vox)]
        aicc = {name: float(corrected_akaike(fit)) for name, fit in fits.items()}
        best = min(aicc, key=lambda name: aicc[name] if np.isfinite(aicc[name]) else np.inf)
        given = InputCurve.read(self.inputs.aif, self.frames_s)
        fitted = fitted_curve(best, fits[best], measured, given.cp_mm, given.t_s, self.frames_s)
        curves = [
            {"model": best, "time": t, "measured": m, "fitted": f}
            for t, m, f in zip(self.frames_s, measured, fitted, strict=True)
        ]
        return curves, rows

    def _parameters(self, name: str, fit: DCEFit, n_vox: int) -> Iterator[dict[str, object]]:
        common = {"model": name, "n_vox": n_vox}
        for param in parameters(name, delay=self.inputs.delay):
            spec = OUTPUTS[f"{name}_{param}"]
            value, se = value_of(fit, param)
            if param in _OF_HEIGHT:  # as the input function is higher, they are lower
                se = np.hypot(se, self.inputs.aif_error * value)
            own = param in OF_RETURN.get(name, ())
            status = fit.ve_status if own else fit.status  # type: ignore[attr-defined]
            yield {**common, "parameter": param, "value": float(value) * spec.scale,
                   "se": float(se) * spec.scale, "unit": spec.units,
                   "status": int(status)}  # fmt: skip
        if self.inputs.model == "select":
            yield {**common, "parameter": "aicc", "value": float(corrected_akaike(fit)),
                   "unit": "1", "status": int(fit.status)}  # fmt: skip


def voxels_of(member: Membership, limb: Bool, min_fraction: float) -> tuple[Bool, bool]:
    """Return the voxels of a region whose mean is fitted, and whether they are all its own.

    Voxels that lie wholly inside are taken alone where there are enough of them.
    """
    for own, pure in ((member.pure, True), (member.fraction >= min_fraction, False)):
        chosen = np.zeros(limb.shape, np.bool_)
        chosen[member.box] = own
        chosen &= limb
        if not pure or np.count_nonzero(chosen) >= ENOUGH_PURE:
            break
    return chosen, pure


def fitted_curve(
    model: str, fit: DCEFit, measured: Float, cp: Float, cp_t_s: Float | None, t_s: Float
) -> Float:
    """Return the concentration that a fit of one curve describes (mM); NaN where not fitted.

    Where ve is not determined, it is that which comes closest to the measured curve: the
    curve is known though its parameter is not.
    """
    if fit.status != Reason.FITTED:
        return np.full(t_s.shape, np.nan)
    delay_s = float(fit.delay_s)
    if cp_t_s is None:
        # as the fit took it: by a spline where a delay shifts it
        cp, cp_t_s = refine_input(cp, t_s) if fit.delay_se_s > 0 else (cp, t_s)
    place = (cp, cp_t_s, t_s, delay_s)
    value = {p: float(value_of(fit, p)[0]) for p in parameters(model, delay=False)}
    if model == "patlak":
        return patlak_curve(value["ps"], value["vp"], *place)
    if model == "2cum":
        return two_compartment_uptake_curve(value["fp"], value["ps"], value["vp"], *place)

    def curve(ve: float) -> Float:
        if model == "2cxm":
            return two_compartment_exchange_curve(value["fp"], value["ps"], value["vp"], ve, *place)
        return extended_tofts_curve(value["ktrans"], ve, value.get("vp", 0.0), *place)

    if np.isfinite(value["ve"]):
        return curve(value["ve"])
    best = minimize_scalar(
        lambda log_ve: float(np.sum((measured - curve(np.exp(log_ve))) ** 2)),
        bounds=_LOG_VE, method="bounded",
    )  # fmt: skip
    return curve(float(np.exp(best.x)))


_LOG_VE = (-7.0, 7.0)  # 0.001 to 1100


def _rms(values: Any, good: Bool) -> float:
    return float(np.sqrt(np.mean(np.broadcast_to(values, good.shape)[good] ** 2)))


def _rows_of_none(models: tuple[str, ...], reason: Reason) -> Iterator[dict[str, object]]:
    """Yield the rows of a region in which nothing could be fitted."""
    for name in models:
        for param in parameters(name, delay=False):
            yield {"model": name, "parameter": param, "unit": OUTPUTS[f"{name}_{param}"].units,
                   "status": int(reason), "n_vox": 0}  # fmt: skip
