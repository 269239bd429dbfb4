"""The ledger's store, read by a command beside the router that writes it."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit

import click

from router.cli.loading import load_or_exit
from router.config.snapshot import Snapshot

if TYPE_CHECKING:
    from router.ledger.store import Store

T = TypeVar("T")
_SQLITE: Final = "sqlite:///"

config = click.option(
    "--config",
    "file",
    type=click.Path(dir_okay=False),
    required=True,
    help="A configuration whose `ledger` names the store.",
)


def read(file: str, question: "Callable[[Store, Snapshot], Awaitable[T]]") -> T:
    """What the store answers. It is never written to. Raises ClickException where it cannot be asked."""
    snapshot = load_or_exit(file, os.environ)
    if snapshot.ledger is None:
        raise click.UsageError(f"{file} has no `ledger`")
    url = snapshot.ledger.url
    if absent := missing(url):
        raise click.ClickException(f"{absent} yet: the router makes it")
    return asyncio.run(_read(url, snapshot, question))


def missing(url: str) -> str:
    """That there is no store, in words, where that is certain; else nothing."""
    file = url.removeprefix(_SQLITE)
    return f"there is no store at {file}" if url.startswith(_SQLITE) and not Path(file).exists() else ""


def shown(url: str) -> str:
    """The store's URL without what may be a password."""
    if url.startswith("sqlite"):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def _read(url: str, snapshot: Snapshot, question: "Callable[[Store, Snapshot], Awaitable[T]]") -> T:
    from router.ledger.store import Store, StoreError  # slow to import, and needed by nobody else

    store = Store(url)
    try:
        return await question(store, snapshot)
    except StoreError as error:
        steps = await _pending(store)
        hint = "; its tables are not this version's: `inference-router ledger migrate` makes them" if steps else ""
        raise click.ClickException(f"the store at {shown(url)} cannot be read: {error}{hint}") from None
    finally:
        await store.close()


async def _pending(store: "Store") -> list[str]:
    """The steps that its tables need; none where that cannot be known either."""
    from router.ledger.store import StoreError

    try:
        return await store.pending()
    except StoreError:
        return []
