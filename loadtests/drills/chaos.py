"""The contract under everything at once: each fault of the emulator at each cloud, reloads, hedges, clients that leave.

What reached whom is told by the clouds' journals; why, by the decision log, read here and by `audit verify`.
"""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from typing import Any, Final

import orjson

from loadtests.bench.processes import BenchError
from loadtests.drills.decisions import decisions, departures
from loadtests.drills.fleet import API, REGIONS, Endpoint, Fleet, anchors, key_of, signing_key
from loadtests.drills.load import Load, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, failures, late_p99_ms
from loadtests.drills.site import Site, site
from router.emulator import Kind

OTHERS: Final = ("oracle", "softbank", "coreweave")
PACE: Final[Mapping[str, Any]] = {"head_ms": {"median": 15, "sigma": 0.5}, "token_gap_ms": 1, "tokens": 4}
TIMEOUTS: Final[Mapping[str, float]] = {
    "connect_s": 0.5,
    "commit_stream_s": 0.6,
    "commit_json_s": 0.6,
    "idle_s": 0.6,
    "total_s": 5,
    "commit_after_ms": 300,
}
FIRST_REFUSAL: Final[Mapping[str, Any]] = {
    "rule": "first_refusal",
    "holder": "azure",
    "then": ["oracle", ["softbank", "coreweave"]],
}
ALONE_SHARE: Final = 0.2  # of the time in which there is exclusive traffic only, and nothing else may connect
RELOAD_S: Final = 1.5
PASS_S: Final = 25.0  # one round of all faults at all clouds, at most
FOR_S: Final = (0.3, 1.2)
SEED: Final = 7
FINDINGS_KEPT: Final = 20
HOLDER_OUT: Final[Mapping[str, Any]] = {"kind": "status", "status": 429, "retry_after": 1, "for_s": 1}


def _faults(rng: random.Random) -> dict[Kind, dict[str, Any]]:
    """What a fault of each kind needs to be one."""
    return {
        Kind.REFUSE: {},
        Kind.SLOW_ACCEPT: {"delay_ms": rng.choice([5, 800])},
        Kind.SLOW_HEAD: {"delay_ms": rng.choice([20, 400])},
        Kind.RESET_BEFORE_HEAD: {},
        Kind.RESET_AFTER_HEAD: {},
        Kind.STALL_BEFORE_HEAD: {},
        Kind.STALL_MID_STREAM: {"after_events": rng.randrange(5)},
        Kind.CUT_AT: {"at_byte": rng.randrange(1, 2000)},
        Kind.RESET_AT: {"at_byte": rng.randrange(1, 2000)},
        Kind.EARLY_CLOSE: {"after_events": rng.randrange(5)},
        Kind.STATUS: {
            "status": rng.choice([400, 401, 403, 404, 408, 422, 429, 500, 502, 503, 504]),
            "retry_after": rng.choice(["0.05", "1"]),
        },
        Kind.REDIRECT: {},
        Kind.ERROR_EVENT: {"after_events": rng.randrange(5)},
        Kind.MALFORMED_CHUNK: {"after_events": rng.randrange(5)},
        Kind.EXTRA_BYTES: {},
        Kind.INTERIM_1XX: {},
        Kind.NO_DONE: {},
        Kind.NO_FINISH: {},
        Kind.BAD_CONTENT_LENGTH: {"delta": rng.choice([-10, 10])},
        Kind.BAD_TRANSFER_ENCODING: {},
    }


def chaos_fleet() -> Fleet:
    """Probes are off, so that a connection to a cloud is one that a request was the reason of."""
    quiet = {"probe": False}
    return Fleet(
        {name: Endpoint(cloud=cloud, emulator=PACE, extra=quiet) for name, cloud in _clouds()},
        workloads={"api": API, "internal": {"placement": FIRST_REFUSAL, "hedge": {"after_ms": 60, "share_max": 0.5}}},
        more={"timeouts": TIMEOUTS, "health": {"open_s": 0.3, "open_s_max": 1.0, "ejection_s": 1.0}},
        groups=[REGIONS, OTHERS],
        recorded=True,
    )


def _clouds() -> list[tuple[str, str]]:
    return [*((name, "azure") for name in REGIONS), *((name, name) for name in OTHERS)]


