"""What must hold for whatever bytes come, on each side of the wire and in bodies. Everything is read without a socket.

Each target takes one input as its reads, and raises AssertionError (or whatever broke) where something does not hold.
The second parser is h11. Where the two differ about what is good, the router is the one that refuses.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from itertools import chain
from typing import Any, Final

import h11

from router.base.errors import InvalidRequestError
from router.limits.admission import admit_body
from router.model.operation import CHAT
from router.proxy.facts import form_facts, json_facts
from router.transport.inbound import Inbound
from tests.fuzz.mutating import Mutator, corpus
from tests.property import test_wire_inbound as inbound
from tests.property import test_wire_upstream as upstream
from tests.unit.proxy.test_bombs import FORMS, JSON
from tests.wire.fakes import Client, Handler, Seen
from tests.wire.test_inbound_rules import RULES
from tests.wire.test_upstream_answers import BAD, GOOD, Upstream
from tests.wire.whole_router import Exchange, body_of, request

_FORM_TYPE: Final = b"multipart/form-data; boundary=b"
_TRAILERS: Final = re.compile(rb"(\r\n0+(?:;[^\r\n]*)?\r\n)(?:[^\r\n]+\r\n)+\r\n")


@dataclass(frozen=True)
class Target:
    """`check`: of one input. `one_in`: of so many inputs it takes one, since it costs so much more than the others."""

    name: str
    seeds: Sequence[bytes]
    check: Callable[[list[bytes]], None]
    one_in: int = 1

    def mutator(self, rng: random.Random) -> Mutator:
        return Mutator(self.seeds, rng)


class Bounded(Handler):
    """Reads no body that is too long, as the gateway does not."""

    async def serve(self, inbound: Inbound, seen: Seen) -> None:
        admit_body(inbound.body_length, 1 << 20, 0, 1 << 20)
        await super().serve(inbound, seen)


def check_requests(reads: list[bytes]) -> None:
    """All that is served is read by h11 in the same way, in the same order: so each ends where it ends for h11."""
    client = Client(Bounded())
    for data in reads:
        client.feed(data)
    client.check()
    served = [each for each in client.handler.seen if each.body is not None]
    if served:
        data = b"".join(reads).lstrip(b"\r\n")
        expected = inbound.theirs(data)
        if len(served) > len(expected):
            expected = inbound.theirs(_without_trailers(data))
        assert len(served) <= len(expected), "served more than h11 reads"
        for mine, other in zip(served, expected, strict=False):
            assert mine.method == other.method
            assert mine.target == inbound.path_of(other.target)
            assert mine.body == other.body
    client.hang_up()
    client.check()
    server = client.server
    assert not server.connections
    assert len(server.wheel) == 0, "a timer is left"


def check_answers(reads: list[bytes]) -> None:
    """What is whole here is whole to h11, with the same status and payload; and the connection is in order after it."""
    one = Upstream()
    for data in reads:
        one.feed(data)
    kept = one.open and one.sink.ended
    if not kept:
        one.close()
        assert one.sink.over, "an answer whose connection is gone has not ended"
    assert one.lost == (0 if kept else 1)
    sink = one.sink
    if sink.ended:
        assert sink.head is not None
        found = upstream.Outcome(sink.head.status, upstream.plain(sink.payload), True)
        # What stood behind the end may have come in a later read, after the connection was ended.
        said = (upstream.theirs(b"".join(reads[:count])) for count in range(len(reads), 0, -1))
        bare = (upstream.theirs(_without_trailers(b"".join(reads[:count]))) for count in range(len(reads), 0, -1))
        assert any(each == found for each in chain(said, bare)), "whole here, and otherwise or refused by h11"


def check_forwarded(reads: list[bytes]) -> None:
    """Whatever a client wrote: what is sent on is one request to h11 too, of one model."""
    one = Exchange(reads[0] if reads else b"")
    for data in reads[1:]:
        one.client.feed(data)
    sent = bytes(one.transport.out)
    if sent:
        server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        server.receive_data(sent)
        events: list[Any] = []
        while not isinstance(event := server.next_event(), h11.EndOfMessage):
            assert event is not h11.NEED_DATA, "what was sent is not whole"
            events.append(event)
        assert server.trailing_data[0] == b"", "more than one request was sent"
        assert isinstance(events[0], h11.Request)
        fields = [name for name, _ in events[0].headers]
        assert len(set(fields)) == len(fields)
        assert b"transfer-encoding" not in fields
        body = b"".join(bytes(event.data) for event in events[1:])
        model = [value for name, value in _pairs(body) if name.lower() == "model"]
        assert model == ["dep"]
    one.client.hang_up()
    one.close()
    one.client.check()
    assert not one.assembly.gateway.server.connections
    assert not any(one.assembly.runtime.in_flight.values())
    assert one.backend.in_flight == 0


def check_json(reads: list[bytes]) -> None:
    """A body that is taken is JSON to the standard library as well, names one model, and that is the one found."""
    body = bytearray(b"".join(reads))
    try:
        facts = json_facts(body, CHAT, None)
    except InvalidRequestError:
        return
    pairs = _pairs(bytes(body))
    models = [value for name, value in pairs if name.lower() == "model"]
    assert models == [facts.model]
    assert facts.model_at is not None
    assert json.loads(body[facts.model_at.start : facts.model_at.end]) == facts.model
    for name in ("stream", "store", "stream_options"):
        assert sum(key == name for key, _ in pairs) <= 1


def check_form(reads: list[bytes]) -> None:
    """A form that is taken has one model to the library's reader of mail too, and it is the one found."""
    body = b"".join(reads)
    try:
        facts = form_facts(body, _FORM_TYPE, None)
    except InvalidRequestError:
        return
    mail = BytesParser().parsebytes(b"Content-Type: %b\r\n\r\n%b" % (_FORM_TYPE, body))
    parts = mail.get_payload()
    assert isinstance(parts, list)
    names = [part.get_param("name", header="content-disposition") for part in parts if isinstance(part, Message)]
    assert names.count("model") <= 1, names
    assert facts.model_at is not None
    assert body[facts.model_at.start : facts.model_at.end] == facts.model.encode()


