"""A process that writes the ledger is killed in the middle, again and again: nothing that it committed may be lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from router.accounting.entries import frames, walk
from router.base.segments import segments_in

KILLS: Final = 8
WRITER: Final = """
import asyncio, sys
from router.ledger.settings import LedgerSettings
from router.ledger.writer import LedgerWriter
from router.model.outcome import AttemptRecord, RequestRecord

folder, run, durable = sys.argv[1:]
attempts = (AttemptRecord("azure-1/ptu", "azure", "served", 200, price="p"),)


def tell(number):
    # What a reader of this line knows to be in the ledger, as a client that got its answer would.
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()


async def main():
    settings = LedgerSettings(folder, segment_bytes=256 << 10, keep_bytes=1 << 30, durable=durable == "1")
    ledger = LedgerWriter(settings, asyncio.get_running_loop(), event=lambda *_, **fields: None)
    number = 0
    while True:
        for _ in range(50):
            for _ in range(1 + number % 7):
                number += 1
                ledger.add(RequestRecord(f"{run}-{number}", 1.0, "ok", 200, 2.0, key="k", attempts=attempts))
            ledger.commit()
        while ledger.held_bytes:  # segments are filled faster than prepared: as a router says, a kill would lose these
            await asyncio.sleep(0.001)
        ledger.when_durable(lambda number=number: tell(number))
        await asyncio.sleep(0)


asyncio.run(main())
"""


def run_and_kill(folder: Path, run: int, durable: bool, rng: random.Random) -> int:
    """Kills a writer while it writes; the number of the last entry that it told of."""
    command = [sys.executable, "-c", WRITER, str(folder), str(run), str(int(durable))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.06))
        process.kill()
        lines = [first, *process.stdout]
    return int([line for line in lines if line.endswith("\n")][-1])


@pytest.mark.parametrize("durable", [False, True])
def test_kills_lose_nothing_that_was_committed(tmp_path: Path, durable: bool) -> None:
    rng = random.Random(20)
    told = [run_and_kill(tmp_path, run, durable, rng) for run in range(KILLS)]

    found: dict[int, list[int]] = {run: [] for run in range(KILLS)}
    sequence = 0
    for _, path in segments_in(tmp_path / "0"):
        data = path.read_bytes()
        for frame in frames(data):
            assert frame.sequence == sequence + 1
            sequence = frame.sequence
        for _, records in walk(data):
            for record in records:
                run, _, number = record.id.partition("-")
                found[int(run)].append(int(number))

    for run, last in enumerate(told):
        assert set(found[run]) >= set(range(1, last + 1))
        assert len(found[run]) == len(set(found[run]))
    assert len(segments_in(tmp_path / "0")) > KILLS
