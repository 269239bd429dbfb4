"""A new configuration takes over in one step, or not at all; what runs keeps its own, less what was taken away."""

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from router.config.keys import digest
from router.emulator import Distribution, Settings
from router.jobs import watching
from tests.adversity.client import Reply, ask, chat, sent
from tests.adversity.test_attempts import QUICK, tiers
from tests.router_kit import API_KEY, Cloud, RunningRouter, router

ONE_KEY: dict[str, Any] = {
    "keys": [{"name": "api", "workload": "api", "sha256": digest(API_KEY).hex(), "models": ["*"]}]
}
PACED = Settings(tokens=Distribution(20.0), token_gap_ms=Distribution(10.0))


class File:
    """The router's file, changed as an operator would."""

    def __init__(self, r: RunningRouter) -> None:
        self.r = r
        self.now: dict[str, Any] = orjson.loads(r.file.read_bytes())

    async def put(self) -> tuple[int, dict[str, Any]]:
        """Writes it and asks for a reload, over HTTP."""
        self.r.file.write_bytes(orjson.dumps(self.now))
        return await reload(self.r)


async def reload(r: RunningRouter) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.post(f"{r.admin_url}/reload") as answer:
        return answer.status, await answer.json()


def pool_of(r: RunningRouter, endpoint: str) -> object:
    return r.worker.assembly.fleet.backends[f"{endpoint}/gpt-4o-dep"].pool


async def test_a_good_file_takes_over() -> None:
    async with router(*tiers(2)) as r:
        file = File(r)
        before = r.worker.assembly.runtime.snapshot.version
        file.now["endpoints"]["first"]["deployments"][0]["tier"] = 5

        status, said = await file.put()

        assert (status, said["version"]) == (200, r.worker.assembly.runtime.snapshot.version)
        assert said["version"] != before
        assert (await ask(r, chat())).status == 200
        assert [cloud.received.requests for cloud in r.clouds.values()] == [0, 1]
        await r.until(lambda: any(event["event"] == "reloaded" for event in r.events()))


async def test_a_bad_file_changes_nothing_and_says_why() -> None:
    async with router(*tiers(2)) as r:
        file = File(r)
        before = r.worker.assembly.runtime.snapshot
        file.now["endpoints"]["first"]["cloud"] = "aws"
        file.now["workloads"]["api"]["nonsense"] = 1

        status, said = await file.put()

        assert status == 409
        assert said["error"]["code"] == "configuration_refused"
        told = orjson.dumps(said).decode()
        assert "nonsense" in told
        assert "canary" not in told
        assert r.worker.assembly.runtime.snapshot is before
        assert (await ask(r, chat())).status == 200
        await r.until(lambda: any(event["event"] == "reload_refused" for event in r.events()))


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "\x00"])
async def test_what_is_no_configuration_at_all_is_refused(content: str) -> None:
    async with router(*tiers(1)) as r:
        r.file.write_text(content)
        status, _ = await reload(r)
        assert status == 409
        assert (await ask(r, chat())).status == 200


async def test_a_file_that_is_gone_is_refused() -> None:
    async with router(*tiers(1)) as r:
        r.file.unlink()
        status, _ = await reload(r)
        assert status == 409
        assert (await ask(r, chat())).status == 200


async def test_the_port_cannot_change_in_a_reload() -> None:
    async with router(*tiers(1)) as r:
        file = File(r)
        file.now["server"]["listen"] = "127.0.0.1:1"
        status, said = await file.put()
        assert status == 409
        assert "server.listen" in orjson.dumps(said).decode()


@pytest.mark.parametrize("change", [{"dir": "elsewhere"}, {"dir": "decisions", "anchor_every_s": 3}, None])
async def test_the_decision_log_cannot_change_in_a_reload(change: dict[str, Any] | None) -> None:
    """The open log would go on where it was, while the file says otherwise."""
    async with router(*tiers(1), decision_log={"dir": "decisions"}) as r:
        file = File(r)
        file.now.pop("decision_log")
        if change is not None:
            file.now["decision_log"] = change

        status, said = await file.put()

        assert status == 409
        assert [fault["path"] for fault in said["error"]["faults"]] == ["decision_log"]
        assert (await ask(r, chat())).status == 200


