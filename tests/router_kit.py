"""A whole router in the test's own loop, in front of emulated clouds: real sockets, ports that the system chose.

For a test:

    async with router(Cloud("azure-east", "azure"), Cloud("cw", "coreweave", dialect="openai")) as r:
        r.url                        # http://127.0.0.1:PORT, without /v1
        r.clouds["cw"].received      # what that emulator saw
        r.worker                     # the Worker: `.assembly`, `.reload()`, `.set_drain(...)`
        r.records()                  # access log lines of finished requests so far, as dictionaries
        r.decisions()                # the decision log so far, read back from its segments
        await r.metric("router_offers_total", reason="busy")
"""

import asyncio
import json
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from prometheus_client.parser import text_string_to_metric_families

from router.accounting.audit import Auditor, Problem
from router.accounting.chain import Record, Verifier
from router.base.segments import written_segments
from router.cli.audit import writers_in
from router.config.keys import digest
from router.config.load import load
from router.emulator import Deployment, EmulatedCloud, Endpoint, Settings
from router.emulator.credentials.known import Known
from router.health.health import Health
from router.proxy.backend import Backend
from router.worker import Worker

API_KEY = "sk-ir-test-api"
INTERNAL_KEY = "sk-ir-test-internal"
CANARY = "upstream-secret-canary"
DECISIONS = "decisions"
PATHS = {
    "azure_openai": "",
    "openai": "/v1",
    "oci": "/openai/v1",
    "bedrock": "/openai/v1",
    "vertex": "/v1/projects/p/locations/us-central1/endpoints/openapi",
}


@dataclass
class Cloud:
    """One emulated endpoint. `deployments`: deployment name -> model; operations are the model's kind's own."""

    id: str
    cloud: str = "azure"
    dialect: str = "azure_openai"
    deployments: dict[str, str] = field(default_factory=lambda: {"gpt-4o-dep": "gpt-4o"})
    operations: dict[str, list[str]] = field(default_factory=dict)  # by deployment name
    api_version: str = "v1"
    tier: int = 0
    settings: Settings = field(default_factory=Settings)
    known: Known | None = None  # who signs or comes with tokens; None: the canary is the key
    auth: Callable[[str], dict[str, Any]] | None = None  # of the endpoint, from its base URL; None: the canary
    extra: dict[str, Any] = field(default_factory=dict)  # more keys of the endpoint
    deployment_extra: dict[str, Any] = field(default_factory=dict)  # more keys of each deployment

    def emulated(self) -> EmulatedCloud:
        names = tuple(
            Deployment(name, model, operations=frozenset(self.operations.get(name, ())))
            if name in self.operations
            else Deployment(name, model)
            for name, model in self.deployments.items()
        )
        return EmulatedCloud(
            Endpoint(
                self.dialect,
                names,
                id=self.id,
                path=PATHS[self.dialect],
                tls=self.settings.tls_cert is not None,
                key=CANARY if self.known is None else None,
                known=self.known,
                settings=self.settings,
            )
        )

    def section(self, base_url: str) -> dict[str, Any]:
        canary = {"api_key": CANARY} if self.dialect == "azure_openai" else {"bearer": CANARY}
        section: dict[str, Any] = {
            "cloud": self.cloud,
            "provider": self.dialect,
            "base_url": base_url,
            "auth": canary if self.auth is None else self.auth(base_url),
            "emulated": True,
            "probe": False,  # so that whatever a cloud receives was a client's
            "deployments": [
                {
                    "model": model,
                    "name": name,
                    "tier": self.tier,
                    **({"operations": self.operations[name]} if name in self.operations else {}),
                    **self.deployment_extra,
                }
                for name, model in self.deployments.items()
            ],
            **self.extra,
        }
        if self.dialect == "azure_openai":
            section["api_version"] = self.api_version
        return section


def heal(backend: Backend) -> None:
    """Lets a deployment stand as if nothing had ever happened to it."""
    backend.quota.cooldown.until = backend.cooldown.until = 0.0
    backend.meter.forgive()
    backend.health = Health(backend.health.settings, random.Random(1), backend.meter.forgive)
    backend.standing.changed()


