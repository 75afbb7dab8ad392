"""Coarse-to-fine Gauss-Newton estimation of a displacement field from reversed blips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mrn_prep.models import motion
from mrn_prep.models._susceptibility_kernel import banded, normal_equations
from mrn_prep.models.motion import Float, Mask

_GAIN = 6  # kind of parameter, after three turns and three shifts
_COARSE = ((6.0, 4.0), (3.0, 2.0), (0.0, 1.0))  # blur (SD, mm), knots relative to the finest
_ITERATIONS = 6
_ROBUST = 4  # further iterations at the finest level
_OUTLYING = 3.0  # standardised residual at which a voxel's weight has fallen to a quarter
_MARGIN_MM = 12.0  # compared around the limb: where a wrong field would put it
# fat that is shifted elsewhere, pulsation, imperfect blips: the images never agree better
_MODEL_ERROR = 0.03
_SETTLED = 0.005  # voxels
# weight of staying at rest relative to what the images say of each turn and shift: what they
# determine is shortened by that part; what looks like a field besides (a turn about the
# readout, in a thin stack) stays where it is
_SHRINKAGE = 0.01
# and how far a limb moves (rad, mm), should the images not tell at all; a gain may be any
_REST_SD = np.array([0.05, 0.05, 0.05, 5.0, 5.0, 5.0, np.inf])
_FEWEST_VOXELS = 1.5  # between knots
_TOLERANCE, _MOST_ITERATIONS = 0.05, 200  # of the linear equations


class _Banded:
    """A matrix whose rows have few entries, side by side."""

    def __init__(self, dense: Float) -> None:
        self.shape = dense.shape
        used = dense != 0
        first = np.where(used.any(axis=1), used.argmax(axis=1), 0)
        width = int((dense.shape[1] - used[:, ::-1].argmax(axis=1) - first).max(initial=1))
        self.first = np.minimum(first, dense.shape[1] - width)
        columns = self.first[:, None] + np.arange(width)
        self.taps = np.take_along_axis(dense, columns, axis=1)


class Basis:
    """Tensor products of cubic B-splines on equally spaced knots, on a grid of voxels."""

    def __init__(self, shape: tuple[int, ...], voxel_mm: Float, knot_mm: float, pe: int) -> None:
        values, along, bends = [], [], []
        for axis, (length, size) in enumerate(zip(shape, voxel_mm, strict=True)):
            spline = spline_matrices(length, max(knot_mm / size, _FEWEST_VOXELS))
            values.append(spline[0])
            along.append(spline[1 if axis == pe else 0])
            bends.append([m.T @ m / size ** (2 * order) for order, m in enumerate(spline)])
        self._values, self._along = _bands(values), _bands(along)
        self._back, self._along_back = _bands([m.T for m in values]), _bands([m.T for m in along])
        mixed = [v * a for v, a in zip(values, along, strict=True)]
        mixed[pe] = 2 * mixed[pe]
        squares = ([v * v for v in values], mixed, [a * a for a in along])
        self._squares = [_bands([m.T for m in matrices]) for matrices in squares]
        self._inverse = _bands([np.linalg.pinv(m) for m in values])
        # (order along x) -> pairs (order along y, order along z, factor); mixed terms count twice
        self._bending = {0: ((2, 0, 1), (0, 2, 1), (1, 1, 2)), 1: ((1, 0, 2), (0, 1, 2)),
                         2: ((0, 0, 1),)}  # fmt: skip
        self._grams = [_bands(grams) for grams in bends]
        self._bend_diagonal: Float = np.zeros([m.shape[1] for m in values])
        x, y, z = ([np.diag(gram) for gram in grams] for grams in bends)
        for i, terms in self._bending.items():
            for j, k, factor in terms:
                self._bend_diagonal += factor * np.einsum("i,j,k->ijk", x[i], y[j], z[k])

    def field(self, c: Float) -> tuple[Float, Float]:
        """Return the field and its derivative along phase encoding (per voxel)."""
        return _product(self._values, c), _product(self._along, c)

    def project(self, a: Float, b: Float) -> Float:
        """Return the adjoint of `field`."""
        projected: Float = _product(self._back, a) + _product(self._along_back, b)
        return projected

    def bend(self, c: Float) -> Float:
        r"""Return the gradient of half the bending energy, :math:`\sum |\partial\partial u|^2`."""
        x, y, z = self._grams
        along_z = [_along(gram, c, 2) for gram in z]
        total: Float = np.zeros_like(c)
        for i, terms in self._bending.items():
            inner = sum(factor * _along(y[j], along_z[k], 1) for j, k, factor in terms)
            total += _along(x[i], np.asarray(inner), 0)
        return total

    def diagonal(self, aa: Float, ab: Float, bb: Float, weight: float) -> Float:
        """Diagonal of the Hessian of images and bending energy."""
        parts = zip(self._squares, (aa, ab, bb), strict=True)
        diagonal: Float = weight * self._bend_diagonal
        for matrices, values in parts:
            diagonal = diagonal + _product(matrices, values)
        return diagonal

    def fit(self, field: Float) -> Float:
        """Return the coefficients of the field next to a given one."""
        return _product(self._inverse, field)


def spline_matrices(length: int, spacing: float) -> tuple[Float, Float, Float]:
    """Cubic B-splines and their first two derivatives at 0 ... length - 1.

    Parameters
    ----------
    length : int
    spacing : float
        Of the knots; made smaller so that the last one lies on the last point.

    Returns
    -------
    three arrays, shape (length, n_splines)

    Examples
    --------
    They sum to 1 everywhere, and a line is a line:

    >>> value, first, second = spline_matrices(9, 4.0)
    >>> bool(np.allclose(value.sum(axis=1), 1)), value.shape
    (True, (9, 5))
    >>> knots = 4.0 * np.arange(-1, 4)
    >>> (value @ knots).round(6).tolist() == list(range(9))
    True
    >>> bool(np.allclose(first @ knots, 1)), bool(np.allclose(second @ knots**2, 2))
    (True, True)
    """
    if length == 1:
        return np.ones((1, 1)), np.zeros((1, 1)), np.zeros((1, 1))
    n = int(np.ceil((length - 1) / spacing)) + 3
    spacing = (length - 1) / (n - 3)
    x = np.arange(length)[:, None] / spacing - (np.arange(n) - 1)
    t, sign = np.abs(x), np.sign(x)
    near, far = t < 1, (t >= 1) & (t < 2)
    value = np.where(near, 2 / 3 - t * t * (1 - t / 2), np.where(far, (2 - t) ** 3 / 6, 0.0))
    first = sign * np.where(near, t * (1.5 * t - 2), np.where(far, -((2 - t) ** 2) / 2, 0.0))
    second = np.where(near, 3 * t - 2, np.where(far, 2 - t, 0.0))
    return value, first / spacing, second / spacing**2


def _bands(matrices: list[Float]) -> list[_Banded]:
    return [_Banded(m) for m in matrices]


def _along(matrix: _Banded, values: Float, axis: int) -> Float:
    """Apply a matrix along one axis."""
    before, after = values.shape[:axis], values.shape[axis + 1 :]
    rows, outer, inner = matrix.shape[0], int(np.prod(before)), int(np.prod(after))
    flat = np.empty((outer, rows, inner))
    banded(matrix.first, matrix.taps, np.ascontiguousarray(values).reshape(outer, -1, inner), flat)
    return flat.reshape(*before, rows, *after)


def _product(matrices: list[_Banded], values: Float) -> Float:
    """Apply one matrix along each axis, last axis first where the array grows."""
    grows = any(m.shape[0] > m.shape[1] for m in matrices)
    for axis in (2, 1, 0) if grows else (0, 1, 2):
        values = _along(matrices[axis], values, axis)
    return values


@dataclass(frozen=True)
class State:
    """What is estimated."""

    coefficients: Float
    """Of the displacement (voxels) by a blip of 1, in a `Basis`."""
    rigid: Float
    """First image to each, mm about the volume's centre, shape (n, 4, 4)."""
    gain: Float
    """By which each image is to be multiplied, shape (n,); 1 for the first."""


