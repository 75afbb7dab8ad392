"""What leaves a workflow for the output folder: one factory, driven by the outputs table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nipype.pipeline import engine as pe

from mrn_prep import __version__
from mrn_prep.interfaces.sinks import SaveFiles, SaveMaps, map_files


def connect_maps(
    wf: pe.Workflow,
    source: pe.Workflow,
    name: str,
    keys: Sequence[str],
    *,
    out_dir: str,
    entities: Mapping[str, str],
    sidecar: Mapping[str, object],
) -> None:
    """Write the maps `keys` of a workflow, with their companions and sidecars."""
    sink = pe.Node(
        SaveMaps(keys, out_dir=out_dir, entities=dict(entities), sidecar=dict(sidecar)),
        name=name,
    )
    fields = dict.fromkeys(field for key in keys for _, field in map_files(key))
    _connect(wf, source, sink, fields)


def connect_files(
    wf: pe.Workflow,
    source: pe.Workflow,
    name: str,
    keys: Sequence[str],
    *,
    out_dir: str,
    entities: Mapping[str, str],
    sidecar: Mapping[str, object],
) -> None:
    """Write the files `keys` of a workflow (series, gradient tables, time courses)."""
    sink = pe.Node(
        SaveFiles(keys, out_dir=out_dir, entities=dict(entities), sidecar=dict(sidecar)),
        name=name,
    )
    _connect(wf, source, sink, dict.fromkeys(keys))


def series_sidecar(
    *,
    sources: Sequence[str],
    sequence_class: str,
    options: Mapping[str, Any],
    flags: Sequence[str] = (),
) -> dict[str, object]:
    """Return what the sidecars of all maps of one series tell.

    Parameters
    ----------
    sources
        BIDS URIs of the files that were used.
    sequence_class
        Fingerprint of the protocol.
    options
        The option records that made the maps, by their section's name.
    flags
        Validity flags known before anything is computed.
    """
    return {
        "Sources": list(dict.fromkeys(sources)),
        "SequenceClass": sequence_class,
        "Options": {section: asdict(record) for section, record in options.items()},
        "ValidityFlags": list(flags),
        "SoftwareVersion": __version__,
    }


def _connect(
    wf: pe.Workflow, source: pe.Workflow, sink: pe.Node, fields: Mapping[str, None]
) -> None:
    wf.connect([(source, sink, [(f"outputnode.{field}", field) for field in (*fields, "facts")])])