async def test_twenty_reloads_under_load_cost_nothing() -> None:
    async with router(Cloud("left"), Cloud("right"), Cloud("third")) as r:
        file = File(r)
        replies: list[Reply] = []
        over = asyncio.Event()

        async def client(stream: bool) -> None:
            while not over.is_set():
                reply = await ask(r, chat(stream=stream))
                replies.append(reply)

        async with asyncio.TaskGroup() as group:
            for index in range(6):
                group.create_task(client(index % 2 == 0))
            for number in range(20):
                file.now["endpoints"]["left"]["deployments"][0]["tpm"] = 1000 + number
                broken = number % 4 == 3
                file.now["workloads"]["api"]["placement"]["cloud"] = "nowhere" if broken else "azure"
                status, _ = await file.put()
                assert status == (409 if broken else 200)
            over.set()

        assert len(replies) > 20
        assert {(reply.status, reply.whole) for reply in replies} == {(200, True)}
        assert all(reply.complete for reply in replies if reply.body.startswith(b"data"))


async def test_pools_of_unchanged_deployments_survive() -> None:
    async with router(*tiers(2)) as r:
        file = File(r)
        kept, replaced = pool_of(r, "first"), pool_of(r, "second")
        assert (await ask(r, chat())).status == 200
        file.now["endpoints"]["second"]["deployments"][0]["tpm"] = 1000

        assert (await file.put())[0] == 200
        assert (await ask(r, chat())).status == 200

        assert pool_of(r, "first") is kept
        assert pool_of(r, "second") is not replaced
        assert r.clouds["first"].received.connections == 1


async def test_a_drain_outlives_a_change_of_its_deployment() -> None:
    async with router(*tiers(2)) as r:
        file = File(r)
        assert await r.worker.set_drain("first/gpt-4o-dep", True)
        file.now["endpoints"]["first"]["deployments"][0]["tpm"] = 1000

        assert (await file.put())[0] == 200
        assert (await ask(r, chat())).status == 200

        assert [cloud.received.requests for cloud in r.clouds.values()] == [0, 1]


async def test_a_running_stream_keeps_its_deployment_when_that_is_removed() -> None:
    async with router(*[Cloud(name, tier=tier, settings=PACED) for tier, name in enumerate(("first", "second"))]) as r:
        file = File(r)
        async with sent(r, chat(stream=True)) as call:
            await call.some(b'"content":')
            del file.now["endpoints"]["first"]
            assert (await file.put())[0] == 200
            reply = await call.some(b"[DONE]")
        assert b"[DONE]" in reply.body
        assert not reply.told_error
        assert r.clouds["second"].received.requests == 0
        assert (await ask(r, chat())).status == 200
        assert r.clouds["second"].received.requests == 1
        # The old pool ends its connection when it comes back: nobody could use it again.
        await r.until(lambda: r.clouds["first"].received.connections_open == 0)


@pytest.mark.parametrize("gone", ["key", "model of the key", "workload's cloud"])
async def test_what_is_taken_away_acts_on_the_next_attempt(gone: str) -> None:
    """The first attempt runs when the reload comes; the request may not begin another one."""
    more = Cloud("cw", "coreweave", "openai")
    both = {"gpt-4o-dep": "gpt-4o", "mini": "gpt-4o-mini"}
    async with router(*tiers(2, deployments=both), more, timeouts={**QUICK, "commit_json_s": 0.5}) as r:
        file = File(r)
        r.clouds["first"].faults.add("stall_before_head")
        async with sent(r, chat(), close=True) as call:
            await r.until(lambda: r.clouds["first"].received.requests == 1)
            if gone == "key":
                del file.now["keys"][0]
            elif gone == "model of the key":
                file.now["keys"][0]["models"] = ["gpt-4o-mini"]
            else:
                file.now["workloads"]["api"]["placement"]["cloud"] = "coreweave"
            status, said = await file.put()
            assert status == 200, said
            reply = await call.rest()

        assert reply.status == (401 if gone == "key" else 504)
        assert r.clouds["second"].received.requests == 0
        assert r.clouds["cw"].received.connections == 0


