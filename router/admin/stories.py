"""All that is known of one request: its record, and what the decision log has of it.

The newest records are in memory; older ones are looked for in the last part of the access log. Both logs are read
backwards, in a thread, for a bounded number of bytes: a router that serves must not stand still for a question.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from router.accounting.chain import Event, Header
from router.accounting.chain import Record as ChainRecord
from router.base.segments import written_segments
from router.model.decision import Leave
from router.model.outcome import RequestRecord
from router.telemetry.recent import Recent

LOOK_BACK_BYTES: Final = 64 << 20  # of each log
# The interpreter's lock is held while a block is searched: 0.1 ms, in which the event loop stands.
_BLOCK_BYTES: Final = 256 << 10
_LINE_BYTES_MAX: Final = 1 << 20

_line: Final = msgspec.json.Decoder(RequestRecord)
_entry: Final = msgspec.json.Decoder(ChainRecord)


class Stories:
    """Of the requests of one process.

    `access_log`: a path, or `-` and `off`, which nobody can read. `decisions`: the folder of this process's segments.
    """

    def __init__(self, recent: Recent, access_log: str, decisions: Path | None) -> None:
        self._recent, self._decisions = recent, decisions
        self._log = Path(access_log) if access_log not in ("-", "off") else None
        # One search at a time: many who ask must not keep the threads that others work with.
        self._searching = ThreadPoolExecutor(max_workers=1, thread_name_prefix="stories")

    async def find(self, request_id: str) -> dict[str, object] | None:
        """The story of a request that has ended, by the router's id or its client's; None where it is not known."""
        record = self._recent.find(request_id)
        return await asyncio.get_running_loop().run_in_executor(self._searching, self._search, request_id, record)

    def _search(self, request_id: str, record: RequestRecord | None) -> dict[str, object] | None:
        source = "memory"
        if record is None:
            record, source = self._logged(request_id), "access_log"
        departed = record is None or record.left_holder
        decisions = self._decided(record.id if record is not None else request_id, departed=departed)
        if record is None and not decisions:
            return None
        return {
            "request": record.id if record is not None else request_id,
            "source": source if record is not None else "decision_log",
            "record": msgspec.to_builtins(record),
            "decisions": decisions,
        }

    def _logged(self, request_id: str) -> RequestRecord | None:
        """The line of the access log."""
        if self._log is None or not self._log.is_file():
            return None
        for line in _lines_with(self._log, msgspec.json.encode(request_id)):
            try:
                record = _line.decode(line)
            except msgspec.DecodeError:  # an event, or a line of an older version
                continue
            if request_id in (record.id, record.client_request_id):
                return record
        return None

    def _decided(self, request_id: str, *, departed: bool) -> list[dict[str, object]]:
        """Its records in the decision log, the oldest first. `departed`: it may have left the holder, which is one."""
        found: list[dict[str, object]] = []
        left, sought = LOOK_BACK_BYTES, msgspec.json.encode(request_id)
        for _, path in reversed(self._segments()):
            size = _written_bytes(path)
            for line in _lines_with(path, sought, size, left):
                told = _told(line, request_id)
                if told is None:
                    continue
                found.insert(0, told)
                if told["kind"] == "leave" or not departed:
                    return found  # nothing of it is older
            left -= size
            if left <= 0:
                break
        return found

    def _segments(self) -> Sequence[tuple[int, Path]]:
        if self._decisions is None or not self._decisions.is_dir():
            return ()
        return written_segments(self._decisions)


def _told(line: bytes, request_id: str) -> dict[str, object] | None:
    """A line of the decision log in words, if it is about this request."""
    sequence, _, rest = line.partition(b" ")
    payload, _, seal = rest.rpartition(b" ")
    try:
        entry = _entry.decode(payload)
    except msgspec.DecodeError:
        return None
    if isinstance(entry, Header | Event) or entry.request != request_id:
        return None
    offers = [{"deployment": each.deployment, "cloud": each.cloud, "outcome": each.outcome} for each in entry.offers]
    told: dict[str, object] = {
        "sequence": int(sequence),
        "hash": seal.decode(),
        "at": entry.at,
        "rule": entry.rule,
        "rule_version": entry.rule_version,
        "offers": offers,
    }
    if isinstance(entry, Leave):
        return {"kind": "leave", **told, "to": entry.to, "to_cloud": entry.to_cloud}
    return {"kind": "request", **told, "served_by": entry.served_by, "cloud": entry.cloud}


def _lines_with(
    path: Path, sought: bytes, size: int | None = None, look_back: int = LOOK_BACK_BYTES
) -> Iterator[bytes]:
    """The lines that hold these bytes, the last one first, without their ends. `size`: of what is read of the file."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END) if size is None else size
            floor = max(0, end - look_back)
            rest = b""  # the end of a line that begins further up
            while end > floor:
                begin = max(floor, end - _BLOCK_BYTES)
                file.seek(begin)
                block = file.read(end - begin) + rest
                first = block.find(b"\n") + 1 if begin else 0
                stop = len(block)
                while (at := block.rfind(sought, first, stop)) >= 0:
                    start = block.rfind(b"\n", 0, at) + 1
                    line_end = block.find(b"\n", at)
                    yield block[start : line_end if line_end >= 0 else len(block)]
                    stop = start
                # What has no end for so long is no line of ours, and its beginning is not waited for.
                rest, end = block[:first] if first <= _LINE_BYTES_MAX else b"\n", begin
    except OSError:  # rotated or deleted while it was read: what was found stands
        return


def _written_bytes(path: Path) -> int:
    """How much of a segment is written: the rest of it is zero bytes, and no record holds one."""
    with path.open("rb") as file:
        low, high = 0, file.seek(0, os.SEEK_END)
        while low < high:
            middle = (low + high) // 2
            file.seek(middle)
            low, high = (low, middle) if file.read(1) == b"\0" else (middle + 1, high)
    return low
