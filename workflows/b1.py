"""B1+ mapping."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import AFIInputs, VFAInputs
from mrn_prep.interfaces.t1 import FitVFA, MapB1AFI
from mrn_prep.options import B1Options
from mrn_prep.workflows._graph import boundary, same, series_name

_MAPS = ("b1", "b1_se", "status", "facts")


def init_b1_wf(
    afi: AFIInputs, *, vfa: VFAInputs | None, options: B1Options, mem_gb: float = 0.5
) -> pe.Workflow:
    """B1+ by actual flip angle imaging (AFI), smoothed inside the limb.

    The usual AFI formula is first order in TR/T1. With a flip-angle series at
    hand it corrects a first T1 map, with which the exact steady state of the
    two repetition times is then inverted.

    Outputs
    -------
    b1, b1_se, status, facts
    """
    wf, _, outputs = boundary(series_name("b1", afi.entities), outputs=_MAPS)
    protocol = {
        "in_files": list(afi.files),
        "flip_deg": afi.flip_deg,
        "tr1_s": afi.tr1_s,
        "tr2_s": afi.tr2_s,
        "smoothing_mm": options.smoothing_mm,
        "extrapolate_mm": options.extrapolate_mm,
    }
    first = pe.Node(MapB1AFI(**protocol), name="first_order", mem_gb=mem_gb)
    if vfa is None or not options.refine:
        wf.connect([(first, outputs, same(*_MAPS))])
        return wf
    t1 = pe.Node(
        FitVFA(in_files=list(vfa.files), flip_deg=list(vfa.flip_deg), tr_s=vfa.tr_s),
        name="first_t1",
        mem_gb=mem_gb,
    )
    exact = pe.Node(MapB1AFI(**protocol), name="exact", mem_gb=mem_gb)
    wf.connect([
        (first, t1, same("b1", "b1_se")),
        (t1, exact, same("t1", "m0")),
        (exact, outputs, same(*_MAPS)),
    ])  # fmt: skip
    return wf
