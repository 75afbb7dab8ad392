"""Diffusion."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import DWIInputs
from mrn_prep.interfaces.dwi import Denoise, FitDTI, LimbMask, MergeFacts
from mrn_prep.interfaces.motion import CorrectMotion
from mrn_prep.options import DWIOptions
from mrn_prep.outputs import of_modality
from mrn_prep.workflows._graph import boundary, same, series_name


def init_dwi_wf(
    dwi: DWIInputs, *, options: DWIOptions, n_threads: int = 1, mem_gb: float = 1.0
) -> pe.Workflow:
    """Diffusion tensor of a series, denoised and brought into one frame.

    The limb is found in the volumes without weighting; noise is removed by
    Marchenko-Pastur PCA; volumes are registered to predictions of a tensor
    model and resampled once, the directions being turned with them; the tensor
    is fitted by weighted least squares, with standard errors from the noise.

    Outputs
    -------
    The maps and files of modality ``dwi`` in the outputs table, the standard
    errors, status and facts.
    """
    maps = [spec for spec in of_modality("dwi", skip=options.not_made) if spec.key != "sigma"]
    fitted = [spec.key for spec in maps]
    fitted += [f"{spec.key}_se" for spec in maps if spec.companions] + ["status"]
    wf, _, outputs = boundary(
        series_name("dwi", dwi.entities),
        outputs=[*fitted, "sigma", "dwi", "bval", "bvec", "confounds", "facts"],
    )
    gradients = {"bval_file": dwi.bval_file, "bvec_file": dwi.bvec_file}
    resources = {"n_procs": n_threads, "mem_gb": mem_gb}
    mask = pe.Node(LimbMask(in_file=dwi.file, **gradients), name="mask", mem_gb=0.3)
    fit = pe.Node(
        FitDTI(raw_file=dwi.file, bval_file=dwi.bval_file, low_b=options.low_b_in_tensor),
        name="tensor",
        **resources,
    )
    facts = pe.Node(MergeFacts(), name="facts", run_without_submitting=True)
    outputs.inputs.bval = dwi.bval_file
    wf.connect([
        (mask, fit, same("mask")),
        (fit, outputs, same(*fitted)),
        (fit, facts, [("facts", "tensor")]),
        (facts, outputs, same("facts")),
    ])  # fmt: skip
    series: tuple[pe.Node | None, str] = (None, "")

    if options.denoise == "mppca":
        denoise = pe.Node(Denoise(in_file=dwi.file), name="denoise", **resources)
        wf.connect([
            (mask, denoise, same("mask")),
            (denoise, fit, same("sigma", "n_components", "noise_fraction")),
            (denoise, outputs, same("sigma")),
            (denoise, facts, [("facts", "denoising")]),
        ])  # fmt: skip
        series = (denoise, "out_file")

    if options.motion != "none":
        motion = pe.Node(
            CorrectMotion(
                pe_axis=dwi.pe_axis if options.motion == "eddy" else None,
                **gradients,
            ),
            name="motion",
            **resources,
        )
        _feed(wf, series, motion, dwi.file)
        wf.connect([
            (mask, motion, same("mask")),
            (motion, fit, same("bvec_file")),
            (motion, outputs, [("bvec_file", "bvec"), ("confounds", "confounds")]),
            (motion, facts, [("facts", "motion")]),
        ])  # fmt: skip
        series = (motion, "out_file")
    else:
        fit.inputs.bvec_file = outputs.inputs.bvec = dwi.bvec_file

    _feed(wf, series, fit, dwi.file)
    _feed(wf, series, outputs, dwi.file, field="dwi")
    return wf


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
