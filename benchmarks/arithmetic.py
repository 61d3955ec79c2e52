"""Floors, ratios and means of them."""

import math

MOVES = {"forward": 3, "step": 8}  # how often a pass reads or writes the tensor


def floor(copy, way):
    """The time of a pass's moves at the speed of the copy, which makes two."""
    return MOVES[way] * copy / 2


def over_floor(record, name):
    """A contestant's time over the floor of its own process."""
    return record["times"][name] / floor(record["copies"][name], record["pass"])


def ratio(record, name, peer):
    """The peer's time over ours: above 1 where ours is faster."""
    return record["times"][peer] / record["times"][name]


def normalized_ratio(record, name, peer):
    """The same, each time over the copy of its own process."""
    return ratio(record, name, peer) * record["copies"][name] / record["copies"][peer]


def geometric_mean(values):
    """Their geometric mean, or `None` of no values."""
    values = list(values)
    if not values:
        return None
    return math.exp(sum(map(math.log, values)) / len(values))
