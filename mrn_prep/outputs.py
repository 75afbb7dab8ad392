"""The one table of what mrn_prep writes.

Sinks, sidecars, report panels, measurement tables, the phantom's truth and
``docs/outputs.md`` are all read from `OUTPUTS`. Adding a map is adding a row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple


class Product(NamedTuple):
    """One derivative that a series becomes.

    `key` is its row in `OUTPUTS` or `FILES`; `method` goes into ``desc-`` and is empty
    for the default method of the quantity; `status` names the status map that belongs to
    it among those of the workflow.
    """

    key: str
    method: str = ""
    status: str = "status"


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
        Whether a status map stands beside it, and a standard error.
    has_se
        Whether it can have a standard error at all.
    summarise
        Whether ROI tables have rows for this map.
    labels
        Whether it holds whole numbers (masks, counts).
    fat_sensitive
        Whether fat in the voxel changes the value, so that regions with fat are flagged.
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
    has_se: bool = True
    summarise: bool = True
    labels: bool = False
    fat_sensitive: bool = False

    def sidecar(self) -> dict[str, object]:
        """Return the fields that every sidecar of this map carries."""
        return {"Units": self.units, "Description": self.description}

    @property
    def with_se(self) -> bool:
        """Whether a standard error stands beside it."""
        return self.companions and self.has_se

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
            description="Transmit field B1+ relative to the nominal flip angle (EstimationMethod "
                        "tells of how it was smoothed)."),
    MapSpec(key="t1", modality="t1", title="T1", datatype="anat", suffix="T1map", units="s",
            table_units="ms", table_scale=1e3, physical=(0.1, 5.0), display=(0.0, 2.5),
            fat_sensitive=True, description="Longitudinal relaxation time."),
    MapSpec(key="r1", modality="t1", title="R1", datatype="anat", suffix="R1map", units="1/s",
            table_units="1/s", physical=(0.2, 10.0), display=(0.0, 3.0), fat_sensitive=True,
            description="Longitudinal relaxation rate."),
    MapSpec(key="m0", modality="t1", title="M0", datatype="anat", suffix="M0map",
            units="arbitrary", table_units="arbitrary",
            description="Signal at full recovery and without the decay that the fit models; "
                        "receive sensitivity is in it."),
    MapSpec(key="t2", modality="t2", title="T2", datatype="anat", suffix="T2map", units="s",
            table_units="ms", table_scale=1e3, physical=(0.015, 0.5), display=(0.0, 0.1),
            description="Transverse relaxation time (EstimationMethod tells of what)."),
    MapSpec(key="t2w", modality="t2", title="T2-weighted image", datatype="anat", suffix="T2w",
            entities={"desc": "preproc"}, units="arbitrary", table_units="arbitrary",
            companions=False, summarise=False,
            description="Image in which signal ratios to a reference tissue are measured."),
    MapSpec(key="pdff", modality="fatwater", title="Fat fraction", datatype="anat",
            suffix="PDFFmap", units="percent", scale=100.0, table_units="%",
            physical=(-5.0, 105.0), display=(0.0, 100.0),
            description="Proton-density fat fraction, fat over fat plus water."),
    MapSpec(key="t2star", modality="fatwater", title="T2*", datatype="anat",
            suffix="T2starmap", units="s", table_units="ms", table_scale=1e3,
            physical=(0.002, 0.3), display=(0.0, 0.06),
            description="Effective transverse relaxation time."),
    MapSpec(key="r2star", modality="fatwater", title="R2*", datatype="anat",
            suffix="R2starmap", units="1/s", table_units="1/s", physical=(2.0, 500.0),
            display=(0.0, 120.0), description="Effective transverse relaxation rate."),
    MapSpec(key="water", modality="fatwater", title="Water", datatype="anat", suffix="MEGRE",
            entities={"desc": "water"}, units="arbitrary", table_units="arbitrary",
            companions=False, summarise=False,
            description="Signal of water at echo time 0."),
    MapSpec(key="fat", modality="fatwater", title="Fat", datatype="anat", suffix="MEGRE",
            entities={"desc": "fat"}, units="arbitrary", table_units="arbitrary",
            companions=False, summarise=False, description="Signal of fat at echo time 0."),
    MapSpec(key="field", modality="fatwater", title="Off-resonance", datatype="fmap",
            suffix="fieldmap", entities={"desc": "fatwater"}, units="Hz", table_units="Hz",
            companions=False, summarise=False, display=(-200.0, 200.0),
            description="Frequency of water relative to the scanner's, found with fat and "
                        "water told apart."),
    MapSpec(key="mtr", modality="mt", title="MTR", datatype="anat", suffix="MTRmap",
            units="percent", scale=100.0, table_units="%", physical=(-5.0, 80.0),
            display=(0.0, 60.0), fat_sensitive=True, description="Magnetisation transfer ratio."),
    MapSpec(key="mtsat", modality="mt", title="MTsat", datatype="anat", suffix="MTsat",
            units="percent", scale=100.0, table_units="%", physical=(-1.0, 15.0),
            display=(0.0, 6.0), fat_sensitive=True,
            description="Magnetisation transfer saturation by one pulse."),
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
    MapSpec(key="density", modality="dwi", title="Streamlines", datatype="dwi", suffix="dwimap",
            entities={"model": "dti", "param": "density"}, units="1", table_units="1",
            companions=False, summarise=False, labels=True,
            description="Streamlines of nerves in each voxel, summed over the nerves; their "
                        "number depends on the seeds and has no meaning of its own."),
    MapSpec(key="adc", modality="dwi", title="ADC", datatype="dwi", suffix="dwimap",
            entities={"model": "adc", "param": "adc"}, **_D_MM2,
            description="Apparent diffusion coefficient, geometric mean over directions."),
    MapSpec(key="ivim_f", modality="dwi", title="IVIM f", datatype="dwi", suffix="dwimap",
            entities={"model": "ivim", "param": "f"}, units="1", table_units="1",
            physical=(-0.05, 1.0), display=(0.0, 0.3),
            description="Perfusion fraction (IVIM)."),
    MapSpec(key="ivim_d", modality="dwi", title="IVIM D", datatype="dwi", suffix="dwimap",
            entities={"model": "ivim", "param": "d"}, **_D_MM2,
            description="Diffusivity of tissue without perfusion (IVIM)."),
    MapSpec(key="ivim_dstar", modality="dwi", title="IVIM D*", datatype="dwi", suffix="dwimap",
            entities={"model": "ivim", "param": "dstar"}, units="mm^2/s",
            table_units="10^-3 mm^2/s", table_scale=1e3, physical=(1e-3, 0.5),
            display=(0.0, 0.1), description="Pseudo-diffusivity of perfusion (IVIM)."),
    MapSpec(key="gfa", modality="dwi", title="GFA", datatype="dwi", suffix="dwimap",
            entities={"model": "csa", "param": "gfa"}, units="1", table_units="1", has_se=False,
            physical=(0.0, 1.0), display=(0.0, 0.5),
            description="Generalised fractional anisotropy (q-ball imaging in constant solid "
                        "angle, nerves and muscles)."),
    MapSpec(key="peaks", modality="dwi", title="Fibre directions", datatype="dwi",
            suffix="dwimap", entities={"model": "csa", "param": "peaks"}, units="1",
            companions=False, summarise=False,
            description="Up to three fibre directions, the largest first, each a vector in "
                        "scanner axes (x right, y anterior, z superior) as long as its peak is "
                        "high relative to the largest; 4th dimension x, y, z of each in turn, "
                        "NaN where there are fewer (q-ball imaging in constant solid angle)."),
    MapSpec(key="blip_field", modality="dwi", title="Off-resonance", datatype="fmap",
            suffix="fieldmap", entities={"desc": "blips"}, units="Hz", table_units="Hz",
            companions=False, summarise=False, display=(-150.0, 150.0),
            description="Off-resonance that distorts the series, from images with reversed "
                        "phase encoding."),
    MapSpec(key="sigma", modality="dwi", title="Noise", datatype="dwi", suffix="dwimap",
            entities={"model": "mppca", "param": "sigma"}, units="arbitrary", companions=False,
            summarise=False,
            description="Standard deviation of the noise of the raw series, before denoising."),
    MapSpec(key="denoising_residual", modality="dwi", title="Removed by denoising",
            datatype="dwi", suffix="dwimap", entities={"model": "mppca", "param": "residual"},
            units="1", table_units="1", companions=False, summarise=False, display=(0.0, 2.0),
            description="Root mean square over the volumes of what denoising removed, over the "
                        "noise; where a region lies above 1, signal was lost."),
)  # fmt: skip

_PER_MIN: dict[str, Any] = {"units": "1/min", "scale": 60.0, "table_units": "1/min"}
_FRACTION: dict[str, Any] = {"units": "1", "table_units": "1"}
_SECONDS: dict[str, Any] = {"units": "s", "table_units": "s"}

# parameter: title, description, and what every row of it has
_DCE_PARAMETERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ktrans": ("Ktrans", "Transfer constant from plasma to the extravascular space",
               {**_PER_MIN, "physical": (0.0, 3.0), "display": (0.0, 0.3)}),
    "kep": ("kep", "Rate constant from the extravascular space back to plasma",
            {**_PER_MIN, "physical": (0.0, 20.0), "display": (0.0, 2.0)}),
    "ve": ("ve", "Volume fraction of the extravascular-extracellular space",
           {**_FRACTION, "physical": (0.0, 1.0), "display": (0.0, 0.5)}),
    "vp": ("vp", "Volume fraction of plasma",
           {**_FRACTION, "physical": (-0.05, 1.0), "display": (0.0, 0.1)}),
    "ps": ("PS", "Permeability-surface area product",
           {**_PER_MIN, "physical": (0.0, 3.0), "display": (0.0, 0.3)}),
    "fp": ("Fp", "Plasma flow", {**_PER_MIN, "physical": (0.0, 10.0), "display": (0.0, 1.0)}),
    "delay": ("Delay", "Delay of the bolus behind the input function",
              {**_SECONDS, "physical": (-5.0, 20.0), "display": (0.0, 10.0)}),
}  # fmt: skip
_DCE_MODELS = {
    "tofts": ("Tofts model", ("ktrans", "kep", "ve")),
    "etofts": ("extended Tofts model", ("ktrans", "kep", "ve", "vp")),
    "patlak": ("Patlak model", ("ps", "vp")),
    "2cum": ("two-compartment uptake model", ("fp", "ps", "vp")),
    "2cxm": ("two-compartment exchange model", ("fp", "ps", "vp", "ve")),
}
_SEMI: dict[str, tuple[str, str, dict[str, Any]]] = {
    "arrival": ("Arrival", "Time at which the signal begins to rise", _SECONDS),
    "ttp": ("Time to peak", "Time from arrival to the highest frame", _SECONDS),
    "peak": ("Peak enhancement", "Highest signal over that before contrast, less 1", _FRACTION),
    "washin": ("Wash-in", "Relative enhancement per time from arrival to the peak", _PER_MIN),
    "washout": ("Wash-out", "Relative enhancement lost per time after the peak", _PER_MIN),
    "iauc60": ("iAUC60", "Area under the concentration for 60 s from arrival",
               {"units": "mM*s", "table_units": "mM s"}),
    "iauc90": ("iAUC90", "Area under the concentration for 90 s from arrival",
               {"units": "mM*s", "table_units": "mM s"}),
}  # fmt: skip


def _dce_rows() -> Iterator[MapSpec]:
    """Yield the rows of DCE perfusion: each model's parameters, enhancement, the choice."""
    common: dict[str, Any] = {"modality": "dce", "datatype": "perf", "suffix": "dcemap"}
    for model, (name, own) in _DCE_MODELS.items():
        for param in (*own, "delay"):
            title, text, rest = _DCE_PARAMETERS[param]
            yield MapSpec(key=f"{model}_{param}", title=title,
                          entities={"model": model, "param": param},
                          description=f"{text} ({name}).", **common, **rest)  # fmt: skip
        yield MapSpec(key=f"{model}_aicc", title="AICc", units="1", table_units="1",
                      entities={"model": model, "param": "aicc"}, companions=False,
                      summarise=False,
                      description=f"Corrected Akaike criterion of the {name}; the least is best.",
                      **common)  # fmt: skip
    for param, (title, text, rest) in _SEMI.items():
        yield MapSpec(key=f"semi_{param}", title=title, companions=False,
                      entities={"model": "semi", "param": param}, description=f"{text}.",
                      **common, **rest)  # fmt: skip
    yield MapSpec(key="vessel", title="Voxels of the input function", units="1", table_units="1",
                  entities={"model": "aif", "param": "voxels"}, companions=False,
                  summarise=False, labels=True,
                  description="Voxels that the input function is the mean of; all 0 where it is "
                  "not of the series.", **common)  # fmt: skip
    yield MapSpec(key="select_model", title="Chosen model", units="1", table_units="1",
                  entities={"model": "select", "param": "model"}, companions=False,
                  summarise=False, labels=True,
                  description="Model of the least AICc: "
                  + ", ".join(f"{i} {model}" for i, model in enumerate(_DCE_MODELS, start=1))
                  + "; 0 for none.", **common)  # fmt: skip


