"""Series of many volumes, between which the limb may move."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mrn_prep.phantom.motion import Motion
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.series.base import Series


@dataclass(frozen=True, kw_only=True)
class Moving(Series):
    """A series during which the limb may move."""

    confounds: ClassVar[str]
    """Key in `mrn_prep.outputs.FILES` of the table that tells of motion."""

    @abstractmethod
    def draw_motion(
        self, rng: np.random.Generator, *, shift_mm: float, turn_deg: float, eddy_mm: float
    ) -> Motion | None:
        """Return how the limb moves, or None where every volume shows it in one place."""

    @abstractmethod
    def moving_signal(self, scene: Scene, motion: Motion) -> NDArray[Any]:
        """Return noise-free images of a limb that moves, simulated where it lay."""
