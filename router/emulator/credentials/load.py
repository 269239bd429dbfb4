"""From the `auth` of an emulated endpoint to what its cloud knows of the caller: the other half of each credential."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from router.base.references import resolve_reference
from router.emulator.credentials.known import AwsKeys, EntraApplication, GoogleAccount, Known, OciKey
from router.emulator.credentials.rsa import public_key_of
from router.emulator.shapes import EmulatorConfigError

Read = Callable[[str], str | None]  # the text of a key, its reference resolved


def read_known(auth: object, region: str, environ: Mapping[str, str], base: Path) -> Known | None:
    """None for keys that are sent as they are, and where the file alone does not tell who signs.

    Raises EmulatorConfigError and ReferenceMissingError.
    """
    if not isinstance(auth, Mapping):
        return None
    for kind, read_kind in _KINDS.items():
        part = auth.get(kind)
        if isinstance(part, Mapping):

            def text(key: str, part: Mapping[str, Any] = part) -> str | None:
                raw = part.get(key)
                return resolve_reference(raw, environ, base) if isinstance(raw, str) else None

            return read_kind(text, region, base)
    return None


def _entra(text: Read, _region: str, base: Path) -> Known:
    token_file = text("token_file")
    assertion = _content(base, token_file).decode().strip() if token_file is not None else None
    return EntraApplication(text("tenant_id"), text("client_id"), text("client_secret"), assertion)


def _google(text: Read, _region: str, base: Path) -> Known:
    file = text("service_account_file")
    if file is None:
        return GoogleAccount()
    try:
        account = orjson.loads(_content(base, file))
        return GoogleAccount(account["client_email"], public_key_of(account["private_key"].encode(), None))
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise EmulatorConfigError(f"{file} is no key file of a service account") from error


def _sigv4(text: Read, region: str, _base: Path) -> Known | None:
    key, secret = text("access_key_id"), text("secret_access_key")
    if key is None or secret is None:
        return None
    return AwsKeys(key, secret, region, text("service") or "bedrock", text("session_token"))


def _oci(text: Read, _region: str, base: Path) -> Known | None:
    file, parts = text("key_file"), (text("tenancy"), text("user"), text("fingerprint"))
    if file is None or None in parts:
        return None
    public_key = public_key_of(_content(base, file), text("passphrase"))
    return OciKey("/".join(filter(None, parts)), public_key, text("compartment"))


_KINDS: Final = {"entra": _entra, "google": _google, "sigv4": _sigv4, "oci": _oci}


def _content(base: Path, file: str) -> bytes:
    try:
        return (base / Path(file).expanduser()).read_bytes()
    except OSError as error:
        raise EmulatorConfigError(f"{file} cannot be read: {error.strerror}") from error
