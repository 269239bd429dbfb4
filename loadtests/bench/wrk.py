"""Closed loop: wrk keeps a number of connections busy, so it says what a request costs, and little about latency."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from loadtests.bench.bodies import KEY
from loadtests.bench.processes import BenchError, CoreList, find_program, pinned
from loadtests.bench.procfs import bookkeeping_s, cpu_s
from loadtests.bench.subjects import Target

SCRIPT: Final = Path(__file__).with_name("post.lua")
CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """What wrk saw in one run, and the CPU that the target took meanwhile; `books_s` of its ledger's bookkeeper."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_s: float
    books_s: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def parse(output: str) -> tuple[int, float, float, float]:
    """Reads post.lua's line: requests, seconds, p50 and p99 in ms. Raises BenchError when a request failed."""
    found = orjson.loads(next(line for line in reversed(output.splitlines()) if line.startswith("{")))
    failed = found["socket_errors"] + found["status_errors"]
    if failed or not found["requests"]:
        raise BenchError(f"{failed} of {found['requests']} requests failed: such a figure says nothing")
    return found["requests"], found["duration_us"] / 1e6, found["p50_us"] / 1e3, found["p99_us"] / 1e3


def run(target: Target, body: Path, seconds: float, core: CoreList) -> ClosedLoop:
    """Loads the target for `seconds`, which wrk takes in whole ones (at least 1)."""
    whole = max(1, round(seconds))
    url = f"{'https' if target.tls else 'http'}://127.0.0.1:{target.port}{target.path}"
    options = [
        "--threads",
        "1",
        "--connections",
        str(target.connections or CONNECTIONS),
        "--duration",
        f"{whole}s",
        "--timeout",
        "10s",
    ]
    command = pinned([find_program("wrk"), *options, "--latency", "--script", str(SCRIPT), url], core)
    environment = {**os.environ, "BENCH_BODY": str(body), "BENCH_KEY": KEY}
    before, books_before_s = cpu_s(target.pid), bookkeeping_s(target.pid)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=whole + 20, check=True)
    except subprocess.CalledProcessError as error:
        raise BenchError(f"wrk failed on {target.name}: {error.stderr or error.stdout}") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"wrk did not end on {target.name}") from error
    spent, books_s = cpu_s(target.pid) - before, bookkeeping_s(target.pid) - books_before_s
    try:
        return ClosedLoop(*parse(done.stdout), cpu_s=spent, books_s=books_s)
    except BenchError as error:
        raise BenchError(f"{target.name}: {error}") from error
