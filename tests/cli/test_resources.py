import os

import psutil
import pytest

from mrn_prep.cli.resources import available

HOST_CPUS = len(os.sched_getaffinity(0))
HOST_MB = psutil.virtual_memory().total // 2**20


@pytest.fixture
def cgroups(tmp_path):
    """Write a fake cgroup tree; return what `available` reads of it."""

    def make(membership, files):
        (tmp_path / "self").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return {"proc": str(tmp_path / "self"), "cgroup": str(tmp_path / "fs")}

    return make


def test_without_limits_it_is_the_host(cgroups):
    found = available({}, **cgroups("0::/\n", {}))
    assert (found.n_cpus, found.memory_mb) == (HOST_CPUS, HOST_MB)


def test_cgroup_v2_limits_count_also_those_of_a_parent(cgroups):
    places = cgroups(
        "0::/job/step\n",
        {"job/step/memory.max": "max\n", "job/memory.max": str(300 * 2**20),
         "job/step/cpu.max": "100000 100000\n"},
    )  # fmt: skip
    found = available({}, **places)
    assert (found.n_cpus, found.memory_mb) == (1, 300)


def test_cgroup_v1_limits_count_and_its_word_for_none_does_not(cgroups):
    places = cgroups(
        "4:memory:/a\n3:cpu,cpuacct:/a\n",
        {"memory/a/memory.limit_in_bytes": str(200 * 2**20),
         "memory/memory.limit_in_bytes": "9223372036854771712",
         "cpu,cpuacct/a/cpu.cfs_quota_us": "50000",
         "cpu,cpuacct/a/cpu.cfs_period_us": "100000"},
    )  # fmt: skip
    found = available({}, **places)
    assert (found.n_cpus, found.memory_mb) == (1, 200)


@pytest.mark.parametrize(
    ("environ", "cpus", "mb"),
    [
        ({"SLURM_CPUS_PER_TASK": "1", "SLURM_MEM_PER_NODE": "500"}, 1, 500),
        ({"SLURM_CPUS_PER_TASK": "1", "SLURM_MEM_PER_CPU": "400"}, 1, 400),
        ({"SLURM_MEM_PER_NODE": "0"}, HOST_CPUS, HOST_MB),
        ({"SLURM_CPUS_ON_NODE": "1"}, 1, HOST_MB),
    ],
)
def test_the_allocation_of_a_slurm_job_counts(environ, cpus, mb, cgroups):
    found = available(environ, **cgroups("0::/\n", {}))
    assert (found.n_cpus, found.memory_mb) == (cpus, mb)
