"""Any row of writes, anchors, ends and kills, the last ones at any byte of a record: one chain, and nothing lost."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from router.accounting.chain import Chain, Header, Verifier
from router.base.segments import segments_in
from router.model.decision import Decision
from router.telemetry.anchors import read_anchors
from router.telemetry.decision_log import DecisionLog, DecisionLogSettings

SEGMENT: Final = 64 << 10


def decision(number: int) -> Decision:
    return Decision(f"r{number}", 1.0, "k", "api", "m", "chat", "spread:a", "v", (), "a/b" * 30, "a", "ok")


def kill(log: DecisionLog, arrived: set[int]) -> int:
    """Ends a log as SIGKILL would, inside the copy of a record of which these bytes had arrived; how many show."""
    log._closing = True
    log._wanted.set()
    log._keeper.join()
    line = Chain(log.sequence, log.head).seal(msgspec.json.encode(decision(0)))
    torn = bytes(byte if at in arrived else 0 for at, byte in enumerate(line[:-1])) + b"\0"
    if log._position + len(torn) <= log._segment.size:
        log._mapping[log._position : log._position + len(torn)] = torn
    else:
        torn = b""
    segments = [log._segment, *(segment for segment, _ in log._retired), *([log._next] if log._next else [])]
    for segment in segments:
        segment.mapping.close()
        os.close(segment.fd)
    os.close(log._owner)
    return len(torn.rstrip(b"\0"))


STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 250)),
    st.tuples(st.just("anchor"), st.none()),
    st.tuples(st.just("close"), st.none()),
    st.tuples(st.just("kill"), st.sets(st.integers(0, 200), max_size=201)),
    st.tuples(st.just("kill"), st.integers(0, 200).map(lambda size: set(range(size)))),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=10))
def test_one_chain_whatever_happens(steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        choice = DecisionLogSettings(folder, segment_bytes=SEGMENT, keep_bytes=1 << 30)
        log = DecisionLog(choice)
        expected: list[str] = []
        torn: list[int] = []
        for step, argument in [*steps, ("close", None)]:
            if step == "write":
                assert isinstance(argument, int)
                for _ in range(argument):
                    before = log.dropped
                    log.write(decision(len(expected)))
                    if log.dropped == before:
                        expected.append(f"r{len(expected)}")
            elif step == "anchor":
                log.anchor()
            elif step == "close":
                log.close()
                log = DecisionLog(choice)
            else:
                assert isinstance(argument, set)
                torn.append(kill(log, argument))
                log = DecisionLog(choice)
        log.close()

        anchors = read_anchors((Path(folder) / "anchors.jsonl").read_bytes())
        verifier = Verifier("0", {anchor.sequence: anchor.hash for _, anchor in anchors if anchor is not None})
        records = [
            record
            for number, path in segments_in(Path(folder) / "0")
            for record in verifier.segment(number, path.read_bytes())
        ]
        verifier.finish()

    assert verifier.findings == []
    assert verifier.unanchored() == 0
    assert [record.request for record in records if isinstance(record, Decision)] == expected
    headers = [record for record in records if isinstance(record, Header)]
    assert [header.torn_bytes for header in headers if header.torn_bytes] == [size for size in torn if size]
    assert [header.segment for header in headers] == list(range(1, len(headers) + 1))
