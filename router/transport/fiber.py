"""A request's coroutine, resumed on the stack of the protocol callback that it waits for.

An `asyncio.Task` would cost a loop iteration and a future for each wait. A fiber costs a `send()`: whoever changed
something calls `wake()`, and the coroutine looks at its condition again before it goes on. Wakes may be spurious,
so every wait is a loop: `while not condition: await fiber.park(...)`.
"""

import types
from collections.abc import Callable, Coroutine, Generator
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from router.transport.wheel import Wheel


@types.coroutine
def _suspend() -> Generator[None, None, None]:
    yield


T = TypeVar("T")


class Parking(Protocol):
    """Where a coroutine waits: a fiber, or one branch of it."""

    async def park(self, deadline: float, error: Callable[[], BaseException | None]) -> None:
        """See `Fiber.park`."""
        ...


class Fiber:
    """Drives one coroutine. Everything happens on the event loop's thread."""

    tick = 0  # the wheel's own
    waited_s = 0.0  # all the time spent parked
    _coroutine: Coroutine[Any, Any, None] | None = None
    _running = False
    _failure: BaseException | None = None
    _deadline = 0.0
    _error: Callable[[], BaseException | None] | None = None

    def __init__(self, wheel: Wheel) -> None:
        self.wheel = wheel

    @property
    def finished(self) -> bool:
        return self._coroutine is None

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Starts `coroutine` and runs it up to its first wait."""
        self._coroutine = coroutine
        self._resume()

    def wake(self) -> None:
        """Lets a parked coroutine look at its condition again; does nothing while it runs."""
        if not self._running and self._coroutine is not None:
            self._resume()

    def throw(self, failure: BaseException) -> None:
        """Raises `failure` where the coroutine waits, or where it will wait next."""
        if self._coroutine is not None and self._failure is None:
            self._failure = failure
            self.wake()

    async def park(self, deadline: float, error: Callable[[], BaseException | None]) -> None:
        """Waits for a wake. Raises what was thrown, or `error()` once `deadline` (monotonic seconds) has passed.

        Where `error` returns None, passing the deadline is a wake like any other.
        """
        if self._failure is None:
            began = monotonic()
            self._deadline, self._error = deadline, error
            self.watch(deadline)
            await _suspend()
            if self.tick:
                self.wheel.disarm(self)
            self._error = None  # it leads to the answer, and the answer to this: a cycle only the collector would end
            self.waited_s += monotonic() - began
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def watch(self, deadline: float) -> None:
        """Sees to it that `on_time` is called then. A fiber that lives on something watched already can do it for less.

        A call that comes when nothing waits any more is harmless.
        """
        self.wheel.arm(self, deadline)

    async def rest(self) -> None:
        """Waits for a wake without a deadline of its own: somebody else watches the time."""
        if self._failure is None:
            began = monotonic()
            await _suspend()
            self.waited_s += monotonic() - began
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def on_time(self, now: float) -> float | None:
        """The wheel's call: see `Timed`."""
        if self._error is None:
            return None
        if now < self._deadline:
            return self._deadline
        error = self._error()
        if error is not None:
            self.throw(error)
        else:
            self.wake()
        return None

    def _resume(self) -> None:
        assert self._coroutine is not None
        self._running = True
        try:
            self._coroutine.send(None)
        except StopIteration:
            self._coroutine = None
        except BaseException:
            self._coroutine = None
            raise
        finally:
            self._running = False


class Branch(Generic[T]):
    """One of several coroutines that a fiber runs side by side; whoever runs it steps it after each wake."""

    __slots__ = ("_coroutine", "_error", "deadline", "failure", "result")

    def __init__(self) -> None:
        self._coroutine: Coroutine[Any, Any, T] | None = None
        self._error: Callable[[], BaseException | None] | None = None
        self.deadline = 0.0  # monotonic seconds: until then it need not be stepped without a wake
        self.result: T | None = None
        self.failure: BaseException | None = None

    @property
    def finished(self) -> bool:
        return self._coroutine is None

    def start(self, coroutine: Coroutine[Any, Any, T]) -> None:
        """Runs `coroutine` up to its first wait."""
        self._coroutine = coroutine
        self._resume(None)

    async def park(self, deadline: float, error: Callable[[], BaseException | None]) -> None:
        """Waits to be stepped."""
        self.deadline, self._error = deadline, error
        await _suspend()
        self._error = None

    def step(self, now: float) -> None:
        """Lets it look at its condition again, or raises in it what passing its deadline means."""
        passed = now >= self.deadline and self._error is not None
        self._resume(self._error() if passed and self._error is not None else None)

    def throw(self, failure: BaseException) -> None:
        """Ends it where it waits."""
        if self._coroutine is not None:
            self._resume(failure)

    def _resume(self, failure: BaseException | None) -> None:
        coroutine = self._coroutine
        assert coroutine is not None
        try:
            if failure is None:
                coroutine.send(None)
            else:
                coroutine.throw(failure)
        except StopIteration as stop:
            self._coroutine = None
            self.result = stop.value
        except BaseException as error:  # noqa: BLE001 - it is the owner's to raise
            self._coroutine = None
            self.failure = error
