"""What every provider has to do behind a router, and each one's credentials in an emulated cloud.

A `Case` is one way of being told who we are at one provider. The suite in `test_providers.py` runs on all of them; a
new provider, or a new way, is one more entry in `CASES`.
"""

import functools
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from openai import AsyncOpenAI

from router.config.keys import digest
from router.emulator import Settings
from router.emulator.credentials.known import AwsKeys, EntraApplication, GoogleAccount, Known, OciKey
from tests.router_kit import INTERNAL_KEY, Cloud, RunningRouter, router

MODEL = "gpt-4o"
EMBEDDINGS = "text-embedding-3-small"
MESSAGES: Any = [{"role": "user", "content": "What is a lantern?"}]
REGION = "us-chicago-1"

AWS_KEYS = AwsKeys("AKIDEXAMPLE", "aws-secret-canary", REGION)
TENANT, CLIENT, CLIENT_SECRET = "contoso-tenant", "router-client", "entra-secret-canary"
ACCOUNT = "router@project.iam.gserviceaccount.com"
OCI_PARTS = {"tenancy": "ocid1.tenancy.oc1..t", "user": "ocid1.user.oc1..u", "fingerprint": "aa:bb:cc"}


@dataclass(frozen=True)
class Files:
    """Made once a process: keys take a moment. They live in a folder that ends with it."""

    folder: Path
    private_key: Path
    public_key: bytes
    authority: Path
    certificate: Path


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory()


@functools.cache
def files() -> Files:
    folder = Path(_folder().name)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private_key, authority, certificate = folder / "key.pem", folder / "authority.pem", folder / "server.pem"
    private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    trust = trustme.CA()
    trust.cert_pem.write_to_path(authority)
    trust.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    return Files(folder, private_key, public_key, authority, certificate)


def another_public_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def service_account(token_uri: str, name: str = "account.json") -> str:
    """A key file as Google gives them, for a token service at `token_uri`."""
    file = files().folder / name
    account = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "k1",
        "private_key": files().private_key.read_text(),
        "client_email": ACCOUNT,
        "client_id": "1",
        "token_uri": token_uri,
    }
    file.write_text(json.dumps(account))
    return str(file)


@dataclass(frozen=True)
class Case:
    """One way of one provider."""

    name: str
    cloud: str
    provider: str
    deployment: str
    auth: Callable[[str], dict[str, Any]] | None = None
    known: Callable[[], Known] | None = None
    tls: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)  # of `Cloud`

    def as_cloud(self, *models: str, name: str = "only", **settings: Any) -> Cloud:
        """The emulated cloud. `models`: served beside the usual one, for chat, by a deployment each."""
        extra = {**self.extra, "probe": False}  # what the cloud receives is what a test sends
        if self.tls:
            extra["ca_file"] = str(files().authority)
            settings["tls_cert"] = settings["tls_key"] = str(files().certificate)
        deployments = {self.deployment: MODEL, **{f"{self.deployment}-{each}": each for each in models}}
        if self.has_embeddings:
            deployments["embedder"] = EMBEDDINGS
        return Cloud(
            name,
            self.cloud,
            self.provider,
            deployments=deployments,
            operations={f"{self.deployment}-{each}": ["chat"] for each in models},
            settings=Settings(**settings),
            known=self.known() if self.known is not None else None,
            auth=self.auth,
            extra=extra,
            **self.more,
        )

    def spoilt(self) -> Cloud:
        """The cloud as it is to somebody whose credential it does not know."""
        cloud = self.as_cloud()
        if isinstance(cloud.known, AwsKeys):
            return replace(cloud, known=replace(cloud.known, secret_access_key="another"))
        if isinstance(cloud.known, OciKey):
            return replace(cloud, known=replace(cloud.known, public_key=another_public_key()))
        kind = "api_key" if self.provider == "azure_openai" else "bearer"
        return replace(cloud, auth=lambda _base_url: {kind: "another"})

    @property
    def has_embeddings(self) -> bool:
        return self.provider in ("azure_openai", "openai")

    @property
    def has_tokens(self) -> bool:
        return self.known is not None and isinstance(self.known(), EntraApplication | GoogleAccount)


