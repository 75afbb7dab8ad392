"""Diffusion."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import DWIInputs
from mrn_prep.interfaces.distortion import EstimateField, RepairSlices
from mrn_prep.interfaces.dwi import Denoise, LimbMask, MergeFacts, Unring
from mrn_prep.interfaces.dwi_fits import FitADC, FitDTI, FitIVIM
from mrn_prep.interfaces.motion import CorrectMotion
from mrn_prep.options import Options
from mrn_prep.outputs import OUTPUTS
from mrn_prep.workflows._graph import boundary, same, series_name

_FITS = {
    "tensor": (FitDTI, ("fa", "md", "ad", "rd", "s0"), ("v1", "status")),
    "adc": (FitADC, ("adc",), ("adc_status",)),
    "ivim": (FitIVIM, ("ivim_f", "ivim_d", "ivim_dstar"), ("ivim_status", "ivim_dstar_status")),
}


def init_dwi_wf(
    dwi: DWIInputs, *, options: Options, n_threads: int = 1, mem_gb: float = 1.0
) -> pe.Workflow:
    """Tensor, ADC and IVIM of a diffusion series, denoised and brought into one frame.

    The limb is found in the volumes without weighting; noise is removed by
    Marchenko-Pastur PCA, and ringing by sub-voxel shifts if asked for; an image with
    reversed phase encoding gives the field that distorts; volumes are registered to
    predictions of a tensor model and resampled once, the distortion being undone and
    the directions turned with them; slices that motion has darkened are replaced by
    the prediction of the others. The tensor is fitted by weighted least squares, the ADC
    to logarithms and IVIM where there are low b-values, with standard errors from
    the noise.

    Outputs
    -------
    The maps and files of modality ``dwi`` in the outputs table that the series
    allows, the standard errors, status maps and facts.
    """
    fits: dict[str, dict[str, object]] = {"adc": {}}
    if dwi.has_tensor:
        fits["tensor"] = {"low_b": options.dwi.low_b_in_tensor}
    if dwi.has_ivim(options):
        fits["ivim"] = {"method": options.dwi.ivim}
    fields = [field for name in fits for field in _fields(name)]
    wf, _, outputs = boundary(
        series_name("dwi", dwi.entities),
        outputs=[*fields, "blip_field", "sigma", "dwi", "bval", "bvec", "confounds", "facts"],
    )
    gradients = {"bval_file": dwi.bval_file, "bvec_file": dwi.bvec_file}
    resources = {"n_procs": n_threads, "mem_gb": mem_gb}
    mask = pe.Node(LimbMask(in_file=dwi.file, **gradients), name="mask", mem_gb=0.3)
    facts = pe.Node(MergeFacts(), name="facts", run_without_submitting=True)
    outputs.inputs.bval = dwi.bval_file
    wf.connect([(facts, outputs, same("facts"))])
    series: tuple[pe.Node | None, str] = (None, "")
    denoise, motion = None, None

    if options.dwi.denoise == "mppca":
        denoise = pe.Node(Denoise(in_file=dwi.file), name="denoise", **resources)
        wf.connect([
            (mask, denoise, same("mask")),
            (denoise, outputs, same("sigma")),
            (denoise, facts, [("facts", "denoising")]),
        ])  # fmt: skip
        series = (denoise, "out_file")

    if options.dwi.gibbs and dwi.partial_fourier >= 1:
        unring = pe.Node(Unring(n_threads=n_threads), name="unring", **resources)
        _feed(wf, series, unring, dwi.file)
        wf.connect([(unring, facts, [("facts", "unringing")])])
        series = (unring, "out_file")

    field = None
    if dwi.undistorted(options):
        field = pe.Node(EstimateField(**_blips(dwi), **gradients), name="field", **resources)
        _feed(wf, series, field, dwi.file)
        wf.connect([
            (mask, field, same("mask")),
            (field, outputs, [("field", "blip_field")]),
            (field, facts, [("facts", "distortion")]),
        ])  # fmt: skip

    if options.dwi.motion != "none":
        motion = pe.Node(
            CorrectMotion(
                pe_axis=dwi.pe_axis if options.dwi.motion == "eddy" else None, **gradients
            ),
            name="motion",
            **resources,
        )
        _feed(wf, series, motion, dwi.file)
        wf.connect([
            (mask, motion, same("mask")),
            (motion, outputs, [("bvec_file", "bvec"), ("confounds", "confounds")]),
            (motion, facts, [("facts", "motion")]),
        ])  # fmt: skip
        series = (motion, "out_file")
        if field is not None:
            motion.inputs.pe_sign, motion.inputs.readout_s = dwi.pe_sign, dwi.readout_s
            wf.connect([(field, motion, same("field"))])
            # the limb lies elsewhere now
            mask = pe.Node(LimbMask(**gradients), name="limb", mem_gb=0.3)
            wf.connect([(motion, mask, [("out_file", "in_file")])])
    else:
        outputs.inputs.bvec = dwi.bvec_file

    if options.dwi.outliers and motion is not None and dwi.has_tensor:
        repair = pe.Node(RepairSlices(bval_file=dwi.bval_file), name="repair", **resources)
        wf.connect([
            (motion, repair, [("out_file", "in_file"), ("bvec_file", "bvec_file")]),
            (mask, repair, same("mask")),
            (repair, facts, [("facts", "outliers")]),
        ])  # fmt: skip
        series = (repair, "out_file")

    for name, protocol in fits.items():
        given = {"raw_file": dwi.file, "bval_file": dwi.bval_file, "n_threads": n_threads}
        fit = pe.Node(_FITS[name][0](**given, **protocol), name=name, **resources)
        _feed(wf, series, fit, dwi.file)
        wf.connect([
            (mask, fit, same("mask")),
            (fit, outputs, same(*_fields(name))),
            (fit, facts, [("facts", name)]),
        ])  # fmt: skip
        if denoise is not None:
            wf.connect([(denoise, fit, same("sigma", "n_components", "noise_fraction"))])
        if motion is None:
            fit.inputs.bvec_file = dwi.bvec_file
        else:
            wf.connect([(motion, fit, same("bvec_file"))])
    _feed(wf, series, outputs, dwi.file, field="dwi")
    return wf


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
    return [*maps, *(f"{key}_se" for key in maps if OUTPUTS[key].companions), *rest]


def _feed(
    wf: pe.Workflow,
    series: tuple[pe.Node | None, str],
    node: pe.Node,
    raw: str,
    field: str = "in_file",
) -> None:
    """Connect the series as it is so far, the raw file where nothing was done yet."""
    source, name = series
    if source is None:
        setattr(node.inputs, field, raw)
    else:
        wf.connect(source, name, node, field)
