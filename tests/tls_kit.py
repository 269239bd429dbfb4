"""Certificates for tests, each with its own authority, and clients that show one."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from cryptography import x509


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, as files."""

    certificate: Path
    key: Path

    @property
    def subject(self) -> str:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).subject.rfc4514_string()

    @property
    def fingerprint(self) -> str:
        from cryptography.hazmat.primitives import hashes

        found = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return f"sha256:{found.fingerprint(hashes.SHA256()).hex()}"


class Authority:
    """Issues certificates into a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._folder, self._made = folder, trustme.CA()
        self.file = folder / f"{name}.pem"
        self._made.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *hosts: str, **more: Any) -> Issued:
        """`hosts`: this machine's, where none is named."""
        made = self._made.issue_cert(*(hosts or ("localhost", "127.0.0.1")), **more)
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        issued.certificate.write_bytes(b"".join(each.bytes() for each in made.cert_chain_pems))
        issued.key.write_bytes(made.private_key_pem.bytes())
        return issued

    def trusting(self, shown: Issued | None = None) -> ssl.SSLContext:
        """A client's context."""
        context = ssl.create_default_context(cafile=str(self.file))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(port: int, context: ssl.SSLContext | None = None, preamble: bytes = b"") -> AsyncIterator[Streams]:
    """To a router on this machine; `preamble`: goes before TLS."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(preamble)
        if context is not None:
            await writer.start_tls(context, server_hostname="localhost", ssl_handshake_timeout=10)
        yield reader, writer
    finally:
        writer.transport.abort()


def request(body: bytes, *fields: str, path: str = "/v1/chat/completions") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """Status, head and body of an answer that has a length or chunks."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    lower = head.lower()
    body = b""
    if b"transfer-encoding: chunked" in lower:
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    else:
        body = await reader.readexactly(int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]))
    return int(head[9:12]), head, body
