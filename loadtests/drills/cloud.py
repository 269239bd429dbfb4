"""Emulated clouds in a process of their own, so that it can be killed or stopped; each notes every request it reads.

`python -m loadtests.drills.cloud CONFIG FOLDER ENDPOINT...` writes `FOLDER/ENDPOINT.journal`, a line a request:
monotonic and wall seconds, marker (the body's `user`; `-`: none), operation, status, fault. Written at once, so that
a kill loses none.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router.base.loops import new_loop
from router.emulator import EmulatedCloud, Endpoint, Fault, Kind, load_endpoints
from router.emulator.received import Request
from router.emulator.service import Handled

NO_MARKER: Final = "-"
_USER: Final = re.compile(rb'"user":"([\w-]+)"')


@dataclass(frozen=True, slots=True)
class Arrival:
    """A line of a cloud's journal."""

    at: float  # monotonic seconds, which all processes of a machine share
    wall: float
    marker: str
    operation: str
    status: int  # of the answer that was due
    fault: str  # what befell it instead; empty: nothing

    @property
    def traffic(self) -> str:
        return self.marker.partition("-")[0]


def journal_of(folder: Path, endpoint: str) -> Path:
    return folder / f"{endpoint}.journal"


def read_journal(file: Path) -> list[Arrival]:
    """All whole lines; none where the cloud has not been started yet."""
    if not file.exists():
        return []
    found = []
    for line in file.read_text().splitlines():
        at, wall, marker, operation, status, fault = line.split(" ")
        found.append(Arrival(float(at), float(wall), marker, operation, int(status), fault.strip(NO_MARKER)))
    return found


class WitnessedCloud(EmulatedCloud):
    """An emulated cloud that keeps a journal."""

    def __init__(self, endpoint: Endpoint, folder: Path) -> None:
        super().__init__(endpoint)
        self._journal = os.open(journal_of(folder, endpoint.id), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def handle(self, request: Request) -> tuple[Handled, Fault | None]:
        handled, fault = super().handle(request)
        found = _USER.search(request.body)
        status = handled.answer.status
        if fault is not None and fault.kind is Kind.STATUS:
            status = fault.status or 500
        line = (
            f"{time.monotonic():.6f} {time.time():.6f} {found[1].decode() if found else NO_MARKER} "
            f"{handled.operation or NO_MARKER} {status} {fault.kind.value if fault else NO_MARKER}\n"
        )
        os.write(self._journal, line.encode())
        return handled, fault


async def _serve(config: Path, folder: Path, wanted: list[str]) -> None:
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    async with contextlib.AsyncExitStack() as stack:
        for endpoint in load_endpoints(config):
            if endpoint.id in wanted:
                await stack.enter_async_context(WitnessedCloud(endpoint, folder))
        await asked.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
