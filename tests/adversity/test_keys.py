"""Keys that come, end and go while requests run."""

import asyncio
import hashlib
import json
import time
from contextlib import AsyncExitStack
from typing import Any

from router.accounting.chain import Event
from router.emulator import Distribution, Settings
from router.model.keys import StoredKey, StoredSecret
from tests.adversity.client import ask, chat, sent
from tests.adversity.test_attempts import QUICK
from tests.adversity.test_windows import Calendar
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, router

SHOP, SHOP_2 = "sk-ir-test-shop", "sk-ir-test-shop-2"
PATIENT = {**QUICK, "commit_json_s": 10, "commit_stream_s": 10, "idle_s": 10}
AZURE: dict[str, Any] = {"placement": {"rule": "exclusive", "cloud": "azure"}}
DAY_S = 86_400.0


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def stored(*secrets: StoredSecret, name: str = "shop", revoked_at: float | None = None, **terms: Any) -> StoredKey:
    words = json.dumps({"workload": "api", "models": ["*"], **terms})
    return StoredKey(name, words, secrets or (StoredSecret(digest(SHOP)),), 1.0, time.time(), revoked_at)


async def take(r: RunningRouter, *keys: StoredKey) -> None:
    await r.worker.assembly.keyring.take(keys)


def complaints(r: RunningRouter) -> list[dict[str, Any]]:
    return [event for event in r.events() if event["event"] == "stored_key_unusable"]


async def statuses(r: RunningRouter, *keys: str) -> list[int]:
    return [(await ask(r, chat(key=key))).status for key in keys]


async def test_a_stored_key_is_served_beside_those_of_the_file_until_it_is_revoked() -> None:
    async with router(Cloud("a"), timeouts=PATIENT) as r:
        assert await statuses(r, SHOP, API_KEY) == [401, 200]
        await take(r, stored())
        assert await statuses(r, SHOP, API_KEY) == [200, 200]
        assert [await r.metric("router_keys", source=source) for source in ("file", "store")] == [2, 1]
        await take(r, stored(revoked_at=time.time()))
        assert await statuses(r, SHOP, API_KEY) == [401, 200]
        assert [await r.metric("router_keys", source=source) for source in ("file", "store")] == [2, 0]
        told = [record for record in r.decisions() if isinstance(record, Event) and record.event == "configuration"]
        assert len(told) == 1, "no rule has changed"


async def test_a_connection_that_is_kept_alive_remembers_no_key_that_is_revoked() -> None:
    """Its head is the same as the one before, byte for byte."""
    async with router(Cloud("a"), timeouts=PATIENT) as r:
        await take(r, stored())
        request = chat(key=SHOP).wire(close=False)
        reader, writer = await asyncio.open_connection("127.0.0.1", r.port)
        seen = []
        for keys in ((stored(),), (stored(),), (), (stored(),)):
            await take(r, *keys)
            writer.write(request)
            seen.append((await reader.readuntil(b"\r\n"))[9:12])
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            await reader.readexactly(length)
        writer.close()
        assert seen == [b"200", b"200", b"401", b"200"]


async def test_what_runs_is_finished_and_what_waits_is_not_sent_when_its_key_is_revoked() -> None:
    paced = Settings(tokens=Distribution(20.0), token_gap_ms=Distribution(20.0))
    workloads = {"api": {**AZURE, "max_wait_ms": 8000}, "internal": AZURE}
    one = {"deployment_extra": {"concurrent": 1}}
    async with router(Cloud("a", settings=paced, **one), timeouts=PATIENT, workloads=workloads) as r:
        await take(r, stored())
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(sent(r, chat(key=SHOP, stream=True)))
            await first.some(b'"content":')
            waits = asyncio.create_task(ask(r, chat(key=SHOP)))
            stack.callback(waits.cancel)
            await r.until(lambda: r.worker.assembly.runtime.waiting.count)
            await take(r)
            assert (await first.rest()).complete
            assert (await waits).status == 401
        assert r.clouds["a"].received.requests == 1


async def test_a_retry_of_a_revoked_key_is_not_sent() -> None:
    async with router(Cloud("a"), Cloud("b"), timeouts={**PATIENT, "commit_json_s": 0.5}) as r:
        await take(r, stored())
        for cloud in r.clouds.values():
            cloud.faults.add("stall_before_head")
        request = asyncio.create_task(ask(r, chat(key=SHOP)))
        await r.until(lambda: sum(cloud.received.requests for cloud in r.clouds.values()) == 1)
        await take(r)
        assert (await request).status == 401
        assert sum(cloud.received.requests for cloud in r.clouds.values()) == 1


