import numpy as np
import pytest

from mrn_prep.io.sampling import read_sampling, write_sampling
from mrn_prep.models.sampling import Sampling


@pytest.mark.parametrize("shift", [None, np.arange(6.0).reshape(1, 2, 3)])
def test_sampling_comes_back_as_it_was(tmp_path, shift):
    rng = np.random.default_rng(0)
    written = Sampling(rng.normal(size=(5, 3, 4)), rng.normal(size=(5, 10)), 1, shift, 2)
    read = read_sampling(write_sampling(written, tmp_path / "sampling.npz"))
    np.testing.assert_array_equal(read.at((1, 2, 3)), written.at((1, 2, 3)))
    assert (read.pe_axis, read.shift_axis, read.shift is None) == (1, 2, shift is None)
