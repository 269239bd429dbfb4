"""Runs the router so that it can be counted: `launcher.py serve --config FILE`, told what to do on standard input.

Started as a file, not as a module: the router comes from the tree that PYTHONPATH names. Its timers are stretched so
far that they hardly come: how many of them fall between two requests is the machine's mood, and not the path's cost.
"""

import asyncio
import functools
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextvars import Context
from types import CodeType, FrameType
from typing import Any

STRETCH = 1000.0
BEGIN, TAKE = "begin", "take"  # the lines that are understood: count from now on; tell the counts and begin anew


_running: list[asyncio.AbstractEventLoop] = []


def stretch_timers() -> None:
    """Puts the loop of production in place, but for slower timers. `call_at` comes through `call_later`."""
    import uvloop  # nothing else is counted

    class StretchedLoop(uvloop.Loop):
        def __init__(self) -> None:
            super().__init__()
            _running.append(self)

        def call_later(  # type: ignore[override]  # the stubs want each callback's own arguments
            self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
        ) -> asyncio.TimerHandle:
            return super().call_later(delay * STRETCH, callback, *args, context=context)

    uvloop.Loop = StretchedLoop  # type: ignore[misc]


class OpcodeCounter:
    """Counts each opcode that one thread executes, by function."""

    def __init__(self) -> None:
        self._codes: dict[int, CodeType] = {}  # by id: code objects hash slowly
        self._counts: Counter[int] = Counter()

    def begin(self) -> None:
        sys.settrace(self._enter)

    def take(self) -> dict[str, int]:
        counted, self._counts = self._counts, Counter()
        counts: Counter[str] = Counter()
        for number, count in counted.items():
            code = self._codes[number]
            if code.co_filename != __file__:
                counts[f"{_module(code.co_filename)}:{code.co_qualname}"] += count
        return counts

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any]:
        self._codes[id(frame.f_code)] = frame.f_code
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        if event == "opcode":
            self._counts[id(frame.f_code)] += 1
        return self._step


@functools.cache
def _module(filename: str) -> str:
    """The path below the folder that it was imported from, so that trees can be compared."""
    folders = sorted((folder for folder in sys.path if folder and filename.startswith(f"{folder}/")), key=len)
    return filename[len(folders[-1]) + 1 :] if folders else filename


def obey(counter: OpcodeCounter) -> None:
    """Reads commands, has the loop's thread do them, and says on standard output when they are done."""
    commands: dict[str, Callable[[], object]] = {BEGIN: counter.begin, TAKE: counter.take}

    def do(command: str) -> None:
        print(json.dumps(commands[command]()), flush=True)

    for line in sys.stdin:
        _running[-1].call_soon_threadsafe(do, line.strip())


def main() -> None:
    stretch_timers()
    threading.Thread(target=obey, args=(OpcodeCounter(),), daemon=True).start()
    from router.cli import main as router

    router()


if __name__ == "__main__":
    main()
