"""Whitening with the batch's covariance."""

import numpy as np

from tests.oracles.shared import affine, axes_of, selected


def iterated(centred, epsilon, arguments):
    """The paper's single iteration, not the coupled one."""
    covariance = centred.T @ centred / len(centred) + epsilon * np.eye(centred.shape[1])
    normalized, p = covariance / np.trace(covariance), np.eye(len(covariance))
    for _ in range(arguments.get("iterations", 5)):
        p = 0.5 * (3 * p - p @ p @ p @ normalized)
    return p / np.sqrt(np.trace(covariance))


def decomposed(centred, epsilon, arguments):
    """From the data's own singular values: those of the covariance have half their digits."""
    _, singular, directions = np.linalg.svd(np.linalg.qr(centred, mode="r"))
    variances = np.zeros(centred.shape[1])
    variances[: len(singular)] = singular**2 / len(centred)
    return directions.T @ np.diag(1 / np.sqrt(variances + epsilon)) @ directions


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
            mean[channels] = 0.0
            # Over nothing the covariance is the identity.
            centred, added = np.sqrt(size) * np.eye(size), 0.0
            if len(counted):
                centre = counted.mean(0)
                mean[channels] = centre + (counted - centre).mean(0)
                centred, added = counted - mean[channels], epsilon
            matrix[g] = root(centred, added, arguments)
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