def changes(running: Site) -> dict[str, dict[str, Any] | bytes]:
    """Configurations that an operator may put in force meanwhile; none lets exclusive traffic leave Azure."""
    usual = running.config()
    endpoints = usual["endpoints"]
    last = {name: _later(section) if section["cloud"] == "azure" else section for name, section in endpoints.items()}
    internal = usual["workloads"]["internal"]

    def ruled(**placement: Any) -> dict[str, Any]:
        return {"api": API, "internal": {**internal, "placement": {**FIRST_REFUSAL, **placement}}}

    return {
        "the same": usual,
        "broken": b"endpoints: {}\nworkloads: 7\n",
        "a region goes": {**usual, "endpoints": {name: each for name, each in endpoints.items() if name != REGIONS[0]}},
        "Azure comes last by tier": {**usual, "endpoints": last},
        "another order": {**usual, "workloads": ruled(then=["coreweave", "oracle", "softbank"])},
        "fewer clouds": {**usual, "workloads": ruled(then=["softbank"])},
        "another holder": {**usual, "workloads": ruled(holder="oracle", then=["azure", "coreweave"])},
        "no hedges": {**usual, "workloads": {"api": API, "internal": {"placement": FIRST_REFUSAL}}},
        "spread": {
            **usual,
            "workloads": {
                "api": API,
                "internal": {"placement": {"rule": "spread", "clouds": ["azure", "oracle", "coreweave"]}},
            },
        },
        "no other cloud": {**usual, "workloads": {"api": API, "internal": {"placement": API["placement"]}}},
    }


def _later(section: dict[str, Any]) -> dict[str, Any]:
    return {**section, "deployments": [{**each, "tier": 5} for each in section["deployments"]]}


class Chaos:
    """Breaks things until it is left, and counts what it did."""

    def __init__(self, running: Site, seconds: float, reloads: Sequence[str]) -> None:
        self._running, self._rng = running, random.Random(SEED)
        self._files = {name: file for name, file in changes(running).items() if name in reloads or not reloads}
        pairs = len(running.fleet.endpoints) * len(_faults(self._rng))
        self._step_s = min(PASS_S, seconds) / pairs
        self.reloads: Counter[str] = Counter()

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._break()), asyncio.create_task(self._reload())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, Exception):  # ours: a drill that stops breaking things proves nothing
                    raise result

    async def _break(self) -> None:
        rng, names = self._rng, list(self._running.fleet.endpoints)
        while True:
            pairs = list(itertools.product(names, _faults(rng)))
            rng.shuffle(pairs)
            for number, (name, kind) in enumerate(pairs):
                for_s = rng.uniform(*FOR_S)
                share = {} if kind is Kind.REFUSE else {"share": rng.choice([0.3, 1.0])}
                fault = {"kind": kind.value, "for_s": for_s, **_faults(rng)[kind], **share}
                await _patiently(self._running.script(name, fault))
                if number % 10 == 0:  # a book of ended faults is slow to read
                    await _patiently(self._running.clear(rng.choice(names)))
                await asyncio.sleep(self._step_s)

    async def _reload(self) -> None:
        files = self._files
        while True:
            for name in self._rng.sample(sorted(files), len(files)):
                self._running.write(files[name])
                taken = await self._running.reload()
                if taken == (name == "broken"):
                    raise BenchError(f"the reload {name!r} was {'taken' if taken else 'refused'}")
                self.reloads[name] += 1
                await asyncio.sleep(RELOAD_S)


async def chaos(scale: Scale, reloads: Sequence[str] = ()) -> Outcome:
    """`reloads`: the changes that may be put in force meanwhile; empty: all."""
    outcome = Outcome()
    alone_s = scale.fault_s * ALONE_SHARE
    async with site(chaos_fleet()) as running:
        storm = Chaos(running, scale.fault_s, reloads)
        api, internal = (
            Traffic(name, key_of(name), rate, leave_every=13)
            for name, rate in (("api", scale.rate), ("internal", scale.rate / 2))
        )
        before = await _connections(running)
        async with storm(), Load(running.port, [api]) as alone:
            await asyncio.sleep(alone_s)
            await alone.finish()
            connected = await _connections(running) - before
            for name in REGIONS:  # the holder refuses as a whole at least once, however the faults fall
                await _patiently(running.script(name, HOLDER_OUT))
            both = [Traffic("api2", api.key, scale.rate / 2, leave_every=13), internal]
            async with Load(running.port, both) as mixed:
                await asyncio.sleep(scale.fault_s - alone_s)
        violations = await running.metric("router_placement_violations_total")
        running.router.end()
        shots = [*alone.shots, *mixed.shots]
        _judge_exclusive(outcome, running, connected, int(violations), len(shots))
        _judge_refusals(outcome, running)
        await _judge_audit(outcome, running)
        outcome.figures |= {
            "requests": dict(Counter(one.traffic.name for one in shots)),
            "failures": failures(shots),
            "left_late_p99_ms": late_p99_ms(shots),
            "reloads": dict(storm.reloads),
            "faults_met": dict(Counter(one.fault for name in running.fleet.endpoints for one in running.journal(name))),
        }
    return outcome


