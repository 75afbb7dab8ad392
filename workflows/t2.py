"""T2 mapping."""

from __future__ import annotations

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from mrn_prep.inputs import AnatomyInputs, MESEInputs, RegionFile
from mrn_prep.interfaces.t2 import FitDecay, FitMESE
from mrn_prep.options import Options
from mrn_prep.workflows._graph import boundary, in_place, same, series_name

_T2 = ("t2", "t2_se", "m0", "m0_se", "status", "facts")


def init_t2_wf(
    mese: MESEInputs,
    *,
    with_b1: bool,
    with_pdff: bool,
    options: Options,
    fat_region: RegionFile | None = None,
    n_threads: int = 1,
    mem_gb: float = 0.5,
) -> pe.Workflow:
    """T2 of spin echoes.

    A multi-echo train is fitted by extended phase graphs, of water beside fat or
    alone, B1+ and the fat fraction being those of their maps or fitted too; the
    T2 of fat is that of the subcutaneous fat. T2-prepared images and pairs of
    echoes are fitted by an exponential.

    Inputs
    ------
    b1, b1_se, pdff, pdff_se
        Relative B1+ and fat fraction with their standard errors, on any grid;
        used if `with_b1` and `with_pdff`.

    Outputs
    -------
    t2, t2_se, m0, m0_se, status, facts, and of trains b1, b1_se, pdff, pdff_se
    """
    method = mese.method(options)
    train = method in ("water-fat", "single")
    maps = (*_T2, *(("b1", "b1_se") if train else ()))
    maps += ("pdff", "pdff_se") if method == "water-fat" else ()
    wf, inputs, outputs = boundary(
        series_name("t2", mese.entities), inputs=["b1", "b1_se", "pdff", "pdff_se"], outputs=maps
    )
    resources = {"n_procs": n_threads, "mem_gb": mem_gb}
    if train:
        protocol = {
            "spacing_s": mese.spacing_s,
            "first_echo": mese.first_echo,
            "refocusing_deg": options.t2.refocusing_deg,
            "slice_profile": options.t2.slice_profile,
            "model": method,
            "n_threads": n_threads,
        }
        fit = pe.Node(FitMESE(**protocol), name="fit", **resources)
        if fat_region is not None and method == "water-fat":
            fit.inputs.fat_region = fat_region.record()
        if with_b1 and options.t2.use_b1:
            wf.connect([(inputs, fit, same("b1", "b1_se"))])
        if with_pdff and method == "water-fat":
            wf.connect([(inputs, fit, same("pdff", "pdff_se"))])
    else:
        decay = FitDecay(te_s=list(mese.te_s), method=method, n_threads=n_threads)
        fit = pe.Node(decay, name="fit", **resources)
    in_place(
        wf, fit, mese.files,
        register=options.t2.register, denoise=mese.denoised(options),
        mem_gb=mem_gb, n_threads=n_threads,
    )  # fmt: skip
    wf.connect([(fit, outputs, same(*maps))])
    return wf


def init_anatomy_wf(image: AnatomyInputs) -> pe.Workflow:
    """Hand on an image in which signal ratios are measured, as it is.

    Outputs
    -------
    t2w, facts
    """
    wf = pe.Workflow(name=series_name("t2w", image.entities))
    node = pe.Node(IdentityInterface(fields=["t2w", "facts"]), name="outputnode")
    node.inputs.t2w = image.files[0]
    node.inputs.facts = {"ValidityFlags": []}
    wf.add_nodes([node])
    return wf
