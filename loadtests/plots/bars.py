"""Bars in groups: each group has a unit and a scale of its own, so only bars of one group compare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.plots.svg import colour_of, picture, shown, text

_LEFT, _WIDTH, _RIGHT, _BAR, _HEAD, _GAP = 150, 420, 190, 16, 24, 14
_TOP: Final = 34


@dataclass(frozen=True, slots=True)
class Group:
    title: str
    unit: str
    values: Mapping[str, float]
    notes: Mapping[str, str]  # beside a bar's value: a ratio, for example


def drawn(title: str, groups: Sequence[Group]) -> str:
    parts, y = [text(0, 16, title, size=14)], float(_TOP)
    for group in groups:
        parts.append(text(0, y + 12, f"{group.title}, {group.unit}"))
        y += _HEAD
        longest = max([*group.values.values(), 0.0]) or 1.0
        for number, (name, value) in enumerate(group.values.items()):
            width = max(1.0, _WIDTH * max(value, 0.0) / longest)
            note = f" ({group.notes[name]})" if name in group.notes else ""
            parts += [
                text(_LEFT - 8, y + 12, name, anchor="end"),
                f'<rect x="{_LEFT}" y="{y:.1f}" width="{width:.1f}" height="{_BAR - 3}" rx="2"'
                f' fill="{colour_of(name, number)}"/>',
                text(_LEFT + width + 6, y + 11, shown(value) + note),
            ]
            y += _BAR
        y += _GAP
    return picture(_LEFT + _WIDTH + _RIGHT, y, parts)
