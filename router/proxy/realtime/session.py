"""One session over WebSocket, from its handshake to its end: `run_session` is its life in order.

After both ends have switched, messages go on in the call that brought them, and the fiber rests. What ends a session
ends it once: the client hears why, as far as it still can, the deployment is let go, and whatever was under way is
settled before.
"""

from collections.abc import Mapping
from time import monotonic
from typing import Final

from router.base.errors import (
    ClientGoneError,
    InvalidRequestError,
    LimitedError,
    Origin,
    PlacementViolationError,
    RefusedError,
    RouterError,
    StreamBrokenError,
    UnauthorizedError,
    UpstreamTimeoutError,
)
from router.limits.admission import bodies_too_many
from router.model.operation import REALTIME, RESPONSES, Operation
from router.model.stored import RESOURCES
from router.providers.errors import client_error
from router.proxy.attempts import first_answer
from router.proxy.backend import Target
from router.proxy.context import Context
from router.proxy.exhaustion import PassedError
from router.proxy.facts import Facts, json_facts, names_file
from router.proxy.fleet import LivePlan
from router.proxy.realtime.events import (
    ClientEvent,
    cancel_event,
    error_event,
    may_be_event,
    model_places,
    read_client_event,
    read_server_event,
    spliced,
    type_of,
)
from router.proxy.realtime.opening import Opening, find_plan, open_upstream
from router.proxy.realtime.paths import check_handshake, model_of, spoken
from router.proxy.realtime.responses import Responses
from router.proxy.runtime import Runtime
from router.proxy.stateful.names import OPAQUE_IN_EVENTS, named_ids
from router.proxy.stateful.paths import is_id
from router.proxy.stateful.serving import kept_to
from router.transport.server import Server
from router.transport.websocket import ClientSocket, Socket, UpstreamSocket
from router.transport.websocket_frames import (
    BINARY,
    CLOSE,
    GOING_AWAY,
    INTERNAL_ERROR,
    NO_CODE,
    NORMAL,
    PING,
    POLICY,
    PONG,
    RESTART,
    TEXT,
    TRY_LATER,
    FrameError,
    accept_of,
    close_payload,
    read_close,
)

PING_EVERY_S: Final = 20.0  # an end that has said nothing by the next one is gone
LOOK_EVERY_S: Final = 1.0
FAREWELL_S: Final = 2.0  # for the other end of a close, before its connection is aborted
FIRST_EVENT_S: Final = 60.0  # for a client whose first event names the model
WAITING_BYTES_MAX: Final = 64 << 10  # behind the first event, for its deployment
OWN_WORDS_MAX: Final = 100  # a second, of errors and of pongs each: whoever makes the router say more need not read it
MESSAGE_BYTES_MAX: Final = 16 << 20  # an event may hold 15 MiB of audio

_SOUND: Final = "input_audio_buffer.append"  # names nothing, and is most of what clients send
_NAMES_OF_STATE: Final = (b"previous_response_id", b'"conversation')
_BEGUN: Final = "response.created"
_DONE: Final = frozenset({"response.done", "response.completed", "response.incomplete", "response.failed"})


async def run_session(ctx: Context, rt: Runtime, server: Server, operation: Operation) -> None:
    """Opens a session and relays it to its end. Raises RouterError while the client can still be answered in HTTP."""
    inbound = ctx.inbound
    head, allowance = inbound.head, ctx.caller.allowance
    fields = {**head.fields, b"upgrade": head.upgrade}
    check_handshake(fields, head.minor, has_body=head.chunked or head.body_length > 0)
    if server.draining:
        raise RefusedError("The router is going down. Connect again.", headers={"retry-after": "1"})
    if allowance is not None and (stop := rt.limits.admit(ctx, allowance, inbound.started_at)) is not None:
        await rt.limits.wait(ctx, rt.limits.admit, allowance, stop)
    session = Session(ctx, rt, server, operation)
    if operation is REALTIME:
        await session.place(model_of(head.target), {})
        session.switch()
    else:
        session.switch()
    try:
        await session.relay()
    finally:
        session.leave()


