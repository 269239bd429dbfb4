"""How the store's tables came about, step by step, and the steps that a store still needs.

A step never changes once it is released: it stands on nothing of ours that may.
"""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

# Any number will do that others who share the database do not use.
_LOCK: Final = 5_071_904_221


class NewerError(Exception):
    """The store was made by a later version of the router."""


def newest() -> str:
    """The revision that this code works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def current(connection: Connection) -> str | None:
    """The revision that a store is at; None: it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def pending(connection: Connection) -> list[str]:
    """The steps that a store needs, in order, as `revision: what it does`. Raises NewerError."""
    scripts, at = ScriptDirectory.from_config(_config()), current(connection)
    if at is not None and at not in {script.revision for script in scripts.walk_revisions()}:
        raise NewerError(f"the store is at revision {at}, and this version of the router knows none beyond {newest()}")
    steps = list(scripts.iterate_revisions(newest(), at or "base"))
    return [f"{script.revision}: {script.doc}" for script in reversed(steps) if script.revision != at]


def migrate(connection: Connection) -> list[str]:
    """Takes those steps, in the caller's transaction, and returns them. Raises NewerError."""
    if connection.dialect.name == "postgresql":  # two routers may start at one moment; SQLite's writer is alone
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    steps = pending(connection)
    if steps:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    return steps


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
