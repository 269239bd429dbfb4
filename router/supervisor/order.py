"""What a worker starts with."""

import msgspec

from router.config.snapshot import Source
from router.model.keys import StoredKey


class Order(msgspec.Struct, frozen=True, array_like=True):
    """From the supervisor to a new worker, over their channel alone: it holds the configuration's secrets."""

    file: str  # where relative paths start, and what faults name
    source: Source
    draining: list[str]  # deployments, as operators said
    keys: list[StoredKey] | None = None  # of the store; None: nobody has ever heard of any
    beside: bool = False  # a router before may still write under a worker's name
