"""Every metric of the router in one table: the exposition is made from it, and so can a page of documentation be.

Label values come from the configuration or from fixed sets, never from what a client wrote, so the number of series
is bounded by the configuration.
"""

import enum
from dataclasses import dataclass
from typing import Final


class Kind(enum.Enum):
    """What may be done with the numbers."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    INFO = "info"  # always 1: the labels say it


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `unit` is that of the exposed value, empty for plain counts. `bounds`: of a histogram, in `unit`."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()


# The generative AI conventions of OpenTelemetry up to 10 s, then on to our commit timeout.
FIRST_BYTE_BOUNDS_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0),
)
REQUEST_BOUNDS_S: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(163.84, 327.68, 655.36, 1310.72, 3600.0),
)
# A request costs tens of microseconds; what takes milliseconds is a big body or a loop that was held up.
OVERHEAD_BOUNDS_S: Final = (
    *(1e-5, 2.5e-5, 5e-5, 7.5e-5, 1e-4, 1.5e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0),
)

REQUESTS: Final = Metric(
    "router_requests_total",
    Kind.COUNTER,
    "",
    ("workload", "model", "operation", "cloud", "outcome"),
    "Finished requests; cloud is the one that served it.",
)
ATTEMPTS: Final = Metric(
    "router_attempts_total",
    Kind.COUNTER,
    "",
    ("cloud", "deployment", "outcome"),
    "Finished attempts: sends and failed connects.",
)
TOKENS: Final = Metric(
    "router_tokens_total",
    Kind.COUNTER,
    "",
    ("workload", "model", "cloud", "kind"),
    "Tokens as the deployments reported them; prompt holds cached, completion holds reasoning.",
)
FIRST_BYTE: Final = Metric(
    "router_first_byte_seconds",
    Kind.HISTOGRAM,
    "seconds",
    ("workload", "cloud"),
    "From a request's arrival to the first byte sent to the client.",
    FIRST_BYTE_BOUNDS_S,
)
REQUEST_DURATION: Final = Metric(
    "router_request_seconds",
    Kind.HISTOGRAM,
    "seconds",
    ("workload", "operation"),
    "From a request's arrival to its end.",
    REQUEST_BOUNDS_S,
)
OVERHEAD: Final = Metric(
    "router_overhead_seconds",
    Kind.HISTOGRAM,
    "seconds",
    (),
    "The router's own share of a request: all of it less the waits for client and deployments.",
    OVERHEAD_BOUNDS_S,
)
CLIENT_DISCONNECTS: Final = Metric(
    "router_client_disconnects_total", Kind.COUNTER, "", (), "Requests whose client hung up before the end."
)
TRUNCATED_STREAMS: Final = Metric(
    "router_truncated_streams_total", Kind.COUNTER, "", (), "Answers that broke off after the commit point."
)
REQUESTS_IN_FLIGHT: Final = Metric("router_requests_in_flight", Kind.GAUGE, "", ("workload",), "Requests that run now.")
ATTEMPTS_IN_FLIGHT: Final = Metric(
    "router_attempts_in_flight", Kind.GAUGE, "", ("deployment",), "Attempts that run now."
)
DEPLOYMENT_AVAILABLE: Final = Metric(
    "router_deployment_available",
    Kind.GAUGE,
    "",
    ("deployment", "cloud"),
    "1 while a deployment may be sent to; 0 while it cools down or drains.",
)
UPSTREAM_CONNECTIONS: Final = Metric(
    "router_upstream_connections",
    Kind.GAUGE,
    "",
    ("deployment", "state"),
    "Open connections to a deployment, idle in the pool or busy.",
)
UPSTREAM_DIALS: Final = Metric("router_upstream_dials_total", Kind.COUNTER, "", (), "Upstream connections dialled.")
UPSTREAM_REUSES: Final = Metric(
    "router_upstream_reuses_total", Kind.COUNTER, "", (), "Attempts sent on a pooled connection."
)
OFFERS: Final = Metric(
    "router_offers_total",
    Kind.COUNTER,
    "",
    ("workload", "cloud", "outcome"),
    "Requests offered to a deployment: accepted, or refused for this reason.",
)
DEPARTURES: Final = Metric(
    "router_departures_total",
    Kind.COUNTER,
    "",
    ("workload", "cloud"),
    "Requests that went on after the cloud with the right of first refusal had refused; cloud served them.",
)
QUOTA_AVOIDED: Final = Metric(
    "router_quota_avoided_total",
    Kind.COUNTER,
    "",
    ("deployment",),
    "Sends that would most likely have been answered with 429, and were made elsewhere or later.",
)
RETRIES: Final = Metric(
    "router_retries_total", Kind.COUNTER, "", ("workload",), "Further sends after one that failed, hedges left out."
)
RETRY_BUDGET: Final = Metric(
    "router_retry_budget_left", Kind.GAUGE, "", ("workload",), "Further sends that the live traffic allows now."
)
HEDGES: Final = Metric(
    "router_hedges_total", Kind.COUNTER, "", ("workload",), "Second copies sent while the first was silent."
)
WAITING: Final = Metric(
    "router_waiting_requests", Kind.GAUGE, "", ("model",), "Requests that wait until a deployment may be asked."
)
VERDICT: Final = Metric(
    "router_deployment_verdict",
    Kind.GAUGE,
    "",
    ("deployment", "cloud", "state"),
    "1 for the state that a deployment is judged to be in, 0 for the others.",
)
IN_FLIGHT_MAX: Final = Metric(
    "router_attempts_in_flight_max",
    Kind.GAUGE,
    "",
    ("deployment",),
    "Attempts that may run at one time: learned, or the provider's limit, less what slow start holds back.",
)
CREDENTIAL_FAILURES: Final = Metric(
    "router_credential_failures_total",
    Kind.COUNTER,
    "",
    ("endpoint",),
    "Times that an endpoint refused our credential, or that none could be had. An operator has to act.",
)
DECISIONS: Final = Metric(
    "router_decision_log_records_total", Kind.COUNTER, "", (), "Records in the decision log's chain, since it began."
)
DECISIONS_DROPPED: Final = Metric(
    "router_decision_log_dropped_total", Kind.COUNTER, "", (), "Records that the decision log had no room for."
)
ANCHOR_FAILURES: Final = Metric(
    "router_decision_log_anchor_failures_total", Kind.COUNTER, "", (), "Anchors that could not be written."
)
PLACEMENT_VIOLATIONS: Final = Metric(
    "router_placement_violations_total",
    Kind.COUNTER,
    "",
    (),
    "Sends that the last check stopped because the permit did not allow their cloud. Must always be 0.",
)
CLIENT_CONNECTIONS: Final = Metric("router_client_connections", Kind.GAUGE, "", (), "Open connections from clients.")
BUFFERED_BYTES: Final = Metric(
    "router_buffered_bytes", Kind.GAUGE, "bytes", (), "Request bodies held in memory, over all requests."
)
EVENT_LOOP_LAG: Final = Metric(
    "router_event_loop_lag_seconds", Kind.GAUGE, "seconds", (), "How late the event loop ran its last timer."
)
CONFIG: Final = Metric("router_config_info", Kind.INFO, "", ("version",), "The configuration in force.")
DRAINING: Final = Metric("router_draining", Kind.GAUGE, "", (), "1 from the start of the shutdown on.")
RELOADS: Final = Metric("router_reloads_total", Kind.COUNTER, "", ("result",), "Reloads of the configuration.")
ACCESS_LOG_DROPPED: Final = Metric(
    "router_access_log_dropped_total", Kind.COUNTER, "", (), "Lines lost because the log's sink did not take them."
)

METRICS: Final[tuple[Metric, ...]] = (
    REQUESTS,
    ATTEMPTS,
    TOKENS,
    FIRST_BYTE,
    REQUEST_DURATION,
    OVERHEAD,
    CLIENT_DISCONNECTS,
    TRUNCATED_STREAMS,
    REQUESTS_IN_FLIGHT,
    ATTEMPTS_IN_FLIGHT,
    DEPLOYMENT_AVAILABLE,
    UPSTREAM_CONNECTIONS,
    UPSTREAM_DIALS,
    UPSTREAM_REUSES,
    OFFERS,
    DEPARTURES,
    QUOTA_AVOIDED,
    RETRIES,
    RETRY_BUDGET,
    HEDGES,
    WAITING,
    VERDICT,
    IN_FLIGHT_MAX,
    CREDENTIAL_FAILURES,
    DECISIONS,
    DECISIONS_DROPPED,
    ANCHOR_FAILURES,
    PLACEMENT_VIOLATIONS,
    CLIENT_CONNECTIONS,
    BUFFERED_BYTES,
    EVENT_LOOP_LAG,
    CONFIG,
    DRAINING,
    RELOADS,
    ACCESS_LOG_DROPPED,
)
