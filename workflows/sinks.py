"""What leaves a workflow for the output folder: one factory, driven by the outputs table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from nipype.pipeline import engine as pe

from mrn_prep import __version__
from mrn_prep.interfaces.sinks import SaveFiles, SaveMaps, map_files
from mrn_prep.io.derivatives import map_path
from mrn_prep.outputs import FILES, OUTPUTS, Product


def connect_outputs(
    wf: pe.Workflow,
    source: pe.Workflow,
    products: Sequence[Product],
    *,
    out_dir: str,
    entities: Mapping[str, str],
    sidecar: Mapping[str, object],
) -> None:
    """Write what a workflow made, as the rows of the outputs table say.

    Maps get their companions and sidecars; series, gradient tables and time
    courses are a node of their own.
    """
    maps = [product for product in products if product.key in OUTPUTS]
    files = [product for product in products if product.key in FILES]
    paths = [map_path(OUTPUTS[p.key], entities, method=p.method) for p in maps]
    names = [path.rpartition("/")[2] for path in paths]
    common = {
        "out_dir": out_dir,
        "entities": dict(entities),
        "sidecar": {**sidecar, "SeriesMaps": names},
    }
    if maps:
        fields = dict.fromkeys(field for product in maps for _, field in map_files(product))
        sink = pe.Node(SaveMaps(maps, **common), name=f"save_{source.name}")
        _connect(wf, source, sink, fields)
    if files:
        sink = pe.Node(SaveFiles(files, **common), name=f"save_series_{source.name}")
        _connect(wf, source, sink, [product.key for product in files])


def series_sidecar(
    *,
    modality: str,
    sources: Sequence[str],
    sequence_class: str,
    options: Mapping[str, Any],
    flags: Sequence[str] = (),
) -> dict[str, object]:
    """Return what the sidecars of all maps of one series tell.

    Parameters
    ----------
    modality
        That of the series, whatever its maps are.
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
        "Modality": modality,
        "Sources": list(dict.fromkeys(sources)),
        "SequenceClass": sequence_class,
        "Options": {section: asdict(record) for section, record in options.items()},
        "ValidityFlags": list(flags),
        "SoftwareVersion": __version__,
    }


def _connect(wf: pe.Workflow, source: pe.Workflow, sink: pe.Node, fields: Iterable[str]) -> None:
    wf.connect([(source, sink, [(f"outputnode.{field}", field) for field in (*fields, "facts")])])
