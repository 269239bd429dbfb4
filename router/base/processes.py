"""Waiting for other processes without a thread."""

import asyncio
import os


async def until_ended(pid: int) -> None:
    """Waits until a child of this process has ended; it is still to be reaped then. Linux only."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
