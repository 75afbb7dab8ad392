"""Diffusion: the input series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mrn_prep.errors import ExitCode, Problem
from mrn_prep.inputs.blips import AXES, Blip, find_blip
from mrn_prep.inputs.checks import Checker
from mrn_prep.inputs.dwi_parts import B0_MAX, Part, combined, read_part, shared_entities
from mrn_prep.inputs.dwi_phase import find_phase
from mrn_prep.inputs.rois import RegionFile, of_tissue
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.io.dataset import BidsFile, Dataset, Metadata
from mrn_prep.io.names import series_entities
from mrn_prep.models.dwi_quality import distinct_directions
from mrn_prep.models.eddy import HALF_SPHERE_IMBALANCE
from mrn_prep.models.motion import gradient_imbalance
from mrn_prep.models.mppca import MIN_VOLUMES
from mrn_prep.models.qball import FEWEST_DIRECTIONS as QBALL_DIRECTIONS
from mrn_prep.options import Options
from mrn_prep.outputs import IVIM, QBALL, TENSOR, TRACTS, Product, files_of, of_modality

__all__ = ["B0_MAX", "DWIInputs", "find_dwi"]

_MIN_DIRECTIONS = 6
_GIB = 2**30
_LOW_B, _MIN_LOW, _MIN_HIGH = 200.0, 4, 2
_MEANT = 2  # so many weak weightings are there for perfusion


@dataclass(frozen=True, kw_only=True)
class DWIInputs(SeriesInputs):
    """One diffusion series, ready to process; `files` are its parts, usually one.

    Attributes
    ----------
    bval_files, bvec_files
        Absolute paths, as many as images.
    b_s_mm2
        b-values (s/mm²), one per volume, one part after the other.
    pe_axis
        Voxel axis of phase encoding, or None where the sidecar does not tell.
    n_directions
        Different gradient directions, v and -v being one.
    blip
        Image with reversed phase encoding, or None.
    pe_sign, readout_s
        Whether phase encoding runs along its axis (1) or against it (-1), and the total
        readout time (s); used with `blip`.
    n_shell_directions
        Those at the largest b-value.
    regions
        Regions of tissue nerve, to be followed, and muscle.
    partial_fourier
        Share of k-space that was acquired; 1 where the sidecar does not tell.
    phase_files
        Phase of each of `files`, whose `sources` come last; empty where magnitudes are all there
        is.
    """

    modality = "dwi"
    name = "Diffusion"
    sections = ("dwi",)
    _copies = 3

    bval_files: tuple[str, ...]
    bvec_files: tuple[str, ...]
    b_s_mm2: tuple[float, ...]
    pe_axis: int | None
    n_directions: int = _MIN_DIRECTIONS
    partial_fourier: float = 1.0
    blip: Blip | None = None
    n_shell_directions: int = 0
    regions: tuple[RegionFile, ...] = ()
    pe_sign: int = 1
    readout_s: float = 0.0
    phase_files: tuple[str, ...] = ()

    def without_phase(self) -> DWIInputs:
        """Return the series as its magnitudes alone."""
        n = len(self.sources) - len(self.phase_files)
        return replace(self, phase_files=(), sources=self.sources[:n])

    def without_blip(self) -> DWIInputs:
        """Return the series without the image with reversed phase encoding."""
        named = self.blip.source if self.blip else ""
        sources = tuple(source for source in self.sources if source != named)
        return replace(self, blip=None, sources=sources)

    def undistorted(self, options: Options) -> bool:
        """Whether distortion by the field is corrected."""
        return self.blip is not None and options.dwi.distortion and options.dwi.motion != "none"

    @property
    def nerves(self) -> tuple[RegionFile, ...]:
        """The regions of tissue nerve."""
        return of_tissue(self.regions, ("nerve",))

    def denoised(self, options: Options) -> bool:
        """Whether the volumes are denoised, which takes a few."""
        return options.dwi.denoise == "mppca" and self.grid.n_volumes >= MIN_VOLUMES

    def left_out(self, options: Options) -> tuple[str, ...]:
        """Return denoising, q-ball imaging and IVIM, where they cannot be had."""
        wanting = {}
        if options.dwi.denoise == "mppca" and not self.denoised(options):
            few = f"{MIN_VOLUMES} volumes, there are {self.grid.n_volumes}"
            wanting["denoising (--dwi-denoise)"] = few
        if options.dwi.qball:
            wanting["q-ball imaging (--dwi-qball)"] = self.without_qball
        if options.dwi.ivim != "none" and not self.has_ivim(options):
            wanting["IVIM"] = self.without_ivim
        return tuple(f"{what} needs {needs}" for what, needs in wanting.items() if needs)

    def repaired(self, options: Options) -> bool:
        """Whether darkened slices are replaced."""
        return self.has_tensor and options.dwi.outliers and options.dwi.motion != "none"

    def has_qball(self, options: Options) -> bool:
        """Whether fibre directions are sought where there is more than one."""
        return options.dwi.qball and not self.without_qball

    @property
    def without_qball(self) -> str:
        """What q-ball imaging would need; empty where nothing is missing."""
        if min(self.b_s_mm2) > B0_MAX or self.n_shell_directions < QBALL_DIRECTIONS:
            return (
                f"an image without weighting and {QBALL_DIRECTIONS} directions at one b-value, "
                f"there are {self.n_shell_directions}"
            )
        return "" if self.regions else "regions of tissue nerve or muscle"

    def has_tracts(self, options: Options) -> bool:
        """Whether nerves are followed through the tensor."""
        return bool(self.nerves) and self.has_tensor and options.dwi.tracts

    @property
    def has_tensor(self) -> bool:
        """Whether the tensor can be told: an image without weighting and six directions."""
        return min(self.b_s_mm2) <= B0_MAX and self.n_directions >= _MIN_DIRECTIONS

    def has_ivim(self, options: Options) -> bool:
        """Whether perfusion can be told: four b-values below 200 s/mm2, two from there on."""
        low, high = self._low_and_high_b
        enough = min(self.b_s_mm2) <= B0_MAX and len(low) >= _MIN_LOW and len(high) >= _MIN_HIGH
        return options.dwi.ivim != "none" and enough

    @property
    def _low_and_high_b(self) -> tuple[list[int], list[int]]:
        """Different b-values below that from which on perfusion has decayed, and the others."""
        b = sorted({round(b) for b in self.b_s_mm2})
        return [v for v in b if v < _LOW_B], [v for v in b if v >= _LOW_B]

    @property
    def without_ivim(self) -> str:
        """What IVIM would need of a series that is made for it; empty where it is not."""
        low, high = self._low_and_high_b
        if sum(value > B0_MAX for value in low) < _MEANT:
            return ""
        return (
            f"{_MIN_LOW} b-values below {_LOW_B:g} s/mm2 (one of {B0_MAX:g} or less) and "
            f"{_MIN_HIGH} from there on, there are {len(low)} and {len(high)}"
        )

    @property
    def size_gb(self) -> float:
        """Size of the series as float32 (GB); its grid holds the volumes of all parts."""
        return self.grid.float32_bytes / _GIB

    @property
    def memory_gb(self) -> float:
        """Memory that its largest step is expected to need (GB)."""
        # a phase is scaled in double precision
        return super().memory_gb + 2 * self.size_gb * bool(self.phase_files)

    @property
    def description(self) -> str:
        """What will be done with the series."""
        eddy = "motion and eddy currents" if self.pe_axis is not None else "motion only"
        eddy += ", distortion" * (self.blip is not None)
        made = eddy if self.has_tensor else "ADC only"
        runs = f" of {len(self.files)} files taken together" if len(self.files) > 1 else ""
        volumes = f"{self.grid.n_volumes} volumes{runs}"
        phase = " with phase" * bool(self.phase_files)
        return f"diffusion, {volumes}{phase}, {made} ({self.sequence_class})"

    def products(self, options: Options) -> tuple[Product, ...]:
        """Return what it becomes."""
        skip = (
            *options.dwi.not_made,
            *(() if self.denoised(options) else ("sigma", "denoising_residual")),
            *(() if self.has_tensor else TENSOR),
            *(() if self.has_ivim(options) else IVIM),
            *(() if self.has_tracts(options) else TRACTS),
            *(() if self.undistorted(options) else ("blip_field",)),
            *(() if self.repaired(options) else ("outliers",)),
            *(() if self.has_qball(options) else QBALL),
        )
        keys = [row.key for row in of_modality("dwi", skip)]
        keys += [row.key for row in files_of("dwi", skip)]
        own = {"adc": "adc_status", "gfa": "qball_status", "ivim_dstar": "ivim_dstar_status"}
        own |= dict.fromkeys(("ivim_f", "ivim_d"), "ivim_status")
        return tuple(Product(key, "", own.get(key, "status")) for key in keys)


def find_dwi(
    dataset: Dataset,
    files: Sequence[BidsFile],
    costs: str,
    *,
    combine: bool = True,
    phase: bool = True,
) -> tuple[list[DWIInputs], list[Problem]]:
    """Find the diffusion series of one session; what is wrong comes as problems.

    With `combine`, runs and shells of one protocol are one series; with `phase`, that of
    magnitudes is used where it is there.
    """
    parts: list[Part] = []
    problems: list[Problem] = []
    for file in files:
        is_series = file.suffix == "dwi" and file.entities.get("datatype") == "dwi"
        if not (is_series and file.is_image and file.entities.get("part", "mag") == "mag"):
            continue
        checker = Checker(dataset, costs)
        part = read_part(checker, file)
        problems += checker.problems
        if part is not None:
            parts.append(part)
    together: list[tuple[Part, ...]] = [(part,) for part in parts]
    if combine:
        together, remarks = combined(parts)
        problems += remarks
    found: list[DWIInputs] = []
    unweighted: list[Part] = []
    for several in together:
        if not any(part.weighted.any() for part in several):
            unweighted += several
            continue
        checker = Checker(dataset, costs)
        inputs = _series(checker, several, files, phase=phase)
        problems += checker.problems
        if inputs is not None:
            found.append(inputs)
    used = {series.blip.file for series in found if series.blip}
    for part in unweighted:
        if str(part.file.full) not in used:
            what = f"no volume has b above {B0_MAX:g}, and no series has the opposite blips"
            problems.append(Problem(where=part.file.path, what=what, costs="It is left",
                                    code=ExitCode.DONE))  # fmt: skip
    return _named_apart(found, together), problems


def _series(
    checker: Checker, parts: Sequence[Part], files: Sequence[BidsFile], *, phase: bool
) -> DWIInputs | None:
    first = parts[0]
    metadata = first.metadata
    b = np.concatenate([part.b_s_mm2 for part in parts])
    bvecs = np.concatenate([part.bvecs for part in parts], axis=1)
    weighted = b > B0_MAX
    distinct = _check_gradients(checker, first, b, bvecs)
    field_t = checker.field_strength(metadata)
    if not checker.ok:
        return None
    pe = metadata.values.get("PhaseEncodingDirection")
    _check_phase_encoding(checker, first, b, bvecs)
    blip = find_blip(checker, [part.file for part in parts], first.grid, metadata, files)
    phases = find_phase(checker, parts, files) if phase else ()
    readout = metadata.values.get("TotalReadoutTime")
    partial_fourier, te_s = (_number(metadata, key) for key in ("PartialFourier", "EchoTime"))
    shells = "-".join(f"{value:g}" for value in sorted({round(v, -1) for v in b[weighted]}))
    field = f"{field_t:g}T-" if field_t else ""
    echo = f"TE{te_s * 1e3:g}-" if te_s else ""
    return DWIInputs(
        entities=series_entities(shared_entities(parts)),
        files=tuple(str(part.file.full) for part in parts),
        bval_files=tuple(str(part.bval_file.full) for part in parts),
        bvec_files=tuple(str(part.bvec_file.full) for part in parts if part.bvec_file),
        sources=(
            *(checker.dataset.uri(part.file) for part in parts), *([blip.source] if blip else []),
            *(checker.dataset.uri(file) for file in phases),
        ),
        phase_files=tuple(str(file.full) for file in phases),
        b_s_mm2=tuple(float(value) for value in b),
        pe_axis=None if pe is None else AXES[str(pe)[0]],
        n_directions=distinct,
        n_shell_directions=distinct_directions(bvecs[:, weighted & (b >= 0.9 * b.max())].T),
        partial_fourier=partial_fourier or 1.0,
        blip=blip,
        pe_sign=-1 if str(pe).endswith("-") else 1,
        readout_s=float(readout) if isinstance(readout, int | float) else 0.0,
        grid=replace(first.grid, shape=(*first.grid.shape[:3], b.size)),
        sequence_class=f"DWI-{field}{echo}b{shells}-n{int(weighted.sum())}",
    )  # fmt: skip


def _named_apart(found: Sequence[DWIInputs], together: Sequence[Sequence[Part]]) -> list[DWIInputs]:
    """Give back to a series the entities of its first part where two would have one name."""
    names = {str(part.file.full): part.file.entities for several in together for part in several}
    taken: list[Mapping[str, str]] = []
    apart = []
    for series in found:
        if series.entities in taken:
            series = replace(series, entities=series_entities(names[series.files[0]]))
        taken.append(series.entities)
        apart.append(series)
    return apart


def _number(metadata: Metadata, key: str) -> float | None:
    value = metadata.values.get(key)
    return float(value) if isinstance(value, int | float) else None


def _check_phase_encoding(
    checker: Checker, first: Part, b: NDArray[np.floating], bvecs: NDArray[np.floating]
) -> None:
    if "PhaseEncodingDirection" not in first.metadata.values:
        checker.remark(
            first.metadata.sidecar,
            "PhaseEncodingDirection is missing",
            "Eddy-current distortion is not corrected, rigid motion is",
        )
        return
    weighted = b > B0_MAX
    if gradient_imbalance(bvecs[:, weighted].T, b[weighted]) > HALF_SPHERE_IMBALANCE:
        assert first.bvec_file is not None
        checker.remark(
            first.bvec_file.path,
            "the directions cover one half of the sphere",
            "Motion and eddy currents can be told apart in part only (flagged half-sphere)",
        )


def _check_gradients(
    checker: Checker, first: Part, bvals: NDArray[np.floating], bvecs: NDArray[np.floating]
) -> int:
    """Check the table of a whole series; return the number of different directions."""
    assert first.bvec_file is not None
    bval_file, bvec_file = first.bval_file, first.bvec_file
    weighted = bvals > B0_MAX
    directions = distinct_directions(bvecs[:, weighted].T)
    if np.ptp(bvals) <= B0_MAX:
        checker.fault(bval_file.path, f"all volumes have b near {bvals.mean():.4g}",
                      "diffusion needs two different b-values")  # fmt: skip
        return directions
    costs = "There is no tensor, ADC alone"
    if weighted.all():
        checker.remark(
            bval_file.path, "no volume has b up to 5, the tensor needs one without weighting", costs
        )
    if directions < _MIN_DIRECTIONS:
        checker.remark(
            bvec_file.path,
            f"has {directions} different directions, the tensor needs {_MIN_DIRECTIONS}", costs,
        )  # fmt: skip
    return directions
