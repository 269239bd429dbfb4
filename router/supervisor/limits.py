"""What all workers may use together, handed out to them as leases."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from math import inf
from time import monotonic
from typing import Final, Protocol, TypeAlias

import msgspec

from router.config.allowances import limits_in
from router.config.snapshot import Snapshot
from router.limits.lease import TICK_S, Ask, Grant
from router.limits.pots import Pots
from router.limits.source import Source
from router.limits.terms import Places, Terms, terms_of
from router.model.limits import UNLIMITED, Limits
from router.proxy.limiting import Supply
from router.telemetry import names
from router.telemetry.reading import Labels, Number, Numbers

BEYOND_S: Final = 0.4  # that a worker's request waits where the supervisor itself may have to ask

Recall: TypeAlias = Callable[[Collection[str], Sequence[str]], Awaitable[None]]


class Fetching(Supply, Protocol):
    """A supply whose sources may be leases themselves."""

    async def fetch(self, limit_ids: Collection[str]) -> None:
        """Returns once each of these leases has been answered."""
        ...


class SharedLimits:
    """Pots are made when a worker first asks for one."""

    def __init__(self, supply: Fetching, recall: Recall) -> None:
        """`recall`: has workers, by name, give back what they hold of limits and do not need."""
        self._supply, self._recall = supply, recall
        self._pots = Pots()
        self._limits: Mapping[str, Mapping[str, Limits]] = {}  # by scope and name
        self._known: dict[str, tuple[Terms, Source]] = {}  # of the pots that there are
        self._recalled: dict[str, float] = {}  # when

    def adopt(self, snapshot: Snapshot) -> None:
        """To be called before any worker follows: what a worker asks for is then known."""
        self._limits = limits_in(snapshot)
        for limit_id, (old, source) in tuple(self._known.items()):
            terms = self._find(limit_id)
            if terms is None:
                del self._known[limit_id]
                self._recalled.pop(limit_id, None)
                self._pots.drop(limit_id)
                self._supply.release(limit_id)
            elif terms != old:
                self._known[limit_id] = terms, source
                self._supply.adapt(limit_id, terms)

    async def lend(self, holder: str, asks: Sequence[Ask]) -> list[Grant]:
        """Answers a worker. A limit that is no more is granted nothing."""
        for ask in asks:
            if ask.limit not in self._known and (terms := self._find(ask.limit)) is not None:
                source = self._supply.source(ask.limit, terms)
                self._known[ask.limit] = terms, source
                self._pots.set(ask.limit, source)
        grants = self._pots.answer(holder, asks, monotonic())
        # Nothing lies here, and what lies above is not known: it is asked for, and they are answered again. Who has got
        # a part may go on with it. What comes may be gone to other workers by then, with more of it above.
        until = monotonic() + BEYOND_S
        while (lacking := _lacking(grants)) and monotonic() < until:
            await self._supply.fetch(lacking)
            grants = self._answer_again(holder, [ask for ask in asks if ask.limit in lacking], grants)
        if idle := self._idle(holder, asks, grants):
            await self._recall({other for others in idle.values() for other in others}, list(idle))
            # No more than is needed: what others gave back is no stock for this one.
            least = [msgspec.structs.replace(ask, wanted=ask.least) for ask in asks if ask.limit in idle]
            grants = self._answer_again(holder, least, grants)
        return grants

    def _answer_again(self, holder: str, asks: Sequence[Ask], grants: Sequence[Grant]) -> list[Grant]:
        """The grants, with others for these asks. What was returned with them is there already."""
        again = [msgspec.structs.replace(ask, returned=0.0) for ask in asks]
        answered = {grant.limit: grant for grant in self._pots.answer(holder, again, monotonic())}
        return [answered.get(grant.limit, grant) for grant in grants]

    def _idle(self, holder: str, asks: Sequence[Ask], grants: Sequence[Grant]) -> dict[str, list[str]]:
        """Limits of which a request would be refused while other workers hold some, and who they are."""
        now, found = monotonic(), {}
        for ask, grant in zip(asks, grants, strict=True):
            if ask.least and not grant.units and 0.0 < grant.wait_s < inf:
                others = self._pots.others(ask.limit, holder)
                # Of a rate that is used up all the time, others hold some at any moment, and need it themselves.
                if others and (self._of_places(ask.limit) or now >= self._recalled.get(ask.limit, 0.0) + TICK_S):
                    self._recalled[ask.limit] = now
                    found[ask.limit] = others
        return found

    def _of_places(self, limit_id: str) -> bool:
        return isinstance(self._known[limit_id][0], Places)

    def forget(self, holder: str) -> None:
        """A worker has ended: what it had unspent is there for the others."""
        self._pots.forget(holder, monotonic())

    def left(self) -> Numbers:
        """How much is left of each limit, from 0 to 1; a place that lies free with a worker counts as taken."""
        now = monotonic()
        left: dict[Labels, Number] = {}
        for limit_id, (terms, source) in self._known.items():
            there = source.left(now)
            if not isinstance(terms, Places):
                there += self._pots.outstanding(limit_id)
            left[parts_of(limit_id)] = min(1.0, max(0.0, there / terms.full))
        return {names.LIMIT_LEFT.name: left}

    def _find(self, limit_id: str) -> Terms | None:
        scope, name, limit = parts_of(limit_id)
        return terms_of(self._limits[scope].get(name, UNLIMITED)).get(limit)


def _lacking(grants: Iterable[Grant]) -> set[str]:
    """Limits of which nothing was granted that a superior may have."""
    return {grant.limit for grant in grants if grant.wait_s < 0.0 and not grant.units}


def parts_of(limit_id: str) -> tuple[str, str, str]:
    """Scope, name (a model's may have strokes) and limit."""
    scope, _, rest = limit_id.partition("/")
    name, _, limit = rest.rpartition("/")
    return scope, name, limit
