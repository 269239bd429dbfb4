"""A job goes on after a surprise, and says so."""

import asyncio

from router.jobs.loops import every


async def test_a_job_that_fails_is_told_of_and_comes_again() -> None:
    rounds, told = 0, []
    done = asyncio.Event()

    async def job() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 2:
            raise KeyError("sk-secret")
        if rounds == 3:
            done.set()

    task = asyncio.create_task(every(0.001, "names", job, lambda *what: told.append(what)))
    await asyncio.wait_for(done.wait(), 5)
    task.cancel()

    assert told == [("names", "KeyError")], "its text may hold anything"


async def test_a_job_may_be_a_plain_function() -> None:
    called = asyncio.Event()
    task = asyncio.create_task(every(0.001, "sweep", called.set, lambda *_: None))
    await asyncio.wait_for(called.wait(), 5)
    task.cancel()
