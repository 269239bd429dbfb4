"""Certificates, authorities and proxies: of the server's own TLS, and of the way to each endpoint.

Files are read here and nowhere later; what they hold goes on in the snapshot.
"""

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from router.config.document import Document
from router.config.faults import Path
from router.config.hosts import host_fault, is_loopback, is_nowhere
from router.config.schema import EndpointSection, ServerSection, TlsSection
from router.config.snapshot import ServerTls, Snapshot
from router.model.fleet import Certificate, ConnectProxy, Secret, UpstreamTls
from router.placement import written
from router.transport.tls import client_context, server_context

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as Parsed

Network = IPv4Network | IPv6Network

_SOON_SHARE: Final = 0.2  # of its life: one of 90 days is renewed when a third is left, if all is well
_SOON_S: Final = 21 * 86400.0
_TLS: Final[Path] = ("server", "tls")
_NO_CERTIFICATES: Final = "is no file of PEM certificates"


@dataclass(frozen=True, slots=True)
class Front:
    """How connections of clients begin, and whose word on where they come from is taken."""

    tls: ServerTls | None
    proxy_protocol: bool
    trusted_proxies: tuple[Network, ...]


def read_front(doc: Document, section: ServerSection) -> Front:
    """Parts that have a fault are left out."""
    trusted = _read_trusted(doc, section.trusted_proxies)
    if section.proxy_protocol and not section.trusted_proxies:
        doc.fault(("server", "proxy_protocol"), "needs `trusted_proxies`: nobody else may say where a client is")
    tls = _read_server_tls(doc, section.tls) if section.tls is not None else None
    return Front(tls, section.proxy_protocol, trusted)


def _read_trusted(doc: Document, written: list[str]) -> tuple[Network, ...]:
    networks: list[Network] = []
    for index, text in enumerate(written):
        path: Path = ("server", "trusted_proxies", index)
        try:
            networks.append(ip_network(text))
        except ValueError:
            doc.fault(path, f"{doc.shown(path)} is no network: write it as in 10.0.0.0/8, or one address")
    return tuple(networks)


def _read_server_tls(doc: Document, section: TlsSection) -> ServerTls | None:
    authorities = None
    if section.client_ca is not None:
        authorities = _read_authorities(doc, (*_TLS, "client_ca"), section.client_ca)
    elif section.client_certificates is not None:
        doc.fault((*_TLS, "client_certificates"), "needs `client_ca`: whose certificates are to be believed")
    own = _read_certificate(doc, _TLS, "certificate", "key", section.certificate, section.key)
    if own is None or (section.client_ca is not None and authorities is None):
        return None
    required = section.client_certificates == "required"
    try:
        context = server_context(own, authorities, required=required, minimum=section.tls_min)
    except (ssl.SSLError, ValueError) as error:
        doc.fault((*_TLS, "key"), _mismatch(error, "certificate"))
        return None
    return ServerTls(own, context, authorities, required, section.tls_min)


def read_endpoint_tls(doc: Document, path: Path, section: EndpointSection) -> UpstreamTls:
    """Whom the endpoint's certificate may be of, and the one that we show."""
    authorities = None
    if section.ca_file is not None:
        authorities = _read_authorities(doc, (*path, "ca_file"), section.ca_file)
    own = None
    if section.client_certificate is not None and section.client_key is not None:
        if not section.base_url.startswith("https:"):
            doc.fault((*path, "client_certificate"), "needs a base_url that begins with https:")
        names = "client_certificate", "client_key"
        own = _read_certificate(doc, path, *names, section.client_certificate, section.client_key)
        if own is not None:
            own = _checked(doc, path, own)
    elif section.client_certificate is not None or section.client_key is not None:
        first, other = "client_certificate", "client_key"
        if section.client_key is not None:
            first, other = other, first
        doc.fault((*path, first), f"needs `{other}` beside it")
    return UpstreamTls(authorities, own)


def _checked(doc: Document, path: Path, own: Certificate) -> Certificate | None:
    try:
        client_context(UpstreamTls(None, own), system=False)
    except (ssl.SSLError, ValueError) as error:
        doc.fault((*path, "client_key"), _mismatch(error, "client_certificate"))
        return None
    return own


