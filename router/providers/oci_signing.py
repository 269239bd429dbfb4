"""Oracle's request signatures (HTTP Signatures, RSA), through the `oci` package."""

import base64
import hashlib
import random
from functools import partial
from typing import Any, Final

from router.base.clock import Clock
from router.model.fleet import AuthKind, Endpoint, OciPrincipal, OciSource
from router.providers.credentials import (
    Body,
    IdentityError,
    Lines,
    Signer,
    SigningIdentity,
    cloud_module,
    described,
    header_lines,
)

# The token of an instance or resource lives for less than an hour; a new signer has a new one.
RENEW_S: Final = 900.0
_RESULT: Final = ("date", "x-content-sha256", "authorization")


def oci_identity(endpoint: Endpoint, clock: Clock, _rng: random.Random) -> SigningIdentity:
    source = endpoint.credential.source
    assert isinstance(source, OciSource)
    renewed = source.principal in (OciPrincipal.INSTANCE, OciPrincipal.RESOURCE)
    return SigningIdentity(partial(_signer, source), RENEW_S if renewed else None, clock)


def _signer(source: OciSource) -> Signer:
    secret = source.passphrase.reveal() if source.passphrase is not None else None
    errors = cloud_module(AuthKind.OCI, "oci.exceptions")
    # The service's own errors and those of the vendored HTTP client do not share a base.
    vendored = cloud_module(AuthKind.OCI, "oci._vendor.requests.exceptions")
    try:
        signer = _vendor_signer(source, secret)
    except (
        errors.ClientError,
        errors.ServiceError,
        vendored.RequestException,
        ValueError,
        TypeError,
        OSError,
        RuntimeError,
    ) as error:
        raise IdentityError(f"Oracle's signing key cannot be used: {described(error, secret)}") from error
    more = {"opc-compartment-id": source.compartment} if source.compartment is not None else {}
    return partial(_sign, signer, more)


def _vendor_signer(source: OciSource, passphrase: str | None) -> Any:
    match source.principal:
        case OciPrincipal.KEY:
            return cloud_module(AuthKind.OCI, "oci.signer").Signer(
                source.tenancy, source.user, source.fingerprint, source.key_file, passphrase
            )
        case OciPrincipal.CONFIG:
            config = cloud_module(AuthKind.OCI, "oci.config").from_file(source.config_file, source.profile)
            return cloud_module(AuthKind.OCI, "oci.signer").Signer.from_config(config)
        case OciPrincipal.INSTANCE:
            # It would try for a minute and a half by itself: the keeper of the tokens comes again.
            once = cloud_module(AuthKind.OCI, "oci.retry").NoneRetryStrategy()
            return cloud_module(AuthKind.OCI, "oci.auth.signers").InstancePrincipalsSecurityTokenSigner(
                retry_strategy=once, federation_client_retry_strategy=once
            )
        case OciPrincipal.RESOURCE:
            return cloud_module(AuthKind.OCI, "oci.auth.signers").get_resource_principals_signer()


class _Request:
    """As much of a `requests` request as the signer reads."""

    __slots__ = ("body", "headers", "method", "path_url", "url")

    def __init__(self, method: str, host: str, target: str, headers: dict[str, str]) -> None:
        self.method, self.url, self.path_url, self.headers = method, f"https://{host}{target}", target, headers
        self.body = None  # its digest is in the headers


def _sign(
    signer: Any, more: dict[str, str], method: bytes, host: bytes, target: bytes, headers: Lines, body: Body
) -> bytes:
    digest, length = hashlib.sha256(), 0
    for piece in body:
        digest.update(piece)
        length += len(piece)
    given = dict(headers)
    request = _Request(
        method.decode("ascii"),
        host.decode("latin-1"),
        target.decode("latin-1"),
        {
            "host": host.decode("latin-1"),
            "content-type": given.get(b"content-type", b"application/json").decode("latin-1"),
            "content-length": str(length),
            "x-content-sha256": base64.b64encode(digest.digest()).decode("ascii"),
        },
    )
    # Not by calling the signer: that may fetch a token, and swaps keys while other threads sign.
    signer.do_request_sign(request)
    return header_lines({**{name: request.headers[name] for name in _RESULT}, **more})
