"""A worker that is killed costs a retry, not the run."""

import pytest
from nipype.interfaces.utility import Function
from nipype.pipeline import engine as pe

from mrn_prep.cli.graphs import failure
from mrn_prep.cli.plugin import ResilientPlugin
from mrn_prep.errors import ExitCode


def die_times(folder, n):
    """Kill the own process as long as it was called no more than n times."""
    import os
    import signal
    from pathlib import Path

    calls = Path(folder) / "calls"
    with calls.open("a") as stream:
        stream.write(".")
    if len(calls.read_text()) <= n:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def live(x):
    import time

    time.sleep(0.2)
    return x


@pytest.fixture
def run(tmp_path):
    def graph(n_deaths):
        wf = pe.Workflow(name="wf", base_dir=str(tmp_path))
        victim = pe.Node(Function(["folder", "n"], ["out"], die_times), name="victim")
        victim.inputs.folder, victim.inputs.n = str(tmp_path), n_deaths
        after = pe.Node(Function(["x"], ["out"], live), name="after")
        wf.connect(victim, "out", after, "x")
        for i in range(3):
            other = pe.Node(Function(["x"], ["out"], live), name=f"other{i}")
            other.inputs.x = i
            wf.add_nodes([other])
        ended, failed = [], []
        wf.config["execution"] = {
            "poll_sleep_duration": 0.05, "crashdump_dir": str(tmp_path), "crashfile_format": "txt",
        }  # fmt: skip
        plugin = ResilientPlugin(
            {
                "n_procs": 2, "memory_gb": 2.0, "mp_context": "forkserver",
                "status_callback": lambda node, status: ended.append((node.name, status)),
                "on_failure": lambda node, text: failed.append((node.name, text)),
            }
        )  # fmt: skip
        try:
            wf.run(plugin=plugin)
        except RuntimeError:
            assert failed
        return {name for name, status in ended if status == "end"}, failed

    return graph


def test_a_node_killed_once_is_run_again_alone(run):
    ended, failed = run(1)
    assert failed == []
    assert ended == {"victim", "after", "other0", "other1", "other2"}


def test_a_node_killed_twice_is_named_and_the_rest_goes_on(run, tmp_path):
    ended, failed = run(99)
    ((name, text),) = failed
    assert name == "victim"
    assert ended == {"other0", "other1", "other2"}
    assert len((tmp_path / "calls").read_text()) == 2
    assert failure("wf: victim", text).code == ExitCode.TRY_AGAIN
