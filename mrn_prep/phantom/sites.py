"""What each site acquires: grids, timings, angles, and how well its transmitter is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from mrn_prep.phantom.grid import Grid
from mrn_prep.phantom.series.b1 import AFI, DAM, RFM, TFL, ReadyMap
from mrn_prep.phantom.series.base import Series
from mrn_prep.phantom.series.dce import DCE
from mrn_prep.phantom.series.dwi import DWI
from mrn_prep.phantom.series.ir import InversionRecovery
from mrn_prep.phantom.series.megre import MEGRE
from mrn_prep.phantom.series.mese import MESE
from mrn_prep.phantom.series.mts import MTR, MTS
from mrn_prep.phantom.series.spin_echo import DualEcho, T2Prepared, T2w
from mrn_prep.phantom.series.vfa import VFA


@dataclass(frozen=True, kw_only=True)
class Site:
    """One scanner with its protocol: every series that it can acquire, by key."""

    name: str
    manufacturer: str
    model: str
    series: Mapping[str, Series]
    b1_scale: float = 1.0
    gain: float = 1000.0
    field_t: float = 3.0
    software: str = "phantom"

    def small(self) -> Site:
        """Return the same protocol with fewer, larger voxels and fewer directions."""
        return replace(self, series=_by_key(*(one.small() for one in self.series.values())))


def _by_key(*series: Series) -> Mapping[str, Series]:
    return MappingProxyType({one.key: one for one in series})


def _first(name: str) -> Site:
    b1 = Grid(shape=(56, 56, 10), voxel_mm=(3.0, 3.0, 6.0))
    slices = Grid(shape=(112, 112, 12), voxel_mm=(1.5, 1.5, 4.0))
    block = Grid(shape=(112, 112, 16), voxel_mm=(1.5, 1.5, 3.0))
    return Site(
        name=name, manufacturer="Siemens", model="Phantom A",
        series=_by_key(
            T2w(grid=Grid(shape=(208, 208, 12), voxel_mm=(0.8, 0.8, 4.0), finer=(4, 4, 3))),
            VFA(grid=Grid(shape=(126, 126, 12), voxel_mm=(1.33, 1.33, 4.0)),
                flip_deg=(3.0, 10.0, 20.0), tr_s=0.015),
            AFI(grid=b1), DAM(grid=b1), TFL(grid=b1), RFM(grid=b1), ReadyMap(grid=b1),
            MESE(grid=slices), T2Prepared(grid=slices), DualEcho(grid=slices),
            MEGRE(grid=block),
            MTS(grid=block), MTR(grid=block),
            InversionRecovery(grid=slices),
            DWI(grid=Grid(shape=(104, 104, 12), voxel_mm=(1.6, 1.6, 4.0))),
            DCE(grid=Grid(shape=(88, 88, 8), voxel_mm=(1.9, 1.9, 4.0), finer=(4, 4, 2))),
        ),
    )  # fmt: skip


def _second(name: str) -> Site:
    tilt = (4.0, -5.0, 3.0)
    b1 = Grid(shape=(56, 56, 11), voxel_mm=(3.0, 3.0, 6.0), mirrored=False)
    slices = Grid(shape=(116, 116, 11), voxel_mm=(1.45, 1.45, 4.5), tilt_deg=tilt, mirrored=False)
    block = Grid(shape=(112, 112, 14), voxel_mm=(1.5, 1.5, 3.5), tilt_deg=tilt, mirrored=False)
    increment = 117.0
    return Site(
        name=name, manufacturer="Philips", model="Phantom B", b1_scale=0.92, gain=1600.0,
        series=_by_key(
            T2w(grid=Grid(shape=(208, 208, 12), voxel_mm=(0.8, 0.8, 4.0), tilt_deg=tilt,
                          mirrored=False, finer=(4, 4, 3)), te_s=0.070, tr_s=4.2),
            VFA(grid=Grid(shape=(120, 120, 12), voxel_mm=(1.4, 1.4, 4.0), tilt_deg=tilt,
                          mirrored=False),
                flip_deg=(4.0, 8.0, 16.0), tr_s=0.012, rf_increment_deg=increment),
            AFI(grid=b1, flip_deg=55.0, tr1_s=0.025, tr2_s=0.125, rf_increment_deg=increment),
            DAM(grid=b1, flip_deg=40.0, tr_s=4.0, rf_increment_deg=increment),
            TFL(grid=b1, flip_deg=80.0), RFM(grid=b1, flip_deg=90.0),
            ReadyMap(grid=b1, percent=False),
            MESE(grid=slices, spacing_s=0.0087, n_echoes=14),
            T2Prepared(grid=slices, te_s=(0.020, 0.045, 0.070, 0.095)),
            DualEcho(grid=slices, te_s=(0.0164, 0.0820)),
            MEGRE(grid=block, te_s=0.0014, spacing_s=0.0013, flip_deg=4.0, phase_steps=False,
                  rf_increment_deg=increment),
            MTS(grid=block, flip_deg=(6.0, 20.0), tr_s=(0.025, 0.018),
                rf_increment_deg=increment),
            MTR(grid=block, flip_deg=(6.0, 20.0), tr_s=(0.025, 0.018),
                rf_increment_deg=increment),
            InversionRecovery(grid=slices, ti_s=(0.06, 0.2, 0.5, 1.4, 2.4, 3.8), tr_s=6.0),
            DWI(grid=Grid(shape=(100, 108, 12), voxel_mm=(1.65, 1.6, 4.0), tilt_deg=tilt,
                          mirrored=False), n_directions=32, te_s=0.060, tr_s=5.2, pe="j-",
                total_readout_s=0.038, blips_in="dwi"),
            DCE(grid=Grid(shape=(88, 88, 8), voxel_mm=(1.9, 1.9, 4.0), tilt_deg=tilt,
                          mirrored=False, finer=(4, 4, 2)),
                te_s=0.0019, tr_s=0.0048, flip_deg=15.0, n_frames=60, frame_s=5.0,
                injection_s=40.0, rf_increment_deg=increment),
        ),
    )  # fmt: skip


# Transmitters differ between scanners of one make by some per cent.
_SCALES = (1.0, 1.06, 0.95, 1.10, 0.90)
_MOST_SITES = 26


def site(index: int, *, small: bool = False) -> Site:
    """Return the protocol of a site; they alternate between two makes.

    Raises
    ------
    ValueError
        If `index` is not between 0 and 25 (sites are named by letters).

    >>> site(0).name, site(1).series["mese"].grid.voxel_mm, round(site(3).b1_scale, 3)
    ('A', (1.45, 1.45, 4.5), 0.975)
    """
    if not 0 <= index < _MOST_SITES:
        raise ValueError(f"Site {index} is not between 0 and {_MOST_SITES - 1}.")
    name = chr(ord("A") + index)
    made = (_first, _second)[index % 2](name)
    made = replace(made, b1_scale=made.b1_scale * _SCALES[index // 2 % len(_SCALES)])
    return made.small() if small else made
