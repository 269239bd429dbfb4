"""The store's keys, on both databases: told to routers, remembered in a file, changed by several at one moment."""

import asyncio
import contextlib
import hashlib
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from router.base.clock import SystemClock
from router.ledger import key_keeper
from router.ledger.key_cache import NAME, read_cache, write_cache
from router.ledger.key_desk import KeyDesk
from router.ledger.key_keeper import KeyKeeper
from router.ledger.store import Store
from router.model.keys import AddKey, KeyAnswer, RevokeKey, RotateKey, StoredKey, StoredSecret
from router.transport.channel import FailedError
from tests.postgres_kit import PostgresServer

TERMS = '{"workload":"api","models":["*"]}'
PATIENCE_S = 20.0


def digest(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


class Desk:
    """A keeper that runs, what it told, and somebody else who changes the same store."""

    def __init__(self, url: str, store: Store, folder: Path) -> None:
        self.folder = folder
        self.told: list[list[StoredKey]] = []
        self.keeper = KeyKeeper(url, str(folder), store.writes, self.told.append, SystemClock())
        self.other = KeyDesk(store, SystemClock())

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)

    def names(self) -> list[str]:
        return [key.name for key in self.told[-1] if key.revoked_at is None]


@contextlib.asynccontextmanager
async def running(url: str, store: Store, folder: Path) -> AsyncIterator[Desk]:
    desk = Desk(url, store, folder)
    job = asyncio.create_task(desk.keeper.run())
    try:
        yield desk
    finally:
        job.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await job
        await desk.keeper.close()


@pytest.fixture
async def desk(url: str, store: Store, tmp_path: Path) -> AsyncIterator[Desk]:
    async with running(url, store, tmp_path / "cache") as desk:
        yield desk


async def test_a_change_is_told_before_it_is_answered_and_remembered(desk: Desk) -> None:
    await desk.keeper.change(AddKey("acme", TERMS, digest("a")))
    assert desk.names() == ["acme"]
    answer = await desk.keeper.change(RotateKey("acme", digest("b"), 60.0))
    assert answer.key == desk.told[-1][0]
    assert [secret.sha256 for secret in answer.key.secrets] == [digest("a"), digest("b")]
    assert read_cache(str(desk.folder)) == desk.told[-1]
    await desk.keeper.change(RevokeKey("acme"))
    assert (desk.names(), desk.keeper.trouble) == ([], "")


async def test_what_somebody_else_changes_is_told_too_and_nothing_else_is(desk: Desk) -> None:
    await desk.until(lambda: desk.told)
    assert desk.told == [[]]
    await desk.other.change_key(AddKey("acme", TERMS, digest("a")))
    await desk.until(lambda: len(desk.told) == 2)
    assert desk.names() == ["acme"]
    await asyncio.sleep(3 * key_keeper.LOOK_EVERY_S)
    assert len(desk.told) == 2


async def test_a_word_that_may_have_been_lost_is_said_again(desk: Desk) -> None:
    with patch.object(key_keeper, "TELL_AGAIN_S", 0.1):
        await desk.keeper.change(AddKey("acme", TERMS, digest("a")))
        await desk.until(lambda: len(desk.told) > 3)
    assert desk.told[-1] == desk.told[-2]
    assert desk.names() == ["acme"]


async def test_of_those_who_give_one_name_at_one_moment_one_wins(desk: Desk) -> None:
    adds = [AddKey("acme", TERMS, digest(f"{n}")) for n in range(4)]
    answers = await asyncio.gather(
        desk.keeper.change(adds[0]), *(desk.other.change_key(add) for add in adds[1:3]), desk.keeper.change(adds[3])
    )
    assert [answer.refusal == "" for answer in answers].count(True) == 1
    await desk.until(lambda: desk.told and desk.told[-1])
    assert len(desk.told[-1][0].secrets) == 1


async def test_of_those_who_rotate_at_one_moment_one_wins(desk: Desk) -> None:
    """Else a key would have three secrets, which no router takes."""
    await desk.keeper.change(AddKey("acme", TERMS, digest("a")))
    changes = [RotateKey("acme", digest(f"{n}"), 60.0) for n in range(3)]
    answers: list[KeyAnswer] = await asyncio.gather(
        desk.keeper.change(changes[0]), *(desk.other.change_key(change) for change in changes[1:])
    )
    assert [answer.refusal == "" for answer in answers].count(True) == 1
    assert [len(key.secrets) for key in await desk.other.stored_keys()] == [2]


async def test_a_key_that_is_not_there_is_not_changed(desk: Desk) -> None:
    with pytest.raises(LookupError, match="no key named 'acme'"):
        await desk.keeper.change(RevokeKey("acme"))


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_a_cache_that_cannot_be_written_keeps_no_key_alive(desk: Desk) -> None:
    await desk.keeper.change(AddKey("acme", TERMS, digest("a")))
    with patch.object(key_keeper, "write_cache", side_effect=OSError(28, "No space left on device")):
        await desk.keeper.change(RevokeKey("acme"))
        assert desk.names() == []
        assert "No space left on device" in desk.keeper.trouble
        times = len(desk.told)
    await desk.until(lambda: not desk.keeper.trouble)
    assert read_cache(str(desk.folder)) == desk.told[-1]
    assert len(desk.told) == times


async def test_a_server_that_dies_says_so_and_tells_what_changed_once_it_is_back(tmp_path: Path) -> None:
    with PostgresServer() as server:
        store = Store(server.url)
        await store.migrate()
        async with running(server.url, store, tmp_path) as desk:
            await desk.keeper.change(AddKey("acme", TERMS, digest("a")))
            server.kill()
            with pytest.raises(FailedError, match="cannot be reached"):
                await desk.keeper.change(RevokeKey("acme"))
            await desk.until(lambda: desk.keeper.trouble)
            assert desk.names() == ["acme"]
            assert read_cache(str(tmp_path)) == desk.told[-1]
            server.start()
            await desk.until(lambda: not desk.keeper.trouble)
            await desk.other.change_key(RevokeKey("acme"))
            await desk.until(lambda: desk.names() == [])
        await store.close()


async def test_a_server_that_hangs_is_asked_anew(tmp_path: Path) -> None:
    with PostgresServer() as server, patch.object(key_keeper, "LOOK_S", 0.2):
        store = Store(server.url)
        await store.migrate()
        async with running(server.url, store, tmp_path) as desk:
            await desk.keeper.change(AddKey("acme", TERMS, digest("a")))
            server.pause()
            await desk.until(lambda: desk.keeper.trouble)
            server.resume()
            await desk.until(lambda: not desk.keeper.trouble)
            await desk.other.change_key(RevokeKey("acme"))
            await desk.until(lambda: desk.names() == [])
        await store.close()


def test_the_cache_is_its_owners_alone_and_whole_or_not_there(tmp_path: Path) -> None:
    keys = [StoredKey("acme", TERMS, (StoredSecret(digest("a"), 5.0), StoredSecret(digest("b"))), 1.0, 2.0, None)]
    folder = str(tmp_path / "deep" / "ledger")
    assert read_cache(folder) is None
    write_cache(folder, keys)
    write_cache(folder, keys)
    assert read_cache(folder) == keys
    assert stat.S_IMODE((Path(folder) / NAME).stat().st_mode) == 0o600
    assert [file.name for file in Path(folder).iterdir()] == [NAME]
    (Path(folder) / NAME).write_bytes(b'[{"name": "acme"')
    with pytest.raises(ValueError, match="truncated"):
        read_cache(folder)
