"""A process that writes decisions is killed in the middle, again and again: nothing that it wrote may be lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from router.accounting.chain import Event, Header, Verifier
from router.base.segments import segments_in
from router.model.decision import Decision
from router.telemetry.anchors import read_anchors

KILLS: Final = 32
WRITER: Final = """
import sys
from router.model.decision import Decision, Offer
from router.telemetry.decision_log import DecisionLog, DecisionLogSettings

folder, run, anchored = sys.argv[1:]
log = DecisionLog(DecisionLogSettings(folder, segment_bytes=1 << 20, keep_bytes=1 << 30))
offers = (Offer("azure-1/ptu", "azure", "throttled"), Offer("azure-2/std", "azure", "accepted"))
told = number = 0
while True:
    for _ in range(50):
        number += 1
        key = "k", "api", "m", "chat", "exclusive:azure", "v"
        log.write(Decision(f"{run}-{number}", 1.0, *key, offers, "d", "azure", "ok"))
    if anchored == "1" and log.sequence > told + 2000:
        told = log.sequence
        log.anchor()
    # What a reader of this line knows to be written, as a client that got its answer would.
    sys.stdout.write(f"{log.sequence} {log.head.decode()} {log.dropped}\\n")
    sys.stdout.flush()
"""


def run_and_kill(folder: Path, number: int, rng: random.Random) -> tuple[int, str, int]:
    """Kills a writer while it writes; the last sequence and hash that it told of, and how many it had dropped."""
    command = [sys.executable, "-c", WRITER, str(folder), str(number), str(number % 2)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.06))
        process.kill()
        lines = [first, *process.stdout]
    whole = [line for line in lines if line.endswith("\n")]
    sequence, head, dropped = whole[-1].split()
    return int(sequence), head, int(dropped)


def test_kills_lose_nothing_and_break_no_chain(tmp_path: Path) -> None:
    rng = random.Random(20)
    told = [run_and_kill(tmp_path, number, rng) for number in range(KILLS)]

    anchors = {
        anchor.sequence: anchor.hash
        for _, anchor in read_anchors((tmp_path / "anchors.jsonl").read_bytes())
        if anchor is not None
    }
    assert anchors
    verifier = Verifier("0", anchors)
    hashes: dict[int, str] = {}
    previous, requests = 0, 0
    last_of_run = dict.fromkeys(range(KILLS), 0)
    for number, path in segments_in(tmp_path / "0"):
        data = path.read_bytes()
        for record in verifier.segment(number, data):
            assert verifier.sequence == previous + 1
            previous = verifier.sequence
            start = verifier.offset
            hashes[previous] = data[data.index(b"\n", start) - 64 : data.index(b"\n", start)].decode()
            if isinstance(record, Decision):
                run, _, count = record.request.partition("-")
                # One by one, unless segments were filled faster than prepared.
                assert int(count) == last_of_run[int(run)] + 1 or told[int(run)][2]
                assert int(count) > last_of_run[int(run)]
                last_of_run[int(run)] = int(count)
                requests += 1
            else:
                assert isinstance(record, Header | Event)
    verifier.finish()

    assert verifier.findings == []
    assert verifier.sequence >= told[-1][0]
    for sequence, head, _ in told:
        assert hashes[sequence] == head  # each record that a process told of is there, under its own sequence
    assert [sequence for sequence, _, _ in told] == sorted({sequence for sequence, _, _ in told})
    assert requests > 50 * KILLS
