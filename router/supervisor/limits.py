"""What all workers may use together, handed out to them as leases."""

from collections.abc import Collection, Mapping, Sequence
from time import monotonic
from typing import Protocol

import msgspec

from router.config.allowances import limits_in
from router.config.snapshot import Snapshot
from router.limits.lease import Ask, Grant
from router.limits.pots import Pots
from router.limits.terms import Terms, terms_of
from router.model.limits import UNLIMITED, Limits
from router.proxy.limiting import Supply


class Fetching(Supply, Protocol):
    """A supply whose sources may be leases themselves."""

    async def fetch(self, limit_ids: Collection[str]) -> None:
        """Returns once each of these leases has been answered."""
        ...


class SharedLimits:
    """Pots are made when a worker first asks for one."""

    def __init__(self, supply: Fetching) -> None:
        self._supply = supply
        self._pots = Pots()
        self._limits: Mapping[str, Mapping[str, Limits]] = {}  # by scope and name
        self._terms: dict[str, Terms] = {}  # of the pots that there are

    def adopt(self, snapshot: Snapshot) -> None:
        """To be called before any worker follows: what a worker asks for is then known."""
        self._limits = limits_in(snapshot)
        for limit_id, old in tuple(self._terms.items()):
            terms = self._find(limit_id)
            if terms is None:
                del self._terms[limit_id]
                self._pots.drop(limit_id)
                self._supply.release(limit_id)
            elif terms != old:
                self._terms[limit_id] = terms
                self._supply.adapt(limit_id, terms)

    async def lend(self, holder: str, asks: Sequence[Ask]) -> list[Grant]:
        """Answers a worker. A limit that is no more is granted nothing."""
        for ask in asks:
            if ask.limit not in self._terms and (terms := self._find(ask.limit)) is not None:
                self._terms[ask.limit] = terms
                self._pots.set(ask.limit, self._supply.source(ask.limit, terms))
        grants = self._pots.answer(holder, asks, monotonic())
        if all(grant.wait_s >= 0.0 for grant in grants):
            return grants
        # What lies here is not enough, and what lies above is not known: it is asked for, and they are answered again.
        lacking = {grant.limit for grant in grants if grant.wait_s < 0.0}
        await self._supply.fetch(lacking)
        again = [msgspec.structs.replace(ask, returned=0.0) for ask in asks if ask.limit in lacking]
        answered = {grant.limit: grant for grant in self._pots.answer(holder, again, monotonic())}
        return [answered.get(grant.limit, grant) for grant in grants]

    def forget(self, holder: str) -> None:
        """A worker has ended: what it had unspent is there for the others."""
        self._pots.forget(holder, monotonic())

    def _find(self, limit_id: str) -> Terms | None:
        scope, _, rest = limit_id.partition("/")
        name, _, limit = rest.rpartition("/")
        return terms_of(self._limits[scope].get(name, UNLIMITED)).get(limit)
