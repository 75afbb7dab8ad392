"""Diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nipype.pipeline import engine as pe

from mrn_prep.inputs import DWIInputs
from mrn_prep.interfaces.distortion import EstimateField, RepairSlices
from mrn_prep.interfaces.dwi import Denoise, LimbMask, MergeFacts, Unring
from mrn_prep.interfaces.dwi_fits import FitADC, FitDTI, FitIVIM
from mrn_prep.interfaces.dwi_series import AverageShells, CombineRuns, RealPart
from mrn_prep.interfaces.motion import CorrectMotion
from mrn_prep.interfaces.qball import FitQBall
from mrn_prep.interfaces.tracts import TrackNerves
from mrn_prep.options import Options
from mrn_prep.outputs import OUTPUTS, TRACTS, files_of
from mrn_prep.workflows._graph import boundary, same, series_name

_FITS = {
    "tensor": (FitDTI, ("fa", "md", "ad", "rd", "s0"), ("v1", "status")),
    "adc": (FitADC, ("adc",), ("adc_status",)),
    "ivim": (FitIVIM, ("ivim_f", "ivim_d", "ivim_dstar"), ("ivim_status", "ivim_dstar_status")),
    "qball": (FitQBall, ("gfa",), ("peaks", "qball_status")),
}


def init_dwi_wf(
    dwi: DWIInputs, *, options: Options, n_threads: int = 1, mem_gb: float = 1.0
) -> pe.Workflow:
    """Tensor, ADC and IVIM of a diffusion series, denoised and brought into one frame.

    Complex images are freed of their phase, and files that are parts of the series put on
    one scale first. The limb is found in the volumes without weighting; noise is removed by
    Marchenko-Pastur PCA, and ringing by sub-voxel shifts if asked for; an image with
    reversed phase encoding gives the field that distorts; volumes are registered to
    predictions of a tensor model and resampled once, the distortion being undone and
    the directions turned with them; slices that motion has darkened are replaced by
    the prediction of the others. The tensor is fitted by least squares, the ADC to
    logarithms and IVIM where there are low b-values, with standard errors from the
    noise; nerves are followed through the tensor. On request the directions of several
    fibres are sought in nerves and muscles.

    Outputs
    -------
    The maps and files of modality ``dwi`` in the outputs table that the series
    allows, the standard errors, status maps and facts.
    """
    steps = _Steps(dwi, options, {"n_procs": n_threads, "mem_gb": mem_gb})
    if dwi.denoised(options):
        steps.denoise()
    if options.dwi.gibbs and dwi.partial_fourier >= 1:
        steps.unring()
    if options.dwi.motion != "none":
        steps.one_frame()
        if dwi.repaired(options):
            steps.repair()
    if dwi.has_tensor:
        tensor = steps.fit("tensor", low_b=options.dwi.low_b_in_tensor, method=options.dwi.tensor)
        if dwi.has_tracts(options):
            steps.follow(tensor)
    steps.fit("adc")
    if dwi.has_ivim(options):
        steps.fit("ivim", method=options.dwi.ivim)
    if dwi.has_qball(options):
        regions = [file.record() for file in dwi.regions]
        steps.fit("qball", regions=regions, min_fraction=options.roi.min_fraction)
    return steps.end()


class _Steps:
    """The workflow of a series as far as it is built: its nodes, and the series as it is so far."""

    def __init__(self, dwi: DWIInputs, options: Options, resources: Mapping[str, float]) -> None:
        self.dwi, self.options, self.resources = dwi, options, resources
        fields = [field for name in _FITS for field in _fields(name)]
        files = (
            "blip_field",
            "sigma",
            "denoising_residual",
            "facts",
            *(row.key for row in files_of("dwi", TRACTS)),
        )
        self.wf, _, self.outputs = boundary(
            series_name("dwi", dwi.entities), outputs=[*fields, *TRACTS, *files]
        )
        self.facts = pe.Node(MergeFacts(), name="facts", run_without_submitting=True)
        self.wf.connect([(self.facts, self.outputs, same("facts"))])
        self.series: pe.Node | None = None
        self.noise: pe.Node | None = None
        self.motion: pe.Node | None = None
        self.real = self._real() if dwi.phase_files else None
        self.runs = self._runs() if len(dwi.files) > 1 else None
        self.mask = pe.Node(LimbMask(), name="mask", mem_gb=0.3)
        self._raw(self.mask, in_file="file", bval_file="bval", bvec_file="bvec")
        self._raw(self.outputs, bval="bval")
        self._look("before")

    def _real(self) -> pe.Node:
        """Take the real part of complex images."""
        parts = RealPart(in_files=list(self.dwi.files), phase_files=list(self.dwi.phase_files))
        node = pe.Node(parts, name="real", mem_gb=self.resources["mem_gb"])
        self.wf.connect([(node, self.facts, [("facts", "phase")])])
        return node

    def _runs(self) -> pe.Node:
        """Put the files of the series together."""
        parts = CombineRuns(
            bval_files=list(self.dwi.bval_files), bvec_files=list(self.dwi.bvec_files)
        )
        node = pe.Node(parts, name="runs", mem_gb=self.resources["mem_gb"])
        if self.real is None:
            node.inputs.in_files = list(self.dwi.files)
        else:
            self.wf.connect([(self.real, node, [("out_files", "in_files")])])
        self.wf.connect([(node, self.facts, [("facts", "runs")])])
        return node

    def _raw(self, node: pe.Node, **fields: str) -> None:
        """Give the raw series or its table (file, bval, bvec) to fields of a node."""
        for field, what in fields.items():
            if self.runs is not None:
                output = "out_file" if what == "file" else f"{what}_file"
                self.wf.connect(self.runs, output, node, field)
            elif what == "file" and self.real is not None:
                self.wf.connect(self.real, "out_file", node, field)
            elif what == "file":
                setattr(node.inputs, field, self.dwi.files[0])
            else:
                setattr(node.inputs, field, getattr(self.dwi, f"{what}_files")[0])

    def _look(self, name: str) -> None:
        """Add pictures of the series as it is now."""
        node = pe.Node(AverageShells(), name=name, mem_gb=0.3)
        self._feed(node)
        self._raw(node, bval_file="bval")
        self.wf.connect([(node, self.outputs, [("out_file", name)])])

    def _node(self, interface: Any, name: str, *, fact: str = "", mask: bool = True) -> pe.Node:
        """Add a step that takes the series (and the limb) and tells facts under its name."""
        node = pe.Node(interface, name=name, **self.resources)
        self._feed(node)
        self.wf.connect([(node, self.facts, [("facts", fact or name)])])
        if mask:
            self.wf.connect([(self.mask, node, same("mask"))])
        return node

    def _feed(self, node: pe.Node, field: str = "in_file") -> None:
        """Connect the series as it is so far, the raw file where nothing was done yet."""
        if self.series is None:
            self._raw(node, **{field: "file"})
        else:
            self.wf.connect(self.series, "out_file", node, field)

    def _turned(self, node: pe.Node) -> None:
        """Connect the table, its directions turned with the volumes where these were moved."""
        self._raw(node, bval_file="bval")
        if self.motion is None:
            self._raw(node, bvec_file="bvec")
        else:
            self.wf.connect([(self.motion, node, same("bvec_file"))])

    def denoise(self) -> None:
        """Remove noise by Marchenko-Pastur PCA."""
        self.noise = self._node(Denoise(), "denoise", fact="denoising")
        found = [*same("sigma"), ("residual", "denoising_residual")]
        self.wf.connect([(self.noise, self.outputs, found)])
        self.series = self.noise

    def unring(self) -> None:
        """Remove Gibbs ringing."""
        threads = int(self.resources["n_procs"])
        self.series = self._node(Unring(n_threads=threads), "unring", fact="unringing", mask=False)

    def one_frame(self) -> None:
        """Undo motion, eddy currents and distortion in one interpolation."""
        field = None
        if self.dwi.undistorted(self.options):
            field = self._node(EstimateField(**_blips(self.dwi)), "field", fact="distortion")
            self._raw(field, bval_file="bval", bvec_file="bvec")
            self.wf.connect([(field, self.outputs, [("field", "blip_field")])])
        axis = self.dwi.pe_axis if self.options.dwi.motion == "eddy" else None
        self.motion = self._node(CorrectMotion(pe_axis=axis), "motion")
        self._raw(self.motion, bval_file="bval", bvec_file="bvec")
        self.series = self.motion
        self.wf.connect([(self.motion, self.outputs, same("confounds", "xfm"))])
        if field is None:
            return
        self.motion.inputs.field_axis = self.dwi.pe_axis
        self.motion.inputs.pe_sign = self.dwi.pe_sign
        self.motion.inputs.readout_s = self.dwi.readout_s
        # the limb lies elsewhere now
        self.mask = pe.Node(LimbMask(), name="limb", mem_gb=0.3)
        self._raw(self.mask, bval_file="bval", bvec_file="bvec")
        self.wf.connect([
            (field, self.motion, same("field")),
            (self.motion, self.mask, [("out_file", "in_file")]),
        ])  # fmt: skip

    def repair(self) -> None:
        """Replace slices that motion has darkened."""
        node = self._node(RepairSlices(), "repair", fact="outliers")
        self._turned(node)
        self.wf.connect([(node, self.outputs, same("outliers"))])
        self.series = node

    def fit(self, name: str, **protocol: object) -> pe.Node:
        """Fit a model to the series as it is now."""
        threads, floor = int(self.resources["n_procs"]), "none"
        if self.real is None:
            floor = "removed" if self.options.dwi.rician else "left"
        interface = _FITS[name][0](n_threads=threads, floor=floor, **protocol)
        node = self._node(interface, name)
        self._turned(node)
        self._raw(node, raw_file="file")
        self.wf.connect([(node, self.outputs, same(*_fields(name)))])
        if self.motion is not None:
            self.wf.connect([(self.motion, node, same("sampling"))])
        if self.noise is not None:
            noise = same("sigma", "n_components", "noise_fraction")
            self.wf.connect([(self.noise, node, noise)])
        return node

    def follow(self, tensor: pe.Node) -> None:
        """Follow the nerves through the tensor, and measure along them."""
        interface = TrackNerves(
            regions=[file.record() for file in self.dwi.nerves],
            min_fraction=self.options.roi.min_fraction,
            fa_min=self.options.dwi.tract_fa, angle_deg=self.options.dwi.tract_angle_deg,
        )  # fmt: skip
        node = pe.Node(interface, name="tracts", **self.resources)
        scalars = ("fa", "md", "ad", "rd")
        self.wf.connect([
            (self.mask, node, same("mask")),
            (tensor, node, same(*scalars, *(f"{key}_se" for key in scalars), "v1")),
            (node, self.outputs, same(*TRACTS)),
            (node, self.facts, [("facts", "tracts")]),
        ])  # fmt: skip

    def end(self) -> pe.Workflow:
        """Hand out the series as it was fitted."""
        self._feed(self.outputs, "dwi")
        self._look("after")
        if self.motion is None:
            self._raw(self.outputs, bvec="bvec")
        else:
            self.wf.connect([(self.motion, self.outputs, [("bvec_file", "bvec")])])
        return self.wf


def _blips(dwi: DWIInputs) -> dict[str, object]:
    """Return what tells series and reversed image apart."""
    assert dwi.blip is not None
    return {
        "blip_file": dwi.blip.file, "blip_volumes": list(dwi.blip.volumes),
        "pe_axis": dwi.blip.pe_axis, "pe_signs": [dwi.pe_sign, dwi.blip.pe_sign],
        "readouts_s": [dwi.readout_s, dwi.blip.readout_s],
    }  # fmt: skip


def _fields(name: str) -> list[str]:
    """Return what a fit gives to the output folder."""
    _, maps, rest = _FITS[name]
    return [*maps, *(f"{key}_se" for key in maps if OUTPUTS[key].with_se), *rest]