def _dce_status(model: str, param: str) -> str:
    """Return the status map of a parameter: kep and ve may stay open where Ktrans is known."""
    open_ = param in ("kep", "ve")
    return f"{model}_ve_status" if open_ else f"{model}_status"


TENSOR = ("fa", "md", "ad", "rd", "s0", "v1")
"""The maps of the diffusion tensor."""
TRACTS = ("density", "tracts", "nerve_profile")
"""What following the nerves gives."""
QBALL = ("gfa", "peaks")
"""The maps of q-ball imaging."""
IVIM = ("ivim_f", "ivim_d", "ivim_dstar")
"""The maps of intravoxel incoherent motion."""
DCE_SELECTED = tuple(_DCE_MODELS)
"""The models among which one can be chosen, in the order of the map's numbers."""


def dce_products(model: str, *, delay: bool) -> tuple[Product, ...]:
    """Return the maps of a model of perfusion, or of the choice among all (``select``).

    >>> [product.key for product in dce_products("patlak", delay=False)][:3]
    ['patlak_ps', 'patlak_vp', 'semi_arrival']
    >>> dce_products("etofts", delay=True)[0].status
    'etofts_status'
    """
    models = DCE_SELECTED if model == "select" else (model,)
    found = []
    for name in models:
        own = (*_DCE_MODELS[name][1], *(("delay",) if delay else ()))
        found += [Product(f"{name}_{param}", "", _dce_status(name, param)) for param in own]
        found += [Product(f"{name}_aicc")] * (model == "select")
    found += [Product("select_model")] * (model == "select")
    return (*found, *(Product(f"semi_{param}") for param in _SEMI))


