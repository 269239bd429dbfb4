"""TLS towards upstreams, with sessions that are taken up again. Certificates and names are always verified."""

import ssl
from time import monotonic
from typing import Any


class Handshake(ssl.SSLObject):
    """TLS on a connection, which knows when it began: uvloop makes it once TCP stands."""

    began_at = 0.0  # monotonic seconds


class ResumingContext(ssl.SSLContext):
    """uvloop hands no session to OpenSSL, so the context itself adds the one it saved last.

    One context an endpoint: a session is good only where it was made.
    """

    sslobject_class = Handshake
    _session: ssl.SSLSession | None = None

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        kwargs["session"] = self._session
        handshake = super().wrap_bio(*args, **kwargs)
        assert isinstance(handshake, Handshake)
        handshake.began_at = monotonic()
        return handshake

    def keep_session_of(self, tls: ssl.SSLObject) -> None:
        """Saves a session for the next handshake. Called after an answer: TLS 1.3 brings tickets late."""
        session = tls.session
        if session is not None and (session.has_ticket or tls.version() != "TLSv1.3"):
            self._session = session


def client_context(ca_file: str | None) -> ResumingContext:
    """Trusts the system's authorities, and those of `ca_file`. TLS 1.2 and up, ALPN http/1.1.

    Raises OSError or ssl.SSLError where `ca_file` cannot be read.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_default_certs()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
