"""What the user may choose: frozen records, read from flags or TOML, written back as TOML.

Each field's metadata holds its help text and range, so that flags, checks and
documentation come from here alone.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

MODALITIES = ("t1", "t2", "fatwater", "mt", "dwi", "dce")
PROCESSED = ("t1", "t2", "fatwater", "mt", "dwi", "dce")
"""The modalities that this version computes."""


def choice(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    unit: str = "",
) -> Any:
    """Return a dataclass field with its help text, range and unit."""
    return field(
        default=default,
        metadata={"help": text, "choices": choices, "low": low, "high": high, "unit": unit},
    )


@dataclass(frozen=True, kw_only=True)
class B1Options:
    """B1+ mapping."""

    smoothing_mm: float = choice(
        10.0, "full width at half maximum of the smoothing of B1+ inside the limb; 0 for none",
        low=0.0, high=100.0, unit="mm",
    )  # fmt: skip
    extrapolate_mm: float = choice(
        5.0, "how far beyond the measured voxels B1+ is extrapolated",
        low=0.0, high=50.0, unit="mm",
    )  # fmt: skip
    refine: bool = choice(
        True, "invert the exact steady state of AFI and double angle, B1+ and T1 being found in "
        "turn (off: first-order formula only)",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class T1Options:
    """T1 mapping."""

    use_b1: bool = choice(True, "correct flip angles by the B1+ map where there is one")
    spoiling: bool = choice(
        False, "correct incomplete spoiling of flip-angle series, from the phase increment and "
        "gradient moment in the sidecar",
    )  # fmt: skip
    register: bool = choice(
        True, "bring the images of a series into one place before the fit (those that have not "
        "moved stay as they are)",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class T2Options:
    """T2 mapping."""

    model: str = choice(
        "water-fat", "model of multi-echo trains: extended phase graphs of water and fat, of one "
        "tissue, or an exponential (reads long, flagged)",
        choices=("water-fat", "single", "mono"),
    )  # fmt: skip
    use_b1: bool = choice(
        True, "take B1+ from its map where there is one (off: fit it to the echoes)"
    )
    refocusing_deg: float = choice(
        180.0, "nominal refocusing angle of multi-echo trains", low=30.0, high=180.0,
        unit="degrees",
    )  # fmt: skip
    slice_profile: str = choice(
        "ideal", "angles across the slice: the same everywhere, or those of windowed sinc pulses",
        choices=("ideal", "sinc"),
    )  # fmt: skip
    denoise: str = choice(
        "none", "denoising of multi-echo trains (Marchenko-Pastur PCA)", choices=("mppca", "none")
    )
    fat_region: str = choice(
        "", "name of a region of fat in which its T2 is measured (default: the subcutaneous fat "
        "is found)",
    )  # fmt: skip
    register: bool = choice(
        True, "bring the images of a series into one place before the fit (those that have not "
        "moved stay as they are)",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FatWaterOptions:
    """Fat fraction and T2*."""

    phase: bool = choice(True, "use the phase where there is one (off: magnitudes only, flagged)")
    denoise: str = choice(
        "none", "denoising of the echoes, real and imaginary parts where there is phase "
        "(Marchenko-Pastur PCA)", choices=("mppca", "none"),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MTOptions:
    """Magnetisation transfer."""

    use_b1: bool = choice(True, "correct flip angles by the B1+ map where there is one")
    residual_b1_c: float = choice(
        0.0, "constant C of the residual B1+ correction of MTsat, (1 - C) / (1 - C B1); it "
        "belongs to one pulse (0.4 for that of Weiskopf 2013); 0 for none", low=0.0, high=0.9,
    )  # fmt: skip
    register: bool = choice(
        True, "bring the images of a series into one place before the fit (those that have not "
        "moved stay as they are)",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DWIOptions:
    """Diffusion."""

    combine: bool = choice(
        True, "take runs and shells of one protocol together as one series (off: each file alone)"
    )
    phase: bool = choice(
        True, "use the phase where there is one: real part, noise without a floor (off: magnitudes "
        "only)",
    )  # fmt: skip
    denoise: str = choice("mppca", "denoising of the raw series", choices=("mppca", "none"))
    motion: str = choice(
        "eddy", "correction between volumes: rigid motion and eddy currents, rigid only, or none",
        choices=("eddy", "rigid", "none"),
    )  # fmt: skip
    gibbs: bool = choice(
        False, "remove Gibbs ringing of fully sampled k-space (skipped under partial Fourier)"
    )
    ivim: str = choice(
        "segmented", "perfusion where there are four b-values below 200 s/mm2: D from the high "
        "ones and f from what is left, all at once, or none", choices=("segmented", "full", "none"),
    )  # fmt: skip
    distortion: bool = choice(
        True, "correct distortion by the field where there are images with reversed phase encoding"
    )
    outliers: bool = choice(
        True, "replace slices that motion has darkened by what the tensor of the others predicts"
    )
    tracts: bool = choice(True, "follow nerves through the tensor where there are regions of them")
    tract_fa: float = choice(0.1, "FA below which a streamline ends", low=0.0, high=1.0)
    tract_angle_deg: float = choice(
        30.0, "largest turn of a streamline from step to step", low=1.0, high=90.0, unit="degrees"
    )
    tensor: str = choice(
        "wls", "fit of the tensor: weighted linear, nonlinear, or nonlinear without volumes that "
        "do not belong (RESTORE)", choices=("wls", "nlls", "restore"),
    )  # fmt: skip
    rician: bool = choice(
        True, "take the noise floor of magnitudes out of what is fitted (off: flagged)"
    )
    qball: bool = choice(
        False, "directions of several fibres in nerves and muscles, by q-ball imaging, where there "
        "are 15 directions at one b-value",
    )  # fmt: skip
    low_b_in_tensor: bool = choice(
        False, "keep volumes with 5 < b < 200 s/mm2 (perfusion) in the tensor fit"
    )

    @property
    def not_made(self) -> tuple[str, ...]:
        """Keys of `OUTPUTS` and `FILES` that these options leave out."""
        return ("confounds", "xfm") if self.motion == "none" else ()


@dataclass(frozen=True, kw_only=True)
class DCEOptions:
    """DCE perfusion."""

    model: str = choice(
        "etofts", "model of the curves: Tofts, extended Tofts, Patlak, two-compartment uptake or "
        "exchange; or all of them and the choice by AICc",
        choices=("etofts", "tofts", "patlak", "2cum", "2cxm", "select"),
    )  # fmt: skip
    delay: bool = choice(False, "fit the delay of the bolus behind the input function")
    aif: str = choice(
        "any", "input function: the first of a table beside the series, a region of tissue artery "
        "(or vein), vessels found in the series and Parker's population curve; or one of them "
        "alone",
        choices=("any", "table", "artery", "vein", "auto", "parker", "georgiou", "weinmann"),
    )  # fmt: skip
    aif_rescale: str = choice(
        "none", "height of a measured input function: as it is, to the tail of a region of tissue "
        "vein, or to the area of Parker's curve at the dose (partial volume, inflow)",
        choices=("none", "vein", "area"),
    )  # fmt: skip
    denoise: str = choice(
        "none", "denoising of the frames (Marchenko-Pastur PCA)", choices=("mppca", "none")
    )
    motion: str = choice(
        "rigid", "correction between frames: rigid to the frames before contrast, or none",
        choices=("rigid", "none"),
    )  # fmt: skip
    use_b1: bool = choice(True, "correct flip angles by the B1+ map where there is one")
    t1_s: float = choice(
        0.0, "T1 before contrast everywhere, in place of a map (flagged); 0 takes the session's "
        "map, or 1.4 s where there is none", low=0.0, high=10.0, unit="s",
    )  # fmt: skip

    @property
    def not_made(self) -> tuple[str, ...]:
        """Keys of `FILES` that these options leave out."""
        return ("dce_confounds",) * (self.motion == "none")


@dataclass(frozen=True, kw_only=True)
class ROIOptions:
    """Measurements in regions."""

    min_fraction: float = choice(
        0.5, "smallest part of a voxel that must lie in a region for the voxel to count",
        low=0.01, high=1.0,
    )  # fmt: skip
    reference: str = choice(
        "table", "what T2 signal ratios refer to: the reference column of the label table, "
        "contralateral, or the name of a region or tissue",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    """All that changes numbers; what changes only how a run goes is in `RunOptions`."""

    b1: B1Options = field(default_factory=B1Options)
    t1: T1Options = field(default_factory=T1Options)
    t2: T2Options = field(default_factory=T2Options)
    fatwater: FatWaterOptions = field(default_factory=FatWaterOptions)
    mt: MTOptions = field(default_factory=MTOptions)
    dwi: DWIOptions = field(default_factory=DWIOptions)
    dce: DCEOptions = field(default_factory=DCEOptions)
    roi: ROIOptions = field(default_factory=ROIOptions)

    def with_values(self, section: str, values: Mapping[str, object]) -> Options:
        """Return options with some values of one section replaced.

        Raises
        ------
        ValueError
            If a name is unknown, or a value of the wrong type or out of its range.
        """
        record = getattr(self, section)
        return dataclasses.replace(self, **{section: replaced(record, values, section)})


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What is selected and how the run goes; nothing here changes a value in a map."""

    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    bids_filter_file: str = ""
    modalities: tuple[str, ...] = ()
    derivatives: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    skip_bids_validation: bool = False
    work_dir: str = ""
    nprocs: int = 0
    omp_nthreads: int = 0
    mem_mb: int = 0
    use_plugin: str = ""
    stop_on_first_crash: bool = False
    clean_workdir: bool = False
    resource_monitor: bool = False
    write_graph: bool = False
    random_seed: int = 0
    verbose: int = 0