class RunningRouter:
    """What a test sees of it."""

    def __init__(self, worker: Worker, clouds: dict[str, EmulatedCloud], file: Path, log: Path) -> None:
        self.worker, self.clouds, self.file, self.log = worker, clouds, file, log
        self.url = f"http://127.0.0.1:{worker.port}"
        self.admin_url = f"http://127.0.0.1:{worker.admin_port}"

    @property
    def port(self) -> int:
        return self.worker.port

    def records(self) -> list[dict[str, Any]]:
        """Finished requests in the order of their end. The log is written in batches: see `settled`."""
        lines = [json.loads(line) for line in self._lines()]
        return [line for line in lines if "event" not in line]

    def _lines(self) -> list[str]:
        """The whole lines of the access log: its last may be being written."""
        return self.log.read_text().rpartition("\n")[0].splitlines()

    def decisions(self) -> list[Record]:
        """What stands in the decision log at this moment, checked as `audit verify` does."""
        found, problems = _read_decisions(self.file.parent / DECISIONS)
        assert not problems, problems
        return found

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of the samples of /metrics that have this name and these labels."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.admin_url}/metrics") as answer:
            page = await answer.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def backend(self, endpoint: str) -> Backend:
        """The only deployment of an endpoint."""
        backends = self.worker.assembly.fleet.backends.values()
        (found,) = (backend for backend in backends if backend.deployment.endpoint.id == endpoint)
        return found

    def events(self) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self._lines()]
        return [line for line in lines if "event" in line]

    async def until(self, condition: Callable[[], object], within_s: float = 5.0) -> None:
        """Waits until `condition()` holds. Raises AssertionError when it does not in time."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not condition():
            assert asyncio.get_running_loop().time() < deadline, "the condition did not come true in time"
            await asyncio.sleep(0.01)

    async def assert_nothing_is_left(self, within_s: float = 5.0) -> None:
        """All that requests took is given back: slots, bodies, fibers' timers, busy connections."""
        assembly = self.worker.assembly

        def idle() -> bool:
            backends = assembly.fleet.backends.values()
            return (
                not any(assembly.runtime.in_flight.values())
                and not any(backend.in_flight or backend.pool.busy for backend in backends)
                and assembly.gateway.server.buffered_bytes == 0
            )

        await self.until(idle, within_s)


def _read_decisions(folder: Path) -> tuple[list[Record], list[str]]:
    """The records of all writers, and what is wrong with them."""
    records: list[Record] = []
    faults: list[Problem] = []
    problems: list[str] = []
    for writer, segments in writers_in(folder).items():
        verifier, auditor = Verifier(writer), Auditor(faults.append)
        for number, path in written_segments(segments):
            for record in verifier.segment(number, path.read_bytes()):
                auditor.read(record)
                records.append(record)
        auditor.finish()
        verifier.finish()
        problems += [finding.text for finding in verifier.findings]
    return records, problems + [fault.text for fault in faults]


def held(*then: str | list[str], **internal: Any) -> dict[str, dict[str, Any]]:
    """Workloads: `api` exclusive at azure, and `internal`, which azure may refuse first. `internal`: more of its keys.

    A key of `placement` goes there: `holder_attempts`.
    """
    placement: dict[str, Any] = {"rule": "first_refusal", "holder": "azure", "then": list(then) or ["coreweave"]}
    if "holder_attempts" in internal:
        placement["holder_attempts"] = internal.pop("holder_attempts")
    return {
        "api": {"placement": {"rule": "exclusive", "cloud": "azure"}},
        "internal": {"placement": placement, "reveal": "upstream", **internal},
    }


def write_config(path: Path, sections: dict[str, dict[str, Any]], log: Path, **more: Any) -> None:
    """Writes a configuration (JSON is YAML): keys for an `api` (azure only) and an `internal` (all clouds) workload."""
    clouds = sorted({section["cloud"] for section in sections.values()})
    hosts = {name: {"hosts": [f"inference.{name}.example"]} for name in clouds if name in ("softbank", "self")}
    config: dict[str, Any] = {
        "server": {
            "listen": "127.0.0.1:0",
            "admin": "127.0.0.1:0",
            "access_log": str(log),
            "drain_s": 5,
            **more.pop("server", {}),
        },
        "endpoints": sections,
        "workloads": {
            "api": {"placement": {"rule": "exclusive", "cloud": "azure"}},
            "internal": {"placement": {"rule": "spread", "clouds": clouds}, "reveal": "upstream"},
        },
        "keys": [
            {"name": "api", "workload": "api", "sha256": digest(API_KEY).hex(), "models": ["*"]},
            {"name": "internal", "workload": "internal", "sha256": digest(INTERNAL_KEY).hex(), "models": ["*"]},
        ],
        **({"clouds": hosts} if hosts else {}),
        "decision_log": {"dir": str(path.parent / DECISIONS), "segment_bytes": 1 << 20},
        **more,
    }
    path.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))


@asynccontextmanager
async def router(*clouds: Cloud, **config: Any) -> AsyncIterator[RunningRouter]:
    """Starts clouds and router; ends both, and asserts that nothing was left behind.

    `config`: more top-level keys of the file (`timeouts`, `aliases`, `server` ...). Give `leaves=True` to skip the
    assertion where the test itself leaves something running, `clock` where it turns the time.
    """
    leaves, clock = config.pop("leaves", False), config.pop("clock", None)
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            emulators = {cloud.id: cloud.emulated() for cloud in clouds}
            for emulator in emulators.values():
                await stack.enter_async_context(emulator)
            file, log = Path(folder) / "router.yaml", Path(folder) / "access.log"
            sections = {cloud.id: cloud.section(emulators[cloud.id].base_url) for cloud in clouds}
            write_config(file, sections, log, **config)
            worker = Worker(file, {}, load(str(file), {}, clock.wall() if clock is not None else None), clock)
            await worker.start()
            running = RunningRouter(worker, emulators, file, log)
            try:
                yield running
                if not leaves:
                    await running.assert_nothing_is_left()
            finally:
                await worker.close()
