"""What one worker tells the others, passed on: at once where it is quiet, together where many speak."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from router.supervisor.slot import Slot

TOGETHER_S: Final = 0.02  # one message to each worker in so long: else N workers are N² messages


class News:
    """Unread: `jobs.sharing` knows what it means."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._slots = slots
        self._waiting: list[tuple[Slot, msgspec.Raw]] = []
        self._passed_on_at = 0.0

    def take(self, slot: Slot, changes: msgspec.Raw) -> None:
        """A worker has told something."""
        if not self._waiting:
            loop = asyncio.get_running_loop()
            loop.call_later(max(0.0, self._passed_on_at + TOGETHER_S - loop.time()), self._pass_on)
        self._waiting.append((slot, changes))

    def _pass_on(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._passed_on_at = asyncio.get_running_loop().time()
        for slot in self._slots:
            # Who has not joined gets a picture, in which all of it is.
            if slot.joined and (news := [changes for teller, changes in waiting if teller is not slot]):
                slot.channel.tell("apply", news)
