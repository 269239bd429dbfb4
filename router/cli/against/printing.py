"""A comparison as people read it: by sections, in as many columns as there are."""

import shutil
import sys
from collections.abc import Iterator
from textwrap import wrap
from typing import Final

import click

from router.cli.loading import count
from router.config.compare import Change, Comparison, Field

WIDTH: Final = 100  # where no terminal says how wide it is
_WIDTH_MAX: Final = 120  # of lines that are read and not looked along
_TITLES: Final = {
    "placement": "where traffic may go",
    "plans": "what requests are offered to, in this order",
    "clouds": "what counts as a cloud",
    "conditions": "conditions of the contract",
    "endpoints": "endpoints",
    "deployments": "deployments",
    "prices": "prices",
    "keys": "keys and their rights",
    "limits": "limits",
    "budgets": "budgets",
    "treatment": "how requests are treated",
    "aliases": "aliases",
    "settings": "settings",
}
_SIGNS: Final = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
_REACHES: Final = {
    "wider": "may go FURTHER than now",
    "narrower": "may go less far than now",
    "other": "may go ELSEWHERE than now",
}


def show(comparison: Comparison) -> None:
    """On standard output; a terminal's width and colours are used where it is one."""
    width = min(_WIDTH_MAX, shutil.get_terminal_size().columns) if sys.stdout.isatty() else WIDTH
    for text, colour in lines(comparison, width):
        click.secho(text, fg=colour, bold=colour is not None and not text.startswith(" "))


def lines(comparison: Comparison, width: int) -> Iterator[tuple[str, str | None]]:
    """Each with its colour."""
    if not comparison.changes and not comparison.restart:
        yield f"nothing changes (version {comparison.before} to {comparison.after})", None
        return
    yield f"version {comparison.before} to {comparison.after}: {count(len(comparison.changes), 'change')}", None
    for change in comparison.loosened:
        yield from _wrapped(f"EXCLUSIVITY: {_of(change)} {_REACHES[change.reach]}", width, "", "red")
    if comparison.restart:
        yield from _wrapped(f"needs a restart: {', '.join(comparison.restart)}", width, "", "yellow")
    for section, title in _TITLES.items():
        found = [change for change in comparison.changes if change.section == section]
        if found:
            yield "", None
            yield title, None
        for change in found:
            yield from _shown(change, width)


def _of(change: Change) -> str:
    whose = {"placement": "traffic of ", "keys": "traffic of the key "}.get(change.section, "")
    return f"{whose}{change.name}"


def _shown(change: Change, width: int) -> Iterator[tuple[str, str | None]]:
    sign, colour = _SIGNS[change.kind]
    reach = ""
    if change.reach:
        whose = "exclusive traffic" if change.exclusive else "traffic"
        reach = f"  [{whose} {_REACHES[change.reach]}]"
    yield from _wrapped(f"{sign} {change.name}{reach}", width, "  ", colour)
    if change.kind == "changed":
        for field in change.fields:
            yield from _wrapped(_changed(field), width, "      ", None)
    elif change.fields:
        told = "; ".join(f"{field.name} {field.after or field.before}" for field in change.fields)
        yield from _wrapped(told, width, "      ", None)


def _changed(field: Field) -> str:
    nothing = "–"
    return f"{field.name}: {field.before or nothing} → {field.after or nothing}"


def _wrapped(text: str, width: int, indent: str, colour: str | None) -> Iterator[tuple[str, str | None]]:
    for line in wrap(text, width, initial_indent=indent, subsequent_indent=f"{indent}    ", break_on_hyphens=False):
        yield line, colour
