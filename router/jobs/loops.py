"""Jobs that come again and again, and go on after a surprise: one that ended quietly would be missed much later."""

import asyncio
from collections.abc import Awaitable, Callable

# Told of a failure: the name of the job, and of the error's type. Its text may hold anything.
Surprised = Callable[[str, str], None]


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
