"""Stores to test with: both databases, empty."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from router.ledger.store import Store
from tests.postgres_kit import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    server = request.getfixturevalue("postgres")
    name = f"ledger_{tmp_path.name.lower()}".replace("-", "_").replace("[", "_").replace("]", "_")[:60]
    server.psql(f'DROP DATABASE IF EXISTS "{name}"')
    server.psql(f'CREATE DATABASE "{name}"')
    return str(server.url.replace("/postgres?", f"/{name}?"))


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    made = Store(url)
    await made.migrate()
    yield made
    await made.close()
