"""The TOML that a run writes, and that can be given back to it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from mrn_prep import __version__
from mrn_prep.cli.cluster import read_plugin_file
from mrn_prep.cli.parser import LEVELS, processing_values, run_values
from mrn_prep.errors import UnknownLevelError, UsageError
from mrn_prep.options import MODALITIES, SECTIONS, Options, RunOptions

_PLACES = {"bids_dir": "BIDS_DIR", "out_dir": "OUT_DIR", "analysis_level": "LEVEL"}
# Not negative, and 0 means: as the machine allows.
_COUNTS = frozenset({"nprocs", "omp_nthreads", "mem_mb", "random_seed", "verbose"})
_ACTIONS = ("dry_run", "reports_only", "boilerplate_only")


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """Everything that one call of the command asks for."""

    bids_dir: Path
    out_dir: Path
    level: str
    run: RunOptions = field(default_factory=RunOptions)
    options: Options = field(default_factory=Options)
    dry_run: bool = False
    reports_only: bool = False
    boilerplate_only: bool = False
    command: str = ""

    @property
    def work_dir(self) -> Path:
        """Where intermediate results go."""
        return Path(self.run.work_dir) if self.run.work_dir else self.out_dir / "work"


def resolve(given: Mapping[str, Any], command: str = "") -> Invocation:
    """Make an invocation of what was given; flags win over the configuration file.

    Raises
    ------
    UsageError
        If something needed is not given, a name or value is wrong, or folders overlap.
    UnknownLevelError
        If the analysis level is neither participant nor group.
    """
    given = dict(given)
    run, options = RunOptions(), Options()
    if "config_file" in given:
        run, options, places = _read(Path(given["config_file"]))
        given = {**places, **given}
    missing = [name for name in _PLACES if name not in given]
    if missing:
        raise UsageError(_not_given(missing, given))
    if given["analysis_level"] not in LEVELS:
        raise UnknownLevelError(
            f"LEVEL is {given['analysis_level']!r}; wanted participant or group."
        )
    try:
        run = replace(run, **_run_record(run_values(given)))
        for section, values in processing_values(given):
            options = options.with_values(section, values)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    invocation = Invocation(
        bids_dir=Path(given["bids_dir"]),
        out_dir=Path(given["out_dir"]),
        level=given["analysis_level"],
        run=run,
        options=options,
        command=command,
        **{name: bool(given.get(name, False)) for name in _ACTIONS},
    )
    _check_folders(invocation)
    if run.use_plugin:
        read_plugin_file(run.use_plugin)
    return invocation


def to_toml(invocation: Invocation) -> str:
    """Return the configuration file of a call; `resolve` reads it back.

    Paths are absolute, so that it can be given back from any folder.
    """
    content: dict[str, Any] = {
        "mrn_prep": {
            "version": __version__,
            "bids_dir": str(invocation.bids_dir.resolve()),
            "out_dir": str(invocation.out_dir.resolve()),
            "analysis_level": invocation.level,
        },
        "run": _run_table(invocation.run),
    }
    for section in SECTIONS:
        content[section] = asdict(getattr(invocation.options, section))
    return tomli_w.dumps(content)


def _run_table(run: RunOptions) -> dict[str, Any]:
    table = {f.name: getattr(run, f.name) for f in fields(run)}
    for name in ("bids_filter_file", "work_dir", "use_plugin"):
        table[name] = str(Path(table[name]).resolve()) if table[name] else ""
    for name in ("participant_label", "session_label"):
        table[name] = [
            str(Path(item).resolve()) if Path(item).is_file() else item for item in table[name]
        ]
    table["derivatives"] = {
        name: str(Path(path).resolve()) for name, path in run.derivatives.items()
    }
    return table


def _not_given(missing: Sequence[str], given: Mapping[str, Any]) -> str:
    text = f"{', '.join(_PLACES[name] for name in missing)} not given"
    swallowed = any(
        set(LEVELS) & set(map(str, value)) for value in given.values() if isinstance(value, list)
    )
    if swallowed:
        text += " (they stand behind an option that takes all that follows it: write them first)"
    return (
        f"{text}. Usage: mrn_prep BIDS_DIR OUT_DIR {{participant,group}} [options]; "
        "see mrn_prep --help."
    )


def _read(path: Path) -> tuple[RunOptions, Options, dict[str, str]]:
    """Read a configuration file; every wrong name or value is a usage error."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"--config-file {path}: cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config-file {path}: is not TOML ({error}).") from error
    run, options = RunOptions(), Options()
    try:
        for section, values in content.items():
            if section not in {"mrn_prep", "run", *SECTIONS}:
                raise ValueError(f"there is no section [{section}]")
            if not isinstance(values, Mapping):
                raise ValueError(f"{section} is {values!r}; wanted a section [{section}]")
        places = _places(content.pop("mrn_prep", {}))
        run = replace(run, **_run_record(content.pop("run", {})))
        for section, values in content.items():
            options = options.with_values(section, values)
    except ValueError as error:
        raise UsageError(f"--config-file {path}: {error}.") from error
    return run, options, places


