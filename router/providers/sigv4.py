"""AWS Signature Version 4 on each request, through botocore."""

import hashlib
import random
from functools import partial
from typing import Any, Final

from router.base.clock import Clock
from router.model.fleet import AuthKind, AwsSource, Endpoint
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

# botocore renews temporary keys itself, from a quarter of an hour before their end on: it only has to be asked.
RENEW_S: Final = 240.0
_SIGNED: Final = frozenset({b"content-type"})


def sigv4_identity(endpoint: Endpoint, clock: Clock, _rng: random.Random) -> SigningIdentity:
    source = endpoint.credential.source
    assert isinstance(source, AwsSource)
    if source.access_key_id is not None:
        return SigningIdentity(partial(_signer_of_keys, source), None, clock)
    held: list[Any] = []  # the chain's credentials, found once: they know how to renew themselves
    return SigningIdentity(partial(_signer_of_chain, source, held), RENEW_S, clock)


def _signer_of_keys(source: AwsSource) -> Signer:
    assert source.secret_access_key is not None
    token = source.session_token.reveal() if source.session_token is not None else None
    keys = cloud_module(AuthKind.SIGV4, "botocore.credentials").Credentials(
        source.access_key_id, source.secret_access_key.reveal(), token
    )
    return partial(_sign, _auth(keys.get_frozen_credentials(), source))


def _signer_of_chain(source: AwsSource, held: list[Any]) -> Signer:
    errors = cloud_module(AuthKind.SIGV4, "botocore.exceptions")
    try:
        if not held:
            session = cloud_module(AuthKind.SIGV4, "botocore.session").Session(profile=source.profile)
            found = session.get_credentials()
            if found is None:
                raise IdentityError("AWS keys are nowhere in the default chain")
            held.append(found)
        return partial(_sign, _auth(held[0].get_frozen_credentials(), source))
    except (errors.BotoCoreError, errors.ClientError, ValueError, OSError) as error:
        raise IdentityError(f"AWS gave no keys: {described(error)}") from error


def _auth(keys: Any, source: AwsSource) -> Any:
    return cloud_module(AuthKind.SIGV4, "botocore.auth").SigV4Auth(keys, source.service, source.region)


def _sign(auth: Any, method: bytes, host: bytes, target: bytes, headers: Lines, body: Body) -> bytes:
    """Only what makes the request what it is gets signed: a header that is changed on the way costs no signature."""
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
    given = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in _SIGNED}
    # With the digest at hand botocore does not ask for the body, which stays in its pieces.
    request = cloud_module(AuthKind.SIGV4, "botocore.awsrequest").AWSRequest(
        method=method.decode("ascii"),
        url=f"https://{host.decode('latin-1')}{target.decode('latin-1')}",
        headers={**given, "host": host.decode("latin-1"), "x-amz-content-sha256": digest.hexdigest()},
    )
    auth.add_auth(request)
    return header_lines(
        {name.lower(): value for name, value in request.headers.items() if name.lower() not in (*given, "host")}
    )
