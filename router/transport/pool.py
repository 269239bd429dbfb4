"""Connections to one deployment: kept alive, newest first, bounded, and all of one cloud.

A pool belongs to one deployment, so clouds cannot share a connection and a dead one costs the others nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from router.base.errors import ConnectError
from router.model.fleet import Deployment
from router.model.plan import Permit
from router.transport.dialling import Way
from router.transport.outbox import Outbox
from router.transport.upstream import UpstreamConnection, require_permit

AGE_MAX_S = 3600.0  # an old connection is not reused: balancers in front of a cloud move on


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """`idle_s` must be less than the upstream's own idle limit, or reuse races with its close."""

    connections_max: int
    idle_s: float
    connect_s: float


class Dial:
    """A connection in the making. `on_done` is called once, unless it was cancelled."""

    __slots__ = ("_task", "connection", "error", "on_done")

    def __init__(self, on_done: Callable[[], None]) -> None:
        self.on_done = on_done
        self.connection: UpstreamConnection | None = None
        self.error: ConnectError | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        return self.connection is not None or self.error is not None

    def watch(self, task: "asyncio.Task[None]") -> None:
        self._task = task

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.on_done = _nothing
        task, self._task = self._task, None  # it leads to this, and would keep it until the collector comes
        if task is not None:
            task.cancel()


class Pool:
    """The connections of one deployment."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        way: Way,
        deployment: Deployment,
        settings: PoolSettings,
    ) -> None:
        """`way`: to the endpoint, shared by its deployments."""
        self.cloud = deployment.cloud  # fixed here: every connection of this pool carries it
        self.settings = settings
        self.outbox = Outbox(loop)
        self.dials = 0
        self.reuses = 0
        self.failures: dict[str, int] = {}  # of dials, by reason
        self._loop, self._way = loop, way
        self._idle: deque[UpstreamConnection] = deque()
        self._open: dict[UpstreamConnection, str] = {}  # and the address that each was dialled at
        self._dialling: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def busy(self) -> int:
        return len(self._open) - len(self._idle) + len(self._dialling)

    @property
    def full(self) -> bool:
        """No request can be sent here now: every connection that it may have is in use."""
        return not self._idle and len(self._open) + len(self._dialling) >= self.settings.connections_max

    def take(self, permit: Permit) -> UpstreamConnection | None:
        """Returns the newest idle connection that is still good, or None. Raises PlacementViolationError."""
        require_permit(permit, self.cloud)
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable():
                self.reuses += 1
                return connection
            connection.abort()
        return None

    def dial(self, permit: Permit, on_done: Callable[[], None]) -> Dial:
        """Begins a new connection. Raises PlacementViolationError, and then nothing is dialled."""
        require_permit(permit, self.cloud)
        self.dials += 1
        dial = Dial(on_done)
        task = self._loop.create_task(self._connect(dial))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)
        dial.watch(task)
        return dial

    def give(self, connection: UpstreamConnection) -> None:
        """Takes back a connection whose answer ended well."""
        if connection.tls is not None and self._way.context is not None and connection.answers == 1:
            self._way.context.keep_session_of(connection.tls)
        if connection.closed:
            return
        now = monotonic()
        if self._closed or now > connection.expires_at:
            connection.abort()
            return
        connection.idle_since = now
        self._idle.append(connection)

    def sweep(self, now: float) -> None:
        """Closes what was idle for too long, which is on the left, and what leads where its name no longer does."""
        while self._idle and now - self._idle[0].idle_since > self.settings.idle_s:
            self._idle.popleft().abort()
        if gone := self._way.gone():
            for connection in [each for each in self._idle if self._open.get(each) in gone]:
                self._idle.remove(connection)
                connection.abort()

    def use(self, way: Way) -> None:
        """From now on it dials so. What stands by another way ends: when it is idle, or when it is given back."""
        if way is not self._way:
            self._way = way
            for connection in self._open:
                connection.expires_at = 0.0
            while self._idle:
                self._idle.pop().abort()

    def close(self) -> None:
        """Ends idle connections now and the others when they are given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()

    async def _connect(self, dial: Dial) -> None:
        try:
            async with asyncio.timeout(self.settings.connect_s):
                dial.connection = await self._dialled()
        except TimeoutError:
            dial.error = ConnectError("The deployment did not accept a connection in time.", "timeout")
        except ConnectError as error:
            dial.error = error
        except Exception as error:  # noqa: BLE001 - whatever it was: a dial without an end would hold its request
            dial.error = ConnectError("The deployment could not be dialled.", "broken")
            dial.error.__cause__ = error
        if dial.error is not None:
            self.failures[dial.error.reason] = self.failures.get(dial.error.reason, 0) + 1
        dial.on_done()

    async def _dialled(self) -> UpstreamConnection:
        """Raises ConnectError."""
        began, way = monotonic(), self._way
        transport, connection, address = await way.dial(self._new_connection)
        connection.connect_s = monotonic() - began
        tls = transport.get_extra_info("ssl_object") if way.context is not None else None
        if tls is not None:
            connection.tls = tls
            connection.tls_s = monotonic() - tls.began_at
            connection.connect_s -= connection.tls_s
        if way is not self._way:
            connection.expires_at = 0.0  # a reload came meanwhile
        if not connection.closed:
            # Not before: of a connection that never came to be nobody would hear that it is lost.
            self._open[connection] = address
        return connection

    def _new_connection(self) -> UpstreamConnection:
        return UpstreamConnection(self.cloud, monotonic() + AGE_MAX_S, self._lost, self.outbox)

    def _lost(self, connection: UpstreamConnection) -> None:
        self._open.pop(connection, None)
        if connection in self._idle:
            self._idle.remove(connection)


def _nothing() -> None:
    """What a cancelled dial calls."""
