"""What one router says to the next one while that is being started, and what it does when it is to end meanwhile."""

import asyncio
import socket
import sys
from types import SimpleNamespace
from typing import Any, cast

import pytest

from router.jobs import succession
from router.jobs.inheritance import Inheritance
from router.jobs.succession import Estate, Successor, UpgradeError
from router.jobs.tenure import Ruler, Tenure
from router.transport.channel import Channel


class Router:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.hung_up = self.stopped = 0

    def event(self, *_: object, **__: object) -> None: ...

    def stop(self) -> None:
        self.stopped += 1

    def hang_up(self) -> None:
        self.hung_up += 1

    def answers(self) -> dict[str, Any]:
        return {}

    async def drain_here(self, _deployment: str, _draining: bool) -> bool:
        return True

    def tenure(self, inheritance: Inheritance) -> Tenure:
        return Tenure(cast(Ruler, self), inheritance, {})


async def test_a_reload_while_the_next_router_starts_is_one_of_that_too_and_does_not_come_back() -> None:
    """It may have read the file before it was changed, and the operator has been told what is in force."""
    here, there = socket.socketpair()
    old, new = Router(), Router()
    before, after = old.tenure(Inheritance()), new.tenure(Inheritance(line=there))
    line = Channel()

    async def none_drained() -> list[str]:
        return []

    async def hang_up() -> None:
        old.hang_up()

    line.serve({"drained": none_drained, "hang_up": hang_up})
    await asyncio.get_running_loop().create_connection(lambda: line, sock=here)
    before._successor = cast(Successor, SimpleNamespace(channel=line))
    before.hung_up()  # before anybody there listens
    assert await after.meet() == []
    before.hung_up()
    async with asyncio.timeout(5):
        while new.hung_up < 2:
            await asyncio.sleep(0.005)
    after.hung_up()
    assert after._predecessor is not None
    assert await after._predecessor.channel.call(list[str], 5, "drained") == []  # whatever was said before is heard
    assert old.hung_up == 0
    line.close()
    there.close()


async def test_a_router_that_ends_has_no_successor() -> None:
    """Its sockets may let nobody in any more, and the next router would wait at them for ever."""
    ending = Router()
    tenure = ending.tenure(Inheritance())
    tenure._stop()
    with pytest.raises(UpgradeError, match="is ending"):
        await tenure.upgrade()
    assert ending.stopped == 1


async def test_a_successor_that_is_unwanted_before_it_is_a_process_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(succession, "own_command", lambda: [sys.executable, "-c", "import time; time.sleep(60)"])
    estate = Estate([], (), (), False, list)
    successor = Successor(asyncio.get_running_loop(), estate, lambda _: None)
    start = asyncio.create_task(successor.start({}))
    await asyncio.sleep(0)  # it is on its way to a thread
    assert successor._process is None
    successor.stop()
    async with asyncio.timeout(10):
        with pytest.raises(UpgradeError, match="SIGTERM"):
            await start
