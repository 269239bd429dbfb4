"""The programs of a drill: clouds that can be killed, stopped and scripted, and the router, each in its own process."""

import asyncio
import contextlib
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from loadtests.bench.processes import BenchError, accepts, answers_200
from loadtests.bench.subjects import ROOT
from loadtests.drills.cloud import Arrival, journal_of, read_journal
from loadtests.drills.fleet import Fleet, signing_key

READY_S: Final = 30.0
END_S: Final = 8.0
# Below the range from which outgoing connections take theirs: a cloud that comes back finds its port free.
_PORTS: Final = range(20_000, 30_000)


_taken: Final[set[int]] = set()


def quiet_port() -> int:
    """A port that nobody listens at, that no outgoing connection will take, and that this process gives out once."""
    while True:
        port = random.choice(_PORTS)
        if port in _taken:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            _taken.add(port)
            return port


class Follower:
    """A process that another one has started, as `Popen` would show it. How it ended, only its parent knows."""

    def __init__(self, pid: int) -> None:
        self.pid, self._descriptor = pid, os.pidfd_open(pid)

    def poll(self) -> int | None:
        """0: it has ended."""
        return 0 if self._ended_within(0.0) else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended_within(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return 0

    def _ended_within(self, seconds: float | None) -> bool:
        waiting = select.poll()  # `select` knows descriptors up to 1,023
        waiting.register(self._descriptor, select.POLLIN)
        return bool(waiting.poll(seconds * 1000 if seconds is not None else None))

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Program:
    """A process that ends with us, whatever happens."""

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name, self._command, self._log = name, command, folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | Follower | None = None

    def start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """None: it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def follow(self, pid: int) -> None:
        """That one has taken its place: from now on it is meant."""
        self._process = Follower(pid)

    def send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """Ends it with no word to its peers; the kernel closes and resets its connections."""
        self.send(signal.SIGKILL)
        self._wait()

    def end(self) -> None:
        """Asks it to end. Raises BenchError where it had died before, or has to be killed: its files are not whole."""
        if self._process is None:
            return
        died = self._process.poll()
        self.send(signal.SIGTERM)
        if not self._wait() or died is not None:
            why = "did not end" if died is None else f"died ({died})"
            raise BenchError(f"{self.name} {why}:\n{self._log.read_text(errors='replace')[-2000:]}")

    def _wait(self) -> bool:
        """False: it had to be killed."""
        process, self._process = self._process, None
        if process is None:
            return True
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True

    async def until(self, serves: Callable[[], bool]) -> None:
        """Waits until it serves. Raises BenchError with its last words where it does not."""
        deadline = time.monotonic() + READY_S
        while self._process is not None and self._process.poll() is None and time.monotonic() < deadline:
            if await asyncio.to_thread(serves):
                return
            await asyncio.sleep(0.02)
        raise BenchError(f"{self.name} does not serve:\n{self._log.read_text(errors='replace')[-2000:]}")


class Site:
    """All programs of one drill, and what can be asked of them and done to them."""

    def __init__(self, fleet: Fleet, folder: Path, session: aiohttp.ClientSession) -> None:
        self.fleet, self.folder, self._session = fleet, folder, session
        self.ports = {name: quiet_port() for name in fleet.endpoints}
        self.port, self.admin_port = quiet_port(), quiet_port()
        self.config_file, self._clouds_file = folder / "router.json", folder / "clouds.json"
        self._clouds_file.write_bytes(orjson.dumps(self.config()))
        self.write(self.config())
        command = [sys.executable, "-m", "router", "serve", "--config", str(self.config_file)]
        self.router = Program("router", command, folder)
        cloud = [sys.executable, "-m", "loadtests.drills.cloud", str(self._clouds_file), str(folder)]
        groups = fleet.groups or [[name] for name in fleet.endpoints]
        programs = {tuple(names): Program(names[0], [*cloud, *names], folder) for names in groups}
        self._programs = {name: program for names, program in programs.items() for name in names}
        self.clouds = list(programs.values())
        self._holes: dict[str, list[socket.socket]] = {}

    # Files.

    def config(self, **changes: Any) -> dict[str, Any]:
        """The router's configuration on this site's ports; `changes` are whole top-level sections."""
        return {**self.fleet.config(self.folder, self.ports, self.port, self.admin_port), **changes}

    def write(self, config: dict[str, Any] | bytes) -> None:
        self.config_file.write_bytes(config if isinstance(config, bytes) else orjson.dumps(config))

    def journal(self, name: str) -> list[Arrival]:
        return read_journal(journal_of(self.folder, name))

    def records(self) -> list[dict[str, Any]]:
        """The access log's lines of requests. It is written in batches: whole once the router has ended."""
        lines = (orjson.loads(line) for line in (self.folder / "access.log").read_bytes().splitlines())
        return [line for line in lines if "event" not in line]

    # Programs.

    async def start(self) -> None:
        if self.fleet.recorded:
            code, said = await self.command("audit", "new-key", str(signing_key(self.folder)))
            if code:
                raise BenchError(f"no signing key could be made:\n{said.decode(errors='replace')}")
        for program in self.clouds:
            program.start()
        for name, program in self._programs.items():
            await program.until(partial(accepts, self.ports[name]))
        self.router.start()
        await self.router.until(lambda: answers_200(self.admin_port, "/readyz"))

    async def command(self, *words: str) -> tuple[int, bytes]:
        """Runs `inference-router WORDS`; its exit code and what it says."""
        said = [asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "router", *words, cwd=ROOT, stdout=said[0], stderr=said[1]
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output

    def end(self) -> None:
        try:
            self.router.end()
        finally:
            for name in list(self._holes):
                self._close_hole(name)
            for program in self.clouds:
                program.kill()

    def kill(self, *names: str) -> None:
        for name in names:
            self._programs[name].kill()

    async def revive(self, *names: str) -> None:
        """Starts killed clouds again, and returns when they listen."""
        for name in names:
            self._close_hole(name)
        for program in dict.fromkeys(self._programs[name] for name in names):
            program.start()
        for name in names:
            await self._programs[name].until(partial(accepts, self.ports[name]))

    def stop(self, *names: str) -> None:
        """A black hole that the kernel still accepts connections for: nothing is ever answered."""
        for name in names:
            self._programs[name].send(signal.SIGSTOP)

    def go_on(self, *names: str) -> None:
        for name in names:
            self._programs[name].send(signal.SIGCONT)

    def swallow(self, name: str) -> None:
        """A black hole that accepts nothing: Linux drops the SYN where a listener's queue is full."""
        self.kill(name)
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.ports[name]))
        listener.listen(0)
        self._holes[name] = [listener]
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.ports[name]))
            self._holes[name].append(filler)

    def _close_hole(self, name: str) -> None:
        for sock in self._holes.pop(name, []):
            sock.close()

    # Conversations.

    async def script(self, name: str, *faults: Mapping[str, Any]) -> None:
        """Adds faults to a cloud's book. Raises BenchError where it does not take them."""
        await self._control("POST", name, "faults", [dict(fault) for fault in faults])

    async def clear(self, *names: str) -> None:
        for name in names:
            await self._control("DELETE", name, "faults")

    async def lower_quota(self, name: str, share: float) -> None:
        await self._control("POST", name, "quota", {"share": share})

    async def received(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._control("GET", name, "received")
        return found

    async def reload(self) -> bool:
        """True: the file is in force; False: it was refused, and the one before stays."""
        async with self._session.post(f"http://127.0.0.1:{self.admin_port}/reload") as answer:
            return answer.status == 200

    async def status(self) -> dict[str, Any]:
        async with self._session.get(f"http://127.0.0.1:{self.admin_port}/status") as answer:
            found: dict[str, Any] = orjson.loads(await answer.read())
        return found

    async def metrics(self) -> dict[str, float]:
        """Every sample of the page, by its name and labels as written."""
        async with self._session.get(f"http://127.0.0.1:{self.admin_port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}

    async def metric(self, name: str, label: str = "") -> float:
        """The sum of a metric over all label sets that hold `label`."""
        page = await self.metrics()
        return sum(value for key, value in page.items() if key.partition("{")[0] == name and label in key)

    async def _control(self, method: str, name: str, path: str, body: object = None) -> Any:
        url = f"http://127.0.0.1:{self.ports[name]}/__emulator/{path}"
        async with self._session.request(method, url, data=orjson.dumps(body) if body is not None else None) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise BenchError(f"{name}: {path}: {text.decode()}")
            return orjson.loads(text)


@contextlib.asynccontextmanager
async def site(fleet: Fleet) -> AsyncIterator[Site]:
    """Starts everything in a folder of its own; ends all of it, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        # A control connection that is kept would be counted by a stopped cloud as one that hangs.
        connector = aiohttp.TCPConnector(force_close=True)
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            running = Site(fleet, Path(folder), session)
            try:
                await running.start()
                yield running
            finally:
                running.end()
