"""Curves over a linear or a percentile axis; upwards it is logarithmic, as latencies are."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.plots.svg import colour_of, picture, rule, shown, text

Points = Sequence[tuple[float, float]]

_LEFT, _TOP, _WIDTH, _HEIGHT, _RIGHT, _BOTTOM = 64, 52, 600, 260, 150, 52
_NINES: Final = ((0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "max"))
_FEW: Final = 2  # decades, in which a mark for each would be too far apart
_MAX_AT: Final = 4.0  # where the largest value stands, in nines


@dataclass(frozen=True, slots=True)
class Axis:
    words: str
    marks: Sequence[tuple[float, str]]
    place: Callable[[float], float]  # onto 0 to 1


def linear(words: str, highest: float) -> Axis:
    """From 0; marks at round numbers."""
    step = 10 ** math.floor(math.log10(highest)) if highest > 0 else 1.0
    step = next(step / part for part in (1, 2, 5, 10) if highest / (step / part) >= 4)
    marks = [(step * number, shown(step * number)) for number in range(int(highest / step) + 1)]
    return Axis(words, marks, lambda value: value / highest if highest else 0.0)


def nines(words: str) -> Axis:
    """Percentiles: as far from p90 to p99 as from p99 to p99.9."""

    def place(share: float) -> float:
        at = min(-math.log10(1 - share), _MAX_AT) if share < 1 else _MAX_AT
        return (at + math.log10(0.5)) / (_MAX_AT + math.log10(0.5))

    return Axis(words, _NINES, place)


def drawn(title: str, up: str, across: Axis, curves: Mapping[str, Points], bounds: Sequence[float] = ()) -> str:
    """`up`: what is drawn, with its unit. `bounds`: marked besides the powers of ten. Values of 0 are left out."""
    kept = {name: [(x, y) for x, y in points if 0 < y < math.inf] for name, points in curves.items()}
    values = [y for points in kept.values() for _, y in points] or [1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    decades = max(1, high - low)

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + _WIDTH * across.place(x), _TOP + _HEIGHT * (1 - (math.log10(y) - low) / decades)

    parts = [text(0, 16, title, size=14), text(0, 36, up)]
    steps = (1.0, 2.0, 5.0) if decades <= _FEW and not bounds else (1.0,)
    marks = {step * 10.0**exponent for exponent in range(low, low + decades + 1) for step in steps}
    for value in sorted(marks | set(bounds)):
        _, y = place(0, value)
        if _TOP <= y <= _TOP + _HEIGHT:
            parts += [rule(f"M{_LEFT} {y:.1f}h{_WIDTH}"), text(_LEFT - 6, y + 4, shown(value), anchor="end")]
    for at, words in across.marks:
        parts.append(text(_LEFT + _WIDTH * across.place(at), _TOP + _HEIGHT + 16, words, anchor="middle"))
    parts.append(text(_LEFT + _WIDTH / 2, _TOP + _HEIGHT + 38, across.words, anchor="middle"))
    for number, (name, points) in enumerate(kept.items()):
        colour = colour_of(name, number)
        places = [place(x, y) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" fill="{colour}"/>' for x, y in places]
        parts.append(text(_LEFT + _WIDTH + 12, _TOP + 12 + 18 * number, name, fill=colour))
    return picture(_LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BOTTOM, parts)
