"""RSA signatures. The package that does the arithmetic is imported only where one is verified."""

import binascii

from router.emulator.shapes import EmulatorConfigError


def is_signed(data: bytes, signature: bytes, public_key: bytes) -> bool:
    """Whether this is a PKCS #1 v1.5 signature of the data's SHA-256. `public_key`: PEM.

    Raises EmulatorConfigError where the key is none, or the package is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise EmulatorConfigError("signatures are verified with the package cryptography, which is missing") from error
    try:
        key = load_pem_public_key(public_key)
    except ValueError as error:
        raise EmulatorConfigError("a public key is not PEM") from error
    if not isinstance(key, RSAPublicKey):
        raise EmulatorConfigError("a public key is not RSA")
    try:
        key.verify(signature, data, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def public_key_of(private_key: bytes, passphrase: str | None) -> bytes:
    """The public half of a private key, both PEM. Raises EmulatorConfigError."""
    try:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
    except ImportError as error:
        raise EmulatorConfigError("keys are read with the package cryptography, which is missing") from error
    try:
        key = load_pem_private_key(private_key, passphrase.encode() if passphrase is not None else None)
    except (ValueError, TypeError, binascii.Error) as error:
        raise EmulatorConfigError("a private key cannot be read, or its passphrase is wrong") from error
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
