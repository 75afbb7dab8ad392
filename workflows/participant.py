"""The graphs of a run: all sessions' maps, then all sessions' tables and pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nipype.pipeline import engine as pe

from mrn_prep.inputs import DWIInputs, SessionInputs, VFAInputs
from mrn_prep.interfaces.session import MeasureSession, WritePage
from mrn_prep.options import Options
from mrn_prep.outputs import files_of, of_modality
from mrn_prep.workflows._graph import same
from mrn_prep.workflows.b1 import init_b1_wf
from mrn_prep.workflows.dwi import init_dwi_wf
from mrn_prep.workflows.sinks import connect_outputs, series_sidecar
from mrn_prep.workflows.t1 import init_t1_wf


def init_maps_wf(
    sessions: Sequence[SessionInputs], *, options: Options, out_dir: str, n_threads: int = 1
) -> pe.Workflow:
    """Return the graph that makes the maps of all sessions."""
    wf = pe.Workflow(name="mrn_prep_wf")
    for session in sessions:
        if session.series:
            wf.add_nodes(
                [init_session_wf(session, options=options, out_dir=out_dir, n_threads=n_threads)]
            )
    return wf


def init_session_wf(
    session: SessionInputs, *, options: Options, out_dir: str, n_threads: int = 1
) -> pe.Workflow:
    """Return the graph that makes the maps of one session.

    Transmit field, then T1 with it; diffusion beside them. Each series is
    written to the output folder as soon as it is done, so that a series that
    fails takes nothing else with it.
    """
    wf = pe.Workflow(name=session_name(session.subject, session.session))
    b1_workflows = _add_b1(wf, session, options, out_dir)
    for vfa in session.vfa:
        _add_t1(wf, vfa, b1_workflows, options, out_dir)
    for dwi in session.dwi:
        _add_dwi(wf, dwi, options, out_dir, n_threads)
    return wf


def init_tables_wf(
    sessions: Sequence[SessionInputs],
    *,
    options: Options,
    out_dir: str,
    provenance: Mapping[str, str],
) -> pe.Workflow:
    """Return the graph that measures in the maps and writes the pages.

    It reads the output folder alone, so that what one run could not make is
    still there from an earlier one.
    """
    wf = pe.Workflow(name="mrn_prep_tables_wf")
    for session in sessions:
        one = pe.Workflow(name=session_name(session.subject, session.session))
        common = {
            "out_dir": out_dir,
            "subject": session.subject,
            "session": session.session or "",
            "regions": [region.record() for region in session.regions],
        }
        measure = pe.Node(
            MeasureSession(site=session.site, min_fraction=options.roi.min_fraction, **common),
            name="measure",
        )
        page = pe.Node(
            WritePage(remarks=list(session.remarks), provenance=dict(provenance), **common),
            name="page",
        )
        one.connect([(measure, page, same("roi_table"))])
        wf.add_nodes([one])
    return wf


def session_name(subject: str, session: str | None) -> str:
    """Return the name of a session's workflow; labels stay told apart.

    >>> session_name("01", "a"), session_name("01a", None)
    ('sub_01_ses_a_wf', 'sub_01a_wf')
    """
    name = f"sub_{subject}" + (f"_ses_{session}" if session else "")
    return re.sub(r"\W", "plus", name) + "_wf"


def _add_b1(
    wf: pe.Workflow, session: SessionInputs, options: Options, out_dir: str
) -> dict[int, pe.Workflow]:
    """Add B1+ mapping; return the workflows by the identity of their input pair."""
    workflows = {}
    for afi in session.b1:
        vfa = next((v for v in session.vfa if v.b1 is afi), None)
        b1 = init_b1_wf(afi, vfa=vfa, options=options.b1, mem_gb=afi.memory_gb)
        workflows[id(afi)] = b1
        connect_outputs(
            wf, b1, [spec.key for spec in of_modality("b1")],
            out_dir=out_dir, entities=afi.entities,
            sidecar=series_sidecar(
                sources=[*afi.sources, *(vfa.sources if vfa else ())],
                sequence_class=afi.sequence_class, options={"b1": options.b1},
            ),
        )  # fmt: skip
    return workflows


def _add_t1(
    wf: pe.Workflow,
    vfa: VFAInputs,
    b1_workflows: Mapping[int, pe.Workflow],
    options: Options,
    out_dir: str,
) -> None:
    b1 = b1_workflows.get(id(vfa.b1)) if options.t1.use_b1 else None
    t1 = init_t1_wf(
        vfa,
        with_b1=b1 is not None,
        options=options.t1,
        mem_gb=vfa.memory_gb,
    )
    if b1 is not None:
        wf.connect([(b1, t1, [(f"outputnode.{f}", f"inputnode.{f}") for f in ("b1", "b1_se")])])
    afi = vfa.b1 if b1 is not None else None
    connect_outputs(
        wf, t1, [spec.key for spec in of_modality("t1")],
        out_dir=out_dir, entities=vfa.entities,
        sidecar=series_sidecar(
            sources=[*vfa.sources, *(afi.sources if afi else ())],
            sequence_class="_".join([vfa.sequence_class, *([afi.sequence_class] if afi else [])]),
            options={"t1": options.t1} | ({"b1": options.b1} if afi else {}),
        ),
    )  # fmt: skip


def _add_dwi(
    wf: pe.Workflow, dwi: DWIInputs, options: Options, out_dir: str, n_threads: int
) -> None:
    series = init_dwi_wf(dwi, options=options.dwi, n_threads=n_threads, mem_gb=dwi.memory_gb)
    sidecar = series_sidecar(
        sources=dwi.sources, sequence_class=dwi.sequence_class, options={"dwi": options.dwi}
    )
    skip = options.dwi.not_made
    keys = [spec.key for spec in of_modality("dwi", skip)]
    keys += [spec.key for spec in files_of("dwi", skip)]
    connect_outputs(
        wf, series, keys,
        out_dir=out_dir, entities=dwi.entities, sidecar=sidecar,
    )  # fmt: skip