SECTIONS: Mapping[str, type] = MappingProxyType(
    {
        "b1": B1Options,
        "t1": T1Options,
        "t2": T2Options,
        "fatwater": FatWaterOptions,
        "mt": MTOptions,
        "dwi": DWIOptions,
        "dce": DCEOptions,
        "roi": ROIOptions,
    }
)


def replaced(record: Any, values: Mapping[str, object], section: str) -> Any:
    """Return a copy of a record with checked new values."""
    known = {f.name: f for f in fields(record)}
    changes = {}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"[{section}] has no option {name!r}{_guess(name, known)}")
        changes[name] = checked(value, getattr(record, name), known[name], f"[{section}] {name}")
    return dataclasses.replace(record, **changes)


def checked(value: object, like: object, spec: dataclasses.Field[Any], where: str) -> object:
    """Return the value in the type of `like`, or raise ValueError saying what is wanted."""
    meta = spec.metadata
    if isinstance(like, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{where} is {value!r}; wanted true or false")
        return value
    if isinstance(like, float):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{where} is {value!r}; wanted a number{_in_unit(meta)}")
        low, high = float(meta["low"]), float(meta["high"])
        if not (low <= value <= high):
            raise ValueError(f"{where} is {value:g}; wanted {low:g} to {high:g}{_in_unit(meta)}")
        return float(value)
    if isinstance(like, str) and not isinstance(value, str):
        raise ValueError(f"{where} is {value!r}; wanted a text")
    if meta.get("choices") and value not in meta["choices"]:
        raise ValueError(f"{where} is {value!r}; wanted one of {', '.join(meta['choices'])}")
    return value


def _in_unit(meta: Mapping[str, Any]) -> str:
    return f" ({meta['unit']})" if meta.get("unit") else ""


def _guess(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
