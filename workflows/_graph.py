"""The helpers every factory uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from nipype.interfaces.utility import IdentityInterface
from nipype.pipeline import engine as pe

from mrn_prep.interfaces.align import AlignSeries
from mrn_prep.interfaces.denoise import DenoiseSeries

HANDED_ON = [("out_files", "in_files"), ("facts", "before"), ("sigma", "sigma")]
"""What a step that changes the images of a series gives to the next."""


def boundary(
    name: str, *, outputs: Sequence[str], inputs: Sequence[str] = ()
) -> tuple[pe.Workflow, pe.Node | None, pe.Node]:
    """Return a workflow with its input node (None without inputs) and its output node.

    >>> wf, inputs, outputs = boundary("t1_wf", inputs=["in_file"], outputs=["t1"])
    >>> inputs.fullname, sorted(outputs.inputs.copyable_trait_names())
    ('t1_wf.inputnode', ['t1'])
    """
    wf = pe.Workflow(name=name)
    source = None
    if inputs:
        source = pe.Node(IdentityInterface(fields=list(inputs)), name="inputnode")
        wf.add_nodes([source])
    target = pe.Node(IdentityInterface(fields=list(outputs)), name="outputnode")
    wf.add_nodes([target])
    return wf, source, target


def same(*fields: str) -> list[tuple[str, str]]:
    """Connect fields that carry the same name on both sides."""
    return [(field, field) for field in fields]


def series_name(what: str, entities: Mapping[str, str]) -> str:
    """Return a workflow's name that no other series of the session has.

    >>> series_name("t1", {"subject": "01", "acquisition": "fast", "suffix": "VFA"})
    't1_acquisition_fast_wf'
    """
    common = {"subject", "session", "suffix", "datatype", "extension"}
    own = [f"{name}_{value}" for name, value in entities.items() if name not in common]
    return "_".join([what, *own, "wf"]).replace("+", "plus")


def in_place(
    wf: pe.Workflow,
    fit: pe.Node,
    files: Sequence[str],
    *,
    register: bool,
    denoise: bool = False,
    n_together: int = 1,
    mem_gb: float,
    n_threads: int = 1,
) -> None:
    """Give a fit the images of a series, denoised and registered to one another if asked for.

    Of images that were taken together, `n_together` in a row, none moved against the others.
    """
    steps: list[pe.Node] = []
    if denoise:
        steps.append(pe.Node(DenoiseSeries(), name="denoise", mem_gb=mem_gb, n_procs=n_threads))
    if register and n_together < len(files):
        interface = AlignSeries(n_together=n_together, n_threads=n_threads)
        steps.append(pe.Node(interface, name="align", mem_gb=mem_gb, n_procs=n_threads))
    for before, node in pairwise([*steps, fit]):
        wf.connect([(before, node, HANDED_ON)])
    (*steps, fit)[0].inputs.in_files = list(files)
