"""The decision log of a router that serves: what an auditor with the command alone can tell from it."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from router.cli.audit import audit
from router.cli.report import report
from router.model.decision import Decision, Leave
from tests.adversity.client import ask, chat, sent
from tests.adversity.test_attempts import QUICK
from tests.router_kit import DECISIONS, INTERNAL_KEY, Cloud, RunningRouter, held, router

CLOUDS = (Cloud("a"), Cloud("b", tier=1), Cloud("cw", "coreweave", "openai"))


def verify(folder: Path) -> tuple[int, dict[str, Any]]:
    told = CliRunner().invoke(audit, ["verify", str(folder), "--json"])
    return told.exit_code, json.loads(told.stdout)


async def traffic(r: RunningRouter) -> None:
    """Some of all that can become of a request."""
    for stream in (False, True):
        assert (await ask(r, chat(stream=stream))).status == 200
        assert (await ask(r, chat(stream=stream, key=INTERNAL_KEY))).status == 200
    r.clouds["a"].faults.add("status", status=500, times=2)
    r.clouds["b"].faults.add("status", status=429, retry_after=30, times=1)
    assert (await ask(r, chat(key=INTERNAL_KEY))).status == 200
    r.clouds["a"].faults.add("stall_mid_stream", after_events=3, times=1)
    async with sent(r, chat(stream=True, key=INTERNAL_KEY)) as call:
        await call.some(b"data:")
    assert (await ask(r, chat(model="none"))).status == 404
    assert (await ask(r, chat(key="sk-ir-nobody"))).status == 401


async def test_a_running_log_is_verified_and_says_what_was() -> None:
    async with router(*CLOUDS, timeouts=QUICK, workloads=held()) as r:
        await traffic(r)
        await r.assert_nothing_is_left()
        folder = r.file.parent / DECISIONS
        loop = asyncio.get_running_loop()
        status, told = await loop.run_in_executor(None, verify, folder)

        assert (status, told["ok"], told["faults"]) == (0, True, [])
        (writer,) = told["writers"]
        assert writer["findings"] == []
        assert (writer["requests"], writer["exclusive"], writer["held"]) == (6, 2, 4)
        assert writer["departures"] >= 1
        arguments = ["refusals", "--dir", str(folder), "--by", "cloud", "--format", "json"]
        shown = await loop.run_in_executor(None, CliRunner().invoke, report, arguments)
        assert shown.exit_code == 0, shown.output
        rows = {row["cloud"]: row for row in json.loads(shown.stdout)}
        assert rows["coreweave"]["accepted"] == writer["departures"]
        assert rows["azure"]["refused"] >= 2


async def test_where_all_clouds_are_out_nobody_left() -> None:
    """The others were looked at and found out as well: that is no departure, since nothing was sent."""
    async with router(*CLOUDS, timeouts=QUICK, workloads=held()) as r:
        for cloud in CLOUDS:
            await r.worker.set_drain(f"{cloud.id}/gpt-4o-dep", True)
        assert (await ask(r, chat(key=INTERNAL_KEY))).status == 503
        (decided,) = (record for record in r.decisions() if isinstance(record, Decision))  # and its audit is clean
        assert {(offer.cloud, offer.outcome) for offer in decided.offers} == {("azure", "draining")}
        await r.until(lambda: r.records())
        assert {cloud for _, cloud, _ in r.records()[0]["refusals"]} == {"azure", "coreweave"}


async def test_each_request_is_there_once_and_nothing_of_what_it_said() -> None:
    async with router(*CLOUDS, timeouts=QUICK, workloads=held()) as r:
        for number in range(10):
            body = {"messages": [{"role": "user", "content": f"a secret {number}"}]}
            assert (await ask(r, chat(key=INTERNAL_KEY, **body))).status == 200
        await r.until(lambda: len(r.records()) == 10)
        decided = [record for record in r.decisions() if isinstance(record, Decision)]
        assert sorted(record.request for record in decided) == sorted(record["id"] for record in r.records())
        image = b"".join(path.read_bytes() for path in (r.file.parent / DECISIONS).rglob("*.seg"))
        for word in (b"secret", INTERNAL_KEY.encode(), b"canary"):
            assert word not in image


async def test_a_departure_without_its_refusal_is_found() -> None:
    """A record is left out while the chain is made anew: no hash is wrong, and the contract is broken all the same."""
    async with router(*CLOUDS, timeouts=QUICK, workloads=held()) as r:
        for name in ("a", "b"):
            await r.worker.set_drain(f"{name}/gpt-4o-dep", True)
        log = r.worker.assembly.decisions
        write = log.write

        def forgetful(record: Leave | Decision) -> bool:
            return isinstance(record, Leave) or write(record)

        log.write = forgetful  # type: ignore[method-assign]
        assert (await ask(r, chat(key=INTERNAL_KEY))).status == 200
        log.write = write  # type: ignore[method-assign]
        await r.assert_nothing_is_left()
        status, told = verify(r.file.parent / DECISIONS)
        assert status == 1
        assert [finding["kind"] for finding in told["writers"][0]["findings"]] == ["departure"]


async def test_a_changed_reason_is_found(tmp_path: Path) -> None:
    async with router(*CLOUDS, timeouts=QUICK, workloads=held()) as r:
        for name in ("a", "b"):
            await r.worker.set_drain(f"{name}/gpt-4o-dep", True)
        assert (await ask(r, chat(key=INTERNAL_KEY))).status == 200
        await r.assert_nothing_is_left()
        shutil.copytree(r.file.parent / DECISIONS, tmp_path / "copy")
    changed = 0
    for segment in (tmp_path / "copy").rglob("*.seg"):
        image = segment.read_bytes()
        if b"draining" in image:
            segment.write_bytes(image.replace(b"draining", b"accepted", 1))
            changed += 1
    assert changed == 1
    assert verify(tmp_path / "copy")[0] == 1
