"""Nipype face of the session's tables and page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)

from mrn_prep.inputs.rois import RegionFile
from mrn_prep.measure.session import measure_session
from mrn_prep.reports.page import write_page


class _SessionInputSpec(BaseInterfaceInputSpec):
    out_dir = traits.Str(mandatory=True, desc="derivative data set")
    subject = traits.Str(mandatory=True, desc="participant's label")
    session = traits.Str("", usedefault=True, desc="session's label; empty for none")
    regions = traits.List(traits.Dict(), desc="records of `RegionFile`")


class _MeasureInputSpec(_SessionInputSpec):
    site = traits.Str("n/a", usedefault=True, desc="site of the participant")
    min_fraction = traits.Float(0.5, usedefault=True, desc="part of a voxel in the region")
    reference = traits.Str("table", usedefault=True, desc="what T2 signal ratios refer to")


class _MeasureOutputSpec(TraitedSpec):
    roi_table = File(exists=True, desc="measurements in regions")
    quality_table = File(exists=True, desc="quality of each series")


class MeasureSession(SimpleInterface):
    """Write the tables of a session from its derivatives."""

    input_spec = _MeasureInputSpec
    output_spec = _MeasureOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        roi, quality = measure_session(
            self.inputs.out_dir,
            self.inputs.subject,
            self.inputs.session or None,
            self.inputs.site,
            [RegionFile.from_record(record) for record in self.inputs.regions],
            self.inputs.min_fraction,
            self.inputs.reference,
        )
        self._results |= {"roi_table": str(roi), "quality_table": str(quality)}
        return runtime


class _PageInputSpec(_SessionInputSpec):
    roi_table = File(exists=True, desc="only to run after the tables")
    remarks = traits.List(traits.Str(), desc="what was left out and why")
    provenance = traits.Dict(desc="version, command line, options")


class _PageOutputSpec(TraitedSpec):
    out_file = File(exists=True, desc="the page")


class WritePage(SimpleInterface):
    """Write the page of a session from its derivatives."""

    input_spec = _PageInputSpec
    output_spec = _PageOutputSpec
    _always_run = True

    def _run_interface(self, runtime: Any) -> Any:
        page = write_page(
            Path(self.inputs.out_dir),
            self.inputs.subject,
            self.inputs.session or None,
            region_files=[RegionFile.from_record(record) for record in self.inputs.regions],
            remarks=list(self.inputs.remarks),
            provenance=dict(self.inputs.provenance),
        )
        self._results["out_file"] = str(page)
        return runtime
