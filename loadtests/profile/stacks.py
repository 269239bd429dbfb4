"""From samples to shares. A sample is a stack as py-spy writes it: `frame;frame;frame COUNT`, the innermost last."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

THREADS: Final = "other threads: logs to their files"
LOOP: Final = "event loop: wait, read from sockets"
WRITING: Final = "write to sockets"
OTHER: Final = "other"

# The first row that a frame's `file:function` matches names the sample; frames are asked from the innermost outwards.
_PHASES: Final = tuple(
    (re.compile(pattern), phase)
    for pattern, phase in (
        (r"telemetry/(access_log|decision_log|anchors)|accounting/chain", "access log and decision log"),
        (r"accounting/", "read events and usage"),
        (r"telemetry/trac", "traces"),
        (r"telemetry/", "metrics"),
        (r"transport/(inbound|client_connection)\.py:.*(answer|write|\.end$|break_off|abandon)", "reply"),
        (r"transport/(inbound|client_connection|server|heads|framing)", "inbound: parse, count"),
        (r"transport/(fiber|wheel)", "coroutine, timers"),
        (r"transport/", "upstream: take, send, parse"),
        (r"proxy/(lifecycle\.py:_(recognise|admit)|surface)|limits/admission|model/keys", "who asks, for what; admit"),
        (r"proxy/runtime\.py:.*(authenticate|count_in)", "who asks, for what; admit"),
        (r"proxy/(facts|json_keys|multipart|lifecycle\.py:_read_facts)|limits/estimate", "facts of the body"),
        (r"proxy/(lifecycle\.py:_place|choice|fleet|waiting|queues|backend)", "place, pick, book"),
        (r"(placement|balancing|health|resilience|limits)/", "place, pick, book"),
        (r"proxy/(attempts|asking|hedging|outgoing|signing)|providers/", "attempt"),
        (r"proxy/(answer|replies|failures|lifecycle\.py:_(reply|relay|headers))", "reply"),
        (r"proxy/(settlement|ending|context)", "settle"),
        (r"proxy/", "life of the request"),
        (r"jobs/", "jobs"),
    )
)
_FRAME: Final = re.compile(r"(?P<function>.*) \((?P<file>[^()]*?)(?::(?P<line>\d+))?\)$")
_WRITES: Final = re.compile(r"\b(write|writelines|sendall|send)\(")

_STARTERS: Final = ("router/cli/", "router/worker", "router/__")  # at the bottom of every stack
_MAIN: Final = "MainThread"

SourceLine = Callable[[str, int], str]


@dataclass(frozen=True, slots=True)
class Frame:
    function: str
    file: str
    line: int

    @staticmethod
    def parse(text: str) -> "Frame":
        found = _FRAME.match(text.strip())
        return Frame(found["function"], found["file"], int(found["line"] or 0)) if found else Frame(text.strip(), "", 0)

    @property
    def ours(self) -> bool:
        return self.file.startswith("router/") and not self.file.startswith(_STARTERS)

    @property
    def place(self) -> str:
        return f"{self.file.removeprefix('router/')}:{self.function}"


def parse(text: str) -> Counter[tuple[Frame, ...]]:
    """The main thread's samples by stack, outermost frame first. Each line begins with the thread.

    Threads that wait for work are sampled as if they worked, so the others are told by their CPU instead.
    """
    stacks: Counter[tuple[Frame, ...]] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = stack.split(";")
        if _MAIN in thread and frames:
            stacks[tuple(Frame.parse(frame) for frame in frames)] += int(count)
    return stacks


def phase_of(stack: tuple[Frame, ...], source: SourceLine) -> str:
    """What the request was in when the sample was taken. `source` gives a line of a file of ours, or nothing."""
    inner = [frame for frame in reversed(stack) if frame.ours]
    if not inner:
        return LOOP
    leaf = stack[-1]
    if leaf.ours and leaf.file.startswith("router/transport/") and _WRITES.search(source(leaf.file, leaf.line)):
        return WRITING
    for frame in inner:
        for pattern, phase in _PHASES:
            if pattern.match(frame.place):
                return phase
    return OTHER


def by_phase(stacks: Mapping[tuple[Frame, ...], int], source: SourceLine) -> dict[str, float]:
    """Shares of the main thread's samples, the largest first."""
    return _shares((phase_of(stack, source), count) for stack, count in stacks.items())


def by_function(stacks: Mapping[tuple[Frame, ...], int]) -> dict[str, float]:
    """Shares of samples by the innermost function of ours, with what it calls of others: C code and the kernel."""
    return _shares(
        (next((frame.place for frame in reversed(stack) if frame.ours), "the event loop"), count)
        for stack, count in stacks.items()
    )


def _shares(counts: Iterable[tuple[str, int]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for name, count in counts:
        total[name] += count
    whole = total.total() or 1
    return {name: count / whole for name, count in total.most_common()}


def parse_objects(report: str) -> dict[str, float]:
    """Shares by program or library from `perf report --sort dso`; what is below 0.5 % is left out."""
    found = re.findall(r"^\s*([\d.]+)%\s+(\S+)\s*$", report, re.MULTILINE)
    return {name: float(percent) / 100 for percent, name in found if float(percent) >= 0.5}
