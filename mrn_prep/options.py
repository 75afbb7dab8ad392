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
PROCESSED = ("t1", "dwi")
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
        True, "invert the exact two-TR steady state with the T1 found in a first pass "
        "(off: first-order formula only)",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class T1Options:
    """T1 mapping."""

    use_b1: bool = choice(True, "correct flip angles by the B1+ map where there is one")


@dataclass(frozen=True, kw_only=True)
class DWIOptions:
    """Diffusion."""

    denoise: str = choice("mppca", "denoising of the raw series", choices=("mppca", "none"))
    motion: str = choice(
        "eddy", "correction between volumes: rigid motion and eddy currents, rigid only, or none",
        choices=("eddy", "rigid", "none"),
    )  # fmt: skip
    low_b_in_tensor: bool = choice(
        False, "keep volumes with 5 < b < 200 s/mm2 (perfusion) in the tensor fit"
    )

    @property
    def not_made(self) -> tuple[str, ...]:
        """Keys of `OUTPUTS` and `FILES` that these options leave out."""
        return ("sigma",) * (self.denoise == "none") + ("confounds",) * (self.motion == "none")


@dataclass(frozen=True, kw_only=True)
class ROIOptions:
    """Measurements in regions."""

    min_fraction: float = choice(
        0.5, "smallest part of a voxel that must lie in a region for the voxel to count",
        low=0.01, high=1.0,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    """All that changes numbers; what changes only how a run goes is in `RunOptions`."""

    b1: B1Options = field(default_factory=B1Options)
    t1: T1Options = field(default_factory=T1Options)
    dwi: DWIOptions = field(default_factory=DWIOptions)
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
    {"b1": B1Options, "t1": T1Options, "dwi": DWIOptions, "roi": ROIOptions}
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
    if meta.get("choices") and value not in meta["choices"]:
        raise ValueError(f"{where} is {value!r}; wanted one of {', '.join(meta['choices'])}")
    return value


def _in_unit(meta: Mapping[str, Any]) -> str:
    return f" ({meta['unit']})" if meta.get("unit") else ""


def _guess(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
