"""Which event loop a process runs on, said in one place: uvloop, on Windows winloop, else the one of Python itself.

The fast ones are extensions in C that a system may lack. Nothing else here may depend on which of the three it is.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

FAST: Final = ("uvloop", "winloop")  # fastest first


def new_loop() -> asyncio.AbstractEventLoop:
    """The fastest that is installed. Imports it: a command that needs no loop does not pay for it."""
    for name in FAST:
        try:
            make = import_module(name).new_event_loop
        except ImportError:
            continue
        return cast("asyncio.AbstractEventLoop", make())
    return asyncio.new_event_loop()


def run_loop(work: Coroutine[Any, Any, T]) -> T:
    """As `asyncio.run`, on that loop."""
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(work)


def heed(name: str, act: Callable[[], object]) -> None:
    """Has the running loop do so at each signal of that name. Nothing happens where the system has none such."""
    number = getattr(signal, name, None)
    if number is None:
        return
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(number, act)
    except NotImplementedError:  # Windows: a handler of the interpreter's, which may not touch the loop
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(act))
