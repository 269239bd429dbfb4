"""The configuration is read anew, again and again, good files and bad ones, under all the load that there is."""

import asyncio
import json
import statistics
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from typing import Any, Final

from loadtests.drills.fleet import Endpoint, Fleet, key_of
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, late_p99_ms, p99_first_ms
from loadtests.drills.site import Site, site
from loadtests.lasting.load import tally
from router.config.keys import digest

WARM_S: Final = 2.0
PAUSE_S: Final = 0.25  # between the end of one reload and the begin of the next
BATCH: Final = 4  # reloads, between which there is quiet: what neighbours do to the machine, they do to both
P99_MAX: Final = 1.5  # times that of the quiet
BAD_EVERY: Final = 4
REGIONS: Final = 8
KEYS: Final = 50
PACE: Final = {"head_ms": 20, "first_token_ms": 10, "token_gap_ms": 2, "tokens": 5}


async def reloads(scale: Scale) -> Outcome:
    """`scale.fault_s`: how many reloads there are, with one worker and then with two; `before_s`: of quiet between."""
    outcome = Outcome()
    for workers in (1, 2):
        await _reloaded(outcome, scale, workers)
    return outcome


async def _reloaded(outcome: Outcome, scale: Scale, workers: int) -> None:
    loop, rounds = asyncio.get_running_loop(), max(1, int(scale.fault_s) // BATCH)
    spans: list[tuple[float, float]] = []  # of each batch of reloads
    took, wrong = [], 0
    async with site(_fleet(workers)) as running:
        files = _files(running)
        async with Load(running.port, _traffics(scale.rate)) as load:
            await asyncio.sleep(WARM_S)
            begun = loop.time()
            for _ in range(rounds):
                await asyncio.sleep(scale.before_s / rounds)
                at = loop.time()
                for _ in range(BATCH):
                    good, s = await _reload(running, files)
                    wrong += not good
                    took.append(s)
                    await asyncio.sleep(PAUSE_S)
                spans.append((at, loop.time()))
            await asyncio.sleep(scale.after_s)
        refused = await running.metric("router_reloads_total", 'result="refused"')
        arrived = {name: len(running.journal(name)) for name in running.fleet.endpoints}
    during = [one for one in load.shots if any(at <= one.due < over for at, over in spans)]
    quiet = [one for one in load.shots if one.due >= begun and not any(at <= one.due < over for at, over in spans)]
    _judge(outcome, workers, quiet, during, load.shots)
    outcome.none(f"{workers} w.: reloads that were not answered as their file deserved", wrong, str(len(took)))
    outcome.figures[f"workers_{workers}"] = {
        "reloads": len(took),
        "refused": refused,
        "reload_s": {"median": statistics.median(took), "longest": max(took)},
        "arrived": arrived,
        "kinds": {name: asdict(each) for name, each in tally(load.shots).items()},
    }


async def _reload(running: Site, files: Iterator[tuple[dict[str, Any] | bytes, bool]]) -> tuple[bool, float]:
    """Whether it was answered as its file deserved, and the seconds that it took."""
    content, good = next(files)
    running.write(content)
    at = asyncio.get_running_loop().time()
    return await running.reload() is good, asyncio.get_running_loop().time() - at


def _judge(outcome: Outcome, workers: int, quiet: list[Shot], during: list[Shot], shots: list[Shot]) -> None:
    failed = [one for one in shots if not one.ok]
    was, now = p99_first_ms(quiet), p99_first_ms(during)
    outcome.none(f"{workers} w.: failed requests", len(failed), str(len(shots)))
    outcome.at_most(f"{workers} w.: p99 of first bytes, of {was:.1f} ms without", now / was, P99_MAX, " ×")
    outcome.late_ms = max(outcome.late_ms, late_p99_ms(quiet))
    outcome.figures[f"late_p99_ms_{workers}"] = {"quiet": late_p99_ms(quiet), "during": late_p99_ms(during)}


def _fleet(workers: int) -> Fleet:
    """Of a usual size: what takes long in a reload grows with the file."""
    endpoints = {f"azure-{index}": Endpoint(emulator=PACE, deployment={"tpm": 100_000_000}) for index in range(REGIONS)}
    keys = [
        {"name": name, "workload": "api", "sha256": digest(key_of(name)).hex(), "models": ["*"]}
        for name in ("api", *(f"k{index}" for index in range(KEYS)))
    ]
    return Fleet(endpoints, groups=[list(endpoints)], server={"workers": workers}, more={"keys": keys})


def _traffics(rate: float) -> list[Traffic]:
    return [Traffic("api", key_of("api"), rate, stream_every=4)]


def _files(running: Site) -> Iterator[tuple[dict[str, Any] | bytes, bool]]:
    """Without end: each is another one than the one before, and whether it may come into force."""
    number = 0
    while True:
        number += 1
        config = deepcopy(running.config())  # parts of it belong to all sites
        if number % BAD_EVERY:
            yield _good(config, number), True
        else:
            yield _bad(config, number // BAD_EVERY), False


def _good(config: dict[str, Any], number: int) -> dict[str, Any]:
    """Quotas, keys and the fleet change; one region is out each time, so that its pool is closed and made anew."""
    names = list(config["endpoints"])
    del config["endpoints"][names[number % len(names)]]
    config["endpoints"][names[(number + 1) % len(names)]]["deployments"][0]["tpm"] += number
    config["keys"] = config["keys"][: 1 + number % KEYS]
    config["aliases"] = {f"alias-{number}": "gpt-4o"}
    return config


def _bad(config: dict[str, Any], number: int) -> dict[str, Any] | bytes:
    match number % 4:
        case 0:
            return json.dumps(config).encode()[:-20]
        case 1:
            config["workloads"]["api"]["placement"]["cloud"] = "nowhere"
        case 2:
            config["server"]["listen"] = "127.0.0.1:1"
        case _:
            config["nonsense"] = {}
    return config


DRILL: Final = Drill(
    "reloads",
    f"one worker, then two, before {REGIONS} emulated regions and {KEYS + 1} keys; {PAUSE_S:g} s after each reload "
    f"comes the next: three good files (one region less each time, another quota, fewer keys, another alias) and a bad "
    "one, cut short, against the rules, with a key that is unknown or that needs a restart. The p99 of first bytes of "
    f"what was due during the reloads is held against that of the quiet times, one before each {BATCH} reloads. A "
    "quarter of the requests are streams; all of them count as failed unless they are whole",
    reloads,
    full=Scale(rate=250, before_s=50, fault_s=100, after_s=2),
    quick=Scale(rate=60, before_s=1, fault_s=4, after_s=0.5),
)
