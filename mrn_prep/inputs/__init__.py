"""Input series: found, validated and converted to SI once.

Every problem of every file is collected, not only the first.
"""

from mrn_prep.inputs.b1 import AFIInputs
from mrn_prep.inputs.dwi import DWIInputs
from mrn_prep.inputs.rois import Region, RegionFile
from mrn_prep.inputs.session import Found, SessionInputs, find_inputs
from mrn_prep.inputs.vfa import VFAInputs

__all__ = [
    "AFIInputs",
    "DWIInputs",
    "Found",
    "Region",
    "RegionFile",
    "SessionInputs",
    "VFAInputs",
    "find_inputs",
]
