"""The maps of one session in the output folder, with what belongs to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.io.dataset import BidsFile, Dataset, read_json
from mrn_prep.io.derivatives import map_path, sidecar_path
from mrn_prep.io.images import array, load
from mrn_prep.outputs import MapSpec, find_map, method_of

# Entities that say which map of a series it is, not which series.
_MAP_ENTITIES = frozenset(
    {"subject", "session", "suffix", "datatype", "extension", "model", "param", "desc"}
)
_SHORT = {"acquisition": "acq", "ceagent": "ce", "reconstruction": "rec", "direction": "dir"}


@dataclass(frozen=True)
class DerivedMap:
    """A value map in the output folder, with its companions and sidecar."""

    dataset: Dataset
    file: BidsFile
    spec: MapSpec

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Its own sidecar; what that of the default method says is not inherited."""
        try:
            return read_json(sidecar_path(self.file.full))
        except (OSError, ValueError):
            return {}

    @property
    def method(self) -> str:
        """How it was made, as its name says; empty for the default method of the quantity."""
        return method_of(self.file.entities, self.spec)

    @property
    def modality(self) -> str:
        """Modality of the series that it was made from."""
        return str(self.metadata.get("Modality", self.spec.modality))

    @property
    def run(self) -> str:
        """The entities that tell this series from others, or ``n/a``."""
        return run_name(self.file.entities)

    @property
    def sequence_class(self) -> str:
        """Fingerprint of the protocol, or ``n/a``."""
        return str(self.metadata.get("SequenceClass", "n/a"))

    @property
    def flags(self) -> frozenset[str]:
        """Validity flags of the whole map."""
        return frozenset(self.metadata.get("ValidityFlags", []))

    def companion(self, name: str) -> NDArray[np.float32] | None:
        """Return its standard-error (``se``) or status map, None where there is none."""
        path = self.dataset.root / map_path(self.spec, self.file.entities, name, self.method)
        return array(load(path)) if path.exists() else None


def run_name(entities: Mapping[str, str]) -> str:
    """Return the entities that tell series of one kind apart.

    >>> run_name({"subject": "01", "acquisition": "fast", "run": "2", "suffix": "T1map"})
    'acq-fast_run-2'
    >>> run_name({"subject": "01"})
    'n/a'
    """
    kept = (f"{_SHORT.get(k, k)}-{v}" for k, v in entities.items() if k not in _MAP_ENTITIES)
    return "_".join(kept) or "n/a"


def find_maps(out_dir: str | Path, subject: str, session: str | None) -> list[DerivedMap]:
    """Find the value maps of one session in the output folder, in the order of their names."""
    dataset = Dataset(Path(out_dir), "mrn_prep")
    found = []
    for file in dataset.files(subject, session):
        spec = find_map(file.entities) if file.is_image else None
        if spec is not None:
            found.append(DerivedMap(dataset, file, spec))
    return found
