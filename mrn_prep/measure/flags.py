"""Validity flags: what a reader must know before using a value.

They travel in the sidecar of a map (``ValidityFlags``) and in the ``flags``
column of each table row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "no-b1": "No B1+ map: flip angles were taken as nominal.",
        "b1-first-order": "B1+ by the first-order formula only (AFI reads up to 1 % low, the "
        "double angle several % high where TR is below five T1); no T1 series to refine it with.",
        "no-se": "No standard errors: the noise could not be estimated.",
        "b1-no-se": "Standard errors do not contain that of B1+, which has none.",
        "se-lower-bound": "Standard errors are a lower bound: what misregistration is left after "
        "motion correction is not in them.",
        "se-upper-bound": "Standard errors are those of the images before denoising: an upper "
        "bound.",
        "motion-not-corrected": "Motion was not corrected.",
        "distortion-not-corrected": "Distortion by the field was not corrected: the images with "
        "reversed phase encoding agreed best as they were.",
        "no-eddy": "Eddy-current distortion was not corrected (no phase-encoding direction).",
        "not-denoised": "The series was not denoised.",
        "runs-rescaled": "Files taken together differed in scale by more than 5 % and were brought "
        "to one by their unweighted volumes, or those of a common shell.",
        "run-scale-unknown": "A file taken together with others has no unweighted volume and no "
        "shell in common with them: its scale was taken as theirs.",
        "noise-floor": "The noise floor of magnitudes was left in, or the noise is not known: weak "
        "signals read high, diffusivities low.",
        "low-b-in-tensor": "Volumes with 5 < b < 200 s/mm2 are in the tensor fit.",
        "gradients-doubtful": "Fibres continue one another clearly better with the axes of the "
        "gradient table exchanged or reflected: the table should be checked.",
        "empty-volumes": "Volumes without any signal (n_empty_volumes in the quality table) were "
        "left out.",
        "few-directions": "Fewer than 15 gradient directions inflate FA.",
        "half-sphere": "Gradient directions cover one half-sphere: eddy-current terms are partly "
        "unidentifiable.",
        "t1-assumed": "T1 before contrast was taken as one value everywhere.",
        "t1-no-se": "Standard errors do not contain that of T1, which has none.",
        "hematocrit-assumed": "The haematocrit was not told: 0.42 was taken.",
        "dose-assumed": "The dose was not told: 0.1 mmol/kg was taken for the population's input "
        "function.",
        "fat-saturation": "Fat was saturated at unknown intervals: the pulse train was taken as "
        "continuous, which biases concentrations.",
        "aif-auto": "The input function is that of vessels found automatically.",
        "aif-vein": "The input function was measured in a vein: later and flatter than an "
        "artery's.",
        "aif-population": "The input function is a population's, not the person's own.",
        "aif-low-quality": "The input function is doubtful (few voxels, or no clear first pass).",
        "aif-inflow": "The vessel of the input function was more than half as bright again before "
        "contrast as blood at rest: fresh blood flows in, and the input function reads low.",
        "aif-region-unused": "The region of the artery or vein could not be used; "
        "EstimationMethod says why.",
        "injection-mismatch": "The signal rises before the injection that the sidecar tells: the "
        "baseline is that of the curves.",
        "frames-not-registered": "More than a tenth of the frames could not be registered and were "
        "left as they were.",
        "motion": "Large motion (mean displacement between volumes above half a voxel).",
        "magnitude-only": "Water and fat told apart by magnitudes alone, without phase: where fat "
        "prevails it can be taken for water.",
        "apparent-t2": "T2 by an exponential decay, or from two echoes: an apparent T2, which "
        "reads long where refocusing is imperfect.",
        "fat-t2-assumed": "T2 of fat could not be found in the data: a usual value was taken.",
        "no-fat-model": "Fat was not modelled: where there is some, the value is of water and fat "
        "together.",
        "fat": "Median fat fraction of the region above 10 %, which biases the value: with water "
        "and fat in phase T1 reads short, R1 high, MTR and MTsat low.",
        "low-snr": "Too noisy: the region's median standard error is above a fifth of the value "
        "(of a usual value, where the quantity can be zero).",
        "not-identifiable": "In more than 10 % of the region's voxels the data do not determine "
        "the parameter.",
        "no-reference": "No reference to relate the signal to: none is named for the region, or "
        "too little of it lies in the region's slices.",
        "partial-volume": "Fewer than half of the region's voxels lie wholly inside it.",
        "partly-fitted": "Fewer than 90 % of the region's voxels could be fitted.",
        "not-fitted": "No voxel of the region could be fitted.",
        "outside-image": "Part of the region lies outside the map's field of view.",
        "out-of-range": "The median lies outside the range expected in tissue.",
    }
)


def join(flags: Iterable[str]) -> str:
    """Return flags as one table cell, in the order of `FLAGS`.

    Raises
    ------
    ValueError
        If a flag is not in `FLAGS`.

    >>> join({"partial-volume", "no-b1"})
    'no-b1;partial-volume'
    >>> join([])
    'n/a'
    """
    wanted = set(flags)
    unknown = wanted - set(FLAGS)
    if unknown:
        raise ValueError(f"Unknown flags {sorted(unknown)}.")
    return ";".join(flag for flag in FLAGS if flag in wanted) or "n/a"
