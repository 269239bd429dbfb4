"""The quota twin, measured: the same load at the same time with it and without it, on clouds that count otherwise.

Each model has an Azure deployment whose quota is 80 % of the model's load, and one more in a region without a limit,
a tier later. The clouds differ from what a router would assume: by their token estimate, by a client that it does
not see, by limits that are lowered for a while, by headers that are missing or say -1.
"""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from loadtests.drills.fleet import CREDENTIAL, Endpoint, Fleet, key_of
from loadtests.drills.load import Load, Shot, Traffic
from loadtests.drills.outcome import Drill, Outcome, Scale, failures, late_p99_ms
from loadtests.drills.site import Site, site
from router.emulator.quota import estimate

QUOTA_SHARE: Final = 0.8  # of the offered load
THROTTLED_SHARE: Final = 0.2
USED_SHARE: Final = 0.9
UNSEEN_SHARE: Final = 0.2  # of the quota, taken by somebody else
LOWERED: Final = 0.6
FREE: Final = "free"
AZURE_PATH: Final = "/openai/v1/chat/completions"
# What one fault of the quota costs is what is in flight when it runs out: a slow head shows it.
PACE: Final[Mapping[str, Any]] = {"head_ms": 300, "tokens": 2, "quota": True}
TOKENS: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    "counts_less": {"quota_estimate": 0.75},
    "counts_more": {"quota_estimate": 1.25},
    "unseen_client": {},
    "lowered": {},
    "headers_missing": {"quota_headers": "missing"},
    "headers_untracked": {"quota_headers": "untracked"},
}
CALLS: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {},
    "unseen_client": {},
    "lowered": {},
    "headers_missing": {"quota_headers": "missing"},
}


def _names(unit: str, cases: Mapping[str, object]) -> list[str]:
    return [f"{unit}_{case}" for case in cases]


def _fleet(names: Sequence[str], rate: float, *, twin: bool) -> Fleet:
    """`rate`: of each model."""
    each = estimate(orjson.loads(Shot(_traffic("any", rate), 0, 0.0).wire().partition(b"\r\n\r\n")[2]))
    endpoints: dict[str, Endpoint | Sequence[Endpoint]] = {}
    for name in names:
        unit, _, case = name.partition("_")
        differs = (TOKENS if unit == "tpm" else CALLS)[case]
        units = each * differs.get("quota_estimate", 1.0) if unit == "tpm" else 1.0  # as the cloud counts
        limit = {unit: int(QUOTA_SHARE * rate * 60 * units)}
        endpoints[name] = Endpoint(model=name, emulator={**PACE, **differs}, deployment=limit)
    endpoints[FREE] = [Endpoint(model=name, tier=1, emulator={**PACE, "quota": False}) for name in names]
    return Fleet(endpoints, more={"limits": {"quota_twin": twin}}, groups=[[*names, FREE]])


def _traffic(model: str, rate: float) -> Traffic:
    return Traffic(model, key_of("api"), rate, model=model, stream_every=0)


async def quota(scale: Scale, units: Sequence[str] = ("tpm", "rpm")) -> Outcome:
    outcome = Outcome()
    names = [name for unit in units for name in _names(unit, TOKENS if unit == "tpm" else CALLS)]
    rate = scale.rate / len(names)
    with_twin, without = await asyncio.gather(*(_run(names, rate, scale.fault_s, twin=twin) for twin in (True, False)))
    for unit in units:
        of_unit = [name for name in names if name.startswith(unit)]
        throttled, otherwise = (sum(run[name]["throttled"] for name in of_unit) for run in (with_twin, without))
        used, possible = (sum(run[name]["served"] for name in of_unit) for run in (with_twin, without))
        what = {"tpm": "tokens a minute", "rpm": "requests a minute"}[unit]
        outcome.at_most(f"{what}: 429s, ÷ those without the twin", throttled / max(1, otherwise), THROTTLED_SHARE)
        outcome.at_least(f"{what}: served within the quota, ÷ without the twin", used / max(1, possible), USED_SHARE)
    errors = sum(run[name]["errors"] for run in (with_twin, without) for name in names)
    outcome.none("errors that clients saw", errors)
    outcome.figures |= {name: {"with": with_twin[name], "without": without[name]} for name in names}
    return outcome


async def _run(names: Sequence[str], rate: float, seconds: float, *, twin: bool) -> dict[str, dict[str, Any]]:
    async with site(_fleet(names, rate, twin=twin)) as running:
        async with Load(running.port, [_traffic(name, rate) for name in names]) as load:
            unseen = asyncio.create_task(_unseen(running, names, rate, seconds))
            lowered = asyncio.create_task(_lower(running, names, seconds))
            await asyncio.sleep(seconds)
        await asyncio.gather(unseen, lowered)
        return {name: _figures(running, name, load) for name in names}


def _figures(running: Site, name: str, load: Load) -> dict[str, Any]:
    mine = [one for one in running.journal(name) if one.traffic == name]
    shots = [one for one in load.shots if one.traffic.name == name]
    return {
        "requests": len(shots),
        "throttled": sum(one.status == 429 for one in mine),
        "served": sum(one.status == 200 for one in mine),
        "errors": sum(not one.ok for one in shots),
        "failures": failures(shots),
        "left_late_p99_ms": late_p99_ms(shots),
    }


async def _unseen(running: Site, names: Sequence[str], rate: float, seconds: float) -> None:
    """Somebody else on the same quota, past the router."""
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            if name.endswith("unseen_client"):
                taken = UNSEEN_SHARE * QUOTA_SHARE * rate
                client = Traffic("unseen", CREDENTIAL, taken, name, 0, azure_key=True, path=AZURE_PATH)
                await stack.enter_async_context(Load(running.ports[name], [client]))
        await asyncio.sleep(seconds)


async def _lower(running: Site, names: Sequence[str], seconds: float) -> None:
    """For the middle third of the time."""
    wanted = [name for name in names if name.endswith("lowered")]
    for share in (1.0, LOWERED, 1.0):
        for name in wanted:
            await running.lower_quota(name, share)
        await asyncio.sleep(seconds / 3)


DRILLS: Final = (
    Drill(
        "quota",
        "two routers beside each other, one with `quota_twin: false`, each with clouds and clients of its own, at the "
        "same time: eleven models, seven bound by tokens and four by requests a minute, on clouds that differ from "
        "what a router would assume; 429s are those that the limited clouds gave to the router's requests",
        quota,
        Scale(rate=110, before_s=0, fault_s=180),
        Scale(rate=110, before_s=0, fault_s=75),
    ),
)
