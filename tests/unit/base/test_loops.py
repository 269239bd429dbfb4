"""The loop that is chosen, and signals where a loop hears none."""

import asyncio
import os
import signal
import sys
from types import ModuleType
from typing import Any

import pytest

from router.base.loops import FAST, heed, new_loop, run_loop


class Chosen(asyncio.SelectorEventLoop):
    pass


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Any:
    def only(*names: str) -> None:
        for name in FAST:
            module = ModuleType(name) if name in names else None
            if module is not None:
                module.new_event_loop = type(f"{name}Loop", (Chosen,), {})  # type: ignore[attr-defined]
            monkeypatch.setitem(sys.modules, name, module)

    return only


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("uvloop", "winloop"), "uvloopLoop"),
        (("winloop",), "winloopLoop"),
        ((), type(asyncio.new_event_loop()).__name__),
    ],
)
def test_the_fastest_that_is_there_is_chosen(installed: Any, names: tuple[str, ...], chosen: str) -> None:
    installed(*names)

    loop = new_loop()

    loop.close()
    assert type(loop).__name__ == chosen


def test_work_runs_on_the_chosen_loop(installed: Any) -> None:
    installed("winloop")

    async def work() -> str:
        return type(asyncio.get_running_loop()).__name__

    assert run_loop(work()) == "winloopLoop"


class DeafLoop(asyncio.SelectorEventLoop):
    """As Windows' loops are."""

    def add_signal_handler(self, *_: Any) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("make", [asyncio.new_event_loop, new_loop, DeafLoop])
def test_a_signal_is_heeded_in_the_loop(make: Any) -> None:
    async def work() -> bool:
        heard = asyncio.Event()
        heed("SIGTERM", heard.set)
        heed("SIGNOSUCH", heard.set)  # no system has it, and nobody minds
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(10):
            await heard.wait()
        return True

    before = signal.getsignal(signal.SIGTERM)
    try:
        with asyncio.Runner(loop_factory=make) as runner:
            assert runner.run(work())
    finally:
        signal.signal(signal.SIGTERM, before)
