"""Nipype face of tractography: nerves followed from their regions, and measured along them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import BaseInterfaceInputSpec, File, traits
from numpy.typing import NDArray

from mrn_prep.inputs.rois import Region
from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.interfaces._dce import region_memberships
from mrn_prep.io.images import array, load, same_grid
from mrn_prep.io.tables import frame, write_table
from mrn_prep.io.tractograms import write_tractogram
from mrn_prep.measure.regions import slice_axis
from mrn_prep.models.dti import axial_tensor
from mrn_prep.models.tract_profile import TractProfile, along_tract
from mrn_prep.models.tracts import (
    Streamlines,
    TractOptions,
    density,
    length_mm,
    seeds_in,
    select,
    track,
)
from mrn_prep.outputs import OUTPUTS

Float = NDArray[np.floating]
Bool = NDArray[np.bool_]

_METRICS = ("fa", "md", "ad", "rd")
_MOST_SEEDS = 2000  # of a nerve: more lines through the same voxels tell nothing new
_WITHIN = 0.75  # of a streamline, in the slices of its region: else it left the nerve
_RIGHT_ANGLES = 1e-3  # that the model allows
_REFERENCES = ("doi:10.1002/1522-2594(200010)44:4<625::AID-MRM17>3.0.CO;2-O",
               "doi:10.1371/journal.pone.0049790")  # fmt: skip


class _TrackNervesInputSpec(BaseInterfaceInputSpec):
    fa = File(exists=True, mandatory=True, desc="fractional anisotropy")
    md = File(exists=True, mandatory=True, desc="mean diffusivity (mm2/s)")
    ad = File(exists=True, mandatory=True, desc="axial diffusivity (mm2/s)")
    rd = File(exists=True, mandatory=True, desc="radial diffusivity (mm2/s)")
    v1 = File(exists=True, mandatory=True, desc="main direction, scanner axes")
    fa_se = File(exists=True, desc="standard error")
    md_se = File(exists=True, desc="standard error")
    ad_se = File(exists=True, desc="standard error")
    rd_se = File(exists=True, desc="standard error")
    mask = File(exists=True, mandatory=True, desc="the limb, in which streamlines stay")
    regions = traits.List(traits.Dict(), mandatory=True, desc="records of `RegionFile`")
    min_fraction = traits.Float(0.5, usedefault=True, desc="part of a voxel in the region")
    fa_min = traits.Float(0.1, usedefault=True, desc="FA below which a streamline ends")
    angle_deg = traits.Float(30.0, usedefault=True, desc="largest turn of a step (degrees)")
    seeds_per_axis = traits.Int(2, usedefault=True, desc="seeds along each axis of a voxel")
    min_length_mm = traits.Float(10.0, usedefault=True, desc="shorter streamlines are left out")
    spacing_mm = traits.Float(2.0, usedefault=True, desc="between the places of the profile")


class _TrackNervesOutputSpec(FactsOutputSpec):
    tracts = File(exists=True, desc="streamlines of all nerves")
    density = File(exists=True, desc="streamlines in each voxel")
    nerve_profile = File(exists=True, desc="metrics along each nerve")


@dataclass(frozen=True)
class _Tensors:
    """The tensor field as streamlines are followed in it."""

    tensor: Float
    fa: Float
    affine: Float
    limb: Bool


class TrackNerves(MapInterface):
    """Follow each region of tissue nerve through the tensor, and measure along it.

    A nerve that cannot be followed is left out of all outputs but the counts.
    """

    input_spec = _TrackNervesInputSpec
    output_spec = _TrackNervesOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, mask = load(self.inputs.fa), load(self.inputs.mask)
        files = {key: load(getattr(self.inputs, key)) for key in (*_METRICS, "v1")}
        same_grid(image, mask, *files.values())
        values = {key: array(file).astype(np.float64) for key, file in files.items()}
        maps = np.stack([values[key] for key in _METRICS], axis=-1)
        errors = self._errors()
        v1 = to_voxel_axes(values["v1"], image.affine)
        v1[~(np.abs(v1).max(axis=-1) > 0)] = np.nan
        field = _Tensors(
            axial_tensor(values["ad"], values["rd"], v1), values["fa"],
            np.asarray(image.affine), array(mask) > 0,
        )  # fmt: skip
        nerves = [
            (region, member)
            for region, member in region_memberships(self.inputs.regions, image)
            if region.tissue == "nerve"
        ]
        followed: list[Streamlines] = []
        lost: list[str] = []
        rows: list[dict[str, object]] = []
        for region, member in nerves:
            inside, touched = (np.zeros(image.shape[:3], np.bool_) for _ in range(2))
            inside[member.box] = member.fraction >= self.inputs.min_fraction
            touched[member.box] = member.fraction > 0
            lines = self._follow(field, inside, touched)
            profile = self._profile(lines, maps, errors, field.affine)
            if profile is None:
                lost.append(" ".join(name for name in (region.name, region.side) if name != "n/a"))
                continue
            followed.append(lines)
            rows += _rows(region, len(followed), profile, with_se=errors is not None)
        folder = Path(runtime.cwd)
        lines = Streamlines.of([one[i] for one in followed for i in range(len(one))])
        bundle = np.repeat(np.arange(len(followed)) + 1, [len(one) for one in followed])
        path = write_tractogram(lines, bundle, image, folder / "tracts.trk")
        self._results["tracts"] = str(path)
        path = write_table(
            frame(rows, "nerve_profile"), folder / "nerve_profile.tsv", "nerve_profile"
        )
        self._results["nerve_profile"] = str(path)
        self.write(runtime, image, density=density(lines, field.affine, field.fa.shape))
        self.tell(
            quality={
                "tract_n_regions": len(nerves),
                "tract_n_followed": len(followed),
                "tract_n_streamlines": len(lines),
                "tract_length_median": float(np.median(length_mm(lines))) if lines else np.nan,
            },
            method=f"nerves followed through the tensor, Runge-Kutta, FA of {self.inputs.fa_min:g} "
            f"or more, turns up to {self.inputs.angle_deg:g} degrees"
            + f" (not followed: {', '.join(lost)})"
            * bool(lost),
            references=_REFERENCES,
        )
        return runtime

    def _errors(self) -> Float | None:
        """Return the standard errors, shape (x, y, z, k), or None where a map has none."""
        files = [getattr(self.inputs, f"{key}_se") for key in _METRICS]
        if not all(files):
            return None
        errors = np.stack([array(load(file)).astype(np.float64) for file in files], axis=-1)
        known = [bool(np.isfinite(errors[..., k]).any()) for k in range(len(files))]
        return errors if all(known) else None

    def _follow(self, field: _Tensors, inside: Bool, touched: Bool) -> Streamlines:
        """Return the streamlines through a region that stay in it where it is drawn."""
        axes = field.affine[:3, :3] / np.linalg.norm(field.affine[:3, :3], axis=0)
        if not np.allclose(axes.T @ axes, np.eye(3), atol=_RIGHT_ANGLES):
            return Streamlines.of([])
        options = TractOptions(fa_min=self.inputs.fa_min, angle_deg=self.inputs.angle_deg)
        seeds = _seeds(inside & field.limb, field.affine, self.inputs.seeds_per_axis)
        if not len(seeds):
            return Streamlines.of([])
        lines = track(field.tensor, field.fa, field.affine, seeds, field.limb, options)
        # a profile needs two places
        shortest = max(self.inputs.min_length_mm, self.inputs.spacing_mm)
        lines = select(lines, field.affine, include=[inside], min_length_mm=shortest)
        return lines.subset(_share_within(lines, field.affine, touched) >= _WITHIN)

    def _profile(
        self, lines: Streamlines, maps: Float, errors: Float | None, affine: Float
    ) -> TractProfile | None:
        if not lines:
            return None
        try:
            return along_tract(lines, maps, affine, self.inputs.spacing_mm, errors)
        except ValueError:  # short pieces here and there have no centre line
            return None


def to_voxel_axes(directions: Float, affine: Float) -> Float:
    """Turn directions along scanner axes, shape (..., 3), into voxel axes.

    >>> to_voxel_axes(np.array([-1.0, 0, 0]), np.diag([-2.0, 2, 2, 1])).tolist()
    [1.0, 0.0, 0.0]
    """
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    turned: Float = np.asarray(directions) @ np.linalg.inv(axes).T
    return turned + 0.0


def _seeds(inside: Bool, affine: Float, per_axis: int) -> Float:
    """Return seeds spread over a region, fewer per voxel and then fewer voxels if too many."""
    n_voxels = int(inside.sum())
    while per_axis > 1 and n_voxels * per_axis**3 > _MOST_SEEDS:
        per_axis -= 1
    seeds = np.asarray(seeds_in(inside, affine, per_axis), dtype=np.float64)
    return seeds[:: max(1, -(-len(seeds) // _MOST_SEEDS))]


def _share_within(lines: Streamlines, affine: Float, region: Bool) -> Float:
    """Return how much of each streamline lies in the region, in the slices that it is drawn in."""
    axis = slice_axis(affine)
    inverse = np.linalg.inv(affine)
    voxel = np.rint(lines.points_mm @ inverse[:3, :3].T + inverse[:3, 3]).astype(np.intp)
    voxel = np.clip(voxel, 0, np.array(region.shape) - 1)
    others = tuple({0, 1, 2} - {axis})
    drawn = np.asarray(region.any(axis=others))[voxel[:, axis]]
    within = region[tuple(voxel.T)]
    counts = [np.bincount(lines.curve, of, minlength=len(lines)) for of in (within, drawn)]
    share: Float = counts[0] / np.maximum(counts[1], 1)
    return share


def _rows(
    region: Region, number: int, profile: TractProfile, *, with_se: bool
) -> Iterator[dict[str, object]]:
    """Yield the rows of a nerve: each metric from one end to the other."""
    who = {"region": region.name, "side": region.side, "level": region.level, "bundle": number}
    for k, key in enumerate(_METRICS):
        spec = OUTPUTS[key]
        factor = spec.scale * spec.table_scale
        for i, (arc, (x, y, z)) in enumerate(zip(profile.arc_mm, profile.centre_mm, strict=True)):
            yield {
                **who, "arc_mm": arc, "x": x, "y": y, "z": z,
                "metric": spec.metric, "unit": spec.table_units or spec.units,
                "mean": profile.mean[i, k] * factor, "sd": profile.sd[i, k] * factor,
                "se": profile.se[i, k] * factor if with_se else np.nan,
                "n_streamlines": int(profile.n_streamlines[i]), "n_voxels": profile.n_voxels[i, k],
            }  # fmt: skip
