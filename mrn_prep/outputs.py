"""The one table of what mrn_prep writes.

Sinks, sidecars, report panels, measurement tables, the phantom's truth and
``docs/outputs.md`` are all read from `OUTPUTS`. Adding a map is adding a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, kw_only=True)
class MapSpec:
    """One derivative image.

    Attributes
    ----------
    key
        Name of the field on the workflow's output node and in the model result.
    modality
        Which part of the app makes it (a value of ``--modalities``, or ``b1``).
    title
        A few words, for panels and plots.
    datatype, suffix, entities
        Where and under what name it is written; further entities in BIDS order.
    units
        BIDS ``Units`` on disk; ``"arbitrary"`` or ``"1"`` where it has none.
    scale
        From the model's SI value to the value on disk.
    table_units, table_scale
        Unit of tables and pages, and the factor from disk to there.
    description
        One sentence, written for the reader of the sidecar.
    physical
        Range that the quantity can take in tissue, in `units`; outside is flagged.
    display
        Window of the report panel, in `units`.
    companions
        Whether a standard-error and a status map stand beside it.
    summarise
        Whether ROI tables have rows for this map.
    labels
        Whether it holds whole numbers (masks, counts).
    """

    key: str
    modality: str
    title: str
    datatype: str
    suffix: str
    units: str
    description: str
    entities: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    table_units: str = ""
    table_scale: float = 1.0
    physical: tuple[float, float] | None = None
    display: tuple[float, float] | None = None
    companions: bool = True
    summarise: bool = True
    labels: bool = False

    def sidecar(self) -> dict[str, object]:
        """Return the fields that every sidecar of this map carries."""
        return {"Units": self.units, "Description": self.description}

    @property
    def metric(self) -> str:
        """Name of the map in tables, such as ``T1`` or ``FA``."""
        return METRICS.get(self.key, self.key)


@dataclass(frozen=True, kw_only=True)
class FileSpec:
    """One derivative that is not a map with companions: series, tables, transforms.

    `table` names the dictionary of its columns (``bids_templates/tables``).
    """

    key: str
    modality: str
    datatype: str
    suffix: str
    extension: str
    description: str
    entities: Mapping[str, str] = field(default_factory=dict)
    table: str = ""


_DTI = "diffusion tensor, weighted least squares, true b-values"
_D_MM2: dict[str, Any] = {"units": "mm^2/s", "table_units": "10^-3 mm^2/s", "table_scale": 1e3,
          "physical": (0.05e-3, 4e-3), "display": (0.0, 3e-3)}  # fmt: skip

_MAPS = (
    MapSpec(key="b1", modality="b1", title="B1+", datatype="fmap", suffix="TB1map",
            units="percent", scale=100.0, table_units="%", physical=(20.0, 200.0),
            display=(50.0, 150.0),
            description="Transmit field B1+ relative to the nominal flip angle, smoothed inside "
                        "the limb."),
    MapSpec(key="t1", modality="t1", title="T1", datatype="anat", suffix="T1map", units="s",
            table_units="ms", table_scale=1e3, physical=(0.1, 5.0), display=(0.0, 2.5),
            description="Longitudinal relaxation time, nonlinear variable flip angle."),
    MapSpec(key="m0", modality="t1", title="M0", datatype="anat", suffix="M0map",
            units="arbitrary", table_units="arbitrary",
            description="Equilibrium signal of the variable-flip-angle series, including T2* "
                        "decay and receive sensitivity."),
    MapSpec(key="fa", modality="dwi", title="FA", datatype="dwi", suffix="dwimap",
            entities={"model": "dti", "param": "fa"}, units="1", table_units="1",
            physical=(0.0, 1.0), display=(0.0, 0.8),
            description=f"Fractional anisotropy ({_DTI})."),
    MapSpec(key="md", modality="dwi", title="MD", datatype="dwi", suffix="dwimap",
            entities={"model": "dti", "param": "md"}, **_D_MM2,
            description=f"Mean diffusivity ({_DTI})."),
    MapSpec(key="ad", modality="dwi", title="AD", datatype="dwi", suffix="dwimap",
            entities={"model": "dti", "param": "ad"}, **_D_MM2,
            description=f"Axial diffusivity, the largest eigenvalue ({_DTI})."),
    MapSpec(key="rd", modality="dwi", title="RD", datatype="dwi", suffix="dwimap",
            entities={"model": "dti", "param": "rd"}, **_D_MM2,
            description=f"Radial diffusivity, the mean of the two smaller eigenvalues ({_DTI})."),
    MapSpec(key="s0", modality="dwi", title="S0", datatype="dwi", suffix="dwimap",
            entities={"model": "dti", "param": "s0"}, units="arbitrary",
            table_units="arbitrary", description=f"Signal without diffusion weighting ({_DTI})."),
    MapSpec(key="v1", modality="dwi", title="Main direction", datatype="dwi", suffix="dwimap",
            entities={"model": "dti", "param": "v1"}, units="1", companions=False,
            summarise=False,
            description="Direction of the largest diffusivity, unit vector in scanner axes "
                        f"(x right, y anterior, z superior; 4th dimension x, y, z; {_DTI})."),
    MapSpec(key="sigma", modality="dwi", title="Noise", datatype="dwi", suffix="dwimap",
            entities={"model": "mppca", "param": "sigma"}, units="arbitrary", companions=False,
            summarise=False,
            description="Standard deviation of the noise of the raw series, before denoising."),
)  # fmt: skip

_FILES = (
    FileSpec(key="dwi", modality="dwi", datatype="dwi", suffix="dwi", extension=".nii.gz",
             entities={"desc": "preproc"},
             description="Diffusion series as the tensor was fitted to it (EstimationMethod)."),
    FileSpec(key="bval", modality="dwi", datatype="dwi", suffix="dwi", extension=".bval",
             entities={"desc": "preproc"}, description="b-values of the series (s/mm^2)."),
    FileSpec(key="bvec", modality="dwi", datatype="dwi", suffix="dwi", extension=".bvec",
             entities={"desc": "preproc"},
             description="Directions of the series (FSL convention), rotated with the volumes."),
    FileSpec(key="confounds", modality="dwi", datatype="dwi", suffix="timeseries",
             extension=".tsv", entities={"desc": "confounds"}, table="confounds",
             description="Motion and eddy-current parameters of each volume."),
)  # fmt: skip

METRICS: Mapping[str, str] = MappingProxyType(
    {"b1": "B1", "t1": "T1", "m0": "M0", "fa": "FA", "md": "MD", "ad": "AD", "rd": "RD", "s0": "S0"}
)
OUTPUTS: Mapping[str, MapSpec] = MappingProxyType({row.key: row for row in _MAPS})
FILES: Mapping[str, FileSpec] = MappingProxyType({row.key: row for row in _FILES})


def of_modality(modality: str, skip: Collection[str] = ()) -> tuple[MapSpec, ...]:
    """Return the maps that one modality makes, in the table's order, but for keys in `skip`."""
    return tuple(
        spec for key, spec in OUTPUTS.items() if spec.modality == modality and key not in skip
    )


