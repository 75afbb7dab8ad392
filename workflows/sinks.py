"""What leaves a workflow for the output folder: one factory, driven by the outputs table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nipype.pipeline import engine as pe

from mrn_prep import __version__
from mrn_prep.interfaces.sinks import SaveFiles, SaveMaps, map_files
from mrn_prep.outputs import FILES, OUTPUTS


def connect_outputs(
    wf: pe.Workflow,
    source: pe.Workflow,
    keys: Sequence[str],
    *,
    out_dir: str,
    entities: Mapping[str, str],
    sidecar: Mapping[str, object],
) -> None:
    """Write what a workflow made, as the rows `keys` of the outputs table say.

    Maps get their companions and sidecars; series, gradient tables and time
    courses are a node of their own.
    """
    common = {"out_dir": out_dir, "entities": dict(entities), "sidecar": dict(sidecar)}
    maps = [key for key in keys if key in OUTPUTS]
    files = [key for key in keys if key in FILES]
    if maps:
        fields = dict.fromkeys(field for key in maps for _, field in map_files(key))
        sink = pe.Node(SaveMaps(maps, **common), name=f"save_{source.name}")
        _connect(wf, source, sink, fields)
    if files:
        sink = pe.Node(SaveFiles(files, **common), name=f"save_series_{source.name}")
        _connect(wf, source, sink, files)


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


def _connect(wf: pe.Workflow, source: pe.Workflow, sink: pe.Node, fields: Iterable[str]) -> None:
    wf.connect([(source, sink, [(f"outputnode.{field}", field) for field in (*fields, "facts")])])
