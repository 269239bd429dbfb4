"""What becomes of answers that come while those who gave them end."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any, cast

from router.supervisor.crew import Crew, Superior
from router.supervisor.slot import Slot
from router.telemetry import names
from router.telemetry.reading import Reading

DISCONNECTS = names.CLIENT_DISCONNECTS.name


class Worker:
    """A channel, and what would be the process at its other end."""

    returncode = None
    pid = 1

    def __init__(self, told: Reading) -> None:
        self.answers, self.told = asyncio.Event(), told

    async def call(self, *_: object) -> Reading:
        await self.answers.wait()
        return self.told

    async def wait(self) -> int:
        return 0

    def close(self) -> None: ...


def sitting(index: int, worker: Worker) -> Slot:
    slot = Slot(index, (), random.Random(1))
    slot.channel, slot._process = cast(Any, worker), cast(Any, worker)
    slot.sit()
    return slot


async def test_what_a_worker_counted_that_ended_before_the_others_answered_counts_once() -> None:
    """The slowest holds up the answers of all. What the dead one had told until then is kept when it ends."""
    quick, slow = (Worker(Reading({DISCONNECTS: {("api",): 7}})) for _ in range(2))
    slots = [sitting(0, quick), sitting(1, slow)]
    crew = Crew(slots, cast(Superior, SimpleNamespace()))
    quick.answers.set()
    slow.answers.set()
    await crew.read()
    slow.answers.clear()

    reading = asyncio.create_task(crew.read())
    await asyncio.sleep(0)
    await slots[0].ended()
    slow.answers.set()
    await reading

    assert [slot.reading.numbers[DISCONNECTS] for slot in slots] == [{("api",): 7}] * 2
