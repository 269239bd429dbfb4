"""Lines over seconds, one panel below the other, as a small SVG."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_COLOURS: Final = ("#0b6e4f", "#c1666b", "#4357ad", "#b08900", "#7d5ba6", "#444444")
_WIDTH, _HEIGHT, _LEFT, _TOP, _RIGHT = 760, 200, 60, 34, 150
_PANEL: Final = _HEIGHT + _TOP + 34


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    lines: Mapping[str, Sequence[float]]  # name → a value for each second
    marks: Sequence[tuple[float, float, str]] = ()  # from second to second, and what happened then


def drawn(panels: Sequence[Panel]) -> str:
    """The picture as text."""
    width, height = _LEFT + _WIDTH + _RIGHT, _PANEL * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-size="12"',
        ' font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({_LEFT} {number * _PANEL + _TOP})">', *_panel(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel) -> list[str]:
    seconds = max(len(line) for line in panel.lines.values())
    highest = max((max(line, default=0.0) for line in panel.lines.values()), default=0.0) or 1.0
    across, up = _WIDTH / max(seconds - 1, 1), _HEIGHT / highest
    parts = [f'<text y="-12" font-size="14">{escape(panel.title)}</text>']
    for since, until, what in panel.marks:
        parts += [
            f'<path d="M{since * across:.1f} 0H{until * across:.1f}V{_HEIGHT}H{since * across:.1f}Z" fill="#eeeeee"/>',
            f'<text x="{since * across + 3:.1f}" y="12" fill="#777777" font-size="10">{escape(what)}</text>',
        ]
    for step in range(5):
        y = _HEIGHT - _HEIGHT * step / 4
        parts += [
            f'<path d="M0 {y:.1f}H{_WIDTH}" stroke="#dddddd"/>',
            f'<text x="-6" y="{y + 4:.1f}" text-anchor="end">{highest * step / 4:.3g}</text>',
        ]
    for step in range(0, seconds, max(1, seconds // 6)):
        parts.append(f'<text x="{step * across:.1f}" y="{_HEIGHT + 16}" text-anchor="middle">{step} s</text>')
    for number, (name, line) in enumerate(panel.lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(f"{at * across:.1f},{_HEIGHT - value * up:.1f}" for at, value in enumerate(line))
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
            f'<text x="{_WIDTH + 10}" y="{12 + 16 * number}" fill="{colour}">{escape(name)}</text>',
        ]
    return parts
