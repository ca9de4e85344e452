"""The bench's own arithmetic. Pure."""

import math
import statistics
from collections.abc import Iterable, Sequence


def quantile(ordered: Sequence[float], share: float) -> float:
    """The nearest rank: the smallest value that at least `share` of all are not above. 0 of none."""
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)] if ordered else 0.0


def due_s(number: int, rate: float) -> float:
    """When request `number` (from 0) of an open loop is due, in seconds after its start."""
    return number / rate


def requests_of(rate: float, seconds: float) -> int:
    """How many requests are due in so long: those with `due_s` below `seconds`."""
    return math.ceil(rate * seconds - 1e-9)


def medians(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of each field over the runs, which all have the same fields."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def median_ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """The median of the rounds' own ratios: what a busy machine did to a whole round falls out."""
    return statistics.median(ours / theirs for ours, theirs in pairs)


def median_difference(pairs: Iterable[tuple[float, float]]) -> float:
    return statistics.median(one - other for one, other in pairs)