def _read_authorities(doc: Document, path: Path, written: str) -> str | None:
    """The certificates that a file holds, as PEM; None where that is none."""
    text = doc.read_file(path, written)
    if text is None:
        return None
    if not _parsed(text):
        doc.fault(path, _NO_CERTIFICATES)
        return None
    return text


def _read_certificate(
    doc: Document, path: Path, name: str, key_name: str, written: str, key_written: str
) -> Certificate | None:
    """A certificate of our own with its key, which are not held against each other here."""
    chain, key = doc.read_file((*path, name), written), doc.read_file((*path, key_name), key_written)
    if chain is None or key is None:
        return None
    parsed = _parsed(chain)
    if not parsed:
        doc.fault((*path, name), _NO_CERTIFICATES)
        return None
    begins, ends = parsed[0].not_valid_before_utc, parsed[0].not_valid_after_utc
    return Certificate(chain, Secret(key), begins.timestamp(), ends.timestamp())


def own_certificates(snapshot: Snapshot) -> dict[str, Certificate]:
    """All that are ours, by where they stand in the file."""
    found = {
        f"endpoints.{endpoint.id}.client_certificate": endpoint.tls.certificate
        for endpoint in snapshot.endpoints.values()
        if endpoint.tls.certificate is not None
    }
    tls = snapshot.server.tls
    return {"server.tls.certificate": tls.certificate, **found} if tls is not None else found


def certificate_warnings(snapshot: Snapshot, wall: float) -> Iterator[str]:
    """Of those that end soon or have ended. They are no faults: a router that does not start helps nobody."""
    for name, certificate in own_certificates(snapshot).items():
        begin, end = certificate.begins_at, certificate.expires_at
        if wall >= end:
            yield f"{name}: has ended at {written(end)}: nobody will accept it"
        elif end - wall < min(_SOON_S, _SOON_SHARE * (end - begin)):
            yield f"{name}: ends soon, at {written(end)}"
        if wall < begin:
            yield f"{name}: is not valid before {written(begin)}"


def _parsed(text: str) -> "list[Parsed]":
    """Empty where it holds no certificates, or something that is none."""
    from cryptography import x509  # 30 ms, for those who have certificates

    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        return []


def _mismatch(error: Exception, certificate: str) -> str:
    """Why OpenSSL does not take a key, in our words: its own may hold a path."""
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return f"is not the key of `{certificate}`, whose file must begin with the certificate itself"
    if isinstance(error, ssl.SSLError) and error.reason is not None and "SMALL" in error.reason:
        return "is too small a key to be safe"
    return "is no key in PEM without a password"


def read_subject(text: str) -> str | None:
    """A certificate's subject as RFC 4514 writes it, in the one way that it is compared by; None where it is none."""
    from cryptography import x509

    try:
        name = x509.Name.from_rfc4514_string(text)
    except ValueError:
        return None
    return name.rfc4514_string() if list(name) else None


def read_proxy(doc: Document, path: Path, section: EndpointSection) -> ConnectProxy | None:
    """The proxy that leads to an endpoint. No message quotes the URL, which may hold a password."""
    if section.proxy is None:
        return None
    fault = "is no URL of a proxy: write http://HOST:PORT, or https:// for TLS with the proxy itself"
    try:
        url = urlsplit(section.proxy)
        host, port = (url.hostname or "").lower(), url.port
    except ValueError:
        doc.fault(path, fault)
        return None
    if url.scheme not in {"http", "https"} or not host or url.path not in {"", "/"} or url.query or url.fragment:
        doc.fault(path, fault)
        return None
    if port is None or port == 0:
        doc.fault(path, "names no port: a proxy has no usual one")
        return None
    if (reason := host_fault(host)) or is_nowhere(host):
        doc.fault(path, f"has a host that {reason or 'cannot be dialled'}")
        return None
    if section.emulated and not is_loopback(host):
        # A CONNECT to loopback would be to the proxy's machine: it could stand for any cloud.
        doc.fault(path, "is not on this machine, as all must be that leads to an emulated endpoint")
    user, password = unquote(url.username or ""), unquote(url.password or "")
    credential = f"{user}:{password}"
    if not credential.isascii() or not credential.isprintable() or ":" in user:
        doc.fault(path, "has a user or a password with a character that Basic credentials cannot have")
        return None
    known = Secret(credential) if "@" in url.netloc else None
    return ConnectProxy(url.scheme == "https", host, port, known)
