"""How much noise a series has, and its signal in it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrn_prep.models.noise import rician_noise

Float = NDArray[np.floating]


def sigma_for(signal: NDArray[Any], muscle: NDArray[np.bool_], snr: float) -> float:
    """Return the noise that gives `snr`: mean muscle signal of the strongest image over sigma.

    Parameters
    ----------
    signal : array, shape (..., n)
        Noise-free series, complex or real.
    muscle : bool array, shape (...)
        Voxels that hold nothing but muscle.
    snr : float
        0 or infinite for no noise.

    Raises
    ------
    ValueError
        If no voxel is pure muscle.

    >>> sigma_for(np.array([[50.0, -100.0], [0.0, 900.0]]), np.array([True, False]), 20)
    5.0
    """
    if snr == 0 or np.isinf(snr):
        return 0.0
    if not muscle.any():
        raise ValueError("No voxel is pure muscle; the grid is too coarse for an SNR.")
    return float(np.abs(signal[muscle]).mean(axis=0).max() / snr)


def magnitude_in_noise(
    signal: Float, sigma: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return the magnitude of a real signal in complex noise, as it is stored."""
    noisy = rician_noise(signal, sigma, rng) if sigma > 0 else np.abs(signal)
    return noisy.astype(np.float32)


def phase_in_steps(phase_rad: Float) -> Float:
    """Return phase in steps from -4096 to 4094, as some scanners store it.

    >>> phase_in_steps(np.array([-np.pi, 0.0, np.pi / 2, np.pi])).tolist()
    [-4096.0, 0.0, 2048.0, -4096.0]
    """
    steps: Float = 2 * np.round(phase_rad * 2048 / np.pi)
    return np.where(steps == 4096, -4096.0, steps)


def complex_in_noise(
    signal: NDArray[Any], sigma: float, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Return the signal with noise in both channels.

    >>> noisy = complex_in_noise(np.full(10**5, 2j), 0.5, np.random.default_rng(0))
    >>> [round(float(x), 1) for x in (noisy.real.std(), noisy.imag.std(), noisy.imag.mean())]
    [0.5, 0.5, 2.0]
    """
    channels = sigma * rng.standard_normal((2, *signal.shape))
    noisy: NDArray[np.complex128] = signal + channels[0] + 1j * channels[1]
    return noisy
