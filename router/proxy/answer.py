"""One attempt's answer, from the send to its end.

Until the commit point everything is held, and the attempt may still be given up for another. From then on bytes go to
the client in the same call that brought them: untouched where a read is whole chunks of whole events, re-framed from
llhttp's payload otherwise.
"""

import json
from bisect import bisect_left
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from router.accounting.events import last_event_end
from router.accounting.stream import StreamWatch, before_done, watch_for, without_hidden_usage
from router.accounting.usage import read_usage, usage_of
from router.base.errors import RouterError, StreamBrokenError, UpstreamError, UpstreamTimeoutError
from router.model.operation import Ending
from router.model.outcome import Usage
from router.proxy.backend import Target
from router.telemetry.metrics import GAP_BOUNDS_S, Gaps
from router.transport.inbound import Inbound
from router.transport.upstream import AnswerHead, UpstreamConnection

HELD_BYTES_MAX: Final = 1 << 20
USAGE_TAIL_BYTES: Final = 16 << 10
_PROVEN: Final = frozenset({Ending.CHAT, Ending.RESPONSES})  # whose streams say themselves that they are whole
_COMMENT: Final = b": keep-alive\n\n"


class Answer:
    """Takes what one upstream connection brings (see `AnswerSink`) and, once told to flow, passes it on.

    What stands on the class is how every answer begins.
    """

    tick = 0  # the wheel's own
    head: AnswerHead | None = None
    committed = False  # no further attempt after this
    ended = False  # whole, by HTTP's framing
    error: RouterError | None = None  # why it will not become whole
    is_stream = False
    succeeded = False  # a status of success. What is not is held whole, to be judged
    flowing = False  # bytes go to the client as they come
    watch: StreamWatch | None = None
    first_byte_at = 0.0
    first_token_at = 0.0  # of a stream: when its first event with content came
    hide_usage = False  # the router asked for the usage chunk, and the client did not
    objective_at = inf  # monotonic seconds: given up then, where another deployment may be asked
    before_events: Callable[[bytes], None] | None = None  # is shown a stream's events before they leave
    _paused = False
    _untouched = False  # this client reads chunked coding: what needs no change is passed as it came
    _held_bytes = 0
    _gaps: Gaps | None = None
    _gap_counts: list[int] = []  # noqa: RUF012 - of `_gaps`, once a stream flows
    _gaps_from = 0.0  # what lies between this and the last event is what the gaps come to
    _rest = b""  # of a stream: the begin of an event whose end has not come
    _tail_bytes = 0

    def __init__(
        self,
        inbound: Inbound,
        target: Target,
        connection: UpstreamConnection,
        asked_stream: bool,
        give_up_at: float,
        total_at: float,
        now: float,
    ) -> None:
        """`give_up_at`: the commit point must have been reached; `total_at`: the request's last moment.

        Both in monotonic seconds. `asked_stream`: the client wants events. `connection`: its own until it has ended.
        """
        self.target = target
        self.give_up_at = give_up_at
        self.sent_at = self._wrote_at = self._progress_at = now
        self._inbound = inbound
        self._connection: UpstreamConnection | None = connection
        self._total_at = total_at
        self._asked_stream = asked_stream
        self._held: list[bytes] = []
        self._tail: list[bytes] = []  # of an answer that is no stream: its last pieces, for the usage in it

    # -- what the attempt asks

    @property
    def finished(self) -> bool:
        return self.ended or self.error is not None

    @property
    def in_error(self) -> bool:
        """A stream that reported an error before its commit point."""
        return self.watch is not None and self.watch.error is not None and not self.committed

    @property
    def decided(self) -> bool:
        """It is known whether this is the answer: committed, over, or in error."""
        watch = self.watch
        return self.committed or self.ended or self.error is not None or (watch is not None and watch.error is not None)

    @property
    def silent_until(self) -> float:
        """Monotonic seconds: a stream whose head is here commits then, even without content."""
        return self.first_byte_at + self.target.timeouts.commit_after_ms / 1000

    @property
    def look_again_at(self) -> float:
        """Monotonic seconds of the next moment at which waiting for the commit point has to be reconsidered."""
        at = self.give_up_at
        if self.is_stream and self.silent_until < at:
            at = self.silent_until
        return at if at < self.objective_at else self.objective_at  # noqa: FURB136 - a call costs more

    def late(self) -> RouterError | None:
        """What passing `look_again_at` means: an error, or (None) that there is something to be looked at."""
        now = monotonic()
        if self.is_stream and self.silent_until < self.give_up_at and now >= self.silent_until:
            self.committed = True  # a head, and long silence behind it: the client learns that we are there
            return None
        if now < self.give_up_at:
            return None  # the objective has passed, or whoever waits had an earlier moment of its own
        return UpstreamTimeoutError("The deployment did not answer in time.")

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def forget_usage(self) -> None:
        """For an answer that only repeats what another reported."""
        self._tail = []
        if self.watch is not None:
            self.watch.usage = None

    def held_body(self) -> bytes:
        """All that is held: the whole body of an answer that has ended before it was let flow."""
        return b"".join(self._held)

    def usage(self) -> Usage | None:
        """What the answer reported. For an answer that is no stream: once it has ended."""
        if self.watch is not None:
            return self.watch.usage
        if not self.succeeded:
            return None
        tail = b"".join(self._tail)
        if not tail:
            return None
        return read_usage(tail) if self._tail_bytes == len(tail) else _usage_in_tail(tail)

    def tokens_so_far(self) -> int:
        """An estimate of what has been generated: a token an event, four bytes a token where it is no stream."""
        if self.watch is not None:
            return self.watch.deltas if self.watch.committed else 0
        return self._tail_bytes >> 2 if self.target.operation.ending in _PROVEN else 0

    def complete(self) -> bool:
        """Whole by framing, and (a stream) by its own last event."""
        return self.ended and self.error is None and (self.watch is None or self.watch.complete)

    def flow(self, now: float, gaps: Gaps | None) -> None:
        """Passes on what is held, and from now on everything as it comes. The client's head is out already.

        `gaps`: where those of a stream are counted.
        """
        inbound = self._inbound
        self.flowing = True
        self._progress_at = now
        held, self._held = self._held, []
        payload = b"".join(held)
        if self.is_stream:
            self._write_events(payload)
            # Until the first content is seen, each event is looked at on its own way; nor while one has to be bound.
            self._untouched = inbound.answer_chunked and self.first_token_at > 0.0 and self.before_events is None
        else:
            inbound.write_payload(payload)
        if gaps is not None:
            self._gaps, self._gap_counts, self._gaps_from = gaps, gaps.counts, self._progress_at
        inbound.on_write_pause = self._on_write_pause
        if inbound.write_paused:
            self._on_write_pause(True)

    def stop(self) -> None:
        """Lets the client's connection go: nothing flows any more."""
        self._inbound.on_write_pause = None
        if self._gaps is not None:
            self._gaps.sum_s += self._progress_at - self._gaps_from

    def abort(self) -> None:
        """Ends the upstream connection at once, if the answer still has it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    # -- AnswerSink

    def head_received(self, head: AnswerHead) -> None:
        self.head = head
        self.first_byte_at = self._progress_at = monotonic()
        if not 200 <= head.status < 300:
            return
        self.succeeded = True
        fields = head.fields
        kind = fields[b"content-type"].lower() if b"content-type" in fields else b""
        if b"content-encoding" in fields and fields[b"content-encoding"].lower() != b"identity":
            self._fail(_invalid("it is encoded, which was not asked for"))
        elif kind.startswith(b"text/event-stream"):
            self.is_stream = True
            self.watch = watch_for(self.target.operation.ending, needs_done=self.target.route.needs_done)
        elif (
            self._asked_stream and self.target.operation.ending in _PROVEN and not kind.startswith(b"application/json")
        ):
            self._fail(_invalid("a stream was asked for, and nothing would tell whether this is whole"))
        else:
            self.committed = True

    def body_received(self, data: bytes, payload: bytes, whole_chunks: bool, /) -> None:
        watch = self.watch
        if watch is None:
            self._take_plain(payload)
        elif not self.flowing:
            events = self._whole_events(payload)
            if events:
                watch.observe(events)
                self._hold(events)
                if watch.committed:
                    self.committed = True
                    self.first_token_at = self.first_token_at or monotonic()
        elif whole_chunks and self._untouched and not self._rest and data.endswith(b"\n\n\r\n"):
            # Every chunk of most streams: whole events, in a framing that the client reads as well.
            watch.observe(payload)
            if watch.look_closer:
                self._write_events(payload)
            else:
                if payload[0] != 58:  # 58: a colon; a comment is no progress
                    now = monotonic()
                    self._gap_counts[bisect_left(GAP_BOUNDS_S, now - self._progress_at)] += 1
                    self._progress_at = now
                self._inbound.write(data)
        else:
            events = self._whole_events(payload)
            if events:
                watch.observe(events)
                self._write_events(events)

    def whole_received(self, head: AnswerHead, payload: bytes) -> None:
        self.head_received(head)
        if self.watch is not None or self.error is not None:
            self.body_received(payload, payload, False)
        else:
            self._held = [payload]
            self._tail, self._tail_bytes = self._held, len(payload)
        self.answer_ended()

    def answer_ended(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._paused:
                connection.resume()
            self.target.backend.pool.give(connection)
        if self._rest:
            self.error = UpstreamError("The deployment's stream ended in the middle of an event.")
        else:
            self.ended = True

    def answer_broken(self, error: RouterError) -> None:
        self._connection = None
        if self.error is None:
            self.error = error

    def read_finished(self) -> None:
        if not self.flowing or self.finished:
            self._inbound.wake()

    # -- the wheel's call, while the answer flows

    def on_time(self, now: float) -> float | None:
        if self.finished:
            return None
        idle_at = self._progress_at + self.target.timeouts.idle_s
        if now >= self._total_at or now >= idle_at:
            if self._paused:
                self._inbound.stands_still()
            else:
                self._fail(UpstreamTimeoutError("The deployment stopped sending before its answer was whole."))
            return None
        comment_at = self._total_at
        if self.is_stream:
            comment_at = max(self._progress_at, self._wrote_at) + self.target.timeouts.comment_every_s
            if now >= comment_at:
                if not self._paused:
                    self._inbound.write_payload(_COMMENT)
                    self._wrote_at = now
                comment_at = now + self.target.timeouts.comment_every_s
        return min(idle_at, self._total_at, comment_at)

    # -- within

    def _take_plain(self, payload: bytes) -> None:
        if self.succeeded:
            self._keep_tail(payload)
            if self.flowing:
                self._progress_at = monotonic()
                self._inbound.write_payload(payload)
                return
        self._hold(payload)

    def _hold(self, payload: bytes) -> None:
        self._held.append(payload)
        self._held_bytes += len(payload)
        if self._held_bytes > HELD_BYTES_MAX and not self.committed:
            self._fail(UpstreamError("The deployment's answer is too long to be judged."))

    def _keep_tail(self, payload: bytes) -> None:
        self._tail.append(payload)
        self._tail_bytes += len(payload)
        if self._tail_bytes > HELD_BYTES_MAX:
            kept = b"".join(self._tail)[-USAGE_TAIL_BYTES:]
            self._tail = [kept]

    def _whole_events(self, payload: bytes) -> bytes:
        """Returns what is whole by now, and keeps the rest until its end comes."""
        if self._rest:
            payload = self._rest + payload
        end = last_event_end(payload)
        self._rest = payload[end:]
        if len(self._rest) > HELD_BYTES_MAX:
            self._fail(UpstreamError("The deployment sent an event of more than 1 MiB."))
        return payload[:end] if end < len(payload) else payload

    def _write_events(self, events: bytes) -> None:
        watch = self.watch
        assert watch is not None
        if self.before_events is not None:
            self.before_events(events)
        if watch.look_closer:
            if watch.usage_chunk and self.hide_usage:
                events = without_hidden_usage(events)
            if watch.early_done:
                events = before_done(events)
        if events and not events.startswith(b":"):
            now = monotonic()
            if self._gap_counts:
                self._gap_counts[bisect_left(GAP_BOUNDS_S, now - self._progress_at)] += 1
            self._progress_at = now
            if not self.first_token_at and watch.committed:
                self.first_token_at = now
                self._untouched = self._inbound.answer_chunked and self.before_events is None
        self._inbound.write_payload(events)
        if watch.early_done:
            self._fail(UpstreamError("The deployment ended the stream before it was complete."))

    def _fail(self, error: RouterError) -> None:
        if self.error is None:
            self.error = error
        self.abort()
        self._inbound.wake()

    def _on_write_pause(self, paused: bool) -> None:
        """The client is slower than the deployment: no more is read until it has caught up."""
        now = monotonic()
        self._gaps_from += now - self._progress_at
        self._progress_at = now  # the wait is the client's
        self._paused = paused
        if self._connection is not None:
            if paused:
                self._connection.pause()
            else:
                self._connection.resume()


def _invalid(why: str) -> UpstreamError:
    return UpstreamError(f"The deployment's answer cannot be used: {why}.", code="upstream_invalid")


def broken(error: RouterError | None) -> StreamBrokenError:
    """The error of an answer that began and did not become whole."""
    said = error.message if error is not None else "The deployment ended the stream before it was complete."
    return StreamBrokenError(said)


def _usage_in_tail(tail: bytes) -> Usage | None:
    """Looks for the usage object at the end of an answer too long to be kept."""
    at = tail.rfind(b'"usage"')
    if at < 0:
        return None
    text = tail[at + 7 :].decode("utf-8", "replace").lstrip(" \t\r\n:")
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return usage_of(value)
