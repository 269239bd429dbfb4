"""The clouds' and OpenAI's own clients against the emulated clouds: who gets through here gets through there."""

import asyncio
import ssl
import time
from email.utils import formatdate
from typing import Any

import oci.signer
import openai
import pytest
import requests
from azure.identity.aio import ClientSecretCredential, get_bearer_token_provider
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account as google_service_account
from openai import AsyncAzureOpenAI, AsyncOpenAI
from openai.providers import bedrock as bedrock_provider

from router.emulator import EmulatedCloud
from router.providers.entra import SCOPE_CLASSIC
from router.providers.google import SCOPE
from tests.conformance.providers.kit import (
    AWS_KEYS,
    CLIENT,
    CLIENT_SECRET,
    MESSAGES,
    OCI_PARTS,
    REGION,
    TENANT,
    aws_keys,
    entra_application,
    files,
    google_account,
    oci_key,
    service_account,
)
from tests.conformance.providers.test_identities import CHAT, PATHS, cloud

NAME = "publisher/model"


async def text_of(client: AsyncOpenAI) -> str:
    """A chat, and the same as a stream."""
    answer = await client.chat.completions.create(model=NAME, messages=MESSAGES)
    stream = await client.chat.completions.create(model=NAME, messages=MESSAGES, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert text == answer.choices[0].message.content
    return text


async def test_azure_by_azure_identity() -> None:
    async with cloud("azure_openai", entra_application(), tls=True) as azure:
        trust = {"connection_verify": str(files().authority)}
        options: Any = {"authority": azure.base_url, **trust}
        async with (
            ClientSecretCredential(TENANT, CLIENT, CLIENT_SECRET, **options) as credential,
            openai.DefaultAsyncHttpxClient(verify=ssl.create_default_context(cafile=files().authority)) as transport,
        ):
            client = AsyncAzureOpenAI(
                azure_endpoint=azure.base_url,
                api_version="2025-04-01-preview",
                azure_ad_token_provider=get_bearer_token_provider(credential, SCOPE_CLASSIC),
                http_client=transport,
                max_retries=0,
            )
            assert (await text_of(client)).startswith(NAME)


def bedrock_client(bedrock: EmulatedCloud, secret: str) -> AsyncOpenAI:
    provider = bedrock_provider(
        endpoint="runtime",
        region=REGION,
        base_url=bedrock.base_url,
        access_key_id=AWS_KEYS.access_key_id,
        secret_access_key=secret,
    )
    return AsyncOpenAI(provider=provider, max_retries=0)


async def test_bedrock_by_openais_own_provider() -> None:
    async with cloud("bedrock", aws_keys()) as bedrock:
        async with bedrock_client(bedrock, AWS_KEYS.secret_access_key) as client:
            assert (await text_of(client)).startswith(NAME)
        async with bedrock_client(bedrock, "wrong") as client:
            with pytest.raises(openai.PermissionDeniedError, match="signature we calculated"):
                await text_of(client)


async def test_oracle_by_its_own_signer() -> None:
    signer = oci.signer.Signer(
        OCI_PARTS["tenancy"], OCI_PARTS["user"], OCI_PARTS["fingerprint"], str(files().private_key)
    )

    def post(url: str, **headers: str) -> requests.Response:
        sent = {"opc-compartment-id": "ocid1.compartment.oc1..c", **headers}
        return requests.post(url, json={"model": NAME, **CHAT}, auth=signer, headers=sent, timeout=5)

    async with cloud("oci", oci_key()) as oracle:
        url = f"http://127.0.0.1:{oracle.port}{PATHS['oci']}"
        answer = await asyncio.to_thread(post, url)
        assert answer.json()["choices"][0]["message"]["content"].startswith(NAME)
        late = await asyncio.to_thread(post, url, date=formatdate(time.time() - 400, usegmt=True))
        assert late.status_code == 401


async def test_vertex_by_google_auth() -> None:
    async with cloud("vertex", google_account()) as vertex:
        account = service_account(f"http://127.0.0.1:{vertex.port}/token", "vendor.json")
        credentials = google_service_account.Credentials.from_service_account_file(account, scopes=[SCOPE])
        with AuthorizedSession(credentials) as session:
            url = f"http://127.0.0.1:{vertex.port}{PATHS['vertex']}"
            answer = await asyncio.to_thread(session.post, url, json={"model": NAME, **CHAT})
        assert answer.json()["choices"][0]["message"]["content"].startswith(NAME)
