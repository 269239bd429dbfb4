"""The demo as a user starts it: a process of its own, its output in a pipe, its ports wherever they are free."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "router", "demo"]
TIME_S = 60.0


def environ(temp: Path) -> dict[str, str]:
    # A proxy that the user has set is not for loopback.
    return {**os.environ, "TMPDIR": str(temp), "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


@contextmanager
def serving(temp: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that serves, and all that it printed until then."""
    process = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ(temp), cwd=temp
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


def test_once_shows_what_went_where_and_ends_well(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "--once"], capture_output=True, text=True, timeout=TIME_S, env=environ(tmp_path), cwd=tmp_path
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "1st byte: " in done.stdout
    api, _, internal = done.stdout.partition("The key of workload internal")
    for served in ("chat", "chat, stream", "embeddings", "responses", "image", "speech", "transcription"):
        assert re.search(rf"^{served} +200 +azure: azure-\w+/\S+ +\d+ ms", api, re.MULTILINE), api
        assert re.search(rf"^{served} +200 +\w+: \S+ +\d+ ms", internal, re.MULTILINE), internal
    for refused in ("unknown model", "moderation"):
        assert re.search(rf"^{refused} +404 +nowhere: \w+", api, re.MULTILINE)
        assert re.search(rf"^{refused} +404 +nowhere: \w+", internal, re.MULTILINE)
    assert re.search(r"^a wrong key +401 +nowhere: invalid_api_key", api, re.MULTILINE)
    # What Azure does not have is not there for the one key, and is for the other.
    assert re.search(r"^only elsewhere +404 +nowhere: model_not_found", api, re.MULTILINE)
    assert re.search(r"^only elsewhere +200 +coreweave: coreweave-ord/qwen3-32b", internal, re.MULTILINE)
    failover = re.search(r"^chat, failover +200 +azure: \S+ (429|500) .*\n +azure: ", api, re.MULTILINE)
    assert failover is not None, api
    assert re.search(r"The clouds themselves saw: .*coreweave-ord\s0 ", api, re.DOTALL)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_the_first_requests_ends_it_too(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ(tmp_path), cwd=tmp_path
    )
    watchdog = threading.Timer(TIME_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "emulated clouds" in line:
                break
        process.send_signal(number)
        rest, _ = process.communicate(timeout=TIME_S)
    finally:
        watchdog.cancel()
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
