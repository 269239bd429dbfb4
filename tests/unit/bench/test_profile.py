"""Samples of a profile go to the phase that they were in."""

import pytest

from loadtests.profile.stacks import LOOP, OTHER, WRITING, by_function, by_phase, parse, parse_objects, phase_of

BASE = "thread (0x7f): MainThread;serve (router/cli/serve.py:27);Runner.run (asyncio/runners.py:118)"
RECEIVED = f"{BASE};UpstreamConnection.data_received (router/transport/upstream.py:217)"


def no_source(_file: str, _line: int) -> str:
    return ""


@pytest.mark.parametrize(
    ("stack", "phase"),
    [
        (BASE, LOOP),
        (RECEIVED, "upstream: take, send, parse"),
        (
            f"{RECEIVED};serve (router/proxy/lifecycle.py:52);_place (router/proxy/lifecycle.py:120)",
            "place, pick, book",
        ),
        (f"{RECEIVED};serve (router/proxy/lifecycle.py:52)", "life of the request"),
        (f"{RECEIVED};settle (router/proxy/settlement.py:70);dumps (json/__init__.py:9)", "settle"),
        (f"{RECEIVED};read_events (router/accounting/events.py:9)", "read events and usage"),
        (f"{RECEIVED};Chain.seal (router/accounting/chain.py:9)", "access log and decision log"),
        (f"{RECEIVED};AccessLog.write (router/telemetry/access_log.py:90)", "access log and decision log"),
        (f"{RECEIVED};RequestMetrics.record (router/telemetry/metrics.py:90)", "metrics"),
        (f"{BASE};Inbound.begin_answer (router/transport/inbound.py:193)", "reply"),
        (f"{BASE};Connection.data_received (router/transport/client_connection.py:300)", "inbound: parse, count"),
        (f"{BASE};report (router/admin/app.py:3)", OTHER),
    ],
)
def test_phases(stack: str, phase: str) -> None:
    [frames] = parse(f"{stack} 7")
    assert phase_of(frames, no_source) == phase


def test_a_line_that_writes_is_the_kernel_at_work() -> None:
    [frames] = parse(f"{RECEIVED};Inbound.write (router/transport/inbound.py:214) 3")
    lines = {("router/transport/inbound.py", 214): "        self._transport.write(data)\n"}
    assert phase_of(frames, lambda file, line: lines.get((file, line), "")) == WRITING
    assert phase_of(frames, no_source) == "reply"


def test_shares_are_of_the_main_thread_and_add_up() -> None:
    text = f"{BASE} 60\n{RECEIVED} 30\n{RECEIVED} 10\nthread (0x8): writer;wait (threading.py:324) 900\n\n"
    stacks = parse(text)
    assert stacks.total() == 100
    assert by_phase(stacks, no_source) == {LOOP: 0.6, "upstream: take, send, parse": 0.4}
    assert by_function(stacks) == {
        "the event loop": 0.6,
        "transport/upstream.py:UpstreamConnection.data_received": 0.4,
    }


def test_objects_are_read_from_perfs_report() -> None:
    report = "# Samples: 5K\n#\n    57.99%  python3.11\n    29.17%  [kernel.kallsyms]\n     0.20%  ld.so\n\n"
    assert parse_objects(report) == {"python3.11": 0.5799, "[kernel.kallsyms]": 0.2917}
