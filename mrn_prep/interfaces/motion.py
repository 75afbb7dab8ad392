"""Nipype face of the motion and eddy-current models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from nipype.interfaces.base import File, traits
from numpy.typing import NDArray

from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.interfaces.dwi import SeriesInputSpec
from mrn_prep.io.gradients import read_gradients, write_gradients
from mrn_prep.io.images import array, load, same_grid, voxel_mm
from mrn_prep.io.sampling import write_sampling
from mrn_prep.io.tables import frame, write_table
from mrn_prep.io.transforms import write_itk
from mrn_prep.models.eddy import Distortion, MotionEddyResult, correct_motion_eddy
from mrn_prep.models.motion import rigid_to_world, rotation_vector
from mrn_prep.models.status import Reason

_EDDY = (
    "eddy_shift_mm", "eddy_x", "eddy_y", "eddy_z", "eddy_xx", "eddy_yy", "eddy_zz", "eddy_xy",
    "eddy_xz", "eddy_yz",
)  # fmt: skip
"""Columns of the coefficients of `mrn_prep.models.motion.eddy_basis`."""


class _CorrectMotionInputSpec(SeriesInputSpec):
    mask = File(exists=True, mandatory=True, desc="the limb")
    pe_axis = traits.Enum(
        None, 0, 1, 2, usedefault=True,
        desc="voxel axis of phase encoding; None: rigid motion only",
    )  # fmt: skip
    field = File(exists=True, desc="off-resonance of the first b0 (Hz), to be undone too")
    field_axis = traits.Enum(0, 1, 2, usedefault=True, desc="voxel axis along which it displaces")
    pe_sign = traits.Enum(1, -1, usedefault=True, desc="phase encoding along or against its axis")
    readout_s = traits.Float(0.0, usedefault=True, desc="total readout time (s)")


class _CorrectMotionOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="series in the frame of the first b0")
    bvec_file = File(exists=True, desc="directions turned with the volumes (FSL's convention)")
    confounds = File(exists=True, desc="parameters of each volume")
    xfm = File(exists=True, desc="rigid transforms from the reference to each volume (ITK)")
    sampling = File(exists=True, desc="where each volume was read; not set if the series stays")


class CorrectMotion(MapInterface):
    """Bring all volumes of a diffusion series into one frame."""

    input_spec = _CorrectMotionInputSpec
    output_spec = _CorrectMotionOutputSpec

    def _run_interface(self, runtime: Any) -> Any:
        image, mask = load(self.inputs.in_file), load(self.inputs.mask)
        same_grid(image, mask)
        inside = array(mask) > 0
        b_s_mm2, bvecs = read_gradients(self.inputs.bval_file, self.inputs.bvec_file, image.affine)
        size = voxel_mm(image)
        distortion = None
        if self.inputs.field:
            field_hz = array(load(self.inputs.field))
            distortion = Distortion(
                field_hz, self.inputs.field_axis, self.inputs.pe_sign, self.inputs.readout_s
            )
        result = correct_motion_eddy(
            array(image), b_s_mm2, bvecs, size, inside, self.inputs.pe_axis,
            distortion=distortion,
        )  # fmt: skip
        self.write(runtime, image, out_file=result.corrected)
        folder = Path(runtime.cwd)
        bvec_file = folder / "rotated.bvec"
        write_gradients(b_s_mm2, result.bvecs, image.affine, folder / "rotated.bval", bvec_file)
        self._results["bvec_file"] = str(bvec_file)
        table = frame(_volume_rows(result, b_s_mm2), "confounds")
        self._results["confounds"] = str(write_table(table, folder / "confounds.tsv", "confounds"))
        world = rigid_to_world(_applied(result), image.affine, image.shape[:3], size)
        self._results["xfm"] = str(write_itk(world, folder / "motion.txt"))
        if result.sampling is not None:
            path = write_sampling(result.sampling, folder / "sampling.npz")
            self._results["sampling"] = str(path)
        framewise = float(np.nanmean(result.framewise_mm[1:]))
        eddy = self.inputs.pe_axis is not None
        self.tell(
            quality={
                "displacement_mean": float(np.nanmean(result.displacement_mm)),
                "displacement_max": float(np.nanmax(result.displacement_mm)),
                "framewise_displacement_mean": framewise,
                "n_not_registered": float((result.status != Reason.FITTED).sum()),
            },
            flags=["no-eddy"] * (not eddy)
            + ["half-sphere"] * (eddy and not result.whole_sphere)
            + ["motion"] * (framewise > 0.5 * min(size))
            + ["se-lower-bound"] * result.improved,
            method="model-based motion"
            + " and eddy-current" * eddy
            + " correction"
            + " (volumes agreed best as they were)" * (not result.improved),
            references=["doi:10.1016/j.neuroimage.2015.10.019"],
        )
        return runtime


def _applied(result: MotionEddyResult) -> NDArray[np.floating]:
    """Return the transforms by which the volumes were resampled."""
    if result.improved:
        return result.rigid
    return np.broadcast_to(np.eye(4), result.rigid.shape)


def _volume_rows(
    result: MotionEddyResult, b_s_mm2: NDArray[np.floating]
) -> Iterator[dict[str, object]]:
    n = len(b_s_mm2)
    eddy = np.zeros((n, len(_EDDY)))
    eddy[:, : result.eddy.shape[1]] = result.eddy
    for i in range(n):
        rotation = np.full(3, np.nan)
        if np.isfinite(result.rigid[i]).all():
            rotation = np.rad2deg(rotation_vector(result.rigid[i][None, :3, :3])[0])
        shift = result.rigid[i][:3, 3]
        yield {
            "volume": i,
            "b_s_mm2": b_s_mm2[i],
            **{f"trans_{axis}_mm": shift[k] for k, axis in enumerate("xyz")},
            **{f"rot_{axis}_deg": rotation[k] for k, axis in enumerate("xyz")},
            "displacement_mm": result.displacement_mm[i],
            "framewise_displacement_mm": result.framewise_mm[i],
            **dict(zip(_EDDY, eddy[i], strict=True)),
            "gain": result.gain[i],
            "outside_fraction": result.outside_fraction[i],
            "status": int(result.status[i]),
        }
