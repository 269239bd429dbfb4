"""The console's picture: what flows where, how deployments are judged, what happened last.

Rates are differences between readings. Each look leaves its reading behind for half a minute, and is compared with an
older one: so all who look see the same, however many they are, and while nobody does no work is done at all.
"""

from collections import Counter, deque
from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial
from heapq import nsmallest
from operator import attrgetter
from typing import Final

import msgspec
from msgspec.structs import replace

from router.admin.picture import (
    Brief,
    Deployment,
    Flow,
    LedgerNow,
    LimitNow,
    Picture,
    Placing,
    Proof,
    Refusal,
    Scene,
    Spread,
    Stand,
    Standing,
    WorkerNow,
    Workload,
)
from router.admin.rates import Rates, Spreads
from router.admin.scene import BRIEFS
from router.model.decision import ACCEPTED
from router.telemetry import names
from router.telemetry.metrics import NO_CLOUD
from router.telemetry.names import Metric
from router.telemetry.reading import Labels, Number, Reading

RATE_S: Final = 5.0  # what rates are of
SPREAD_S: Final = 30.0  # what percentiles are of: they need more requests than a rate does
STEP_S: Final = 0.9  # readings are kept at least so far apart: who looks each second leaves one each time
SPARSE_S: Final = 5.0  # and those that are of no use for a rate any more so far, since a large fleet's take megabytes
OLD_S: Final = 60.0  # older ones are compared with no more: that would tell of another time

# Where processes judge a deployment differently, the gravest word is shown. One that it has no traffic from knows
# least.
_GRAVITY: Final = ("unknown", "up", "degraded", "probing", "throttled", "ejected", "draining")

LOW: Final = 0.1  # of a limit is left: it is near its end
LIMITS: Final = 50  # of those that are shown, the worst

_COUNTED: Final = (
    *(names.REQUESTS, names.TOKENS, names.COST, names.ATTEMPTS, names.OFFERS),
    names.LIMIT_REFUSALS,
)
_TIMED: Final = (names.FIRST_BYTE, names.ATTEMPT_FIRST_BYTE)

NOTHING: Final = Scene("", decision_log=False, signed=False, workloads=[], deployments=[], recent=[], notable=[])
"""Where no process answers, and none ever did."""

NO_WORKER: Final = "no_worker"


