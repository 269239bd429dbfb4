"""The law that the contract rests on: whatever fails, leaves or changes, the exclusive cloud is the only one reached.

One router and its clouds live through all examples; the other cloud serves the same model, at once and without a fault.
"""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.base.loops import new_loop
from router.config.keys import digest
from router.emulator import Distribution, Settings
from tests.adversity.client import Ask, ask, chat, responses, sent
from tests.router_kit import API_KEY, Cloud, RunningRouter, heal, router, write_config

AZURE = ("azure-a", "azure-b", "azure-c")
OTHER = "other"
EPISODES = 50
TIMEOUTS = {
    "connect_s": 0.25,
    "commit_stream_s": 0.2,
    "commit_json_s": 0.2,
    "idle_s": 0.2,
    "total_s": 2,
    "commit_after_ms": 100,
    "comment_every_s": 0.1,
}
# What a fault of each kind needs to be one; the rest is drawn.
FAULTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "refuse": st.fixed_dictionaries({"for_s": st.sampled_from([0.02, 0.2])}),
    "slow_accept": st.fixed_dictionaries({"delay_ms": st.sampled_from([5, 400])}),
    "slow_head": st.fixed_dictionaries({"delay_ms": st.sampled_from([5, 50])}),
    "reset_before_head": st.just({}),
    "reset_after_head": st.just({}),
    "stall_before_head": st.just({}),
    "stall_mid_stream": st.fixed_dictionaries({"after_events": st.integers(0, 4)}),
    "cut_at": st.fixed_dictionaries({"at_byte": st.integers(1, 4000)}),
    "reset_at": st.fixed_dictionaries({"at_byte": st.integers(1, 4000)}),
    "early_close": st.fixed_dictionaries({"after_events": st.integers(0, 4)}),
    "status": st.fixed_dictionaries(
        {"status": st.sampled_from([400, 401, 403, 404, 408, 422, 429, 500, 502, 503, 504])},
        optional={"retry_after": st.sampled_from(["0.05", "1", "86400"])},
    ),
    "redirect": st.just({}),
    "error_event": st.fixed_dictionaries({"after_events": st.integers(0, 4)}),
    "malformed_chunk": st.fixed_dictionaries({"after_events": st.integers(0, 4)}),
    "extra_bytes": st.just({}),
    "no_finish": st.just({}),
    "bad_content_length": st.fixed_dictionaries({"delta": st.integers(-20, 20)}),
}
faults = st.sampled_from(sorted(FAULTS)).flatmap(
    lambda kind: st.tuples(
        st.sampled_from(AZURE),
        st.just(kind),
        FAULTS[kind],
        st.fixed_dictionaries({"share": st.sampled_from([0.4, 1.0]), "times": st.sampled_from([1, 5, None])}),
    )
)
# How far a client goes before it hangs up; None: it stays to the end. "the change": it does so too, but keeps back
# half of its body until the change is in force.
PHASES = (None, "half a body", "sent", "head", "first event", "the change")
clients = st.tuples(st.sampled_from(["json", "stream", "responses", "responses stream"]), st.sampled_from(PHASES))
CHANGES = (
    "nothing",
    "a broken file",
    "the key is taken away",
    "the key moves to the other cloud's workload",
    "the rule is widened",
    "the rule names the other cloud",
    "one azure endpoint goes",
    "one azure endpoint changes",
    "the other cloud comes first",
)


