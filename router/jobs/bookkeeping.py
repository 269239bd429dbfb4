"""Keeps the ledger's bookkeeper running, a process of its own: what it imports, waits for and dies of is not ours.

While it is away segments are kept, and nobody who is served notices.
"""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, TypeVar

import msgspec

from router.config.snapshot import Snapshot
from router.ledger.settings import LedgerSettings
from router.ledger.state import LedgerState, Order
from router.model.fleet import Price
from router.model.keys import StoredKey
from router.model.stored import Home, HomePage, OwnHomes
from router.telemetry import names
from router.telemetry.reading import Numbers
from router.transport.channel import NO_ANSWER, Channel, ClosedError, Verb

SPENT_S: Final = 10.0
USAGE_S: Final = 10.0
HOMES_S: Final = 9.0
FINISH_S: Final = 5.0
END_S: Final = 2.0  # then it is killed; what it was writing is rolled back
SILENT_S: Final = 10.0  # it tells each second, where it gets any of the processors
FIRST_WAIT_S: Final = 0.5
HEALTHY_S: Final = 60.0  # who lived so long was not ended by what ended the one before
LONGEST_WAIT_S: Final = 30.0
_PROGRAM: Final = "router.ledger.bookkeeper"
# Of our environment: the clouds' secrets are in it, and none of them is the database's business.
_NEEDED: Final = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|LD_\w+|PYTHON\w*|VIRTUAL_ENV|SYSTEMROOT|SSL_CERT_\w+|PG\w+|COVERAGE\w*"
)
_NANO: Final = 1_000_000_000
_SILENT: Final = "the bookkeeper says nothing"
_AWAY: Final = "the bookkeeper is not running"

T = TypeVar("T")


