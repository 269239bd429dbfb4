"""Four routers on one Redis, which is then killed under them.

Each router is a process of its own with the same keys; the cloud notes when each request reached it.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from loadtests.bench.processes import BenchError, answers_200, find_program
from loadtests.drills.fleet import API, Endpoint, Fleet
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, failures, late_p99_ms
from loadtests.drills.site import Program, Site, quiet_port, site
from loadtests.limits.accuracy import Span, most_in_a_window
from router.config.keys import digest

ROUTERS: Final = 4
KEYS: Final = 10
OFFERED: Final = 3.0  # times a key's limit
CALM: Final = 0.5
USED_MIN: Final = 0.97
EXCESS_MAX: Final = float(ROUTERS)  # requests above burst + rate × T: one a router
TRIPS_MAX: Final = 1.0  # for 100 requests
SKEWED: Final = 0.85  # of a skewed key's requests reach one router
PACE: Final[Mapping[str, Any]] = {"head_ms": 2, "first_token_ms": 1, "token_gap_ms": 0, "tokens": 2}
LUA: Final = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer %s"
wrk.body = '{"model":"gpt-4o","messages":[{"role":"user","content":"Say one true thing about rivers."}],"max_tokens":5}'
"""


@dataclass(frozen=True, slots=True)
class Key:
    """`per_s`: its limit; `offered`: what is sent, in times of that; `skewed`: most of it to one router."""

    name: str
    per_s: float
    offered: float
    skewed: bool = False

    @property
    def secret(self) -> str:
        return f"sk-ir-limits-{self.name}"

    @property
    def burst(self) -> float:
        return self.per_s * 60 * 0.1

    def section(self) -> dict[str, Any]:
        limits = {"rpm": round(self.per_s * 60)}
        return {
            "name": self.name,
            "workload": "api",
            "sha256": digest(self.secret).hex(),
            "models": ["*"],
            "limits": limits,
        }

    def traffic(self, router: int) -> Traffic:
        share = 1 / ROUTERS
        if self.skewed:
            share = SKEWED if router == 0 else (1 - SKEWED) / (ROUTERS - 1)
        name = f"{self.name}r{router}"
        return Traffic(name, self.secret, self.per_s * self.offered * share, stream_every=0, max_tokens=5)


class Routers:
    """Four of them, with one cloud and one Redis."""

    def __init__(self, running: Site, redis: Program, socket: Path, admin_ports: Sequence[int], ports: Sequence[int]):
        self.site, self.redis, self._socket = running, redis, socket
        self.ports, self.admin_ports = ports, admin_ports

    async def start_redis(self) -> None:
        self._socket.unlink(missing_ok=True)
        self.redis.start()
        await self.redis.until(self._socket.exists)

    async def metric(self, name: str, label: str = "") -> float:
        """Over all routers."""
        total = 0.0
        async with aiohttp.ClientSession() as session:
            for port in self.admin_ports:
                async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                    lines = (await answer.text()).splitlines()
                samples = (line.rpartition(" ") for line in lines if line.partition("{")[0].partition(" ")[0] == name)
                total += sum(float(value) for sample, _, value in samples if label in sample)
        return total

    async def until_up(self, count: int) -> None:
        deadline = time.monotonic() + 15
        while await self.metric("router_redis_up") != count:
            if time.monotonic() > deadline:
                raise BenchError(f"not {count} routers have found Redis")
            await asyncio.sleep(0.1)

    @contextlib.asynccontextmanager
    async def offered(self, keys: Sequence[Key]) -> AsyncIterator[list[Load]]:
        """All keys at all routers, for as long as the block runs."""
        async with contextlib.AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(Load(port, [key.traffic(index) for key in keys]))
                for index, port in enumerate(self.ports)
            ]

    def spans(self, keys: Sequence[Key], loads: Sequence[Load]) -> dict[Key, list[Span]]:
        """Of each request that reached the cloud: when it was written, and when it arrived there."""
        arrived = {line.marker: line.at for line in self.site.journal("azure-a")}
        found: dict[str, list[Span]] = {key.name: [] for key in keys}
        for shot in (shot for load in loads for shot in load.shots):
            name = shot.traffic.name.partition("r")[0]
            if name in found and shot.marker in arrived:
                found[name].append((shot.begun, arrived[shot.marker]))
        return {key: found[key.name] for key in keys}