def _without_trailers(data: bytes) -> bytes:
    """We drop trailers unread, and h11 refuses fields of framing among them: neither moves an end."""
    return _TRAILERS.sub(rb"\1\r\n", data)


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    """Of the top level, as they stand."""
    # Numbers as they are written: the library refuses to make some of long ones, which says nothing about the body.
    found = json.loads(body, object_pairs_hook=_Object, parse_int=str, parse_float=str)
    assert isinstance(found, _Object)
    return found


class _Object(list[tuple[str, Any]]):
    """An object's pairs, repeated names included."""


def _get(path: bytes = b"/") -> bytes:
    return b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path


def _post(body: bytes, path: bytes = b"/") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (path, len(body), body)


def _post_chunked(body: bytes, path: bytes = b"/") -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"


def _request_seeds() -> list[bytes]:
    return [
        *(data for data, _, _ in RULES.values()),
        *corpus("client"),
        *(write(body, b"/1") for write in (_post, _post_chunked) for body in (b"", b"hello", _get(b"/in"), b"x" * 70)),
        _get() + _post(b"hello") + _get(),
        _post_chunked(b"hello") + _get(b"/2"),
    ]


def _forwarded_seeds() -> list[bytes]:
    bodies = [body_of(stream=False), body_of(stream=True), body_of(stream=True, stream_options={"include_usage": True})]
    plain = [request(body) for body in bodies]
    head, _, body = plain[0].partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    chunked = b"\r\n".join([*lines, b"Transfer-Encoding: chunked", b"", b"%x" % len(body), body, b"0", b"", b""])
    azure = request(bodies[0], path="/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21")
    return [*plain, chunked, azure, plain[0] + plain[1], *(request(body) for body in corpus("body"))]


TARGETS: Final = (
    Target("requests", _request_seeds(), check_requests),
    Target("answers", [*(data for data, _ in GOOD.values()), *BAD.values(), *corpus("stream")], check_answers),
    Target("json", [*(body for body, _ in JSON.values()), *corpus("body"), body_of(stream=True)], check_json),
    Target("forms", [body for body, _ in FORMS.values()], check_form),
    Target("forwarded", _forwarded_seeds(), check_forwarded, one_in=100),
)
