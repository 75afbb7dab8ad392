"""The file of ``--use-plugin``: which of nipype's cluster plugins runs the steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrn_prep.errors import UsageError

_WANTED = "wanted YAML such as 'plugin: SLURM' with plugin_args"


def read_plugin_file(path: str | Path) -> tuple[str, dict[str, Any]]:
    """Return the plugin's name and its arguments.

    Raises
    ------
    UsageError
        If the file cannot be read or names no plugin.
    """
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--use-plugin {path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise UsageError(f"--use-plugin {path}: is not YAML ({words}); {_WANTED}.") from error
    if not isinstance(content, Mapping) or not isinstance(content.get("plugin"), str):
        raise UsageError(f"--use-plugin {path}: names no plugin; {_WANTED}.")
    arguments = content.get("plugin_args") or {}
    if not isinstance(arguments, Mapping):
        raise UsageError(f"--use-plugin {path}: plugin_args must be a mapping; {_WANTED}.")
    return content["plugin"], dict(arguments)


def plugin_class(path: str | Path) -> type:
    """Return the class of nipype's plugin that the file names; UsageError if there is none."""
    from nipype.pipeline import plugins

    name, _ = read_plugin_file(path)
    base = getattr(plugins, f"{name}Plugin", None)
    if base is None:
        known = sorted(n.removesuffix("Plugin") for n in dir(plugins) if n.endswith("Plugin"))
        raise UsageError(
            f"--use-plugin {path}: nipype has no plugin {name!r}; it has {', '.join(known)}."
        )
    assert isinstance(base, type)
    return base