async def test_a_drained_deployment_gets_nothing_new_and_finishes_what_it_has() -> None:
    clouds = [Cloud(name, tier=tier, settings=PACED) for tier, name in enumerate(("first", "second"))]
    async with router(*clouds) as r, aiohttp.ClientSession() as session:
        async with sent(r, chat(stream=True)) as call:
            await call.some(b'"content":')
            async with session.post(f"{r.admin_url}/deployments/first/gpt-4o-dep/drain") as answer:
                assert answer.status == 200
            assert (await ask(r, chat())).status == 200
            assert r.clouds["second"].received.requests == 1
            reply = await call.some(b"[DONE]")
            assert b"[DONE]" in reply.body

        async with session.post(f"{r.admin_url}/deployments/first/gpt-4o-dep/undrain") as answer:
            assert answer.status == 200
        assert (await ask(r, chat())).status == 200
        assert r.clouds["first"].received.requests == 2


async def test_a_file_that_changed_while_it_was_read_is_read_once() -> None:
    """Reloads that are asked for at once come one after the other, and the last one is in force."""
    async with router(*tiers(1)) as r:
        file = File(r)
        file.now["endpoints"]["first"]["deployments"][0]["tpm"] = 1234
        r.file.write_bytes(orjson.dumps(file.now))

        answers = await asyncio.gather(*(reload(r) for _ in range(5)))

        assert {status for status, _ in answers} == {200}
        assert {said["version"] for _, said in answers} == {r.worker.assembly.runtime.snapshot.version}


async def test_a_watched_file_is_reloaded_by_itself_and_a_bad_one_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK_EVERY_S", 0.02)
    async with router(*tiers(1), server={"watch": True}) as r:
        file = File(r)
        first = r.worker.assembly.runtime.snapshot.version

        file.now["aliases"] = {"newest": "gpt-4o"}
        r.file.write_bytes(orjson.dumps(file.now))
        await r.until(lambda: r.worker.assembly.runtime.snapshot.version != first)
        assert (await ask(r, chat(model="newest"))).status == 200

        r.file.write_text("nonsense: 1")
        await r.until(lambda: [event["event"] for event in r.events()].count("reload_refused") == 1)
        file.now["server"]["watch"] = False
        assert (await file.put())[0] == 200
        file.now["aliases"] = {}
        r.file.write_bytes(orjson.dumps(file.now))
        await asyncio.sleep(0.2)  # ten looks, if there were any
        assert (await ask(r, chat(model="newest"))).status == 200
        assert [event["event"] for event in r.events()].count("reload_refused") == 1


async def test_what_needs_a_restart_is_named_beside_the_other_faults() -> None:
    async with router(*tiers(1)) as r:
        file = File(r)
        file.now["server"]["listen"] = "127.0.0.1:1"
        file.now["decision_log"] = {"dir": "elsewhere"}
        file.now["workloads"]["api"]["nonsense"] = 1
        file.now["endpoints"]["first"]["cloud"] = "nowhere"
        status, said = await file.put()
        paths = {fault["path"] for fault in said["error"]["faults"]}
        assert (status, said["error"]["reason"]) == (409, "faults")
        assert paths >= {"server.listen", "decision_log", "workloads.api.nonsense", "endpoints.first.cloud"}
        assert await r.metric("router_reloads_total", result="refused", reason="faults") == 1

        file.now = orjson.loads(orjson.dumps(file.now))
        del file.now["workloads"]["api"]["nonsense"]
        file.now["endpoints"]["first"]["cloud"] = "azure"
        status, said = await file.put()
        assert (status, said["error"]["reason"]) == (409, "restart")
        assert await r.metric("router_reloads_total", result="refused", reason="restart") == 1


