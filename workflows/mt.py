"""Magnetisation transfer."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import MTRInputs, MTSInputs
from mrn_prep.interfaces.mt import FitMTsat, MapMTR
from mrn_prep.options import MTOptions
from mrn_prep.workflows._graph import boundary, in_place, same, series_name


def init_mtr_wf(mtr: MTRInputs, *, options: MTOptions, mem_gb: float = 0.5) -> pe.Workflow:
    """Magnetisation transfer ratio (MTR) of a pair of images.

    Outputs
    -------
    mtr, mtr_se, status, facts
    """
    maps = ("mtr", "mtr_se", "status", "facts")
    wf, _, outputs = boundary(series_name("mtr", mtr.entities), outputs=maps)
    ratio = pe.Node(MapMTR(), name="ratio", mem_gb=mem_gb)
    in_place(wf, ratio, mtr.files, register=options.register, mem_gb=mem_gb)
    wf.connect([(ratio, outputs, same(*maps))])
    return wf


def init_mts_wf(
    mts: MTSInputs, *, with_b1: bool, options: MTOptions, mem_gb: float = 0.5
) -> pe.Workflow:
    """Magnetisation transfer saturation (MTsat), T1 of two flip angles, M0 and MTR.

    Inputs
    ------
    b1, b1_se
        Relative B1+ and its standard error, on any grid; used if `with_b1`.

    Outputs
    -------
    mtsat, t1, r1, m0, mtr with their standard errors, status, mtr_status, facts
    """
    fitted = ("mtsat", "t1", "r1", "m0", "mtr")
    maps = (*fitted, *(f"{m}_se" for m in fitted), "status", "mtr_status", "facts")
    wf, inputs, outputs = boundary(
        series_name("mts", mts.entities), inputs=["b1", "b1_se"], outputs=maps
    )
    fit = pe.Node(
        FitMTsat(
            flip_deg=list(mts.flip_deg), tr_s=list(mts.tr_s), n_echoes=mts.n_echoes,
            residual_b1_c=options.residual_b1_c,
        ),
        name="fit", mem_gb=mem_gb,
    )  # fmt: skip
    in_place(
        wf, fit, mts.files,
        register=options.register, n_together=mts.n_echoes, mem_gb=mem_gb,
    )  # fmt: skip
    wf.connect([(fit, outputs, same(*maps))])
    if with_b1 and options.use_b1:
        wf.connect([(inputs, fit, same("b1", "b1_se"))])
    return wf
