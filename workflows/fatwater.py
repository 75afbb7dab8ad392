"""Fat fraction and T2*."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import MEGREInputs
from mrn_prep.interfaces.fat_water import FitFatWater
from mrn_prep.workflows._graph import boundary, same, series_name


def init_fatwater_wf(megre: MEGREInputs, *, n_threads: int = 1, mem_gb: float = 0.5) -> pe.Workflow:
    """Fat, water, T2* and off-resonance of a multi-echo gradient echo.

    The field map is found over the whole limb, so that fat and water are not taken
    for one another; each voxel is then fitted with a fat of several peaks. Without
    phase the magnitudes are fitted.

    Outputs
    -------
    pdff, t2star, r2star with their standard errors, water, fat, field, status, facts
    """
    fitted = ("pdff", "t2star", "r2star")
    maps = (*fitted, *(f"{m}_se" for m in fitted), "water", "fat", "field")
    maps += ("status", "t2star_status", "facts")
    wf, _, outputs = boundary(series_name("fatwater", megre.entities), outputs=maps)
    fit = pe.Node(
        FitFatWater(
            in_files=list(megre.files), te_s=list(megre.te_s), field_t=megre.field_t,
            kind=megre.kind, n_threads=n_threads,
        ),
        name="fit", n_procs=n_threads, mem_gb=mem_gb,
    )  # fmt: skip
    wf.connect([(fit, outputs, same(*maps))])
    return wf
