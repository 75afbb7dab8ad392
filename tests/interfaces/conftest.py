"""Limbs of known perfusion, one without noise and one with."""

import pytest
from dce_limb import make


@pytest.fixture(scope="module")
def limb(tmp_path_factory):
    return make(tmp_path_factory.mktemp("dce") / "clean")


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return make(tmp_path_factory.mktemp("dce") / "noisy", sigma=2.5)
