"""Several workers behind one port, as clients and operators meet them: real processes that serve, die and come back."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from router.cli import main
from router.emulator import Distribution, Settings
from tests.adversity.client import ask, chat, sent
from tests.e2e.test_process import ROOT, serve
from tests.e2e.workers import Workers, lives, until, worker_of, workers
from tests.router_kit import DECISIONS, INTERNAL_KEY, Cloud, write_config

SLOW = Settings(tokens=Distribution(40.0), token_gap_ms=Distribution(40.0))  # a stream of 1.6 s


async def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not lives(pid))


async def back(r: Workers, ends: int = 1) -> None:
    """Until so many workers have ended, and as many were started anew."""
    await until(lambda: len(r.events("worker_started")) == ends)


async def test_two_workers_serve_and_are_one_for_operators(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure")) as r:
        lines = await r.lines_to_each()
        answers = [await line.ask(chat()) for line in lines for _ in range(5)]

        assert {answer.status for answer in answers} == {200}
        assert len({answer.worker for answer in answers}) == 2
        assert (await r.admin("/readyz"))[0] == 200
        assert await r.metric("router_requests_total", outcome="ok", model="gpt-4o") == 10
        status = await r.status()
        assert [worker["pid"] for worker in status["workers"]] == r.pids
        assert all(worker["up"] and not worker["restarts"] for worker in status["workers"])
        assert status["client_connections"] >= 2
        assert status["deployments"][0]["connections"] == {"idle": 2, "busy": 0}
        _, page = await r.admin("/live")
        assert [worker["up"] for worker in json.loads(page)["workers"]] == [True, True]
        _, explained = await r.admin("/explain?key=api&model=gpt-4o")
        assert json.loads(explained)["allowed"]
        assert (await r.admin("/explain?key=nobody&model=gpt-4o"))[0] == 404
        await until(lambda: sum("model" in record for record in r.records()) == 10)
        for answer in answers:
            told, story = await r.admin(f"/requests/{answer.id}")
            assert told == 200
            assert json.loads(story)["source"] == "memory"
        assert (await r.admin("/requests/req_unknown-1"))[0] == 404


async def test_a_worker_that_dies_loses_its_own_requests_and_nothing_else(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure", settings=SLOW)) as r, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(12)]
        await asyncio.gather(*(stream.some(b'"content":') for stream in streams))
        lines = await r.lines_to_each()
        await asyncio.gather(*(line.ask(chat(max_tokens=1)) for line in lines))
        before = await r.metric("router_requests_total")
        assert before >= 4

        await killed(r.pids[0])
        come_meanwhile = [asyncio.create_task(ask(r, chat(max_tokens=1))) for _ in range(20)]
        replies = [await stream.rest() for stream in streams]
        while not r.events("worker_started"):
            assert await r.metric("router_requests_total") >= before, "a total that falls looks like a restart of all"
            await asyncio.sleep(0.05)

        broken = {worker_of(reply.headers) for reply in replies if not reply.whole}
        complete = {worker_of(reply.headers) for reply in replies if reply.complete}
        assert len(broken | complete) == 2
        assert not broken & complete, "one worker's streams break, the other's are served to their end"
        assert [reply.status for reply in await asyncio.gather(*come_meanwhile)] == [200] * 20
        assert await r.metric("router_requests_total") >= before
        assert await r.metric("router_worker_restarts_total", worker="0") == 1
        assert await r.metric("router_worker_up") == 2
        chained = (await r.status())["decisions"]["sequence"]
        assert await r.metric("router_decision_log_records_total") == chained, "a chain that goes on is counted once"
        (ended,) = r.events("worker_ended")
        assert (ended["worker"], ended["how"], ended["restart_in_s"]) == (0, "SIGKILL", 0.0)
        lines = await r.lines_to_each()
        assert [(await line.ask(chat(max_tokens=1))).status for line in lines] == [200, 200]


async def test_a_reload_is_for_all_or_for_none_and_who_starts_later_has_it_too(tmp_path: Path) -> None:
    def alias(config: dict[str, Any]) -> None:
        config["aliases"] = {"newest": "gpt-4o"}

    async with workers(tmp_path, Cloud("azure")) as r:
        lines = await r.lines_to_each()
        assert [(await line.ask(chat(model="newest"))).status for line in lines] == [404, 404]
        r.write(alias)
        status, body = await r.admin("/reload", "POST")
        assert (status, list(json.loads(body))) == (200, ["version", "changed"])
        assert [(await line.ask(chat(model="newest"))).status for line in lines] == [200, 200]

        r.file.write_text("workloads: 7\n")
        status, body = await r.admin("/reload", "POST")
        assert status == 409
        assert "workloads" in body.decode()
        assert [(await line.ask(chat(model="newest"))).status for line in lines] == [200, 200]
        await killed(r.pids[1])
        await back(r)

        lines = await r.lines_to_each()
        assert [(await line.ask(chat(model="newest"))).status for line in lines] == [200, 200]
        assert await r.metric("router_reloads_total", result="ok") == 1
        assert await r.metric("router_reloads_total", result="refused") == 1
        assert await r.metric("router_config_info") == 1


async def test_a_drain_outlives_the_workers_that_were_told(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure")) as r:
        assert (await r.admin("/deployments/azure/nothing/drain", "POST"))[0] == 404
        assert (await r.admin("/deployments/azure/gpt-4o-dep/drain", "POST"))[0] == 200
        lines = await r.lines_to_each()
        assert [(await line.ask(chat())).status for line in lines] == [503, 503]
        await asyncio.gather(*(killed(pid) for pid in r.pids))
        await back(r, ends=2)

        lines = await r.lines_to_each()
        assert [(await line.ask(chat())).status for line in lines] == [503, 503]
        assert (await r.status())["deployments"][0]["draining"]
        assert (await r.admin("/deployments/azure/gpt-4o-dep/undrain", "POST"))[0] == 200
        assert [(await line.ask(chat())).status for line in lines] == [200, 200]


async def test_a_429_that_one_worker_saw_stops_the_other(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure")) as r:
        first, second = await r.lines_to_each()
        r.clouds["azure"].faults.add("status", status=429, retry_after=30, times=1)
        assert (await first.ask(chat())).status == 429
        await asyncio.sleep(0.5)

        assert (await second.ask(chat())).status == 429
        assert r.clouds["azure"].received.requests == 1, "the second worker did not ask"


async def test_what_one_worker_spends_of_a_quota_the_other_does_not_have(tmp_path: Path) -> None:
    """As many tokens a minute as one request is estimated at, and a little."""
    cloud = Cloud("azure", deployment_extra={"tpm": 1000})
    async with workers(tmp_path, cloud) as r:
        first, second = await r.lines_to_each()
        assert (await first.ask(chat(max_tokens=900))).status == 200
        await asyncio.sleep(0.5)

        assert (await second.ask(chat(max_tokens=900))).status == 429
        assert r.clouds["azure"].received.requests == 1
        assert await r.metric("router_quota_avoided_total") >= 1


async def test_a_machine_that_stood_still_ends_nobody_and_one_that_stands_still_alone_is_replaced(
    tmp_path: Path,
) -> None:
    async with workers(tmp_path, Cloud("azure"), server={"loop_lag_max_s": 1.5}) as r:
        lines = await r.lines_to_each()
        everybody = [r.process.pid, *r.pids]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(3.0)
        for pid in everybody:
            os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(1.0)
        assert [(await line.ask(chat())).status for line in lines] == [200, 200], "on the same connections"
        assert not r.events("worker_hung")

        os.kill(r.pids[1], signal.SIGSTOP)
        await back(r)
        (hung,) = r.events("worker_hung")
        assert (hung["worker"], hung["pid"], hung["after_s"]) == (1, r.pids[1], 1.5)
        assert await r.metric("router_worker_stuck_total", worker="1") == 1


async def test_nobody_is_left_behind_by_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure", settings=SLOW)) as r, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(6)]
        await asyncio.gather(*(stream.some(b'"content":') for stream in streams))

        r.process.kill()
        replies = [await stream.rest() for stream in streams]

        assert all(reply.complete for reply in replies), "what runs is finished first"
        await until(lambda: not any(map(lives, r.pids)))
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", r.port)


async def test_sigterm_lets_the_streams_of_all_workers_finish(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure", settings=SLOW)) as r, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(12)]
        await asyncio.gather(*(stream.some(b'"content":') for stream in streams))
        for pid in r.pids:  # as an init system does, which signals all of a service's processes
            os.kill(pid, signal.SIGTERM)
        r.process.send_signal(signal.SIGTERM)
        await until(lambda: r.events("draining"))

        assert (await r.admin("/readyz"))[0] == 503
        assert (await r.admin("/healthz"))[0] == 200
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", r.port)
        replies = [await stream.rest() for stream in streams]
        assert all(reply.complete for reply in replies)
        assert len({worker_of(reply.headers) for reply in replies}) == 2
        assert (await r.ended())[0] == 0
        assert [record["outcome"] for record in r.records()] == ["ok"] * 12
        assert not any(map(lives, r.pids))


async def test_a_second_sigterm_ends_all_at_once(tmp_path: Path) -> None:
    endless = Settings(tokens=Distribution(2000.0), token_gap_ms=Distribution(25.0))
    async with workers(tmp_path, Cloud("azure", settings=endless)) as r, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(sent(r, chat(stream=True))) for _ in range(6)]
        await asyncio.gather(*(stream.some(b'"content":') for stream in streams))
        r.process.send_signal(signal.SIGTERM)
        await until(lambda: len(r.events("draining")) == 3)
        r.process.send_signal(signal.SIGTERM)

        assert (await r.ended(within_s=4))[0] == 0
        assert not any([(await stream.rest()).whole for stream in streams])
        assert len(r.records()) == 6, "what was cut off is in the log too"


async def test_sighup_reloads_and_lets_go_of_a_rotated_log(tmp_path: Path) -> None:
    async with workers(tmp_path, Cloud("azure")) as r:
        lines = await r.lines_to_each()
        r.log.rename(tmp_path / "access.log.1")
        r.process.send_signal(signal.SIGHUP)
        await until(lambda: r.log.exists() and r.events("reloaded"))
        for line in lines:
            await line.ask(chat())
        await until(lambda: sum("model" in record for record in r.records()) == 2)


async def test_the_chains_of_all_workers_hold_after_a_kill(tmp_path: Path) -> None:
    """The worker that starts anew goes on with the chain of the one before; all of them share one file of anchors."""
    clouds = (Cloud("azure"), Cloud("cw", "coreweave", dialect="openai"))
    held = {"internal": {"placement": {"rule": "first_refusal", "holder": "azure", "then": ["coreweave"]}}}
    api = {"api": {"placement": {"rule": "exclusive", "cloud": "azure"}}}
    key, anchors = tmp_path / "key.pem", tmp_path / "anchors.jsonl"
    assert CliRunner().invoke(main, ["audit", "new-key", str(key)]).exit_code == 0
    signed = {
        "dir": str(tmp_path / DECISIONS),
        "segment_bytes": 1 << 20,
        "anchors": str(anchors),
        "signing_key": str(key),
    }
    async with workers(tmp_path, *clouds, workloads=held | api, decision_log=signed) as r:
        r.clouds["azure"].faults.add("status", status=500)
        for ends in (1, 2):
            for line in await r.lines_to_each():
                assert (await line.ask(chat(key=INTERNAL_KEY))).status == 200
            await killed((await r.status())["workers"][0]["pid"])
            await back(r, ends)
        for line in await r.lines_to_each():
            assert (await line.ask(chat(key=INTERNAL_KEY))).status == 200
        r.process.send_signal(signal.SIGTERM)
        assert (await r.ended())[0] == 0

    folder = str(tmp_path / DECISIONS)
    trusted = ["--anchors", str(anchors), "--public-key", f"{key}.pub"]
    verified = CliRunner().invoke(main, ["audit", "verify", folder, "--json", *trusted])
    assert verified.exit_code == 0, verified.output
    chains = {chain["writer"]: chain for chain in json.loads(verified.stdout)["writers"]}
    assert sorted(chains) == ["worker-0", "worker-1"]
    assert [chain["unanchored"] for chain in chains.values()] == [0, 0]
    assert chains["worker-0"]["segments"] == [1, 3]
    assert sum(chain["departures"] for chain in chains.values()) == 6
    rows = CliRunner().invoke(main, ["report", "refusals", "--dir", folder, "--format", "json", "--by", "cloud"])
    assert rows.exit_code == 0, rows.output
    assert {row["cloud"]: row["requests"] for row in json.loads(rows.stdout)} == {"azure": 6, "coreweave": 6}


@pytest.mark.parametrize("plane", ["listen", "admin"])
async def test_a_port_that_is_taken_is_said_plainly(tmp_path: Path, plane: str) -> None:
    cloud = Cloud("azure")
    file = tmp_path / "router.yaml"
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        settings = {plane: address, "workers": 2}
        write_config(file, {"azure": cloud.section("http://127.0.0.1:9")}, tmp_path / "log", server=settings)
        process = await serve(file)
        out, err = await asyncio.wait_for(process.communicate(), 20)
    said = (out + err).decode()
    assert process.returncode == 1
    assert "cannot start" in said
    assert "in use" in said
    assert "Traceback" not in said


async def test_why_a_worker_cannot_start_is_said_plainly(tmp_path: Path) -> None:
    cloud = Cloud("azure")
    file, folder = tmp_path / "router.yaml", tmp_path / "a-file"
    folder.touch()
    sections = {"azure": cloud.section("http://127.0.0.1:9")}
    write_config(file, sections, tmp_path / "log", server={"workers": 2}, decision_log={"dir": str(folder)})
    process = await serve(file)
    out, err = await asyncio.wait_for(process.communicate(), 20)
    said = (out + err).decode()
    assert process.returncode == 1
    assert f"cannot start: {folder}/worker-" in said
    assert "Not a directory" in said
    assert "Traceback" not in said


async def test_who_starts_it_may_ignore_the_ends_of_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some managers of services do: what is ignored stays so in the programs that they start."""

    async def ignoring(file: Path) -> asyncio.subprocess.Process:
        ignore = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        ignore += "os.execv(sys.argv[1], sys.argv[1:])"
        command = (sys.executable, "-m", "router", "serve", "--config", str(file))
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ignore, *command), stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=env, cwd=ROOT
        )

    monkeypatch.setattr("tests.e2e.workers.serve", ignoring)
    async with workers(tmp_path, Cloud("azure")) as r:
        os.kill(r.pids[0], signal.SIGKILL)
        await until(lambda: r.events("worker_ended"))
        assert r.events("worker_ended")[0]["how"] == "SIGKILL"
        r.process.send_signal(signal.SIGTERM)
        assert (await r.ended())[0] == 0
