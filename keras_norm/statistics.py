"""Statistics of data sets: found batch by batch, merged, and turned into whitening matrices.

`adapt` counts digits that devices do not compute with, float64 on every backend: this is the one
file of the package whose arithmetic is NumPy's.
"""

from collections.abc import Sequence

import numpy as np

Statistics = dict[str, np.ndarray]


def moments(x: np.ndarray, over: Sequence[int]) -> Statistics:
    """Count, mean and biased variance over some axes, NaN left out.

    Two passes, the second of which also finds what the first mean's rounding left over.

    Args:
        x: An array in float64.
        over: Axes that are reduced.

    Returns:
        `count`, `mean`, `variance`, of the shape of the other axes.
    """
    over, missing = tuple(over), np.isnan(x)
    count = np.sum(~missing, over, dtype="float64", keepdims=True)
    divisor = np.maximum(count, 1.0)
    shift = np.sum(np.where(missing, 0.0, x), over, keepdims=True) / divisor
    centred = np.where(missing, 0.0, x - shift)
    residual = np.sum(centred, over, keepdims=True) / divisor
    centred = np.where(missing, 0.0, centred - residual)
    variance = np.sum(centred * centred, over, keepdims=True) / divisor
    found = {"count": count, "mean": shift + residual, "variance": variance}
    return {name: np.squeeze(value, over) for name, value in found.items()}


def comoments(x: np.ndarray) -> Statistics:
    """Count, mean and biased covariance of the rows that hold no NaN.

    Args:
        x: A matrix in float64, one sample per row.

    Returns:
        `count` [], `mean` [d], `covariance` [d, d].
    """
    x = x[~np.isnan(x).any(-1)]
    divisor = max(1, len(x))
    shift = x.sum(0) / divisor
    residual = (x - shift).sum(0) / divisor
    centred = (x - shift) - residual
    covariance = centred.T @ centred / divisor
    count = np.asarray(len(x), "float64")
    return {"count": count, "mean": shift + residual, "covariance": covariance}


def merge(first: Statistics, second: Statistics) -> Statistics:
    """Statistics of a union from those of its parts (Chan, Golub and LeVeque 1979).

    Args:
        first: What `moments` or `comoments` returned.
        second: Likewise, of other data.

    Returns:
        The same of both together.
    """
    spread = "covariance" if "covariance" in first else "variance"
    count = first["count"] + second["count"]
    share = second["count"] / np.maximum(count, 1.0)
    step = second["mean"] - first["mean"]
    product = np.outer(step, step) if spread == "covariance" else step * step
    # Both shares act as factors: an empty part, whose share is 0, then leaves no trace.
    within = (1.0 - share) * first[spread] + share * second[spread]
    return {
        "count": count,
        "mean": first["mean"] + share * step,
        spread: within + share * (1.0 - share) * product,
    }


def extremes(x: np.ndarray, over: Sequence[int]) -> Statistics:
    """Count, minimum and maximum over some axes, NaN left out.

    Args:
        x: An array in float64.
        over: Axes that are reduced.

    Returns:
        `count`, `minimum`, `maximum`, of the shape of the other axes; of nothing, the minimum is
        infinite and the maximum minus infinite.
    """
    over, missing = tuple(over), np.isnan(x)
    return {
        "count": np.sum(~missing, over, dtype="float64"),
        "minimum": np.min(np.where(missing, np.inf, x), over, initial=np.inf),
        "maximum": np.max(np.where(missing, -np.inf, x), over, initial=-np.inf),
    }


def whitening_matrix(
    covariance: np.ndarray, kind: str, components: int, epsilon: float, inverse: bool
) -> np.ndarray:
    """The matrix that maps centred rows to whitened ones, or back.

    Args:
        covariance: Symmetric matrix [d, d], not negative but for rounding.
        kind: "zca", or "pca".
        components: Number of directions that are kept, those of largest variance.
        epsilon: Added to the eigenvalues.
        inverse: Whether to return the inverse map, a pseudo-inverse where directions were left out.

    Returns:
        A matrix [d, d] for ZCA; [d, components] for PCA, and [components, d] for its inverse.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1][:components], vectors[:, ::-1][:, :components]
    deviation = np.sqrt(np.maximum(values, 0.0) + epsilon)
    if kind == "zca":
        return (vectors * (deviation if inverse else 1.0 / deviation)) @ vectors.T
    # Eigenvectors have no sign of their own; this one is scikit-learn's.
    largest = np.abs(vectors).argmax(0)
    vectors = vectors * np.where(np.take_along_axis(vectors, largest[None], 0) < 0, -1.0, 1.0)
    return (vectors * deviation).T if inverse else vectors / deviation