@contextlib.asynccontextmanager
async def routers(keys: Sequence[Key]) -> AsyncIterator[Routers]:
    """Starts all of it, and waits until the routers know of each other."""
    with contextlib.ExitStack() as programs:
        more: dict[str, Any] = {"keys": [key.section() for key in keys], "limits": {"concurrency": "off"}}
        fleet = Fleet({"azure-a": Endpoint(emulator=PACE)}, {"api": API}, more)
        async with site(fleet) as running:
            socket = running.folder / "redis.sock"
            shared = {"redis": {"url": f"unix://{socket}", "routers": ROUTERS}}
            options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(running.folder)]
            redis = Program("redis", [find_program("redis-server"), *options], running.folder)
            programs.callback(redis.kill)
            ports, admin_ports = [], []
            for index in range(ROUTERS):
                port, admin_port, file = quiet_port(), quiet_port(), running.folder / f"router-{index}.json"
                config = running.config(**shared)
                config["server"] |= {
                    "listen": f"127.0.0.1:{port}",
                    "admin": f"127.0.0.1:{admin_port}",
                    "access_log": str(running.folder / f"access-{index}.log"),
                }
                file.write_bytes(orjson.dumps(config))
                ports.append(port)
                admin_ports.append(admin_port)
            four = Routers(running, redis, socket, admin_ports, ports)
            await four.start_redis()
            for index, admin_port in enumerate(admin_ports):
                command = [sys.executable, "-m", "router", "serve", "--config"]
                program = Program(
                    f"router-{index}", [*command, str(running.folder / f"router-{index}.json")], running.folder
                )
                programs.callback(program.kill)
                program.start()
                await program.until(partial(answers_200, admin_port, "/readyz"))
            await four.until_up(ROUTERS)
            yield four


def excess(spans: Sequence[Span], key: Key) -> float:
    """By how many requests the worst window exceeds burst + rate × T."""
    return most_in_a_window(spans, key.per_s) - key.burst