def _entra(base_url: str) -> dict[str, Any]:
    secret = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": CLIENT_SECRET}
    return {"entra": {**secret, "authority": base_url}}


def _google(base_url: str) -> dict[str, Any]:
    origin = base_url.split("/v1/")[0]
    return {"google": {"service_account_file": service_account(f"{origin}/token")}}


def _oci(_base_url: str) -> dict[str, Any]:
    return {"oci": {**OCI_PARTS, "key_file": str(files().private_key), "compartment": "ocid1.compartment.oc1..c"}}


def _aws(_base_url: str) -> dict[str, Any]:
    keys = {"access_key_id": AWS_KEYS.access_key_id, "secret_access_key": AWS_KEYS.secret_access_key}
    return {"sigv4": keys}


def _mantle(base_url: str) -> dict[str, Any]:
    return {"sigv4": {**_aws(base_url)["sigv4"], "service": "bedrock-mantle"}}


def entra_application() -> EntraApplication:
    return EntraApplication(TENANT, CLIENT, CLIENT_SECRET)


def aws_keys() -> AwsKeys:
    return AWS_KEYS


def mantle_keys() -> AwsKeys:
    return replace(AWS_KEYS, service="bedrock-mantle")


def oci_key() -> OciKey:
    return OciKey("/".join(OCI_PARTS.values()), files().public_key, "ocid1.compartment.oc1..c")


def google_account() -> GoogleAccount:
    return GoogleAccount(ACCOUNT, files().public_key)


_ENTRA: dict[str, Any] = {"auth": _entra, "known": entra_application, "tls": True}
_IN_REGION: dict[str, Any] = {"extra": {"region": REGION}}

CASES = {
    case.name: case
    for case in (
        Case("azure-key", "azure", "azure_openai", "gpt-4o-ptu"),
        Case("azure-entra", "azure", "azure_openai", "gpt-4o-ptu", **_ENTRA),
        Case(
            "azure-classic-entra",
            "azure",
            "azure_openai",
            "gpt-4o-ptu",
            more={"api_version": "2025-04-01-preview"},
            **_ENTRA,
        ),
        Case("openai-bearer", "coreweave", "openai", "meta-llama/Llama-3.1-8B-Instruct"),
        Case("oci-bearer", "oracle", "oci", "openai.gpt-oss-120b", **_IN_REGION),
        Case("oci-signature", "oracle", "oci", "openai.gpt-oss-120b", auth=_oci, known=oci_key, **_IN_REGION),
        Case("bedrock-bearer", "aws", "bedrock", "us.openai.gpt-oss-120b", **_IN_REGION),
        Case(
            "bedrock-sigv4", "aws", "bedrock", "us.openai.gpt-oss-120b", auth=_aws, known=lambda: AWS_KEYS, **_IN_REGION
        ),
        Case(
            "bedrock-mantle",
            "aws",
            "bedrock",
            "openai.gpt-oss-120b",
            auth=_mantle,
            known=mantle_keys,
            **_IN_REGION,
        ),
        Case("vertex-google", "google", "vertex", "google/gemini-2.5-flash", auth=_google, known=google_account),
    )
}


@asynccontextmanager
async def behind(
    case: Case, *models: str, cloud: Cloud | None = None, reveal: str = "upstream", **settings: Any
) -> AsyncIterator[RunningRouter]:
    """A router in front of the case's cloud, for one internal workload. `settings`: the emulator's."""
    spread = {"rule": "spread", "clouds": [case.cloud]}
    key = {"name": "internal", "workload": "internal", "sha256": digest(INTERNAL_KEY).hex(), "models": ["*"]}
    workloads = {"internal": {"placement": spread, "reveal": reveal}}
    async with router(cloud or case.as_cloud(*models, **settings), workloads=workloads, keys=[key]) as running:
        yield running


def sdk(r: RunningRouter) -> AsyncOpenAI:
    """OpenAI's own client in front of the router; it never tries again by itself."""
    return AsyncOpenAI(base_url=f"{r.url}/v1", api_key=INTERNAL_KEY, max_retries=0)
