"""T1 mapping."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import VFAInputs
from mrn_prep.interfaces.t1 import FitVFA
from mrn_prep.options import T1Options
from mrn_prep.workflows._graph import boundary, same, series_name

_MAPS = ("t1", "t1_se", "status", "m0", "m0_se", "facts")


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
    wf, inputs, outputs = boundary(
        series_name("t1", vfa.entities), inputs=["b1", "b1_se"], outputs=_MAPS
    )
    fit = pe.Node(
        FitVFA(in_files=list(vfa.files), flip_deg=list(vfa.flip_deg), tr_s=vfa.tr_s),
        name="fit",
        mem_gb=mem_gb,
    )
    wf.connect([(fit, outputs, same(*_MAPS))])
    if with_b1 and options.use_b1:
        wf.connect([(inputs, fit, same("b1", "b1_se"))])
    return wf
