"""Diffusion-weighted spin echoes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.dti import axial_tensor, tensor_signal
from mrn_prep.models.ivim import ivim_signal
from mrn_prep.models.motion import rotate_bvecs
from mrn_prep.phantom.distortion import Distortion
from mrn_prep.phantom.geometry import MUSCLES, NERVES, REGIONS
from mrn_prep.phantom.gradients import shells, table, to_fsl
from mrn_prep.phantom.motion import PE_AXIS, Motion, draw_motion
from mrn_prep.phantom.noise import complex_in_noise, magnitude_in_noise, phase_in_steps
from mrn_prep.phantom.scene import Bool, Scene
from mrn_prep.phantom.series.base import BY_PROTONS, SUM, File, TrueMap
from mrn_prep.phantom.series.moving import Moving
from mrn_prep.phantom.series.spin_echo import SpinEcho
from mrn_prep.phantom.tissues import Tissue

Float = NDArray[np.floating]

_PAIR = "pepolar"
_HEAVIEST = "In mixed voxels of the region with most protons."
_BY_BLOOD = "In mixed voxels the mean weighted by the protons of flowing blood."
_PHASE_RAD = np.array([3.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0])
"""Spread of what makes a volume's phase: 1, x, y, x², xy, y², z, each from -1 to 1."""
_MEANS = {"fa": "fa", "md": "md_mm2_s", "ad": "ad_mm2_s", "rd": "rd_mm2_s"}


