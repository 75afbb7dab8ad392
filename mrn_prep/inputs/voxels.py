"""Checks that need the voxels: read before any step starts, in parallel."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.b1 import AFIInputs
from mrn_prep.inputs.dwi import DWIInputs
from mrn_prep.inputs.session import Found, SessionInputs
from mrn_prep.inputs.vfa import VFAInputs
from mrn_prep.io.images import array, load
from mrn_prep.models.b1_afi import afi_looks_swapped
from mrn_prep.models.mask import limb_mask

Series = AFIInputs | VFAInputs | DWIInputs


def check_voxels(found: Found, n_threads: int = 1) -> Found:
    """Read all images once; series with unusable voxels are dropped and told."""
    jobs = [(session, series) for session in found.sessions for series in session.series]
    with ThreadPoolExecutor(max_workers=max(1, n_threads)) as pool:
        results = list(pool.map(lambda job: _series_problems(*job), jobs))
    bad = {id(series) for (_, series), wrong in zip(jobs, results, strict=True) if wrong}
    problems = [problem for wrong in results for problem in wrong]
    if not problems:
        return found
    sessions = tuple(_without(session, bad, problems) for session in found.sessions)
    return Found(sessions, (*found.problems, *problems))


def _without(session: SessionInputs, bad: set[int], problems: Sequence[Problem]) -> SessionInputs:
    """Return the session without bad series; a bad B1 map leaves T1 uncorrected."""
    vfa = tuple(
        replace(v, b1=None) if v.b1 is not None and id(v.b1) in bad else v
        for v in session.vfa
        if id(v) not in bad
    )
    told = tuple(str(p) for p in problems if session.label in p.costs)
    return replace(
        session,
        b1=tuple(b for b in session.b1 if id(b) not in bad),
        vfa=vfa,
        dwi=tuple(d for d in session.dwi if id(d) not in bad),
        remarks=session.remarks + told,
    )


def _series_problems(session: SessionInputs, series: Series) -> list[Problem]:
    files = (series.file,) if isinstance(series, DWIInputs) else series.files
    named = {AFIInputs: "B1+", VFAInputs: "T1", DWIInputs: "Diffusion"}[type(series)]
    costs = f"{named} of {session.label} is left out"
    problems: list[Problem] = []
    voxels = []
    for file in files:
        where = file[file.rindex(f"sub-{session.subject}/") :]
        try:
            data = array(load(file))
        except (EOFError, zlib.error, gzip.BadGzipFile, ValueError, OSError) as error:
            # nibabel tells a short file by OSError without errno, the system by one with it
            code = ExitCode.READ_WRITE if getattr(error, "errno", None) else ExitCode.BAD_DATA
            problems.append(
                Problem(
                    where=where,
                    what="cannot be read to its end (truncated?)",
                    wanted="wanted a whole NIfTI image",
                    costs=costs,
                    code=code,
                )
            )
            continue
        problems += [
            Problem(where=where, what=what, wanted=wanted, costs=costs)
            for what, wanted in _voxel_faults(data)
        ]
        voxels.append(data)
    if isinstance(series, AFIInputs) and not problems:
        pair = np.stack(voxels, axis=-1)
        if afi_looks_swapped(pair, limb_mask(pair.mean(axis=-1))):
            problems.append(
                Problem(
                    where=session.label,
                    what="the AFI image of the shorter TR is darker than that of the longer",
                    wanted="the pair looks swapped: wanted acq-tr1 to be the image acquired "
                    "before the shorter TR",
                    costs=costs,
                )
            )
    return problems


def _voxel_faults(data: NDArray[np.float32]) -> list[tuple[str, str]]:
    # A sum is finite only if all its terms are: one cheap pass for the usual case.
    if not np.isfinite(data.sum(dtype=np.float64)):
        n_bad = int((~np.isfinite(data)).sum())
        return [(f"{n_bad} voxels are not finite (NaN or infinite)", "wanted numbers")]
    if not data.any():
        return [("all voxels are zero", "wanted an image")]
    return []
