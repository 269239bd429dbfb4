"""The shape of the file: which keys there are, of which type. What they mean together is checked elsewhere.

`later` names the keys of the design that do not act yet: a file that has one is refused, since a rule that is
written down and silently ignored is worse than none.
"""

import math
from typing import Annotated, ClassVar, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from router.base.units import parse_bytes


def _size(value: object) -> int:
    if isinstance(value, str | int):
        try:
            return parse_bytes(value)
        except ValueError:
            pass  # its text holds the value, which may be a secret in the wrong place
    raise PydanticCustomError("size", "is not a size: write bytes, or a number with KiB, MiB or GiB")


def _distribution(value: object) -> object:
    parts = value if isinstance(value, dict) else {"median": value}
    numbers = all(isinstance(part, int | float) and not isinstance(part, bool) and part >= 0 for part in parts.values())
    if not numbers or not {"median"} <= parts.keys() <= {"median", "sigma"}:
        raise PydanticCustomError("distribution", "must be a number or {median: number, sigma: number}")
    return value


def _tiers(value: object) -> list[str | list[str]]:
    groups = [entry if isinstance(entry, list) else [entry] for entry in value] if isinstance(value, list) else []
    if groups and all(groups) and all(isinstance(cloud, str) and cloud for group in groups for cloud in group):
        return cast(list[str | list[str]], value)
    raise PydanticCustomError("tiers", "must be a list of clouds, or of lists of clouds that are balanced together")


def _after_ms(value: object) -> float | None:
    if value == "p95":
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(value)
    raise PydanticCustomError("after_ms", "must be a number of milliseconds above 0, or p95")


def _shadow(value: object) -> bool | list[str]:
    if isinstance(value, bool) or (isinstance(value, list) and value and all(isinstance(each, str) for each in value)):
        return value
    raise PydanticCustomError("shadow", "must be true (all of these), false, or a list of their names")