def _places(table: Mapping[str, Any]) -> dict[str, str]:
    for name, value in table.items():
        if name not in {"version", *_PLACES}:
            raise ValueError(f"[mrn_prep] has no option {name!r}")
        if not isinstance(value, str):
            raise ValueError(f"[mrn_prep] {name} is {value!r}; wanted a text")
    return {name: value for name, value in table.items() if name != "version"}


def _run_record(values: Mapping[str, Any]) -> dict[str, Any]:
    """Check the values of `RunOptions` and bring them into its types."""
    defaults = RunOptions()
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if not hasattr(defaults, name):
            raise ValueError(f"[run] has no option {name!r}")
        default = getattr(defaults, name)
        if name == "derivatives":
            value = MappingProxyType(_derivatives(value))
        elif isinstance(default, tuple):
            if not (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)):
                raise ValueError(f"[run] {name} is {value!r}; wanted a list of texts")
            value = tuple(dict.fromkeys(value))
        elif type(value) is not type(default):
            kind = {bool: "true or false", int: "a whole number", str: "a text"}[type(default)]
            raise ValueError(f"[run] {name} is {value!r}; wanted {kind}")
        elif name in _COUNTS and value < 0:
            raise ValueError(f"{name} is {value}; wanted 0 or more")
        checked[name] = value
    for modality in checked.get("modalities", ()):
        if modality not in MODALITIES:
            raise ValueError(f"[run] modalities has {modality!r}; known: {', '.join(MODALITIES)}")
    return checked


def _derivatives(value: object) -> dict[str, str]:
    """Read NAME=PATH items; a path alone is named by its folder.

    >>> _derivatives(["rois=/a/b", "/data/b1maps"])
    {'rois': '/a/b', 'b1maps': '/data/b1maps'}
    """
    if isinstance(value, Mapping):
        value = [f"{name}={path}" for name, path in value.items()]
    named: dict[str, str] = {}
    for item in value if isinstance(value, list | tuple) else [value]:
        name, equals, path = str(item).partition("=")
        if not equals or "/" in name:  # a path may hold an equals sign
            name, path = Path(str(item)).resolve().name, str(item)
        if not name or not path:
            raise ValueError(f"--derivatives has {item!r}; wanted NAME=PATH")
        if name in {"raw", *named}:
            taken = "is the raw data set's own name" if name == "raw" else "is given twice"
            raise ValueError(f"--derivatives {item}: the name {name!r} {taken}")
        named[name] = path
    return named


def _check_folders(invocation: Invocation) -> None:
    bids_dir, out_dir = invocation.bids_dir, invocation.out_dir
    bids, out = bids_dir.resolve(), out_dir.resolve()
    if bids == out or out in bids.parents:
        raise UsageError(
            f"BIDS_DIR ({bids_dir}) lies inside OUT_DIR ({out_dir}); wanted OUT_DIR elsewhere, "
            "such as BIDS_DIR/derivatives/mrn_prep."
        )
    places = {"OUT_DIR": out_dir}
    if invocation.run.work_dir:
        places["--work-dir"] = invocation.work_dir
    for name, folder in places.items():
        path = folder.resolve()
        raw = path == bids or (
            bids in path.parents and "derivatives" not in path.relative_to(bids).parts
        )
        if raw:
            raise UsageError(
                f"{name} ({folder}) lies among the raw data; wanted it outside BIDS_DIR or below "
                "BIDS_DIR/derivatives."
            )
    if _is_raw(out):
        raise UsageError(
            f"OUT_DIR ({out_dir}) is a raw BIDS data set; wanted a folder for derivatives "
            "(are BIDS_DIR and OUT_DIR swapped?)."
        )


def _is_raw(folder: Path) -> bool:
    """Whether a folder says of itself that it is a raw data set."""
    try:
        text = (folder / "dataset_description.json").read_text(encoding="utf-8")
        description = json.loads(text)
    except (OSError, ValueError):
        return False
    if not isinstance(description, dict):
        return False
    kind = description.get("DatasetType")
    return kind == "raw" or (kind is None and "GeneratedBy" not in description)
