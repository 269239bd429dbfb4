"""Fake clouds: they speak each provider's dialect, and fail by script. For demos and tests, on loopback only.

They share nothing with the router but its ground floor: requests are parsed by h11, so that a request that two
parsers would read differently shows. For a test, in its own loop:

    endpoint = Endpoint("azure_openai", (Deployment("gpt-4o-ptu", "gpt-4o", tpm=450_000),), key="secret")
    async with EmulatedCloud(endpoint) as azure:  # any free port, unless `endpoint.port` names one
        azure.base_url  # what a router's endpoint has as its base_url
        azure.faults.add("status", status=429, retry_after=2, times=1)  # as written in a file: faults.Fault
        azure.received.requests, azure.received.last.headers  # what it has seen; received.reset() forgets
        azure.faults.clear()

`Endpoint("openai", ..., path="/v1")` is a server of OpenAI's dialect; `oci`, `bedrock` and `vertex` are others. With
`known=` (`credentials.known`) a cloud verifies signatures, or issues tokens on its own port and knows them until their
end. `Emulator(load_endpoints(file))` starts all
emulated endpoints of a router file. From outside the process, on each cloud's own port:

    GET, DELETE        /__emulator/received    counts, the last request; DELETE resets
    GET, POST, DELETE  /__emulator/faults      lists, adds (a JSON list, or one), clears
    POST               /__emulator/quota       {"share": 0.5}: half of the limits; 1: all of them again
    GET                /__emulator/health
"""

from collections.abc import Iterable
from typing import Self

from router.emulator.cloud import EmulatedCloud
from router.emulator.faults import Fault, Kind
from router.emulator.settings import Deployment, Distribution, Endpoint, Settings, load_endpoints
from router.emulator.shapes import EmulatorConfigError

__all__ = [
    "Deployment",
    "Distribution",
    "EmulatedCloud",
    "Emulator",
    "EmulatorConfigError",
    "Endpoint",
    "Fault",
    "Kind",
    "Settings",
    "load_endpoints",
]


class Emulator:
    """Several clouds that start and end together; `clouds` by the endpoint's id."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.clouds = {endpoint.id: EmulatedCloud(endpoint) for endpoint in endpoints}

    async def start(self) -> None:
        """Starts all, or none. Raises EmulatorConfigError that names the one that cannot listen."""
        for cloud in self.clouds.values():
            try:
                await cloud.start()
            except OSError as error:
                await self.close()
                raise EmulatorConfigError(f"{cloud.endpoint.id}: cannot listen at {cloud.base_url}: {error}") from error

    async def close(self) -> None:
        for cloud in self.clouds.values():
            await cloud.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()
