"""Set the process up so that it needs no HOME, no network and no writable package folder.

Must be called before numpy, numba, matplotlib or nipype are imported.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from mrn_prep import __version__


def prepare(work_dir: Path, n_threads: int) -> None:
    """Point all caches below the work folder and limit threads.

    Values that the user has set for a cache stay as they are.
    """
    cache = work_dir / "cache"
    folders = {
        # numba tells stale code by time and size of a source file: versions must not share it
        "NUMBA_CACHE_DIR": f"numba-{__version__}",
        "MPLCONFIGDIR": "matplotlib",
        "TEMPLATEFLOW_HOME": "templateflow",
        "NIPYPE_CONFIG_DIR": "nipype",
    }
    if _is_checkout() and os.access(Path(__file__).parent, os.W_OK):
        # numba then keeps compiled code beside the source, warm for every later run
        del folders["NUMBA_CACHE_DIR"]
    for variable, name in folders.items():
        if variable not in os.environ:
            folder = cache / name
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[variable] = str(folder)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # our kernels share out the threads; BLAS must not add its own
    os.environ["NUMBA_NUM_THREADS"] = str(n_threads)
    os.environ["MPLBACKEND"] = "Agg"
    os.environ["NO_ET"] = os.environ["NIPYPE_NO_ET"] = "1"  # nipype asks for new versions else
    # GNU OpenMP ends a process that forks after using it, and is not installed everywhere
    os.environ.setdefault("NUMBA_THREADING_LAYER", "workqueue")
    _ensure_temporary_folder(cache)
    # getpass.getuser() raises for a user id without a name, and nipype's plugins ask it
    os.environ.setdefault("LOGNAME", os.environ.get("USER") or f"uid{os.getuid()}")


def _is_checkout() -> bool:
    return (Path(__file__).parents[2] / "pyproject.toml").exists()


def _ensure_temporary_folder(cache: Path) -> None:
    """Use a folder of our own where the system has none that can be written."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        folder = cache / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["TMPDIR"] = str(folder)
