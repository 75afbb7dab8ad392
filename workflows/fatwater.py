"""Fat fraction and T2*."""

from __future__ import annotations

from nipype.pipeline import engine as pe

from mrn_prep.inputs import MEGREInputs
from mrn_prep.interfaces.denoise import DenoiseEchoes, DenoiseSeries
from mrn_prep.interfaces.fat_water import FitFatWater
from mrn_prep.workflows._graph import HANDED_ON, boundary, same, series_name


def init_fatwater_wf(
    megre: MEGREInputs, *, denoise: bool, n_threads: int = 1, mem_gb: float = 0.5
) -> pe.Workflow:
    """Fat, water, T2* and off-resonance of a multi-echo gradient echo.

    Echoes are denoised if asked for, as real and imaginary parts where there is phase.
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
    resources = {"n_procs": n_threads, "mem_gb": mem_gb}
    files, kind = list(megre.files), megre.kind
    echoes = {"te_s": list(megre.te_s), "field_t": megre.field_t, "n_threads": n_threads}
    if not denoise:
        fit = pe.Node(FitFatWater(in_files=files, kind=kind, **echoes), name="fit", **resources)
    else:
        clean: DenoiseEchoes | DenoiseSeries = DenoiseSeries(in_files=files)
        if kind != "magnitude":
            clean, kind = DenoiseEchoes(in_files=files, kind=kind), "cartesian"
        first = pe.Node(clean, name="denoise", **resources)
        fit = pe.Node(FitFatWater(kind=kind, **echoes), name="fit", **resources)
        wf.connect([(first, fit, HANDED_ON)])
    wf.connect([(fit, outputs, same(*maps))])
    return wf