async def _patiently(call: Coroutine[Any, Any, None]) -> None:
    """A port that refuses does so to its control path as well; a slow one keeps it waiting."""
    with contextlib.suppress(OSError, TimeoutError):
        await call


async def _connections(running: Site) -> int:
    """How many the clouds beside Azure have seen, their control paths' left out. Asks a port that refuses again."""
    deadline, seen = time.monotonic() + 10, 0
    for name in OTHERS:
        while True:
            try:
                seen += (await running.received(name))["connections"]
                break
            except (OSError, TimeoutError) as error:
                if time.monotonic() > deadline:
                    raise BenchError(f"{name} does not say what it received") from error
                await asyncio.sleep(0.1)
    return seen


def _judge_exclusive(outcome: Outcome, running: Site, connected: int, violations: int, requests: int) -> None:
    strayed = [one for name in OTHERS for one in running.journal(name) if one.traffic.startswith("api")]
    records = running.records()
    tried = [
        attempt
        for record in records
        if record.get("workload") == "api"
        for attempt in record.get("attempts", ())
        if attempt["cloud"] != "azure"
    ]
    outcome.none("exclusive requests at another cloud's emulator", len(strayed), f"{requests:,} requests")
    outcome.none("connections there while all traffic is exclusive", connected)
    outcome.none("attempts of exclusive requests elsewhere, by the access log", len(tried))
    outcome.none("placement violations", violations)
    outcome.figures["records"] = len(records)


def _judge_refusals(outcome: Outcome, running: Site) -> None:
    """Every internal request that a cloud outside the holder read has, in the log, an offer and its refusal."""
    folder = running.folder / "decisions"
    departed, decided = departures(folder), decisions(folder)
    by_marker = {record["client_request_id"]: record for record in running.records() if "client_request_id" in record}
    elsewhere, unexplained, unknown = 0, [], []
    for name, cloud in _clouds():
        for marker in {one.marker for one in running.journal(name) if one.traffic == "internal"}:
            record = by_marker.get(marker)
            if record is None:
                unknown.append(marker)
                continue
            rule, _, holder = record.get("plan", "").partition(":")
            if rule != "first_refusal" or holder.partition(" ")[0] == cloud:
                continue
            elsewhere += 1
            departure = departed.get(record["id"])
            if departure is None or not explains(departure.offers, holder.partition(" ")[0]):
                unexplained.append(marker)
    outcome.none("internal requests elsewhere without a recorded offer and refusal", len(unexplained), f"{elsewhere:,}")
    outcome.none("requests that reached a cloud and are in no record", len(unknown))
    outcome.figures |= {
        "internal_elsewhere": elsewhere,
        "unexplained": unexplained[:20],
        "departures": len(departed),
        "decisions": len(decided),
        "refusals": dict(Counter(offer[2] for each in departed.values() for offer in each.offers)),
    }


def explains(offers: Sequence[tuple[str, str, str]], holder: str) -> bool:
    """There was an offer to the holder, and each was refused."""
    return bool(offers) and all(cloud == holder and outcome != "accepted" for _, cloud, outcome in offers)


async def _judge_audit(outcome: Outcome, running: Site) -> None:
    """What `inference-router audit verify` says of the log: by its exit code, and in its own words."""
    public = signing_key(running.folder).with_name(signing_key(running.folder).name + ".pub")
    code, said = await running.command(
        *("audit", "verify", str(running.folder / "decisions"), "--json"),
        *("--anchors", str(anchors(running.folder)), "--public-key", str(public)),
    )
    outcome.none("findings of `audit verify` (exit code)", code)
    with contextlib.suppress(orjson.JSONDecodeError):
        audit = outcome.figures["audit"] = orjson.loads(said)
        for writer in audit.get("writers", ()):
            writer["findings_in_all"], writer["findings"] = len(writer["findings"]), writer["findings"][:FINDINGS_KEPT]


DRILLS: Final = (
    Drill(
        "exclusivity",
        "exclusive requests and internal ones (first refusal to Azure, then Oracle, then SoftBank and CoreWeave "
        "together; hedges after 60 ms) while every fault of the emulator befalls every cloud in random order, the "
        "configuration is reloaded every 1.5 s (ten kinds: other rules, other holders, a broken file) and each "
        "thirteenth client hangs up. In the first fifth all traffic is exclusive and no other cloud may see a "
        "connection; then two thirds of it. Each request's marker is looked for in the journals of the other clouds; "
        "each internal one found there must have a departure with offers and refusals in the decision log",
        chaos,
        Scale(rate=360, before_s=0, fault_s=560),
        Scale(rate=200, before_s=0, fault_s=26),
    ),
)