def _digests(value: object) -> list[str]:
    written = value if isinstance(value, list) else [value]
    digests = [each for each in written if isinstance(each, str)]
    if len(digests) == len(written) and 0 < len(digests) <= 2:  # the old secret's and the new one's
        return digests
    raise PydanticCustomError("digests", "must be a SHA-256, or a list of two while the key is rotated")


Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Milliseconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Allowed = Annotated[int, Field(gt=0, le=1_000_000_000_000)]  # more is a slip, and a double or Redis would round it
Share = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0.01, le=100)]
Usd = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]
BudgetUsd = Annotated[float, Field(gt=0, le=1_000_000_000, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Distribution = Annotated[object, BeforeValidator(_distribution)]
HiddenText = Annotated[str, Field(min_length=1, repr=False)]
MaybeHidden = Annotated[str | None, Field(min_length=1, repr=False)]


class Section(BaseModel):
    """One mapping of the file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)
    later: ClassVar[frozenset[str]] = frozenset()


class TlsSection(Section):
    certificate: Text
    key: Text
    client_ca: Text | None = None
    client_certificates: Literal["optional", "required"] | None = None  # None: optional, where there is `client_ca`
    tls_min: Literal["1.2", "1.3"] = "1.2"


class ServerSection(Section):
    listen: Text = "127.0.0.1:8080"
    admin: Text = "127.0.0.1:9090"
    workers: object = 1  # `auto` or a number
    body_bytes_max: Size = 64 << 20
    buffered_bytes_max: Size = 1 << 30
    connections_max: Annotated[int, Field(gt=0)] = 20_000
    connections_per_address_max: Count | None = None
    head_bytes_max: Annotated[Size, Field(ge=16 << 10, le=1 << 20)] = 64 << 10
    pipelined_bytes_max: Annotated[Size, Field(le=1 << 20)] = 64 << 10
    waiting_bytes_max: Annotated[Size, Field(ge=1 << 20)] = 64 << 20
    handshake_timeout_s: Seconds = 10.0
    head_timeout_s: Seconds = 30.0
    body_timeout_s: Seconds = 60.0
    keepalive_timeout_s: Seconds = 75.0
    drain_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0
    drain_delay_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    loop_lag_max_s: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 30.0
    upstream_idle_s: Seconds = 55.0
    admin_token: Annotated[str | None, Field(min_length=1, repr=False)] = None
    access_log: Text = "-"
    watch: bool = False
    cors_origins: list[Text] = []
    log_clients: bool = False
    tls: TlsSection | None = None
    proxy_protocol: bool = False
    trusted_proxies: list[Text] = []

    @property
    def asks_clients(self) -> bool:
        """Clients may show a certificate."""
        return self.tls is not None and self.tls.client_ca is not None


class TimeoutsSection(Section):
    connect_s: Seconds | None = None
    commit_stream_s: Seconds | None = None
    commit_json_s: Seconds | None = None
    idle_s: Seconds | None = None
    total_s: Seconds | None = None
    commit_after_ms: Seconds | None = None
    comment_every_s: Seconds | None = None


class CloudSection(Section):
    hosts: Annotated[list[Text], Field(min_length=1)]


class EntraSection(Section):
    managed_identity: bool | None = None
    client_secret: MaybeHidden = None
    token_file: Text | None = None
    tenant_id: Text | None = None
    client_id: Text | None = None
    authority: Text | None = None
    scope: Text | None = None


class GoogleSection(Section):
    service_account_file: Text | None = None
    workload_identity_file: Text | None = None
    application_default: bool | None = None
    quota_project: Text | None = None


class AwsSection(Section):
    access_key_id: Text | None = None
    secret_access_key: MaybeHidden = None
    session_token: MaybeHidden = None
    profile: Text | None = None
    default_chain: bool | None = None
    service: Text | None = None


class OciSection(Section):
    key_file: Text | None = None
    user: Text | None = None
    fingerprint: Text | None = None
    tenancy: Text | None = None
    passphrase: MaybeHidden = None
    config_file: Text | None = None
    profile: Text | None = None
    instance_principal: bool | None = None
    resource_principal: bool | None = None
    compartment: Text | None = None


class AuthSection(Section):
    api_key: MaybeHidden = None
    bearer: MaybeHidden = None
    entra: EntraSection | None = None
    google: GoogleSection | None = None
    sigv4: AwsSection | None = None
    oci: OciSection | None = None


def _auth(value: object) -> object:
    if value == "none":
        return AuthSection()
    if isinstance(value, dict) and value:
        return value
    raise PydanticCustomError(
        "auth", "must be {entra: …}, {sigv4: …}, {oci: …}, {google: …}, {api_key: …}, {bearer: …} or none"
    )


class PriceSection(Section):
    """Dollars for a million tokens; or for a month of provisioned capacity, whose tokens then cost nothing more."""

    prompt_usd_per_mtok: Usd | None = None
    completion_usd_per_mtok: Usd | None = None
    cached_usd_per_mtok: Usd | None = None
    audio_prompt_usd_per_mtok: Usd | None = None
    audio_completion_usd_per_mtok: Usd | None = None
    audio_cached_usd_per_mtok: Usd | None = None
    flat_usd_per_month: BudgetUsd | None = None


class DeploymentSection(Section):
    model: Text
    name: Text
    operations: Annotated[list[Text], Field(min_length=1)] | None = None
    kind: Literal["standard", "provisioned"] = "standard"
    tier: Annotated[int, Field(ge=0)] = 0
    tpm: Annotated[int, Field(gt=0)] | None = None
    rpm: Annotated[int, Field(gt=0)] | None = None
    quota_pool: Text | None = None
    connections_max: Count = 1000
    concurrent: Count | None = None
    ttft_objective_ms: Milliseconds | None = None
    price: PriceSection | None = None


class EmulatorSection(Section):
    """How an emulated endpoint behaves. The emulator reads it for itself; here a slip in a key is found at load."""

    seed: int = 0
    head_ms: Distribution = 0
    first_token_ms: Distribution = 0
    token_gap_ms: Distribution = 0
    tokens: Distribution = 16
    chunk_tokens: Annotated[int, Field(gt=0)] = 1
    quota: bool = False
    quota_estimate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    quota_headers: Literal["shown", "missing", "untracked"] = "shown"
    content_filter: bool | None = None
    async_filter: bool = False
    idle_timeout_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    token_life_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 3600.0
    tls_cert: Text | None = None
    tls_key: Text | None = None
    faults: list[dict[str, object]] = []


class EndpointSection(Section):
    cloud: Text
    provider: Text
    base_url: Annotated[Text, Field(repr=False)]
    auth: Annotated[AuthSection, BeforeValidator(_auth)]
    region: Text = ""
    zone: Text = ""
    api_version: Text | None = None
    headers: Annotated[dict[str, str], Field(repr=False)] = {}
    timeouts: TimeoutsSection = TimeoutsSection()
    ca_file: Text | None = None
    client_certificate: Text | None = None
    client_key: Text | None = None
    proxy: MaybeHidden = None
    load: Literal["vllm", "sglang", "nim"] | None = None
    stateful: list[Text] | None = None
    probe: bool = True
    emulated: bool = False
    private: bool = False
    emulator: EmulatorSection | None = None
    deployments: Annotated[list[DeploymentSection | None], Field(min_length=1)]  # None: had a fault of its own


class PlacementSection(Section):
    later = frozenset({"while", "condition"})

    rule: Text
    cloud: Text | None = None
    clouds: Annotated[list[Text], Field(min_length=1)] | None = None
    holder: Text | None = None
    then: Annotated[list[str | list[str]], PlainValidator(_tiers)] | None = None
    holder_attempts: Count | None = None
    prefer: Text | None = None
    from_: Annotated[Text | None, Field(alias="from")] = None
    until: Text | None = None
    then_rule: "PlacementSection | None" = None


class ConditionSection(Section):
    name: Text
    declared: Text | None = None
    by: Text | None = None


class HedgeSection(Section):
    after_ms: Annotated[float | None, PlainValidator(_after_ms)] = None  # None: the deployment's p95
    share_max: Share = 0.05


class AllowanceSection(Section):
    """What a key, all keys of a workload, or all who ask for a model may use."""

    rpm: Allowed | None = None
    tpm: Allowed | None = None
    concurrent: Allowed | None = None
    burst_share: Share | None = None
    shadow: Annotated[bool | list[str], PlainValidator(_shadow)] = False


class BudgetSection(Section):
    """What they may spend."""

    day_usd: BudgetUsd | None = None
    month_usd: BudgetUsd | None = None
    shadow: Annotated[bool | list[str], PlainValidator(_shadow)] = False


class ModelSection(Section):
    limits: AllowanceSection | None = None
    budget: BudgetSection | None = None


class WorkloadSection(Section):
    placement: PlacementSection
    limits: AllowanceSection | None = None
    budget: BudgetSection | None = None
    reveal: Literal["none", "upstream"] = "none"
    priority: Literal["high", "normal", "low"] = "normal"
    zones: Annotated[list[Text], Field(min_length=1)] | None = None
    max_wait_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1000.0
    ttft_objective_ms: Milliseconds | None = None
    hedge: HedgeSection | None = None
    affinity: bool = False


class HealthSection(Section):
    consecutive_failures: Count | None = None
    open_s: Seconds | None = None
    open_s_max: Seconds | None = None
    ejection_s: Seconds | None = None
    ejection_s_max: Seconds | None = None
    ejected_share_max: Annotated[float, Field(ge=0, le=1)] | None = None
    success_rate_min: Annotated[float, Field(ge=0, le=1)] | None = None
    success_rate_requests: Count | None = None
    slow_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    slow_start_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    probe_every_s: Seconds | None = None
    probe_timeout_s: Seconds | None = None


class ResilienceSection(Section):
    budget_share: Annotated[float, Field(ge=0, le=1)] | None = None
    budget_window_s: Seconds | None = None
    budget_floor_per_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class LimitsSection(Section):
    concurrency: Literal["adaptive", "off"] = "adaptive"
    concurrency_start: Count | None = None
    concurrency_min: Count | None = None
    waiting_max: Annotated[int, Field(ge=0)] | None = None
    quota_twin: bool | None = None


class DecisionLogSection(Section):
    dir: Text
    segment_bytes: Size | None = None
    keep_bytes: Size | None = None
    anchors: Text | None = None
    anchor_every_s: Seconds | None = None
    signing_key: Text | None = None


class LedgerSection(Section):
    dir: Text
    store: MaybeHidden = None
    durable: bool = False
    segment_bytes: Size | None = None
    keep_bytes: Size | None = None
    retain_days: Count | None = None


class TracingSection(Section):
    endpoint: Annotated[Text, Field(repr=False)]
    headers: Annotated[dict[str, Text], Field(repr=False)] = {}
    ca_file: Text | None = None
    sample: Annotated[float, Field(ge=0, le=1)] | None = None
    service_name: Text | None = None
    respect_parent: list[Text] = []


class RedisSection(Section):
    url: Annotated[Text, Field(repr=False)]
    prefix: Text | None = None
    on_loss: Literal["share", "open", "closed"] | None = None
    routers: Count | None = None
    ca_file: Text | None = None


class KeySection(Section):
    name: Text
    workload: Text
    sha256: Annotated[list[str] | None, PlainValidator(_digests), Field(repr=False)] = None
    certificates: Annotated[list[Text], Field(min_length=1)] | None = None
    models: list[Text] = []
    limits: AllowanceSection | None = None
    budget: BudgetSection | None = None
    weight: Weight = 1.0
    priority: Literal["high", "normal", "low"] | None = None
    expires: Text | None = None


class File(Section):
    """The whole file."""

    server: ServerSection = ServerSection()
    timeouts: TimeoutsSection = TimeoutsSection()
    clouds: dict[str, CloudSection] = {}
    conditions: list[ConditionSection | None] = []  # None: had a fault of its own
    health: HealthSection = HealthSection()
    resilience: ResilienceSection = ResilienceSection()
    limits: LimitsSection = LimitsSection()
    decision_log: DecisionLogSection | None = None
    ledger: LedgerSection | None = None
    tracing: TracingSection | None = None
    redis: RedisSection | None = None
    endpoints: Annotated[dict[str, EndpointSection], Field(min_length=1)] = {}
    aliases: dict[str, Text] = {}
    models: dict[str, ModelSection] = {}
    workloads: Annotated[dict[str, WorkloadSection], Field(min_length=1)] = {}
    keys: list[KeySection | None] = []  # None: had a fault of its own
