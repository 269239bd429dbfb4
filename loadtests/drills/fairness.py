"""One key offers fifty times its share of what is short: what do the keys notice that stay within theirs?"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from loadtests.bench.figures import percentile
from loadtests.drills.fleet import API, Endpoint, Fleet, key_of
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, failures, late_p99_ms, p99_first_ms
from loadtests.drills.site import site
from router.config.keys import digest
from router.emulator.quota import estimate

FLOOD: Final = "flood"
OTHERS: Final = ("anna", "bert", "cleo", "dora")
USED_SHARE: Final = 0.8  # of theirs, which the others use
TIMES: Final[Mapping[str, int]] = {"twice": 2, "flood": 50}  # its share: the first is enough for it to be short
HEAD_S: Final = 0.4
PACE: Final[Mapping[str, Any]] = {"head_ms": {"median": HEAD_S * 1000, "sigma": 0.2}, "tokens": 5, "token_gap_ms": 0}
NO_WAIT_MS: Final = 10.0  # below which a wait is none
GROWTH_MAX: Final = 1.2
WARM_S: Final = 1.5
USED_MIN: Final = 0.85  # of the capacity: nothing is held back for who does not come
MINUTE_S: Final = 62.0  # and a little more than it: some answers of the last one are on their way


def _keys(*names: str) -> list[dict[str, Any]]:
    """All of one workload."""
    return [{"name": name, "workload": "api", "sha256": digest(key_of(name)).hex(), "models": ["*"]} for name in names]


async def slots(scale: Scale) -> Outcome:
    """`scale.rate`: the capacity. `before_s`: without the fifth key, and with twice its share; `fault_s`: the flood."""
    endpoint = Endpoint(emulator=PACE, deployment={"concurrent": max(1, round(scale.rate * HEAD_S))})
    return await _flooded(scale, endpoint, {"twice": WARM_S, "flood": WARM_S}, errors_max=0.0)


async def quota(scale: Scale) -> Outcome:
    """As `slots`, but short are the tokens of a minute; the first that is short is unlike those that follow.

    Who is beyond its part is turned away at once, so there are no waits to compare.
    """
    each = estimate(orjson.loads(Shot(Traffic("any", "", 1.0), 1, 0.0).wire().partition(b"\r\n\r\n")[2]))
    endpoint = Endpoint(emulator={**PACE, "quota": True}, deployment={"tpm": int(scale.rate * 60 * each)})
    return await _flooded(scale, endpoint, {"flood": MINUTE_S}, errors_max=1.0)


async def _flooded(scale: Scale, endpoint: Endpoint, settle_s: Mapping[str, float], errors_max: float) -> Outcome:
    """`settle_s`: of each that the fifth key does, how long before it is measured what the others notice.

    `errors_max`: of theirs, in percent.
    """
    outcome = Outcome()
    fleet = Fleet(
        {"azure": endpoint},
        workloads={"api": API},
        more={"keys": _keys(FLOOD, *OTHERS), "limits": {"concurrency": "off"}},
    )
    share = scale.rate / (len(OTHERS) + 1)  # of each key
    others = [Traffic(name, key_of(name), USED_SHARE * share) for name in OTHERS]
    does = {name: Traffic(FLOOD, key_of(FLOOD), TIMES[name] * share) for name in settle_s}
    seconds = {"alone": scale.before_s, "twice": scale.before_s, "flood": scale.fault_s}
    begins: dict[str, float] = {}
    async with site(fleet) as running:
        async with Load(running.port, others) as load:
            await asyncio.sleep(WARM_S)
            begins["alone"] = time.monotonic()
            await asyncio.sleep(scale.before_s)
            for name, traffic in does.items():
                async with Load(running.port, [traffic]) as offered:
                    begins[name] = time.monotonic() + settle_s[name]
                    await asyncio.sleep(settle_s[name] + seconds[name])
        await asyncio.sleep(1.0)  # the access log is written in batches
        waited = {record["client_request_id"]: record["queued_ms"] for record in running.records()}
    seen = {name: load.between(begin, begin + seconds[name]) for name, begin in begins.items()}
    floods = offered.between(begins["flood"], begins["flood"] + scale.fault_s)
    answered = sum(one.ok for one in [*floods, *seen["flood"]])
    first_ms = {name: p99_first_ms(shots) for name, shots in seen.items()}
    waited_ms = {name: _p99(waited.get(one.marker, 0.0) for one in shots) for name, shots in seen.items()}
    refused, of = sum(not one.ok for shots in seen.values() for one in shots), sum(map(len, seen.values()))
    outcome.late_ms = max(late_p99_ms(shots) for shots in seen.values())
    growth = first_ms["flood"] / first_ms["alone"]
    outcome.at_most("the others' p99 to first byte, beside the flood ÷ alone", growth, GROWTH_MAX)
    if "twice" in waited_ms:
        growth = waited_ms["flood"] / max(waited_ms["twice"], NO_WAIT_MS)
        outcome.at_most("their p99 wait, beside the flood ÷ beside twice the share", growth, GROWTH_MAX)
    outcome.at_most("errors that the others saw", 100 * refused / of, errors_max, " %")
    outcome.at_least("answers in all beside the flood, ÷ capacity", answered / (scale.rate * scale.fault_s), USED_MIN)
    outcome.figures |= {
        "offered_per_s": {"flood": does["flood"].rate, "each other": others[0].rate},
        "p99_first_ms": first_ms,
        "p50_first_ms": {name: _p50_ms(shots) for name, shots in seen.items()},
        "p99_waited_ms": waited_ms,
        "requests": {name: len(shots) for name, shots in seen.items()},
        "flood": {"requests": len(floods), "served": sum(one.ok for one in floods), "failures": failures(floods)},
        "failures": {name: failures(shots) for name, shots in seen.items()},
        "failures_until_settled": failures(load.between(begins["flood"] - settle_s["flood"], begins["flood"])),
        "left_late_p99_ms": outcome.late_ms,
    }
    return outcome


def _p50_ms(shots: Sequence[Shot]) -> float:
    times = sorted(one.first_s for one in shots if one.ok)
    return percentile(times, 0.5) * 1000 if times else float("inf")


def _p99(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return percentile(ordered, 0.99) if ordered else 0.0


_FIVE_KEYS: Final = (
    "five keys of one weight in one workload: four use four fifths of their shares all the time; the fifth comes "
    "later, with twice its share at first, so that the capacity is short, and then with fifty times; times count from "
    "when a request was due to its first byte, waits are those in the waiting room, of all requests of the four"
)
DRILLS: Final = (
    Drill(
        "fairness-slots",
        f"one deployment that takes so many requests at one time; {_FIVE_KEYS}",
        slots,
        Scale(rate=100, before_s=30, fault_s=30),
        Scale(rate=100, before_s=6, fault_s=8),
    ),
    Drill(
        "fairness-quota",
        "one deployment with a quota of tokens a minute, measured from a minute after the flood began, and without the "
        f"time of twice the share; {_FIVE_KEYS}",
        quota,
        Scale(rate=20, before_s=30, fault_s=120),
        Scale(rate=20, before_s=10, fault_s=60),
    ),
)
