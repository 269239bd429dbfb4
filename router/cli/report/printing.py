"""Reports as people and as programs read them."""

import contextlib
import csv
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO, TypeAlias

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

Cell: TypeAlias = str | int | float | bool | None
_WIDTH_OF_A_FILE: Final = 1000
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

output = click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file. Default: standard output."
)


@contextlib.contextmanager
def opened(path: Path | None) -> Iterator[TextIO]:
    """Where a report goes. A file is there once it is whole, and not before. Raises ClickException."""
    if path is None:
        yield sys.stdout
        return
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def write_csv(file: TextIO, rows: Iterable[Sequence[Cell]]) -> None:
    """Text that a spreadsheet would run as a formula is put behind an apostrophe: clients choose some of it."""
    csv.writer(file, lineterminator="\n").writerows([_inert(cell) for cell in row] for row in rows)


def _inert(cell: Cell) -> Cell:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell


def console_of(file: TextIO) -> Console:
    """Plain, and as wide as it needs to be, where it is no terminal that is written to."""
    return Console(file=file) if file.isatty() else Console(file=file, width=_WIDTH_OF_A_FILE, color_system=None)


def table(title: str, words: Sequence[str], numbers: Sequence[str], *, footer: Sequence[str] = ()) -> Table:
    """A table without rows: `words` are columns to the left, `numbers` to the right. `footer`: of the numbers."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    made.show_edge, made.show_footer = False, bool(footer)
    for index, name in enumerate(words):
        made.add_column(name, footer="all" if index == 0 else "", overflow="fold")
    for index, name in enumerate(numbers):
        made.add_column(name, footer=footer[index] if footer else "", justify="right", no_wrap=True)
    return made


def period(since: float, until: float) -> Text:
    """Between which moments; `until`: wall seconds, infinity for now."""
    end = f"to {moment(until)}" if until < float("inf") else "until now"
    return Text(f"Requests that arrived from {moment(since)} {end}.\n")


def moment(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def usd(nano_usd: int | None) -> str:
    """Dollars to a hundredth of a cent; nothing where it is not known."""
    return f"{nano_usd / 1e9:,.4f}" if nano_usd is not None else "–"


def percent(ratio: float | None) -> str:
    return f"{ratio:.1%}" if ratio is not None else "–"
