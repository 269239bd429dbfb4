"""How a workload's requests are treated on their way, beside where they may go."""

import enum
from dataclasses import dataclass


class Priority(enum.IntEnum):
    """Who is served first when not all can be, and shed last. Strict between classes."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


class Prefer(enum.Enum):
    """By what a tier is balanced."""

    BALANCED = "balanced"  # power of two choices over outstanding work and time to first byte
    WEIGHTED = "weighted"  # at random, in proportion to capacity
    COST = "cost"  # the cheapest that is not under pressure
    LATENCY = "latency"  # the one that answers first


@dataclass(frozen=True, slots=True)
class Hedge:
    """When a second copy of a request may be sent. Off unless a workload has one; never for an exclusive one."""

    after_ms: float | None = None  # a fixed wait for the first byte; None: the deployment's own p95
    share_max: float = 0.05  # of the workload's requests


@dataclass(frozen=True, slots=True)
class Policy:
    """One workload's."""

    priority: Priority = Priority.NORMAL
    max_wait_ms: float = 1000.0  # in the waiting room, when everything that may serve is busy or throttled
    ttft_objective_ms: float | None = None  # an attempt without a first event by then is given up, where another may be
    holder_attempts: int = 2  # failed sends after which the rest of the holder's deployments count as failed
    hedge: Hedge | None = None
    affinity: bool = False  # requests with one prompt prefix go to one deployment, as far as its load allows
