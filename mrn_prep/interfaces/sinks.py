"""Nipype face of `mrn_prep.io.derivatives`: what a workflow leaves in the output folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    DynamicTraitedSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.interfaces.io import add_traits

from mrn_prep.io.atomic import whole, write_json
from mrn_prep.io.derivatives import file_path, sidecar_path, write_map
from mrn_prep.io.images import load
from mrn_prep.io.tables import dictionary
from mrn_prep.outputs import FILES, OUTPUTS, Product


class _SaveInputSpec(DynamicTraitedSpec, BaseInterfaceInputSpec):
    out_dir = traits.Str(mandatory=True, desc="derivative data set")
    entities = traits.Dict(mandatory=True, desc="what the names share")
    sidecar = traits.Dict(desc="Sources, SequenceClass, Options ... of the series")
    facts = traits.Dict(desc="Quality, ValidityFlags, EstimationMethod from the step")


class _SaveOutputSpec(TraitedSpec):
    out_files = traits.List(File(exists=True), desc="what was written")


class _Save(SimpleInterface):
    """A step that writes into the output folder, whatever the cache says.

    It always runs: it is quick, and a file deleted from the output folder
    comes back without the steps before it being run again.
    """

    input_spec = _SaveInputSpec
    output_spec = _SaveOutputSpec
    _always_run = True

    def __init__(self, products: Sequence[Product] = (), **inputs: Any) -> None:
        super().__init__(**inputs)
        self._products = list(products)
        add_traits(self.inputs, list(dict.fromkeys(self._fields())))

    def _fields(self) -> list[str]:
        return [product.key for product in self._products]

    def _sidecar(self) -> dict[str, object]:
        facts = dict(self.inputs.facts or {})
        flags = set(self.inputs.sidecar.get("ValidityFlags", [])) | set(
            facts.pop("ValidityFlags", [])
        )
        return {**self.inputs.sidecar, **facts, "ValidityFlags": sorted(flags)}


class SaveMaps(_Save):
    """Write maps with their companions, as the rows of `OUTPUTS` say.

    Inputs are named by the rows' keys, with ``_se`` for standard errors; the rows
    of one model share one status map, which each product names.
    """

    def _fields(self) -> list[str]:
        return [name for product in self._products for _, name in map_files(product)]

    def _run_interface(self, runtime: Any) -> Any:
        written = []
        sidecar = self._sidecar()
        for position, product in enumerate(self._products):
            # The numbers on the series stand once, beside its first map.
            own = sidecar if position == 0 else {k: v for k, v in sidecar.items() if k != "Quality"}
            for companion, name in map_files(product):
                path = write_map(
                    self.inputs.out_dir,
                    OUTPUTS[product.key],
                    self.inputs.entities,
                    load(getattr(self.inputs, name)),
                    own,
                    companion,
                    product.method,
                )
                written.append(str(path))
        self._results["out_files"] = written
        return runtime


class SaveFiles(_Save):
    """Copy series, gradient tables and time courses, as the rows of `FILES` say."""

    def _run_interface(self, runtime: Any) -> Any:
        written = []
        sidecar = self._sidecar()
        for key in self._fields():
            source = Path(getattr(self.inputs, key))
            spec = FILES[key]
            path = Path(self.inputs.out_dir) / file_path(spec, self.inputs.entities)
            with whole(path) as part:
                if spec.extension == ".nii.gz":
                    load(source).to_filename(part)
                else:
                    shutil.copyfile(source, part)
            written.append(str(path))
            if spec.extension == ".nii.gz":
                own = {"Description": spec.description, "SkullStripped": False, **sidecar}
                write_json(sidecar_path(path), own)
            elif spec.extension in (".trk", ".txt"):
                write_json(sidecar_path(path), {"Description": spec.description, **sidecar})
            elif spec.table:
                write_json(sidecar_path(path), dictionary(spec.table))
        self._results["out_files"] = written
        return runtime


def map_files(product: Product) -> list[tuple[str, str]]:
    """Return (companion, input name) of the files that a map comes as."""
    key = product.key
    if not OUTPUTS[key].companions:
        return [("", key)]
    se = [("se", f"{key}_se")] if OUTPUTS[key].with_se else []
    return [("", key), *se, ("status", product.status)]
