"""How evenly connections lie over workers that live for different times.

The kernel gives each new connection to one of the sockets by a hash, which is even over many. But connections stay: who
takes a killed worker's place begins with none, and a few long-lived ones fall as chance has it. So whoever has too many
says at the end of some answers that the connection ends; their clients dial anew, and fall somewhere else.
"""

from collections.abc import Mapping
from math import ceil
from typing import Final

SPREAD_EVERY_S: Final = 1.0
ABOVE: Final = 0.05  # of the mean a worker may have more, and one connection: else four of them would never be even


def excess(connections: Mapping[int, int]) -> dict[int, int]:
    """How many each worker (by its number) has too many; those that do not are left out."""
    if not connections:
        return {}
    fair = ceil(sum(connections.values()) / len(connections) * (1.0 + ABOVE))
    return {index: count - fair for index, count in connections.items() if count > fair}
