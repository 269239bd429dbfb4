"""What the bookkeeper is told, and what it says of itself. The process that serves requests reads it: it is light."""

import msgspec


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What the bookkeeper is to do. Holds a secret: it goes through the channel alone."""

    folder: str
    url: str
    retain_days: int


class LedgerState(msgspec.Struct, frozen=True, array_like=True):
    """`trouble`: why entries do not reach the store; empty while they do."""

    up: bool = False
    trouble: str = ""
    stored: int = 0  # requests that were taken into the store, since the bookkeeper began
    lag_s: float = 0.0  # all that is older is in the store
    waiting_bytes: int = 0  # of segments, and not in the store
    damaged: int = 0  # segments that could not be read to their end, and were set aside
    today_nano_usd: int = 0  # what the day in UTC has cost, of what is stored