class World:
    """The router, its clouds, and what is known of them before each episode."""

    def __init__(self, r: RunningRouter, sections: dict[str, dict[str, Any]]) -> None:
        self.r, self.sections = r, sections
        self.asked = 0  # requests whose head was sent whole
        self.number = itertools.count()

    async def reload(self, change: str) -> None:
        """Puts a change in force, through the file as an operator would."""
        sections = {name: dict(section) for name, section in self.sections.items()}
        more: dict[str, Any] = {"timeouts": TIMEOUTS}
        api = {"rule": "exclusive", "cloud": "azure"}
        keys = [{"name": "api", "workload": "api", "sha256": digest(API_KEY).hex(), "models": ["*"]}]
        if change == "the key is taken away":
            keys = [{**keys[0], "sha256": digest("sk-ir-another").hex()}]
        elif change == "the key moves to the other cloud's workload":
            keys = [{**keys[0], "workload": "internal"}]
        elif change == "the rule is widened":
            api = {"rule": "spread", "clouds": ["azure", "coreweave"]}  # type: ignore[dict-item]
        elif change == "the rule names the other cloud":
            api = {"rule": "exclusive", "cloud": "coreweave"}
        elif change == "one azure endpoint goes":
            del sections["azure-b"]
        elif change == "one azure endpoint changes":
            sections["azure-c"]["deployments"] = [{**sections["azure-c"]["deployments"][0], "tpm": 1000}]
        elif change == "the other cloud comes first":
            for name in AZURE:
                sections[name]["deployments"] = [{**sections[name]["deployments"][0], "tier": 1}]
        workloads = {
            "api": {"placement": api},
            "internal": {"placement": {"rule": "spread", "clouds": ["coreweave"]}},
        }
        write_config(self.r.file, sections, self.r.log, workloads=workloads, keys=keys, **more)
        if change == "a broken file":
            self.r.file.write_text("endpoints: {}\nworkloads: 7\n")
        result = await self.r.worker.reload()
        assert result.ok == (change != "a broken file"), result.faults

    def forgive(self) -> None:
        """Ends all cooldowns and faults, so that each episode begins with a fleet that serves."""
        for name in AZURE:
            self.r.clouds[name].faults.clear()
        for backend in self.r.worker.assembly.fleet.backends.values():
            heal(backend)
            backend.drain(False)

    async def client(self, kind: str, phase: str | None, changed: asyncio.Event) -> None:
        request = self._request(kind)
        self.asked += 1
        if phase is None:
            await ask(self.r, request, within_s=5.0)
            return
        async with sent(self.r, request, halves=phase in ("half a body", "the change")) as call:
            if phase == "the change":
                await changed.wait()
                call.send_rest()
                await asyncio.wait_for(call.rest(), 5.0)
            elif phase in ("half a body", "sent"):
                await self.begun()
                await asyncio.sleep(0.003)
            elif phase == "head":
                await asyncio.wait_for(call.head(), 5.0)
            else:
                await asyncio.wait_for(call.some(b"data:"), 5.0)

    async def begun(self) -> None:
        """All requests so far are in the router's hands."""
        while self.r.worker.assembly.runtime._requests < self.asked:
            await asyncio.sleep(0)

    def _request(self, kind: str) -> Ask:
        make = responses if kind.startswith("responses") else chat
        return make(stream=kind.endswith("stream"), user=str(next(self.number)))

    async def settled(self) -> None:
        """Nothing is left in the router, nor at the clouds."""
        r, assembly = self.r, self.r.worker.assembly
        await r.assert_nothing_is_left()
        await r.until(lambda: len(assembly.gateway.server.connections) == 0)
        # Old pools end what they had; of the present ones each idle connection is one that its cloud has open too.
        idle = dict.fromkeys(r.clouds, 0)
        for backend in assembly.fleet.backends.values():
            idle[backend.deployment.endpoint.id] += backend.pool.idle
        await r.until(lambda: all(r.clouds[name].received.connections_open == idle[name] for name in AZURE))
        assert len(assembly.wheel) == 0

    def untouched(self) -> None:
        received, runtime = self.r.clouds[OTHER].received, self.r.worker.assembly.runtime
        seen, violations = (received.requests, received.connections, received.bytes), runtime.violations
        received.reset()  # so that an example that fails can be made smaller
        runtime.violations = 0
        assert (seen, violations) == ((0, 0, 0), 0)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=new_loop) as running:
        yield running


def clouds() -> list[Cloud]:
    paced = Settings(tokens=Distribution(12.0), token_gap_ms=Distribution(1.0))
    azure = [Cloud(name, settings=paced) for name in AZURE]
    return [*azure, Cloud(OTHER, "coreweave", "openai")]


def sections_of(r: RunningRouter, described: list[Cloud]) -> dict[str, dict[str, Any]]:
    return {cloud.id: cloud.section(r.clouds[cloud.id].base_url) for cloud in described}


async def episode(
    world: World, script: list[Any], crowd: list[tuple[str, str | None]], change: str, at_ms: int, drained: str | None
) -> None:
    """A crowd of clients, with the faults that the script names and a change while they are being served."""
    world.forgive()
    for cloud, kind, values, more in script:
        world.r.clouds[cloud].faults.add(kind, **values, **({} if kind == "refuse" else more))
    if drained is not None:
        await world.r.worker.set_drain(f"{drained}/gpt-4o-dep", True)
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for kind, phase in crowd:
            group.create_task(world.client(kind, phase, changed))
        await asyncio.sleep(0)
        await world.begun()  # all under the exclusive rule, and nobody else before it is in force again
        await asyncio.sleep(at_ms / 1000)
        await world.reload(change)
        changed.set()
    await world.settled()
    world.untouched()
    await world.reload("nothing")


def test_no_other_cloud_is_ever_reached(runner: asyncio.Runner) -> None:
    described = clouds()
    context = router(*described, timeouts=TIMEOUTS)
    r = runner.run(_enter(context))
    try:
        world = World(r, sections_of(r, described))
        runner.run(world.reload("nothing"))

        @settings(
            max_examples=EPISODES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(
            script=st.lists(faults, min_size=2, max_size=6),
            crowd=st.lists(clients, min_size=20, max_size=40),
            change=st.sampled_from(CHANGES),
            at_ms=st.sampled_from([0, 2, 10, 60]),
            drained=st.sampled_from([None, *AZURE]),
        )
        def live(script: list[Any], crowd: list[Any], change: str, at_ms: int, drained: str | None) -> None:
            runner.run(episode(world, script, crowd, change, at_ms, drained))

        live()
        runner.run(accounts(world))
    finally:
        runner.run(_leave(context))


async def accounts(world: World) -> None:
    """Each request ended once: one record, one id."""
    log = world.r.worker.assembly.books.log
    await world.r.until(lambda: len(world.r.records()) >= world.asked, within_s=5)
    records = world.r.records()
    assert len(records) == world.asked >= 1000
    assert len({record["id"] for record in records}) == world.asked
    assert {record["cloud"] for record in records if "cloud" in record} == {"azure"}
    tried = {attempt["cloud"] for record in records for attempt in record.get("attempts", [])}
    assert tried == {"azure"}
    assert "internal_error" not in {record["outcome"] for record in records}
    assert not [event for event in world.r.events() if event["event"] == "internal_error"]
    retried = len([record for record in records if len(record.get("attempts", [])) > 1])
    assert retried >= 20, "faults were met"
    assert log.dropped == 0


async def _enter(context: Any) -> RunningRouter:
    entered: RunningRouter = await context.__aenter__()
    return entered


async def _leave(context: Any) -> None:
    await context.__aexit__(None, None, None)
