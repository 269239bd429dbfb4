"""Every source of tokens and signatures against the emulated clouds' own services, and how they refuse."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from router.base.clock import ManualClock
from router.emulator import Deployment, EmulatedCloud, Endpoint, Settings
from router.emulator.credentials.known import EntraApplication, GoogleAccount, Known
from router.model.fleet import (
    AuthKind,
    AwsSource,
    BaseUrl,
    Credential,
    EntraSource,
    GoogleSource,
    OciPrincipal,
    OciSource,
    Secret,
)
from router.model.fleet import Endpoint as RouterEndpoint
from router.providers.entra import SCOPE_CLASSIC, SCOPE_V1
from router.providers.identity import Identity, IdentityError, make_identity
from tests.conformance.providers.kit import (
    ACCOUNT,
    AWS_KEYS,
    CLIENT,
    CLIENT_SECRET,
    OCI_PARTS,
    REGION,
    TENANT,
    another_public_key,
    aws_keys,
    entra_application,
    files,
    google_account,
    oci_key,
    service_account,
)

CHAT = {"messages": [{"role": "user", "content": "What is a lantern?"}]}
PATHS = {
    "azure_openai": "/openai/v1/chat/completions",
    "oci": "/openai/v1/chat/completions",
    "bedrock": "/openai/v1/chat/completions",
    "vertex": "/v1/projects/p/locations/l/endpoints/openapi/chat/completions",
}


@asynccontextmanager
async def cloud(
    provider: str, known: Known, *, tls: bool = False, clock: ManualClock | None = None, **settings: Any
) -> AsyncIterator[EmulatedCloud]:
    if tls:
        settings["tls_cert"] = settings["tls_key"] = str(files().certificate)
    path = PATHS[provider].removesuffix("/chat/completions") if provider != "azure_openai" else ""
    deployment = Deployment("publisher/model", "gpt-4o")
    endpoint = Endpoint(
        provider, (deployment,), region=REGION, tls=tls, path=path, known=known, settings=Settings(**settings)
    )
    async with EmulatedCloud(endpoint, clock) as running:
        yield running


def identity_of(running: EmulatedCloud, credential: Credential, *, trusted: bool = True) -> Identity:
    url = BaseUrl("https" if running.endpoint.tls else "http", "127.0.0.1", running.port, running.endpoint.path)
    ca_file = str(files().authority) if running.endpoint.tls and trusted else None
    return make_identity(RouterEndpoint("e", "c", running.endpoint.dialect, url, credential, ca_file=ca_file))


async def chat(running: EmulatedCloud, identity: Identity, path: str | None = None, **fields: Any) -> tuple[int, Any]:
    """One request as the router would send it. Returns the status, and the body as JSON."""
    target = path or PATHS[running.endpoint.dialect]
    host = f"127.0.0.1:{running.port}"
    body = json.dumps({"model": "publisher/model", **CHAT, **fields}).encode()
    headers = [(b"content-type", b"application/json")]
    if identity.signs:
        lines = await asyncio.to_thread(identity.sign, b"POST", host.encode(), target.encode(), headers, [body])
    else:
        lines = identity.tail or b""
    own = dict(line.decode().split(": ", 1) for line in lines.split(b"\r\n") if line)
    url = f"{'https' if running.endpoint.tls else 'http'}://{host}{target}"
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(url, data=body, ssl=False, headers={"content-type": "application/json", **own}) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


def entra(**more: Any) -> Credential:
    return Credential(AuthKind.ENTRA, source=EntraSource(**{"scope": SCOPE_V1, **more}))


def by_secret(running: EmulatedCloud, secret: str = CLIENT_SECRET, scope: str = SCOPE_V1) -> Credential:
    authority = running.base_url.removesuffix(running.endpoint.path)
    return entra(tenant_id=TENANT, client_id=CLIENT, client_secret=Secret(secret), authority=authority, scope=scope)


@pytest.mark.parametrize("scope", [SCOPE_V1, SCOPE_CLASSIC])
async def test_entra_by_a_clients_secret(scope: str) -> None:
    async with cloud("azure_openai", entra_application(), tls=True) as azure:
        identity = identity_of(azure, by_secret(azure, scope=scope))
        await identity.refresh()

        assert (await chat(azure, identity))[0] == 200
        classic = "/openai/deployments/publisher%2Fmodel/chat/completions?api-version=2024-10-21"
        assert (await chat(azure, identity, classic))[0] == 200


async def test_entra_gives_a_token_for_another_service_that_azure_refuses() -> None:
    async with cloud("azure_openai", entra_application(), tls=True) as azure:
        identity = identity_of(azure, by_secret(azure, scope="https://graph.microsoft.com/.default"))
        await identity.refresh()

        status, body = await chat(azure, identity)
        assert status == 401
        assert body["statusCode"] == 401
        assert "error" not in body


async def test_a_wrong_secret_is_told_without_it() -> None:
    async with cloud("azure_openai", entra_application(), tls=True) as azure:
        identity = identity_of(azure, by_secret(azure, "wrong-canary"))
        with pytest.raises(IdentityError, match="AADSTS7000215") as caught:
            await identity.refresh()

        assert "canary" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert identity.tail is None


async def test_an_authority_that_nobody_vouches_for_gets_no_secret() -> None:
    async with cloud("azure_openai", entra_application(), tls=True) as azure:
        identity = identity_of(azure, by_secret(azure), trusted=False)
        with pytest.raises(IdentityError, match=r"(?i)certificate"):
            await identity.refresh()

        assert azure.received.requests == 0


async def test_entra_by_a_federated_token(tmp_path: Path) -> None:
    """Workload identity: Kubernetes writes the file, and writes it anew."""
    file = tmp_path / "token"
    file.write_text("federated-1")
    async with cloud("azure_openai", EntraApplication(TENANT, CLIENT, assertion="federated-2"), tls=True) as azure:
        credential = entra(tenant_id=TENANT, client_id=CLIENT, token_file=str(file), authority=azure.base_url)
        identity = identity_of(azure, credential)
        with pytest.raises(IdentityError, match="AADSTS700211"):
            await identity.refresh()
        file.write_text("federated-2")
        await identity.refresh()
        assert (await chat(azure, identity))[0] == 200

        file.unlink()
        old = identity.tail
        with pytest.raises(IdentityError):
            await identity.refresh()
        assert identity.tail == old


@pytest.mark.parametrize("client_id", [None, CLIENT])
async def test_entra_by_a_managed_identity(client_id: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_FEDERATED_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    async with cloud("azure_openai", EntraApplication(client_id=client_id)) as azure:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.base_url)
        identity = identity_of(azure, entra(client_id=client_id))
        await identity.refresh()
        assert (await chat(azure, identity))[0] == 200

        other = identity_of(azure, entra(client_id="another"))
        if client_id is not None:
            with pytest.raises(IdentityError):
                await other.refresh()


def google(**source: Any) -> Credential:
    return Credential(AuthKind.GOOGLE, source=GoogleSource(**source))


async def test_google_by_a_service_account() -> None:
    async with cloud("vertex", google_account()) as vertex:
        origin = f"http://127.0.0.1:{vertex.port}"
        account = service_account(f"{origin}/token", "own.json")
        identity = identity_of(vertex, google(service_account_file=account, quota_project="billed"))
        await identity.refresh()

        assert (await chat(vertex, identity))[0] == 200
        assert vertex.received.last is not None
        assert vertex.received.last.header("x-goog-user-project") == "billed"


@pytest.mark.parametrize("wrong", ["account", "key"])
async def test_google_refuses_another_account_and_another_key(wrong: str) -> None:
    known = GoogleAccount("another@x") if wrong == "account" else GoogleAccount(ACCOUNT, another_public_key())
    async with cloud("vertex", known) as vertex:
        account = service_account(f"http://127.0.0.1:{vertex.port}/token", "refused.json")
        identity = identity_of(vertex, google(service_account_file=account))
        with pytest.raises(IdentityError, match="invalid_grant"):
            await identity.refresh()


async def test_google_by_application_default_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cloud("vertex", google_account()) as vertex:
        account = service_account(f"http://127.0.0.1:{vertex.port}/token", "default.json")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", account)
        identity = identity_of(vertex, google())
        await identity.refresh()
        assert (await chat(vertex, identity))[0] == 200


async def test_google_by_a_federated_token(tmp_path: Path) -> None:
    token, file = tmp_path / "token", tmp_path / "federation.json"
    async with cloud("vertex", GoogleAccount(subject_token="federated")) as vertex:
        token.write_text("federated")
        file.write_text(
            json.dumps(
                {
                    "type": "external_account",
                    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q",
                    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                    "token_url": f"http://127.0.0.1:{vertex.port}/v1/token",
                    "credential_source": {"file": str(token)},
                }
            )
        )
        identity = identity_of(vertex, google(workload_identity_file=str(file)))
        await identity.refresh()
        assert (await chat(vertex, identity))[0] == 200


async def test_google_wraps_the_errors_of_streams() -> None:
    async with cloud("vertex", google_account()) as vertex:
        nobody = make_identity(
            RouterEndpoint("e", "c", "vertex", BaseUrl("http", "h", 1, ""), Credential(AuthKind.BEARER, Secret("x")))
        )
        status, body = await chat(vertex, nobody)
        assert status == body["error"]["code"] == 401
        assert body["error"]["status"] == "UNAUTHENTICATED"
        status, body = await chat(vertex, nobody, stream=True)
        assert status == body[0]["error"]["code"] == 401


async def test_google_refuses_an_assertion_of_another_time() -> None:
    clock = ManualClock(wall_s=1_700_000_000.0)
    async with cloud("vertex", GoogleAccount(), clock=clock) as vertex:
        account = service_account(f"http://127.0.0.1:{vertex.port}/token", "ending.json")
        identity = identity_of(vertex, google(service_account_file=account))
        with pytest.raises(IdentityError, match="reasonable timeframe"):  # the two clocks are years apart
            await identity.refresh()


def aws(**more: Any) -> Credential:
    keys = {"access_key_id": AWS_KEYS.access_key_id, "secret_access_key": Secret(AWS_KEYS.secret_access_key)}
    return Credential(AuthKind.SIGV4, source=AwsSource(**{"region": REGION, **keys, **more}))


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({}, 200, ""),
        ({"secret_access_key": Secret("wrong")}, 403, "signature we calculated"),
        ({"access_key_id": "AKIDOTHER"}, 403, "security token"),
        ({"region": "eu-west-1"}, 403, "scoped"),
        ({"service": "bedrock-mantle"}, 403, "scoped"),
    ],
)
async def test_aws_notices_what_does_not_fit(more: dict[str, Any], status: int, message: str) -> None:
    async with cloud("bedrock", aws_keys()) as bedrock:
        got, body = await chat(bedrock, identity_of(bedrock, aws(**more)))
        assert got == status
        assert message in body.get("message", "")


async def test_temporary_keys_are_renewed_before_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container has them: keys with a session token, which end."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name, raising=False)
    given: list[str] = []
    life_s = [600.0]

    async def keys(_request: web.Request) -> web.Response:
        given.append(f"session-{len(given) + 1}")
        end = datetime.fromtimestamp(time.time() + life_s[0], UTC)
        return web.json_response(
            {
                "AccessKeyId": AWS_KEYS.access_key_id,
                "SecretAccessKey": AWS_KEYS.secret_access_key,
                "Token": given[-1],
                "Expiration": f"{end:%Y-%m-%dT%H:%M:%SZ}",
            }
        )

    app = web.Application()
    app.router.add_get("/keys", keys)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{port}/keys")
    try:
        chain = Credential(AuthKind.SIGV4, source=AwsSource(REGION))
        async with cloud("bedrock", replace(AWS_KEYS, session_token="session-3")) as bedrock:
            identity = identity_of(bedrock, chain)
            await identity.refresh()
            assert (await chat(bedrock, identity))[0] == 403
            assert given == ["session-1", "session-2"]  # what has ten minutes left is renewed at once
            life_s[0] = 3600.0
            await identity.refresh()
            assert (await chat(bedrock, identity))[0] == 200
            await identity.refresh()
            assert len(given) == 3  # an hour is left: nothing is asked for
    finally:
        await runner.cleanup()


async def test_clouds_notice_a_date_that_is_not_now(tmp_path: Path) -> None:
    async with cloud("bedrock", aws_keys(), clock=ManualClock()) as bedrock:
        status, body = await chat(bedrock, identity_of(bedrock, aws()))
        assert status == 403
        assert "expired" in body["message"]
    async with cloud("oci", oci_key(), clock=ManualClock()) as oracle:
        status, body = await chat(oracle, identity_of(oracle, oci()))
        assert status == 401
        assert body["code"] == "NotAuthenticated"


def oci(**more: Any) -> Credential:
    parts = {**OCI_PARTS, "key_file": str(files().private_key), "compartment": "ocid1.compartment.oc1..c"}
    return Credential(AuthKind.OCI, source=OciSource(OciPrincipal.KEY, **{**parts, **more}))


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({}, 200, None),
        ({"user": "ocid1.user.oc1..other"}, 401, "NotAuthenticated"),
        ({"compartment": "ocid1.compartment.oc1..other"}, 404, "NotAuthorizedOrNotFound"),
        ({"compartment": None}, 404, "NotAuthorizedOrNotFound"),
    ],
)
async def test_oracle_notices_what_does_not_fit(more: dict[str, Any], status: int, code: str | None) -> None:
    async with cloud("oci", oci_key()) as oracle:
        got, body = await chat(oracle, identity_of(oracle, oci(**more)))
        assert (got, body.get("code")) == (status, code)
