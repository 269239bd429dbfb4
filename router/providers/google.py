"""Access tokens of Google Cloud, through google-auth."""

import asyncio
import random
from datetime import UTC
from typing import Any, Final

from router.base.clock import Clock
from router.model.fleet import AuthKind, Endpoint, GoogleSource
from router.providers.credentials import IdentityError, Token, TokenIdentity, cloud_module, described, header_lines

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT_S: Final = 10


def google_identity(endpoint: Endpoint, clock: Clock, rng: random.Random) -> TokenIdentity:
    source = endpoint.credential.source
    assert isinstance(source, GoogleSource)

    async def fetch() -> Token:
        return await asyncio.to_thread(_fetch, source, endpoint.ca_file)

    more = header_lines({"x-goog-user-project": source.quota_project}) if source.quota_project is not None else b""
    return TokenIdentity(fetch, clock, rng, more)


def _fetch(source: GoogleSource, ca_file: str | None) -> Token:
    """Blocks. The files are read anew each time, so that a key that was rotated is found."""
    errors = cloud_module(AuthKind.GOOGLE, "google.auth.exceptions")
    try:
        request = _request(ca_file)
        credentials = _credentials(source, request)
        credentials.refresh(request)
    except (errors.GoogleAuthError, ValueError, OSError) as error:
        raise IdentityError(f"Google gave no token: {described(error)}") from error
    if credentials.token is None or credentials.expiry is None:
        raise IdentityError("Google gave no token with an end")
    return Token(credentials.token, credentials.expiry.replace(tzinfo=UTC).timestamp())  # theirs is naive, and UTC


def _credentials(source: GoogleSource, request: Any) -> Any:
    if source.service_account_file is not None:
        account = cloud_module(AuthKind.GOOGLE, "google.oauth2.service_account")
        return account.Credentials.from_service_account_file(source.service_account_file, scopes=[SCOPE])
    if source.workload_identity_file is not None:
        pool = cloud_module(AuthKind.GOOGLE, "google.auth.identity_pool")
        return pool.Credentials.from_file(source.workload_identity_file, scopes=[SCOPE])
    credentials, _project = cloud_module(AuthKind.GOOGLE, "google.auth").default(scopes=[SCOPE], request=request)
    return credentials


def _request(ca_file: str | None) -> Any:
    """What google-auth sends by: no proxy that the environment names, no redirect, and a deadline on each exchange."""
    session = cloud_module(AuthKind.GOOGLE, "requests").Session()
    session.trust_env = False
    if ca_file is not None:
        session.verify = ca_file
    send = cloud_module(AuthKind.GOOGLE, "google.auth.transport.requests").Request(session)

    def request(url: str, method: str = "GET", body: Any = None, headers: Any = None, **more: Any) -> Any:
        return send(url, method, body, headers, **{**more, "timeout": _TIMEOUT_S, "allow_redirects": False})

    return request
