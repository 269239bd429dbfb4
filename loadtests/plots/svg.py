"""What all pictures share: ink, colours, and the few elements that they are made of."""

from collections.abc import Iterable
from html import escape
from typing import Final

INK: Final = "#7d858f"  # 3.7 : 1 on white, 5.1 : 1 on GitHub's dark page
RULE: Final = "#7d858f40"
COLOURS: Final = ("#1a9e77", "#d1605e", "#5b7bd5", "#c08a00", "#9a6fc4", "#8a8a8a")
# A subject keeps its colour over all pictures.
_KNOWN: Final = {"router": 0, "nginx": 2, "naive": 1, "direct": 5}


def colour_of(name: str, number: int) -> str:
    return COLOURS[_KNOWN.get(name, 3 + number % 2)]


def picture(width: float, height: float, parts: Iterable[str]) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    style = f'font-family="system-ui, sans-serif" font-size="12" fill="{INK}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', *parts, "</svg>", ""])


def text(x: float, y: float, words: str, *, anchor: str = "start", fill: str = INK, size: float = 12) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="{fill}" font-size="{size:g}">{escape(words)}</text>'


def rule(path: str) -> str:
    return f'<path d="{path}" fill="none" stroke="{RULE}"/>'


def shown(value: float) -> str:
    """Three digits, and no exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
