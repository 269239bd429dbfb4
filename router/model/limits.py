"""What somebody may use: a key, all keys of a workload, or everybody who asks for a model."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """None: no such limit. `shadow`: the names of those fields that count, and refuse nobody yet."""

    rpm: int | None = None  # requests a minute
    tpm: int | None = None  # tokens a minute, prompt and completion
    concurrent: int | None = None  # requests at one time
    day_nano_usd: int | None = None  # from midnight to midnight, UTC
    month_nano_usd: int | None = None  # of the calendar, UTC
    burst_share: float = 0.1  # of a minute's limit that may come at one moment
    shadow: frozenset[str] = frozenset()


UNLIMITED: Final = Limits()
