"""One file for the router and for the emulator: each reads its own half of every credential from it."""

import socket
from pathlib import Path
from typing import Any

import orjson

from router.config.load import load
from router.emulator import Emulator, load_endpoints
from router.emulator.credentials.known import AwsKeys, EntraApplication, GoogleAccount, OciKey
from router.providers.identity import make_identity
from tests.conformance.providers.kit import (
    ACCOUNT,
    AWS_KEYS,
    CLIENT,
    CLIENT_SECRET,
    OCI_PARTS,
    REGION,
    TENANT,
    files,
    service_account,
)
from tests.conformance.providers.test_identities import chat


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def sections() -> dict[str, dict[str, Any]]:
    ports = {name: free_port() for name in ("azure", "oracle", "aws", "google")}
    at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    authority = f"https://127.0.0.1:{ports['azure']}"
    entra = {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": "${ENTRA_SECRET}", "authority": authority}
    oci = {**OCI_PARTS, "key_file": str(files().private_key), "compartment": "ocid1.compartment.oc1..c"}
    aws = {"access_key_id": AWS_KEYS.access_key_id, "secret_access_key": "${AWS_SECRET}"}
    google = {"service_account_file": service_account(f"{at['google']}/token", "emulated.json")}
    parts: dict[str, tuple[str, str, dict[str, Any]]] = {
        "azure": ("azure_openai", authority, {"entra": entra}),
        "oracle": ("oci", f"{at['oracle']}/openai/v1", {"oci": oci}),
        "aws": ("bedrock", f"{at['aws']}/openai/v1", {"sigv4": aws}),
        "google": ("vertex", f"{at['google']}/v1/projects/p/locations/l/endpoints/openapi", {"google": google}),
    }
    common = {"emulated": True, "region": REGION, "deployments": [{"model": "gpt-4o", "name": "publisher/model"}]}
    found = {
        name: {"cloud": name, "provider": provider, "base_url": base_url, "auth": auth, **common}
        for name, (provider, base_url, auth) in parts.items()
    }
    certificate = str(files().certificate)
    found["azure"]["ca_file"] = str(files().authority)
    found["azure"]["emulator"] = {"tls_cert": certificate, "tls_key": certificate}
    return found


async def test_router_and_emulator_understand_each_other_from_one_file(tmp_path: Path) -> None:
    environ = {"ENTRA_SECRET": CLIENT_SECRET, "AWS_SECRET": AWS_KEYS.secret_access_key}
    found = sections()
    placement = {"rule": "spread", "clouds": list(found)}
    file = tmp_path / "router.yaml"
    file.write_bytes(orjson.dumps({"endpoints": found, "workloads": {"internal": {"placement": placement}}}))
    endpoints = load_endpoints(file, environ)
    assert [type(endpoint.known) for endpoint in endpoints] == [EntraApplication, OciKey, AwsKeys, GoogleAccount]
    assert GoogleAccount(ACCOUNT, files().public_key) == endpoints[3].known

    snapshot = load(file, environ)
    async with Emulator(endpoints) as emulator:
        for name, endpoint in snapshot.endpoints.items():
            identity = make_identity(endpoint)
            await identity.refresh()
            assert (await chat(emulator.clouds[name], identity))[0] == 200, name
