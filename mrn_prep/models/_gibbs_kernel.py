"""Lines of an image sampled where they ring least: the compiled inner loops.

A line is given by its samples on a grid four times as fine as its voxels (exact, by Fourier
shifts). Sixteenths of a voxel follow from eight of these samples at a time, which for a line
of this bandwidth is exact to 1e-5.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

N_PHASES = 4
"""Samples per voxel that the kernel is given."""

_FINER = 4  # sub-steps between them
_TAPS = 8
_PAD = 6  # voxels that a window and the taps reach beyond the ends of a line
_MARGIN = 8  # unused voxels around a row, so that windows may start anywhere
_ROW = 1024  # voxels of lines side by side: long enough for vector units, short enough for a cache
_TINY = np.float32(1e-20)  # keeps the weight of a constant neighbourhood finite


def interpolation_taps() -> NDArray[np.float32]:
    """Weights of the samples around each sub-step, shape (4, 8): least squares over the band."""
    offsets = np.arange(1 - _TAPS // 2, _TAPS // 2 + 1)
    overlap = np.sinc((offsets[:, np.newaxis] - offsets) / N_PHASES) + 1e-10 * np.eye(_TAPS)
    wanted = np.sinc((offsets[:, np.newaxis] - np.arange(_FINER) / _FINER) / N_PHASES)
    taps = np.linalg.solve(overlap, wanted).T
    taps[0] = offsets == 0
    return np.ascontiguousarray(taps, dtype=np.float32)


# The loops are written with few arrays and with loads before choices, or they would not be
# turned into vector instructions (8 times slower).


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _add(factor, row, total):  # type: ignore[no-untyped-def]
    for i in range(total.size):
        total[i] += factor * row[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _keep_better(variation, value, least, kept):  # type: ignore[no-untyped-def]
    """Where this shift varies less than any before, take its value."""
    for i in range(kept.size):
        new, old, new_value, old_value = variation[i], least[i], value[i], kept[i]
        kept[i] = new_value if new < old else old_value
        least[i] = new if new < old else old


@njit(cache=True, nogil=True, error_model="numpy")
def _lay_side_by_side(phases, first, last, rows):  # type: ignore[no-untyped-def]
    """Copy lines, each continued periodically by the padding, into one row per phase."""
    n = phases.shape[2]
    for p in range(N_PHASES):
        for line in range(first, last):
            source = phases[p, line]
            target = rows[p, 2 * _MARGIN + (line - first) * (n + 2 * _PAD) :]
            for i in range(n):  # assigning whole slices costs seconds of compiling
                target[_PAD + i] = source[i]
            for i in range(_PAD):
                target[i] = source[(i - _PAD) % n]
                target[n + _PAD + i] = source[i % n]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _average(least, kept, out):  # type: ignore[no-untyped-def]
    """Mean of what the windows chose, weighted by 1 / their mean variation per step."""
    total, weight = np.zeros_like(out), np.zeros_like(out)
    for window in range(4):
        steps = np.float32(2 if window < 2 else 3)
        variation, values = least[window], kept[window]
        for i in range(out.size):
            w = steps / (variation[i] + _TINY)
            total[i] += w * values[i]
            weight[i] += w
    for i in range(out.size):
        out[i] = total[i] / weight[i]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def unring_lines(phases, taps, out):  # type: ignore[no-untyped-def]
    """Write lines (m, n) without ringing, from their samples (4, m, n) at quarters of a voxel."""
    _, m, n = phases.shape
    group = max(1, _ROW // n)
    width = (n + 2 * _PAD) * group
    rows = np.zeros((N_PHASES, width + 4 * _MARGIN), np.float32)
    shifted = np.zeros(width + 2 * _MARGIN, np.float32)
    step, two, three = np.zeros_like(shifted), np.zeros_like(shifted), np.zeros_like(shifted)
    value = np.empty(width, np.float32)
    least, kept = np.empty((4, width), np.float32), np.zeros((4, width), np.float32)
    here = slice(_MARGIN, _MARGIN + width)
    for first in range(0, m, group):
        last = min(m, first + group)
        _lay_side_by_side(phases, first, last, rows)
        least[:] = np.inf
        for j in range(-N_PHASES * _FINER // 2, N_PHASES * _FINER // 2 + 1):
            whole = j // _FINER
            shifted[:] = 0
            for t in range(_TAPS):
                sample = whole + t + 1 - _TAPS // 2
                factor = taps[j - whole * _FINER, t]
                if factor != 0:
                    _add(factor, rows[sample % N_PHASES, _MARGIN + sample // N_PHASES :], shifted)
            following = shifted[1:]
            for i in range(following.size):
                step[i] = abs(following[i] - shifted[i])
            # back to the voxel's centre, linearly: anything sharper would ring again
            part = np.float32(abs(j) / (N_PHASES * _FINER))
            beside = _MARGIN - 1 if j > 0 else _MARGIN + 1
            value[:] = 0
            _add(np.float32(1) - part, shifted[here], value)
            _add(part, shifted[beside : beside + width], value)
            for i in range(step.size - 2):
                two[i] = step[i] + step[i + 1]
            for i in range(step.size - 3):
                three[i] = two[i] + step[i + 2]
            _keep_better(two[_MARGIN:], value, least[0], kept[0])
            _keep_better(two[_MARGIN - 2 :], value, least[1], kept[1])
            _keep_better(three[_MARGIN + 1 :], value, least[2], kept[2])
            _keep_better(three[_MARGIN - 4 :], value, least[3], kept[3])
        _average(least, kept, value)
        for line in range(first, last):
            start = (line - first) * (n + 2 * _PAD) + _PAD
            for i in range(n):
                out[line, i] = value[start + i]
