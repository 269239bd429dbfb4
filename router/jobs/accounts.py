"""What comes back out of a ledger: its bookkeeper's answers, and what budgets have left by them."""

import asyncio
from collections.abc import Callable, Mapping

from router.base.clock import Clock
from router.config.snapshot import Snapshot
from router.jobs.bookkeeping import Bookkeeping
from router.jobs.budgets import Budgets
from router.jobs.loops import Surprised
from router.ledger.settings import LedgerSettings
from router.transport.channel import Channel


class Accounts:
    """The jobs of the one process that answers for all writers of a ledger."""

    def __init__(
        self,
        snapshot: Snapshot,
        settings: LedgerSettings,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        begin: Callable[[Mapping[str, int]], None],
        event: Callable[..., None],
        surprised: Surprised,
    ) -> None:
        """`begin`: is told what budgets have spent."""
        self.bookkeeping = Bookkeeping(loop, settings, event)
        self._budgets = Budgets(loop, clock, self.bookkeeping.spent, begin, surprised)
        self.bookkeeping.adopt(snapshot)

    @property
    def budgets_known(self) -> bool:
        """Whether the ledger has said what was spent of them."""
        return self._budgets.known

    def start(self) -> None:
        self.bookkeeping.start()
        self._budgets.start()

    async def stop(self, deputy: Channel | None = None) -> None:
        """Once all writers have: what they wrote last is stored, where that takes a moment. Before that if another
        router's bookkeeper stores it, and its `deputy` answers.
        """
        await self._budgets.stop()
        await self.bookkeeping.stop(deputy)
