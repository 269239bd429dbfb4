"""SIGHUP, however often it comes."""

import asyncio

import pytest

from router.admin.control import Refusal, ReloadResult
from router.admin.hangup import Hangup
from router.config.faults import Fault


async def test_a_storm_of_signals_is_one_reload_more(capsys: pytest.CaptureFixture[str]) -> None:
    """The last signal must be followed by a reload, since the file may have changed just before it."""
    reopened: list[int] = []
    begun: list[int] = []
    release = asyncio.Event()

    async def reload() -> ReloadResult:
        begun.append(len(reopened))
        await release.wait()
        return ReloadResult("v1")

    hangup = Hangup(lambda: reopened.append(1), reload)
    hangup()
    await asyncio.sleep(0)
    for _ in range(100):
        hangup()
        await asyncio.sleep(0)
    release.set()
    for _ in range(5):
        await asyncio.sleep(0)

    assert begun == [1, 101]
    assert len(reopened) == 101, "a log is rotated whenever it is"
    hangup()
    await asyncio.sleep(0)
    assert begun == [1, 101, 102]
    assert capsys.readouterr().err == ""


async def test_a_refusal_is_said_where_a_refused_start_is(capsys: pytest.CaptureFixture[str]) -> None:
    async def reload() -> ReloadResult:
        return ReloadResult("v1", Refusal.FAULTS, (Fault("router.yaml", 7, "keys", "is wrong"),))

    Hangup(lambda: None, reload)()
    await asyncio.sleep(0.01)

    said = capsys.readouterr().err
    assert "router.yaml:7" in said
    assert said.endswith("reload refused, configuration v1 stays in force\n")
