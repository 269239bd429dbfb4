"""A router whose database is killed under load: no client notices, and all that was answered is stored once."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.ledger import outage as module
from loadtests.ledger.outage import kept, outage
from router.base.loops import run_loop
from tests.postgres_kit import PostgresServer


@pytest.mark.timed
def test_a_database_that_is_away_under_load_costs_no_answer_and_no_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEFORE_S", 1.5)
    monkeypatch.setattr(module, "AFTER_S", 1.0)
    with PostgresServer() as server:
        figures = run_loop(outage(tmp_path, server, 2, 200.0, 3.0))

    assert kept(figures), figures
    assert figures["answered"] > 100
    assert figures["lag_s_worst"] > 2.5
