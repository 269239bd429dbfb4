"""The law of the ledger: its sums are what requests cost, each once, however writing, storing and kills interleave."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from router.ledger.drain import Drain
from router.ledger.store import Store, StoreError
from router.ledger.tables import ATTEMPTS, REQUESTS, USAGE_HOURS
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from tests.unit.ledger.test_drain import Writer

EXAMPLES = itertools.count(1)

attempts = st.builds(
    AttemptRecord,
    st.sampled_from(["azure-1/ptu", "azure-2/std", "oci-1/a"]),
    st.sampled_from(["azure", "oracle"]),
    st.sampled_from(["served", "failed", "hedge_lost"]),
    usage=st.none() | st.builds(Usage, *[st.integers(0, 1 << 32)] * 4),
    cost_nano_usd=st.integers(0, 1 << 40),
    estimated=st.booleans(),
)
requests = st.builds(
    RequestRecord,
    st.just(""),
    st.floats(1.7e9, 1.7e9 + 20_000),
    st.sampled_from(["ok", "refused", "client_gone"]),
    st.just(200),
    st.floats(0, 1e6),
    workload=st.sampled_from(["api", "internal"]),
    model=st.sampled_from(["", "gpt-4o"]),
    served_by=st.sampled_from(["", "azure-1/ptu", "oci-1/a"]),
    attempts=st.lists(attempts, max_size=3).map(tuple),
    cost_nano_usd=st.integers(0, 1 << 40),
    bytes_out=st.integers(0, 1 << 30),
)
# What happens next: a frame of one of two writers, a full segment, a look at the segments, a kill of whoever looks (at
# its next write, before or after that is committed), or a segment that is there again from a copy.
steps = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 1), st.lists(requests, min_size=1, max_size=4)),
    st.tuples(st.just("roll"), st.integers(0, 1)),
    st.tuples(st.just("look")),
    st.tuples(st.just("kill"), st.booleans()),
    st.tuples(st.just("again"), st.integers(0, 1)),
)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/ledger.db"


class Killed(StoreError):
    pass


@asynccontextmanager
async def killed(store: Store, *, committed: bool) -> AsyncIterator[None]:
    """The next transaction is the last thing that this bookkeeper does."""
    real = store.add

    async def add(*arguments: Any) -> int:
        if committed:
            await real(*arguments)
        raise Killed

    store.add = add  # type: ignore[method-assign]
    with suppress(Killed):
        yield
    store.add = real  # type: ignore[method-assign]


async def play(url: str, folder: Path, key: str, script: list[tuple[Any, ...]]) -> None:
    store = Store(url)
    await store.migrate()
    written: list[RequestRecord] = []
    writers = [Writer(folder / name) for name in ("worker-0", "worker-1")]
    copies: dict[Path, bytes] = {}

    def begin() -> Drain:
        return Drain(folder, store, lambda *_, **__: None)

    drain = begin()
    for step, *arguments in [*script, ("look",), ("look",)]:
        match step, arguments:
            case "write", [writer, records]:
                named = [_named(record, f"{key}-{len(written) + place}", key) for place, record in enumerate(records)]
                writers[writer].write(*named)
                written += named
                copies[writers[writer].path] = writers[writer].path.read_bytes()
            case "roll", [writer]:
                writers[writer].roll()
            case "again", [writer]:
                for path, data in copies.items():
                    if path.parent == writers[writer].folder and not path.exists():
                        path.write_bytes(data)
            case "kill", [committed]:
                async with killed(store, committed=committed):
                    await drain.run_once()
                drain.close()
                drain = begin()
            case _:
                await drain.run_once()
    drain.close()
    async with store.reads.connect() as connection:
        await _check(connection, key, written)
    await store.close()


def _named(record: RequestRecord, name: str, key: str) -> RequestRecord:
    from msgspec.structs import replace

    return replace(record, id=name, key=key)


async def _check(connection: AsyncConnection, key: str, written: list[RequestRecord]) -> None:
    async def total(table: Any, *columns: str) -> list[int]:
        wanted = select(*(func.coalesce(func.sum(table.c[name]), 0) for name in columns)).where(table.c.key == key)
        return list((await connection.execute(wanted)).one())

    tries = [attempt for record in written for attempt in record.attempts]
    usages = [attempt.usage or Usage() for attempt in tries]
    cost, charged = sum(each.cost_nano_usd for each in tries), sum(each.cost_nano_usd for each in written)
    tokens = [sum(usage.prompt_tokens for usage in usages), sum(usage.reasoning_tokens for usage in usages)]
    names = ("cost_nano_usd", "prompt_tokens", "reasoning_tokens")
    assert await total(USAGE_HOURS, *names) == await total(ATTEMPTS, *names) == [cost, *tokens]
    counted = await total(USAGE_HOURS, "requests", "attempts", "charged_nano_usd", "bytes_out", "estimated")
    sent = sum(each.bytes_out for each in written)
    assert counted == [len(written), len(tries), charged, sent, sum(each.estimated for each in tries)]
    assert await total(REQUESTS, "cost_nano_usd", "attempts") == [charged, len(tries)]
    ids = select(REQUESTS.c.id).where(REQUESTS.c.key == key)
    assert sorted(row.id for row in await connection.execute(ids)) == sorted(each.id for each in written)


@settings(max_examples=60)
@given(st.lists(steps, max_size=12))
def test_the_ledger_costs_what_its_requests_cost(url: str, script: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(url, Path(folder), f"key-{next(EXAMPLES)}", script))
