"""Whitening with the batch's covariance."""

import numpy as np

from tests.oracles.shared import affine, axes_of, selected


def iterated(covariance, arguments):
    """The paper's single iteration, not the coupled one."""
    normalized, p = covariance / np.trace(covariance), np.eye(len(covariance))
    for _ in range(arguments.get("iterations", 5)):
        p = 0.5 * (3 * p - p @ p @ p @ normalized)
    return p / np.sqrt(np.trace(covariance))


def decomposed(covariance, arguments):
    values, vectors = np.linalg.eigh(covariance)
    floor = arguments.get("epsilon", 1e-3)  # rounding may have left less
    return vectors @ np.diag(1 / np.sqrt(np.maximum(values, floor))) @ vectors.T


def whitened(x, weights, arguments, training, mask, epsilon, group_size, root):
    (axis,) = axes_of(arguments, x.ndim)
    epsilon = arguments.get("epsilon", epsilon)
    momentum = arguments.get("momentum", 0.9)
    moved = np.moveaxis(x, axis, -1)
    rows = moved.reshape(-1, x.shape[axis])
    chosen = np.moveaxis(selected(x, mask, axis), axis, -1).reshape(rows.shape).all(1)
    size = min(arguments.get("group_size", group_size), rows.shape[1])
    old_mean = np.asarray(weights["moving_mean"], "float64")
    old_matrix = np.asarray(weights["moving_matrix"], "float64")
    mean, matrix = old_mean.copy(), old_matrix.copy()
    y = np.empty(rows.shape)
    for g in range(rows.shape[1] // size):
        channels = slice(g * size, (g + 1) * size)
        data = rows[:, channels]
        if training:
            counted = data[chosen]
            mean[channels], matrix[g] = 0.0, np.eye(size)
            if len(counted):
                centre = counted.mean(0)
                centre = centre + (counted - centre).mean(0)
                centred = counted - centre
                covariance = centred.T @ centred / len(counted) + epsilon * np.eye(size)
                mean[channels], matrix[g] = centre, root(covariance, arguments)
            else:
                matrix[g] = root(np.eye(size), arguments)
        y[:, channels] = (data - mean[channels]) @ matrix[g]
    state = {"moving_mean": old_mean, "moving_matrix": old_matrix}
    finite = np.isfinite(mean).all() and np.isfinite(matrix).all()
    if training and chosen.any() and finite:
        state["moving_mean"] = momentum * old_mean + (1 - momentum) * mean
        state["moving_matrix"] = momentum * old_matrix + (1 - momentum) * matrix
    y = np.moveaxis(y.reshape(moved.shape), -1, axis)
    return affine(y, weights, [axis]), state, None


def iterative(x, weights, arguments, training, mask=None, held=None):
    return whitened(x, weights, arguments, training, mask, 1e-5, 64, iterated)


def decorrelated(x, weights, arguments, training, mask=None, held=None):
    return whitened(x, weights, arguments, training, mask, 1e-3, 16, decomposed)


ORACLES = {
    "DecorrelatedBatchNormalization": decorrelated,
    "IterativeNormalization": iterative,
}
