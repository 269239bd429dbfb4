"""Ids in answers: whose they are from now on, before the client is told."""

from collections.abc import Iterator, Mapping
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
_CONTAINER_ID: Final = b'"container_id"'
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
    if _CONTAINER_ID in body:
        for name in _containers(_object(body).get("output")):
            _bind(ctx, rt, answer, CONTAINERS, name)


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
            if _CONTAINER_ID in events:
                self._bind_containers(events)
        elif self._bound:
            self._answer.before_events = None

    def _bind_containers(self, events: bytes) -> None:
        for _, data in read_events(events):
            if _CONTAINER_ID in data:
                event = _object(data)
                response, annotation = event.get("response"), event.get("annotation")
                output = response.get("output") if isinstance(response, dict) else [event.get("item")]
                cited = annotation.get("container_id") if isinstance(annotation, dict) else None
                for name in (*_containers(output), cited):
                    _bind(self._ctx, self._rt, self._answer, CONTAINERS, name)


def bind_stored(ctx: Context, rt: Runtime, answer: Answer, route: Route, ids: tuple[str, ...], body: bytes) -> None:
    """What a request for something stored made, found or ended."""
    resource = route.resource
    if route.effect is Effect.END:
        assert ctx.caller.key is not None
        rt.homes.unbind(ctx.caller.key, ids[0], resource.kind)
        return
    value = _object(body)
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


def _containers(output: object) -> Iterator[object]:
    """Which containers were used for an answer, as its endpoint says. Whatever else has a field of that name (metadata,
    a tool's schema, what a client's own server said) are the client's words, which make nothing its own.
    """
    for item in _objects(output):
        kind = item.get("type")
        if kind == "code_interpreter_call":
            yield item.get("container_id")
        elif kind == "shell_call":
            yield from (each.get("container_id") for each in _objects([item.get("environment")]))
        elif kind == "message":
            for part in _objects(item.get("content")):
                yield from (each.get("container_id") for each in _objects(part.get("annotations")))


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = _decode(data)
    except UNREADABLE:
        return {}
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _bind(ctx: Context, rt: Runtime, answer: Answer, resource: Resource, name: object) -> None:
    _bind_id(ctx, rt, answer, resource.kind, name)


def _bind_id(ctx: Context, rt: Runtime, answer: Answer, kind: str, name: object) -> None:
    key = ctx.caller.key
    assert key is not None
    if isinstance(name, str) and is_id(name):
        rt.homes.bind(key, name, kind, answer.target.backend.deployment.endpoint.id)
