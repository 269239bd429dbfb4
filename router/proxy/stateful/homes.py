"""Where what clients store lives: known here for what passed through this process, else asked of the ledger.

An id belongs to the key that it was told to. For all other keys it does not exist.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

from router.base.clock import Clock
from router.base.errors import InvalidRequestError, NotFoundError, RefusedError, RouterError
from router.model.keys import ApiKey
from router.model.stored import Home, HomePage, OwnHomes
from router.proxy.replies import retry_after
from router.proxy.stateful.paths import is_id
from router.transport.channel import NO_ANSWER
from router.transport.fiber import Fiber

KNOWN_MAX: Final = 20_000  # homes in memory, some 300 bytes each
ANSWER_S: Final = 10.0
AT_ONCE: Final = 256  # questions under way
AGAIN_S: Final = 1.0
NAMED_MAX: Final = 1000  # ids of one request: beyond, a store would take no question of so many
_SHOWN_MAX: Final = 256  # bytes of what stands in an id's place

FindHomes: TypeAlias = Callable[[str, list[str]], Coroutine[Any, Any, list[Home]]]
"""A key's name, and ids. Raises what `transport.channel.NO_ANSWER` names, as the next."""
PageHomes: TypeAlias = Callable[[OwnHomes], Coroutine[Any, Any, HomePage]]

T = TypeVar("T")


class Homes:
    """Of one process. What it binds is kept by `keep` before any byte that is written from then on leaves."""

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop, self._clock = loop, clock
        self._known: OrderedDict[tuple[str, str], Home] = OrderedDict()
        self._asking = 0
        self.keep: Callable[[Home], None] = _forget
        self.find_homes: FindHomes | None = None  # None: nothing is kept
        self.page_homes: PageHomes | None = None

    def bind(self, key: ApiKey, name: str, kind: str, endpoint: str) -> None:
        """An id that the key is about to be told."""
        known = self._known.get((key.name, name))
        if known is None or known.endpoint != endpoint:
            home = Home(key.name, name, kind, endpoint, key.workload, self._clock.wall())
            self.keep(home)
            self._remember(home)

    def unbind(self, key: ApiKey, name: str, kind: str) -> None:
        """An id that stands for nothing any more."""
        self._known.pop((key.name, name), None)
        self.keep(Home(key.name, name, kind, "", key.workload, self._clock.wall()))

    async def find(self, fiber: Fiber, key: ApiKey, named: Mapping[str, str]) -> str:
        """The endpoint that has all that a request names. `named`: ids, and the fields that they stand in.

        Raises NotFoundError where one is not the key's own, InvalidRequestError where they are too many or not at one
        endpoint, RefusedError where nobody can tell now, ClientGoneError.
        """
        if len(named) > NAMED_MAX:
            raise InvalidRequestError(
                f"A request may name {NAMED_MAX} stored things at the most.", code="too_many_ids", param="id"
            )
        for name, param in named.items():
            if not is_id(name):
                raise _not_found(name, param)
        found = {name: home for name in named if (home := self._known.get((key.name, name))) is not None}
        if missing := [name for name in named if name not in found]:
            assert self.find_homes is not None
            for home in await self._answer(fiber, self.find_homes(key.name, missing)):
                self._remember(home)
                found[home.id] = home
        for name, param in named.items():
            if name not in found:
                raise _not_found(name, param)
        endpoints = {home.endpoint for home in found.values()}
        if len(endpoints) > 1:
            raise InvalidRequestError(
                "What the request names is stored at different places, and cannot be used together. Store it again, in "
                "one go.",
                code="different_homes",
            )
        return endpoints.pop()

    async def page(self, fiber: Fiber, asked: OwnHomes) -> HomePage:
        """Raises RefusedError where nobody can tell now, ClientGoneError."""
        assert self.page_homes is not None
        page = await self._answer(fiber, self.page_homes(asked))
        for home in page.homes:
            self._remember(home)
        return page

    async def _answer(self, fiber: Fiber, question: Coroutine[Any, Any, T]) -> T:
        """On behalf of a request, which is no task and cannot wait for one by itself."""
        if self._asking >= AT_ONCE:
            question.close()
            raise _unknown()
        self._asking += 1
        asking = self._loop.create_task(question)
        asking.add_done_callback(lambda _: fiber.wake())
        until = monotonic() + ANSWER_S
        try:
            while not asking.done():
                await fiber.park(until, _unknown)
            return asking.result()
        except NO_ANSWER:
            raise _unknown() from None
        finally:
            asking.cancel()
            self._asking -= 1

    def _remember(self, home: Home) -> None:
        name = home.key, home.id
        self._known[name] = home
        self._known.move_to_end(name)
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)


def _forget(home: Home) -> None: ...


def _not_found(name: str, param: str) -> NotFoundError:
    shown = name.encode("ascii", "backslashreplace")[:_SHOWN_MAX].decode()
    return NotFoundError(f"There is no `{shown}`.", code="not_found", param=param)


def _unknown() -> RouterError:
    return RefusedError(
        "The router cannot tell at the moment where that is stored. Retry after the wait.",
        code="home_unknown",
        headers=retry_after(AGAIN_S),
    )
