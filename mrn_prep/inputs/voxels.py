"""Checks that need the voxels: read before any step starts, in parallel."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.b1 import CorrectedInputs
from mrn_prep.inputs.dwi import DWIInputs
from mrn_prep.inputs.dwi_phase import MAGNITUDES_ALONE, phase_fault
from mrn_prep.inputs.rois import RegionFile
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.inputs.session import Found, SessionInputs
from mrn_prep.io.images import array, load

_AT_ONCE = 4
"""Series held in memory at once, however many processors there are."""


@dataclass(frozen=True)
class _Phase:
    """Phase beside the magnitudes of a diffusion series."""

    file: str


@dataclass(frozen=True)
class _Reversed:
    """Image with reversed phase encoding of diffusion series."""

    file: str


@dataclass(frozen=True)
class _Job:
    """Something to read: a series, what stands beside it or a region file of a session."""

    session: SessionInputs
    what: SeriesInputs | RegionFile | _Phase | _Reversed


def check_voxels(found: Found, n_threads: int = 1) -> Found:
    """Read all images once; series and regions with unusable voxels are dropped and told."""
    jobs = [_Job(session, series) for session in found.sessions for series in session.series]
    jobs += [_Job(session, file) for session in found.sessions for file in session.regions]
    jobs += [
        _Job(session, _Phase(file))
        for session in found.sessions
        for series in session.of(DWIInputs)
        for file in series.phase_files
    ]
    jobs += [
        _Job(session, _Reversed(file))
        for session in found.sessions
        for file in sorted({one.blip.file for one in session.of(DWIInputs) if one.blip})
    ]
    with ThreadPoolExecutor(max_workers=min(max(1, n_threads), _AT_ONCE)) as pool:
        results = list(pool.map(_problems, jobs))
    bad = {id(job.what) for job, wrong in zip(jobs, results, strict=True) if wrong}
    if not bad:
        return found
    beside = {
        job.what.file
        for job in jobs
        if isinstance(job.what, _Phase | _Reversed) and id(job.what) in bad
    }
    told = {id(session): list[Problem]() for session in found.sessions}
    for job, wrong in zip(jobs, results, strict=True):
        told[id(job.session)] += wrong
    sessions = []
    for session in found.sessions:
        told[id(session)] += _uncorrected(session, bad)
        sessions.append(_without(session, bad, beside, told[id(session)]))
    problems = [problem for wrong in told.values() for problem in wrong]
    return Found(tuple(sessions), (*found.problems, *problems))


def _without(
    session: SessionInputs, bad: set[int], beside: set[str], told: Sequence[Problem]
) -> SessionInputs:
    """Return the session without bad series; bad images beside a series leave it without them."""
    unread = {file.file for file in session.regions if id(file) in bad}

    def kept(series: SeriesInputs) -> SeriesInputs:
        if isinstance(series, CorrectedInputs) and id(series.b1) in bad:
            return replace(series, b1=None)
        if isinstance(series, DWIInputs):
            regions = tuple(file for file in series.regions if file.file not in unread)
            if beside.intersection(series.phase_files):
                series = series.without_phase()
            if series.blip and series.blip.file in beside:
                series = series.without_blip()
            return replace(series, regions=regions)
        return series

    return replace(
        session,
        series=tuple(kept(s) for s in session.series if id(s) not in bad),
        regions=tuple(r for r in session.regions if id(r) not in bad),
        remarks=session.remarks + tuple(str(problem) for problem in told),
    )


def _uncorrected(session: SessionInputs, bad: set[int]) -> list[Problem]:
    """Name the series that lose their B1+."""
    return [
        Problem(
            where=series.sources[0].rpartition("/")[2],
            what="its B1+ images cannot be used",
            costs=f"{series.name} is made without B1+",
            code=ExitCode.DONE,
        )
        for series in session.of(CorrectedInputs)
        if id(series) not in bad and id(series.b1) in bad
    ]


def _problems(job: _Job) -> list[Problem]:
    what, label = job.what, job.session.label
    if isinstance(what, RegionFile):
        return _read(what.file, "Its regions are not measured", finite=False)[1]
    if isinstance(what, _Phase):
        return _phase_problems(what.file)
    if isinstance(what, _Reversed):
        return _read(what.file, "Distortion is not corrected by it")[1]
    costs = f"{what.name} of {label} is left out"
    read = [_read(file, costs) for file in what.files]
    problems = [problem for _, wrong in read for problem in wrong]
    voxels = [data for data, _ in read if data is not None]
    if not problems:
        problems += [
            Problem(where=_short(what.files[i]), what=found, wanted=wanted, costs=costs)
            for i, found, wanted in what.voxel_faults(voxels)
        ]
    return problems


def _phase_problems(file: str) -> list[Problem]:
    data, problems = _read(file, MAGNITUDES_ALONE)
    fault = phase_fault(data) if data is not None and not problems else ""
    if fault:
        problems.append(
            Problem(where=_short(file), what=fault, costs=MAGNITUDES_ALONE,
                    wanted="wanted radians or a scanner's full range")
        )  # fmt: skip
    return problems


def _read(
    file: str, costs: str, *, finite: bool = True
) -> tuple[NDArray[np.float32] | None, list[Problem]]:
    """Return the voxels of a file (None where they cannot be read) and what is wrong."""
    where, code = _short(file), ExitCode.BAD_DATA
    data: NDArray[np.float32] | None = None
    try:
        data = array(load(file))
        faults = _voxel_faults(data) if finite else []
    except (EOFError, ValueError, TypeError, ImageFileError, OSError) as error:
        # nibabel tells a short file by OSError without errno, the system by one with it
        if isinstance(error, OSError) and error.errno:
            faults, code = [(f"cannot be read ({error.strerror})", "")], ExitCode.READ_WRITE
        else:
            faults = [("cannot be read to its end (truncated?)", "wanted a whole NIfTI image")]
    except Exception as error:
        # zlib and other decompressors have errors of their own, without a common base
        what = f"cannot be decompressed ({type(error).__name__}: {error})"
        faults = [(what, "wanted a whole NIfTI image")]
    return data, [
        Problem(where=where, what=what, wanted=wanted, costs=costs, code=code)
        for what, wanted in faults
    ]


def _short(file: str) -> str:
    """Return a path from the participant's folder on.

    >>> _short("/data/sub-group/sub-01/anat/sub-01_T2w.nii")
    'sub-01/anat/sub-01_T2w.nii'
    """
    folder, _, name = file.rpartition("/")
    at = folder.rfind("/sub-")
    return file[at + 1 :] if at >= 0 else name


def _voxel_faults(data: NDArray[np.float32]) -> list[tuple[str, str]]:
    # A sum is finite only if all its terms are: one cheap pass for the usual case.
    if not np.isfinite(data.sum(dtype=np.float64)):
        n_bad = int((~np.isfinite(data)).sum())
        return [(f"{n_bad} voxels are not finite (NaN or infinite)", "wanted numbers")]
    if not data.any():
        return [("all voxels are zero", "wanted an image")]
    return []