class Estimation:
    """Field, motion and gain of images that were acquired with different blips."""

    def __init__(
        self,
        images: Float,
        blips: Float,
        readout_s: float,
        voxel_mm: Float,
        pe_axis: int,
        mask: Mask,
        roughness_hz: float,
        knot_mm: float,
        rigid: bool,
    ) -> None:
        """Take `images` (n, x, y, z), and `blips` relative to one of `readout_s`."""
        self.images, self.blips, self.voxel_mm, self.pe = images, blips, voxel_mm, pe_axis
        self.shape, self.mask, self.knot_mm = images.shape[1:], mask, knot_mm
        self.use = _around(mask, voxel_mm)
        # of the bending energy of a displacement in voxels
        self.weight = float(np.prod(voxel_mm)) / (roughness_hz * readout_s) ** 2
        self.owner, self.kind = _parameters(blips, pe_axis, rigid)
        self.to_mm = motion.voxel_to_centred_mm(self.shape, voxel_mm)
        self.centre = (np.array(self.shape) - 1) / 2
        self.floor = _MODEL_ERROR * float(np.median(images.mean(axis=0)[mask]))
        self.smooth: Float = np.empty(0)
        self.basis: Basis

    def run(self) -> tuple[Float, State, float]:
        """Return the displacement by a blip of 1 (voxels), the state, and the last step."""
        n, moved = len(self.blips), 0.0
        displacement: Float = np.zeros(self.shape)
        state = State(np.empty(0), np.repeat(np.eye(4)[None], n, axis=0), np.ones(n))
        for blur_mm, coarser in _COARSE:
            self._smooth(blur_mm)
            self.basis = Basis(self.shape, self.voxel_mm, coarser * self.knot_mm, self.pe)
            state = replace(state, coefficients=self.basis.fit(displacement))
            # a voxel that the field has not reached yet must not count as an outlier
            for outlying in (np.inf, _OUTLYING) if blur_mm == 0 else (np.inf,):
                for _ in range(_ITERATIONS if outlying == np.inf else _ROBUST):
                    state, moved = self._step(state, outlying)
                    if moved < _SETTLED:
                        break
            displacement = self.basis.field(state.coefficients)[0]
        return displacement, state, moved

    def _smooth(self, blur_mm: float) -> None:
        # the spline without its prefilter smooths by 1/3 voxel² already
        sigma = np.sqrt(np.maximum((blur_mm / self.voxel_mm) ** 2 - 1 / 3, 0.0))
        # blurring a stack of few slices along them would leave nothing to hold on to
        sigma = np.minimum(sigma, np.array(self.shape) / 12)
        self.smooth = np.stack(
            [ndimage.gaussian_filter(v, sigma, mode="nearest", truncate=3) for v in self.images]
        )

    def _evaluate(self, state: State, scale: float) -> tuple[Float, Float, Float, Float, Float]:
        """Return what `normal_equations` fills; only the first counts where scale is 0."""
        m = len(self.owner)
        shape = self.shape if scale > 0 else (1, 1, 1)
        misfit, terms, cross = np.empty(self.shape), np.zeros((5, *shape)), np.zeros((2, m, *shape))
        block, pull = np.zeros((self.shape[0], m, m)), np.zeros((self.shape[0], m))
        matrices = np.linalg.inv(self.to_mm) @ state.rigid @ self.to_mm
        normal_equations(
            self.smooth, matrices[:, :3].copy(), *self.basis.field(state.coefficients),
            self.blips, state.gain, self.pe, self.voxel_mm, self.centre, self.use, scale,
            self.owner, self.kind, misfit, terms, cross, block, pull,
        )  # fmt: skip
        lower = block.sum(axis=0)
        return misfit, terms, cross, lower + np.tril(lower, -1).T, pull.sum(axis=0)

    def _cost(self, misfit: Float, state: State, scale: float, noise: float, rest: Float) -> float:
        left = misfit[np.isfinite(misfit)]
        # by the mean, so that pushing voxels out of the image gains nothing
        data = (left / (1 + left / scale**2)).mean() * self.use.sum() / noise**2
        c = state.coefficients
        bent = self.weight * np.vdot(c, self.basis.bend(c))
        return 0.5 * float(data + bent + rest @ self._parameters(state) ** 2)

    def _parameters(self, state: State) -> Float:
        """Present turns, shifts and logarithms of the gain, in the order of `owner`."""
        turns = motion.rotation_vector(state.rigid[:, :3, :3])
        every = np.column_stack([turns, state.rigid[:, :3, 3], np.log(state.gain)])
        return every[self.owner, self.kind]

    def _step(self, state: State, outlying: float) -> tuple[State, float]:
        """One Gauss-Newton step, halved until it helps; also how far it moved the limb."""
        misfit = self._evaluate(state, 0.0)[0]
        dof = len(self.blips) - 1
        typical = float(np.nanmedian(misfit[self.mask]))
        noise = max(np.sqrt(typical / (dof * (1 - 2 / (9 * dof)) ** 3)), self.floor)
        scale = min(outlying, 1e6) * noise * np.sqrt(dof)
        misfit, *sums = self._evaluate(state, scale)
        terms, cross, block, pull = (s / noise**2 for s in sums)
        rest = np.where(self.kind == _GAIN, 0.0, _SHRINKAGE * np.diag(block))
        rest += _REST_SD[self.kind] ** -2.0
        block += np.diag(rest)
        pull += rest * self._parameters(state)
        cost = self._cost(misfit, state, scale, noise, rest)
        delta, parameters = self._solve(state.coefficients, terms, cross, block, pull)
        for _ in range(5):
            new = self._moved(state, delta, parameters)
            misfit = self._evaluate(new, 0.0)[0]
            if self._cost(misfit, new, scale, noise, rest) < cost:
                change = self.basis.field(delta)[0][self.mask]
                return new, float(np.sqrt((change**2).mean()))
            delta, parameters = delta / 2, parameters / 2
        return state, 0.0

    def _solve(
        self, c: Float, terms: Float, cross: Float, block: Float, pull: Float
    ) -> tuple[Float, Float]:
        """Solve the normal equations: steps of the coefficients and of the parameters."""
        basis, weight = self.basis, self.weight
        aa, ab, bb, ra, rb = terms
        m, size = len(pull), c.size
        columns = np.stack([basis.project(*cross[:, s]) for s in range(m)])
        inverse = np.linalg.inv(block)
        diagonal = basis.diagonal(aa, ab, bb, weight).ravel() + 1e-12

        def hessian(x: Float) -> Float:
            step = x[:size].reshape(c.shape)
            u, slope = basis.field(step)
            field = basis.project(aa * u + ab * slope, ab * u + bb * slope)
            field += weight * basis.bend(step)
            for s in range(m):
                field += x[size + s] * columns[s]
            parameters = (columns * step).sum(axis=(1, 2, 3)) + block @ x[size:]
            return np.concatenate([field.ravel(), parameters])

        def precondition(x: Float) -> Float:
            return np.concatenate([x[:size] / diagonal, inverse @ x[size:]])

        gradient = basis.project(ra, rb) + weight * basis.bend(c)
        right = -np.concatenate([gradient.ravel(), pull])
        solution = _conjugate_gradients(hessian, right, precondition)
        return solution[:size].reshape(c.shape), solution[size:]

    def _moved(self, state: State, delta: Float, parameters: Float) -> State:
        rigid, gain = state.rigid.copy(), state.gain.copy()
        turn, shift = np.zeros((2, len(gain), 3))
        for k, kind, value in zip(self.owner, self.kind, parameters, strict=True):
            if kind == _GAIN:
                gain[k] *= np.exp(value)
            elif kind >= 3:
                shift[k, kind - 3] = value
            else:
                turn[k, kind] = value
        rigid[:, :3] = motion.rotation_matrix(turn) @ rigid[:, :3]
        rigid[:, :3, 3] += shift
        return State(state.coefficients + delta, rigid, gain)


