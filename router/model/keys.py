"""Who asks."""

from dataclasses import dataclass
from math import inf

from router.model.limits import UNLIMITED, Limits


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A client's key: known by its SHA-256 alone. Its workload follows from it and from nothing else.

    `models`: the canonical names that it may use, or None for all.
    """

    name: str
    workload: str
    sha256: bytes
    models: frozenset[str] | None
    limits: Limits = UNLIMITED
    weight: float = 1.0  # of its fair share, beside the other keys of its priority
    expires_at: float = inf  # wall seconds

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models
