"""A session's way to its deployment: like a request it is placed, offered and tried again, up to the upstream's 101."""

import base64
import os
from time import monotonic
from typing import Final

from router.base.errors import NotFoundError, RouterError, UpstreamError
from router.model.operation import Operation
from router.model.plan import Permit
from router.proxy.answer import Answer
from router.proxy.asking import dialled, permitted, spoiled
from router.proxy.backend import Target
from router.proxy.context import Attempt, Context
from router.proxy.failures import IdentityLostError, raise_for
from router.proxy.fleet import LivePlan
from router.proxy.realtime.paths import beta, spoken
from router.proxy.runtime import Runtime
from router.transport.fiber import Parking
from router.transport.inbound import Inbound
from router.transport.upstream import AnswerHead, UpstreamConnection
from router.transport.websocket_frames import accept_of, listed

_ANSWER_S: Final = 30.0  # for the head that answers a handshake: nothing is generated for it


class Opening(Answer):
    """An answer to a handshake. Committed by a 101; what else a deployment answers is judged as always."""

    connection: UpstreamConnection | None = None  # that has switched
    rest = b""  # what came behind the 101

    def __init__(
        self,
        inbound: Inbound,
        target: Target,
        connection: UpstreamConnection,
        give_up_at: float,
        total_at: float,
        now: float,
    ) -> None:
        super().__init__(inbound, target, connection, False, give_up_at, total_at, now)
        self.key = base64.b64encode(os.urandom(16))

    def switched(self, head: AnswerHead, rest: bytes) -> None:
        self.head = head
        self.first_byte_at = monotonic()
        fields = head.fields
        if (
            fields.get(b"upgrade", b"").lower() != b"websocket"
            or b"upgrade" not in {token.lower() for token in listed(fields.get(b"connection", b""))}
            or fields.get(b"sec-websocket-accept") != accept_of(self.key)
            or b"sec-websocket-extensions" in fields
            or fields.get(b"sec-websocket-protocol", b"") not in (b"", spoken(self._inbound.head.fields))
        ):
            self._fail(_invalid("it does not switch to WebSocket as it was asked to"))
            return
        self.connection, self._connection = self._connection, None
        self.rest, self.succeeded, self.committed = rest, True, True

    def head_received(self, head: AnswerHead) -> None:
        if 200 <= head.status < 300:
            self.head = head
            self.first_byte_at = monotonic()
            self._fail(_invalid("a handshake was asked for, and it is an answer like to any request"))
        else:
            super().head_received(head)

    def answer_ended(self) -> None:
        """A connection that has been asked to leave HTTP is not used again."""
        self.abort()
        self.ended = True

    def abort(self) -> None:
        super().abort()
        switched, self.connection = self.connection, None
        if switched is not None:
            switched.abort()


def find_plan(ctx: Context, rt: Runtime, operation: Operation, model: str) -> LivePlan:
    """Where sessions with this model may go. Raises NotFoundError."""
    key = ctx.caller.key
    assert key is not None
    model = ctx.snapshot.aliases.get(model, model)
    plan = rt.fleet.plans.get((key.workload, model, operation.name)) if key.may_use(model) else None
    if plan is not None:
        return plan
    if key.may_use(model) and any((key.workload, model) == each[:2] for each in ctx.snapshot.plans):
        raise NotFoundError(f"The model `{model}` is not served for `{operation.name}`.", code="unsupported_operation")
    raise NotFoundError("The model does not exist, or this key may not use it.", code="model_not_found", param="model")


async def open_upstream(ctx: Context, rt: Runtime, attempt: Attempt, permit: Permit, waiter: Parking) -> Opening:
    """Asks one deployment for a session, over a connection of its own. Ends the attempt where it raises, as `ask`."""
    target = attempt.target
    try:
        identity = target.identity.tail
        if identity is None:
            raise IdentityLostError("There is no valid credential for the deployment now.")
        connection = await dialled(ctx, target, permit, waiter)
        attempt.connect_s, attempt.tls_s = connection.connect_s, connection.tls_s
        now = monotonic()
        timeouts = target.timeouts
        give_up_at = min(now + min(_ANSWER_S, timeouts.commit_json_s, ctx.caller.patience_s), ctx.total_at)
        opening = Opening(ctx.inbound, target, connection, give_up_at, ctx.total_at, now)
        attempt.answer = opening
        connection.upgrade(permitted(ctx, rt, target), _handshake(ctx, attempt, opening.key, identity), opening)
        while not opening.decided:
            await waiter.park(opening.look_again_at, opening.late)
        raise_for(opening)
        return opening
    except RouterError as error:
        spoiled(ctx, rt, attempt, error)
        raise


def _handshake(ctx: Context, attempt: Attempt, key: bytes, identity: bytes) -> bytes:
    """The head that asks for WebSocket: as always an allow-list of the client's lines, and the credential last."""
    fields = ctx.inbound.head.fields
    feature, protocol = beta(fields), spoken(fields)
    target = attempt.target
    return b"".join(
        (
            b"GET %b HTTP/1.1\r\n" % target.route.target,
            target.lines,
            b"connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: %b\r\n"
            % key,
            b"sec-websocket-protocol: %b\r\n" % protocol if protocol else b"",
            b"openai-beta: %b\r\n" % feature if feature else b"",
            _trace_lines(ctx, attempt),
            identity,
            b"\r\n",
        )
    )


def _trace_lines(ctx: Context, attempt: Attempt) -> bytes:
    """Of the client's trace, or of the router's own where this request is traced."""
    fields, parent, trace = ctx.inbound.head.fields, ctx.caller.parent, ctx.trace
    state = b"tracestate: %b\r\n" % fields[b"tracestate"] if parent is not None and b"tracestate" in fields else b""
    if trace is not None:
        attempt.span_id = trace.new_span_id()
        return state + trace.line(attempt.span_id)
    return state + b"traceparent: %b\r\n" % fields[b"traceparent"] if parent is not None else b""


def _invalid(why: str) -> UpstreamError:
    return UpstreamError(f"The deployment's answer cannot be used: {why}.", code="upstream_invalid")
