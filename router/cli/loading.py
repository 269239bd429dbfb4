"""A configuration for a command, or all of its faults and the end. What a table is drawn with is not loaded for it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from router.config.faults import ConfigError
from router.config.load import load
from router.config.snapshot import Snapshot


def load_or_exit(
    file: str, environ: Mapping[str, str] = os.environ, wall: float | None = None, *, divided: bool = True
) -> Snapshot:
    """A snapshot (as `load`), or all faults on standard error and exit status 1."""
    try:
        return load(file, environ, wall, divided=divided)
    except ConfigError as error:
        click.echo(shown(file, error), err=True)
        sys.exit(1)


def shown(file: str | Path, error: ConfigError) -> str:
    """All of them, a line each, and how many they are."""
    return "\n".join((*map(str, error.faults), f"{file}: {count(len(error.faults), 'fault')}"))


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
