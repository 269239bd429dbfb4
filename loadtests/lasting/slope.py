"""How fast something grows, told from points of which some are off. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, median
from typing import Final

POINTS_MIN: Final = 8  # with fewer the bounds are hardly any


@dataclass(frozen=True, slots=True)
class Slope:
    """Per unit of time: the best guess, and the bounds of its confidence interval."""

    guess: float
    lower: float
    upper: float


def theil_sen(points: Sequence[tuple[float, float]], confidence: float = 0.95) -> Slope:
    """The median of the slopes between all pairs of points (Theil 1950), with the interval of Sen (1968).

    `points`: a time and a value each, all at different times. Raises ValueError where there are too few of them.
    """
    count = len(points)
    if count < POINTS_MIN:
        raise ValueError(f"{count} points: at least {POINTS_MIN}")
    slopes = sorted((later - value) / (then - at) for (at, value), (then, later) in combinations(points, 2))
    # Kendall's S of values without a trend is about normal, with this variance; ties would only narrow it.
    deviation = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    aside = NormalDist().inv_cdf((1 + confidence) / 2) * deviation
    first = max(0, math.floor((len(slopes) - aside) / 2) - 1)
    return Slope(median(slopes), slopes[first], slopes[-1 - first])
