"""What must not grow while a router works for long: memory, open files, and how late its event loops run.

Growth is told by medians: of the last third of the samples against the first third, warm-up left out. A leak grows in
every third; a pool that fills, or a cache that warms, has done so before.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.bench import procfs
from loadtests.drills.site import Site
from loadtests.locust.limits import Verdict

SAMPLE_S: Final = 2.0
WARM_SHARE: Final = 0.2
SAMPLES_MIN: Final = 6
LAG: Final = "router_event_loop_lag_seconds"


@dataclass(frozen=True, slots=True)
class Sample:
    """The router's whole process tree at one moment; `lag_ms` of the worst process."""

    at: float
    pss_mib: float
    files: int
    lag_ms: float


@dataclass(frozen=True, slots=True)
class Allowed:
    """Growth from the first third to the last: a share of the first, and what is noise however little there was."""

    what: str
    unit: str
    share: float
    noise: float


# Noise: an allocator's arena, some connections of the moment, what other programs on the cores do to a timer.
MEMORY: Final = Allowed("memory (PSS)", "MiB", 0.05, 4.0)
FILES: Final = Allowed("open files", "", 0.10, 16.0)
LAG_GROWTH: Final = Allowed("event-loop lag", "ms", 0.50, 10.0)


async def watch(site: Site, seconds: float) -> list[Verdict]:
    """Samples for so long."""
    samples: list[Sample] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        samples.append(await _sample(site))
        await asyncio.sleep(SAMPLE_S)
    return judged(samples)


def judged(samples: Sequence[Sample]) -> list[Verdict]:
    """A verdict for each that must not grow. Too few samples prove nothing, and keep nothing."""
    warm = samples[int(len(samples) * WARM_SHARE) :]
    return [
        _growth(MEMORY, [one.pss_mib for one in warm]),
        _growth(FILES, [one.files for one in warm]),
        _growth(LAG_GROWTH, [one.lag_ms for one in warm]),
    ]


def _growth(allowed: Allowed, values: Sequence[float]) -> Verdict:
    what = f"growth of {allowed.what}"
    limit = f"≤ {allowed.share:.0%} + {allowed.noise:g} {allowed.unit}".rstrip()
    if len(values) < SAMPLES_MIN:
        return Verdict(what, limit, f"{len(values)} samples are too few", False)
    third = len(values) // 3
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    kept = last - first <= first * allowed.share + allowed.noise
    return Verdict(what, limit, f"{first:,.1f} to {last:,.1f} {allowed.unit}".rstrip(), kept)


async def _sample(site: Site) -> Sample:
    page = await site.metrics()
    lag_s = max((value for name, value in page.items() if name.partition("{")[0] == LAG), default=0.0)
    members = procfs.tree(site.router.pid) if site.router.pid else []
    pss = await asyncio.to_thread(procfs.pss_bytes, procfs.tree(site.router.pid or 0))
    return Sample(time.monotonic(), pss / 2**20, sum(map(procfs.open_files, members)), lag_s * 1000)
