"""The ledger's store, on both databases: each entry once, sums of what the entries say, and old ones gone."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, func, select, text

from router.ledger import engines, key_table, migrations
from router.ledger.rows import SUMS, Rows
from router.ledger.store import Position, Store, StoreError
from router.ledger.tables import ATTEMPTS, METADATA, PRICES, REQUESTS, USAGE_HOURS
from router.model.fleet import Price
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from tests.postgres_kit import PostgresServer

NOON = datetime(2026, 3, 10, 12, 30, tzinfo=UTC).timestamp()
HERE = Position("0-abc", 1, 100)


def record(number: int, *costs: int, at: float = NOON, **changes: Any) -> RequestRecord:
    """`costs`: of its attempts; the last one served."""
    attempts = [
        AttemptRecord(f"azure-{place}/ptu", "azure", "failed", 503, usage=Usage(100, 20, 10, 5), cost_nano_usd=cost)
        for place, cost in enumerate(costs)
    ]
    fields = {"id": f"r{number}", "at": at, "outcome": "ok", "status": 200, "total_ms": 1.5, "key": "acme"}
    served = {"served_by": attempts[-1].deployment, "cloud": "azure"} if attempts else {}
    more = {"usage": Usage(100, 20), "cost_nano_usd": costs[-1]} if costs else {}
    return RequestRecord(**{**fields, **served, **more, "attempts": tuple(attempts), **changes})


async def count(store: Store, table: Any) -> int:
    async with store.reads.connect() as connection:
        return int((await connection.execute(select(func.count()).select_from(table))).scalar_one())


async def sums(store: Store) -> dict[str, int]:
    """Over all hours and places."""
    columns = [func.sum(USAGE_HOURS.c[name]).label(name) for name in SUMS]
    async with store.reads.connect() as connection:
        row = (await connection.execute(select(*columns))).one()
    return {name: int(value) for name, value in row._mapping.items()}


async def test_steps_make_the_tables_that_statements_are_made_of(store: Store) -> None:
    assert key_table.API_KEYS.metadata is METADATA

    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), METADATA))

    async with store.writes.connect() as connection:
        assert await connection.run_sync(differences) == []
    assert await store.pending() == []


async def test_a_store_of_a_later_version_is_left_alone(store: Store) -> None:
    async with store.writes.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = 'v9999'"))

    with pytest.raises(StoreError, match="v9999"):
        await store.migrate()


async def test_two_who_start_at_one_moment_take_the_steps_once(url: str) -> None:
    one, other = Store(url), Store(url)

    taken = await asyncio.gather(one.migrate(), other.migrate())

    assert sorted(map(len, taken)) == [0, len(await _all_steps(one))]
    for each in (one, other):
        await each.close()


async def _all_steps(store: Store) -> list[str]:
    from alembic.script import ScriptDirectory

    return [script.revision for script in ScriptDirectory.from_config(migrations._config()).walk_revisions()]


async def test_rows_have_a_value_for_each_column() -> None:
    rows = Rows([record(1, 5, 7)])

    assert [len(row) for row in (*rows.requests, *rows.attempts)] == [len(REQUESTS.c), len(ATTEMPTS.c), len(ATTEMPTS.c)]
    assert [set(row) for row in rows.sums] == [{column.name for column in USAGE_HOURS.c}] * 2


async def test_an_entry_arrives_as_it_was_recorded(store: Store) -> None:
    attempt = AttemptRecord(
        *("azure-1/ptu", "azure", "served", 200, True, 1.5, 2.5, "up-1", True, 0.5, 0.25, 0.125, "ab" * 8),
        *(Usage(10, 20, 5, 7), True, 99, "price-1"),
    )
    whole = RequestRecord(
        *("r1", NOON + 0.000001, "ok", 200, 12.5, "mine", "acme", "api", "gpt-4o", "chat", "exclusive:azure", "v1"),
        *(True, "azure-1/ptu", "azure", "code", (attempt,), (), True, 1.25, 2.25, 3.25, 11, 22, Usage(1, 2, 3, 4)),
        *("trace", 77, 4.25, "azure-1"),
    )

    await store.add([whole], HERE)

    async with store.reads.connect() as connection:
        request = (await connection.execute(select(REQUESTS))).one()._asdict()
        sent = (await connection.execute(select(ATTEMPTS))).one()._asdict()
    at_us = round(NOON * 1e6) + 1
    assert request == {
        "id": "r1",
        "at_us": at_us,
        "key": "acme",
        "workload": "api",
        "model": "gpt-4o",
        "operation": "chat",
        "plan": "exclusive:azure",
        "rule_version": "v1",
        "outcome": "ok",
        "status": 200,
        "code": "code",
        "stream": True,
        "cloud": "azure",
        "endpoint": "azure-1",
        "deployment": "azure-1/ptu",
        "attempts": 1,
        "left_holder": True,
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "cached_tokens": 3,
        "reasoning_tokens": 4,
        "cost_nano_usd": 77,
        "total_ms": 12.5,
        "first_byte_ms": 2.25,
        "first_token_ms": 4.25,
        "queued_ms": 1.25,
        "overhead_ms": 3.25,
        "bytes_in": 11,
        "bytes_out": 22,
        "client_request_id": "mine",
        "trace_id": "trace",
    }
    assert sent == {
        "id": "r1/1",
        "request_id": "r1",
        "at_us": at_us,
        "key": "acme",
        "workload": "api",
        "model": "gpt-4o",
        "plan": "exclusive:azure",
        "cloud": "azure",
        "deployment": "azure-1/ptu",
        "outcome": "served",
        "status": 200,
        "hedge": True,
        "reused": True,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "cached_tokens": 5,
        "reasoning_tokens": 7,
        "estimated": True,
        "cost_nano_usd": 99,
        "price": "price-1",
        "began_ms": 0.125,
        "connect_ms": 0.5,
        "tls_ms": 0.25,
        "first_byte_ms": 1.5,
        "waited_ms": 2.5,
        "upstream_request_id": "up-1",
    }


async def test_what_comes_again_is_not_counted_again(store: Store) -> None:
    assert await store.add([record(1, 5), record(2, 7)], HERE) == 2

    assert await store.add([record(2, 7), record(3, 11), record(3, 11)], Position("0-abc", 1, 200)) == 1
    assert await store.add([record(3, 11)], Position("0-abc", 2, 10)) == 0

    assert (await count(store, REQUESTS), await count(store, ATTEMPTS)) == (3, 3)
    found = await sums(store)
    assert (found["requests"], found["cost_nano_usd"]) == (3, 23)
    assert await store.position("0-abc") == Position("0-abc", 2, 10)
    assert await store.position("another") == Position("another", 0, 0)


async def test_a_request_counts_where_it_was_served_and_an_attempt_where_it_was_sent(store: Store) -> None:
    await store.add([record(1, 3, 4, outcome="ok"), record(2, outcome="refused", key="bolt")], HERE)

    async with store.reads.connect() as connection:
        rows = (
            await connection.execute(select(USAGE_HOURS).order_by(USAGE_HOURS.c.key, USAGE_HOURS.c.deployment))
        ).all()
    told = [(r.key, r.deployment, r.requests, r.ok, r.attempts, r.cost_nano_usd, r.charged_nano_usd) for r in rows]
    assert told == [
        ("acme", "azure-0/ptu", 0, 0, 1, 3, 0),
        ("acme", "azure-1/ptu", 1, 1, 1, 4, 4),
        ("bolt", "", 1, 0, 0, 0, 0),
    ]
    assert rows[1].charged_prompt_tokens == 100
    assert {row.hour for row in rows} == {NOON - 1800}


async def test_text_that_no_database_holds_is_mended_and_the_rest_goes_on(store: Store) -> None:
    odd = record(1, 5, client_request_id="a\0b", bytes_in=1 << 63)

    assert await store.add([odd, record(2, 7)], HERE) == 2

    async with store.reads.connect() as connection:
        row = (await connection.execute(select(REQUESTS).where(REQUESTS.c.id == "r1"))).one()
    assert row.client_request_id in ("ab", "a\0b")
    assert (await sums(store))["cost_nano_usd"] == 12


async def test_what_was_spent_is_of_this_day_and_of_this_month(store: Store) -> None:
    await store.add(
        [
            record(1, 1, at=NOON - 10 * 86400),  # the last of February
            record(2, 10, at=NOON - 2 * 86400),
            record(3, 100, at=NOON - 3600),
            record(4, 1000, 1000),
            record(5, 10_000, at=NOON + 3600),  # not before the question
            record(6, 100_000, key="", workload="internal", model="gpt-4o"),
        ],
        HERE,
    )

    spent = await store.spent(NOON)

    assert spent == {
        "key/acme/day_usd": 2100,
        "key/acme/month_usd": 2110,
        "workload/internal/day_usd": 100_000,
        "workload/internal/month_usd": 100_000,
        "model/gpt-4o/day_usd": 100_000,
        "model/gpt-4o/month_usd": 100_000,
    }
    assert (await store.spent(NOON + 86_400))["key/acme/month_usd"] == 12_110


async def test_old_entries_go_and_their_sums_stay(store: Store) -> None:
    await store.add([record(number, number, at=NOON + number) for number in range(10)], HERE)

    assert await store.prune(NOON + 4) == 8

    assert (await count(store, REQUESTS), await count(store, ATTEMPTS)) == (6, 6)
    assert (await sums(store))["cost_nano_usd"] == 45
    assert await store.prune(NOON + 4) == 0


async def test_prices_are_kept_by_their_version(store: Store) -> None:
    first, second = Price(1, 2, 3), Price(1, 2)

    await store.price([first], 10.0)
    await store.price([first, second], 20.0)

    async with store.reads.connect() as connection:
        rows = (await connection.execute(select(PRICES).order_by(PRICES.c.since_us))).all()
    assert [tuple(row) for row in rows] == [
        (first.version, 1, 2, 3, 10_000_000),
        (second.version, 1, 2, None, 20_000_000),
    ]


async def test_whoever_reads_cannot_write(store: Store) -> None:
    with pytest.raises(Exception, match=r"readonly|read-only"):
        async with store.reads.begin() as connection:
            await connection.execute(REQUESTS.delete())


async def test_a_full_store_takes_all_or_nothing(tmp_path: Any) -> None:
    store = Store(f"sqlite:///{tmp_path}/ledger.db")
    await store.migrate()
    async with store.writes.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 20}")
    many = [record(number, 5) for number in range(2000)]

    with pytest.raises(StoreError, match="full"):
        await store.add(many, HERE)

    assert await count(store, REQUESTS) == 0
    assert await store.position(HERE.writer) == Position(HERE.writer, 0, 0)
    async with store.writes.connect() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert await store.add(many, HERE) == 2000
    assert (await sums(store))["cost_nano_usd"] == 10_000
    await store.close()


@pytest.mark.parametrize("url", ["mysql://h/d", "sqlite://relative", "ledger.db", ""])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        Store(url)


async def test_a_store_that_is_away_is_said_in_the_drivers_words(tmp_path: Any) -> None:
    store = Store(f"postgresql://somebody:a-secret@/ledger?host={tmp_path}")

    with pytest.raises(StoreError) as told:
        await store.migrate()

    assert "FileNotFoundError" in str(told.value)
    assert "a-secret" not in str(told.value)
    await store.close()


async def test_a_server_that_hangs_is_given_up_and_asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "COMMAND_S", 0.5)
    monkeypatch.setattr(engines, "CONNECT_S", 0.5)
    with PostgresServer() as server:
        store = Store(server.url)
        await store.migrate()
        await store.add([record(1, 5)], HERE)
        server.pause()
        for number in (2, 3):
            with pytest.raises(StoreError):
                async with asyncio.timeout(20):
                    await store.add([record(number, 5)], Position("0-abc", 1, 100 + number))
        server.resume()
        assert await store.add([record(2, 5), record(3, 5)], Position("0-abc", 1, 200)) == 2
        assert (await sums(store))["requests"] == 3
        await store.close()


async def test_who_writes_alone_changes_the_kind_of_a_files_log(tmp_path: Path) -> None:
    """At a first start one writes and another reads at once, and of two that change it one is refused."""
    store = Store(f"sqlite:///{tmp_path}/ledger.db")
    kinds = []
    for _ in range(2):
        async with store.reads.connect() as connection:
            await connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")  # it looks at the file no sooner
            kinds.append((await connection.exec_driver_sql("PRAGMA journal_mode")).scalar())
        await store.migrate()
    await store.close()
    assert kinds == ["delete", "wal"]
