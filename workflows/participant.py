"""The graphs of a run: all sessions' maps, then all sessions' tables and pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nipype.pipeline import engine as pe

from mrn_prep.inputs import (
    AnatomyInputs,
    B1Inputs,
    CorrectedInputs,
    DCEInputs,
    DWIInputs,
    IRInputs,
    MEGREInputs,
    MESEInputs,
    MTRInputs,
    MTSInputs,
    RegionFile,
    SeriesInputs,
    SessionInputs,
    VFAInputs,
)
from mrn_prep.interfaces.session import MeasureSession, WritePage
from mrn_prep.options import Options
from mrn_prep.workflows._graph import same
from mrn_prep.workflows.b1 import init_b1_wf
from mrn_prep.workflows.dce import init_dce_wf
from mrn_prep.workflows.dwi import init_dwi_wf
from mrn_prep.workflows.fatwater import init_fatwater_wf
from mrn_prep.workflows.mt import init_mtr_wf, init_mts_wf
from mrn_prep.workflows.sinks import connect_outputs, series_sidecar
from mrn_prep.workflows.t1 import init_ir_wf, init_t1_wf
from mrn_prep.workflows.t2 import init_anatomy_wf, init_t2_wf


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

    Transmit field and fat fraction first, then what they correct; diffusion
    beside them. Each series is written to the output folder as soon as it is
    done, so that a series that fails takes nothing else with it.
    """
    wf = pe.Workflow(name=session_name(session.subject, session.session))
    made: dict[int, pe.Workflow] = {}
    for series in session.series:
        used = _uses(series, session, options)
        one = _factory(series, session, used, options, n_threads)
        for other, fields in used:
            pairs = [(f"outputnode.{field}", f"inputnode.{field}") for field in fields]
            wf.connect([(made[id(other)], one, pairs)])
        made[id(series)] = one
        others = [other for other, _ in used]
        sections = dict.fromkeys(name for s in (series, *others) for name in s.sections)
        connect_outputs(
            wf, one, series.products(options),
            out_dir=out_dir, entities=series.entities,
            sidecar=series_sidecar(
                modality=series.modality,
                sources=[source for s in (series, *others) for source in s.sources],
                sequence_class="_".join(
                    s.sequence_class for s in (series, *others) if not isinstance(s, MEGREInputs)
                    or s is series
                ),
                options={name: getattr(options, name) for name in sections},
            ),
        )  # fmt: skip
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
            MeasureSession(
                site=session.site,
                min_fraction=options.roi.min_fraction,
                reference=options.roi.reference,
                **common,
            ),
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


def _uses(
    series: SeriesInputs, session: SessionInputs, options: Options
) -> list[tuple[SeriesInputs, tuple[str, ...]]]:
    """Return the series whose maps correct this one, and which of their maps."""
    used: list[tuple[SeriesInputs, tuple[str, ...]]] = []
    b1 = series.b1 if isinstance(series, CorrectedInputs) else None
    if b1 is not None and getattr(options, series.sections[0]).use_b1:
        used.append((b1, ("b1", "b1_se")))
    if isinstance(series, DCEInputs) and series.vfa is not None and not options.dce.t1_s:
        # the series as it is now: it may have lost its B1+, or be left out
        t1 = [vfa for vfa in session.of(VFAInputs) if vfa.files == series.vfa.files]
        used += [(vfa, ("t1", "t1_se")) for vfa in t1]
    if isinstance(series, MESEInputs) and series.method(options) == "water-fat":
        complex_ = [s for s in session.of(MEGREInputs) if s.as_used(options).kind != "magnitude"]
        used += [(s, ("pdff", "pdff_se")) for s in complex_[:1]]
    return used


def _factory(
    series: SeriesInputs,
    session: SessionInputs,
    used: Sequence[tuple[SeriesInputs, tuple[str, ...]]],
    options: Options,
    n_threads: int,
) -> pe.Workflow:
    """Return the workflow of one series."""
    mem_gb = series.memory_gb
    with_b1 = any(isinstance(other, B1Inputs) for other, _ in used)
    match series:
        case B1Inputs():
            vfa = next((v for v in session.of(VFAInputs) if v.b1 is series), None)
            held = max(mem_gb, vfa.memory_gb) if vfa else mem_gb
            return init_b1_wf(series, vfa=vfa, options=options.b1, mem_gb=held)
        case VFAInputs():
            return init_t1_wf(series, with_b1=with_b1, options=options.t1, mem_gb=mem_gb)
        case IRInputs():
            return init_ir_wf(series, options=options.t1, mem_gb=mem_gb)
        case MEGREInputs():
            megre = series.as_used(options)
            denoise = series.denoised(options)
            return init_fatwater_wf(megre, denoise=denoise, n_threads=n_threads, mem_gb=mem_gb)
        case MESEInputs():
            with_pdff = any(isinstance(other, MEGREInputs) for other, _ in used)
            return init_t2_wf(
                series, with_b1=with_b1, with_pdff=with_pdff, options=options,
                fat_region=_region(session, options.t2.fat_region),
                n_threads=n_threads, mem_gb=mem_gb,
            )  # fmt: skip
        case AnatomyInputs():
            return init_anatomy_wf(series)
        case MTRInputs():
            return init_mtr_wf(series, options=options.mt, mem_gb=mem_gb)
        case MTSInputs():
            return init_mts_wf(series, with_b1=with_b1, options=options.mt, mem_gb=mem_gb)
        case DCEInputs():
            with_t1 = any(isinstance(other, VFAInputs) for other, _ in used)
            return init_dce_wf(
                series, with_b1=with_b1, with_t1=with_t1, regions=session.regions,
                options=options.dce, min_fraction=options.roi.min_fraction,
                n_threads=n_threads, mem_gb=mem_gb,
            )  # fmt: skip
        case DWIInputs():
            return init_dwi_wf(series, options=options, n_threads=n_threads, mem_gb=mem_gb)
    raise TypeError(f"There is no workflow for {type(series).__name__}.")


def _region(session: SessionInputs, name: str) -> RegionFile | None:
    """Return a region by its name, alone in its file."""
    for file in session.regions:
        for region in file.regions:
            if name and region.name == name:
                return replace(file, regions=(region,))
    return None
