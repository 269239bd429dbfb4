"""A job goes on after a surprise, and says so."""

import asyncio

import pytest

from router.jobs.loops import every, tell_failures


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


async def test_what_fails_in_a_callback_is_told_of_without_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither what the error says nor what the callback was given: both may be a client's."""
    loop, told = asyncio.get_running_loop(), list[tuple[str, str]]()
    done = asyncio.Event()

    def surprised(job: str, error: str) -> None:
        told.append((job, error))
        done.set()

    def fail(given: str) -> None:
        raise KeyError(given)

    tell_failures(loop, surprised)
    loop.call_soon(fail, "sk-secret")
    await asyncio.wait_for(done.wait(), 5)
    (job, error) = told[0]
    assert (job, error.rpartition(":")[0]) == ("event loop", "KeyError at test_loops.py")
    shown = capsys.readouterr()
    assert "sk-secret" not in f"{told}{shown.out}{shown.err}"
