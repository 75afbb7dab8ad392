"""Stopped and begun again; plans of large cohorts; the smaller errands."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import pytest
from helpers import cohort, command, leftovers

QUICK = ("--modalities", "t1")


def maps(out):
    return {p.relative_to(out): p.stat().st_mtime_ns for p in out.glob("sub-*/*/*.nii.gz")}


def nodes_run(ended):
    """Steps of the log that were really run, not taken from an earlier run."""
    steps = [line for line in ended.out.splitlines() if line.startswith("[")]
    return [s for s in steps if "(done before)" not in s and "(at once)" not in s]


@pytest.fixture(scope="module")
def done(phantom, once):
    """A finished T1 run: data, output, how it ended."""

    def make(folder):
        ended = command(phantom, folder / "out", "participant", *QUICK,
                        "-d", f"rois={phantom / 'derivatives/rois'}", "--write-graph")  # fmt: skip
        (folder / "ended.json").write_text(json.dumps([ended.code, ended.out, ended.err]))

    return once("done", make)


@pytest.fixture
def ended(done):
    from helpers import Ended

    return Ended(*json.loads((done / "ended.json").read_text()), done / "out")


def test_a_run_ends_as_it_says(ended):
    assert ended.agrees(0), ended.out
    assert ended.status["problems"] == []


def test_each_line_of_progress_names_session_step_and_time(ended):
    steps = [line for line in ended.out.splitlines() if line.startswith("[")]
    assert any("sub-A01: t1 fit" in step for step in steps)
    assert all(step.rstrip().endswith((" s)", "(at once)")) for step in steps)


def test_a_second_call_fits_nothing_again(done, phantom, tmp_path):
    out = shutil.copytree(done / "out", tmp_path / "out", symlinks=True)
    work = done / "out/work"
    lost = out / "sub-A01/anat/sub-A01_T1map.nii.gz"
    lost.unlink()
    again = command(phantom, out, "participant", *QUICK, "-w", work)
    assert again.agrees(0)
    assert lost.exists()
    assert not any("fit" in s or "pair" in s for s in nodes_run(again))


def test_the_configuration_of_a_run_can_be_given_back(done):
    (config,) = (done / "out").glob("logs/*/config.toml")
    content = tomllib.loads(config.read_text())
    assert content["run"]["modalities"] == ["t1"]
    plan = subprocess.run(
        [sys.executable, "-m", "mrn_prep", "--config-file", str(config), "--dry-run"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert plan.returncode == 0
    assert "T1 by variable flip angle" in plan.stdout
    assert "diffusion" not in plan.stdout


def test_the_graph_is_written_when_asked_for(done):
    assert list((done / "out").glob("logs/*/*.dot"))


def test_derivatives_and_raw_data_pass_the_validator(done, phantom, validator_errors):
    assert validator_errors(done / "out") == []
    assert validator_errors(phantom) == []


def test_the_data_set_says_what_made_it_and_from_what(done, phantom):
    out = done / "out"
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "mrn_prep"
    links = description["DatasetLinks"]
    assert (out / links["raw"]).resolve() == phantom.resolve()
    assert not os.path.isabs(links["rois"])  # noqa: PTH117
    for name in ("CITATION.md", "CITATION.html", "CITATION.bib", "descriptions.tsv", "README.md"):
        assert (out / name).stat().st_size > 0


def test_reports_only_needs_maps_and_fits_nothing(done, phantom, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(done / "out", out, ignore=shutil.ignore_patterns("work", "*.html"))
    before = maps(out)
    ended = command(phantom, out, "participant", "--reports-only")
    assert ended.agrees(0)
    assert (out / "sub-A01.html").exists()
    assert maps(out) == before


def test_boilerplate_only_writes_no_map(phantom, tmp_path):
    ended = command(phantom, tmp_path / "out", "participant", "--boilerplate-only")
    assert ended.agrees(0)
    assert (tmp_path / "out/CITATION.md").exists()
    assert not list((tmp_path / "out").glob("sub-*"))


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_was_stopped_goes_on(sent, phantom, tmp_path):
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "mrn_prep", phantom, out, "participant", *QUICK]
    process = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, text=True)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("["):
            process.send_signal(sent)
            break
    said += process.stdout.readlines()
    code = process.wait(60)
    if sent == signal.SIGTERM:
        (status,) = out.glob("logs/*/status.json")
        assert code == json.loads(status.read_text())["exit_code"] == 75
        assert "exit code 75, try again" in said[-1]
    else:
        assert code == -9
    assert leftovers(out / "sub-A01") == []
    again = command(phantom, out, "participant", *QUICK)
    assert again.agrees(0)
    assert (out / "sub-A01/anat/sub-A01_T1map.nii.gz").exists()
    total = sum(line.startswith("[") for line in again.out.splitlines())
    assert len(nodes_run(again)) < total


def plan_of(folder, participants, sessions):
    n_files = cohort(folder, participants, sessions)
    start = time.monotonic()
    ended = command(folder, folder.parent / "out", "participant", "--dry-run")
    return ended, n_files, time.monotonic() - start


def test_a_plan_of_1200_files_takes_seconds_and_writes_nothing(tmp_path):
    ended, n_files, seconds = plan_of(tmp_path / "bids", 20, 2)
    assert ended.agrees(0), ended.out
    assert n_files >= 1000
    assert "40 sessions of 20 participants" in ended.out
    assert not (tmp_path / "out").exists()
    assert seconds < 5


@pytest.mark.long
def test_a_plan_of_12000_files_takes_less_than_10_seconds(tmp_path):
    ended, n_files, seconds = plan_of(tmp_path / "bids", 200, 2)
    assert ended.agrees(0)
    assert n_files >= 12_000
    assert seconds < 10
