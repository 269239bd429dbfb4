"""Nothing that goes out follows a redirect: whoever answers one would choose who gets our credential, or a prompt."""

import asyncio
import json
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from router.base.clock import SystemClock
from router.model.fleet import AuthKind, BaseUrl, Credential, Endpoint, EntraSource, GoogleSource, Secret
from router.providers.identity import IdentityError, make_identity
from tests.adversity.client import Ask, ask, chat
from tests.adversity.collector import collector
from tests.router_kit import Cloud, router

REDIRECTS = (301, 302, 303, 307, 308)
CANARY = "canary-of-a-secret"


class Site:
    """Two servers under one name: one sends all who ask to the other, which hears of nobody."""

    def __init__(self, folder: Path) -> None:
        self.ca_file = str(folder / "ca.pem")
        self.status = 307
        self.asked: list[str] = []
        self.led_astray: list[str] = []
        self.port = self.elsewhere = 0
        self.scheme = "http"

    async def redirect(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path}")
        await request.read()
        return web.Response(
            status=self.status, headers={"Location": f"{self.scheme}://localhost:{self.elsewhere}/taken"}
        )

    async def take(self, request: web.Request) -> web.Response:
        self.led_astray.append(f"{request.method} {request.path} {await request.text()} {dict(request.headers)}")
        return web.json_response({"access_token": "stolen", "expires_in": 3600, "token_type": "Bearer"})


@asynccontextmanager
async def site(folder: Path, *, tls: bool = True) -> AsyncIterator[Site]:
    authority, made = trustme.CA(), Site(folder)
    authority.cert_pem.write_to_path(made.ca_file)
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        made.scheme = "https"
    runners = []
    for handler in (made.redirect, made.take):
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        runners.append(runner)
    made.port, made.elsewhere = (runner.addresses[0][1] for runner in runners)
    try:
        yield made
    finally:
        for runner in runners:
            await runner.cleanup()


def entra(site: Site, _: Path) -> Credential:
    source = EntraSource(
        scope="https://ai.azure.com/.default",
        tenant_id="tenant",
        client_id="client",
        client_secret=Secret(CANARY),
        authority=f"https://localhost:{site.port}",
    )
    return Credential(AuthKind.ENTRA, source=source)


def google(site: Site, folder: Path) -> Credential:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    account = {
        "type": "service_account",
        "client_email": "router@example.iam.gserviceaccount.com",
        "private_key": pem,
        "token_uri": f"https://localhost:{site.port}/token",
    }
    (folder / "account.json").write_text(json.dumps(account))
    return Credential(AuthKind.GOOGLE, source=GoogleSource(str(folder / "account.json"), None, None))


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("credential", [entra, google])
async def test_a_token_is_asked_for_where_the_file_says_and_nowhere_else(
    tmp_path: Path, credential: Any, status: int
) -> None:
    async with site(tmp_path) as s:
        s.status = status
        endpoint = Endpoint(
            id="e",
            cloud="azure",
            provider="azure_openai",
            base_url=BaseUrl("https", "contoso.openai.azure.com", 443, ""),
            credential=credential(s, tmp_path),
            ca_file=s.ca_file,
        )
        identity = make_identity(endpoint, SystemClock(), random.Random(1))
        with pytest.raises(IdentityError) as refused:
            await identity.refresh()
        assert s.asked, "the question must have come so far"
        assert s.led_astray == []
        assert CANARY not in str(refused.value)
        await identity.close()


@pytest.mark.parametrize("status", REDIRECTS)
async def test_requests_and_probes_stay_where_they_were_sent(tmp_path: Path, status: int) -> None:
    """Both go to an endpoint that redirects all it gets; a probe of its engine's gauges is a third way."""
    async with site(tmp_path, tls=False) as s:
        s.status = status
        section = {
            "base_url": f"http://127.0.0.1:{s.port}/v1",
            "auth": {"bearer": CANARY},
            "probe": True,
            "load": "vllm",
        }
        cloud = Cloud("cw", "coreweave", "openai", extra=section)
        health = {"probe_every_s": 0.05, "open_s": 0.05}
        async with router(cloud, health=health, workloads=anywhere()) as r:
            request = chat()
            reply = await ask(r, Ask(request.path, request.body, request.key))
            assert reply.status in (502, 503)
            assert not 300 <= reply.status < 400
            assert "location" not in reply.headers
            await r.until(lambda: {"POST /v1/chat/completions", "GET /metrics", "GET /health"} <= set(s.asked))
            await asyncio.sleep(0)
        assert s.led_astray == []


def anywhere() -> dict[str, Any]:
    placement = {"placement": {"rule": "spread", "clouds": ["coreweave"]}}
    return {"api": placement, "internal": placement}


@pytest.mark.parametrize("status", REDIRECTS)
async def test_spans_go_to_the_collector_and_nowhere_else(tmp_path: Path, status: int) -> None:
    """Their headers may hold the key of a vendor."""
    async with collector() as seen, site(tmp_path, tls=False) as s:
        s.status = status
        tracing = {
            **seen.section(headers={"x-vendor-key": CANARY}),
            "endpoint": f"http://127.0.0.1:{s.port}/v1/traces",
        }
        async with router(Cloud("azure"), tracing=tracing) as r:
            assert (await ask(r, chat())).status == 200
            await r.until(lambda: s.asked)
            await r.until(lambda: any(event["event"] == "spans_lost" for event in r.events()), within_s=10)
        assert s.led_astray == []
