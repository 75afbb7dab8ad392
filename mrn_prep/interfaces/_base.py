"""What every interface here shares: writing its arrays, telling its facts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nb
import numpy as np
from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    isdefined,
    traits,
)
from numpy.typing import ArrayLike, NDArray

from mrn_prep.io.images import array, load, same_grid, save_like
from mrn_prep.models.noise import sigma_from_background
from mrn_prep.models.resample import resample


class FactsOutputSpec(TraitedSpec):
    """Outputs of a step that tells something beside its maps."""

    facts = traits.Dict(
        desc="what the sidecars will tell: Quality (numbers), ValidityFlags (names), "
        "EstimationMethod, EstimationReference"
    )


class SeriesInputSpec(BaseInterfaceInputSpec):
    """Inputs of a fit to a series of images."""

    in_files = traits.List(File(exists=True), mandatory=True, desc="images of the series")
    before = traits.Dict(desc="facts of the step before, which are told with one's own")
    sigma = traits.Float(desc="noise of the images before they were moved; measured without it")


class MapInterface(SimpleInterface):
    """A step whose outputs are arrays on the grid of an input image."""

    def write(self, runtime: Any, like: nb.Nifti1Image, **maps: ArrayLike) -> None:
        """Save each array as an uncompressed image in the node's folder, as output of that name."""
        for name, values in maps.items():
            path = Path(runtime.cwd) / f"{name}.nii"
            self._results[name] = str(save_like(values, like, path))

    def tell(
        self,
        *,
        quality: Mapping[str, float] | None = None,
        flags: Sequence[str] = (),
        method: str = "",
        references: Sequence[str] = (),
        note: str = "",
    ) -> None:
        """Set the output `facts`; unknown numbers become None, as JSON has no NaN.

        `note` says what the standard errors leave out. What the step before told comes first.
        """
        before = dict(getattr(self.inputs, "before", None) or {})
        quality = {**before.get("Quality", {}), **(quality or {})}
        flags = [*before.get("ValidityFlags", []), *flags]
        method = "; ".join(filter(None, [before.get("EstimationMethod", ""), method]))
        references = [*before.get("EstimationReference", []), *references]
        note = " ".join(filter(None, [before.get("StandardErrorNote", ""), note]))
        facts: dict[str, object] = {"ValidityFlags": sorted(set(flags))}
        if method:
            facts["EstimationMethod"] = method
        if note:
            facts["StandardErrorNote"] = note
        if references:
            facts["EstimationReference"] = list(references)
        if quality:
            facts["Quality"] = {
                name: (None if value is None or not math.isfinite(value) else float(value))
                for name, value in quality.items()
            }
        self._results["facts"] = facts

    def noise_of(self, images: ArrayLike, mask: ArrayLike) -> float:
        """Return the noise of a series: as told by the step before, else from the air around."""
        told = self.inputs.sigma
        return float(told) if isdefined(told) else sigma_from_background(images, mask)

    def on_grid(self, name: str, like: nb.Nifti1Image) -> NDArray[np.float32] | None:
        """Return an input map on the grid of an image, by world coordinates; None if not given."""
        file = getattr(self.inputs, name)
        if not file:
            return None
        image = load(file)
        values: NDArray[np.float32] = resample(
            array(image), image.affine, like.affine, like.shape[:3]
        )
        return values


def load_series(files: Sequence[str]) -> tuple[NDArray[np.float32], nb.Nifti1Image]:
    """Stack 3D images of one grid on a last axis; return the array and the first image."""
    images = [load(file) for file in files]
    same_grid(*images)
    shape = images[0].shape[:3]
    series = np.empty((*shape, len(images)), dtype=np.float32)
    for i, image in enumerate(images):
        series[..., i] = array(image).reshape(shape)
    return series, images[0]


def mean_image(series: NDArray[np.floating]) -> NDArray[np.float64]:
    """Average the images of a series where they are known; 0 where none is.

    An image that was moved does not reach everywhere: its voxels stay in the limb, and the fit
    says that they are not finite.
    """
    total, count = np.zeros(series.shape[:-1]), np.zeros(series.shape[:-1])
    for i in range(series.shape[-1]):
        known = np.isfinite(series[..., i])
        total[known] += series[..., i][known]
        count += known
    return total / np.maximum(count, 1)