def files_of(modality: str, skip: Collection[str] = ()) -> tuple[FileSpec, ...]:
    """Return the other files that one modality makes, but for keys in `skip`."""
    return tuple(
        spec for key, spec in FILES.items() if spec.modality == modality and key not in skip
    )


def summarised() -> Iterator[MapSpec]:
    """Yield the maps that have rows in the ROI tables."""
    return (spec for spec in OUTPUTS.values() if spec.summarise)


def find_map(entities: Mapping[str, str]) -> MapSpec | None:
    """Return the row of a value map from the entities of its name.

    Companions (``desc-se``, ``desc-status``) are not value maps.

    >>> find_map({"subject": "01", "suffix": "T1map", "datatype": "anat"}).key
    't1'
    >>> find_map({"suffix": "T1map", "datatype": "anat", "desc": "se"}) is None
    True
    """
    if str(entities.get("desc", "")).endswith(("se", "status")):
        return None
    for spec in OUTPUTS.values():
        wanted = {"suffix": spec.suffix, "datatype": spec.datatype, **spec.entities}
        if all(entities.get(name) == value for name, value in wanted.items()):
            return spec
    return None


QUALITY: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "noise_sigma": ("arbitrary", "Standard deviation of the noise of the raw series."),
        "snr": ("1", "Median signal of the strongest image inside the limb over the noise."),
        "fitted_fraction": ("1", "Part of the limb's voxels that were fitted."),
        "b1_median": ("%", "Median B1+ inside the limb."),
        "b1_p05": ("%", "5th percentile of B1+ inside the limb."),
        "b1_p95": ("%", "95th percentile of B1+ inside the limb."),
        "n_volumes": ("1", "Volumes of the diffusion series."),
        "n_b0": ("1", "Volumes with b up to 5 s/mm2."),
        "n_directions": ("1", "Diffusion-weighted volumes in the tensor fit."),
        "n_components": ("1", "Median number of signal components that denoising kept."),
        "displacement_mean": ("mm", "Mean displacement of the limb's voxels from the reference."),
        "displacement_max": ("mm", "Largest displacement of a volume from the reference."),
        "framewise_displacement_mean": ("mm", "Mean displacement from one volume to the next."),
        "n_not_registered": ("1", "Volumes that could not be registered."),
    }
)
"""Quality metrics: name -> (unit, description)."""