async def test_a_key_ends_at_its_moment_and_costs_no_rule_its_plans() -> None:
    clock = Calendar()
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.wall() + 1000))
    keys = [
        {"name": "api", "workload": "api", "sha256": digest(API_KEY), "models": ["*"], "expires": end},
        {"name": "internal", "workload": "internal", "sha256": digest(INTERNAL_KEY), "models": ["*"]},
    ]
    async with router(Cloud("a"), clock=clock, timeouts=PATIENT, keys=keys) as r:
        plans = r.worker.assembly.fleet.plans
        assert await statuses(r, API_KEY, INTERNAL_KEY) == [200, 200]
        clock.turn(1000)
        assert await statuses(r, API_KEY, INTERNAL_KEY) == [401, 200]
        clock.turn(-1000)  # somebody sets the clock right
        assert await statuses(r, API_KEY, INTERNAL_KEY) == [200, 200]
        assert r.worker.assembly.fleet.plans is plans


async def test_both_secrets_are_valid_while_a_key_is_rotated_and_the_old_one_ends_by_itself() -> None:
    clock = Calendar()
    old, new = StoredSecret(digest(SHOP), clock.wall() + DAY_S), StoredSecret(digest(SHOP_2))
    async with router(Cloud("a"), clock=clock, timeouts=PATIENT) as r:
        await take(r, stored(old, new))
        assert await statuses(r, SHOP, SHOP_2) == [200, 200]
        clock.turn(DAY_S)
        assert await statuses(r, SHOP, SHOP_2) == [401, 200]
        await r.until(lambda: len(r.records()) == 4)
        assert [record["key"] for record in r.records() if record["status"] == 200] == ["shop"] * 3


async def test_both_secrets_of_a_key_share_its_limits() -> None:
    """Else a client could double what it was sold by rotating."""
    async with router(Cloud("a"), timeouts=PATIENT) as r:
        secrets = StoredSecret(digest(SHOP)), StoredSecret(digest(SHOP_2))
        await take(r, stored(*secrets, limits={"rpm": 2, "burst_share": 1.0}))
        assert await statuses(r, SHOP, SHOP_2, SHOP, SHOP_2) == [200, 200, 429, 429]


async def test_what_was_used_of_a_limit_stays_used_when_other_keys_change() -> None:
    async with router(Cloud("a"), timeouts=PATIENT) as r:
        shop = stored(limits={"rpm": 2, "burst_share": 1.0})
        await take(r, shop)
        assert await statuses(r, SHOP, SHOP) == [200, 200]
        await take(r, shop, stored(StoredSecret(digest(SHOP_2)), name="other"))
        assert await statuses(r, SHOP, SHOP_2) == [429, 200]


async def test_stored_keys_stay_over_a_reload_and_follow_what_it_changes() -> None:
    async with router(Cloud("a"), timeouts=PATIENT) as r:
        await take(r, stored(), stored(StoredSecret(digest(SHOP_2)), name="late", workload="soon"))
        assert await statuses(r, SHOP, SHOP_2) == [200, 401]
        await r.until(lambda: complaints(r))
        assert [complaint["key"] for complaint in complaints(r)] == ["late"]

        config = json.loads(r.file.read_text())
        config["workloads"]["soon"] = AZURE
        r.file.write_text(json.dumps(config))
        assert (await r.worker.reload()).ok
        assert await statuses(r, SHOP) == [200], "at no moment is a good key unknown"
        await r.until(lambda: any(key.name == "late" for key in r.worker.assembly.runtime.snapshot.keys.values()))
        assert await statuses(r, SHOP_2) == [200]


async def test_a_key_that_nobody_can_know_yet_is_not_called_invalid() -> None:
    async with router(Cloud("a"), timeouts=PATIENT) as r:
        r.worker.assembly.runtime.keys_known = False
        reply = await ask(r, chat(key=SHOP))
        assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "keys_unavailable", "1")
        assert (await ask(r, chat(key=API_KEY))).status == 200
        await take(r)
        assert await statuses(r, SHOP) == [401]