def _keys(scale: Scale) -> list[Key]:
    per_s = scale.rate / OFFERED / KEYS
    return [Key(f"k{index}", per_s, OFFERED, skewed=index >= KEYS // 2) for index in range(KEYS)]


async def accuracy(scale: Scale) -> Outcome:
    outcome, keys = Outcome(), _keys(scale)
    async with routers(keys) as four:
        began = time.monotonic()
        async with four.offered(keys) as loads:
            await asyncio.sleep(scale.fault_s)
            took_s = time.monotonic() - began
        shots = [shot for load in loads for shot in load.shots]
        losses = await four.metric("router_redis_losses_total")
        spans = four.spans(keys, loads)
    used = {
        key.name: sum(at <= began + took_s for _, at in found) / (key.burst + key.per_s * took_s)
        for key, found in spans.items()
    }
    over = {key.name: excess(found, key) for key, found in spans.items()}
    outcome.at_least("the least used limit", min(used.values()), USED_MIN)
    outcome.at_most("the most used limit", max(used.values()), 2 - USED_MIN)
    outcome.at_most("requests above burst + rate × T, worst window and key", max(over.values()), EXCESS_MAX)
    outcome.none("answers that were neither 200 nor 429", _other(shots))
    outcome.figures = {"used": used, "above": over, "offered": len(shots), "granted": sum(map(len, spans.values()))}
    outcome.figures |= {"times_that_redis_was_given_up": losses, "load_left_late_p99_ms": late_p99_ms(shots)}
    return outcome


async def trips(scale: Scale) -> Outcome:
    """wrk keeps all routers busy with one key that is far over its limit: refused, and asked for, all the time."""
    outcome, key = Outcome(), Key("k0", scale.rate, 1.0)
    async with routers([key]) as four:
        script = four.site.folder / "post.lua"
        script.write_text(LUA % key.secret)
        asked_before, made_before = await _counted(four)
        options = ["-t", "1", "-c", "8", "-d", f"{scale.fault_s:g}s", "-s", str(script)]
        wrks = [
            await asyncio.create_subprocess_exec(
                *(find_program("wrk"), *options, f"http://127.0.0.1:{port}/v1/chat/completions"),
                stdout=asyncio.subprocess.DEVNULL,
            )
            for port in four.ports
        ]
        for each in wrks:
            await each.wait()
        asked, made = await _counted(four)
    requests, made = asked - asked_before, made - made_before
    outcome.at_most("trips to Redis for 100 requests", 100 * made / requests, TRIPS_MAX)
    outcome.figures = {"requests": requests, "trips": made, "requests_per_s": requests / scale.fault_s}
    return outcome


async def _counted(four: Routers) -> tuple[float, float]:
    return await four.metric("router_requests_total"), await four.metric("router_redis_trips_total")


async def killed(scale: Scale) -> Outcome:
    """Half of the keys keep within their limits, and half are at three times."""
    greedy = [Key(f"g{index}", scale.rate / OFFERED / KEYS, OFFERED, skewed=index > 2) for index in range(KEYS // 2)]
    calm = [Key(f"c{index}", scale.rate / OFFERED / KEYS, CALM) for index in range(KEYS // 2)]
    outcome = Outcome()
    async with routers([*greedy, *calm]) as four:
        async with four.offered([*greedy, *calm]) as loads:
            await asyncio.sleep(scale.before_s)
            killed_at = time.monotonic()
            four.redis.kill()
            await asyncio.sleep(scale.fault_s)
            alone = await four.metric("router_redis_up")
            await four.start_redis()
            back_at = time.monotonic()
            await asyncio.sleep(scale.after_s)
            up = await four.metric("router_redis_up")
        shots = [shot for load in loads for shot in load.shots]
        spans = four.spans(greedy, loads)
    over = {key.name: excess(found, key) for key, found in spans.items()}
    without = [
        sum(killed_at + 1 < at < back_at for _, at in found) / (key.per_s * (back_at - killed_at - 1))
        for key, found in spans.items()
        if not key.skewed
    ]
    quiet = [shot for shot in shots if shot.traffic.name.startswith("c")]
    outcome.none("requests of keys within their limits that were not answered", sum(not one.ok for one in quiet))
    outcome.none("answers that were neither 200 nor 429", _other(shots))
    outcome.at_most("requests above burst + rate × T, worst window and key", max(over.values()), EXCESS_MAX)
    outcome.at_least("the least used limit while Redis was away", min(without), 0.9)
    outcome.none("routers that thought Redis was there while it was dead", round(alone))
    outcome.none("routers that had not found it at the end", ROUTERS - round(up))
    outcome.figures = {"above": over, "used_without": without, "failures": failures(quiet), "offered": len(shots)}
    return outcome


def _other(shots: Sequence[Shot]) -> int:
    return sum(not shot.ok and shot.status != 429 for shot in shots)


DRILLS: Final = (
    Drill(
        "redis_accuracy",
        f"{ROUTERS} routers, {KEYS} keys at {OFFERED:g} times their limit, half of them nearly all at one router; "
        "windows are of what was written and arrived within them",
        accuracy,
        full=Scale(1200, 0, 60),
        quick=Scale(300, 0, 8),
    ),
    Drill(
        "redis_trips",
        f"{ROUTERS} routers kept busy by wrk with one key over its limit; requests and trips as the routers count them",
        trips,
        full=Scale(100, 0, 20),
        quick=Scale(100, 0, 5),
    ),
    Drill(
        "redis_killed",
        f"{ROUTERS} routers; Redis is killed with -9 under load, and starts again empty",
        killed,
        full=Scale(900, 10, 60, 10),
        quick=Scale(300, 3, 4, 4),
    ),
)