async def test_the_answer_says_what_has_changed() -> None:
    async with router(*tiers(2), Cloud("cw", "coreweave", "openai")) as r:
        file = File(r)
        file.now["workloads"]["api"]["placement"] = {"rule": "spread", "clouds": ["azure", "coreweave"]}
        status, said = await file.put()
        assert status == 200
        placed = next(each for each in said["changed"]["changes"] if each["section"] == "placement")
        assert (placed["name"], placed["reach"], placed["exclusive"]) == ("api", "wider", True)
        await r.until(lambda: [e["exclusive_loosened"] for e in r.events() if e["event"] == "reloaded"] == [["api"]])


@pytest.mark.parametrize("change", ["another key", "another deployment", "its own limits"])
async def test_what_is_known_of_a_deployment_survives_whatever_else_changes(change: str) -> None:
    """Health, quota, measured times, the learned limit, and the connections themselves."""
    async with router(Cloud("first", deployment_extra={"tpm": 6000, "rpm": 60}), Cloud("second", tier=1)) as r:
        file = File(r)
        assert (await ask(r, chat())).status == 200
        backend = r.backend("first")
        backend.health.condemn("credential", r.worker.assembly.loop.time(), 600.0)
        health, quota, meter, pool, limit = backend.health, backend.quota, backend.meter, backend.pool, backend.limit
        assert quota.twin is not None
        match change:
            case "another key":
                file.now["keys"].pop()
            case "another deployment":
                file.now["endpoints"]["second"]["deployments"][0]["tpm"] = 1000
            case _:
                file.now["health"] = {"open_s": 3}

        assert (await file.put())[0] == 200

        after = r.backend("first")
        assert after is backend
        assert (after.health, after.quota, after.meter, after.pool, after.limit) == (health, quota, meter, pool, limit)
        assert after.verdict(r.worker.assembly.loop.time()).reason == "credential"
        assert pool.idle == 1
        assert (await ask(r, chat())).status == 200
        assert r.clouds["second"].received.requests == 1, "who was out stays out"


async def test_a_quota_that_changes_is_another_one_and_its_siblings_share_it() -> None:
    async with router(Cloud("first", deployment_extra={"tpm": 6000}), Cloud("second", tier=1)) as r:
        file = File(r)
        before, other = r.backend("first").quota, r.backend("second").quota
        file.now["endpoints"]["first"]["deployments"][0]["tpm"] = 9000
        assert (await file.put())[0] == 200
        assert r.backend("first").quota is not before
        assert r.backend("second").quota is other


async def test_a_second_copy_keeps_to_what_is_still_allowed() -> None:
    """The first copy is silent when the reload comes; the other one may not go where nobody may go any more."""
    clouds = Cloud("azure"), Cloud("cw", "coreweave", "openai")
    spread = {"placement": {"rule": "spread", "clouds": ["azure", "coreweave"]}, "hedge": {"after_ms": 700}}
    async with router(*clouds, timeouts={**QUICK, "commit_json_s": 1.5}, workloads={"api": spread}, **ONE_KEY) as r:
        file = File(r)
        for cloud in r.clouds.values():
            cloud.faults.add("stall_before_head")
        async with sent(r, chat(), close=True) as call:
            await r.until(lambda: sum(cloud.received.requests for cloud in r.clouds.values()) == 1)
            (first,) = (name for name, cloud in r.clouds.items() if cloud.received.requests)
            kept = {"azure": "azure", "cw": "coreweave"}[first]
            file.now["workloads"]["api"] = {"placement": {"rule": "exclusive", "cloud": kept}}
            assert (await file.put())[0] == 200
            assert (await call.rest()).status == 504
        (other,) = (name for name in r.clouds if name != first)
        assert r.clouds[other].received.requests == 0
        assert r.worker.assembly.runtime.violations == 0


async def test_a_key_that_is_revoked_ends_no_stream_and_begins_nothing_more() -> None:
    async with router(Cloud("first", settings=PACED)) as r:
        file = File(r)
        async with sent(r, chat(stream=True)) as call:
            await call.some(b'"content":')
            del file.now["keys"][0]
            assert (await file.put())[0] == 200
            reply = await call.some(b"[DONE]")
        assert b"[DONE]" in reply.body
        assert (await ask(r, chat())).status == 401
