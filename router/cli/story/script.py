"""What happens to the emulated clouds, and when. Times are those of the story: seconds of its ten minutes."""

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from router.emulator import EmulatedCloud, Endpoint
from router.emulator.faults import Fault
from router.emulator.received import Request
from router.emulator.service import Handled

STORY_S: Final = 600.0
REGION: Final = "azure-eastus2"
NEIGHBOUR: Final = "azure-swedencentral"
MARK: Final = b'"user":"customer"'  # in the body of each request that may reach Azure alone


class WitnessingCloud(EmulatedCloud):
    """An emulated cloud that counts the customers' requests that reach it, whatever the router says of them.

    `cloud`: which one it stands for.
    """

    def __init__(self, endpoint: Endpoint, cloud: str) -> None:
        super().__init__(endpoint)
        self.cloud = cloud
        self.customers = 0
        self._held: socket.socket | None = None  # its port, while it is dead

    @property
    def origin(self) -> str:
        """Where its control path is."""
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc}"

    def serving(self, model: str) -> list[str]:
        """The ids that the router knows its deployments of a model by."""
        return [f"{self.endpoint.id}/{each.name}" for each in self.endpoint.deployments if each.model == model]

    async def die(self) -> None:
        """Ends all connections and refuses new ones. Nobody else gets the port meanwhile."""
        await self.close()
        held = self._held = socket.socket()
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that ended may linger
        held.bind((self.endpoint.host, self.port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)

    async def live_again(self) -> None:
        self._let_go()
        await self.start(port=self.port)

    async def close(self) -> None:
        self._let_go()
        await super().close()

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def handle(self, request: Request) -> tuple[Handled, Fault | None]:
        self.customers += MARK in request.body
        return super().handle(request)


Clouds = Mapping[str, WitnessingCloud]


@dataclass(frozen=True, slots=True)
class Scene:
    """From `at` on. `words`: what is happening, for the audience; `act`: makes it happen."""

    at: float
    name: str
    words: str
    act: Callable[[Clouds], Awaitable[None]]


async def _calm(clouds: Clouds) -> None:
    for cloud in clouds.values():
        cloud.faults.clear()


async def _slow(clouds: Clouds) -> None:
    clouds[REGION].faults.add("slow_head", deployment="gpt-4o-ptu", delay_ms=900)


async def _throttled(clouds: Clouds) -> None:
    clouds[REGION].faults.clear()
    clouds[REGION].faults.add("status", status=429, retry_after=1)


async def _dead(clouds: Clouds) -> None:
    clouds[REGION].faults.clear()
    await clouds[REGION].die()
    clouds[NEIGHBOUR].faults.add("status", status=429, retry_after=1, share=0.3)


async def _back(clouds: Clouds) -> None:
    await clouds[REGION].live_again()
    clouds[NEIGHBOUR].faults.clear()


SCENES: Final = (
    Scene(0, "calm", "All clouds are well. Azure serves everything.", _calm),
    Scene(80, "slow", f"{REGION}'s reserved capacity slows tenfold, without one error.", _slow),
    Scene(200, "throttled", f"{REGION} throttles: 429 to all. Azure has too little left.", _throttled),
    Scene(310, "dead", f"{REGION} is dead, and {NEIGHBOUR} throttles, too.", _dead),
    Scene(440, "back", f"{REGION} is back, and so are all quotas: internal work returns.", _back),
)
DEATH_AT: Final = next(scene.at for scene in SCENES if scene.name == "dead")
