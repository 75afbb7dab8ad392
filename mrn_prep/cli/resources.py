"""How many processors and how much memory this process may really use.

A container, a SLURM job and a CPU affinity each give less than the host has;
the smallest counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

_UNLIMITED = 1 << 60  # cgroup v1 writes a page-rounded 2^63 for "no limit"


@dataclass(frozen=True)
class Resources:
    """What a run may use."""

    n_cpus: int
    memory_mb: int


def available(
    environ: Mapping[str, str] | None = None,
    proc: str = "/proc/self/cgroup",
    cgroup: str = "/sys/fs/cgroup",
) -> Resources:
    """Return the smallest of what cgroup (v1, v2), SLURM, CPU affinity and the host allow."""
    environ = os.environ if environ is None else environ
    folders = list(_cgroup_folders(Path(proc), Path(cgroup)))
    cpus = [len(os.sched_getaffinity(0)), *_slurm_cpus(environ), *_cgroup_cpus(folders)]
    n_cpus = max(1, min(cpus))
    host_mb = psutil.virtual_memory().total // 2**20
    memory = [host_mb, *_slurm_mb(environ, n_cpus), *_cgroup_mb(folders)]
    return Resources(n_cpus, min(memory))


def _slurm_cpus(environ: Mapping[str, str]) -> Iterator[int]:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if environ.get(name, "").isdigit():
            yield int(environ[name])
            return


def _slurm_mb(environ: Mapping[str, str], n_cpus: int) -> Iterator[int]:
    if environ.get("SLURM_MEM_PER_NODE", "0").isdigit():
        per_node = int(environ.get("SLURM_MEM_PER_NODE", "0"))
        if per_node:  # 0 means all of the node's
            yield per_node
    if environ.get("SLURM_MEM_PER_CPU", "").isdigit():
        yield int(environ["SLURM_MEM_PER_CPU"]) * n_cpus


def _cgroup_folders(proc: Path, root: Path) -> Iterator[Path]:
    """Yield the folders of this process's groups and their parents (v2, then v1)."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top = root
        elif set(controllers.split(",")) & {"memory", "cpu"}:
            top = root / controllers
        else:
            continue
        folder = top / path.lstrip("/")
        yield folder
        # inside a container the path is the host's: the limits then stand at the top
        for parent in folder.parents:
            if parent == top or top in parent.parents:
                yield parent


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.lstrip("-").isdigit() else None


def _cgroup_cpus(folders: list[Path]) -> Iterator[int]:
    for folder in folders:
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            v1_quota = _number(folder / "cpu.cfs_quota_us")
            v1_period = _number(folder / "cpu.cfs_period_us")
            if v1_quota and v1_period and v1_quota > 0:
                yield max(1, v1_quota // v1_period)
            continue
        if quota != "max":
            yield max(1, int(quota) // int(period))


def _cgroup_mb(folders: list[Path]) -> Iterator[int]:
    for folder in folders:
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            limit = _number(folder / name)
            if limit is not None and limit < _UNLIMITED:
                yield max(1, limit // 2**20)