_FILES = (
    FileSpec(key="dwi", modality="dwi", datatype="dwi", suffix="dwi", extension=".nii.gz",
             entities={"desc": "preproc"},
             description="Diffusion series as the tensor was fitted to it (EstimationMethod)."),
    FileSpec(key="bval", modality="dwi", datatype="dwi", suffix="dwi", extension=".bval",
             entities={"desc": "preproc"}, description="b-values of the series (s/mm^2)."),
    FileSpec(key="bvec", modality="dwi", datatype="dwi", suffix="dwi", extension=".bvec",
             entities={"desc": "preproc"},
             description="Directions of the series (FSL convention), rotated with the volumes."),
    FileSpec(key="tracts", modality="dwi", datatype="dwi", suffix="tractogram", extension=".trk",
             entities={"desc": "nerves"},
             description="Streamlines of the nerves (world mm; property bundle tells the nerve)."),
    FileSpec(key="nerve_profile", modality="dwi", datatype="dwi", suffix="measurements",
             extension=".tsv", entities={"desc": "nerves"}, table="nerve_profile",
             description="FA, MD, AD and RD along each nerve."),
    FileSpec(key="dce", modality="dce", datatype="perf", suffix="dce", extension=".nii.gz",
             entities={"desc": "preproc"},
             description="Dynamic series, its frames brought into one place."),
    FileSpec(key="dce_confounds", modality="dce", datatype="perf", suffix="timeseries",
             extension=".tsv", entities={"desc": "confounds"}, table="confounds",
             description="Motion parameters of each frame."),
    FileSpec(key="aif", modality="dce", datatype="perf", suffix="timeseries", extension=".tsv",
             entities={"desc": "aif"}, table="aif",
             description="Input function: concentration in blood and in plasma."),
    FileSpec(key="curves", modality="dce", datatype="perf", suffix="timeseries",
             extension=".tsv", entities={"desc": "curves"}, table="curves",
             description="Mean concentration of each region, measured and fitted."),
    FileSpec(key="curve_fits", modality="dce", datatype="perf", suffix="measurements",
             extension=".tsv", entities={"desc": "curves"}, table="curve_fits",
             description="Parameters of the models fitted to the mean curves of regions."),
    FileSpec(key="confounds", modality="dwi", datatype="dwi", suffix="timeseries",
             extension=".tsv", entities={"desc": "confounds"}, table="confounds",
             description="Motion and eddy-current parameters of each volume."),
    FileSpec(key="xfm", modality="dwi", datatype="dwi", suffix="xfm", extension=".txt",
             entities={"from": "orig", "to": "dwiref", "mode": "image", "desc": "motion"},
             description="Rigid transforms of the volumes, in their order (ITK text, one per "
                         "volume, as nitransforms reads it; world points of the reference to "
                         "those of the volume). Eddy currents are in desc-confounds, distortion "
                         "by the field is desc-blips_fieldmap."),
    FileSpec(key="outliers", modality="dwi", datatype="dwi", suffix="timeseries",
             extension=".tsv", entities={"desc": "outliers"}, table="outliers",
             description="How far each slice of each volume is from its prediction."),
    FileSpec(key="before", modality="dwi", datatype="dwi", suffix="dwiref", extension=".nii.gz",
             entities={"desc": "raw"},
             description="Mean of the volumes of the lowest b-value, and of those of the highest, "
                         "as acquired."),
    FileSpec(key="after", modality="dwi", datatype="dwi", suffix="dwiref", extension=".nii.gz",
             entities={"desc": "preproc"},
             description="Mean of the volumes of the lowest b-value, and of those of the highest, "
                         "as the tensor was fitted to them."),
)  # fmt: skip

