"""What every step of perfusion shares: the series as concentration, the input, the models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, traits
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from mrn_prep.errors import BadDataError
from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.interfaces._base import MapInterface
from mrn_prep.io.images import array, load, voxel_mm
from mrn_prep.io.tables import read_table
from mrn_prep.measure.regions import Membership, memberships, probability_membership
from mrn_prep.models.dce_concentration import (
    Acquisition,
    Concentration,
    concentration_from_signal,
)
from mrn_prep.models.dce_models import (
    fit_extended_tofts,
    fit_patlak,
    fit_tofts,
    fit_two_compartment_exchange,
    fit_two_compartment_uptake,
)
from mrn_prep.models.dce_results import DCEFit
from mrn_prep.models.dce_signal import Interruption
from mrn_prep.models.resample import resample
from mrn_prep.outputs import DCE_SELECTED, dce_products

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]

TISSUE_T1_S = 1.4
"""T1 before contrast where nothing tells it: muscle at 3 T."""

FITS: Mapping[str, Any] = {
    "tofts": fit_tofts,
    "etofts": fit_extended_tofts,
    "patlak": fit_patlak,
    "2cum": fit_two_compartment_uptake,
    "2cxm": fit_two_compartment_exchange,
}
OF_RETURN = {"tofts": ("kep", "ve"), "etofts": ("kep", "ve"), "2cxm": ("ve",)}
"""What may stay open where the rest is determined, and has a status of its own."""

_OWN = 0.9  # part of a voxel that is a nerve's
_RATES = ("ktrans", "kep", "ps", "fp")


class ConversionInputSpec(BaseInterfaceInputSpec):
    """What turns a dynamic series into concentrations."""

    in_file = File(exists=True, mandatory=True, desc="dynamic series")
    mask = File(exists=True, mandatory=True, desc="the limb")
    t_s = traits.List(traits.Float(), mandatory=True, desc="onsets of the frames (s)")
    baseline = traits.List(
        traits.Int(), mandatory=True, minlen=2, maxlen=2, desc="first frame and end of the baseline"
    )
    sigma = traits.Float(0.0, usedefault=True, desc="noise of the raw series; 0 where unknown")
    denoised = traits.Bool(False, usedefault=True, desc="signals are means, not single magnitudes")
    flip_deg = traits.Float(mandatory=True, desc="nominal flip angle (degrees)")
    tr_s = traits.Float(mandatory=True, desc="time between excitations (s)")
    relaxivity = traits.Float(mandatory=True, desc="relaxivity of the agent (1/(mM s))")
    n_pulses = traits.Int(1, usedefault=True, desc="pulses between interruptions")
    gap_s = traits.Float(0.0, usedefault=True, desc="length of the interruption beyond TR (s)")
    centre = traits.Int(0, usedefault=True, desc="pulse of the centre of k-space, from 0")
    b1 = File(exists=True, desc="B1+ relative to nominal, on any grid")
    before = traits.Dict(desc="facts of the step before, which are told with one's own")
    n_threads = traits.Int(1, usedefault=True, nohash=True, desc="threads")


def acquisition_of(inputs: Any) -> Acquisition:
    """Return the model's record of the sequence from a node's inputs."""
    return Acquisition(
        tr_s=inputs.tr_s,
        flip_rad=float(np.deg2rad(inputs.flip_deg)),
        relaxivity_per_mm_per_s=inputs.relaxivity,
        baseline=slice(*inputs.baseline),
        interruption=Interruption(inputs.n_pulses, inputs.gap_s, inputs.centre),
    )


def region_memberships(
    records: Sequence[Mapping[str, object]], like: Any
) -> list[tuple[Region, Membership]]:
    """Return each region of some `RegionFile` records on the grid of an image."""
    found = []
    for record in records:
        file = RegionFile.from_record(record)
        drawn, shape = load(file.file), like.shape[:3]
        if file.kind == "probseg":
            (region,) = file.regions
            member = probability_membership(array(drawn), drawn.affine, shape, like.affine)
            found.append((region, member))
            continue
        labels = np.rint(np.asarray(drawn.dataobj)).astype(np.int32)
        if file.kind == "mask":
            labels = (labels > 0).astype(np.int32)
        indices = [region.index for region in file.regions]
        members = memberships(labels, drawn.affine, indices, shape, like.affine)
        found += [(region, members[region.index]) for region in file.regions]
    return found


def nerves_of(records: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return the records of `RegionFile` with their nerves alone."""
    files = [RegionFile.from_record(record) for record in records]
    kept = [replace(f, regions=tuple(r for r in f.regions if r.tissue == "nerve")) for f in files]
    return [file.record() for file in kept if file.regions]


