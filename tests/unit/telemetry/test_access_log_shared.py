"""One sink and several processes: whatever it is, no line is in the middle of another."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from router.telemetry.access_log import AccessLog

WRITERS: Final = 3
LINES: Final = 400
# Some are longer than what a pipe takes in one piece (4 KiB), and all of them than what it holds (64 KiB).
WRITE: Final = f"""
import sys
from router.telemetry.access_log import AccessLog
log = AccessLog(sys.argv[1], shared=True)
sys.stdin.readline()
for number in range({LINES}):
    log.event("line", writer=int(sys.argv[2]), number=number, text="x" * (number * 37 % 9000))
log.close()
"""


def writers(sink: str, stdout: int | None) -> list[subprocess.Popen[str]]:
    """Processes that wait for a word on their standard input, so that they write at one time."""
    root = str(Path(__file__).parents[3])
    return [
        subprocess.Popen(
            [sys.executable, "-c", WRITE, sink, str(index)],
            stdin=subprocess.PIPE,
            stdout=stdout,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        for index in range(WRITERS)
    ]


def go(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()


def check(lines: list[bytes]) -> None:
    found: dict[int, list[int]] = {index: [] for index in range(WRITERS)}
    for line in lines:
        event = json.loads(line)
        assert len(event["text"]) == event["number"] * 37 % 9000
        found[event["writer"]].append(event["number"])
    assert found == {index: list(range(LINES)) for index in range(WRITERS)}


def test_lines_in_a_file_are_whole(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    processes = writers(str(log), None)
    go(processes)
    assert [process.wait(30) for process in processes] == [0] * WRITERS
    check(log.read_bytes().splitlines())


def test_lines_in_a_pipe_are_whole() -> None:
    reading, writing = os.pipe()
    processes = writers("-", writing)
    os.close(writing)
    go(processes)
    with open(reading, "rb") as pipe:
        lines = pipe.read().splitlines()
    assert [process.wait(30) for process in processes] == [0] * WRITERS
    check(lines)


@pytest.mark.parametrize("shared", [False, True])
def test_sharing_changes_nothing_for_one(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), shared=shared)
    for number in range(100):
        log.event("line", number=number)
    log.close()
    assert Counter(json.loads(line)["number"] for line in path.read_bytes().splitlines()) == Counter(range(100))
