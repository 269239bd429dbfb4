"""The benchmark's own arithmetic: a harness that counts wrongly says nothing about the router."""

import asyncio
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from loadtests.bench import figures, procfs, wrk
from loadtests.bench.bodies import chat_body, raw_request
from loadtests.bench.closed import ClosedLoop
from loadtests.bench.document import write_json
from loadtests.bench.figures import Round, Sample, Spread
from loadtests.bench.mode import Options
from loadtests.bench.modes import MODES
from loadtests.bench.open_loop import open_loop
from loadtests.bench.processes import BenchError, Cores, running
from loadtests.bench.rounds import Result, _round
from loadtests.bench.streams import EventCounter
from loadtests.bench.subjects import Nginx, Site, Target, derive_config

HERE = Path(__file__).parents[2]


class TestProc:
    """Samples as Linux writes them."""

    def test_cpu_line_gives_total_and_steal(self) -> None:
        stat = "cpu  100 5 50 1000 7 0 3 40 20 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
        assert procfs.parse_machine_time(stat) == procfs.MachineTime(total=1205, steal=40, busy=158)

    def test_steal_share_is_of_the_time_between(self) -> None:
        before, after = procfs.MachineTime(1000, 40, 500), procfs.MachineTime(1400, 48, 600)
        assert after.steal_share_since(before) == pytest.approx(0.02)
        assert before.steal_share_since(before) == 0.0

    def test_what_others_took_is_what_we_did_not(self) -> None:
        before, after = procfs.MachineTime(1000, 40, 500), procfs.MachineTime(1400, 48, 600)
        own_s = 60 / procfs.TICKS_PER_S
        assert after.foreign_share_since(before, own_s) == pytest.approx(0.10)
        assert after.foreign_share_since(before, own_s * 2) == 0.0
        assert before.foreign_share_since(before, own_s) == 0.0

    @pytest.mark.parametrize("name", ["nginx", "a b", "odd) R 9 9 (name"])
    def test_ticks_are_found_behind_any_name(self, name: str) -> None:
        before_utime = "S 1 2 3 4 5 6 7 8 9 10"
        stat = f"4711 ({name}) {before_utime} 300 120 11 4 20 0 1 0 5 6 7"
        assert procfs.parse_cpu_ticks(stat) == (420, 15)

    def test_run_time_is_the_first_number(self) -> None:
        assert procfs.parse_run_ns("905745 73900 1\n") == 905745

    def test_pss_is_the_total_and_not_one_of_its_parts(self) -> None:
        rollup = "55d0-7ffe ---p 00000000 00:00 0 [rollup]\nRss: 900 kB\nPss: 512 kB\nPss_Dirty: 100 kB\n"
        assert procfs.parse_pss_bytes(rollup) == 512 * 1024
        with pytest.raises(ValueError, match="no Pss"):
            procfs.parse_pss_bytes("Rss: 900 kB\n")

    def test_cpu_of_a_tree_counts_its_children(self, tmp_path: Path) -> None:
        """The shell itself does nothing; the CPU is burnt by its child, which only the tree can see."""
        child = "import time\nwhile time.process_time() < 0.3: pass\nopen('burnt', 'w').close()\ntime.sleep(60)"
        core = min(os.sched_getaffinity(0))
        command = ["bash", "-c", f"cd '{tmp_path}'; '{sys.executable}' -c \"$0\"; true", child]
        with running("burner", command, core, tmp_path, (tmp_path / "burnt").exists) as pid:
            members = procfs.tree(pid)
            spent = procfs.cpu_s(pid)
            memory = procfs.pss_bytes(procfs.tree(pid))

        assert len(members) == 2
        assert 0.3 <= spent < 3.0
        assert memory > 1 << 20

    def test_a_process_that_is_gone_costs_nothing(self) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        assert procfs.cpu_s(process.pid) == 0.0


