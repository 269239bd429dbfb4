"""What a fake cloud knows of those who may use it. What is None is not compared."""

from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """An AWS access key, and where its signatures count."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str = "us-east-1"
    service: str = "bedrock"
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class OciKey:
    """An Oracle user's API key. `key_id`: tenancy/user/fingerprint; `public_key`: PEM."""

    key_id: str
    public_key: bytes = field(repr=False)
    compartment: str | None = None


@dataclass(frozen=True, slots=True)
class EntraApplication:
    """An application of Entra ID: by its secret, by a federated assertion, or as the machine's managed identity."""

    tenant: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    assertion: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class GoogleAccount:
    """A service account by its key (PEM), or a federated identity by the token that stands for it."""

    email: str | None = None
    public_key: bytes | None = field(default=None, repr=False)
    subject_token: str | None = field(default=None, repr=False)


Known: TypeAlias = AwsKeys | OciKey | EntraApplication | GoogleAccount
