"""Why a request went where it went: what the decision log holds. Never a prompt, an answer or a secret."""

from typing import Final

import msgspec

ACCEPTED: Final = "accepted"
REFUSALS: Final = (
    "no_deployment",  # none that serves this operation and the workload may use
    "unhealthy",  # ejected, its breaker open, or its credential refused
    "draining",
    "throttled",  # it said so: 429, cooling down
    "over_quota",  # our model of its limits says that it would
    "busy",  # its concurrency limit is reached
    "slow",  # judged too slow, or this attempt passed the objective and was given up
    "failed",  # asked, and failed; or not asked any more after the holder's failed sends
)


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """A request proposed to one deployment (or to a cloud that has none). `outcome`: `accepted`, or of `REFUSALS`."""

    deployment: str
    cloud: str
    outcome: str


class Leave(msgspec.Struct, frozen=True, array_like=True, tag="leave"):
    """Written before the first send that leaves the holder: every offer to the holder, each with its refusal."""

    request: str
    at: float  # wall seconds
    key: str
    workload: str
    model: str
    operation: str
    rule: str  # `Plan.reason`
    rule_version: str
    offers: tuple[Offer, ...]
    to: str  # `Deployment.id` of the send that this permits
    to_cloud: str


class Decision(msgspec.Struct, frozen=True, array_like=True, tag="request"):
    """Written when a request ends: everybody whom it was offered to, in order, and who served it."""

    request: str
    at: float  # wall seconds of its arrival
    key: str
    workload: str
    model: str
    operation: str
    rule: str
    rule_version: str
    offers: tuple[Offer, ...]
    served_by: str  # `Deployment.id`, or empty
    cloud: str
    outcome: str  # of the request, as in `RequestRecord`