class Live:
    """The looks of the last half minute. One for each control plane."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, Reading]] = deque()

    def picture(self, reading: Reading, scenes: Sequence[Scene], now: float, wall: float) -> dict[str, object]:
        """The picture, as JSON values. `scenes`: of each process that answers. `now`: monotonic seconds."""
        while self._looks and (now - self._looks[0][0] > OLD_S or self._second_is_older(now)):
            self._looks.popleft()
        lately, longer = self._before(now, RATE_S), self._before(now, SPREAD_S)
        if not self._looks or now - self._looks[-1][0] >= STEP_S:
            self._looks.append((now, _compared(reading)))
            self._thin_out(now)
        rates = Rates(reading, lately[1], now - lately[0]) if lately is not None else None
        spreads = Spreads(reading, longer[1] if longer is not None else reading)
        whole = _Painter(reading, rates, spreads).picture(scenes, wall)
        plain: dict[str, object] = msgspec.to_builtins(whole)
        return plain

    def _before(self, now: float, seconds: float) -> tuple[float, Reading] | None:
        """The look that a difference over about `seconds` begins at: the oldest of them, or the last before them."""
        looks = [look for look in self._looks if now - look[0] >= STEP_S]
        return next((look for look in looks if now - look[0] <= seconds), looks[-1] if looks else None)

    def _thin_out(self, now: float) -> None:
        kept: deque[tuple[float, Reading]] = deque()
        for look in self._looks:
            if not kept or now - look[0] <= RATE_S or look[0] - kept[-1][0] >= SPARSE_S:
                kept.append(look)
        self._looks = kept

    def _second_is_older(self, now: float) -> bool:
        return len(self._looks) > 1 and now - self._looks[1][0] > SPREAD_S


class _Painter:
    """One picture in the making. `rates` None: there is nothing to compare with."""

    def __init__(self, reading: Reading, rates: Rates | None, spreads: Spreads) -> None:
        self._numbers, self._rates, self._spreads = reading.numbers, rates or Rates(reading, reading, 1.0), spreads
        self._over_s = rates.over_s if rates is not None else None

    def picture(self, scenes: Sequence[Scene], wall: float) -> Picture:
        first = next(iter(scenes), NOTHING)
        known = {placing.name for placing in first.workloads}
        finished = self._rates.by(names.REQUESTS, "workload")
        flows = self._rates.by(names.REQUESTS, "workload", "cloud")
        return Picture(
            at=wall,
            over_s=self._over_s,
            config_version=first.config_version,
            draining=bool(self._number(names.DRAINING)),
            client_connections=int(self._number(names.CLIENT_CONNECTIONS)),
            proof=self._proof(scenes),
            workers=self._workers(),
            workloads=self._workloads(first.workloads),
            strangers=sum(rate for (name,), rate in finished.items() if name not in known),
            flows=[Flow(workload, cloud, rate) for (workload, cloud), rate in flows.items() if cloud != NO_CLOUD],
            deployments=self._deployments(scenes),
            refusals=self._refusals(),
            limits=self._limits(),
            ledger=self._ledger(),
            waiting={model: int(count) for (model,), count in self._series(names.WAITING).items() if count},
            first_byte=self._spreads.by(names.FIRST_BYTE, wanted=partial(_served, known)).get((), Spread()),
            recent=_newest(scene.recent for scene in scenes),
            notable=_newest(scene.notable for scene in scenes),
        )

    def _workloads(self, placings: Sequence[Placing]) -> list[Workload]:
        workloads = {placing.name for placing in placings}
        outcomes = _nested(self._rates.by(names.REQUESTS, "workload", "outcome"))
        spreads = self._spreads.by(names.FIRST_BYTE, "workload", wanted=partial(_served, workloads))
        tokens = self._rates.by(names.TOKENS, "workload", "kind")
        cost = self._rates.by(names.COST, "workload")
        return [
            Workload(
                placing=placing,
                in_flight=int(self._number(names.REQUESTS_IN_FLIGHT, name)),
                outcomes=outcomes.get(name, {}),
                first_byte=spreads.get((name,), Spread()),
                prompt_tokens=tokens.get((name, "prompt"), 0.0),
                completion_tokens=tokens.get((name, "completion"), 0.0),
                usd_per_h=cost.get((name,), 0.0) * 3600,
                retries_left=self._number(names.RETRY_BUDGET, name),
            )
            for placing in placings
            for name in (placing.name,)
        ]

    def _deployments(self, scenes: Sequence[Scene]) -> list[Deployment]:
        attempts = _nested(self._rates.by(names.ATTEMPTS, "deployment", "outcome"))
        spreads = self._spreads.by(names.ATTEMPT_FIRST_BYTE, "deployment")
        quotas = _nested(self._series(names.QUOTA_LEFT))
        stands: dict[str, list[Stand]] = {}
        for scene in scenes:
            for stand in scene.deployments:
                stands.setdefault(stand.id, []).append(stand)
        return [
            Deployment(
                stand=max(same, key=_gravity),
                states=dict(Counter(stand.standing.state for stand in same)),
                in_flight=int(self._number(names.ATTEMPTS_IN_FLIGHT, name)),
                in_flight_max=int(self._number(names.IN_FLIGHT_MAX, name)),
                idle=int(self._number(names.UPSTREAM_CONNECTIONS, name, "idle")),
                outcomes=attempts.get(name, {}),
                first_byte=spreads.get((name,), Spread()),
                quota_left=quotas.get(name, {}),
            )
            for name, same in stands.items()
        ]

    def _refusals(self) -> list[Refusal]:
        rates = self._rates.by(names.OFFERS, "workload", "cloud", "outcome")
        found = [
            Refusal(workload, cloud, reason, rates.get((workload, cloud, reason), 0.0), int(total))
            for (workload, cloud, reason), total in self._series(names.OFFERS).items()
            if reason != ACCEPTED
        ]
        return sorted(found, key=lambda each: (-each.rate, -each.total))

    def _limits(self) -> list[LimitNow]:
        left, shadowed = self._series(names.LIMIT_LEFT), self._series(names.LIMIT_SHADOWED)
        refused = self._series(names.LIMIT_REFUSALS)
        rates = self._rates.by(names.LIMIT_REFUSALS, *names.LIMIT_REFUSALS.labels)
        told = {which for which, ratio in left.items() if ratio < LOW}
        told |= {which for series in (refused, shadowed) for which, total in series.items() if total}
        found = [
            LimitNow(
                *(scope, name, limit, left.get((scope, name, limit))),
                refused=rates.get((scope, name, limit), 0.0),
                total=int(refused.get((scope, name, limit), 0)),
                shadowed=int(shadowed.get((scope, name, limit), 0)),
            )
            for scope, name, limit in told
        ]
        return nsmallest(LIMITS, found, key=lambda each: (-each.refused, each.left or 0.0, -each.total, each.name))

    def _ledger(self) -> LedgerNow | None:
        if names.LEDGER_UP.name not in self._numbers:
            return None
        return LedgerNow(
            up=bool(self._number(names.LEDGER_UP)),
            lag_s=self._number(names.LEDGER_LAG),
            waiting_bytes=int(self._number(names.LEDGER_WAITING)),
            held_bytes=int(self._number(names.LEDGER_HELD)),
            dropped=int(self._number(names.LEDGER_DROPPED)),
            cost_today_usd=self._number(names.LEDGER_COST_TODAY),
        )

    def _workers(self) -> list[WorkerNow]:
        lags = self._series(names.EVENT_LOOP_LAG)
        restarts = self._series(names.WORKER_RESTARTS)
        return [
            WorkerNow(labels[0], bool(up), int(restarts.get(labels, 0)), lags.get(labels, 0.0) * 1000)
            for labels, up in sorted(self._series(names.WORKER_UP).items())
        ]

    def _proof(self, scenes: Sequence[Scene]) -> Proof:
        return Proof(
            placement_violations=int(self._number(names.PLACEMENT_VIOLATIONS)),
            decision_log=bool(scenes) and all(scene.decision_log for scene in scenes),
            signed=bool(scenes) and all(scene.signed for scene in scenes),
            records=int(self._number(names.DECISIONS)),
            dropped=int(self._number(names.DECISIONS_DROPPED)),
            anchor_failures=int(self._number(names.ANCHOR_FAILURES)),
            access_log_dropped=int(self._number(names.ACCESS_LOG_DROPPED)),
        )

    def _series(self, metric: Metric) -> dict[Labels, Number]:
        return self._numbers.get(metric.name, {})

    def _number(self, metric: Metric, *labels: str) -> Number:
        return self._series(metric).get(labels, 0)


def unjudged(scene: Scene) -> Scene:
    """A scene of the past as it may be shown while no process answers: a verdict of then must not look like one of now.

    Nothing is sent anywhere.
    """
    unknown = Standing("unknown", NO_WORKER, None)
    stands = [replace(stand, standing=unknown, refusal=NO_WORKER) for stand in scene.deployments]
    return replace(scene, deployments=stands)


def _compared(reading: Reading) -> Reading:
    """What of a reading later ones are compared with."""
    return Reading(
        {metric.name: reading.numbers[metric.name] for metric in _COUNTED if metric.name in reading.numbers},
        {metric.name: reading.histograms[metric.name] for metric in _TIMED if metric.name in reading.histograms},
    )


def _served(workloads: Container[str], labels: Labels) -> bool:
    """Whether a cloud answered: how fast the router itself refuses says nothing of waiting."""
    workload, cloud = labels
    return workload in workloads and cloud != NO_CLOUD


def _nested(series: Mapping[Labels, Number]) -> dict[str, dict[str, float]]:
    """Of two labels: by the values of the first, then of the second."""
    found: dict[str, dict[str, float]] = {}
    for (first, second), value in series.items():
        found.setdefault(first, {})[second] = value
    return found


def _gravity(stand: Stand) -> tuple[int, float]:
    return _GRAVITY.index(stand.standing.state), stand.standing.for_s or 0.0


def _newest(lists: Iterable[Sequence[Brief]]) -> list[Brief]:
    whole = [brief for briefs in lists for brief in briefs]
    return sorted(whole, key=attrgetter("at"), reverse=True)[:BRIEFS]
