"""A real PostgreSQL, Debian's, for tests that kill it, stop it and start it again.

with PostgresServer() as server:
    server.url
    server.kill(); server.start()      # with what was committed
"""

import os
from typing import Final

import pytest

from loadtests.ledger import databases

# Fast, and not meant to survive a loss of power.
_SETTINGS: Final = {"fsync": "off", "shared_buffers": "64MB", "max_wal_size": "1GB", "autovacuum": "off"}


class PostgresServer(databases.PostgresServer):
    """Skips the test where there is none; where CI runs it, that is a failure."""

    def __init__(self) -> None:
        if not databases.PROGRAMS:
            assert "CI" not in os.environ, "postgresql is missing"
            pytest.skip("postgresql is missing")
        super().__init__(_SETTINGS)
