"""What `make loadtest` runs against: three emulated Azure regions, three other clouds, and a router of two processes.

Quotas are out of reach, so that what is refused is refused for a fault; everything else is as an operator has it:
first refusal, a waiting room, a decision log with signed anchors, an access log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loadtests.drills.fleet import REGIONS, Endpoint, Fleet

WORKERS: Final = 2
MODEL: Final = "gpt-4o"
EMBEDDINGS: Final = "text-embedding-3-small"
OTHERS: Final = ("coreweave", "oracle", "softbank")
MAX_WAIT_MS: Final = 5000
PACE: Final[Mapping[str, Any]] = {
    "head_ms": {"median": 60, "sigma": 0.2},
    "first_token_ms": {"median": 30, "sigma": 0.2},
    "token_gap_ms": {"median": 12, "sigma": 0.3},
    "tokens": {"median": 20, "sigma": 0.3},
}
WORKLOADS: Final[Mapping[str, Any]] = {
    "api": {
        "placement": {"rule": "exclusive", "cloud": "azure"},
        "reveal": "none",
        "priority": "high",
        "max_wait_ms": MAX_WAIT_MS,
    },
    "internal": {
        "placement": {"rule": "first_refusal", "holder": "azure", "then": ["coreweave", ["oracle", "softbank"]]},
        "reveal": "upstream",
    },
}


@dataclass(frozen=True)
class LoadFleet(Fleet):
    """A fleet whose router has several processes."""

    workers: int = WORKERS

    def config(self, folder: Path, ports: Mapping[str, int], port: int, admin_port: int) -> dict[str, Any]:
        document = super().config(folder, ports, port, admin_port)
        document["server"]["workers"] = self.workers
        return document


def fleet(workers: int = WORKERS) -> LoadFleet:
    """Each region has a process of its own, which can be killed; the other clouds share one."""
    region = [Endpoint(model=model, emulator=PACE) for model in (MODEL, EMBEDDINGS)]
    endpoints: dict[str, Endpoint | Sequence[Endpoint]] = dict.fromkeys(REGIONS, region)
    endpoints |= {cloud: Endpoint(cloud=cloud, emulator=PACE) for cloud in OTHERS}
    groups = [*([name] for name in REGIONS), list(OTHERS)]
    return LoadFleet(endpoints, workloads=WORKLOADS, groups=groups, recorded=True, workers=workers)
