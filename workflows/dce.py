"""DCE perfusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nipype.pipeline import engine as pe

from mrn_prep.inputs import RegionFile
from mrn_prep.inputs.dce import DCEInputs
from mrn_prep.interfaces._dce import OF_RETURN
from mrn_prep.interfaces.dce import FitDCE
from mrn_prep.interfaces.dce_curves import FitCurves
from mrn_prep.interfaces.dce_frames import FindBaseline, RegisterFrames
from mrn_prep.interfaces.dce_input import FindInput
from mrn_prep.interfaces.denoise import DenoiseFrames
from mrn_prep.interfaces.sinks import map_files
from mrn_prep.options import DCEOptions
from mrn_prep.outputs import dce_products
from mrn_prep.workflows._graph import boundary, same, series_name

_HANDED_ON = [("out_file", "in_file"), ("facts", "before")]
_FILES = ("dce", "dce_confounds", "aif", "curves", "curve_fits")


def init_dce_wf(
    dce: DCEInputs,
    *,
    with_b1: bool,
    with_t1: bool,
    regions: Sequence[RegionFile],
    options: DCEOptions,
    min_fraction: float = 0.5,
    n_threads: int = 1,
    mem_gb: float = 1.0,
) -> pe.Workflow:
    """Perfusion by dynamic contrast enhancement.

    Frames are denoised if asked for, and registered rigidly to those before
    contrast, which are found in the series. The input function is that of a
    table, of an artery (or vein) that is drawn or found, or of a population.
    Signals are turned into concentrations by exact inversion of the spoiled
    gradient echo with T1 and B1+, tissue models are fitted in every voxel of
    the limb, and to the mean concentration of each region.

    Inputs
    ------
    b1, b1_se, t1, t1_se
        Relative B1+ and T1 before contrast (s) with their standard errors, on
        any grid; used if `with_b1` and `with_t1`. A ready map of `dce` counts
        where there is no T1 of the session.

    Outputs
    -------
    The maps and files of modality ``dce`` in the outputs table, the standard
    errors, status of each model (and ``<model>_ve_status`` of what may stay
    open where the rest is determined), vessel and facts.
    """
    products = dce_products(options.model, delay=options.delay)
    fitted = list(dict.fromkeys(name for product in products for _, name in map_files(product)))
    models = {key.partition("_")[0] for key in fitted}
    fitted += [f"{m}_ve_status" for m in OF_RETURN
               if m in models and f"{m}_ve_status" not in fitted]  # fmt: skip
    wf, inputs, outputs = boundary(
        series_name("dce", dce.entities),
        inputs=["b1", "b1_se", "t1", "t1_se"],
        outputs=[*fitted, *_FILES, "vessel", "facts"],
    )
    (raw, *_) = dce.files
    resources = {"n_procs": n_threads, "mem_gb": mem_gb}
    frames: dict[str, object] = {"t_s": list(dce.t_s), "n_threads": n_threads}
    clock = frames if dce.injection_s is None else {**frames, "injection_s": dce.injection_s}
    sequence = {
        **frames,
        "flip_deg": dce.flip_deg,
        "tr_s": dce.tr_s,
        "relaxivity": dce.relaxivity_per_mm_per_s,
        "n_pulses": dce.n_pulses,
        "gap_s": dce.gap_s,
        "centre": dce.centre,
        "denoised": options.denoise == "mppca",
    }
    vessels, tissues = _apart(regions)

    baseline = pe.Node(FindBaseline(raw_file=raw, **clock), name="baseline", mem_gb=mem_gb)
    aif = pe.Node(
        FindInput(
            kind=options.aif, rescale=options.aif_rescale, regions=vessels,
            hematocrit=dce.hematocrit, hematocrit_known=dce.hematocrit_known,
            blood_t1_s=dce.blood_t1_s, **sequence,
        ),
        name="aif", mem_gb=mem_gb,
    )  # fmt: skip
    if dce.aif_file:
        aif.inputs.table = dce.aif_file
    if dce.dose_mmol_per_kg is not None:
        aif.inputs.dose_mmol_per_kg = dce.dose_mmol_per_kg
    model = {**sequence, "model": options.model, "delay": options.delay, "t1_s": options.t1_s}
    fit = pe.Node(
        FitDCE(
            fat_saturation=dce.fat_saturated and dce.n_pulses == 1,
            relaxivity_source=dce.relaxivity_source, regions=tissues, **model,
        ),
        name="fit", **resources,
    )  # fmt: skip
    curves = pe.Node(
        FitCurves(regions=tissues, min_fraction=min_fraction, **model), name="curves", mem_gb=mem_gb
    )

    series: pe.Node | None = None
    if options.denoise == "mppca":
        series = pe.Node(DenoiseFrames(in_file=raw), name="denoise", **resources)
        wf.connect([(series, baseline, [("sigma", "noise")])])
    if options.motion == "rigid":
        register = pe.Node(RegisterFrames(**clock), name="register", **resources)
        if series is None:
            register.inputs.in_file = raw
        else:
            wf.connect([(series, register, _HANDED_ON)])
        wf.connect([(register, outputs, [("confounds", "dce_confounds")])])
        wf.connect([(register, aif, same("confounds"))])
        aif.inputs.raw_file = raw
        series = register
    if series is None:
        outputs.inputs.dce = raw
        for node in (baseline, aif, fit, curves):
            node.inputs.in_file = raw
    else:
        wf.connect([
            (series, baseline, _HANDED_ON),
            (series, outputs, [("out_file", "dce")]),
            *((series, node, [("out_file", "in_file")]) for node in (aif, fit, curves)),
        ])  # fmt: skip

    found = same("mask", "baseline", "sigma")
    wf.connect([
        (baseline, aif, [*found, ("facts", "before")]),
        (baseline, fit, found),
        (baseline, curves, found),
        (aif, fit, [*same("aif", "aif_error"), ("facts", "before")]),
        (aif, curves, same("aif", "aif_error")),
        (aif, outputs, same("aif", "vessel")),
        (fit, outputs, same(*fitted, "facts")),
        (curves, outputs, same("curves", "curve_fits")),
    ])  # fmt: skip
    if with_b1 and options.use_b1:
        wf.connect([(inputs, node, same("b1")) for node in (aif, fit, curves)])
    if with_t1:
        wf.connect([(inputs, node, same("t1", "t1_se")) for node in (fit, curves)])
        wf.connect([(inputs, aif, same("t1"))])
    elif dce.t1_map:
        for node in (aif, fit, curves):
            node.inputs.t1 = dce.t1_map
    return wf


def _apart(
    regions: Sequence[RegionFile],
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the records of regions that are vessels, and of the others."""
    vessels: list[dict[str, object]] = []
    tissues: list[dict[str, object]] = []
    for file in regions:
        for chosen, is_vessel in ((vessels, True), (tissues, False)):
            some = tuple(r for r in file.regions if (r.tissue in ("artery", "vein")) is is_vessel)
            if some:
                chosen.append(replace(file, regions=some).record())
    return vessels, tissues
