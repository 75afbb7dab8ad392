"""T1 mapping."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import IRInputs, VFAInputs
from mrn_prep.interfaces.t1 import FitIR, FitVFA
from mrn_prep.options import T1Options
from mrn_prep.workflows._graph import boundary, in_place, same, series_name


def init_t1_wf(
    vfa: VFAInputs, *, with_b1: bool, options: T1Options, mem_gb: float = 0.5
) -> pe.Workflow:
    """T1 and M0 from spoiled gradient echoes at several flip angles (VFA).

    Inputs
    ------
    b1, b1_se
        Relative B1+ and its standard error, on any grid; used if `with_b1`.

    Outputs
    -------
    t1, t1_se, status, m0, m0_se, facts
    """
    maps = ("t1", "t1_se", "status", "m0", "m0_se", "facts")
    wf, inputs, outputs = boundary(
        series_name("t1", vfa.entities), inputs=["b1", "b1_se"], outputs=maps
    )
    fit = pe.Node(FitVFA(flip_deg=list(vfa.flip_deg), tr_s=vfa.tr_s), name="fit", mem_gb=mem_gb)
    if options.spoiling and vfa.phase_increment_deg:
        fit.inputs.phase_increment_deg = vfa.phase_increment_deg
        if vfa.gradient_moment_mt_ms_m:
            fit.inputs.gradient_moment_mt_ms_m = vfa.gradient_moment_mt_ms_m
    in_place(wf, fit, vfa.files, register=options.register, mem_gb=mem_gb)
    wf.connect([(fit, outputs, same(*maps))])
    if with_b1 and options.use_b1:
        wf.connect([(inputs, fit, same("b1", "b1_se"))])
    return wf


def init_ir_wf(ir: IRInputs, *, options: T1Options, mem_gb: float = 0.5) -> pe.Workflow:
    """T1 from an inversion recovery, the polarity of magnitudes restored.

    Outputs
    -------
    t1, t1_se, status, facts
    """
    maps = ("t1", "t1_se", "status", "facts")
    wf, _, outputs = boundary(series_name("t1_ir", ir.entities), outputs=maps)
    fit = pe.Node(FitIR(ti_s=list(ir.ti_s)), name="fit", mem_gb=mem_gb)
    in_place(wf, fit, ir.files, register=options.register, mem_gb=mem_gb)
    wf.connect([(fit, outputs, same(*maps))])
    return wf
