"""TLS in both directions. Certificates and names are always verified; there is no switch that would turn it off.

What a context is made of is PEM text, never a path: a reload has read and checked exactly what comes into force, and
whoever is started later does not meet a file that is being replaced.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from time import monotonic
from typing import Any, Final

from router.model.fleet import Certificate, UpstreamTls

ALPN: Final = ["http/1.1"]
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----")
MINIMUM: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


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


def client_context(tls: UpstreamTls, *, system: bool = True) -> ResumingContext:
    """Trusts the system's authorities, and those of `tls`. TLS 1.2 and up, ALPN http/1.1.

    `system`: False leaves the former out, which takes 20 ms less. Raises ssl.SSLError or ValueError where `tls` holds
    something else than certificates and their key.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)  # which verifies certificates, and names
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    if system:
        context.load_default_certs()
    if tls.authorities is not None:
        context.load_verify_locations(cadata=tls.authorities)
    if tls.certificate is not None:
        _load_own(context, tls.certificate)
    return context


def server_context(
    certificate: Certificate, authorities: str | None, *, required: bool, minimum: str
) -> ssl.SSLContext:
    """For clients. `authorities`: PEM, of whom clients' certificates may be; None: they are not asked for one.

    Raises ssl.SSLError or ValueError where something does not fit.
    """
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MINIMUM[minimum]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(ALPN)
    context.sslobject_class = Welcome
    _load_own(context, certificate)
    if authorities is not None:
        context.load_verify_locations(cadata=authorities)
        context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    return context


class _ServerContext(ssl.SSLContext):
    """Its connections know where they write to."""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        welcome = super().wrap_bio(incoming, outgoing, *args, **kwargs)
        assert isinstance(welcome, Welcome)
        welcome.outgoing = outgoing
        return welcome


_client: Final[ContextVar[socket.socket | None]] = ContextVar("client", default=None)


@contextlib.contextmanager
def farewell_to(client: socket.socket) -> Iterator[None]:
    """Handshakes that begin within have this client, who is to hear why they fail."""
    token = _client.set(client)
    try:
        yield
    finally:
        _client.reset(token)


class Welcome(ssl.SSLObject):
    """TLS with a client.

    uvloop waits for the other end's close_notify before it closes a connection: 30 seconds, with a client that sends
    none. To send ours is all that RFC 8446 §6.1 asks for.
    """

    patient = False  # True: the other end's is waited for, since what it still sends must not destroy our last answer
    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError:
            # OpenSSL has written an alert, which uvloop would throw away with the connection.
            client, alert = _client.get(), self.outgoing.read()
            if client is not None and alert:
                with contextlib.suppress(OSError):
                    client.send(alert)
            raise

    def unwrap(self) -> Any:
        try:
            return super().unwrap()
        except ssl.SSLWantReadError:  # ours is written
            if self.patient:
                raise
            return None


def linger(transport: asyncio.Transport) -> None:
    """Lets its close wait for the client's own, and take in what comes until then; nothing where it has no TLS."""
    welcome = transport.get_extra_info("ssl_object")
    if welcome is not None:
        welcome.patient = True


def names_of(tls: ssl.SSLObject | None) -> tuple[str, ...]:
    """What a key may name a client's certificate by, which has been verified: its SHA-256, and its subject.

    The former alone where OpenSSL can read the subject and we cannot.
    """
    encoded = tls.getpeercert(binary_form=True) if tls is not None else None
    if not encoded:
        return ()
    from cryptography import x509  # where clients have certificates, the configuration's check has it loaded

    digest = f"sha256:{hashlib.sha256(encoded).hexdigest()}"
    try:
        return digest, x509.load_der_x509_certificate(encoded).subject.rfc4514_string()
    except (ValueError, x509.InvalidVersion):
        return (digest,)


def believes_all(authorities: str | None, before: str | None) -> bool:
    """Whether all authorities of `before` are among `authorities`. Both: PEM, or None for nobody."""
    return before == authorities or set(_PEM.findall(before or "")) <= set(_PEM.findall(authorities or ""))


_REASONS: Final = (
    # What OpenSSL's reason holds, and what we call it. The first that fits.
    ("HTTP_REQUEST", "no_tls"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "no_certificate"),
    ("CERTIFICATE_VERIFY_FAILED", "certificate"),
    ("ALERT", "refused"),
    ("UNSUPPORTED_PROTOCOL", "version"),
    ("VERSION", "version"),
    ("CIPHER", "cipher"),
    ("SIGNATURE_ALGORITHM", "cipher"),
    ("GROUP", "cipher"),
)


def reason_of(error: ssl.SSLError) -> str:
    """Why a handshake with a client failed, in the words of `arrivals.HANDSHAKES`."""
    said = error.reason or ""
    return next((ours for theirs, ours in _REASONS if theirs in said), "protocol")


def _load_own(context: ssl.SSLContext, certificate: Certificate) -> None:
    def no_password() -> str:
        raise ValueError("the key is encrypted")  # OpenSSL would ask for its password on the terminal

    with _as_file(certificate.chain + "\n" + certificate.key.reveal()) as path:
        context.load_cert_chain(path, password=no_password)


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A file in memory, where there is such a thing: OpenSSL's Python binding takes a key from a path alone."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            os.write(fd, text.encode())
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
        return
    fd, path = tempfile.mkstemp()  # for its owner alone
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
        yield path
    finally:
        Path(path).unlink()
