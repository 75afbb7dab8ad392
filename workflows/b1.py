"""B1+ mapping."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import AFIInputs, AngleInputs, B1Inputs, B1MapInputs, DAMInputs, VFAInputs
from mrn_prep.interfaces.b1 import MapB1Image, MapB1Pair
from mrn_prep.options import B1Options
from mrn_prep.workflows._graph import boundary, same, series_name

_MAPS = ("b1", "b1_se", "status", "facts")


def init_b1_wf(
    b1: B1Inputs, *, vfa: VFAInputs | None, options: B1Options, mem_gb: float = 0.5
) -> pe.Workflow:
    """B1+ of any kind, smoothed inside the limb.

    The usual formulas of actual flip angle imaging (AFI) and of the double-angle
    method are those of short and of complete recovery. With a flip-angle series
    at hand, B1+ by the exact steady state and T1 are found in turn until B1+ stays.

    Outputs
    -------
    b1, b1_se, status, facts
    """
    wf, _, outputs = boundary(
        series_name(f"b1_{b1.method}".rstrip("_"), b1.entities), outputs=_MAPS
    )
    smoothing = {
        "smoothing_mm": options.smoothing_mm,
        "extrapolate_mm": options.extrapolate_mm,
    }
    if not isinstance(b1, AFIInputs | DAMInputs):
        image = pe.Node(MapB1Image(**_image(b1), **smoothing), name="image", mem_gb=mem_gb)
        wf.connect([(image, outputs, same(*_MAPS))])
        return wf
    pair = pe.Node(MapB1Pair(**_pair(b1), **smoothing), name="pair", mem_gb=mem_gb)
    if vfa is not None and options.refine and pair.inputs.tr_s:
        pair.inputs.vfa_files = list(vfa.files)
        pair.inputs.vfa_flip_deg, pair.inputs.vfa_tr_s = list(vfa.flip_deg), vfa.tr_s
    wf.connect([(pair, outputs, same(*_MAPS))])
    return wf


def _pair(b1: AFIInputs | DAMInputs) -> dict[str, object]:
    if isinstance(b1, AFIInputs):
        method, times = "afi", [b1.tr1_s, b1.tr2_s]
    else:
        method, times = "dam", [b1.tr_s] if b1.tr_s else []
    return {
        "in_files": list(b1.files), "method": method, "flip_deg": b1.flip_deg, "tr_s": times
    }  # fmt: skip


def _image(b1: B1Inputs) -> dict[str, object]:
    assert isinstance(b1, AngleInputs | B1MapInputs)
    given: dict[str, object] = {"in_file": b1.files[0], "method": b1.method}
    if b1.flip_deg is not None:
        given["flip_deg"] = b1.flip_deg
    if len(b1.files) > 1:
        given["anatomy"] = b1.files[1]
    return given
