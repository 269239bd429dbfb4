"""`inference-router ledger`: what the store holds and what waits for it, and its tables brought up to date."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from router.cli.loading import count, load_or_exit
from router.cli.report.store import config, read, shown
from router.config.snapshot import Snapshot

if TYPE_CHECKING:
    from router.ledger.store import Store

_MIB: Final = 1 << 20


@click.group()
def ledger() -> None:
    """Look at the usage ledger's store, and bring its tables up to date."""


@ledger.command()
@config
def status(file: str) -> None:
    """Say what the store holds, and what waits for it."""
    for line in read(file, _status):
        click.echo(line)


@ledger.command()
@config
def migrate(file: str) -> None:
    """Make the tables, or take the steps that they need. The router does so itself when it starts."""
    settings = load_or_exit(file, os.environ).ledger
    if settings is None:
        raise click.UsageError(f"{file} has no `ledger`")
    Path(settings.folder).mkdir(mode=0o750, parents=True, exist_ok=True)
    steps = asyncio.run(_migrate(settings.url))
    for step in steps:
        click.echo(step)
    click.echo(f"{count(len(steps), 'step')} taken" if steps else "nothing to do")


async def _migrate(url: str) -> list[str]:
    from router.ledger.store import Store, StoreError  # slow to import, and needed by nobody else

    store = Store(url)
    try:
        return await store.migrate()
    except StoreError as error:
        raise click.ClickException(f"the store at {shown(url)} cannot be changed: {error}") from None
    finally:
        await store.close()


async def _status(store: "Store", snapshot: Snapshot) -> list[str]:
    assert snapshot.ledger is not None
    lines = [f"store:    {shown(snapshot.ledger.url)}"]
    if steps := await store.pending():
        return [*lines, f"tables:   need {count(len(steps), 'step')}", *(f"          {step}" for step in steps)]
    lines.append("tables:   up to date")
    held = await store.extent()
    lines.append(f"stored:   {held.requests:,} requests, {held.attempts:,} attempts")
    if held.since is not None and held.until is not None:
        lines.append(f"entries:  of {_moment(held.since)} to {_moment(held.until)}; sums by the hour stay for ever")
    return [*lines, f"segments: {_waiting(Path(snapshot.ledger.folder))}"]


def _waiting(folder: Path) -> str:
    sizes = [path.stat().st_size for path in folder.glob("*/*.seg")]
    return f"{count(len(sizes), 'file')}, of which at most {sum(sizes) / _MIB:.1f} MiB wait for the store"


def _moment(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
