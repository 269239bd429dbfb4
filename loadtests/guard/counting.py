"""Two ways of counting what a router does, with one interface: start it, let it serve, take the counts."""

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from loadtests.bench.processes import BenchError, answers_200, find_program
from loadtests.guard import launcher

START_S: Final = 90.0  # of a router under valgrind on a busy machine
END_S: Final = 30.0
REPLY_S: Final = 30.0

Tally = Counter[str]  # by function


class Counting(Protocol):
    """A running router that is counted."""

    def begin(self) -> None: ...

    def take(self) -> Tally:
        """What was executed since the last call."""
        ...


class Method(Protocol):
    """A way of counting."""

    name: str
    tolerance: float  # growth that may be noise, as a share
    slack: float  # and in counts, for what is small: a timer that falls among chunks
    depends_on: tuple[str, ...]  # what the baseline was made with and must be the same here (`baseline.versions`)

    def wrap(self, command: Sequence[str], folder: Path, /) -> list[str]: ...

    def counting(self, process: subprocess.Popen[str], folder: Path, /) -> Counting: ...


class Opcodes:
    """What Python executes, opcode by opcode: ±0.2 %, and blind for C code."""

    name, tolerance, slack = "opcodes", 0.005, 2.0
    depends_on: tuple[str, ...] = ("python",)

    def wrap(self, command: Sequence[str], _folder: Path) -> list[str]:
        return list(command)

    def counting(self, process: subprocess.Popen[str], _folder: Path) -> Counting:
        return _Opcodes(process)


class _Opcodes:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self) -> None:
        self._tell(launcher.BEGIN)

    def take(self) -> Tally:
        return Counter(json.loads(self._tell(launcher.TAKE)))

    def _tell(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], REPLY_S)[0]:
            raise BenchError(f"the router under the guard does not obey: {command}")
        return self._process.stdout.readline()


class Instructions:
    """What the processor would execute, C code included, counted by valgrind's callgrind: within 1 % beside others."""

    name, tolerance, slack = "instructions", 0.02, 100.0
    depends_on: tuple[str, ...] = ("python", "build", "machine", "libc", "uvloop", "httptools", "msgspec", "orjson")

    def wrap(self, command: Sequence[str], folder: Path) -> list[str]:
        return [
            *("setarch", "--addr-no-randomize", find_valgrind(), "--quiet", "--tool=callgrind"),
            *("--instr-atstart=no", f"--callgrind-out-file={folder}/callgrind", f"--vgdb-prefix={folder}/vgdb"),
            *command,
        ]

    def counting(self, process: subprocess.Popen[str], folder: Path) -> Counting:
        return _Instructions(process, folder)


class _Instructions:
    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder, self._dumps = process, folder, 0

    def begin(self) -> None:
        self._tell("instrumentation", "on")

    def take(self) -> Tally:
        self._tell("dump")
        self._dumps += 1
        return read_callgrind((self._folder / f"callgrind.{self._dumps}").read_text(encoding="utf-8"))

    def _tell(self, *command: str) -> None:
        vgdb = [find_program("vgdb"), f"--vgdb-prefix={self._folder}/vgdb", f"--pid={self._process.pid}", *command]
        subprocess.run(vgdb, check=True, capture_output=True, timeout=START_S)


METHODS: Final[tuple[Method, ...]] = (Opcodes(), Instructions())


def find_valgrind() -> str:
    """Raises BenchError where it is not installed."""
    try:
        return find_program("valgrind")
    except BenchError:
        raise BenchError("valgrind is not installed: apt-get install valgrind") from None


def read_callgrind(text: str) -> Tally:
    """Each function's own cost, from callgrind's format: names are written once, and by number from then on.

    Raises BenchError where the functions' costs are not what the summary says.
    """
    names: dict[str, str] = {}
    tally: Tally = Counter()
    name, of_callee, summary = "", False, 0
    for line in text.splitlines():
        if line.startswith(("fn=", "cfn=")):
            number, _, said = line.partition("=")[2].partition(" ")
            known = names[number] = re.sub(r"'\d+$", "", said) if said else names[number]  # '2: a recursion's second
            name = known if line.startswith("fn=") else name
        elif line.startswith("calls="):
            of_callee = True
        elif line.startswith("summary:"):
            summary = int(line.split()[1])
        elif name and (line[:1].isdigit() or line.startswith(("+", "-", "*"))):
            tally[name] += 0 if of_callee else int(line.split()[1])
            of_callee = False
    if tally.total() != summary:
        raise BenchError(f"callgrind says {summary} instructions, its functions have {tally.total()}")
    return tally


@contextlib.contextmanager
def counted(method: Method, tree: Path, config: Path, admin: int, folder: Path) -> Iterator[Counting]:
    """Starts the router of `tree` under `method`, waits until it serves, and ends it."""
    command = [sys.executable, "-P", launcher.__file__, "serve", "--config", str(config)]
    environ = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        "PYTHONPATH": str(tree),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with (folder / f"{method.name}.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *method.wrap(command, folder)],
            cwd=tree,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            _wait_until_ready(process, admin, Path(log.name))
            yield method.counting(process, folder)
        finally:
            _end(process)


def _wait_until_ready(process: subprocess.Popen[str], admin: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not answers_200(admin, "/readyz"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise BenchError(f"the router does not serve:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        pipe.close()