def _conjugate_gradients(
    matrix: Callable[[Float], Float], right: Float, precondition: Callable[[Float], Float]
) -> Float:
    """Solve to five per cent: the next Gauss-Newton step takes care of the rest."""
    # sums, not dot products: a threaded BLAS would wait for its threads longer than it adds
    x: Float = np.zeros_like(right)
    left = right
    z = precondition(left)
    direction, length = z, float((left * z).sum())
    enough = _TOLERANCE**2 * length
    for _ in range(_MOST_ITERATIONS):
        if not length > enough:
            break
        image = matrix(direction)
        step = length / float((direction * image).sum())
        x = x + step * direction
        left = left - step * image
        z = precondition(left)
        before, length = length, float((left * z).sum())
        direction = z + length / before * direction
    return x


def _parameters(
    blips: Float, pe_axis: int, rigid: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Image and kind of each parameter beside the field."""
    rows = []
    for k in range(1, len(blips)):
        kinds = [*range(6), _GAIN] if rigid else [_GAIN]
        if blips[k] != blips[0] and rigid:
            # to an image of another blip, a shift along phase encoding looks like a field
            kinds.remove(3 + pe_axis)
        rows += [(k, kind) for kind in kinds]
    table = np.array(rows, dtype=np.int64)
    return table[:, 0].copy(), table[:, 1].copy()


def _around(mask: Mask, voxel_mm: Float) -> Mask:
    """Return the box-shaped neighbourhood of a mask."""
    size = 2 * np.ceil(_MARGIN_MM / voxel_mm).astype(int) + 1
    near: Mask = ndimage.maximum_filter(mask, size=tuple(size), mode="constant")
    return near
