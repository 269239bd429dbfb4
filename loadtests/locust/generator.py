"""One run of Locust as a process of its own, beside what watches or breaks the fleet meanwhile."""

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from loadtests.bench import procfs
from loadtests.bench.processes import BenchError, answers_200
from loadtests.bench.subjects import ROOT
from loadtests.drills.fleet import key_of
from loadtests.drills.site import Site
from loadtests.locust.limits import Verdict

LOCUSTFILE: Final = "loadtests/locust/locustfile.py"
FLAGS: Final = ("--only-summary", "--progress", "--csv-full-history")  # the last: percentiles as they are at the time
STOP_S: Final = 10  # for requests that run when the load ends
END_S: Final = 15.0
LOOK_S: Final = 1.0
LOOKS: Final = 5  # a router that does not answer so often in a row is of no use

Say = Callable[[str], None]
# Runs beside the load from its first second on, and may take as long: what must hold of what it saw.
Beside = Callable[[Site, float], Awaitable[list[Verdict]]]


@dataclass(frozen=True, slots=True)
class Phase:
    """One shape, its users at most, and its length."""

    shape: str
    users: int
    seconds: float


@dataclass(slots=True)
class Run:
    """What a phase came to. `figures`: the summary that the run of Locust wrote, with the CPU of both sides."""

    phase: Phase
    figures: dict[str, Any]
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return all(verdict.kept for verdict in self.verdicts)


async def run(site: Site, phase: Phase, folder: Path, say: Say, beside: Beside | None = None, limits: str = "") -> Run:
    """Raises BenchError where Locust or the router does not live to the end of it."""
    meter = _Meter(site)
    loaded = asyncio.Event()
    async with _locust(site, phase, folder, limits) as child:
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(_lines(child, say, loaded)),
            asyncio.create_task(_router_lives(site)),
        ]
        if beside is not None:
            tasks.append(asyncio.create_task(_beside(beside, site, phase.seconds, loaded)))
        code, seen = await _both(tasks, child)
    summary = folder / f"{phase.shape}.json"
    if code not in (0, 1) or not summary.exists():
        raise BenchError(f"Locust ended with {code}:\n{(folder / f'{phase.shape}.log').read_text()[-2000:]}")
    figures = orjson.loads(summary.read_bytes())
    figures["cores"] = meter.cores()
    return Run(phase, figures, [Verdict(**each) for each in figures["verdicts"]] + seen)


class _Meter:
    """What the programs of the fleet take, from its making on."""

    def __init__(self, site: Site) -> None:
        self._programs = {"router": [site.router], "clouds": site.clouds}
        self._before = time.monotonic(), procfs.machine_time(), self._cpu_s()

    def cores(self) -> dict[str, float]:
        """At the mean. A program that was killed has taken its past with it, and counts from its new start."""
        at, machine, before_s = self._before
        passed_s = time.monotonic() - at
        taken: dict[str, float] = {}
        for (name, number), cpu_s in self._cpu_s().items():
            since_s = cpu_s - before_s[name, number]
            taken[name] = taken.get(name, 0.0) + (since_s if since_s >= 0 else cpu_s) / passed_s
        busy = (procfs.machine_time().busy - machine.busy) / procfs.TICKS_PER_S / passed_s
        return {name: round(cores, 2) for name, cores in {**taken, "machine": busy}.items()}

    def _cpu_s(self) -> dict[tuple[str, int], float]:
        return {
            (name, number): procfs.cpu_s(program.pid) if program.pid else 0.0
            for name, programs in self._programs.items()
            for number, program in enumerate(programs)
        }


@contextlib.asynccontextmanager
async def _locust(site: Site, phase: Phase, folder: Path, limits: str) -> AsyncIterator[Process]:
    """Started, and ended whatever happens; gone when we are killed."""
    base = folder / phase.shape
    options = {
        "--host": f"http://127.0.0.1:{site.port}",
        "--shape": phase.shape,
        "--users": str(phase.users),
        "--run-time": f"{phase.seconds:.0f}s",
        "--stop-timeout": str(STOP_S),
        "--html": f"{base}.html",
        "--csv": str(base),
        "--json-file": f"{base}-locust",
        "--summary": f"{base}.json",
        "--logfile": f"{base}.log",
        "--limits": limits,
    }
    words = [word for option in options.items() for word in option]
    command = [sys.executable, "-m", "locust", "-f", LOCUSTFILE, "--headless", *FLAGS, *words]
    keys = {"LOADTEST_API_KEY": key_of("api"), "LOADTEST_INTERNAL_KEY": key_of("internal")}
    with Path(f"{base}.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "TERM", *command),
            cwd=ROOT,
            env={**os.environ, **keys},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        await _end(child)


async def _end(child: Process) -> None:
    for end in (child.terminate, child.kill):
        if child.returncode is not None:
            return
        end()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), END_S)


async def _both(tasks: Sequence[asyncio.Task[Any]], child: Process) -> tuple[int, list[Verdict]]:
    """Waits for the load, and for what runs beside it; the first that fails ends all."""
    lines, lives, *beside = tasks
    try:
        pending = {lines, lives, *beside}
        while not pending <= {lives}:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        return await child.wait(), [verdict for task in beside for verdict in task.result()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _lines(child: Process, say: Say, loaded: asyncio.Event) -> None:
    assert child.stdout is not None
    async for line in child.stdout:
        text = line.decode().rstrip()
        if " users · " in text:
            loaded.set()
            say(text)


async def _beside(beside: Beside, site: Site, seconds: float, loaded: asyncio.Event) -> list[Verdict]:
    await loaded.wait()
    return await beside(site, seconds)


async def _router_lives(site: Site) -> None:
    """Raises BenchError where the router does not answer any more: the rest of the run would prove nothing."""
    missed = 0
    while missed < LOOKS:
        await asyncio.sleep(LOOK_S)
        if site.router.pid is None:
            raise BenchError("the router died under the load")
        lives = await asyncio.to_thread(answers_200, site.admin_port, "/healthz")
        missed = 0 if lives else missed + 1
    raise BenchError("the router does not answer any more")
