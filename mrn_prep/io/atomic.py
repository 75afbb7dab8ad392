"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import socket
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

_PART = ".part-"
_LEFT_AFTER_S = 600.0


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` when the block ends well.

    The temporary file lies in the same folder (so that the move is one step),
    keeps the extension (writers choose the format by it) and is hidden. Its
    name carries host and process id, so that `sweep` can tell leftovers.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{_PART}{_host()}-{os.getpid()}-{uuid4().hex[:8]}-{path.name}")
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


def sweep(folder: str | Path, *, deep: bool = True) -> None:
    """Remove what processes that were killed left half-written in (and below) `folder`.

    Files of a living process of this machine stay; those of other machines, which
    may write into the same shared folder, go when they have not grown for ten minutes.
    """
    folder = Path(folder)
    for part in folder.rglob(f"{_PART}*") if deep else folder.glob(f"{_PART}*"):
        host, pid, *_ = [*part.name.removeprefix(_PART).split("-"), "", ""]
        try:
            if host == _host():
                left = not pid.isdigit() or not Path(f"/proc/{pid}").exists()
            else:
                left = time.time() - part.stat().st_mtime > _LEFT_AFTER_S
            if left:
                part.unlink()
        except FileNotFoundError:
            continue


@cache
def _host() -> str:
    """Tell machines, and containers with process ids of their own, apart."""
    try:
        pids = os.readlink("/proc/self/ns/pid")  # noqa: PTH115
    except OSError:
        pids = ""
    return f"{zlib.crc32(f'{socket.gethostname()} {pids}'.encode()):08x}"