class Bookkeeping:
    """The job of one process, whichever all writers of the ledger belong to. `on_keys` is told of the store's keys."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: LedgerSettings, event: Callable[..., None]) -> None:
        self.event = event
        self.on_keys: Callable[[list[StoredKey]], None] = _nobody
        self._loop = loop
        self._order = Order(settings.folder, settings.url, settings.retain_days)
        self._prices: list[Price] = []
        self._state, self._heard_at = LedgerState(trouble=_AWAY), monotonic()
        self._stored_before = 0  # by those that have ended
        self._channel: Channel | None = None
        self._deputy: Channel | None = None  # of another router
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def state(self) -> LedgerState:
        """As it was told last; while nothing is told the lag goes on, and it is not up for long."""
        state, silent_s = self._state, monotonic() - self._heard_at
        told = {"up": False, "trouble": _SILENT} if state.up and silent_s > SILENT_S else {}
        stored, lag_s = self._stored_before + state.stored, state.lag_s + silent_s
        return msgspec.structs.replace(state, stored=stored, lag_s=lag_s, **told)

    def numbers(self) -> Numbers:
        """For the page of metrics."""
        state = self.state
        return {
            names.LEDGER_UP.name: {(): int(state.up)},
            names.LEDGER_STORED.name: {(): state.stored},
            names.LEDGER_LAG.name: {(): state.lag_s},
            names.LEDGER_WAITING.name: {(): state.waiting_bytes},
            names.LEDGER_DAMAGED.name: {(): state.damaged},
            names.LEDGER_COST_TODAY.name: {(): state.today_nano_usd / _NANO},
        }

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def verbs(self) -> dict[str, Verb]:
        """What a router may ask of it that has none of its own any more."""
        return {"usage": self.usage, "find_homes": self.find_homes, "own_homes": self.own_homes}

    async def stop(self, deputy: Channel | None = None) -> None:
        """Lets it store what was written, where that takes a moment, and ends it. `deputy`: answers in its place."""
        if self._task is None:
            return
        if self._deputy is None:
            with contextlib.suppress(*NO_ANSWER):
                await self.ask(type(None), FINISH_S, "finish")
            self._deputy = deputy
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def ask(self, kind: type[T], timeout_s: float, verb: str, *arguments: object) -> T:
        """Asks the bookkeeper. Raises ClosedError where there is none, LookupError, FailedError, TimeoutError."""
        channel = self._deputy or self._channel
        if channel is None:
            raise ClosedError(_AWAY)
        return await channel.call(kind, timeout_s, verb, *arguments)

    async def spent(self, at: float) -> dict[str, int]:
        """Nano-dollars by limit id, as `Store.spent`; `at`: wall seconds. Raises as `ask`."""
        return await self.ask(dict[str, int], SPENT_S, "spent", at)

    async def usage(self, key: str, since: float, until: float, bucket: str) -> dict[str, Any]:
        """A key's own figures, as `reports.key_usage`. Raises as `ask`."""
        return await self.ask(dict[str, Any], USAGE_S, "usage", key, since, until, bucket)

    async def find_homes(self, key: str, ids: list[str]) -> list[Home]:
        """Those of `ids` that are the key's own. Raises as `ask`."""
        return await self.ask(list[Home], HOMES_S, "find_homes", key, ids)

    async def own_homes(self, asked: OwnHomes) -> HomePage:
        """A page of a key's own ids. Raises as `ask`."""
        return await self.ask(HomePage, HOMES_S, "own_homes", asked)

    def adopt(self, snapshot: Snapshot) -> None:
        """Has the store keep the prices that costs are reckoned by from now on."""
        prices = (deployment.price for deployment in snapshot.deployments.values())
        self._prices = list(dict.fromkeys(price for price in prices if price is not None))
        if self._channel is not None:
            self._channel.tell("prices", self._prices)

    async def _run(self) -> None:
        wait_s = 0.0
        while True:
            began = monotonic()
            try:
                how = await self._live()
            except OSError as error:  # no process could be made
                how = str(error)
            self._stored_before += self._state.stored
            lag_s = self._state.lag_s + monotonic() - self._heard_at
            self._state, self._heard_at = LedgerState(trouble=_AWAY, lag_s=lag_s), monotonic()
            wait_s = FIRST_WAIT_S if monotonic() - began > HEALTHY_S else min(LONGEST_WAIT_S, 2 * wait_s + FIRST_WAIT_S)
            self.event("bookkeeper_ended", how=how, restart_in_s=wait_s)
            await asyncio.sleep(wait_s)

    async def _live(self) -> str:
        """Starts one and waits for its end, which is as it returns; ends it where this is cancelled. Raises OSError."""
        channel, process = await self._spawn()
        self._process = process
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            channel.close()
            try:
                async with asyncio.timeout(END_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
            raise
        finally:
            channel.close()
        return f"exit status {status}" if status >= 0 else signal.Signals(-status).name

    async def _spawn(self) -> tuple[Channel, asyncio.subprocess.Process]:
        here, there = socket.socketpair()
        # Not its working folder: what lies there is no module of ours. `sys.path` is what this process was found by.
        environ = {name: value for name, value in os.environ.items() if _NEEDED.fullmatch(name)}
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _PROGRAM, str(there.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=[there.fileno()],
                env=environ,
            )
        except OSError:
            here.close()
            raise
        finally:
            there.close()
        channel = self._channel = Channel()
        channel.serve(self._verbs())
        await self._loop.create_connection(lambda: channel, sock=here)
        channel.tell("prices", self._prices)
        return channel, process

    def _verbs(self) -> dict[str, Verb]:
        """What the bookkeeper says."""

        async def order() -> Order:
            return self._order

        async def state(state: LedgerState) -> None:
            self._state, self._heard_at = state, monotonic()

        async def event(event: str, fields: dict[str, Any]) -> None:
            self.event(event, **fields)

        async def keys(keys: list[StoredKey]) -> None:
            self.on_keys(keys)

        return {"order": order, "state": state, "event": event, "keys": keys}


def _nobody(keys: list[StoredKey]) -> None: ...
