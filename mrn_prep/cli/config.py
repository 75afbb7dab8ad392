"""The TOML that a run writes, and that can be given back to it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from mrn_prep import __version__
from mrn_prep.cli.parser import processing_values, run_values
from mrn_prep.errors import UsageError
from mrn_prep.options import MODALITIES, SECTIONS, Options, RunOptions

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
    """
    given = dict(given)
    run, options = RunOptions(), Options()
    if "config_file" in given:
        run, options, places = _read(Path(given["config_file"]))
        given = {**places, **given}
    missing = [name for name in ("bids_dir", "out_dir", "analysis_level") if name not in given]
    if missing:
        names = {"bids_dir": "BIDS_DIR", "out_dir": "OUT_DIR", "analysis_level": "LEVEL"}
        raise UsageError(
            f"{', '.join(names[m] for m in missing)} not given. Usage: "
            "mrn_prep BIDS_DIR OUT_DIR {participant,group} [options]; see mrn_prep --help."
        )
    try:
        run = replace(run, **_run_record(run_values(given)))
        for section, values in processing_values(given):
            options = options.with_values(section, values)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    bids_dir, out_dir = Path(given["bids_dir"]), Path(given["out_dir"])
    _check_folders(bids_dir, out_dir)
    return Invocation(
        bids_dir=bids_dir,
        out_dir=out_dir,
        level=given["analysis_level"],
        run=run,
        options=options,
        command=command,
        **{name: bool(given.get(name, False)) for name in _ACTIONS},
    )


def to_toml(invocation: Invocation) -> str:
    """Return the configuration file of a call; `resolve` reads it back."""
    content: dict[str, Any] = {
        "mrn_prep": {
            "version": __version__,
            "bids_dir": str(invocation.bids_dir.resolve()),
            "out_dir": str(invocation.out_dir.resolve()),
            "analysis_level": invocation.level,
        },
        "run": {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in _plain(invocation.run).items()
        },
    }
    for section in SECTIONS:
        content[section] = asdict(getattr(invocation.options, section))
    return tomli_w.dumps(content)


def _plain(run: RunOptions) -> dict[str, Any]:
    return {f.name: getattr(run, f.name) for f in fields(run)}


def _read(path: Path) -> tuple[RunOptions, Options, dict[str, str]]:
    """Read a configuration file; every wrong name or value is a usage error."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config-file {path}: cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config-file {path}: is not TOML ({error}).") from error
    places = content.pop("mrn_prep", {})
    places.pop("version", None)
    run, options = RunOptions(), Options()
    try:
        run = replace(run, **_run_record(content.pop("run", {})))
        for section, values in content.items():
            if section not in SECTIONS:
                raise ValueError(f"there is no section [{section}]")
            options = options.with_values(section, values)
    except ValueError as error:
        raise UsageError(f"--config-file {path}: {error}.") from error
    return run, options, places


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
            value = tuple(value)
        elif type(value) is not type(default):
            raise ValueError(f"[run] {name} is {value!r}; wanted a value such as {default!r}")
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
        return {str(name): str(path) for name, path in value.items()}
    named: dict[str, str] = {}
    for item in value if isinstance(value, list | tuple) else [value]:
        name, equals, path = str(item).partition("=")
        if not equals:
            name, path = Path(item).resolve().name, str(item)
        if not name or not path:
            raise ValueError(f"--derivatives has {item!r}; wanted NAME=PATH")
        if name in named:
            raise ValueError(f"--derivatives names {name!r} twice")
        named[name] = path
    return named


def _check_folders(bids_dir: Path, out_dir: Path) -> None:
    bids, out = bids_dir.resolve(), out_dir.resolve()
    if bids == out or out in bids.parents:
        raise UsageError(
            f"BIDS_DIR ({bids_dir}) lies inside OUT_DIR ({out_dir}); wanted OUT_DIR elsewhere, "
            "such as BIDS_DIR/derivatives/mrn_prep."
        )
    if bids in out.parents and "derivatives" not in out.relative_to(bids).parts:
        raise UsageError(
            f"OUT_DIR ({out_dir}) lies among the raw data; wanted it outside BIDS_DIR or below "
            "BIDS_DIR/derivatives."
        )
