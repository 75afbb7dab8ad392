"""What all tests share: a small phantom and a way to call the app."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))

from helpers import Ended

from mrn_prep.cli.main import main


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Make a folder in one of the test processes, for all of them to read."""
    root = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        root = root.parent

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder = root / name
        with FileLock(f"{folder}.lock"):
            if not Path(f"{folder}.made").exists():
                make(folder)
                Path(f"{folder}.made").touch()
        return folder

    return made


@pytest.fixture(scope="session")
def phantom(once) -> Path:
    """A simulated data set of one participant; not to be changed."""

    def make(folder: Path) -> None:
        from mrn_prep.phantom.dataset import simulate_dataset
        from mrn_prep.phantom.options import PhantomOptions

        simulate_dataset(folder, PhantomOptions(small=True, sites=1, participants_per_site=1))

    return once("phantom", make)


@pytest.fixture
def bids(phantom, tmp_path) -> Path:
    """A copy of the phantom, to be spoilt."""
    ignore = shutil.ignore_patterns("truth")
    return Path(shutil.copytree(phantom, tmp_path / "bids", ignore=ignore))


@pytest.fixture
def call(capfd) -> Callable[..., Ended]:
    """Call the app within this process: for what ends before steps are run."""

    def run(bids_dir, out_dir, *options) -> Ended:
        capfd.readouterr()
        code = main([str(arg) for arg in (bids_dir, out_dir, "participant", *options)])
        said = capfd.readouterr()
        return Ended(code, said.out, said.err, Path(out_dir))

    return run


@pytest.fixture
def validator_errors(tmp_path) -> Callable[[Path], list]:
    """Return the errors of the BIDS validator on a data set."""

    def errors(folder: Path) -> list:
        report = tmp_path / "report.json"
        validator = f"{sys.prefix}/bin/bids-validator-deno"
        arguments = [validator, str(folder), "--format", "json", "-o", str(report)]
        subprocess.run(arguments, check=False, capture_output=True)
        issues = json.loads(report.read_text())["issues"]["issues"]
        return [
            (issue["code"], issue.get("subCode"), issue.get("location"))
            for issue in issues
            if issue["severity"] == "error"
        ]

    return errors
