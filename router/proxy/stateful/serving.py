"""The life of a request for something stored; and where a model's request goes that names some of it."""

import zlib
from typing import Final
from urllib.parse import unquote

from router.base.errors import InvalidRequestError, NotFoundError, RefusedError
from router.model.keys import ApiKey
from router.model.stored import Effect
from router.proxy.answer import Answer
from router.proxy.attempts import first_answer
from router.proxy.backend import Target
from router.proxy.context import Context
from router.proxy.facts import Facts
from router.proxy.fleet import LivePlan
from router.proxy.phases import admit, pass_error, relay, reply_whole
from router.proxy.runtime import Runtime
from router.proxy.stateful.binding import StreamBinding, bind_response, bind_stored, whole
from router.proxy.stateful.listing import reply_list
from router.proxy.stateful.names import ids_of_form, named_ids
from router.proxy.stateful.paths import Stored
from router.proxy.stateful.target import StoredTarget
from router.transport.inbound import Inbound
from router.transport.server import Server


class HomeLostError(RefusedError):
    """There is a home, and nothing of the plan is at it."""

    status, code = 409, "home_unavailable"


_OF_AZURE: Final = b"api-version"  # is said by the client for its own path, and is not passed on


async def serve_stored(ctx: Context, rt: Runtime, server: Server, stored: Stored) -> None:
    """From its arrival to its answer. Raises RouterError."""
    inbound, key, route = ctx.inbound, ctx.caller.key, stored.route
    assert key is not None
    plan = ctx.plan = _plan(rt, key, stored)
    allowance = ctx.caller.allowance
    if allowance is not None and (stop := rt.limits.admit(ctx, allowance, inbound.started_at)) is not None:
        await rt.limits.wait(ctx, rt.limits.admit, allowance, stop)
    admit(inbound, ctx.snapshot.server, server)
    if not inbound.body_whole:
        await inbound.read_body()
    if not route.asks_body:
        inbound.release_body()
    query, stream = _query(inbound.head.target)
    ctx.facts = Facts(
        "", stream=stream, stores=route.method != "GET", affinity=zlib.crc32(f"{key.workload}/{key.name}".encode())
    )
    if route.effect is Effect.LIST:
        await reply_list(ctx, rt, plan, route.resource)
        return
    named = dict.fromkeys(stored.ids[:1], "id")
    if inbound.body:
        named |= _named(inbound)
    home = await rt.homes.find(inbound, key, named) if named else ""
    asked = _asked(plan, stored, query, stream=stream)
    ctx.plan = kept_to(asked, home) if home else asked
    answer = ctx.answer = await first_answer(ctx, rt)
    try:
        await _reply(ctx, rt, answer, stored)
    finally:
        answer.forget_usage()


async def at_home(ctx: Context, rt: Runtime, plan: LivePlan) -> LivePlan:
    """What of a model's plan is where that is stored which the request names; all of it where it names nothing.

    Raises NotFoundError, InvalidRequestError, RefusedError, ClientGoneError.
    """
    key = ctx.caller.key
    assert key is not None
    if not plan.keeps:
        raise InvalidRequestError(
            "The request names state that is stored at one endpoint (previous_response_id, conversation, background "
            "or a file), this model is served by several, and the router keeps no `ledger` in which it would find "
            "which one. Send what it needs in the request itself.",
            code="stateful_needs_home",
        )
    named = named_ids(ctx.inbound.body)
    if not named:
        return plan
    return kept_to(plan, await rt.homes.find(ctx.inbound, key, named))


async def reply_bound(ctx: Context, rt: Runtime, answer: Answer) -> None:
    """The answer of a model that leaves something behind: its id is the key's before the client sees it."""
    assert ctx.facts is not None
    if answer.is_stream:
        if not ctx.facts.leaves_nothing:
            answer.before_events = StreamBinding(ctx, rt, answer)
        await relay(ctx, rt, answer)
        return
    body = await whole(ctx, answer)
    if not ctx.facts.leaves_nothing:
        bind_response(ctx, rt, answer, body)
    reply_whole(ctx, answer)


async def _reply(ctx: Context, rt: Runtime, answer: Answer, stored: Stored) -> None:
    route = stored.route
    if not answer.succeeded:
        pass_error(ctx, answer)
    elif _tells(answer, stored):
        body = await whole(ctx, answer)
        bind_stored(ctx, rt, answer, route, stored.ids, body)
        reply_whole(ctx, answer)
    elif answer.ended and not answer.is_stream:
        reply_whole(ctx, answer)
    else:
        await relay(ctx, rt, answer)


def _tells(answer: Answer, stored: Stored) -> bool:
    """Whether an answer that is no stream has ids in it, or ends one, so that it is held until that is written down."""
    if answer.is_stream:
        return False
    return stored.route.effect in (Effect.MAKE, Effect.END) or (bool(stored.route.resource.finds) and _json(answer))


def _plan(rt: Runtime, key: ApiKey, stored: Stored) -> LivePlan:
    """Where the key's requests for this resource may go. Raises InvalidRequestError, NotFoundError."""
    resource = stored.route.resource
    plan = rt.fleet.stored.get((key.workload, resource.name))
    if rt.homes.find_homes is None:
        raise InvalidRequestError(
            "This router keeps no `ledger`, in which it would remember where something is stored. Its operator has to "
            "configure one.",
            code="stateful_needs_ledger",
        )
    if plan is None or not plan.tiers:
        raise NotFoundError(f"Nothing that this key may use has `{resource.name}`.", code="unsupported_operation")
    if resource.all_models and key.models is not None:
        raise NotFoundError(
            f"`{resource.name}` use models that the router does not see, and this key may use some models only.",
            code="unsupported_operation",
        )
    return plan


def kept_to(plan: LivePlan, home: str) -> LivePlan:
    kept = plan.at(home)
    if not kept.tiers:
        raise HomeLostError(
            "What the request names is stored where this request may not go, or nobody serves it any more.",
            headers={"x-should-retry": "false"},
        )
    return kept


def _asked(plan: LivePlan, stored: Stored, query: bytes, *, stream: bool) -> LivePlan:
    method, path = stored.route.method.encode(), stored.path.encode()

    def asked(target: Target) -> Target:
        assert isinstance(target, StoredTarget)
        return target.asked(method, path, query, stream=stream)

    return plan.mapped(asked)


def _query(target: bytes) -> tuple[bytes, bool]:
    """What of the client's query goes on, and whether it asks for a stream."""
    pairs = [pair for pair in target.partition(b"?")[2].split(b"&") if pair]
    passed = [pair for pair in pairs if unquote(pair.partition(b"=")[0].decode("latin-1")).encode() != _OF_AZURE]
    return b"&".join(passed), b"stream=true" in passed


def _named(inbound: Inbound) -> dict[str, str]:
    """What its body names, of whichever kind that is."""
    content_type = inbound.head.fields.get(b"content-type", b"")
    if content_type.lower().lstrip().startswith(b"multipart/"):
        return ids_of_form(inbound.body, content_type)
    return named_ids(inbound.body)


def _json(answer: Answer) -> bool:
    head = answer.head
    return head is not None and head.fields.get(b"content-type", b"").lower().startswith(b"application/json")
