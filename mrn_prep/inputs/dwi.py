"""Diffusion: the input series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.blips import AXES, Blip, find_blip
from mrn_prep.inputs.checks import Checker
from mrn_prep.inputs.rois import RegionFile
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.io.dataset import BidsFile, Dataset
from mrn_prep.io.gradients import read_rows
from mrn_prep.io.names import series_entities
from mrn_prep.options import Options
from mrn_prep.outputs import IVIM, TENSOR, TRACTS, Product, files_of, of_modality

B0_MAX = 5.0
"""Volumes up to this b-value (s/mm²) count as not diffusion weighted."""

_MIN_DIRECTIONS = 6
_LOW_B, _MIN_LOW, _MIN_HIGH = 200.0, 4, 2


@dataclass(frozen=True, kw_only=True)
class DWIInputs(SeriesInputs):
    """One diffusion series, ready to process; `files` has one image.

    Attributes
    ----------
    bval_file, bvec_file
        Absolute paths.
    b_s_mm2
        b-values (s/mm²), one per volume.
    pe_axis
        Voxel axis of phase encoding, or None where the sidecar does not tell.
    n_directions
        Different gradient directions, v and -v being one.
    blip
        Image with reversed phase encoding, or None.
    pe_sign, readout_s
        Whether phase encoding runs along its axis (1) or against it (-1), and the total
        readout time (s); used with `blip`.
    nerves
        Regions of tissue nerve, to be followed.
    partial_fourier
        Share of k-space that was acquired; 1 where the sidecar does not tell.
    """

    modality = "dwi"
    name = "Diffusion"
    sections = ("dwi",)
    _copies = 3

    bval_file: str
    bvec_file: str
    b_s_mm2: tuple[float, ...]
    pe_axis: int | None
    n_directions: int = _MIN_DIRECTIONS
    partial_fourier: float = 1.0
    blip: Blip | None = None
    nerves: tuple[RegionFile, ...] = ()
    pe_sign: int = 1
    readout_s: float = 0.0

    def undistorted(self, options: Options) -> bool:
        """Whether distortion by the field is corrected."""
        return self.blip is not None and options.dwi.distortion and options.dwi.motion != "none"

    def has_tracts(self, options: Options) -> bool:
        """Whether nerves are followed through the tensor."""
        return bool(self.nerves) and self.has_tensor and options.dwi.tracts

    @property
    def has_tensor(self) -> bool:
        """Whether the tensor can be told: an image without weighting and six directions."""
        return min(self.b_s_mm2) <= B0_MAX and self.n_directions >= _MIN_DIRECTIONS

    def has_ivim(self, options: Options) -> bool:
        """Whether perfusion can be told: four b-values below 200 s/mm2, two from there on."""
        b = sorted({round(b) for b in self.b_s_mm2})
        low = sum(value < _LOW_B for value in b)
        enough = b[0] <= B0_MAX and low >= _MIN_LOW and len(b) - low >= _MIN_HIGH
        return options.dwi.ivim != "none" and enough

    @property
    def file(self) -> str:
        """The image."""
        return self.files[0]

    @property
    def description(self) -> str:
        """What will be done with the series."""
        eddy = "motion and eddy currents" if self.pe_axis is not None else "motion only"
        eddy += ", distortion" * (self.blip is not None)
        made = eddy if self.has_tensor else "ADC only"
        return f"diffusion, {self.grid.n_volumes} volumes, {made} ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        skip = (
            *options.dwi.not_made,
            *(() if self.has_tensor else TENSOR),
            *(() if self.has_ivim(options) else IVIM),
            *(() if self.has_tracts(options) else TRACTS),
            *(() if self.undistorted(options) else ("blip_field",)),
        )
        keys = [row.key for row in of_modality("dwi", skip)]
        keys += [row.key for row in files_of("dwi", skip)]
        own = {"adc": "adc_status", "ivim_dstar": "ivim_dstar_status"}
        own |= dict.fromkeys(("ivim_f", "ivim_d"), "ivim_status")
        return tuple(Product(key, "", own.get(key, "status")) for key in keys)


def find_dwi(
    dataset: Dataset, files: Sequence[BidsFile], costs: str
) -> tuple[list[DWIInputs], list[Problem]]:
    """Find the diffusion series of one session; what is wrong comes as problems."""
    found, problems, unweighted = [], [], []
    for file in files:
        is_series = file.suffix == "dwi" and file.entities.get("datatype") == "dwi"
        if not (is_series and file.is_image and file.entities.get("part", "mag") == "mag"):
            continue
        checker = Checker(dataset, costs)
        inputs = _one(checker, file, files)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
        elif checker.ok:
            unweighted.append(file)
    used = {series.blip.file for series in found if series.blip}
    for file in unweighted:
        if str(file.full) not in used:
            what = f"no volume has b above {B0_MAX:g}, and no series has the opposite blips"
            problems.append(Problem(where=file.path, what=what, costs="It is left",
                                    code=ExitCode.DONE))  # fmt: skip
    return found, problems


def _one(checker: Checker, file: BidsFile, files: Sequence[BidsFile]) -> DWIInputs | None:
    grid = checker.grid(file)
    metadata = checker.metadata(file)
    pe = checker.choice(metadata, "PhaseEncodingDirection")
    te_s = checker.number(metadata, "EchoTime")
    field_t = checker.field_strength(metadata)
    checker.number(metadata, "TotalReadoutTime")
    partial_fourier = checker.number(metadata, "PartialFourier")
    bval_file, bvals = _table(checker, file, ".bval")
    if grid is not None and bvals is not None and _unweighted(bvals, grid.n_volumes):
        return None  # of use to a series with the opposite blips, which finds it
    bvec_file, bvecs = _table(checker, file, ".bvec")
    if grid is None or bvals is None or bvecs is None:
        return None
    n = grid.n_volumes
    bvals = bvals.ravel()
    if bvals.size != n:
        checker.fault(bval_file.path, f"has {bvals.size} b-values", f"wanted {n}, one per volume")
    if bvecs.shape != (3, n):
        transposed = " (it looks transposed)" if bvecs.shape == (n, 3) else ""
        checker.fault(
            bvec_file.path,
            f"has {bvecs.shape[0]} rows of {bvecs.shape[1]} values{transposed}",
            f"wanted 3 rows of {n} values",
        )
    if checker.ok:
        _check_gradients(checker, bval_file, bvec_file, bvals, bvecs)
    if not checker.ok:
        return None
    if pe is None:
        checker.remark(
            metadata.sidecar,
            "PhaseEncodingDirection is missing",
            "Eddy-current distortion is not corrected, rigid motion is",
        )
    blip = find_blip(checker, file, grid, metadata, files)
    readout = metadata.values.get("TotalReadoutTime")
    distinct = _distinct(bvecs[:, bvals > B0_MAX])
    shells = "-".join(f"{b:g}" for b in sorted({round(b, -1) for b in bvals if b > B0_MAX}))
    directions = int((bvals > B0_MAX).sum())
    field = f"{field_t:g}T-" if field_t else ""
    echo = f"TE{te_s * 1e3:g}-" if te_s else ""
    return DWIInputs(
        entities=series_entities(file.entities),
        files=(str(file.full),),
        bval_file=str(bval_file.full),
        bvec_file=str(bvec_file.full),
        sources=(checker.dataset.uri(file), *([blip.source] if blip else [])),
        b_s_mm2=tuple(float(b) for b in bvals),
        pe_axis=None if pe is None else AXES[pe[0]],
        n_directions=distinct,
        partial_fourier=partial_fourier or 1.0,
        blip=blip,
        pe_sign=-1 if str(pe).endswith("-") else 1,
        readout_s=float(readout) if isinstance(readout, int | float) else 0.0,
        grid=grid,
        sequence_class=f"DWI-{field}{echo}b{shells}-n{directions}",
    )


def _table(
    checker: Checker, file: BidsFile, extension: str
) -> tuple[BidsFile, NDArray[np.floating] | None]:
    """Read a .bval or .bvec file that applies to the image."""
    applicable = checker.dataset.applicable(file, extension)
    if not applicable:
        checker.fault(
            file.path, f"has no {extension} file", "wanted one beside it", ExitCode.INPUT_MISSING
        )
        return file, None
    table = applicable[-1]
    try:
        return table, read_rows(table.full)
    except FileNotFoundError:
        checker.fault(table.path, "is a link to a file that is not there",
                      code=ExitCode.INPUT_MISSING)  # fmt: skip
    except OSError as error:
        checker.fault(table.path, f"cannot be read ({error.strerror})", code=ExitCode.READ_WRITE)
    except ValueError as error:
        checker.fault(table.path, str(error), "wanted rows of numbers in UTF-8 text")
    return table, None


def _unweighted(bvals: NDArray[np.floating], n_volumes: int) -> bool:
    return bvals.size == n_volumes and bool(((bvals >= 0) & (bvals <= B0_MAX)).all())


def _check_gradients(
    checker: Checker,
    bval_file: BidsFile,
    bvec_file: BidsFile,
    bvals: NDArray[np.floating],
    bvecs: NDArray[np.floating],
) -> None:
    if not np.isfinite(bvals).all() or (bvals < 0).any():
        checker.fault(
            bval_file.path, "has b-values that are negative or not finite", "wanted s/mm2"
        )
        return
    if bvals.max(initial=0.0) > 5e4:
        checker.fault(
            bval_file.path, f"has b-values up to {bvals.max():g}", "wanted s/mm2 (not s/m2)"
        )
    weighted = bvals > B0_MAX
    norms = np.linalg.norm(bvecs[:, weighted], axis=0)
    if not np.isfinite(bvecs).all() or (np.abs(norms - 1) > 0.05).any():
        checker.fault(
            bvec_file.path,
            f"{int((~(np.abs(norms - 1) <= 0.05)).sum())} directions are not of unit length",
            "wanted unit vectors (b = 0 may have zeros)",
        )
        return
    if np.ptp(bvals) <= B0_MAX:
        checker.fault(bval_file.path, f"all volumes have b near {bvals.mean():.4g}",
                      "diffusion needs two different b-values")  # fmt: skip
        return
    costs = "There is no tensor, ADC alone"
    if not (~weighted).any():
        checker.remark(
            bval_file.path, "no volume has b up to 5, the tensor needs one without weighting", costs
        )
    directions = _distinct(bvecs[:, weighted])
    if directions < _MIN_DIRECTIONS:
        checker.remark(
            bvec_file.path,
            f"has {directions} different directions, the tensor needs {_MIN_DIRECTIONS}", costs,
        )  # fmt: skip


def _distinct(directions: NDArray[np.floating]) -> int:
    """Count directions that differ by more than a degree, v and −v being one."""
    kept: list[NDArray[np.floating]] = []
    for direction in directions.T:
        if all(abs(float(direction @ other)) < np.cos(np.deg2rad(1.0)) for other in kept):
            kept.append(direction)
    return len(kept)
