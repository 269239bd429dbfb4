"""The demo as a user starts it: a process of its own, its output in a pipe, its ports wherever they are free."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "router", "demo"]
SHORT = [*COMMAND, "--seconds", "5"]
TIME_S = 60.0


def environ(temp: Path) -> dict[str, str]:
    # A proxy that the user has set is not for loopback.
    return {**os.environ, "TMPDIR": str(temp), "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


@contextmanager
def serving(temp: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that serves, and all that it printed until then."""
    process = subprocess.Popen(
        SHORT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ(temp), cwd=temp
    )
    watchdog = threading.Timer(TIME_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        yield process, "".join(lines)
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def url_in(text: str, path: str) -> str:
    found = re.search(rf"http://127\.0\.0\.1:\d+(?={re.escape(path)})", text)
    assert found is not None, text
    return found[0]


def is_open(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(url.rsplit(":", 1)[1]))) == 0


def test_once_tells_the_story_and_ends_well(tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "--once"], capture_output=True, text=True, timeout=TIME_S, env=environ(tmp_path), cwd=tmp_path
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 40  # half of it on a machine of its own
    tour, _, story = done.stdout.partition("Ten minutes in 12 seconds")
    check_tour(tour)
    check_story(story)
    assert list(tmp_path.iterdir()) == []


def check_tour(text: str) -> None:
    """What went where, in two tables."""
    assert "1st byte: " in text
    api, _, internal = text.partition("The key of workload internal")
    for served in ("chat", "chat, stream", "embeddings", "responses", "image", "speech", "transcription"):
        assert re.search(rf"^{served} +200 +azure: azure-\w+/\S+ +\d+ ms", api, re.MULTILINE), api
        assert re.search(rf"^{served} +200 +\w+: \S+ +", internal, re.MULTILINE), internal
    for refused in ("unknown model", "moderation"):
        assert re.search(rf"^{refused} +404 +nowhere: \w+", api, re.MULTILINE)
        assert re.search(rf"^{refused} +404 +nowhere: \w+", internal, re.MULTILINE)
    assert re.search(r"^a wrong key +401 +nowhere: invalid_api_key", api, re.MULTILINE)
    # What Azure does not have is not there for the one key, and is for the other.
    assert re.search(r"^only elsewhere +404 +nowhere: model_not_found", api, re.MULTILINE)
    assert re.search(r"^only elsewhere +200 +coreweave: coreweave-ord/qwen3-32b", internal, re.MULTILINE)
    failover = re.search(r"^chat, failover +200 +azure: \S+ (429|500) .*\n +azure: ", api, re.MULTILINE)
    assert failover is not None, api
    assert re.search(r"The clouds themselves saw: .*coreweave-ord\s0,", api, re.DOTALL)
    assert max(map(len, text.splitlines())) <= 80


def check_story(text: str) -> None:
    """Internal work moved and came back, customers' stayed, and the log explains all of it."""
    scenes = re.findall(r"^ *\d+:\d\d  .*\n +(api: .*); (internal: .*)$", text, re.MULTILINE)
    assert [api for api, _ in scenes] == ["api: azure 100%"] * 5
    shares = [int(found[1]) if (found := re.search(r"azure (\d+)%", internal)) else 0 for _, internal in scenes]
    calm, _, _, dead, back = shares
    assert calm >= 95
    assert dead <= 90
    assert back > dead
    assert re.search(r"^api: \d+ requests, served by azure \d+; 0 errors", text, re.MULTILINE)
    assert re.search(r"^internal: \d+ requests, served by azure \d+, .*coreweave \d+.*; 0 errors", text, re.MULTILINE)
    assert re.search(r"-westus3 [1-9]\d*, coreweave-ord 0, oracle-frankfurt 0, softbank-tokyo 0\.$", text, re.MULTILINE)
    assert re.search(r"^ *azure +\d+ +\d+ +\d+ +[1-9]\d* ", text, re.MULTILINE)  # refused some
    assert re.search(r"first refusal: \d+ requests, of which [1-9]\d* left the holder; 0 of these", text)
    assert "their signatures are right" in text
    assert "\ngood: nothing was found\n" in text


def test_what_it_shows_can_be_copied_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    """The Python lines are run as they stand, with the real SDK."""
    with serving(tmp_path) as (process, text):
        url, admin_url, region = url_in(text, "/v1"), url_in(text, "/status"), url_in(text, "/__emulator")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        request = urllib.request.Request(f"{url}/v1/models", headers={"api-key": "sk-ir-demo-api"})
        with opener.open(request, timeout=TIME_S) as answer:
            models = answer.read()
        assert b"gpt-4o" in models
        assert b"qwen3-32b" not in models
        snippets = re.findall(r"^Python, \w+:\n((?:  .*\n)+)", text, re.MULTILINE)
        assert len(snippets) == 2
        assert '"retry_after": 2' in text  # what is tried out must be over soon after its DELETE
        runs = [run_snippet(snippet, tmp_path) for snippet in snippets]
        for run in runs:
            out, errors = run.communicate(timeout=TIME_S)
            assert run.returncode == 0, errors
            assert out.strip()
        with opener.open(f"{admin_url}/metrics", timeout=TIME_S) as answer:
            assert b"router_placement_violations_total 0\n" in answer.read()

        process.send_signal(signal.SIGINT)

        assert process.wait(TIME_S) == 0
        assert process.stdout is not None
        assert "Traceback" not in process.stdout.read()
        assert not any(map(is_open, (url, admin_url, region)))
    assert list(tmp_path.iterdir()) == []


def run_snippet(snippet: str, temp: Path) -> subprocess.Popen[str]:
    code = "\n".join(line[2:] for line in snippet.splitlines())
    env = {**environ(temp), "NO_PROXY": "127.0.0.1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )


def test_a_port_that_was_asked_for_and_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            [*COMMAND, "--once", "--admin-port", str(port)],
            capture_output=True,
            text=True,
            timeout=TIME_S,
            env=environ(tmp_path),
            cwd=tmp_path,
        )

    assert done.returncode == 1
    assert f"port {port} is taken" in done.stderr
    assert "--admin-port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "until"), [(signal.SIGINT, "emulated clouds"), (signal.SIGTERM, "is dead")])
def test_a_signal_amid_the_tour_or_the_story_ends_it_too(number: signal.Signals, until: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        SHORT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ(tmp_path), cwd=tmp_path
    )
    watchdog = threading.Timer(TIME_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if until in line:
                break
        process.send_signal(number)
        rest, _ = process.communicate(timeout=TIME_S)
    finally:
        watchdog.cancel()
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_is_a_live_view_that_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    screen, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    env = {**environ(tmp_path), "TERM": "xterm-256color"}
    process = subprocess.Popen(SHORT, stdout=end, stderr=end, stdin=subprocess.DEVNULL, env=env, cwd=tmp_path)
    os.close(end)
    watchdog = threading.Timer(TIME_S, process.kill)
    watchdog.start()
    shown = bytearray()
    try:
        while b"coreweave-ord/llama" not in shown or b"ejected" not in shown:
            shown += os.read(screen, 1 << 16)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while more := os.read(screen, 1 << 16):
                shown += more
        assert process.wait(TIME_S) == 0
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        os.close(screen)
    hidden, visible = shown.rfind(b"\x1b[?25l"), shown.rfind(b"\x1b[?25h")
    assert 0 < hidden < visible
    assert b"Traceback" not in shown
    assert list(tmp_path.iterdir()) == []
