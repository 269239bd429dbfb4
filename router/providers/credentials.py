"""The header that identifies us to an endpoint."""

from router.model.fleet import AuthKind, Credential


def credential_header(credential: Credential) -> tuple[bytes, bytes] | None:
    """Returns name and value; None for an endpoint that asks for nothing."""
    if credential.kind is AuthKind.NONE or credential.secret is None:
        return None
    value = credential.secret.reveal().encode("latin-1")
    if credential.kind is AuthKind.API_KEY:
        return b"api-key", value
    return b"authorization", b"Bearer " + value
