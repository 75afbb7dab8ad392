"""Nipype face of distortion by the field, and of slices that motion darkened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits
from numpy.typing import NDArray

from mrn_prep.errors import BadDataError
from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.interfaces.dwi import SeriesInputSpec
from mrn_prep.io.gradients import read_gradients
from mrn_prep.io.images import array, load, same_grid, voxel_mm
from mrn_prep.io.tables import frame, write_table
from mrn_prep.measure.regions import slice_axis
from mrn_prep.models.dwi_quality import lowest_volumes
from mrn_prep.models.outlier_slices import SliceOutliers, repair_slices
from mrn_prep.models.quality import measured_volumes
from mrn_prep.models.susceptibility import estimate_field


class _FieldInputSpec(SeriesInputSpec):
    mask = File(exists=True, mandatory=True, desc="the limb as the series shows it")
    blip_file = File(exists=True, mandatory=True, desc="image with reversed phase encoding")
    blip_volumes = traits.List(traits.Int(), mandatory=True, desc="its unweighted volumes")
    pe_axis = traits.Enum(0, 1, 2, mandatory=True, desc="voxel axis of phase encoding")
    pe_signs = traits.List(traits.Int(), mandatory=True, desc="of the series and the image")
    readouts_s = traits.List(traits.Float(), mandatory=True, desc="total readout times (s)")


class _FieldOutputSpec(FactsOutputSpec):
    field = File(exists=True, desc="off-resonance (Hz) on the undistorted grid")


class EstimateField(MapInterface):
    """Estimate the field from the first unweighted images of both polarities."""

    input_spec = _FieldInputSpec
    output_spec = _FieldOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, blip = load(self.inputs.in_file), load(self.inputs.blip_file)
        mask = load(self.inputs.mask)
        same_grid(image, mask)
        if image.shape[:3] != blip.shape[:3]:
            raise BadDataError(f"{self.inputs.blip_file}: has another matrix than the series.")
        b_s_mm2, _ = read_gradients(self.inputs.bval_file, self.inputs.bvec_file, image.affine)
        inside = array(mask) > 0
        pair = [
            _first_measured(array(image), list(np.flatnonzero(lowest_volumes(b_s_mm2))), inside),
            _first_measured(array(blip), self.inputs.blip_volumes, inside),
        ]
        size, axis = voxel_mm(image), self.inputs.pe_axis
        found = estimate_field(
            pair, axis, self.inputs.pe_signs, self.inputs.readouts_s, size, inside
        )
        field_hz = found.field_hz if found.improved else np.zeros(image.shape[:3])
        self.write(runtime, image, field=field_hz)
        shift = np.abs(field_hz[inside]) * self.inputs.readouts_s[0] * size[axis]
        self.tell(
            quality={
                "distortion_mean": float(shift.mean()),
                "distortion_max": float(np.percentile(shift, 99)),
                "blip_correlation": float(found.correlation[1]),
            },
            flags=["distortion-not-corrected"] * (not found.improved),
            method="field from reversed phase encoding"
            + " (the images agreed best as they were)" * (not found.improved),
            references=["doi:10.1016/S1053-8119(03)00336-7"],
        )
        return runtime


def _first_measured(values: Any, volumes: Sequence[int], inside: Any) -> Any:
    """Return the first of some volumes that has signal; the first where none has."""
    series = values.reshape(*values.shape[:3], -1)
    chosen = series[..., list(volumes)]
    with_signal = np.flatnonzero(measured_volumes(chosen, inside))
    return chosen[..., with_signal[0] if with_signal.size else 0]


class _RepairInputSpec(SeriesInputSpec):
    mask = File(exists=True, mandatory=True, desc="the limb")


class _RepairOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="series with lost slices replaced")
    outliers = File(exists=True, desc="how far each slice is from its prediction")


class RepairSlices(MapInterface):
    """Replace slices that motion during diffusion weighting has darkened."""

    input_spec = _RepairInputSpec
    output_spec = _RepairOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, mask = load(self.inputs.in_file), load(self.inputs.mask)
        same_grid(image, mask)
        b_s_mm2, bvecs = read_gradients(self.inputs.bval_file, self.inputs.bvec_file, image.affine)
        series, inside = array(image), array(mask) > 0
        # a volume without signal is not measured, and no prediction makes it so
        measured = measured_volumes(series, inside)
        judged = series if measured.all() else series[..., measured]
        repaired, found = repair_slices(
            judged, b_s_mm2[measured], bvecs[measured], inside, slice_axis(image.affine)
        )
        if not measured.all():
            series = series.copy()
            series[..., measured] = repaired
            repaired = series
        self.write(runtime, image, out_file=repaired)
        n, known = int(found.outlier.sum()), found.outlier | ~np.isnan(found.z)
        table = frame(_slice_rows(found, np.flatnonzero(measured)), "outliers")
        path = write_table(table, Path(runtime.cwd) / "outliers.tsv", "outliers")
        self._results["outliers"] = str(path)
        self.tell(
            quality={
                "n_outlier_slices": float(n),
                "outlier_fraction": 100 * n / known.sum() if known.any() else np.nan,
            },
            method=f"{n} darkened slices replaced by the prediction of the others" if n else "",
        )
        return runtime


def _slice_rows(found: SliceOutliers, volumes: NDArray[np.intp]) -> Iterator[dict[str, object]]:
    """Yield a row per slice of the volumes that were judged."""
    for i, volume in enumerate(volumes):
        for k in range(found.outlier.shape[0]):
            yield {
                "volume": int(volume), "slice": k, "z": found.z[k, i], "loss": found.loss[k, i],
                "replaced": int(found.outlier[k, i]),
            }  # fmt: skip
