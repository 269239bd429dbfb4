"""Millions of inputs that nobody sends in good faith, read without sockets, beside a second parser."""

import asyncio
import gc
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from loadtests.drills.outcome import Drill, Outcome, Scale

PROCESSES: Final = 2
HOURS_S: Final = 12 * 3600.0  # nobody waits for longer
WARM: Final = 0.1  # of the inputs: until then memory may grow
GROWN_MIB_MAX: Final = 16.0
_PAGE_MIB: Final = 4096 / (1 << 20)


@dataclass(frozen=True, slots=True)
class Part:
    """What one process did. `grown_mib`: its resident memory at the end, over what it was when it was warm."""

    inputs: int
    defects: list[str]
    grown_mib: float


async def fuzz(scale: Scale) -> Outcome:
    """As many inputs as `scale.rate` a second would be in `scale.fault_s`, as fast as they can be read."""
    outcome = Outcome()
    each, seed = round(scale.rate * scale.fault_s) // PROCESSES, random.randrange(1 << 31)
    began = time.monotonic()
    with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        parts = await asyncio.gather(
            *(loop.run_in_executor(pool, _part, seed + number, each) for number in range(PROCESSES))
        )
    took_s = time.monotonic() - began
    inputs = sum(part.inputs for part in parts)
    defects = [defect for part in parts for defect in part.defects]
    outcome.none("inputs that broke something, took long, or were read in two ways", len(defects), f"{inputs:,}")
    outcome.at_most("memory that a process kept", max(part.grown_mib for part in parts), GROWN_MIB_MAX, " MiB")
    outcome.figures = {
        "inputs": inputs,
        "seed": seed,
        "inputs_a_second": round(inputs / took_s),
        "grown_mib": [part.grown_mib for part in parts],
        "defects": defects[:10],
    }
    for defect in defects[:3]:
        print(defect)
    return outcome


def _part(seed: int, inputs: int) -> Part:
    """Ends with the first defect: what comes after is most often the same."""
    from tests.fuzz.running import Defect, run  # in the process alone: the tests' helpers are many

    done, warm = 0, 0.0
    for found in run(seed, inputs, time.monotonic() + HOURS_S):
        if isinstance(found, Defect):
            return Part(done, [f"seed {seed}: {found}"], 0.0)
        done = found
        if not warm and done > inputs * WARM:
            warm = _resident_mib()
    return Part(done, [], _resident_mib() - warm)


def _resident_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_MIB


DRILL: Final = Drill(
    "fuzz",
    "Inputs are mutations of the tests' own requests, answers, bodies and forms, and of what broke once; each is cut "
    "into reads and given to the protocol objects. What they take, h11 and the standard library must read alike.",
    fuzz,
    full=Scale(rate=10_000, before_s=0, fault_s=200),
    quick=Scale(rate=10_000, before_s=0, fault_s=1),
)


def of(inputs: int) -> Drill:
    """With so many inputs."""
    scale = Scale(rate=inputs, before_s=0, fault_s=1)
    return replace(DRILL, full=scale, quick=scale)
