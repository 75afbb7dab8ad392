"""Why a voxel has no value, or no error: one list of reasons for every map, limits of every fit.

The numbers are written into status maps and must never be renumbered; new
reasons are appended.
"""

from __future__ import annotations

from enum import IntEnum

NOISE_FLOOR_SIGMA = 3.0
"""A voxel whose largest signal is below this many sigma is air."""
MIN_RESIDUAL_DOF = 6
"""Below this many degrees of freedom a standard error from residuals is too small."""


class Reason(IntEnum):
    """What a status map says of a voxel; 0 means that it was fitted.

    >>> Reason.NO_B1.sentence
    'No B1+ value at this voxel.'
    >>> all(reason.sentence for reason in Reason)
    True
    """

    FITTED = 0
    OUTSIDE_MASK = 1
    NON_FINITE = 2
    NO_SIGNAL = 3
    NO_B1 = 4
    INVALID_RATIO = 5
    OUT_OF_RANGE = 6
    NOT_CONVERGED = 7
    NOT_IDENTIFIABLE = 8
    TOO_FEW = 9
    NO_T1 = 10
    SATURATED = 11
    NO_ENHANCEMENT = 12

    @property
    def sentence(self) -> str:
        """One sentence for sidecars and documentation."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.FITTED: "Fitted.",
    Reason.OUTSIDE_MASK: "Outside the mask of voxels to fit.",
    Reason.NON_FINITE: "The input is not finite.",
    Reason.NO_SIGNAL: "No signal above the noise floor.",
    Reason.NO_B1: "No B1+ value at this voxel.",
    Reason.INVALID_RATIO: "The ratio of the two signals is impossible (arccosine of more than 1).",
    Reason.OUT_OF_RANGE: "The best fit lies outside the model's range.",
    Reason.NOT_CONVERGED: "The fit did not converge.",
    Reason.NOT_IDENTIFIABLE: "The data do not determine the parameter.",
    Reason.TOO_FEW: "Too few usable measurements.",
    Reason.NO_T1: "No T1 value at this voxel.",
    Reason.SATURATED: "The signal is brighter than any concentration makes it.",
    Reason.NO_ENHANCEMENT: "Nothing rises above the noise of the baseline.",
}


def legend() -> dict[str, str]:
    """Return code (as text) -> sentence, as the sidecars of status maps list it."""
    return {str(int(reason)): reason.sentence for reason in Reason}
