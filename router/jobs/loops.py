"""Jobs that come again and again, and go on after a surprise: one that ended quietly would be missed much later."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from router.base.errors import place_of

# Told of a failure: the name of the job, and of the error's type. Its text may hold anything.
Surprised = Callable[[str, str], None]


def tell_failures(loop: asyncio.AbstractEventLoop, surprised: Surprised) -> None:
    """Has what fails in a callback, or in a task that nobody awaits, told of by its type and place.

    The loop's own way is to write its text and arguments to standard error: both may hold what a client sent.
    """

    def tell(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        what = f"{type(error).__name__} at {place_of(error) or 'no line of ours'}" if error is not None else "no error"
        surprised("event loop", what)

    loop.set_exception_handler(tell)


async def every(seconds: float, name: str, job: Callable[[], Awaitable[None] | None], surprised: Surprised) -> None:
    """Runs `job` each time so many seconds have passed since its last end, until it is cancelled."""
    while True:
        await asyncio.sleep(seconds)
        try:
            result = job()
            if result is not None:
                await result
        except Exception as error:  # noqa: BLE001 - whatever it was, the next round may be better than none ever again
            surprised(name, type(error).__name__)
