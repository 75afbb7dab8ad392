"""The regions of a session on the grids of its maps, found once for each grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nb
import numpy as np

from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.io.images import array, load
from mrn_prep.measure.regions import Membership, memberships, probability_membership

_SAME_GRID_DECIMALS = 4


@dataclass(frozen=True)
class Placed:
    """A region on a grid."""

    region: Region
    member: Membership


class Placement:
    """All regions of a session, to be asked for by the grid of an image.

    Parameters
    ----------
    files
        Where the regions are drawn.
    """

    def __init__(self, files: Sequence[RegionFile]) -> None:
        self._files = tuple(files)
        self._on_grid: dict[tuple[object, ...], list[Placed]] = {}

    def on(self, image: nb.Nifti1Image) -> list[Placed]:
        """Return all regions on the grid of an image, in an order that is the same for all."""
        key = (image.shape[:3], image.affine.round(_SAME_GRID_DECIMALS).tobytes())
        if key not in self._on_grid:
            self._on_grid[key] = [item for file in self._files for item in _place(file, image)]
        return self._on_grid[key]


def _place(file: RegionFile, image: nb.Nifti1Image) -> list[Placed]:
    mask = load(file.file)
    shape = image.shape[:3]
    if file.kind == "probseg":
        (region,) = file.regions
        values = array(mask).reshape(mask.shape[:3])
        return [Placed(region, probability_membership(values, mask.affine, shape, image.affine))]
    # Label images written as floats are common; labels are whole numbers all the same.
    labels = np.rint(np.asarray(mask.dataobj)).astype(np.int32).reshape(mask.shape[:3])
    found = memberships(labels, mask.affine, [r.index for r in file.regions], shape, image.affine)
    return [Placed(region, found[region.index]) for region in file.regions]
