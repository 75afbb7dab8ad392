"""What the quality table can tell of a series: name, unit and meaning of each metric."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

QUALITY: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "noise_sigma": ("arbitrary", "Standard deviation of the noise of the raw series."),
        "snr": ("1", "Median signal of the strongest image inside the limb over the noise."),
        "fitted_fraction": ("1", "Part of the limb's voxels that were fitted."),
        "b1_median": ("%", "Median B1+ inside the limb."),
        "b1_p05": ("%", "5th percentile of B1+ inside the limb."),
        "b1_p95": ("%", "95th percentile of B1+ inside the limb."),
        "n_volumes": ("1", "Volumes of the diffusion series."),
        "n_empty_volumes": ("1", "Volumes without any signal, which have no part in anything."),
        "n_b0": ("1", "Volumes with b up to 5 s/mm2."),
        "n_directions": ("1", "Different directions of the volumes in the fit (v and -v are one)."),
        "n_runs": ("1", "Files that were taken together as one series."),
        "tsnr_b0": (
            "1",
            "Mean over standard deviation of the unweighted volumes as acquired, typical of the "
            "limb; motion is in it.",
        ),
        "residual": (
            "%",
            "Root mean square of the processed series minus the tensor's prediction, of the "
            "median unweighted signal.",
        ),
        "qball_n_voxels": ("1", "Voxels in which fibre directions were sought."),
        "qball_crossing_fraction": ("1", "Part of them with more than one direction."),
        "n_components": ("1", "Median number of signal components that denoising kept."),
        "denoising_residual": (
            "1",
            "Root mean square of what denoising removed, over the noise, median of the limb: "
            "above 1 it was more than noise.",
        ),
        "displacement_mean": ("mm", "Mean displacement of the limb's voxels from the reference."),
        "displacement_max": ("mm", "Largest displacement of a volume from the reference."),
        "framewise_displacement_mean": ("mm", "Mean displacement from one volume to the next."),
        "tract_n_regions": ("1", "Nerve regions that were to be followed."),
        "tract_n_followed": ("1", "Nerve regions that were followed by streamlines."),
        "tract_n_streamlines": ("1", "Streamlines of all nerves."),
        "tract_length_median": ("mm", "Median length of the streamlines."),
        "n_outlier_slices": ("1", "Slices that were replaced by the prediction of the others."),
        "outlier_fraction": ("%", "Share of replaced slices among those that were judged."),
        "distortion_mean": ("mm", "Mean displacement by the field inside the limb."),
        "distortion_max": ("mm", "99th percentile of the displacement by the field."),
        "blip_correlation": ("1", "Correlation of the two polarities after correction."),
        "baseline_frames": ("1", "Frames before contrast."),
        "aif_peak": ("mM", "Peak of the input function (blood)."),
        "aif_peak_time": ("s", "Time of that peak."),
        "aif_arrival": ("s", "Arrival of contrast in the input function."),
        "aif_area": ("mM s", "Area under the input function."),
        "aif_area_se": ("mM s", "Its standard error: how its voxels differ, T1 of blood."),
        "aif_inflow": ("1", "Its vessel's signal before contrast over that of blood at rest."),
        "aif_washout": ("1/min", "Rate at which the input function falls at its end."),
        "aif_snr": ("1", "Peak of the input function over its noise."),
        "aif_n_voxels": ("1", "Voxels that the input function is the mean of."),
        "frame_change_before": (
            "%",
            "Change of the limb from frame to frame late in the series, "
            "before correction of motion.",
        ),
        "frame_change_after": (
            "%",
            "That change after the correction: motion that is left, noise.",
        ),
        "n_not_registered": ("1", "Volumes whose registration failed or did not settle."),
    }
)
"""Quality metrics: name -> (unit, description)."""


def quality_of(name: str) -> tuple[str, str]:
    """Return unit and description of a quality metric.

    >>> quality_of("n_b0")[0], quality_of("image2_rot_x")
    ('1', ('degrees', 'Rotation of image 2 of the series about x, as it was registered.'))
    >>> quality_of("cnr_b800")[1][:36]
    'Contrast of directions at b 800 s/mm'
    >>> quality_of("unheard of")
    ('n/a', 'n/a')
    """
    shell, run = re.fullmatch(r"cnr_b(\d+)", name), re.fullmatch(r"run(\d+)_scale", name)
    if shell is not None:
        return "1", (
            f"Contrast of directions at b {shell[1]} s/mm2: standard deviation over directions "
            "of what the tensor predicts, over the noise of the raw series."
        )
    if run is not None:
        return (
            "1",
            f"Signal of file {run[1]} of the series relative to the first, without weighting.",
        )
    moved = re.fullmatch(r"image(\d+)_(trans|rot)_([xyz])", name)
    if moved is None:
        return QUALITY.get(name, ("n/a", "n/a"))
    number, kind, axis = moved.groups()
    unit, what = ("mm", "Shift") if kind == "trans" else ("degrees", "Rotation")
    way = "along" if kind == "trans" else "about"
    return unit, f"{what} of image {number} of the series {way} {axis}, as it was registered."