class TissueInputSpec(ConversionInputSpec):
    aif = File(exists=True, mandatory=True, desc="input function (time, plasma)")
    t1 = File(exists=True, desc="T1 before contrast (s), on any grid")
    t1_se = File(exists=True, desc="its standard error")
    t1_s = traits.Float(0.0, usedefault=True, desc="T1 everywhere (s); 0 for the map's")
    model = traits.Enum(*FITS, "select", mandatory=True, desc="tissue model, or the choice")
    delay = traits.Bool(False, usedefault=True, desc="fit the delay of the bolus")
    regions = traits.List(
        traits.Dict(), desc="records of `RegionFile`; nerves have a T1 of their own"
    )
    aif_error = traits.Float(
        0.0, usedefault=True, desc="standard error of the input function's area, relative"
    )


def interpolated_noise(affine: Float, image: Any, inside: Bool) -> Float:
    """Return the noise left where a map is interpolated linearly, relative to that of its voxels.

    Parameters
    ----------
    affine : array, shape (4, 4)
        Of the map, whose voxels err independently.
    image
        What it is interpolated for.
    inside : bool array, shape (x, y, z)
        Where.

    Returns
    -------
    array, shape (m,)
    """
    to_map = np.linalg.inv(affine) @ image.affine
    at = np.argwhere(inside) @ to_map[:3, :3].T + to_map[:3, 3]
    part = at - np.floor(at)
    left: Float = np.sqrt(np.prod(part**2 + (1 - part) ** 2, axis=1))
    return left


@dataclass(frozen=True)
class InputCurve:
    """The input function as the fits take it."""

    cp_mm: Float
    t_s: Float | None
    """Its times, or None where they are those of the frames."""

    @classmethod
    def read(cls, path: str, frames_s: Float) -> InputCurve:
        table = read_table(path)
        t_s, cp = table["time"].to_numpy(np.float64), table["plasma"].to_numpy(np.float64)
        # a table has six digits
        own = t_s.size != frames_s.size or np.abs(t_s - frames_s).max() > 1e-3 * (
            frames_s[1] - frames_s[0]
        )
        return cls(cp, t_s if own else None)


