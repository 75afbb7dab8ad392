"""Code that one run has compiled must not be compiled again by the next."""

import importlib
import json
import os
import pkgutil
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher

import mrn_prep
from mrn_prep import models

PACKAGE = Path(mrn_prep.__file__).parent

# As the app does: first `prepare`, then numba and what needs it.
RUN = """
import json, os, sys
from pathlib import Path

if "unwritable" in sys.argv:  # as it is for anybody but root
    os.access = lambda *_, **__: False
import mrn_prep
from mrn_prep.cli.environment import prepare

prepare(Path(sys.argv[1]), 1)
import numpy as np
from mrn_prep.models import resample
from mrn_prep.models._align_kernel import _project_out

_project_out(np.eye(9), 6)
kernels = [_project_out]
if "parallel" in sys.argv:
    resample.sample(np.ones((1, 3, 3, 3)), np.ones((1, 3)), np.eye(4)[None, :3], 1)
    kernels.append(resample._sample)
print(json.dumps({
    "package": str(Path(mrn_prep.__file__).parent),
    "hits": [sum(k.stats.cache_hits.values()) for k in kernels],
    "misses": [sum(k.stats.cache_misses.values()) for k in kernels],
    "folder": os.environ.get("NUMBA_CACHE_DIR"),
}))
"""


@pytest.fixture
def installed(tmp_path):
    """A copy of the package where a site installs it, which may not be written."""
    root = tmp_path / "site"
    shutil.copytree(PACKAGE, root / "mrn_prep", ignore=shutil.ignore_patterns("__pycache__"))
    yield root
    _allow(root, write=True)


def _allow(root, *, write):
    for path in (root, *root.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        path.chmod(mode | stat.S_IWUSR if write else mode & ~0o222)


def _files(root):
    return {path.relative_to(root) for path in root.rglob("*")}


def call(root, work_dir, *words, **environ):
    """Run in a process of its own that has no HOME and finds the package in `root`."""
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-B", "-c", RUN, str(work_dir), *words],
        env={**kept, "PYTHONPATH": str(root), **environ},
        cwd=work_dir.parent, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["package"] == str(root / "mrn_prep")
    return told


def test_second_process_starts_warm_though_neither_package_nor_home_can_be_written(
    installed, tmp_path
):
    work_dir = tmp_path / "work"
    _allow(installed, write=False)
    before = _files(installed)
    cold, warm = (call(installed, work_dir, "parallel") for _ in range(2))
    assert (cold["hits"], cold["misses"]) == ([0, 0], [1, 1])
    assert (warm["hits"], warm["misses"]) == ([1, 1], [0, 0])
    assert Path(warm["folder"]).is_relative_to(work_dir)
    # root may write where nobody may: still nothing must have been written there
    assert _files(installed) == before


def test_a_folder_that_the_user_has_set_is_used(installed, tmp_path):
    own = tmp_path / "own"
    told = call(installed, tmp_path / "work", NUMBA_CACHE_DIR=str(own))
    assert told["folder"] == str(own)
    assert list(own.rglob("*.nbi"))
    assert call(installed, tmp_path / "other", NUMBA_CACHE_DIR=str(own))["misses"] == [0]


def test_a_checkout_keeps_its_compiled_code_for_any_work_folder(installed, tmp_path):
    (installed / "pyproject.toml").touch()
    cold, warm = call(installed, tmp_path / "one"), call(installed, tmp_path / "two")
    assert cold["misses"] == [1] and warm["misses"] == [0]
    assert warm["folder"] is None
    assert not list((tmp_path / "two").rglob("*.nbi"))


def test_a_checkout_that_may_not_be_written_is_treated_like_an_installed_package(
    installed, tmp_path
):
    (installed / "pyproject.toml").touch()
    _allow(installed, write=False)
    before = _files(installed)
    cold, warm = (call(installed, tmp_path / "work", "unwritable") for _ in range(2))
    assert cold["misses"] == [1] and warm["misses"] == [0]
    assert Path(warm["folder"]).is_relative_to(tmp_path / "work")
    assert _files(installed) == before


def test_every_compiled_function_of_the_models_is_cached():
    compiled = {}
    for found in pkgutil.iter_modules(models.__path__, "mrn_prep.models."):
        for name, value in vars(importlib.import_module(found.name)).items():
            if isinstance(value, Dispatcher):
                compiled[f"{found.name}.{name}"] = value
    assert len(compiled) > 20
    assert [n for n, kernel in compiled.items() if isinstance(kernel._cache, NullCache)] == []
