"""One key offers fifty times its share of what is short: what do the keys notice that stay within theirs?"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import orjson

from loadtests.bench.figures import percentile
from loadtests.drills.fleet import API, Endpoint, Fleet, key_of
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, failures, late_p99_ms, p99_first_ms
from loadtests.drills.site import Site, site
from router.config.keys import digest
from router.emulator.quota import estimate

FLOOD: Final = "flood"
OTHERS: Final = ("anna", "bert", "cleo", "dora")
FLOOD_TIMES: Final = 50  # its share
USED_SHARE: Final = 0.8  # of theirs, which the others use
HEAD_S: Final = 0.2
GROWTH_MAX: Final = 1.2
WARM_S: Final = 1.5
USED_MIN: Final = 0.85  # of the capacity: nothing is held back for who does not come
MINUTE_S: Final = 62.0  # and a little more than it: some answers of the last one are on their way


def _keys(*names: str) -> list[dict[str, Any]]:
    """All of one workload."""
    return [{"name": name, "workload": "api", "sha256": digest(key_of(name)).hex(), "models": ["*"]} for name in names]


async def slots(scale: Scale) -> Outcome:
    """`scale.rate`: the capacity. `before_s`: without the flood; `fault_s`: with it."""
    pace = {"head_ms": {"median": HEAD_S * 1000, "sigma": 0.2}, "tokens": 5, "token_gap_ms": 0}
    concurrent = max(1, round(scale.rate * HEAD_S))
    return await _flooded(scale, Endpoint(emulator=pace, deployment={"concurrent": concurrent}), WARM_S, 0.0)


async def quota(scale: Scale) -> Outcome:
    """As `slots`, but short are the tokens of a minute; the first with the flood is unlike those that follow."""
    each = estimate(orjson.loads(Shot(Traffic("any", "", 1.0), 1, 0.0).wire().partition(b"\r\n\r\n")[2]))
    pace = {"head_ms": {"median": HEAD_S * 1000, "sigma": 0.2}, "tokens": 5, "token_gap_ms": 0, "quota": True}
    return await _flooded(
        scale, Endpoint(emulator=pace, deployment={"tpm": int(scale.rate * 60 * each)}), MINUTE_S, 1.0
    )


async def _flooded(scale: Scale, endpoint: Endpoint, settle_s: float, errors_max: float) -> Outcome:
    """`settle_s`: of the flood, before it is measured what the others notice. `errors_max`: of theirs, in percent."""
    outcome = Outcome()
    fleet = Fleet(
        {"azure": endpoint},
        workloads={"api": API},
        more={"keys": _keys(FLOOD, *OTHERS), "limits": {"concurrency": "off"}},
    )
    share = scale.rate / (len(OTHERS) + 1)  # of each key
    others = [Traffic(name, key_of(name), USED_SHARE * share) for name in OTHERS]
    flood = Traffic(FLOOD, key_of(FLOOD), FLOOD_TIMES * share)
    async with site(fleet) as running:
        async with Load(running.port, others) as load:
            await asyncio.sleep(WARM_S + scale.before_s)
            at = time.monotonic()
            async with Load(running.port, [flood]) as offered:
                await asyncio.sleep(settle_s + scale.fault_s)
        waited = await _waited_ms(running)
    since, until = at + settle_s, at + settle_s + scale.fault_s
    alone, beside = load.between(load.began + WARM_S, at), load.between(since, until)
    refused = sum(not one.ok for one in [*alone, *beside])
    served = sum(one.ok for one in offered.between(since, until))
    answered = served + sum(one.ok for one in beside)
    outcome.late_ms = late_p99_ms([*alone, *beside])
    ratio = p99_first_ms(beside) / p99_first_ms(alone)
    outcome.at_most("the others' p99 to first byte, beside the flood ÷ without it", ratio, GROWTH_MAX)
    outcome.at_most("errors that the others saw", 100 * refused / (len(alone) + len(beside)), errors_max, " %")
    outcome.at_least("answers in all beside the flood, ÷ capacity", answered / (scale.rate * scale.fault_s), USED_MIN)
    outcome.figures |= {
        "offered_per_s": {"flood": flood.rate, "each other": others[0].rate},
        "p99_first_ms": {"alone": p99_first_ms(alone), "beside": p99_first_ms(beside)},
        "p50_first_ms": {"alone": _p50_ms(alone), "beside": _p50_ms(beside)},
        "queued_p99_ms": waited,
        "flood": {"requests": len(offered.shots), "served": served, "failures": failures(offered.shots)},
        "failures": failures(load.shots),
        "failures_until_settled": failures(load.between(at, since)),
        "left_late_p99_ms": late_p99_ms(load.shots),
    }
    return outcome


def _p50_ms(shots: Sequence[Shot]) -> float:
    times = sorted(one.first_s for one in shots if one.ok)
    return percentile(times, 0.5) * 1000 if times else float("inf")


async def _waited_ms(running: Site) -> dict[str, float]:
    """In the waiting room, of those that were in it and were served."""
    await asyncio.sleep(1.0)  # the access log is written in batches
    found = {}
    for name in (FLOOD, "others"):
        times = sorted(
            record["queued_ms"]
            for record in running.records()
            if record["queued_ms"] and record["outcome"] == "ok" and (record["key"] == FLOOD) is (name == FLOOD)
        )
        found[name] = percentile(times, 0.99) if times else 0.0
    return found


_FIVE_KEYS: Final = (
    "five keys of one weight in one workload: four use four fifths of their shares all the time, the fifth offers "
    "fifty times its own from some moment on; times count from when a request was due to its first byte, of the four"
)
DRILLS: Final = (
    Drill(
        "fairness-slots",
        f"one deployment that takes so many requests at one time; {_FIVE_KEYS}",
        slots,
        Scale(rate=100, before_s=20, fault_s=30),
        Scale(rate=100, before_s=6, fault_s=8),
    ),
    Drill(
        "fairness-quota",
        f"one deployment with a quota of tokens a minute; {_FIVE_KEYS}, from a minute after the flood began",
        quota,
        Scale(rate=20, before_s=20, fault_s=120),
        Scale(rate=20, before_s=10, fault_s=60),
    ),
)
