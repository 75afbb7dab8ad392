"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_PART = ".part-"


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends well.

    The temporary file lies in the same folder (so that the move is one step),
    keeps the extension (writers choose the format by it) and is hidden. Its
    name carries the process id, so that `sweep` can tell leftovers.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{_PART}{os.getpid()}-{uuid4().hex[:8]}-{path.name}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 text whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_json(path: str | Path, content: Mapping[str, object]) -> Path:
    """Write JSON whole or not at all; keys keep their order."""
    return write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def sweep(folder: str | Path) -> None:
    """Remove what processes that were killed left half-written below `folder`."""
    for part in Path(folder).rglob(f"{_PART}*"):
        pid = part.name.removeprefix(_PART).split("-")[0]
        if not pid.isdigit() or not Path(f"/proc/{pid}").exists():
            part.unlink(missing_ok=True)
