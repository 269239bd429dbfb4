"""Scripted faults: what goes wrong, for which requests, and how often.

Decides which fault befalls a request; enacting it on the wire is `exchange`'s work. At most one fault befalls a
request: the first of the list that matches and fires.
"""

import enum
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

from router.emulator import shapes
from router.emulator.bodies import BODIES


class Kind(enum.Enum):
    """What goes wrong."""

    REFUSE = "refuse"  # the listening socket is closed for `for_s` (default 1) from now on; open connections stay
    SLOW_ACCEPT = "slow_accept"  # the connection is accepted `delay_ms` late (TLS and bytes wait)
    SLOW_HEAD = "slow_head"  # the answer's head comes `delay_ms` late
    RESET_BEFORE_HEAD = "reset_before_head"  # RST in place of an answer
    RESET_AFTER_HEAD = "reset_after_head"  # RST behind the head
    STALL_BEFORE_HEAD = "stall_before_head"  # silence in place of a head, for `delay_ms` or until the client leaves
    STALL_MID_STREAM = "stall_mid_stream"  # silence after `after_events`, for `delay_ms` or until the client leaves
    CUT_AT = "cut_at"  # a clean close after `at_byte` bytes of the answer, head included
    RESET_AT = "reset_at"  # RST after `at_byte` bytes of the answer, head included
    EARLY_CLOSE = "early_close"  # no framing but the close (FIN, close_notify), after `after_events` or `at_byte`
    STATUS = "status"  # an error answer: `status`, `body`, `retry_after`, `retry_after_ms`, `headers`
    REDIRECT = "redirect"  # 302 to `value`
    ERROR_EVENT = "error_event"  # an error event in a 200 stream after `after_events`, in `shape`; then the end
    MALFORMED_CHUNK = "malformed_chunk"  # after `after_events` a chunk whose size is no number
    EXTRA_BYTES = "extra_bytes"  # `value` behind the whole answer, `delay_ms` later
    INTERIM_1XX = "interim_1xx"  # an interim answer `status` (103) before the final one
    NO_DONE = "no_done"  # a stream without its [DONE]
    NO_FINISH = "no_finish"  # a stream without its finish_reason, or its *.completed or *.done event
    BAD_CONTENT_LENGTH = "bad_content_length"  # the length is wrong by `delta`, or is `value`
    BAD_TRANSFER_ENCODING = "bad_transfer_encoding"  # chunked, but under the name `value`


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault. Everything but `kind` may be left out; which kind reads what is said at `Kind`."""

    kind: Kind
    operation: str | None = None  # only this operation
    deployment: str | None = None  # only this deployment
    share: float = 1.0  # befalls this share of the matching requests
    times: int | None = None  # ends after so many; None: never
    skip: int = 0  # lets so many matching requests pass first
    for_s: float | None = None  # ends this long after it was added
    after_events: int = 0
    at_byte: int = 0
    delay_ms: float | None = None
    status: int | None = None
    body: str | None = None  # a name of `bodies.BODIES`; None: what goes with the status
    retry_after: str | None = None  # seconds, or any other text
    retry_after_ms: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    shape: str = "nested"  # of an error event: nested, or flat as the responses API documents it
    delta: int = 10
    value: str | None = None


def _kind(raw: object) -> Kind:
    return Kind(shapes.one_of(*(kind.value for kind in Kind))(raw))


def _wait(raw: object) -> str:
    """Numbers and texts alike: what stands in a Retry-After is for the router to doubt."""
    return raw if isinstance(raw, str) else f"{shapes.number(raw):g}"


def _status(raw: object) -> int:
    value = shapes.whole(raw)
    if not 100 <= value <= 999 or value == 101:
        raise shapes.EmulatorConfigError(f"must be a status from 100 to 999 other than 101, not {raw!r}")
    return value


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "kind": _kind,
    "operation": shapes.text,
    "deployment": shapes.text,
    "share": shapes.share,
    "times": shapes.optional(shapes.whole),
    "skip": shapes.whole,
    "for_s": shapes.optional(shapes.number),
    "after_events": shapes.whole,
    "at_byte": shapes.whole,
    "delay_ms": shapes.optional(shapes.number),
    "status": _status,
    "body": shapes.one_of(*BODIES),
    "retry_after": _wait,
    "retry_after_ms": _wait,
    "headers": shapes.texts,
    "shape": shapes.one_of("nested", "flat"),
    "delta": shapes.signed,
    "value": shapes.text,
}


def read_fault(raw: object, where: str) -> Fault:
    """Reads one fault of the file or of the control path. Raises EmulatorConfigError."""
    found = shapes.fields(raw, where, _READERS)
    if "kind" not in found:
        raise shapes.EmulatorConfigError(f"{where}: has no kind")
    return Fault(**found)


def read_faults(raw: object, where: str = "faults") -> tuple[Fault, ...]:
    if not isinstance(raw, list):
        raise shapes.EmulatorConfigError(f"{where}: must be a list")
    return tuple(read_fault(one, f"{where}[{index}]") for index, one in enumerate(raw))


@dataclass(slots=True)
class _Scripted:
    fault: Fault
    added_at: float
    seen: int = 0
    fired: int = 0


class FaultBook:
    """The faults of one cloud, in the order they were added."""

    def __init__(self, rng: random.Random, now: Callable[[], float]) -> None:
        self._rng, self._now = rng, now
        self._scripted: list[_Scripted] = []
        self.on_refuse: Callable[[float], None] = lambda _for_s: None
        self.on_clear: Callable[[], None] = lambda: None

    def add(self, kind: str | Fault, **values: Any) -> Fault:
        """Adds a fault, written as in the file: `add("status", status=429, times=2)`. Raises EmulatorConfigError."""
        fault = kind if isinstance(kind, Fault) else read_fault({"kind": kind, **values}, "fault")
        self._scripted.append(_Scripted(fault, self._now()))
        if fault.kind is Kind.REFUSE:
            self.on_refuse(1.0 if fault.for_s is None else fault.for_s)
        return fault

    def extend(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self.add(fault)

    def clear(self) -> None:
        """Forgets all faults; a refused port listens again."""
        self._scripted.clear()
        self.on_clear()

    def draw(self, operation: str | None, deployment: str | None) -> Fault | None:
        """The fault that befalls this request, if any; counts it."""
        return self._first(lambda fault: fault.kind not in _OF_CONNECTIONS, operation, deployment)

    def draw_accept(self) -> Fault | None:
        """The fault that befalls a new connection, if any; counts it."""
        return self._first(lambda fault: fault.kind is Kind.SLOW_ACCEPT, None, None)

    def listed(self) -> list[dict[str, Any]]:
        """For the control path: each fault as it is written, with how often it matched and fired."""
        return [
            {**_written(one.fault), "seen": one.seen, "fired": one.fired, "active": self._active(one)}
            for one in self._scripted
        ]

    def _first(self, wanted: Callable[[Fault], bool], operation: str | None, deployment: str | None) -> Fault | None:
        for one in self._scripted:
            fault = one.fault
            if not wanted(fault) or not self._active(one):
                continue
            if fault.operation not in (None, operation) or fault.deployment not in (None, deployment):
                continue
            one.seen += 1
            if one.seen <= fault.skip or (fault.share < 1 and self._rng.random() >= fault.share):
                continue
            one.fired += 1
            return fault
        return None

    def _active(self, one: _Scripted) -> bool:
        fault = one.fault
        if fault.times is not None and one.fired >= fault.times:
            return False
        return fault.for_s is None or self._now() - one.added_at < fault.for_s


_OF_CONNECTIONS: Final = (Kind.REFUSE, Kind.SLOW_ACCEPT)


def _written(fault: Fault) -> dict[str, Any]:
    values = {field.name: getattr(fault, field.name) for field in fields(fault)}
    values["kind"] = fault.kind.value
    values["headers"] = dict(fault.headers)
    return values
