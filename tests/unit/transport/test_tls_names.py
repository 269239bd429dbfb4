"""What a client's certificate is called: by what nobody else can have."""

import hashlib
import ssl
from typing import cast

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from router.transport.tls import names_of


class Shown:
    """Of a connection, the certificate that its client has shown."""

    def __init__(self, encoded: bytes | None) -> None:
        self._encoded = encoded

    def getpeercert(self, *, binary_form: bool) -> bytes | None:
        assert binary_form
        return self._encoded


def named(encoded: bytes | None) -> tuple[str, ...]:
    return names_of(cast(ssl.SSLObject, Shown(encoded)))


@pytest.fixture(scope="module")
def encoded() -> bytes:
    issued = trustme.CA().issue_cert("client.example", common_name="a,b+c=d")
    return x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)


def test_by_its_digest_and_its_whole_subject_whose_marks_are_escaped(encoded: bytes) -> None:
    digest, subject = named(encoded)
    assert digest == f"sha256:{hashlib.sha256(encoded).hexdigest()}"
    assert subject.startswith("CN=a\\,b\\+c=d,OU=")
    assert named(None) == named(b"") == ()


def test_one_whose_subject_nobody_can_read_is_known_by_its_digest_alone(encoded: bytes) -> None:
    """OpenSSL has verified it, and reads more than we do: its client must not be left waiting."""
    broken = encoded.replace(b"a,b+c=d", b"a\xff\xfe\xfd=d!")
    assert named(broken) == (f"sha256:{hashlib.sha256(broken).hexdigest()}",)


def test_a_zero_in_a_subject_ends_nothing(encoded: bytes) -> None:
    assert named(encoded.replace(b"a,b+c=d", b"a\x00b+c=d"))[1].startswith("CN=a\\00b\\+c=d,OU=")
