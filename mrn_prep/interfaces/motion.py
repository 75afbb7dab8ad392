"""Nipype face of the motion and eddy-current models."""

from __future__ import annotations

from nipype.interfaces.base import File, traits

from mrn_prep.interfaces._base import FactsOutputSpec, MapInterface
from mrn_prep.interfaces.dwi import _SeriesInputSpec


class _CorrectMotionInputSpec(_SeriesInputSpec):
    mask = File(exists=True, mandatory=True, desc="the limb")
    pe_axis = traits.Enum(
        None, 0, 1, 2, usedefault=True,
        desc="voxel axis of phase encoding; None: rigid motion only",
    )  # fmt: skip


class _CorrectMotionOutputSpec(FactsOutputSpec):
    out_file = File(exists=True, desc="series in the frame of the first b0")
    bvec_file = File(exists=True, desc="directions turned with the volumes (FSL's convention)")
    confounds = File(exists=True, desc="parameters of each volume")


class CorrectMotion(MapInterface):
    """Bring all volumes of a diffusion series into one frame."""

    input_spec = _CorrectMotionInputSpec
    output_spec = _CorrectMotionOutputSpec
