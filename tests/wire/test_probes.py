"""Probes and readings of engines over real sockets, against emulated clouds: what they ask, what they make of it."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest
import trustme

from router.emulator import Deployment, EmulatedCloud, Settings
from router.emulator import Endpoint as Emulated
from router.health.engine import EngineLoad
from router.health.settings import HealthSettings
from router.jobs.engine_load import EngineLoads
from router.jobs.outward import USER_AGENT, Outward, ProbeTarget
from router.jobs.probes import ProbeResult, Probes, probe
from router.model.fleet import AuthKind, BaseUrl, Credential, Endpoint, Secret, UpstreamTls
from router.transport.dialling import Way
from router.transport.names import Names

KEY = "upstream-secret-canary"


def endpoint_of(cloud: EmulatedCloud, provider: str = "openai", load: str = "", path: str = "/v1") -> Endpoint:
    azure = provider == "azure_openai"
    return Endpoint(
        id=cloud.endpoint.id,
        cloud="azure" if azure else "coreweave",
        provider=provider,
        base_url=BaseUrl("https" if cloud.endpoint.tls else "http", "127.0.0.1", cloud.port, "" if azure else path),
        credential=Credential(AuthKind.API_KEY if azure else AuthKind.BEARER, Secret(KEY)),
        load=load,
        emulated=True,
    )


def target_of(endpoint: Endpoint, last_traffic_at: float = 0.0, *, out: bool = False) -> ProbeTarget:
    azure = endpoint.provider == "azure_openai"
    header = {"api-key": KEY} if azure else {"authorization": f"Bearer {KEY}"}
    return ProbeTarget(endpoint, way_to(endpoint), header, last_traffic_at, out)


def way_to(endpoint: Endpoint) -> Way:
    loop = asyncio.get_running_loop()
    return Way(loop, Names(loop), endpoint)


def openai(name: str = "cw", **more: object) -> Emulated:
    return Emulated("openai", (Deployment("gpt-4o"),), id=name, key=KEY, path="/v1", **more)  # type: ignore[arg-type]


def azure(name: str = "east") -> Emulated:
    return Emulated("azure_openai", (Deployment("gpt-4o"),), id=name, key=KEY)


@asynccontextmanager
async def way_out() -> AsyncIterator[Outward]:
    outward = Outward(reuse=False)
    try:
        yield outward
    finally:
        await outward.close()


async def ask(target: ProbeTarget, timeout_s: float = 5.0) -> ProbeResult:
    async with way_out() as outward:
        return await probe(outward, target, timeout_s)


class TestOneProbe:
    @pytest.mark.parametrize(
        ("provider", "api_version", "question"),
        [
            ("azure_openai", "v1", "/openai/v1/models"),
            ("azure_openai", "2024-10-21", "/openai/models?api-version=2024-10-21"),
            ("openai", "v1", "/v1/models"),
        ],
    )
    async def test_asks_for_the_models(self, provider: str, api_version: str, question: str) -> None:
        async with EmulatedCloud(azure() if provider == "azure_openai" else openai()) as cloud:
            endpoint = replace(endpoint_of(cloud, provider), api_version=api_version, headers={"x-tenant": "ours"})
            result = await ask(target_of(endpoint))

            assert (result.ok, result.reason, result.status) == (True, "ok", 200)
            seen = cloud.received.last
            assert seen is not None
            assert (seen.method, seen.target, bytes(seen.body)) == ("GET", question, b"")
            fields = dict(seen.headers)
            assert (fields["user-agent"], fields["x-tenant"]) == (USER_AGENT, "ours")
            assert cloud.received.requests == 1
            assert cloud.received.by_operation == {"models": 1}

    @pytest.mark.parametrize(
        ("engine", "question"), [("vllm", "/health"), ("sglang", "/health"), ("nim", "/v1/health/ready")]
    )
    async def test_asks_an_engine_for_its_health(self, engine: str, question: str) -> None:
        async with EmulatedCloud(openai(engine=engine)) as cloud:
            result = await ask(target_of(endpoint_of(cloud, load=engine)))

            assert (result.ok, result.status) == (True, 200)
            assert cloud.received.last is not None
            assert cloud.received.last.target == question
            assert cloud.received.by_operation == {"health": 1}

    @pytest.mark.parametrize("provider", ["oci", "vertex"])
    async def test_only_connects_where_every_question_costs(self, provider: str) -> None:
        async with EmulatedCloud(openai()) as cloud:
            result = await ask(target_of(endpoint_of(cloud, provider)))

            assert (result.ok, result.status) == (True, 0)
            assert (cloud.received.connections, cloud.received.requests) == (1, 0)

    async def test_only_connects_while_there_is_no_credential(self) -> None:
        async with EmulatedCloud(openai()) as cloud:
            endpoint = endpoint_of(cloud)
            result = await ask(ProbeTarget(endpoint, way_to(endpoint), {}, 0.0))

            assert result.ok is True, "a 401 would be of our own making"
            assert cloud.received.requests == 0

    @pytest.mark.parametrize(
        ("status", "ok", "reason"),
        [
            (401, None, "credential"),
            (403, None, "credential"),
            (404, None, "unknown"),
            (429, None, "throttled"),
            (500, False, "status"),
            (503, False, "status"),
        ],
    )
    async def test_what_an_answer_means(self, status: int, ok: bool | None, reason: str) -> None:
        async with EmulatedCloud(openai()) as cloud:
            cloud.faults.add("status", status=status)
            result = await ask(target_of(endpoint_of(cloud)))
        assert (result.ok, result.reason, result.status) == (ok, reason, status)

    async def test_follows_no_redirect(self) -> None:
        async with EmulatedCloud(openai()) as cloud, EmulatedCloud(openai("elsewhere")) as elsewhere:
            cloud.faults.add("redirect", value=f"http://127.0.0.1:{elsewhere.port}/v1/models")
            result = await ask(target_of(endpoint_of(cloud)))
            assert (result.ok, result.reason, result.status) == (None, "unknown", 302)
            assert elsewhere.received.connections == 0

    @pytest.mark.parametrize(
        ("fault", "reason"),
        [("stall_before_head", "timeout"), ("reset_before_head", "broken"), ("refuse", "connect")],
    )
    async def test_what_no_answer_means(self, fault: str, reason: str) -> None:
        async with EmulatedCloud(openai()) as cloud:
            cloud.faults.add(fault)
            began = monotonic()
            result = await ask(target_of(endpoint_of(cloud)), timeout_s=0.2)
            assert (result.ok, result.reason) == (False, reason)
            assert monotonic() - began < 2.0

    @pytest.mark.parametrize("provider", ["openai", "oci"])
    async def test_dials_no_private_address_of_a_public_endpoint(self, provider: str) -> None:
        async with EmulatedCloud(openai()) as cloud:
            public = replace(endpoint_of(cloud, provider), emulated=False)
            named = replace(public, base_url=replace(public.base_url, host="localhost"))
            for endpoint in (public, named):
                result = await ask(target_of(endpoint))
                assert (result.ok, result.reason) == (False, "connect")
            assert cloud.received.connections == 0

    async def test_uses_no_proxy_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with EmulatedCloud(openai()) as cloud, EmulatedCloud(openai("proxy")) as proxy:
            for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
                monkeypatch.setitem(os.environ, name, f"http://127.0.0.1:{proxy.port}")
            assert (await ask(target_of(endpoint_of(cloud)))).ok is True
            assert proxy.received.connections == 0

    @pytest.mark.parametrize("provider", ["openai", "vertex"])
    async def test_verifies_the_certificate(self, tmp_path: Path, provider: str) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        cert = authority.issue_cert("127.0.0.1")
        cert.private_key_pem.write_to_path(tmp_path / "key.pem")
        cert.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        files = Settings(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "key.pem"))
        async with EmulatedCloud(openai(tls=True, settings=files)) as cloud:
            endpoint = endpoint_of(cloud, provider)
            trusting = replace(endpoint, tls=UpstreamTls((tmp_path / "ca.pem").read_text()))
            assert (await ask(target_of(trusting))).ok is True
            assert (await ask(target_of(endpoint))).reason == "connect"


@asynccontextmanager
async def probing(settings: HealthSettings, targets: Callable[[], list[ProbeTarget]]) -> AsyncIterator[list[str]]:
    """The job at work; yields the ids of the endpoints that were asked, as it goes on."""
    loop = asyncio.get_running_loop()
    asked: list[str] = []
    job = Probes(loop, lambda: settings, targets, lambda name, _result: asked.append(name))
    job.start()
    try:
        yield asked
    finally:
        await job.stop()


async def until(condition: Callable[[], object], within_s: float = 5.0) -> None:
    deadline = monotonic() + within_s
    while not condition():
        assert monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.01)


class TestTheJob:
    async def test_asks_only_where_nothing_was_heard(self) -> None:
        async with EmulatedCloud(openai("busy")) as busy, EmulatedCloud(openai("quiet")) as quiet:
            endpoints = [endpoint_of(busy), endpoint_of(quiet), replace(endpoint_of(quiet), id="off", probe=False)]

            def targets() -> list[ProbeTarget]:
                return [target_of(endpoints[0], monotonic()), target_of(endpoints[1]), target_of(endpoints[2])]

            async with probing(HealthSettings(probe_every_s=0.3), targets) as asked:
                await until(lambda: len(asked) >= 3)
            assert set(asked) == {"quiet"}
            assert busy.received.requests == 0

    async def test_asks_one_that_is_out_more_often(self) -> None:
        async with EmulatedCloud(openai("out")) as out, EmulatedCloud(openai("quiet")) as quiet:
            endpoints = [endpoint_of(out), endpoint_of(quiet)]

            def targets() -> list[ProbeTarget]:
                return [target_of(endpoints[0], monotonic(), out=True), target_of(endpoints[1], monotonic())]

            async with probing(HealthSettings(probe_every_s=30.0, open_s=0.3), targets) as asked:
                await until(lambda: len(asked) >= 3)
            assert set(asked) == {"out"}

    async def test_asks_no_endpoint_twice_at_once(self) -> None:
        async with EmulatedCloud(openai()) as cloud:
            cloud.faults.add("stall_before_head")
            targets = [target_of(endpoint_of(cloud))]
            async with probing(HealthSettings(probe_every_s=0.1), lambda: targets):
                await until(lambda: cloud.received.requests)
                await asyncio.sleep(0.8)  # several periods
                assert cloud.received.connections_open == 1

    async def test_one_black_hole_does_not_keep_the_others_unasked(self) -> None:
        async with EmulatedCloud(openai("hole")) as hole, EmulatedCloud(openai("well")) as well:
            hole.faults.add("stall_before_head")
            targets = [target_of(endpoint_of(hole)), target_of(endpoint_of(well))]
            async with probing(HealthSettings(probe_every_s=0.2), lambda: targets) as asked:
                await until(lambda: asked.count("well") >= 3)
            assert "hole" not in asked


@pytest.mark.parametrize("engine", ["vllm", "sglang", "nim"])
async def test_reads_what_an_engine_is_doing(engine: str) -> None:
    async with EmulatedCloud(openai(engine=engine)) as cloud:
        assert cloud.engine is not None
        cloud.engine.slots = 2
        cloud.faults.add("stall_before_head", operation="chat")
        posts = [asyncio.create_task(_post(cloud.port)) for _ in range(3)]
        await until(lambda: cloud.received.by_operation["chat"] == 3)
        loads = await _read(cloud, engine, lambda loads: loads)
        assert (loads[0].running, loads[0].waiting, loads[0].kv_used) == (2.0, 1.0, 1.0)
        for post in posts:
            post.cancel()
        await asyncio.gather(*posts, return_exceptions=True)


async def test_a_page_that_fails_leaves_nothing_known() -> None:
    async with EmulatedCloud(openai(engine="vllm")) as cloud:
        cloud.faults.add("status", status=503, operation="metrics", times=1)
        cloud.faults.add("reset_before_head", operation="metrics", times=2)  # a reused connection is tried again
        broken, dead, well = (await _read(cloud, "vllm", lambda loads: len(loads) == 3))[:3]
        for load in (broken, dead):
            assert (load.running, load.waiting, load.kv_used) == (None, None, None)
            assert load.at > 0
        assert (well.running, well.waiting, well.kv_used) == (0.0, 0.0, 0.0)


async def _read(cloud: EmulatedCloud, engine: str, enough: Callable[[list[EngineLoad]], object]) -> list[EngineLoad]:
    loop, loads = asyncio.get_running_loop(), list[EngineLoad]()
    targets = [target_of(endpoint_of(cloud, load=engine)), target_of(replace(endpoint_of(cloud), id="no-engine"))]
    job = EngineLoads(loop, lambda: targets, lambda _name, load: loads.append(load))
    job.start()
    try:
        await until(lambda: enough(loads))
    finally:
        await job.stop()
    return loads


async def _post(port: int) -> None:
    body = b'{"model":"gpt-4o","messages":[]}'
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    try:
        await reader.read()
    finally:
        writer.close()
