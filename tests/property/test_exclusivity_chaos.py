"""Two laws under chaos: exclusive requests reach their cloud alone, and no internal one leaves its holder unexplained.

Both workloads at once, hedges on, faults at every cloud, rules that change meanwhile. The clouds note the marker of
each request that they read; the decision log is read by the form of its lines.
"""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.drills.cloud import WitnessedCloud, journal_of, read_journal
from loadtests.drills.decisions import Departure, departures
from router.base.loops import new_loop
from router.emulator import Distribution, EmulatedCloud, Settings
from tests.adversity.client import chat, sent
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, router, write_config

AZURE = ("azure-a", "azure-b")
OTHERS = {"oracle": "oracle", "cw": "coreweave"}
EPISODES = 12
TIMEOUTS = {
    "connect_s": 0.25,
    "commit_stream_s": 0.3,
    "commit_json_s": 0.3,
    "idle_s": 0.3,
    "total_s": 2,
    "commit_after_ms": 100,
}
# Short, so that each episode begins with clouds that are asked again.
HEALTH = {"open_s": 0.05, "open_s_max": 0.1, "ejection_s": 0.05, "ejection_s_max": 0.1, "slow_start_s": 0}
API = {"placement": {"rule": "exclusive", "cloud": "azure"}, "max_wait_ms": 50}
HEDGE = {"after_ms": 10, "share_max": 0.9}


def internal(hedge: dict[str, Any] | None = HEDGE, **placement: Any) -> dict[str, Any]:
    rule = {"rule": "first_refusal", "holder": "azure", "then": [["oracle", "coreweave"]], **placement}
    return {"placement": rule, "max_wait_ms": 50, **({"hedge": hedge} if hedge else {})}


RULES: dict[str, dict[str, Any]] = {
    "the same": internal(),
    "no hedges": internal(hedge=None),
    "one after the other": internal(then=["coreweave", "oracle"]),
    "fewer": internal(then=["oracle"]),
    "one attempt at the holder": internal(holder_attempts=1),
    "another holder": internal(holder="oracle", then=["azure", "coreweave"]),
    "exclusive as well": {"placement": API["placement"], "max_wait_ms": 50},
}
FAULTS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "refuse": st.fixed_dictionaries({"for_s": st.sampled_from([0.02, 0.2])}),
    "slow_accept": st.fixed_dictionaries({"delay_ms": st.sampled_from([5, 400])}),
    "slow_head": st.fixed_dictionaries({"delay_ms": st.sampled_from([15, 60])}),
    "reset_before_head": st.just({}),
    "stall_before_head": st.just({}),
    "stall_mid_stream": st.fixed_dictionaries({"after_events": st.integers(0, 3)}),
    "cut_at": st.fixed_dictionaries({"at_byte": st.integers(1, 2000)}),
    "status": st.fixed_dictionaries(
        # None that takes an endpoint out for longer than an episode: a refused credential, a missing deployment.
        {"status": st.sampled_from([400, 408, 429, 500, 503])},
        optional={"retry_after": st.just("0.05")},
    ),
    "error_event": st.fixed_dictionaries({"after_events": st.integers(0, 3)}),
    "bad_content_length": st.fixed_dictionaries({"delta": st.integers(-20, 20)}),
}
faults = st.sampled_from(sorted(FAULTS)).flatmap(
    lambda kind: st.tuples(
        st.sampled_from([*AZURE, *AZURE, *OTHERS]),
        st.just(kind),
        FAULTS[kind],
        st.fixed_dictionaries({"share": st.sampled_from([0.4, 1.0]), "times": st.sampled_from([3, None])}),
    )
)
# What befalls the whole holder, before anything else may.
OUTAGES: tuple[dict[str, Any] | None, ...] = (
    None,
    {"kind": "status", "status": 429, "retry_after": "0.05", "times": 6},
    {"kind": "status", "status": 503, "times": 6},
    {"kind": "reset_before_head", "share": 0.7},
)
# Who asks, for a stream or not, and whether it leaves as soon as the head is here.
clients = st.tuples(st.sampled_from(["api", "internal", "internal"]), st.booleans(), st.booleans())


class Witness(Cloud):
    """A cloud that keeps a journal; `folder` is set before the router starts."""

    folder: Path

    def emulated(self) -> EmulatedCloud:
        return WitnessedCloud(super().emulated().endpoint, self.folder)


