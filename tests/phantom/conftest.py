"""A limb seen by the series of both makes of scanner, in four slices."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from mrn_prep.models.motion import rigid_matrix
from mrn_prep.phantom.geometry import REGIONS
from mrn_prep.phantom.limb import Limb
from mrn_prep.phantom.scene import Scene
from mrn_prep.phantom.sites import site

POSE = rigid_matrix([0.02, -0.03, 0.04], [2.0, -1.0, 3.0])
NAMES = ("sciatic", "vastus", "femoralartery", "subcutaneousfat")


class View:
    """A series of a site, and what it sees."""

    def __init__(self, key, index):
        place = site(index)
        self.series = place.series[key]
        grid = replace(self.series.grid, shape=(*self.series.grid.shape[:2], 4), finer=(4, 4, 3))
        self.scene = Scene(
            limb=Limb(), grid=grid, pose=POSE, b1_scale=place.b1_scale, gain=place.gain,
            field_t=place.field_t,
        )  # fmt: skip
        self.signal = self.series.signal(self.scene)
        maps = self.series.true_maps(self.scene, 0.0)
        self.truth = {(found.key, found.method): found.values for found in maps}

    def pure(self, *names):
        """Return where one of these regions fills the voxel."""
        where = np.isin(self.scene.pure, [REGIONS[name].index for name in names])
        assert where.sum() > 3
        return where

    def tissue(self, name):
        """Return the tissue of a region."""
        return self.scene.limb.tissues[name]

    def values(self, name, where):
        """Return a property of the region that fills each voxel."""
        return self.scene.limb.values(name)[self.scene.pure[where]]


@pytest.fixture(scope="session", params=[0, 1], ids=["site A", "site B"])
def site_index(request):
    return request.param


@pytest.fixture(scope="session")
def view():
    """Return the view of a series at a site, by its key and the site's number."""
    return cache(View)


@pytest.fixture(scope="session")
def names():
    """Regions of different tissue that fill voxels on every grid."""
    return NAMES
