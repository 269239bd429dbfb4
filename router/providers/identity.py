"""How an endpoint is told who we are: with the same lines each time, with a token, or by signing each request.

Tokens and keys are fetched by `refresh`, off the hot path (`jobs/tokens.py`); a send reads `tail`, or calls `sign` in a
worker thread. The clouds' own packages do the work. They are extras, imported only for the endpoints that use them.
"""

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol, TypeAlias

from router.base.clock import Clock, SystemClock
from router.model.fleet import AuthKind, Endpoint
from router.providers.credentials import Body, IdentityError, Lines, StaticIdentity, missing_extra
from router.providers.entra import entra_identity
from router.providers.google import google_identity
from router.providers.oci_signing import oci_identity
from router.providers.sigv4 import sigv4_identity

__all__ = ["Identity", "IdentityError", "make_identity", "missing_extra"]


class Identity(Protocol):
    """How an endpoint is told who we are; one an endpoint, shared by its deployments."""

    tail: bytes | None
    """Ready header lines, each with its CRLF; none for an open endpoint. None: no valid credential, or it signs."""

    @property
    def signs(self) -> bool:
        """`sign` must be called for each request."""
        ...

    def sign(self, method: bytes, host: bytes, target: bytes, headers: Lines, body: Body, /) -> bytes:
        """Returns the header lines that identify us, each with its CRLF. It blocks: never call it on the event loop.

        `host`: the value of `Host`; `target`: path and query; `headers`: the request's, names in lower case, of which
        `content-type` is needed; `body`: its pieces. Raises IdentityError.
        """
        ...

    def refresh_in_s(self, now_wall: float, /) -> float | None:
        """Seconds until `refresh` is due, 0 or less when it is; None: never. `now_wall`: seconds since the epoch."""
        ...

    def lapse(self, now_wall: float) -> None:
        """Lets go of a token that has expired."""
        ...

    async def refresh(self) -> None:
        """Fetches what identifies us. Where that fails, what there was stays. Raises IdentityError."""
        ...

    async def close(self) -> None:
        """Gives back what is held open."""
        ...


_Maker: TypeAlias = Callable[[Endpoint, Clock, random.Random], Identity]


def _static(endpoint: Endpoint, _clock: Clock, _rng: random.Random) -> Identity:
    return StaticIdentity(endpoint.credential)


_MAKERS: Final[Mapping[AuthKind, _Maker]] = MappingProxyType(
    {
        AuthKind.NONE: _static,
        AuthKind.API_KEY: _static,
        AuthKind.BEARER: _static,
        AuthKind.ENTRA: entra_identity,
        AuthKind.GOOGLE: google_identity,
        AuthKind.SIGV4: sigv4_identity,
        AuthKind.OCI: oci_identity,
    }
)


def make_identity(endpoint: Endpoint, clock: Clock | None = None, rng: random.Random | None = None) -> Identity:
    """Makes an endpoint's identity. It opens and reads nothing: a token or a key comes with the first `refresh`."""
    return _MAKERS[endpoint.credential.kind](endpoint, clock or SystemClock(), rng or random.Random())
