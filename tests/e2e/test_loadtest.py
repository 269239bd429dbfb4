"""`make loadtest` as an operator runs it: it passes a healthy fleet, fails a broken one, and leaves nothing behind."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.timed

ROOT = Path(__file__).parents[2]
SHORT = ("--only", "steady", "--users", "16")
BROKEN_STREAMS = {"kind": "cut_at", "at_byte": 2000, "operation": "chat", "share": 0.5}


class Command:
    """The command in a process of its own, whose descendants are known by a mark that they inherit."""

    def __init__(self, *words: str) -> None:
        self.mark = f"LOADTEST_MARK={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env={**os.environ, name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, timeout_s: float = 60) -> tuple[int, str]:
        said, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, said

    def wait_for(self, text: str) -> None:
        assert self.process.stdout is not None
        seen = []
        while text not in (line := self.process.stdout.readline()):
            seen.append(line)
            assert line, "".join(seen)

    def members(self, what: str = "") -> list[int]:
        """Living processes that bear the mark, and whose command line holds `what`; given three seconds to end."""
        return [
            int(folder.name)
            for folder in Path("/proc").iterdir()
            if folder.name.isdigit()
            and self.mark.encode() in _read(folder / "environ")
            and what.encode() in _read(folder / "cmdline").replace(b"\0", b" ")
        ]

    def left(self) -> list[int]:
        until = time.monotonic() + 3
        while (found := self.members()) and time.monotonic() < until:
            time.sleep(0.05)
        return found


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def command() -> Iterator[Any]:
    started: list[Command] = []

    def start(*words: str) -> Command:
        started.append(Command(*words))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()
        for pid in one.members():
            os.kill(pid, signal.SIGKILL)


class Page(HTMLParser):
    """Counts the elements of a page; `data` is its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1

    def handle_data(self, data: str) -> None:
        self.data += data


@pytest.mark.slow
def test_a_healthy_fleet_passes_and_the_reports_say_so(command: Any, tmp_path: Path) -> None:
    run = command("loadtests.locust", "run", *SHORT, "--seconds", "5", "--out", str(tmp_path))
    code, said = run.end()

    assert code == 0, said
    assert "BROKEN" not in said
    assert run.left() == []
    (folder,) = tmp_path.iterdir()
    summary = orjson.loads((folder / "summary.json").read_bytes())
    (steady,) = summary["runs"]
    assert steady["kept"]
    assert all(each["kept"] for each in [*steady["verdicts"], *summary["fleet"]])
    counts = {(row["type"], row["name"]): row["count"] for row in steady["statistics"]}
    for name in ("chat stream", "internal chat", "embeddings"):
        assert counts["POST", name] > 0
    # Streams whose events all come in one read have no rate.
    assert 0 < counts["TOKENS/S", "chat stream"] <= counts["TTFT", "chat stream"]
    # The last streams may still run when the figures are taken.
    assert 0 <= counts["TTFT", "chat stream"] - counts["POST", "chat stream"] <= 16
    assert counts["GAP", "chat stream"] > 5 * counts["TTFT", "chat stream"]
    assert_reports(folder)


def assert_reports(folder: Path) -> None:
    index = Page((folder / "index.html").read_text("utf-8"))
    assert "TTFT.p99" in index.data
    assert "the decision log" in index.data
    assert index.tags["polyline"] >= 6
    locusts = (folder / "steady.html").read_text("utf-8")
    assert "window.templateArgs" in locusts
    assert locusts.index('id="verdicts"') < locusts.index('id="root"')
    with (folder / "steady_stats.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {"POST", "TTFT", "GAP", "TOKENS/S"} <= {row["Type"] for row in rows}
    posts = sum(int(row["Request Count"]) for row in rows if row["Type"] == "POST")
    total = next(int(row["Request Count"]) for row in rows if row["Name"] == "Aggregated")
    assert total == posts, "a gap or a first token was counted as a request"


@pytest.mark.slow
def test_streams_that_break_fail_the_run_by_name(command: Any, tmp_path: Path) -> None:
    fault = json.dumps(BROKEN_STREAMS)
    run = command("loadtests.locust", "run", *SHORT, "--seconds", "4", "--fault", fault, "--out", str(tmp_path))
    code, said = run.end()

    assert code == 1, said
    errors = next(line for line in said.splitlines() if line.strip().startswith("errors"))
    assert "BROKEN" in errors
    assert "ToldError('stream_broken')" in said
    (folder,) = tmp_path.iterdir()
    (steady,) = orjson.loads((folder / "summary.json").read_bytes())["runs"]
    assert not steady["kept"]
    assert next(each["what"] for each in steady["verdicts"] if not each["kept"]) == "errors"
    assert run.left() == []


@pytest.mark.slow
def test_ctrl_c_and_a_router_that_dies_end_all_of_it(command: Any, tmp_path: Path) -> None:
    """Both at a time: most of a run is its start."""
    long = ("loadtests.locust", "run", *SHORT, "--seconds", "600", "--out")
    stopped, died = command(*long, str(tmp_path / "stopped")), command(*long, str(tmp_path / "died"))
    for run in (stopped, died):
        run.wait_for("steady   1/600")
        assert len(run.members()) > 5
    stopped.process.send_signal(signal.SIGINT)
    for pid in died.members("router serve"):
        os.kill(pid, signal.SIGKILL)
    (stopped_code, stopped_said), (died_code, died_said) = stopped.end(40), died.end(40)

    assert stopped_code == 130, stopped_said
    assert "stopped" in stopped_said
    assert died_code == 2, died_said
    assert "router died" in died_said
    assert stopped.left() == []
    assert died.left() == []


def test_a_gateway_elsewhere_is_not_loaded_unless_it_is_named(command: Any) -> None:
    words = ("-f", "loadtests/locust/locustfile.py", "--headless", "--host", "https://gateway.example", "-t", "1s")
    code, said = command("locust", *words).end()

    assert code != 0
    assert "--yes-i-may-load gateway.example" in said
    assert "All users spawned" not in said


def test_nor_is_one_that_the_web_page_is_told_of(command: Any) -> None:
    """Also by a form that allows it itself: any page that a browser opens can send one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ("-f", "loadtests/locust/locustfile.py", "--host", "http://127.0.0.1:9", "--web-host", "127.0.0.1")
    run = command("locust", *words, "--web-port", str(port), "--autostart", "-u", "1")
    run.wait_for("All users spawned")

    def answer(**fields: str) -> int:
        form = urllib.parse.urlencode({"user_count": "1", "spawn_rate": "1", **fields}).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/swarm", form, timeout=5) as said:
                return int(said.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert answer(host="http://gateway.example") == 403
    assert answer(host="http://gateway.example", yes_i_may_load="gateway.example") == 403
    assert answer(host="http://127.0.0.1:10") == 200
    run.process.send_signal(signal.SIGINT)
    _, said = run.end()
    assert "gateway.example" not in said
