"""Processes of a measurement: pinned to a core, waited for until they serve, and ended whatever happens."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

READY_S: Final = 120.0  # LiteLLM takes a minute on a core that has other work
END_S: Final = 3.0


class BenchError(Exception):
    """The benchmark cannot go on; the text says what to do."""


CoreList = int | str  # a core, or several as taskset writes them: 0,1


@dataclass(frozen=True, slots=True)
class Cores:
    """Who runs where."""

    proxy: CoreList
    load: CoreList  # the upstream and the load generators

    @staticmethod
    def of_this_machine() -> "Cores":
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise BenchError("two cores are needed: one for the proxy alone, one for the upstream and the load")
        return Cores(proxy=cores[0], load=cores[1])

    def shared(self) -> "Cores":
        """Both for all: where two workers are measured, nothing can have a core for itself."""
        both = f"{self.proxy},{self.load}"
        return Cores(both, both)


def pinned(command: Sequence[str], core: CoreList) -> list[str]:
    """The command on its core, and gone when the benchmark itself is killed."""
    return ["setpriv", "--pdeathsig", "TERM", "taskset", "--cpu-list", str(core), *command]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def find_program(name: str) -> str:
    """Its path, also where only root's PATH has it. Raises BenchError when it is not installed."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        raise BenchError(f"{name} is not installed: run `make bench-deps`")
    return path


def accepts(port: int) -> bool:
    """True when somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def answers_200(port: int, path: str) -> bool:
    """True when a GET is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@contextlib.contextmanager
def running(
    name: str, command: Sequence[str], core: CoreList, folder: Path, ready: Callable[[], bool], poll_s: float = 0.02
) -> Iterator[int]:
    """Starts a program, waits until it serves, yields its process id, and ends it.

    Raises BenchError with the end of its output when it does not serve within READY_S.
    """
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            pinned(command, core), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_until(ready, process, name, log, poll_s)
        yield process.pid
    finally:
        _end(process)


def _wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str, log: Path, poll_s: float
) -> None:
    deadline = time.monotonic() + READY_S
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            return
        time.sleep(poll_s)
    what = "does not serve" if process.poll() is None else f"ended with {process.returncode}"
    raise BenchError(f"{name} {what}:\n{log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks, then insists. The process leads its own group, so its children end with it."""
    for sign, patience_s in ((signal.SIGTERM, END_S), (signal.SIGKILL, END_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # a child that outlived its parent
