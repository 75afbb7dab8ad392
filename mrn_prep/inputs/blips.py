"""Images with reversed phase encoding, which tell how the field distorts a diffusion series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mrn_prep.inputs.b1 import intended
from mrn_prep.inputs.checks import Checker
from mrn_prep.io.dataset import BidsFile, Dataset, Metadata
from mrn_prep.io.gradients import read_rows
from mrn_prep.io.headers import Grid

AXES = {"i": 0, "j": 1, "k": 2}
_SAME_PLACE = 0.5  # voxels: what scanners round off is far less, another prescription more


@dataclass(frozen=True, kw_only=True)
class Blip:
    """An image with its phase encoding.

    Attributes
    ----------
    file, source
        Absolute path and BIDS URI.
    volumes
        Those without diffusion weighting.
    pe_axis, pe_sign
        Voxel axis of phase encoding, and whether it runs along (1) or against it (-1).
    readout_s
        Total readout time (s).
    """

    file: str
    source: str
    volumes: tuple[int, ...]
    pe_axis: int
    pe_sign: int
    readout_s: float


def find_blip(
    checker: Checker,
    series: Sequence[BidsFile],
    grid: Grid,
    metadata: Metadata,
    files: Sequence[BidsFile],
) -> Blip | None:
    """Return the image whose phase encoding is opposite to that of a series and its parts.

    Images in ``fmap/`` (suffix epi) and in ``dwi/`` count; one that names the series (IntendedFor,
    B0FieldIdentifier) comes first. What forbids using an image that is there is remarked.
    """
    own_paths = {part.path for part in series}
    candidates = [file for file in files if file.path not in own_paths and _may_be(file)]
    if not candidates:
        return None
    told = checker.dataset.metadata
    candidates.sort(key=lambda file: not _names(told(file), metadata, series))
    own = _encoding(metadata)
    if own is None:
        keys = ("PhaseEncodingDirection", "TotalReadoutTime")
        missing = " and ".join(key for key in keys if key not in metadata.values) or keys[1]
        checker.remark(
            metadata.sidecar,
            f"{missing} is missing",
            "Distortion is not corrected, though there are images with other phase encoding",
        )
        return None
    reasons = []
    for file in candidates:
        found = _usable(checker, file, grid, own)
        if isinstance(found, Blip):
            return found
        if found:
            reasons.append((file, found))
    for file, reason in reasons[:1]:
        checker.remark(file.path, reason, f"Distortion of {series[0].name} is not corrected")
    return None


def _may_be(file: BidsFile) -> bool:
    magnitude = file.entities.get("part", "mag") == "mag"
    return file.suffix in ("epi", "dwi") and file.is_image and magnitude


def _names(metadata: Metadata, of_series: Metadata, series: Sequence[BidsFile]) -> bool:
    """Whether an image says that it is for a series, or for a part of it."""
    if any(part.path.endswith(path) for path in intended(metadata) for part in series):
        return True
    known = {"B0FieldIdentifier", "B0FieldSource"}
    mine, its = (_texts(m, known) for m in (metadata, of_series))
    return bool(mine & its)


def _texts(metadata: Metadata, keys: set[str]) -> set[str]:
    found: set[str] = set()
    for key in keys:
        value = metadata.values.get(key, [])
        found |= {str(v) for v in (value if isinstance(value, list) else [value])}
    return found


def _encoding(metadata: Metadata) -> tuple[int, int, float] | None:
    direction = str(metadata.values.get("PhaseEncodingDirection", ""))
    readout = metadata.values.get("TotalReadoutTime")
    if direction[:1] not in AXES or not isinstance(readout, int | float) or not 0 < readout < 1:
        return None
    return AXES[direction[0]], -1 if direction.endswith("-") else 1, float(readout)


def _usable(
    checker: Checker, file: BidsFile, grid: Grid, own: tuple[int, int, float]
) -> Blip | str:
    """Return the image, or why it cannot be used (empty where it is no pair at all)."""
    metadata = checker.dataset.metadata(file)
    if "PhaseEncodingDirection" not in metadata.values:
        return "PhaseEncodingDirection is missing" if file.suffix == "epi" else ""
    its = _encoding(metadata)
    if its is None:
        return "TotalReadoutTime is missing or not in seconds"
    if its[:2] == own[:2]:
        return "has the same phase encoding as the series" if file.suffix == "epi" else ""
    if its[0] != own[0]:
        return "has its phase encoding along another axis"
    look = Checker(checker.dataset, "")
    there = look.grid(file)
    if there is None or there.shape[:3] != grid.shape[:3]:
        shape = there.shape[:3] if there else "no"
        return f"has the matrix {shape}, the series {grid.shape[:3]}"
    off = grid.apart_mm(there)
    if off > _SAME_PLACE * min(grid.voxel_mm):
        return f"lies elsewhere than the series (voxels up to {off:.1f} mm apart)"
    volumes = _unweighted(checker.dataset, file, there.n_volumes)
    if not volumes:
        return "has no volume without diffusion weighting"
    return Blip(
        file=str(file.full), source=checker.dataset.uri(file), volumes=volumes,
        pe_axis=its[0], pe_sign=its[1], readout_s=its[2],
    )  # fmt: skip


def _unweighted(dataset: Dataset, file: BidsFile, n_volumes: int) -> tuple[int, ...]:
    tables = dataset.applicable(file, ".bval") if file.suffix == "dwi" else []
    if not tables:
        return tuple(range(n_volumes))
    try:
        bvals = read_rows(tables[-1].full).ravel()
    except (OSError, ValueError):
        return ()
    return tuple(int(i) for i in np.flatnonzero(bvals[:n_volumes] <= 5.0))
