"""Where a request can go: endpoints, and the deployments on them."""

import enum
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class Secret:
    """A value that must never be shown: its text is reached by `reveal()` alone."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The deadlines of an attempt and of a request, in the unit of each name."""

    connect_s: float = 5.0  # with TLS
    commit_stream_s: float = 120.0  # from the send to the commit point of a stream
    commit_json_s: float = 600.0  # from the send to the head of any other answer
    idle_s: float = 120.0  # between events after the commit point; comments are no progress
    total_s: float = 3600.0  # the request, all attempts included
    commit_after_ms: float = 5000.0  # a stream whose head is here commits after this long even without content
    comment_every_s: float = 15.0  # a silent stream gets an SSE comment this often


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """An endpoint's base URL, taken apart once. `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def tls(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The value of `Host`: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class AuthKind(enum.Enum):
    """How an endpoint is told who we are. The values are the keys of an `auth` section."""

    API_KEY = "api_key"  # the header `api-key`
    BEARER = "bearer"  # the header `authorization`
    NONE = "none"
    ENTRA = "entra"  # a bearer token of Microsoft Entra ID
    GOOGLE = "google"  # a bearer token of Google's
    SIGV4 = "sigv4"  # each request is signed, as AWS wants it
    OCI = "oci"  # each request is signed, as Oracle wants it


@dataclass(frozen=True, slots=True)
class EntraSource:
    """Where tokens of Entra ID come from. With a secret: it; with a token file: workload identity; else managed."""

    scope: str
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    token_file: str | None = None
    authority: str | None = None  # None: the public cloud's


@dataclass(frozen=True, slots=True)
class GoogleSource:
    """Where tokens of Google's come from. Without a file: application default credentials."""

    service_account_file: str | None = None
    workload_identity_file: str | None = None
    quota_project: str | None = None  # who is charged, where that is not the credential's own project


@dataclass(frozen=True, slots=True)
class AwsSource:
    """Which AWS keys sign. Without keys: the profile's, and without a profile the default chain's."""

    region: str
    service: str = "bedrock"
    access_key_id: str | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    profile: str | None = None


class OciPrincipal(enum.Enum):
    """Who signs at Oracle. The values are keys of an `oci` section."""

    KEY = "key_file"
    CONFIG = "config_file"
    INSTANCE = "instance_principal"
    RESOURCE = "resource_principal"


@dataclass(frozen=True, slots=True)
class OciSource:
    """Which Oracle key signs, and for which compartment."""

    principal: OciPrincipal
    compartment: str | None = None
    user: str | None = None
    fingerprint: str | None = None
    tenancy: str | None = None
    key_file: str | None = None
    passphrase: Secret | None = None
    config_file: str | None = None
    profile: str = "DEFAULT"


@dataclass(frozen=True, slots=True)
class Credential:
    """What an endpoint wants to see: a secret as it is, or where tokens or signatures come from."""

    kind: AuthKind
    secret: Secret | None = None  # of `api_key` and `bearer`
    source: EntraSource | GoogleSource | AwsSource | OciSource | None = None  # of the others, each its own


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of our own with those above it, and its key: PEM, as it stood in the files when they were read."""

    chain: str = field(repr=False)
    key: Secret
    begins_at: float  # wall seconds, as the next
    expires_at: float


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """What TLS to an endpoint is made with. The name that is verified is always that of the base URL."""

    authorities: str | None = field(default=None, repr=False)  # PEM: trusted beside the system's
    certificate: Certificate | None = None  # by which the endpoint knows us


@dataclass(frozen=True, slots=True)
class ConnectProxy:
    """A proxy that is asked to CONNECT: it passes bytes on, and reads none of them where the endpoint speaks TLS."""

    tls: bool  # with the proxy itself
    host: str
    port: int
    credential: Secret | None = None  # `user:password`


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One base URL in one region with its credential (an Azure *resource*)."""

    id: str
    cloud: str
    provider: str
    base_url: BaseUrl
    credential: Credential
    region: str = ""
    zone: str = ""
    api_version: str = "v1"  # Azure only: `v1`, or a dated one for the classic shape
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)  # may hold secrets
    timeouts: Timeouts = Timeouts()
    load: str = ""  # the engine whose /metrics tells its load: `vllm`, `sglang`; empty: not read
    stateful: frozenset[str] = frozenset()  # the resources that it keeps for clients
    probe: bool = True  # a token-free probe may be sent where there is no traffic to learn from
    ca_file: str | None = None  # trust for a private authority, beside the system's; `tls` has what it holds
    # Compared by what names it alone: a certificate that was renewed makes no other endpoint of it.
    tls: UpstreamTls = field(default=UpstreamTls(), compare=False)
    proxy: ConnectProxy | None = None
    emulated: bool = False
    private: bool = False


@dataclass(frozen=True, slots=True)
class Price:
    """What tokens cost, in nano-dollars a million: whole numbers, so that sums are exact."""

    prompt_nano_usd_per_mtok: int
    completion_nano_usd_per_mtok: int
    cached_nano_usd_per_mtok: int | None = None  # None: cached ones cost what others do
    audio_prompt_nano_usd_per_mtok: int | None = None  # of sessions. None, here and below: audio costs what text does
    audio_completion_nano_usd_per_mtok: int | None = None
    audio_cached_nano_usd_per_mtok: int | None = None

    @property
    def version(self) -> str:
        """A name for just these figures, so that what was reckoned by them can be checked later."""
        figures = f"{self.prompt_nano_usd_per_mtok}/{self.completion_nano_usd_per_mtok}/{self.cached_nano_usd_per_mtok}"
        audio = (
            self.audio_prompt_nano_usd_per_mtok,
            self.audio_completion_nano_usd_per_mtok,
            self.audio_cached_nano_usd_per_mtok,
        )
        if audio != (None, None, None):
            figures += "/" + "/".join(map(str, audio))
        return hashlib.sha256(figures.encode()).hexdigest()[:12]


class Kind(enum.Enum):
    """How capacity is bought."""

    STANDARD = "standard"
    PROVISIONED = "provisioned"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model at one endpoint: what is balanced, limited and judged healthy."""

    endpoint: Endpoint
    model: str  # what clients ask for
    name: str  # what the endpoint calls it
    operations: frozenset[str]
    kind: Kind = Kind.STANDARD
    tier: int = 0  # within its cloud: lower ones first
    tpm: int | None = None
    rpm: int | None = None
    quota_pool: str | None = None  # deployments that share one quota share its cooldown
    connections_max: int = 1000
    concurrent_max: int | None = None  # requests at one time, where the provider limits that; else learned
    ttft_objective_ms: float | None = None  # slower than this at its p50 is refused as slow, where another can serve
    price: Price | None = None  # None: not known
    flat_nano_usd_per_month: int = 0  # what provisioned capacity costs, used or not

    @property
    def id(self) -> str:
        """Stable across reloads: counters, cooldowns and pools live under it."""
        return f"{self.endpoint.id}/{self.name}"

    @property
    def cloud(self) -> str:
        return self.endpoint.cloud

    def __hash__(self) -> int:
        return hash((self.endpoint.id, self.name))