class TissueInterface(MapInterface):
    """A step that fits models to concentrations in tissue."""

    @property
    def models(self) -> tuple[str, ...]:
        return DCE_SELECTED if self.inputs.model == "select" else (self.inputs.model,)

    @property
    def frames_s(self) -> Float:
        return np.asarray(self.inputs.t_s, dtype=np.float64)

    def convert(
        self, image: Any, inside: Bool, t1: tuple[Any, Any] | None = None
    ) -> tuple[Float32, Concentration, list[str]]:
        """Return signals and concentrations of some voxels, shape (n, frames), and flags.

        `t1` is T1 (s) with its error where they are not those of the map.
        """
        signal = np.ascontiguousarray(array(image)[inside])
        t1_s, t1_se_s, flags = self._t1(image, inside) if t1 is None else (*t1, [])
        b1 = self.on_grid("b1", image)
        if b1 is not None and not np.isfinite(b1[inside]).any():
            raise BadDataError("The B1+ map has no value where the dynamic series shows the limb.")
        flags += ["no-b1"] * (b1 is None)
        found = concentration_from_signal(
            signal, acquisition_of(self.inputs), t1_s,
            b1=None if b1 is None else b1[inside], sigma=self.inputs.sigma or None,
            t1_se_s=t1_se_s, noise_floor="mean" if self.inputs.denoised else "single",
            n_threads=self.inputs.n_threads,
        )  # fmt: skip
        return signal, found, flags

    def _t1(self, image: Any, inside: Bool) -> tuple[Any, Any, list[str]]:
        """Return T1 before contrast with its error, and flags."""
        t1 = None if self.inputs.t1_s else self.on_grid("t1", image)
        if t1 is None:
            return self.inputs.t1_s or TISSUE_T1_S, None, ["t1-assumed"]
        for own in self._t1_of_nerves(image):
            t1 = np.where(np.isfinite(own), own, t1)
        t1 = t1[inside]
        if not (t1 > 0).any():
            raise BadDataError(
                f"{Path(self.inputs.t1).name}: the T1 map has no value where the dynamic series "
                "shows the limb; wanted T1 in seconds, on any grid of the same place."
            )
        t1_se = self.on_grid("t1_se", image)
        if t1_se is None:
            return t1, None, ["t1-no-se"]
        averaged = interpolated_noise(load(self.inputs.t1_se).affine, image, inside)
        return t1, np.nan_to_num(t1_se[inside]) * averaged, []

    def _t1_of_nerves(self, image: Any) -> Iterator[Float32]:
        """Yield T1 of each nerve in the voxels that are its own, NaN elsewhere.

        Interpolated from the nearest voxels of the map that are its own too: those at its border
        are mixed with fat, whose T1 is a third of a nerve's.
        """
        nerves = nerves_of(self.inputs.regions or [])
        if not nerves:
            return
        drawn = load(self.inputs.t1)
        values = array(drawn)
        on_map = region_memberships(nerves, drawn)
        for (_, there), (_, here) in zip(on_map, region_memberships(nerves, image), strict=True):
            own = np.zeros(values.shape, np.bool_)
            own[there.box] = there.fraction >= _OWN
            own &= values > 0
            shape = tuple(part.stop - part.start for part in here.box)
            if not (own.any() and all(shape)):
                continue
            nearest = distance_transform_edt(
                ~own, sampling=voxel_mm(drawn), return_distances=False, return_indices=True
            )
            corner = np.eye(4)
            corner[:3, 3] = [part.start for part in here.box]
            found = resample(values[tuple(nearest)], drawn.affine, image.affine @ corner, shape)
            found[here.fraction < _OWN] = np.nan
            whole = np.full(image.shape[:3], np.nan, np.float32)
            whole[here.box] = found
            yield whole

    def fit(self, name: str, curves: Any, mask: Any, **options: Any) -> DCEFit:
        given = InputCurve.read(self.inputs.aif, self.frames_s)
        fit: DCEFit = FITS[name](
            curves, given.cp_mm, self.frames_s, mask, aif_t_s=given.t_s,
            delay="fit" if self.inputs.delay else None,
            n_threads=self.inputs.n_threads, **options,
        )  # fmt: skip
        return fit


def parameters(model: str, *, delay: bool) -> tuple[str, ...]:
    """Return the parameters of a model that are reported.

    >>> parameters("patlak", delay=True)
    ('ps', 'vp', 'delay')
    """
    keys = [product.key for product in dce_products(model, delay=delay)]
    return tuple(k.removeprefix(f"{model}_") for k in keys if k.startswith(f"{model}_"))


def value_of(fit: DCEFit, param: str) -> tuple[Float, Float]:
    """Return a parameter of a fit and its standard error (SI)."""
    unit = "_per_s" if param in _RATES else "_s" if param == "delay" else ""
    return getattr(fit, f"{param}{unit}"), getattr(fit, f"{param}_se{unit}")
