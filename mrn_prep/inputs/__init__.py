"""Input series: found, validated and converted to SI once.

Every problem of every file is collected, not only the first.
"""

from mrn_prep.inputs.anatomy import AnatomyInputs
from mrn_prep.inputs.b1 import B1Inputs, CorrectedInputs
from mrn_prep.inputs.b1_images import AngleInputs, B1MapInputs, RFMInputs, TFLInputs
from mrn_prep.inputs.b1_pairs import AFIInputs, DAMInputs
from mrn_prep.inputs.dce import DCEInputs
from mrn_prep.inputs.dwi import DWIInputs
from mrn_prep.inputs.ir import IRInputs
from mrn_prep.inputs.megre import MEGREInputs
from mrn_prep.inputs.mese import MESEInputs
from mrn_prep.inputs.mt import MTRInputs, MTSInputs
from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.inputs.series import SeriesInputs
from mrn_prep.inputs.session import Found, SessionInputs, find_inputs
from mrn_prep.inputs.vfa import VFAInputs

__all__ = [
    "AFIInputs",
    "AnatomyInputs",
    "AngleInputs",
    "B1Inputs",
    "B1MapInputs",
    "CorrectedInputs",
    "DAMInputs",
    "DCEInputs",
    "DWIInputs",
    "Found",
    "IRInputs",
    "MEGREInputs",
    "MESEInputs",
    "MTRInputs",
    "MTSInputs",
    "RFMInputs",
    "Region",
    "RegionFile",
    "SeriesInputs",
    "SessionInputs",
    "TFLInputs",
    "VFAInputs",
    "find_inputs",
]
