"""What the console shows, as plain values.

A rate is a second, of the last moments; a time is in milliseconds; what is not known is None or left out.
"""

import msgspec


class Spread(msgspec.Struct):
    """How long the first byte took, of those that came in the last half minute."""

    p50_ms: float | None = None
    p99_ms: float | None = None


class Placing(msgspec.Struct):
    """A class of traffic, and where it may go. `models`: for each its deployments, in the order of their tiers."""

    name: str
    rule: str
    rule_version: str
    clouds: list[str]
    models: dict[str, list[str]]


class Standing(msgspec.Struct):
    """How a deployment is judged. `for_s`: how much longer, None where that is not known."""

    state: str
    reason: str
    for_s: float | None


class Stand(msgspec.Struct):
    """A place to send to, as one process sees it. `refusal`: why it sends nothing there now; empty: it does."""

    id: str
    cloud: str
    region: str
    model: str
    standing: Standing
    refusal: str
    draining: bool


class Brief(msgspec.Struct):
    """A finished request in a line. `refusals`: the deployment, its cloud and why it did not serve, in order."""

    id: str
    at: float  # wall seconds of its end
    key: str
    workload: str
    model: str
    operation: str
    outcome: str
    status: int
    code: str
    cloud: str
    served_by: str
    left_holder: bool
    attempts: int
    refusals: list[tuple[str, str, str]]
    first_byte_ms: float
    total_ms: float


class Scene(msgspec.Struct):
    """What one process adds to its numbers: what is configured, how it judges, and what it did last."""

    config_version: str
    decision_log: bool  # one is written
    signed: bool  # and its anchors are signed
    workloads: list[Placing]
    deployments: list[Stand]
    recent: list[Brief]
    notable: list[Brief]  # that were refused somewhere, or did not end well


class Workload(msgspec.Struct):
    """A class of traffic, and what it does."""

    placing: Placing
    in_flight: int
    outcomes: dict[str, float]  # finished requests, by outcome
    first_byte: Spread
    prompt_tokens: float
    completion_tokens: float
    usd_per_h: float
    retries_left: float


class Deployment(msgspec.Struct):
    """A place to send to, and what it does. `states`: how many processes judge it so."""

    stand: Stand
    states: dict[str, int]
    in_flight: int
    in_flight_max: int
    idle: int  # open connections that wait for a request
    outcomes: dict[str, float]  # finished attempts, by outcome
    first_byte: Spread
    quota_left: dict[str, float]  # share of a limit, by `tokens` and `requests`


class Flow(msgspec.Struct):
    """Requests of a workload that a cloud served."""

    workload: str
    cloud: str
    requests: float


class Refusal(msgspec.Struct):
    """Offers of a workload's requests that a cloud did not take. `total`: since the start."""

    workload: str
    cloud: str
    reason: str
    rate: float
    total: int


class LimitNow(msgspec.Struct):
    """A limit of a key, a workload or a model that is near its end, or has turned somebody away.

    `left`: from 0 to 1, None where it is not known; `refused`: a second; `total`: refused since the start; `shadowed`:
    likewise of requests that it would have refused, did it not only count.
    """

    scope: str
    name: str
    limit: str
    left: float | None
    refused: float
    total: int
    shadowed: int


class LedgerNow(msgspec.Struct):
    """The books. `up`: what is used reaches its store; `held_bytes`: is in memory alone; `dropped`: requests lost."""

    up: bool
    lag_s: float
    waiting_bytes: int
    held_bytes: int
    dropped: int
    cost_today_usd: float


class WorkerNow(msgspec.Struct):
    """A process that serves."""

    worker: str
    up: bool
    restarts: int
    loop_lag_ms: float


class Proof(msgspec.Struct):
    """That the contract is kept, and that it is on record: all but `records` should be 0, and the log on."""

    placement_violations: int
    decision_log: bool
    signed: bool  # without it nobody can prove that the log was not rewritten
    records: int
    dropped: int
    anchor_failures: int
    access_log_dropped: int


class Picture(msgspec.Struct):
    """Everything. `over_s`: what the rates are of; None: nobody looked before, so there is nothing to compare with."""

    at: float  # wall seconds
    over_s: float | None
    config_version: str
    draining: bool
    client_connections: int
    proof: Proof
    workers: list[WorkerNow]
    workloads: list[Workload]
    strangers: float  # requests without a key of any workload
    flows: list[Flow]
    deployments: list[Deployment]
    refusals: list[Refusal]
    limits: list[LimitNow]
    ledger: LedgerNow | None  # None: none is kept
    waiting: dict[str, int]  # by model
    first_byte: Spread
    recent: list[Brief]
    notable: list[Brief]
