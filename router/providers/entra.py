"""Tokens of Microsoft Entra ID, through azure-identity."""

import random
import ssl
from typing import Any, Final

from router.base.clock import Clock
from router.model.fleet import AuthKind, Endpoint, EntraSource
from router.providers.credentials import IdentityError, Token, TokenIdentity, cloud_module, described

# What Microsoft's pages name for the v1 shape, and what its older specifications name for the classic one.
SCOPE_V1: Final = "https://ai.azure.com/.default"
SCOPE_CLASSIC: Final = "https://cognitiveservices.azure.com/.default"
_TIMEOUT_S: Final = 10
_RETRIES: Final = 1  # the keeper of the tokens comes again


def entra_identity(endpoint: Endpoint, clock: Clock, rng: random.Random) -> TokenIdentity:
    source = endpoint.credential.source
    assert isinstance(source, EntraSource)

    async def fetch() -> Token:
        return await _fetch(source, endpoint.ca_file)

    return TokenIdentity(fetch, clock, rng)


async def _fetch(source: EntraSource, ca_file: str | None) -> Token:
    """Asks anew each time: the credential's own cache gives the old token back until five minutes before its end."""
    errors = cloud_module(AuthKind.ENTRA, "azure.core.exceptions")
    secret = source.client_secret.reveal() if source.client_secret is not None else None
    try:
        async with _credential(source, ca_file) as credential:
            token = await credential.get_token(source.scope)
    except (errors.AzureError, ValueError, OSError) as error:
        raise IdentityError(f"Entra ID gave no token: {described(error, secret)}") from error
    return Token(token.token, float(token.expires_on))


def _credential(source: EntraSource, ca_file: str | None) -> Any:
    identity = cloud_module(AuthKind.ENTRA, "azure.identity.aio")
    options: dict[str, Any] = {"retry_total": _RETRIES, "transport": _transport(ca_file)}
    if source.client_secret is None and source.token_file is None:
        return identity.ManagedIdentityCredential(client_id=source.client_id, **options)
    if source.authority is not None:
        options["authority"] = source.authority
    if source.client_secret is not None:
        secret = source.client_secret.reveal()
        return identity.ClientSecretCredential(source.tenant_id, source.client_id, secret, **options)
    return identity.WorkloadIdentityCredential(
        tenant_id=source.tenant_id, client_id=source.client_id, token_file_path=source.token_file, **options
    )


def _transport(ca_file: str | None) -> Any:
    """Trusts the endpoint's private authority beside the system's, and asks no proxy that the environment names."""
    transport = cloud_module(AuthKind.ENTRA, "azure.core.pipeline.transport")
    aiohttp = cloud_module(AuthKind.ENTRA, "aiohttp")
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context),
        timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        auto_decompress=False,
        trust_env=False,
    )
    return transport.AioHttpTransport(session=session, session_owner=True, use_env_settings=False)
