"""From segments into the store: what is whole goes in once, what is being written is looked at again."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.accounting.entries import checksum, frame
from router.ledger import drain as module
from router.ledger.drain import Drain
from router.ledger.store import Position, Store, StoreError
from router.ledger.tables import REQUESTS
from router.model.outcome import RequestRecord
from router.model.stored import Home
from tests.unit.ledger.test_store import count, record, sums

SEGMENT = 64 << 10


class Writer:
    """Writes frames as a router's process does, into a file that is longer than what is written."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.number, self.sequence, self.position = folder, 0, 0, 0
        self.roll()

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number:08d}.seg"

    def roll(self, *, trim: bool = True) -> None:
        if self.number and trim:
            os.truncate(self.path, self.position)
        self.number += 1
        self.position = 0
        self.path.write_bytes(bytes(SEGMENT))

    def write(self, *records: RequestRecord, torn: int = 0) -> None:
        self.sequence += 1
        data = frame(records, self.sequence)
        self.put(data[: len(data) - torn])

    def put(self, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(self.position)
            file.write(data)
        self.position += len(data)


class Stage:
    """A folder of segments, a store, and what is drained between them."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self.events: list[tuple[str, dict[str, object]]] = []
        self.writer = Writer(folder / "0")
        self.drain = self.begin()

    def begin(self) -> Drain:
        self.drain = Drain(self.folder, self.store, lambda event, **fields: self.events.append((event, fields)))
        return self.drain

    def restart(self) -> Drain:
        self.drain.close()
        return self.begin()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    store = Store(f"sqlite:///{tmp_path}/ledger.db")
    await store.migrate()
    made = Stage(tmp_path / "ledger", store)
    yield made
    made.drain.close()
    await store.close()


async def test_what_is_written_meanwhile_is_stored_at_the_next_look(stage: Stage) -> None:
    assert await stage.drain.run_once() == 0
    stage.writer.write(record(1, 5), record(2, 6))
    assert await stage.drain.run_once() == 2
    stage.writer.write(record(3, 7))
    assert await stage.drain.run_once() == 1
    assert await stage.drain.run_once() == 0

    assert (await sums(stage.store))["cost_nano_usd"] == 18


async def test_a_frame_that_is_not_whole_yet_is_waited_for(stage: Stage) -> None:
    stage.writer.write(record(1, 5))
    stage.writer.write(record(2, 6), torn=1)
    assert await stage.drain.run_once() == 1

    stage.writer.position -= len(frame([record(2, 6)], 2)) - 1
    stage.writer.sequence = 1
    stage.writer.write(record(2, 6))

    assert await stage.drain.run_once() == 1


async def test_a_full_segment_goes_once_it_is_stored_and_the_newest_stays(stage: Stage) -> None:
    first = stage.writer.path
    stage.writer.write(record(1, 5))
    stage.writer.roll()
    await stage.drain.run_once()
    assert first.exists(), "nothing is written to the next one yet"

    stage.writer.write(record(2, 6))
    await stage.drain.run_once()

    assert not first.exists()
    assert stage.writer.path.exists()
    assert await count(stage.store, REQUESTS) == 2


@pytest.mark.parametrize("trim", [True, False])
async def test_a_segment_that_was_never_written_to_holds_nothing_up(stage: Stage, trim: bool) -> None:
    stage.writer.roll(trim=trim)
    stage.writer.write(record(1, 5))

    assert await stage.drain.run_once() == 1
    assert [path.name for path in sorted(stage.writer.folder.glob("*.seg"))] == ["00000002.seg"]


async def test_a_new_bookkeeper_goes_on_where_the_last_one_was_killed(stage: Stage) -> None:
    stage.writer.write(record(1, 5))
    await stage.drain.run_once()
    stage.writer.write(record(2, 6))

    assert await stage.restart().run_once() == 1
    assert (await sums(stage.store))["requests"] == 2


async def test_killed_between_storing_and_deleting_it_counts_nothing_twice(stage: Stage) -> None:
    stage.writer.write(record(1, 5))
    kept, data = stage.writer.path, stage.writer.path.read_bytes()
    stage.writer.roll()
    stage.writer.write(record(2, 6))
    await stage.drain.run_once()
    kept.write_bytes(data)

    assert await stage.restart().run_once() == 0
    assert not kept.exists()
    assert (await sums(stage.store))["cost_nano_usd"] == 11


async def test_writers_of_other_machines_with_the_same_name_share_a_store(stage: Stage, tmp_path: Path) -> None:
    stage.writer.write(record(1, 5))
    await stage.drain.run_once()
    other = Stage(tmp_path / "elsewhere", stage.store)
    other.writer.write(record(2, 6))

    assert await other.drain.run_once() == 1
    other.drain.close()
    assert await count(stage.store, REQUESTS) == 2


async def test_an_identity_that_a_loss_of_power_emptied_is_made_anew(stage: Stage) -> None:
    """Two routers that share a store and are both nobody would take each other's places for their own."""
    stage.writer.write(record(1, 5))
    await stage.drain.run_once()
    identity = stage.writer.folder / "identity"
    identity.write_bytes(b"")
    stage.writer.write(record(2, 6))

    assert await stage.restart().run_once() == 1
    assert identity.read_text().startswith("0-")
    assert (await sums(stage.store))["cost_nano_usd"] == 11


async def test_a_folder_that_somebody_emptied_begins_anew(stage: Stage) -> None:
    for number in range(3):
        stage.writer.write(record(number, 5))
        stage.writer.roll()
    await stage.drain.run_once()
    for path in stage.writer.folder.iterdir():
        path.unlink()

    Writer(stage.writer.folder).write(record(7, 5))

    assert await stage.drain.run_once() == 1


async def test_what_cannot_be_read_is_set_aside_and_told_of(stage: Stage) -> None:
    stage.writer.write(record(1, 5))
    stage.writer.put(b"\x20\0\0\0 this was a frame, and a disk has lost it")
    broken, position = stage.writer.path, len(frame([record(1, 5)], 1))
    stage.writer.roll()
    stage.writer.write(record(2, 6))

    assert await stage.drain.run_once() == 2
    assert stage.drain.damaged == 1
    assert broken.with_suffix(".damaged").exists()
    assert stage.events == [
        ("ledger_segment_damaged", {"file": str(broken.with_suffix(".damaged")), "position": position, "bytes": 45})
    ]


async def test_a_frame_of_another_kind_of_router_holds_nothing_up(stage: Stage) -> None:
    payload = msgspec.msgpack.encode([{"id": 7}])
    stage.writer.write(record(1, 5))
    stage.writer.sequence += 1
    header = struct.pack("<IIQ", len(payload), checksum(payload, stage.writer.sequence), stage.writer.sequence)
    position = stage.writer.position
    stage.writer.put(header + payload)
    stage.writer.write(record(2, 6))

    assert await stage.drain.run_once() == 2

    kept = stage.writer.path.with_name(f"00000001-{position}.damaged")
    assert kept.read_bytes() == header + payload
    assert [event for event, _ in stage.events] == ["ledger_segment_damaged"]
    assert await stage.drain.run_once() == 0
    assert stage.drain.damaged == 1


async def test_what_waits_is_known_to_a_page(stage: Stage) -> None:
    assert stage.drain.waiting_bytes() == 0
    stage.writer.write(record(1, 5))
    assert 0 < stage.drain.waiting_bytes() <= 4096
    for number in range(200):
        stage.writer.write(record(number, 5))
    assert 0 <= stage.drain.waiting_bytes() - stage.writer.position < 4096

    await stage.drain.run_once()
    assert stage.drain.waiting_bytes() < 4096
    stage.writer.roll()
    stage.writer.write(record(300, 5))
    await stage.drain.run_once()
    assert stage.drain.waiting_bytes() < 4096


async def test_frames_longer_than_a_read_are_read_whole(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_BYTES", 512)
    for start in range(0, 90, 30):
        stage.writer.write(*(record(number, 1) for number in range(start, start + 30)))

    assert await stage.drain.run_once() == 90


async def test_nothing_is_lost_while_the_store_is_away(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    real = stage.store.add

    async def away(_records: Sequence[RequestRecord], _position: Position, _homes: Sequence[Home]) -> int:
        raise StoreError("away")

    stage.writer.write(record(1, 5))
    monkeypatch.setattr(stage.store, "add", away)
    for _ in range(3):
        with pytest.raises(StoreError):
            await stage.drain.run_once()
    stage.writer.write(record(2, 6))
    whole_at = stage.drain._whole_at
    assert stage.drain.stored == 0
    monkeypatch.setattr(stage.store, "add", real)

    assert await stage.drain.run_once() == 2
    assert stage.drain._whole_at > whole_at


async def test_nothing_is_stored_in_a_database_that_was_removed(stage: Stage, tmp_path: Path) -> None:
    stage.writer.write(record(1, 5))
    await stage.drain.run_once()
    for path in tmp_path.glob("ledger.db*"):
        path.unlink()
    stage.writer.write(record(2, 6))
    kept = stage.writer.path
    stage.writer.roll()
    stage.writer.write(record(3, 7))

    with pytest.raises(StoreError, match="was removed"):
        await stage.drain.run_once()
    assert kept.exists()


async def test_one_process_drains_a_folder(stage: Stage) -> None:
    with pytest.raises(OSError, match="another process"):
        Drain(stage.folder, stage.store, lambda *_: None)


async def test_two_entries_of_one_id_are_one(stage: Stage) -> None:
    """Not that a router gives an id twice; but what it is billed by must not depend on it."""
    stage.writer.write(record(1, 5), record(1, 5))
    other = Writer(stage.folder / "worker-1")
    other.write(record(1, 5))

    assert await stage.drain.run_once() == 1
    found: Any = await sums(stage.store)
    assert (found["requests"], found["attempts"], found["cost_nano_usd"]) == (1, 1, 5)