class Session:
    """Hears of both ends (see `SocketOwner`), and of changes (see `OpenSession`)."""

    tick = 0  # the wheel's own

    def __init__(self, ctx: Context, rt: Runtime, server: Server, operation: Operation) -> None:
        self._ctx, self._rt, self._server, self._operation = ctx, rt, server, operation
        self._realtime = operation is REALTIME
        self._model = ""  # as the client named it
        self._client: ClientSocket | None = None
        self._upstream: UpstreamSocket | None = None
        self._responses: Responses | None = None
        self._target: Target | None = None
        self._waiting: list[tuple[int, bytes]] = []  # messages of a client that has no deployment yet
        self._bytes_max = min(MESSAGE_BYTES_MAX, ctx.snapshot.server.body_bytes_max)
        self._rest = b""  # what came behind the deployment's 101
        self._ending = self._settled = False
        self._pinged_at = self._heard_at = monotonic()  # the latter: of the deployment
        self._abort_at = 0.0
        self._events = 0  # of the router's own
        self._errors = self._pongs = 0  # since it was looked at last
        self._known: set[str] = set()  # ids that its deployment has, and that are of its key

    # -- the way there

    async def place(self, model: str, named: Mapping[str, str]) -> None:
        """Finds a deployment and has it switch. `named`: ids of what it has to have. Raises as a request does."""
        ctx, rt = self._ctx, self._rt
        ctx.facts = Facts(model)
        ctx.plan = find_plan(ctx, rt, self._operation, model)
        if named:
            ctx.plan = await self._home_of(ctx.plan, named)
        ctx.tokens = ctx.facts.prompt_tokens  # next to nothing: what a session uses is taken by its responses
        self._model = model
        allowance = ctx.caller.allowance
        if allowance is not None and (stop := rt.limits.charge(ctx, allowance, monotonic())) is not None:
            await rt.limits.wait(ctx, rt.limits.charge, allowance, stop)
        opening = ctx.answer = await first_answer(ctx, rt, open_upstream)
        assert isinstance(opening, Opening)
        if not opening.succeeded:
            raise passed_error(ctx, opening)
        self._join(opening)

    async def _home_of(self, plan: LivePlan, named: Mapping[str, str]) -> LivePlan:
        """What of a plan is where all that is stored."""
        key = self._ctx.caller.key
        assert key is not None
        if not plan.keeps:
            raise _not_found()
        self._known.update(named)
        return kept_to(plan, await self._rt.homes.find(self._ctx.inbound, key, named))

    def _join(self, opening: Opening) -> None:
        connection, opening.connection = opening.connection, None
        assert connection is not None
        target = self._target = opening.target
        operation = "realtime_response" if self._realtime else RESPONSES.name
        self._responses = Responses(self._ctx, self._rt, target, operation, errors_end=not self._realtime)
        self._upstream = UpstreamSocket(connection, self, self._server, MESSAGE_BYTES_MAX)
        self._heard_at = monotonic()
        self._rest = opening.rest

    def switch(self) -> None:
        """Takes the client's connection out of HTTP. Raises MalformedHttpError."""
        ctx = self._ctx
        inbound = ctx.inbound
        fields, protocol = inbound.head.fields, spoken(inbound.head.fields)
        try:
            self._client = ClientSocket(inbound, self, self._server, self._bytes_max)
        except RouterError:
            if self._upstream is not None:
                self._upstream.abort()
            raise
        ctx.status = 101
        inbound.first_byte_at = monotonic()
        inbound.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: %b\r\n%bx-request-id: %b\r\n\r\n"
            % (
                accept_of(fields[b"sec-websocket-key"]),
                b"sec-websocket-protocol: %b\r\n" % protocol if protocol else b"",
                ctx.id.encode(),
            )
        )
        self._rt.sessions.opened(self, self._operation.name)
        self._rt.books.event("session_opened", request=ctx.id, operation=self._operation.name)
        self._server.wheel.arm(self, monotonic() + LOOK_EVERY_S)

    async def _place_by_first_event(self) -> None:
        """Where the first event names the model. What fails is told in the session, and ends it."""
        inbound = self._ctx.inbound
        until = monotonic() + FIRST_EVENT_S
        try:
            while not self._waiting and not self._ending:
                await inbound.park(until, _no_event)
            if not self._ending:
                payload = self._waiting[0][1]
                event, _ = read_client_event(payload)
                if event.type != "response.create":
                    raise InvalidRequestError("The first event of a session has to be `response.create`.", param="type")
                if not isinstance(event.model, str):
                    raise InvalidRequestError("The event names no `model`.", code="missing_model", param="model")
                facts = json_facts(payload, RESPONSES, None)
                await self.place(event.model, named_ids(payload) if _names_stored(facts, payload) else {})
        except RouterError as error:
            self._fail(error)

    async def relay(self) -> None:
        """From the switch of the client's end to the end of both."""
        inbound = self._ctx.inbound
        if self._upstream is None:
            await self._place_by_first_event()
        if self._upstream is not None and not self._ending:
            if self._rest:
                self._upstream.data_received(self._rest)
            self._take_waiting()
        while not self._over:
            try:
                await inbound.rest()
            except RouterError as error:
                self._fail(error)

    @property
    def _over(self) -> bool:
        return (self._client is None or self._client.lost) and (self._upstream is None or self._upstream.lost)

    def leave(self) -> None:
        """Whatever became of it: nothing of it stays."""
        ctx, client, upstream = self._ctx, self._client, self._upstream
        if not self._ending:  # a bug of ours
            self._end("internal_error", INTERNAL_ERROR, "The router failed.")
        self._server.wheel.disarm(self)
        self._forget_waiting()
        if client is not None:
            ctx.inbound.bytes_in += client.bytes_in
            how = "ok" if ctx.error is None else ctx.error.code
            self._rt.sessions.ended(self, how)
        if upstream is not None and not upstream.lost:
            upstream.abort()

    # -- SocketOwner

    def message_received(self, socket: Socket, opcode: int, payload: bytes) -> None:
        if opcode == PONG or (self._ending and opcode != CLOSE):
            return
        if opcode == CLOSE:
            self._close_received(socket, payload)
        elif opcode == PING:
            self._pongs += 1
            if self._pongs <= OWN_WORDS_MAX and not socket.full:
                self._send(socket, PONG, payload)
        elif socket is self._client:
            self._rt.sessions.passed(self._operation.name, "in", len(payload))
            if self._upstream is None:
                self._keep(opcode, payload)
            else:
                self._from_client(opcode, payload)
        else:
            self._heard_at = monotonic()
            self._from_upstream(opcode, payload)

    def socket_full(self, socket: Socket, full: bool) -> None:
        """Back pressure: what cannot be written is not read."""
        other = self._upstream if socket is self._client else self._client
        if other is not None:
            if full:
                other.pause()
            else:
                other.resume()

    def socket_broken(self, socket: Socket, error: FrameError) -> None:
        if socket is self._client:
            self._blame(InvalidRequestError(str(error), code="invalid_websocket"))
            self._end("client_error", error.code, str(error))
        else:
            self._fail(StreamBrokenError(f"The deployment's messages cannot be read: {error}"))

    def socket_lost(self, socket: Socket) -> None:
        if not self._ending:
            if socket is self._client:
                self._fail(ClientGoneError("The client closed the connection."))
            else:
                self._fail(StreamBrokenError("The deployment closed the connection without a word."))
        elif socket is self._client and self._upstream is not None and not self._upstream.lost:
            self._upstream.abort()
        self._ctx.inbound.wake()

    # -- OpenSession

    def recheck(self) -> None:
        """After a reload: what the session may use is what was allowed at its begin, and still is."""
        if self._ending or self._upstream is None:
            return
        try:
            allowed = self._rt.permit(self._ctx).allows(self._upstream.cloud)
        except UnauthorizedError as error:
            self._withdraw(error, POLICY)
            return
        if not allowed:
            error_ = RefusedError("The session may not stay where it is any more. Connect again.", code="withdrawn")
            self._withdraw(error_, RESTART)

    def _withdraw(self, error: RouterError, code: int) -> None:
        """Not a byte more goes up, not even a close."""
        self._blame(error)
        assert self._upstream is not None
        self._upstream.abort()
        self._end("refused", code, error.message, event=error)

    # -- messages

    def _keep(self, opcode: int, payload: bytes) -> None:
        """Until there is a deployment. A client that sends on is paused late: who is paused is not seen to leave."""
        memory, limit = self._server, self._server.bounds.buffered_bytes_max
        memory.buffered_bytes += len(payload)
        self._waiting.append((opcode, payload))
        if memory.buffered_bytes > limit:
            self._fail(bodies_too_many())
        elif self._client is not None and sum(len(each) for _, each in self._waiting[1:]) > WAITING_BYTES_MAX:
            self._client.pause()
        self._ctx.inbound.wake()

    def _forget_waiting(self) -> list[tuple[int, bytes]]:
        waiting, self._waiting = self._waiting, []
        self._server.buffered_bytes -= sum(len(payload) for _, payload in waiting)
        return waiting

    def _take_waiting(self) -> None:
        waiting = self._forget_waiting()
        for opcode, payload in waiting:
            if not self._ending:
                self._from_client(opcode, payload)
        if self._client is not None and self._upstream is not None and not self._upstream.full:
            self._client.resume()

    def _from_client(self, opcode: int, payload: bytes) -> None:
        event: ClientEvent | None = None
        try:
            if opcode == TEXT or may_be_event(payload):
                event, places = read_client_event(payload)
                payload = self._checked(event, payload, places)
        except RouterError as error:
            self._refuse(error, event)
            return
        self._send(self._upstream, opcode, payload)

    def _checked(self, event: ClientEvent, payload: bytes, places: dict[str, list[tuple[int, int]]]) -> bytes:
        """What goes up in its place: the same, with the deployment's name for the model. Raises RouterError."""
        target, responses = self._target, self._responses
        assert target is not None
        assert responses is not None
        named = model_places(event, payload, places)
        for model, _ in named:
            self._check_model(model)
        if event.type != _SOUND:
            self._check_state(event, payload)
        if event.type == "response.create":
            if self._realtime:
                prompt_tokens, most = (len(payload) >> 2) + 1, event.output_tokens_max
            else:
                facts = json_facts(payload, RESPONSES, self._model)
                prompt_tokens, most = facts.prompt_tokens, facts.completion_tokens_max
            responses.ask(event.event_id, event.stream_id, prompt_tokens, most, monotonic())
        return spliced(payload, [place for _, place in named], target.model_value) if named else payload

    def _check_model(self, model: str) -> None:
        aliases, plan = self._ctx.snapshot.aliases, self._ctx.plan
        assert plan is not None
        if aliases.get(model, model) != plan.plan.model:
            raise InvalidRequestError(
                "A session stays with the model that it was opened with.", code="model_mismatch", param="model"
            )

    def _check_state(self, event: ClientEvent, payload: bytes) -> None:
        """What any event names has to be of this session: its deployment may know what is another key's."""
        if not self._realtime and event.background:
            raise _not_found()
        words = () if self._realtime else _NAMES_OF_STATE
        if names_file(payload, RESPONSES.stored_words) or any(word in payload for word in words):
            named = named_ids(payload, OPAQUE_IN_EVENTS)
            if self._realtime:  # where a response may be of no conversation, or of the session's
                named = {name: field for name, field in named.items() if field != "conversation"}
            if not self._known.issuperset(named):
                raise _not_found()

    def _from_upstream(self, opcode: int, payload: bytes) -> None:
        responses = self._responses
        assert responses is not None
        refusal: LimitedError | None = None
        response_id = ""
        if opcode != BINARY:
            kind = type_of(payload)
            if kind == _BEGUN or kind == "error" or kind in _DONE:
                event = read_server_event(payload)
                now = monotonic()
                if event is None:
                    pass
                elif kind == _BEGUN:
                    refusal = responses.begun(event, now)
                    response_id = event.response.id if event.response is not None else ""
                    self._bind(response_id)
                elif kind == "error":
                    responses.refused(event, now)
                else:
                    responses.done(event, now)
            elif kind.endswith(".delta"):
                responses.flowed(kind, len(payload), monotonic())
        self._rt.sessions.passed(self._operation.name, "out", len(payload))
        self._send(self._client, opcode, payload)
        if refusal is not None:
            self._say(refusal, None)
            self._send(self._upstream, TEXT, cancel_event(response_id, self._event_id()))

    def _bind(self, response_id: str) -> None:
        """A response of this session may be named in it, and by its key elsewhere where homes are kept."""
        plan, key, target = self._ctx.plan, self._ctx.caller.key, self._target
        assert plan is not None
        assert key is not None
        assert target is not None
        self._known.add(response_id)
        if plan.keeps and not self._realtime and is_id(response_id):
            kind = RESOURCES[RESPONSES.name].kind
            self._rt.homes.bind(key, response_id, kind, target.backend.deployment.endpoint.id)

    def _send(self, socket: Socket | None, opcode: int, payload: bytes) -> None:
        """To either end. What may go up is asked at every message."""
        if isinstance(socket, ClientSocket):
            socket.send(opcode, payload)
        elif isinstance(socket, UpstreamSocket):
            try:
                socket.send(self._rt.permit(self._ctx), opcode, payload)
            except PlacementViolationError as error:
                self._rt.violations += 1
                self._rt.books.event("placement_violation", deployment=self._target.id if self._target else "")
                self._withdraw(error, RESTART)
            except UnauthorizedError as error:
                self._withdraw(error, POLICY)

    def _say(self, error: RouterError, event: ClientEvent | None) -> None:
        """Tells the client what was not done; the session goes on."""
        if self._client is not None:
            event_id, stream_id = (event.event_id, event.stream_id) if event is not None else (None, None)
            said = error_event(error, event_id, stream_id, own_id=self._event_id(), nested=self._realtime)
            self._client.send(TEXT, said)

    def _refuse(self, error: RouterError, event: ClientEvent | None) -> None:
        """What a client sent goes nowhere. It could send such events faster than it reads that they are none."""
        self._errors += 1
        if self._errors <= OWN_WORDS_MAX:
            self._say(error, event)
        else:
            self._fail(InvalidRequestError("Too many events had to be refused in a second.", code="too_many_errors"))

    def _event_id(self) -> str:
        self._events += 1
        return f"event_{self._ctx.id}-{self._events}"

    # -- ends

    def _close_received(self, socket: Socket, payload: bytes) -> None:
        """One end closes: the other hears the same code and reason."""
        code, reason = read_close(payload)
        if socket is self._client:
            self._end("client_gone", code, reason, up=code)
            self._client.finish()
        elif self._ending:
            socket.abort()
        else:
            busy = self._responses is not None and self._responses.busy
            if busy:
                self._ctx.error = StreamBrokenError("The deployment closed the session within a response.")
            self._end("stream_broken", code, reason, up=code)

    def _fail(self, error: RouterError) -> None:
        """Ends it for a reason of its own, which the client hears where it is there."""
        if self._ending:
            return
        if isinstance(error, ClientGoneError):
            self._blame(error)
            self._end("client_gone", NO_CODE)
        elif isinstance(error, StreamBrokenError | UpstreamTimeoutError):
            self._ctx.error = error
            self._end("stream_broken", INTERNAL_ERROR, error.message, event=error)
        elif isinstance(error, RefusedError) and self._server.draining:
            self._blame(error)
            self._end("refused", GOING_AWAY, error.message, up=GOING_AWAY)
        else:
            self._blame(error)
            code = TRY_LATER if isinstance(error, RefusedError) else POLICY
            self._end("refused", code, error.message, event=error, up=GOING_AWAY)

    def _blame(self, error: RouterError) -> None:
        """As if it had been answered so: whatever it is, it is no fault of the deployment's."""
        self._ctx.error, self._ctx.status = error, error.status

    def _end(
        self, outcome: str, code: int, reason: str = "", *, event: RouterError | None = None, up: int | None = None
    ) -> None:
        """Once. `outcome`: of the responses that run; `up`: with what code the deployment is let go, None: at once."""
        if self._ending:
            return
        self._ending = True
        self._settle(outcome)
        if event is not None:
            self._say(event, None)
        if self._client is not None:
            self._client.close(code, reason)
        if self._upstream is None:
            self._ctx.inbound.throw(ClientGoneError("The session is over."))  # it is on its way to a deployment
        elif up is None:
            self._upstream.abort()
        else:
            self._send(self._upstream, CLOSE, close_payload(up, reason))
        self._abort_at = monotonic() + FAREWELL_S
        self._server.wheel.ensure(self, self._abort_at)
        self._ctx.inbound.wake()

    def _settle(self, outcome: str) -> None:
        if not self._settled and self._responses is not None:
            self._settled = True
            self._responses.cut(outcome, monotonic())

    # -- the wheel's call

    def on_time(self, now: float) -> float | None:
        if not self._ending:
            self._look(now)
        if self._ending:
            return self._end_slow(now)
        return min(self._pinged_at + PING_EVERY_S, self._ctx.total_at, now + LOOK_EVERY_S)

    def _look(self, now: float) -> None:
        """Ends what has lasted for too long, or stands still."""
        self._errors = self._pongs = 0
        target, responses = self._target, self._responses
        if now >= self._ctx.total_at:
            error = RefusedError("The session has lasted as long as it may. Connect again.", code="session_expired")
            self._end("stream_broken", GOING_AWAY, error.message, event=error, up=NORMAL)
        elif target is None or responses is None or not responses.busy or now < self._heard_at + target.timeouts.idle_s:
            if now >= self._pinged_at + PING_EVERY_S:
                self._ping(now)
        else:
            self._fail(UpstreamTimeoutError("The deployment stopped sending within a response."))

    def _ping(self, now: float) -> None:
        for socket in (self._client, self._upstream):
            if socket is None or self._ending or socket.paused:
                continue  # where we do not read, silence says nothing
            if socket.quiet:
                gone = ClientGoneError("The client answers no ping.")
                self._fail(gone if socket is self._client else StreamBrokenError("The deployment answers no ping."))
                return
            socket.quiet = True
            self._send(socket, PING, b"")
        self._pinged_at = now

    def _end_slow(self, now: float) -> float | None:
        """An end that does not close its side in time is aborted."""
        if now < self._abort_at:
            return self._abort_at
        for socket in (self._client, self._upstream):
            if socket is not None and not socket.lost:
                socket.abort()
        return None


def passed_error(ctx: Context, opening: Opening) -> PassedError:
    """A client's own error, as the deployment put it."""
    head, target = opening.head, opening.target
    assert head is not None
    body = opening.held_body()
    judgement = target.judge(head.status, head.fields, body)
    shown = client_error(head.status, body, judgement, target.backend.deployment, reveal=ctx.caller.reveal)
    error = PassedError("The deployment refused the session.", shown.status, shown.body, {})
    error.origin = Origin.CLIENT
    return error


def _names_stored(facts: Facts, payload: bytes) -> bool:
    return facts.names_stored_state or names_file(payload, RESPONSES.stored_words)


def _not_found() -> InvalidRequestError:
    return InvalidRequestError(
        "The event names state that is not of this session. Send what it needs in the event itself, or name it in the "
        "first event.",
        code="previous_response_not_found",
        param="previous_response_id",
    )


def _no_event() -> RouterError:
    return InvalidRequestError("No event came that names the model.", code="idle_session")