@dataclass(frozen=True, kw_only=True)
class DWI(SpinEcho, Moving):
    """Diffusion-weighted spin echoes.

    Attributes
    ----------
    n_directions, b_s_mm2
        The shell for the tensor.
    more_b_s_mm2
        Further shells of six directions each. With them the blood in capillaries decays by
        its own pseudo-diffusivity; without them all water is the tissue's.
    pe, total_readout_s
        Phase encoding direction as BIDS has it, and readout time (s).
    distorted
        Whether off-resonance displaces the images along it.
    blips_in
        Datatype of the images with reversed blips, where there are any.
    with_phase
        Whether magnitude and phase are stored; each volume has a smooth phase of its own, as
        motion under diffusion gradients and the field give it.
    """

    key = "dwi"
    suffix = datatype = "dwi"
    labels: ClassVar[str | None] = ""
    confounds = "confounds"

    n_directions: int = 30
    b_s_mm2: float = 800.0
    te_s: float = 0.056
    tr_s: float = 4.8
    pe: str = "j"
    total_readout_s: float = 0.045
    more_b_s_mm2: tuple[float, ...] = ()
    distorted: bool = False
    blips_in: str = "fmap"
    with_phase: bool = False

    @property
    def gradients(self) -> tuple[Float, Float]:
        """b-values (s/mm²) and directions along the image axes, shapes (n,) and (n, 3)."""
        first = table(self.n_directions, self.b_s_mm2)
        if not self.more_b_s_mm2:
            return first
        b, bvecs = zip(first, shells(self.more_b_s_mm2), strict=True)
        return np.concatenate(b), np.concatenate(bvecs)

    def s0_values(self, scene: Scene) -> Float:
        """Return each region's signal without diffusion weighting, by region index."""
        return self.signals(scene, self.te_s)

    def weighted(self, scene: Scene, b_s_mm2: Float, bvecs: Float) -> Float:
        """Return noise-free images of a limb at rest, shape (*grid, n).

        `bvecs` run along the image axes (x as the voxel index runs), shape (n, 3).
        """
        s0 = self.s0_values(scene)

        def signal(name: str, tissue: Tissue, where: Bool) -> Float:
            if name in NERVES:
                along = scene.direction(name, where)
            elif name in MUSCLES:
                along = scene.direction(name, where)[:1]  # one for the whole muscle
            else:
                along = np.array([[0.0, 0.0, 1.0]])
            tensor = axial_tensor(tissue.ad_mm2_s, tissue.rd_mm2_s, along)
            full = s0[REGIONS[name].index]
            decay = tensor_signal(full, tensor, b_s_mm2, bvecs)
            if not self.more_b_s_mm2:
                return decay
            f, dstar = tissue.perfusion_fraction, tissue.dstar_mm2_s
            return (1 - f) * decay + f * ivim_signal(full, 1.0, 0.0, dstar, b_s_mm2)

        return scene.mix(signal, len(b_s_mm2))

    def signal(self, scene: Scene) -> Float:
        """Return noise-free images of a limb at rest, shape (*grid, n)."""
        return self.weighted(self.shown(scene), *self.gradients)

    def shown(self, scene: Scene) -> Scene:
        """Return what the series shows of a scene: the scene itself, or distorted."""
        if not self.distorted:
            return scene
        readout_s = self.total_readout_s * (-1 if self.pe.endswith("-") else 1)
        field = Distortion(PE_AXIS[self.pe[0]], readout_s, scene.limb.b0_hz)
        return replace(scene, distortion=field)

    def unspoilt(self, scene: Scene, signal: NDArray[Any]) -> NDArray[Any]:
        """Return `signal`, or what an undistorted image without weighting would be."""
        if not self.distorted:
            return signal
        return self.weighted(scene, np.zeros(1), np.zeros((1, 3)))

    def moving_signal(self, scene: Scene, motion: Motion) -> Float:
        """Return noise-free images of a limb that moves.

        Each volume is simulated anew where the limb lay, so that nothing is interpolated; the
        eddy-current stretch changes the signal by its Jacobian.
        """
        b, bvecs = self.gradients
        felt = rotate_bvecs(bvecs, motion.rigid)
        volumes = []
        for i, (warp, density) in enumerate(motion.warps(scene.grid, self.pe)):
            seen = self.shown(replace(scene, warp=warp))
            volumes.append(density * self.weighted(seen, b[i : i + 1], felt[i : i + 1]))
        return np.concatenate(volumes, axis=-1)

    def draw_motion(
        self, rng: np.random.Generator, *, shift_mm: float, turn_deg: float, eddy_mm: float
    ) -> Motion | None:
        """Draw a walk of the limb and eddy currents that follow the gradients."""
        if max(shift_mm, turn_deg, eddy_mm) == 0:
            return None
        return draw_motion(
            rng, *self.gradients, shift_mm=shift_mm, turn_deg=turn_deg, eddy_mm=eddy_mm
        )

    def images(
        self, signal: NDArray[Any], sigma: float, rng: np.random.Generator
    ) -> Sequence[NDArray[Any]]:
        """Return all volumes as one image, or as two: magnitude and phase."""
        if not self.with_phase:
            return [magnitude_in_noise(signal, sigma, rng)]
        turned = signal * np.exp(1j * _smooth_phase(signal.shape, rng))
        noisy = complex_in_noise(turned, sigma, rng)
        parts = (np.abs(noisy), phase_in_steps(np.angle(noisy)))
        return [part.astype(np.float32) for part in parts]

    def files(self) -> list[File]:
        """Return the only image, or magnitude and phase."""
        both = {"B0FieldIdentifier": _PAIR, "B0FieldSource": _PAIR}
        paired = self.distorted and self.blips_in == "dwi"
        parts = ({"part": "mag"}, {"part": "phase"}) if self.with_phase else ({},)
        return [
            File(part, {
                "EchoTime": self.te_s, "RepetitionTime": self.tr_s, "FlipAngle": 90,
                "MRAcquisitionType": "2D", "ScanningSequence": "EP",
                "PulseSequenceType": "diffusion-weighted spin-echo EPI", "ScanOptions": "FS",
                "PhaseEncodingDirection": self.pe, "TotalReadoutTime": self.total_readout_s,
                **(both if paired else {}),
                **({"Units": "arbitrary"} if part else {}),
            })
            for part in parts
        ]  # fmt: skip

    def beside(self) -> Mapping[str, str]:
        """Return the gradient table in FSL's convention."""
        b, bvecs = self.gradients
        stored = to_fsl(bvecs, self.grid.affine)
        rows = (" ".join(f"{value:.8f}" for value in axis) + "\n" for axis in stored.T)
        return {".bval": " ".join(f"{value:g}" for value in b) + "\n", ".bvec": "".join(rows)}

    def v1_map(self, scene: Scene) -> Float:
        """Return the main direction of the region that weighs most, in the scanner's axes."""
        index = (scene.fractions * scene.limb.values("pd")).argmax(axis=-1)
        v1 = np.full((*scene.grid.shape, 3), np.nan)
        for name in (*NERVES, *MUSCLES):
            where = index == REGIONS[name].index
            v1[where] = scene.direction(name, where) @ scene.grid.axes.T
        return v1

    def true_maps(self, scene: Scene, sigma: float) -> list[TrueMap]:
        """Return the maps of tensor and perfusion, and the noise."""
        return [
            *(TrueMap(key, scene.mean(scene.limb.values(name))) for key, name in _MEANS.items()),
            TrueMap("s0", scene.total(self.s0_values(scene)), note=SUM),
            TrueMap("v1", self.v1_map(scene), note=_HEAVIEST),
            TrueMap("sigma", np.full(scene.grid.shape, sigma), note="The same everywhere."),
            *(self._perfusion(scene) if self.more_b_s_mm2 else ()),
        ]

    def _perfusion(self, scene: Scene) -> list[TrueMap]:
        limb = scene.limb
        share, dstar = limb.values("perfusion_fraction"), limb.values("dstar_mm2_s")
        f, blood = scene.mean(share), scene.mean(share * dstar)
        by_blood = np.divide(blood, f, out=np.full(f.shape, np.nan), where=f > 0)
        return [
            TrueMap("ivim_f", f, note=BY_PROTONS),
            TrueMap("ivim_d", scene.mean(limb.values("md_mm2_s")), note=BY_PROTONS),
            TrueMap("ivim_dstar", by_blood, note=_BY_BLOOD),
        ]

    def small(self) -> Self:
        """Return larger voxels and fewer directions."""
        return replace(self, grid=self.grid.coarser(), n_directions=12)


def _smooth_phase(shape: tuple[int, ...], rng: np.random.Generator) -> Float:
    """Draw the phase of each volume (rad): a quadratic in the slice, a slope across slices."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape[:3]), indexing="ij")
    terms = np.stack([np.ones(shape[:3]), x, y, x * x, x * y, y * y, z], axis=-1)
    phase: Float = terms @ rng.normal(0, _PHASE_RAD, (shape[3], len(_PHASE_RAD))).T
    return phase