METRICS: Mapping[str, str] = MappingProxyType(
    {
        **{
            f"{model}_{param}": f"{_DCE_PARAMETERS[param][0]}_{model}"
            for model, (_, own) in _DCE_MODELS.items()
            for param in (*own, "delay")
        },
        **{f"semi_{param}": title.replace(" ", "_") for param, (title, *_) in _SEMI.items()},
        "b1": "B1",
        "t1": "T1",
        "r1": "R1",
        "m0": "M0",
        "t2": "T2",
        "t2w": "nT2",
        "pdff": "PDFF",
        "t2star": "T2star",
        "r2star": "R2star",
        "mtr": "MTR",
        "mtsat": "MTsat",
        "adc": "ADC",
        "gfa": "GFA",
        "ivim_f": "IVIM_f",
        "ivim_d": "IVIM_D",
        "ivim_dstar": "IVIM_Dstar",
        "fa": "FA",
        "md": "MD",
        "ad": "AD",
        "rd": "RD",
        "s0": "S0",
    }
)
OUTPUTS: Mapping[str, MapSpec] = MappingProxyType({row.key: row for row in (*_MAPS, *_dce_rows())})
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


def find_map(entities: Mapping[str, str]) -> MapSpec | None:
    """Return the row of a value map from the entities of its name.

    Companions (``desc-se``, ``desc-status``) are not value maps.

    >>> find_map({"subject": "01", "suffix": "T1map", "datatype": "anat"}).key
    't1'
    >>> find_map({"suffix": "T1map", "datatype": "anat", "desc": "se"}) is None
    True
    """
    if is_companion(str(entities.get("desc", ""))):
        return None
    for spec in OUTPUTS.values():
        wanted = {"suffix": spec.suffix, "datatype": spec.datatype, **spec.entities}
        if all(entities.get(name) == value for name, value in wanted.items()):
            return spec
    return None


METHODS = (
    "",
    "ir",
    "mts",
    "mese",
    "mono",
    "t2prep",
    "dual",
    "magnitude",
    "dam",
    "tfl",
    "rfm",
    "map",
)
"""What ``desc-`` of a map can say of its method; empty for the default one."""


def is_companion(desc: str) -> bool:
    """Whether ``desc-`` names a standard-error or status map.

    >>> [is_companion(desc) for desc in ("se", "irstatus", "mesese", "mese", "", "water")]
    [True, True, True, False, False, False]
    """
    return desc in {method + what for method in METHODS for what in ("se", "status")}


def method_of(entities: Mapping[str, str], spec: MapSpec) -> str:
    """Return the method in the name of a map; empty for the default one.

    >>> method_of({"desc": "ir", "suffix": "T1map"}, OUTPUTS["t1"])
    'ir'
    >>> method_of({"desc": "water", "suffix": "MEGRE"}, OUTPUTS["water"])
    ''
    """
    return "" if "desc" in spec.entities else entities.get("desc", "")
