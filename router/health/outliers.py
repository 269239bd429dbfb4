"""Outlier ejection: finds the deployments that are worse than their peers, and takes no more out than may go.

One sweep looks at all tiers of all plans. It compares; what fails by itself has its breaker (`health`).
"""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf
from statistics import fmean, pstdev
from typing import Final, Protocol

from router.health.health import Health
from router.health.settings import HealthSettings

SLOWER_S_MIN: Final = 0.05  # by less than this nobody is slow, whatever the factor
LOOKS_MIN: Final = 5  # that saw answers and too slow an average, in a row: a few long prompts are no slow deployment
WAITING_MIN: Final = 3  # attempts that wait in silence
DEVIATIONS: Final = 1.9  # Envoy's success rate: mean − 1.9 standard deviations
FAILS_MOST: Final = 1e9  # failing is worse than the slowest
PEERS_MIN: Final = 3  # fewer have no deviation worth the name


class Sample(Protocol):
    """A deployment at the moment of a sweep.

    The three measures must speak of the same kind of attempts (streams, say): a whole answer's first byte comes when it
    is finished.
    """

    @property
    def id(self) -> str: ...

    @property
    def health(self) -> Health: ...

    @property
    def first_byte_s(self) -> float:
        """A moving average; 0: unknown."""
        ...

    @property
    def oldest_wait_s(self) -> float:
        """The age of the oldest attempt that has no first byte yet; 0: there is none."""
        ...

    @property
    def waiting(self) -> int:
        """How many such attempts there are."""
        ...


Groups = Sequence[Sequence[Sample]]


def sweep(groups: Groups, settings: HealthSettings, now: float) -> list[tuple[str, str]]:
    """Decides trials and ejects outliers; returns the ids of the ejected with `slow` or `success_rate`.

    `groups`: the tiers of all plans. A deployment may be in several, and goes only where each of them can spare it. To
    be called every 250 ms or so.
    """
    tiers = [_Tier(group, settings) for group in groups]
    homes: dict[str, list[_Tier]] = {}
    members: dict[str, Sample] = {}
    for tier in tiers:
        for sample in tier.members:
            homes.setdefault(sample.id, []).append(tier)
            members[sample.id] = sample
    answered = {sample.id for sample in members.values() if _looked_at(sample, now)}
    for tier in tiers:
        tier.take_back(now)
        tier.survey()
    ejected = []
    suspects = []
    for sample in members.values():
        health, mine = sample.health, homes[sample.id]
        if health.on_trial:
            if _trial_lost(sample, mine, now):
                ejected.append((sample.id, "slow"))
        elif not health.out and (found := _suspicion(sample, mine, now, answered=sample.id in answered)):
            suspects.append((found, sample))
    # The worst first: there may not be room for all.
    for (_severity, reason), sample in sorted(suspects, key=lambda suspect: suspect[0], reverse=True):
        if all(tier.spares_one for tier in homes[sample.id]):
            sample.health.eject(reason, now)
            ejected.append((sample.id, reason))
    return ejected


def spares_one(members: Sequence[Health], settings: HealthSettings) -> bool:
    """Whether one more of a tier may go because its peers are better."""
    return sum(health.out for health in members) < _out_max(len(members), settings)


def _out_max(members: int, settings: HealthSettings) -> int:
    return min(int(settings.ejected_share_max * members), members - 1)


