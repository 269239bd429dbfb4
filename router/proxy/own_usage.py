"""`GET /v1/usage`: what a key has used, as the ledger has it. Whose figures these are follows from the key alone."""

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import orjson

from router.base.errors import InvalidRequestError, RefusedError, RouterError
from router.config.moments import parse_moment
from router.proxy.context import Context
from router.proxy.replies import retry_after
from router.transport.channel import NO_ANSWER

ANSWER_S: Final = 10.0
# Questions that one process has under way, one a key: they must not keep the ledger from its books, nor each other out.
AT_ONCE: Final = 4
BUSY_S: Final = 2.0
_DAY_S: Final = 86_400
# The longest period that is told by such a bucket, and the one that is told where the client names none.
_PERIODS_S: Final = {"hour": (31 * _DAY_S, _DAY_S), "day": (400 * _DAY_S, 30 * _DAY_S)}
_LAST: Final = 9_999_999_999  # of 2286: days around it can still be written as dates
_QUERY: Final = ("since", "until", "bucket")

AskLedger: TypeAlias = Callable[[str, float, float, str], Coroutine[Any, Any, dict[str, Any]]]
"""A key's name, two moments in wall seconds, and a bucket. Raises what `transport.channel.NO_ANSWER` names."""


class OwnUsage:
    """Asks the ledger on behalf of requests, which are no tasks and cannot wait for one by themselves."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running: dict[str, asyncio.Task[dict[str, Any]]] = {}  # by key
        self.ask: AskLedger | None = None  # None: no ledger is kept

    async def body(self, ctx: Context, wall: float) -> bytes:
        """The answer to a request for its key's figures. Raises InvalidRequestError, RefusedError, ClientGoneError."""
        key = ctx.caller.key
        assert key is not None
        if self.ask is None:
            raise _unavailable("This router keeps no usage ledger.")
        since, until, bucket = _period(ctx.inbound.head.target, wall)
        if key.name in self._running or len(self._running) >= AT_ONCE:
            raise RefusedError("Too many requests for usage at one time.", headers=retry_after(BUSY_S))
        asking = self._running[key.name] = self._loop.create_task(self.ask(key.name, since, until, bucket))
        asking.add_done_callback(lambda _: ctx.inbound.wake())
        try:
            while not asking.done():
                await ctx.inbound.park(monotonic() + ANSWER_S, _late)
            return orjson.dumps(asking.result())
        except NO_ANSWER:
            raise _late() from None
        finally:
            asking.cancel()
            del self._running[key.name]


def _late() -> RouterError:
    return _unavailable("The usage ledger cannot be read at the moment. What is used is written down all the same.")


def _unavailable(message: str) -> RefusedError:
    return RefusedError(message, code="usage_unavailable", headers={"x-should-retry": "false"})


def _period(target: bytes, wall: float) -> tuple[float, float, str]:
    """Reads the query: from when (wall seconds) until when, and by what. Raises InvalidRequestError."""
    said: dict[str, str] = {}
    for pair in target.partition(b"?")[2].decode("latin-1").split("&"):
        name, _, value = pair.partition("=")
        if name in said:
            raise _invalid(name, "stands more than once")
        if name in _QUERY:
            said[name] = unquote(value)  # and no `+` for a space: few write that of an offset otherwise
    bucket = said.get("bucket", "day")
    if bucket not in _PERIODS_S:
        raise _invalid("bucket", "is neither `hour` nor `day`")
    longest_s, usual_s = _PERIODS_S[bucket]
    until = _moment("until", said["until"]) if "until" in said else wall
    since = _moment("since", said["since"]) if "since" in said else until - usual_s
    if since >= until:
        raise _invalid("since", "is not before `until`")
    if until - since > longest_s:
        raise _invalid("since", f"is more than {longest_s // _DAY_S} days before `until`, by {bucket}")
    return since, until, bucket


def _moment(name: str, text: str) -> float:
    moment = float(text) if text.isascii() and text.isdigit() and len(text) <= 10 else parse_moment(text)
    if moment is None or not 0 <= moment <= _LAST:
        raise _invalid(name, "is no moment: write 2031-02-01 (midnight UTC), 2031-02-01T09:30:00Z or Unix seconds")
    return moment


def _invalid(name: str, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"`{name}` {why}.", code="invalid_period", param=name)