class TestProcesses:
    def test_all_of_a_tree_ends_also_when_the_measurement_fails(self, tmp_path: Path) -> None:
        script = "trap '' TERM; sleep 300 & echo $! > child; wait"
        core = min(os.sched_getaffinity(0))
        command = ["bash", "-c", f"cd '{tmp_path}'; {script}"]
        child_file = tmp_path / "child"

        def written() -> bool:
            return child_file.exists() and child_file.read_text().endswith("\n")

        members: list[int] = []

        def measure() -> None:
            with running("stubborn", command, core, tmp_path, written) as pid:
                members.extend((pid, int(child_file.read_text())))
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            measure()
        assert len(members) == 2
        for member in members:
            assert _gone(member), f"{member} is still there"

    def test_a_program_that_ends_at_once_is_an_error_with_its_words(self, tmp_path: Path) -> None:
        core = min(os.sched_getaffinity(0))
        command = ["bash", "-c", "echo no such luck; exit 7"]
        with (
            pytest.raises(BenchError, match=r"hasty ended with 7:\nno such luck"),
            running("hasty", command, core, tmp_path, lambda: False),
        ):
            pass


def _gone(pid: int) -> bool:
    """True when the process has ended, be it waited for or not; given two seconds."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


def a_round(nginx: float, router: float, gauge: float = 8.0, steal: float = 0.0, direct: float | None = None) -> Round:
    samples = {"nginx": Sample(nginx, 100), "router": Sample(router, 100)}
    if direct is not None:
        samples["direct"] = Sample(direct, 100)
    return Round(samples, gauge, steal)


class TestFigures:
    @pytest.mark.parametrize(
        ("gauge", "steal", "void"),
        [
            (8.6, 0.0, ""),
            (6.0, 0.02, ""),
            (12.0, 0.0, ""),
            (5.9, 0.0, "naive aiohttp took 5.9 × nginx, outside 6 to 12"),
            (12.1, 0.0, "naive aiohttp took 12.1 × nginx, outside 6 to 12"),
            (8.6, 0.021, "steal was 2.1%, over 2%"),
        ],
    )
    def test_void_rule(self, gauge: float, steal: float, void: str) -> None:
        assert figures.void_reason(gauge, steal) == void
        assert Round({}, gauge, steal).void == void

    def test_each_subject_comes_first_in_turn(self) -> None:
        orders = [figures.rotated(["a", "b", "c"], number) for number in range(4)]
        assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]

    def test_ratios_are_taken_within_a_round(self) -> None:
        """A slow minute doubles both figures and must not move the ratio; a ratio of medians would be 1.8."""
        rounds = [a_round(10, 15), a_round(20, 30), a_round(11, 18)]
        ratio = figures.ratios(rounds, ["nginx", "router"])["router"]
        assert ratio == Spread(median=1.5, low=1.5, high=pytest.approx(18 / 11))

    def test_added_latency_is_less_the_direct_way_of_the_same_round(self) -> None:
        rounds = [a_round(1.5, 2.0, direct=1.0), a_round(6.1, 6.2, direct=6.0), a_round(1.2, 1.6, direct=1.0)]
        names = ["nginx", "router"]
        assert figures.spreads(rounds, names, added=True)["router"].median == pytest.approx(0.6)
        assert figures.spreads(rounds, names)["router"].median == pytest.approx(2.0)
        assert figures.differences(rounds, names)["router"].median == pytest.approx(0.4)

    def test_without_the_baseline_nothing_is_compared(self) -> None:
        assert figures.ratios([a_round(1, 2)], ["router"]) == {}
        assert figures.ratios([], ["nginx", "router"]) == {}

    @pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
    def test_percentile_is_a_value_that_was_seen(self, share: float, expected: int) -> None:
        assert figures.percentile(range(1, 101), share) == expected
        assert figures.percentile([7.0], share) == 7.0


class TestRounds:
    def test_own_samples_are_the_gauge_where_there_is_no_other(self) -> None:
        costs = {"nginx": 20.0, "naive": 170.0, "router": 30.0}
        asked: list[str] = []

        def measure(name: str) -> Sample:
            asked.append(name)
            return Sample(costs[name], 1)

        result = _round(1, ["nginx", "naive", "router"], measure, None)

        assert asked == ["naive", "router", "nginx"]
        assert result.gauge == 8.5

    def test_result_counts_only_rounds_that_are_not_void(self) -> None:
        result = Result(MODES[0], ["nginx", "router"], wanted=2, rounds=[a_round(1, 2), a_round(1, 2, gauge=13)])
        assert len(result.valid) == 1
        assert not result.complete
        result.rounds.append(a_round(1, 2))
        assert result.complete

    def test_file_tells_method_versions_and_every_round(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("loadtests.bench.document.find_program", lambda name: name)
        rounds = [a_round(10, 15), a_round(1, 2, gauge=13), a_round(10, 17)]
        result = Result(MODES[0], ["nginx", "router"], wanted=2, rounds=rounds)

        path = write_json([result], Options(Cores(0, 1)), datetime(2031, 2, 1, 12, 30, tzinfo=UTC), tmp_path)

        assert path.name == "json-1k-2031-02-01-123000.json"
        document = orjson.loads(path.read_bytes())
        [mode] = document["modes"]
        assert mode["rounds_void"] == 1
        assert [r["void"] == "" for r in mode["rounds"]] == [True, False, True]
        assert mode["median"]["router"] == {"median": 16.0, "low": 15.0, "high": 17.0}
        assert mode["against_nginx"]["router"] == {"median": 1.6, "low": 1.5, "high": 1.7}
        assert {"kernel", "python", "nginx", "uvloop"} <= set(document["versions"])
        assert "void" in document["method"]


class TestRequests:
    @pytest.mark.parametrize("size", [1024, 16 * 1024])
    @pytest.mark.parametrize("options", [{}, {"stream": True}, {"stream": True, "usage": True}])
    def test_bodies_have_exactly_the_size_they_claim(self, size: int, options: dict[str, bool]) -> None:
        body = chat_body(size, **options)
        parsed = orjson.loads(body)
        assert len(body) == size
        assert parsed["model"] == "gpt-4o"
        assert parsed.get("stream", False) is options.get("stream", False)
        assert ("stream_options" in parsed) is options.get("usage", False)
        assert f"Content-Length: {size}\r\n".encode() in raw_request("/v1/x", body)

    def test_hidden_usage_is_asked_for_by_the_others_only(self) -> None:
        """nginx relays the usage chunk that it was asked for; the router asks by itself, and hides it."""
        mode = next(mode for mode in MODES if mode.name == "stream-hidden-usage")
        assert isinstance(mode, ClosedLoop)
        assert b"include_usage" in mode._body_for("nginx")
        assert b"include_usage" not in mode._body_for("router")

    @given(st.lists(st.integers(1, 400), max_size=40))
    def test_events_are_counted_however_the_bytes_are_split(self, cuts: list[int]) -> None:
        event = b'17\r\ndata: {"a":"\\n\\n"}\n\n\r\n'
        stream = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + event * 20 + b"0\r\n\r\n"
        counter = EventCounter()
        at = 0
        for cut in cuts:
            counter.feed(stream[at : at + cut])
            at += cut
        counter.feed(stream[at:])
        assert counter.events == 20

    def test_wrk_that_saw_an_error_gives_no_figure(self) -> None:
        line = '{"requests":%d,"duration_us":2000000,"p50_us":900,"p99_us":2500,"socket_errors":%d,"status_errors":0}'
        output = "Running 2s test\n  Latency\n" + line
        assert wrk.parse(output % (4000, 0)) == (4000, 2.0, 0.9, 2.5)
        for requests, errors in ((4000, 1), (0, 0)):
            with pytest.raises(BenchError, match="says nothing"):
                wrk.parse(output % (requests, errors))


class Staller(asyncio.Protocol):
    """Answers at once, but for one stop of `stall_s` that holds up everybody."""

    def __init__(self, stall_at: float, stall_s: float) -> None:
        self._stall_at, self._stall_s = stall_at, stall_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        stop_s = self._stall_at + self._stall_s - time.monotonic()
        if 0 < stop_s <= self._stall_s:
            time.sleep(stop_s)
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")


def test_open_loop_counts_the_requests_that_a_stall_held_up() -> None:
    """A stop of 300 ms in 1 s hits three in ten of the requests that are due; a closed loop would send but a few."""
    ports: queue.Queue[int] = queue.Queue()
    stop = threading.Event()
    stall_at = time.monotonic() + 0.9

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Staller(stall_at, 0.3), "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await loop.run_in_executor(None, stop.wait)
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        target = Target("staller", ports.get(timeout=10), "/", os.getpid())
        seen = open_loop(target, b"{}", rate=500, seconds=1.0)
    finally:
        stop.set()
        thread.join(10)

    assert seen.requests == pytest.approx(500, abs=2)
    assert seen.p99_ms > 200
    assert seen.p50_ms < 200


class TestSubjects:
    def test_nginx_gets_a_configuration_without_gaps(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("loadtests.bench.subjects.find_program", lambda name: name)
        site = Site(tmp_path, Cores(0, 1), upstream_port=8123, ca_file=tmp_path / "ca", streaming=True)

        launch = Nginx().launch(site)

        text = (tmp_path / "nginx" / "nginx.conf").read_text()
        directives = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
        assert not any("@" in line for line in directives)
        for directive in (
            "access_log off;",
            "worker_processes 1;",
            "proxy_buffering off;",
            "proxy_pass https://backend;",
            "server 127.0.0.1:8123;",
            f"listen 127.0.0.1:{launch.port} ",
        ):
            assert directive in text

    def test_router_keeps_its_configuration_but_for_the_ports(self, tmp_path: Path) -> None:
        source = tmp_path / "bench.yaml"
        source.write_text(
            "server: {listen: 127.0.0.1:1, admin: 127.0.0.1:2, drain_s: 5}\n"
            "endpoints:\n  one: {cloud: azure, base_url: http://127.0.0.1:3, emulated: true}\n"
        )
        site = Site(tmp_path, Cores(0, 1), upstream_port=8123, ca_file=tmp_path / "ca.pem")

        derive_config(source, tmp_path / "router.yaml", site, port=8001, admin=8002, name="router")

        document = YAML(typ="safe").load(tmp_path / "router.yaml")
        assert document["server"] == {
            "listen": "127.0.0.1:8001",
            "admin": "127.0.0.1:8002",
            "drain_s": 5,
            "access_log": str(tmp_path / "router.log"),
        }
        assert document["endpoints"]["one"] == {
            "cloud": "azure",
            "base_url": "https://127.0.0.1:8123",
            "emulated": True,
            "ca_file": str(tmp_path / "ca.pem"),
        }


def _can_run() -> str:
    """Why the real thing cannot run here; empty when it can."""
    for program in ("nginx", "wrk"):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            return f"{program} is not installed: make bench-deps"
    return "" if len(os.sched_getaffinity(0)) > 1 else "one core only"


@pytest.mark.slow
@pytest.mark.skipif(bool(_can_run()), reason=_can_run() or "-")
def test_quick_rounds_measure_the_router_beside_nginx() -> None:
    """Runs the command itself. Beside other tests no figure counts, so a void round is no failure here."""
    command = [sys.executable, "-m", "loadtests.bench", "--quick", "--rounds", "1", "--modes", "json-1k", "--no-write"]
    run = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=60, check=False)

    assert "json-1k" in run.stdout, run.stdout + run.stderr
    assert "router" in run.stdout
    assert "Traceback" not in run.stderr
    assert run.returncode in {0, 3}, run.stdout + run.stderr