class _Tier:
    """One group during one sweep: what its members in service measure, sorted, and how many may be out."""

    def __init__(self, members: Sequence[Sample], settings: HealthSettings) -> None:
        self.members = members
        self._settings = settings
        self._out_max = _out_max(len(members), settings)
        self._first_bytes: list[float] = []
        self._waits: list[float] = []
        self._rates: dict[str, float] = {}

    @property
    def spares_one(self) -> bool:
        """One more may go: counted now, since the sweep itself takes some out."""
        return sum(sample.health.out for sample in self.members) < self._out_max

    def take_back(self, now: float) -> None:
        """Returns ejected ones, those that are out for the shortest time first, while more are out than may be."""
        out = [sample.health for sample in self.members if sample.health.out]
        ejected = sorted((health for health in out if health.ejected), key=lambda health: health.until)
        for health in ejected[: max(0, len(out) - self._out_max)]:
            health.release(now)

    def survey(self) -> None:
        """Measures those in service, whom each is compared with."""
        serving = [sample for sample in self.members if not sample.health.out]
        self._first_bytes = sorted(sample.first_byte_s for sample in serving if sample.first_byte_s > 0)
        self._waits = sorted(sample.oldest_wait_s for sample in serving)
        requests_min = self._settings.success_rate_requests
        windows = ((sample.id, sample.health.window) for sample in serving)
        self._rates = {name: window.rate for name, window in windows if window.requests >= requests_min}

    def slow_over_s(self, sample: Sample) -> float:
        """A first byte that takes longer is too slow; infinite where there is nothing to compare with."""
        if (usual := _median_of_others(self._first_bytes, sample.first_byte_s)) is None:
            return inf
        return max(usual * self._settings.slow_factor, usual + SLOWER_S_MIN)

    def silent_over_s(self, sample: Sample) -> float:
        """A wait for the first byte that is longer is too long. Peers that keep some waiting as long excuse it."""
        usual = _median_of_others(self._waits, sample.oldest_wait_s) or 0.0
        return max(self.slow_over_s(sample), usual * self._settings.slow_factor)

    def unsuccessful(self, sample: Sample) -> bool:
        """Below the floor, and clearly below its peers: where all fail alike, ejection helps nobody."""
        floor = self._settings.success_rate_min
        rate = self._rates.get(sample.id)
        if rate is None or rate >= floor:
            return False
        others = [other for name, other in self._rates.items() if name != sample.id]
        if not any(other >= floor for other in others):
            return False
        return len(others) < PEERS_MIN or rate < fmean(others) - DEVIATIONS * pstdev(others)


def _looked_at(sample: Sample, now: float) -> bool:
    """Lets time pass for one deployment; returns whether it has answered since the last sweep."""
    sample.health.tick(now)
    return sample.health.pace.look(sample.first_byte_s, now)


def _trial_lost(sample: Sample, tiers: list[_Tier], now: float) -> bool:
    """Judges the probe of one that was slow, as soon as its first byte is here or overdue."""
    health = sample.health
    if health.trial_ended or health.pace.changed_at > health.since:
        if all(sample.first_byte_s <= tier.slow_over_s(sample) for tier in tiers):
            health.recover(now)
            return False
    # What waits for longer than the trial lasts was sent before it.
    elif not 0.0 < sample.oldest_wait_s <= now - health.since or all(
        sample.oldest_wait_s <= tier.silent_over_s(sample) for tier in tiers
    ):
        return False
    health.eject("slow", now)
    return True


def _suspicion(sample: Sample, tiers: list[_Tier], now: float, *, answered: bool) -> tuple[float, str] | None:
    """Returns how urgently one in service should go, and why."""
    health = sample.health
    if any(tier.unsuccessful(sample) for tier in tiers):
        return FAILS_MOST - health.window.rate, "success_rate"
    excess = max(sample.first_byte_s / tier.slow_over_s(sample) for tier in tiers)
    if answered:
        health.pace.over = health.pace.over + 1 if excess > 1.0 else 0
    if excess > 1.0 and health.pace.over >= LOOKS_MIN:
        return excess, "slow"
    # A region that has just become slow is silent before its first slow answer comes.
    silent_s = min(sample.oldest_wait_s, now - health.pace.changed_at)
    overdue = max(silent_s / tier.silent_over_s(sample) for tier in tiers)
    return (overdue, "slow") if sample.waiting >= WAITING_MIN and overdue > 1.0 else None


def _median_of_others(values: list[float], own: float) -> float | None:
    """The median of sorted `values` without one that equals `own`, where there is one; None where nothing is left."""
    at = bisect_left(values, own)
    others = len(values)
    if at < others and values[at] == own:
        others -= 1
    else:
        at = others
    if not others:
        return None
    low, high = (others - 1) // 2, others // 2
    return (values[low + (low >= at)] + values[high + (high >= at)]) / 2
