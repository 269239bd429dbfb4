"""Ids in answers: whose they are from now on, before the client is told."""

import re
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

import msgspec

from router.accounting.events import read_events
from router.accounting.usage import UNREADABLE
from router.base.errors import UpstreamError, UpstreamTimeoutError
from router.model.stored import CONTAINERS, RESPONSES, Effect, Resource, Route
from router.proxy.answer import Answer, broken
from router.proxy.context import Context
from router.proxy.runtime import Runtime
from router.proxy.stateful.paths import is_id

WHOLE_BYTES_MAX: Final = 64 << 20  # of an answer that is held until its ids are bound
_CONTAINER: Final = re.compile(rb'"container_id"\s*:\s*"([^"\\]{1,256})"')
_decode: Final = msgspec.json.Decoder().decode


class _Made(msgspec.Struct, gc=False):
    id: Any = None


class _Begun(msgspec.Struct, gc=False):
    response: _Made | None = None


_decode_made: Final = msgspec.json.Decoder(_Made).decode
_decode_begun: Final = msgspec.json.Decoder(_Begun).decode


async def whole(ctx: Context, answer: Answer) -> bytes:
    """Waits for all of an answer that is no stream. Raises StreamBrokenError, ClientGoneError."""

    def late() -> UpstreamTimeoutError:
        return UpstreamTimeoutError("The deployment stopped sending before its answer was whole.")

    held, idle_at = 0, 0.0
    try:
        while not answer.finished:
            if answer.held_bytes > held or not idle_at:
                held, idle_at = answer.held_bytes, monotonic() + answer.target.timeouts.idle_s
            if held > WHOLE_BYTES_MAX:
                raise broken(UpstreamError("The deployment's answer is too long."))
            await ctx.inbound.park(min(ctx.total_at, idle_at), late)
    except BaseException:
        answer.abort()
        raise
    if not answer.complete():
        raise broken(answer.error)
    return answer.held_body()


def bind_response(ctx: Context, rt: Runtime, answer: Answer, body: bytes) -> None:
    """The response that was made, and the containers that were made for it."""
    try:
        made = _decode_made(body).id
    except UNREADABLE:
        return
    _bind(ctx, rt, answer, RESPONSES, made)
    for name in _CONTAINER.findall(body):
        _bind(ctx, rt, answer, CONTAINERS, name.decode("latin-1"))


class StreamBinding:
    """Likewise of a stream, event by event as they are about to leave."""

    def __init__(self, ctx: Context, rt: Runtime, answer: Answer) -> None:
        self._ctx, self._rt, self._answer = ctx, rt, answer
        self._bound = False
        body = ctx.inbound.body
        self._contains = body.find(b"container") >= 0 or body.find(b'"shell"') >= 0 or body.find(b"code_inter") >= 0

    def __call__(self, events: bytes) -> None:
        if not self._bound:
            for _, data in read_events(events):
                try:
                    response = _decode_begun(data).response
                except UNREADABLE:
                    continue
                if response is not None:
                    _bind(self._ctx, self._rt, self._answer, RESPONSES, response.id)
                    self._bound = True
                    break
        if self._contains:
            for name in _CONTAINER.findall(events):
                _bind(self._ctx, self._rt, self._answer, CONTAINERS, name.decode("latin-1"))
        elif self._bound:
            self._answer.before_events = None


def bind_stored(ctx: Context, rt: Runtime, answer: Answer, route: Route, ids: tuple[str, ...], body: bytes) -> None:
    """What a request for something stored made, found or ended."""
    resource = route.resource
    if route.effect is Effect.END:
        assert ctx.caller.key is not None
        rt.homes.unbind(ctx.caller.key, ids[0], resource.kind)
        return
    try:
        value = _decode(body)
    except UNREADABLE:
        return
    if isinstance(value, dict):
        if route.effect is Effect.MAKE:
            _bind(ctx, rt, answer, resource, value.get("id"))
        bind_found(ctx, rt, answer, resource, value)


def bind_found(ctx: Context, rt: Runtime, answer: Answer, resource: Resource, value: Mapping[str, Any]) -> None:
    """The ids that a stored object holds of others, which are of its key and at its home."""
    for field, kind in resource.finds.items():
        found = value.get(field)
        for each in found if isinstance(found, list) else [found]:
            name = each.get("id") if isinstance(each, dict) else each
            _bind_id(ctx, rt, answer, kind, name)


def _bind(ctx: Context, rt: Runtime, answer: Answer, resource: Resource, name: object) -> None:
    _bind_id(ctx, rt, answer, resource.kind, name)


def _bind_id(ctx: Context, rt: Runtime, answer: Answer, kind: str, name: object) -> None:
    key = ctx.caller.key
    assert key is not None
    if isinstance(name, str) and is_id(name):
        rt.homes.bind(key, name, kind, answer.target.backend.deployment.endpoint.id)