class World:
    """The router, its clouds, and what they have noted."""

    def __init__(self, r: RunningRouter, described: list[Witness], folder: Path) -> None:
        self.r, self.folder = r, folder
        self.sections = {cloud.id: cloud.section(r.clouds[cloud.id].base_url) for cloud in described}
        self.asked = self.elsewhere = 0

    async def rule(self, name: str) -> None:
        write_config(
            self.r.file, self.sections, self.r.log, **self.more(), workloads={"api": API, "internal": RULES[name]}
        )
        result = await self.r.worker.reload()
        assert result.ok, result.faults

    def more(self) -> dict[str, Any]:
        return {"timeouts": TIMEOUTS, "health": HEALTH, "decision_log": {"dir": str(self.folder / "decisions")}}

    async def client(self, who: str, stream: bool, leaves: bool) -> None:
        self.asked += 1
        marker = f"{who}-{self.asked:07}"
        key = API_KEY if who == "api" else INTERNAL_KEY
        request = replace(chat(stream=stream, key=key, user=marker), headers=(("x-request-id", marker),))
        async with asyncio.timeout(10), sent(self.r, request, close=True) as call:
            await (call.head() if leaves else call.rest())

    def judge(self) -> None:
        """Over all that the clouds have read so far."""
        records = {one["client_request_id"]: one for one in self.r.records() if "client_request_id" in one}
        left = departures(self.folder / "decisions")
        self.elsewhere = 0
        for name, cloud in OTHERS.items():
            for arrival in read_journal(journal_of(self.folder, name)):
                assert arrival.traffic != "api", f"{arrival.marker} reached {name}"
                if arrival.traffic == "internal":
                    record = records[arrival.marker]
                    holder = record["plan"].removeprefix("first_refusal:")
                    if cloud != holder:
                        self.elsewhere += 1
                        self.explained(left.get(record["id"]), holder, arrival.marker)
        assert self.r.worker.assembly.runtime.violations == 0

    def explained(self, departure: Departure | None, holder: str, marker: str) -> None:
        """Each deployment of the holder was offered the request and refused it."""
        assert departure is not None, f"{marker} left {holder} and nothing says why"
        held = {f"{name}/gpt-4o-dep" for name, one in self.sections.items() if one["cloud"] == holder}
        assert {deployment for deployment, _, _ in departure.offers} == held, (marker, departure)
        assert {cloud for _, cloud, _ in departure.offers} == {holder}, (marker, departure)
        assert all(outcome != "accepted" for _, _, outcome in departure.offers), (marker, departure)

    def forget(self) -> None:
        """So that an example that fails can be made smaller."""
        for name in (*AZURE, *OTHERS):
            self.r.clouds[name].faults.clear()
            journal_of(self.folder, name).write_text("")


async def episode(
    world: World, script: list[Any], out: dict[str, Any] | None, crowd: list[Any], rule: str, at_ms: int
) -> None:
    world.forget()
    for name in AZURE if out else ():
        world.r.clouds[name].faults.add(**out)
    for cloud, kind, values, more in script:
        world.r.clouds[cloud].faults.add(kind, **values, **({} if kind == "refuse" else more))
    async with asyncio.TaskGroup() as group:
        for who, stream, leaves in crowd:
            group.create_task(world.client(who, stream, leaves))
        await asyncio.sleep(at_ms / 1000)
        await world.rule(rule)
    await world.r.assert_nothing_is_left()
    await world.r.until(lambda: len(world.r.records()) == world.asked)  # written in batches
    world.judge()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner(loop_factory=new_loop) as running:
        yield running


def test_both_laws_hold_under_chaos(runner: asyncio.Runner) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paced = Settings(tokens=Distribution(6.0), token_gap_ms=Distribution(1.0))
        described = [Witness(name, settings=paced) for name in AZURE]
        described += [Witness(name, cloud, "openai", settings=paced) for name, cloud in OTHERS.items()]
        for cloud in described:
            cloud.folder = folder
        context = router(
            *described,
            timeouts=TIMEOUTS,
            health=HEALTH,
            decision_log={"dir": str(folder / "decisions")},
            workloads={"api": API, "internal": RULES["the same"]},
        )
        r = runner.run(context.__aenter__())
        try:
            world = World(r, described, folder)
            met = 0

            @settings(max_examples=EPISODES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(
                script=st.lists(faults, min_size=2, max_size=6),
                out=st.sampled_from(OUTAGES),
                crowd=st.lists(clients, min_size=15, max_size=30),
                rule=st.sampled_from(sorted(RULES)),
                at_ms=st.sampled_from([0, 5, 30]),
            )
            def live(script: list[Any], out: Any, crowd: list[Any], rule: str, at_ms: int) -> None:
                nonlocal met
                runner.run(episode(world, script, out, crowd, rule, at_ms))
                met += world.elsewhere

            live()
            assert met >= EPISODES, "holders refused, and others served"
        finally:
            runner.run(context.__aexit__(None, None, None))
