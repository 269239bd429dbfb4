"""Who supplies the limits of a router: itself, or Redis for all routers that share it."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from router.base.clock import Clock
from router.jobs.loops import Surprised
from router.jobs.own_limits import OwnLimits
from router.jobs.redis_leases import RedisLeases
from router.leasing.settings import RedisSettings

RouterSupply: TypeAlias = OwnLimits | RedisLeases


def supply_of(
    settings: RedisSettings | None,
    loop: asyncio.AbstractEventLoop,
    clock: Clock,
    event: Callable[..., None],
    surprised: Surprised,
) -> RouterSupply:
    """For a process alone, and for the supervisor of several. `settings`: None where nothing is shared."""
    if settings is None:
        return OwnLimits(loop, clock, surprised)
    return RedisLeases(loop, settings, event, surprised)
