"""`inference-router check NEW --against OLD`, with or without a decision log to try NEW on."""

import os
import time
from math import inf
from pathlib import Path

import click
import orjson

from router.cli.against import printing, telling
from router.cli.against.log import read
from router.cli.against.replay import Replay
from router.cli.loading import load_or_exit
from router.cli.report.period import Moment
from router.config.compare import Comparison, compare
from router.config.faults import ConfigError, Fault
from router.config.load import load
from router.config.snapshot import Snapshot

SAME, FAULTY, CHANGED, LOOSENED = 0, 1, 3, 4
"""Exit statuses; 2 is that of a command that cannot be called so."""


def against(file: str, old: str, log: Path | None, since: str | None, *, as_json: bool) -> int:
    """Shows what `file` changes of `old`, and returns the exit status."""
    wall = time.time()
    began = Moment().convert(since, None, None) if since is not None else -inf
    try:
        before, after = _both(file, old, wall, as_json=as_json)
    except ConfigError as error:
        click.echo(orjson.dumps({"faults": error.faults}, option=orjson.OPT_INDENT_2))
        return FAULTY
    comparison = compare(before, after, wall)
    shown: dict[str, object] = {"against": old, "changed": comparison}
    if not as_json:
        printing.show(comparison)
    if log is not None:
        replay = Replay(before, after)
        reader, notes = read(log, replay, before, began)
        found, notes = replay.finish(), [*notes, *telling.version_notes(reader, before)]
        shown["replay"] = telling.as_json(found, reader, notes)
        if not as_json:
            telling.show(found, notes)
    if as_json:
        click.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2))
    return _status(comparison)


def _both(file: str, old: str, wall: float, *, as_json: bool) -> tuple[Snapshot, Snapshot]:
    """The old one, and the new one. Raises ConfigError with the faults of both; without JSON it ends with them."""
    if not as_json:
        first, second = (load_or_exit(each, os.environ, wall, divided=False) for each in (old, file))
        return first, second
    found: list[Snapshot] = []
    faults: list[Fault] = []
    for each in (old, file):
        try:
            found.append(load(each, os.environ, wall, divided=False))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return found[0], found[1]


def _status(comparison: Comparison) -> int:
    if comparison.loosened:
        return LOOSENED
    return CHANGED if comparison.changes or comparison.restart else SAME
