"""Every metric of the router in one table: the exposition is made from it, and so is `docs/metrics.md`.

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


class Across(enum.Enum):
    """What the numbers of several processes come to, where their labels are the same."""

    SUM = "sum"
    MAX = "highest"  # of a 0 or 1: any
    MIN = "lowest"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `unit` is that of the exposed value, empty for plain counts. `bounds`: of a histogram, in `unit`."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()
    across: Across = Across.SUM


def _counter(name: str, labels: tuple[str, ...], text: str, *, unit: str = "", across: Across = Across.SUM) -> Metric:
    return Metric(name, Kind.COUNTER, unit, labels, text, across=across)


def _gauge(name: str, labels: tuple[str, ...], text: str, *, unit: str = "", across: Across = Across.SUM) -> Metric:
    return Metric(name, Kind.GAUGE, unit, labels, text, across=across)


def _histogram(name: str, labels: tuple[str, ...], text: str, bounds_s: tuple[float, ...]) -> Metric:
    return Metric(name, Kind.HISTOGRAM, "seconds", labels, text, bounds_s)


def _info(name: str, labels: tuple[str, ...], text: str) -> Metric:
    return Metric(name, Kind.INFO, "", labels, text, across=Across.MAX)


# The generative AI conventions of OpenTelemetry up to 10 s, then on to our commit timeout.
FIRST_BYTE_BOUNDS_S: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0),
)
# Theirs for the time of an output token, with what is quicker and, up to our idle timeout, what is slower.
GAP_BOUNDS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    *(5.0, 15.0, 40.0, 120.0),
)
REQUEST_BOUNDS_S: Final = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(163.84, 327.68, 655.36, 1310.72, 3600.0),
)
# A request costs tens of microseconds; what takes milliseconds is a big body or a loop that was held up.
OVERHEAD_BOUNDS_S: Final = (
    *(1e-5, 2.5e-5, 5e-5, 7.5e-5, 1e-4, 1.5e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 1.0),
)
# One way to the same city is a millisecond, one around the world a few hundred; 5 s is the timeout of connecting.
CONNECT_BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
NEWS_BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
WAITED_BOUNDS_S: Final = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

# -- requests

REQUESTS: Final = _counter(
    "router_requests_total",
    ("workload", "model", "operation", "cloud", "endpoint", "outcome"),
    "Finished requests; cloud and endpoint are those that served it, or none.",
)
TOKENS: Final = _counter(
    "router_tokens_total",
    ("workload", "model", "cloud", "kind"),
    "Tokens as the deployments that served reported them, or as estimated where an answer was cut; prompt holds "
    "cached, completion holds reasoning.",
)
COST: Final = _counter(
    "router_cost_usd_total",
    ("workload", "model", "cloud"),
    "What these tokens cost by the configured prices, or else by the list's; a deployment without a price adds "
    "nothing.",
    unit="usd",
)
REQUEST_DURATION: Final = _histogram(
    "router_request_seconds", ("workload", "operation"), "From a request's arrival to its end.", REQUEST_BOUNDS_S
)
FIRST_BYTE: Final = _histogram(
    "router_first_byte_seconds",
    ("workload", "cloud"),
    "From a request's arrival to the first byte sent to the client.",
    FIRST_BYTE_BOUNDS_S,
)
FIRST_TOKEN: Final = _histogram(
    "router_first_token_seconds",
    ("workload", "model", "cloud"),
    "From a request's arrival to the first event of its stream that has content.",
    FIRST_BYTE_BOUNDS_S,
)
CHUNK_GAP: Final = _histogram(
    "router_chunk_gap_seconds",
    ("workload", "cloud"),
    "Between events of a stream, as they come; comments, and waits for a slow client, are left out.",
    GAP_BOUNDS_S,
)
OVERHEAD: Final = _histogram(
    "router_overhead_seconds",
    (),
    "The router's own share of a request: all of it less the waits for client and deployments.",
    OVERHEAD_BOUNDS_S,
)
WAITED: Final = _histogram(
    "router_waited_seconds",
    ("workload",),
    "Time in the waiting room, of the requests that were in it.",
    WAITED_BOUNDS_S,
)
CLIENT_DISCONNECTS: Final = _counter(
    "router_client_disconnects_total", ("workload",), "Requests whose client hung up before the end."
)
TRUNCATED_STREAMS: Final = _counter(
    "router_truncated_streams_total", ("workload", "cloud"), "Answers that broke off after the commit point."
)
REQUESTS_IN_FLIGHT: Final = _gauge("router_requests_in_flight", ("workload",), "Requests that run now.")
WAITING: Final = _gauge("router_waiting_requests", ("model",), "Requests that wait until a deployment may be asked.")

# -- sessions over WebSocket

SESSIONS_OPEN: Final = _gauge("router_sessions_open", ("operation",), "Sessions over WebSocket that are open.")
SESSIONS_ENDED: Final = _counter(
    "router_sessions_ended_total",
    ("operation", "how"),
    "Sessions over WebSocket that have ended: ok, or the code of the error that ended them.",
)
SESSION_MESSAGES: Final = _counter(
    "router_session_messages_total",
    ("operation", "direction"),
    "Messages of sessions; in is what clients sent.",
)
SESSION_BYTES: Final = _counter(
    "router_session_bytes_total",
    ("operation", "direction"),
    "Bytes of these messages, without their framing.",
    unit="bytes",
)

# -- limits of keys, workloads and models

LIMIT_REFUSALS: Final = _counter(
    "router_limit_refusals_total",
    ("scope", "name", "limit"),
    "Requests answered 429 since this limit, or budget, of a key, a workload or a model was used up.",
)
LIMIT_SHADOWED: Final = _counter(
    "router_limit_shadowed_total",
    ("scope", "name", "limit"),
    "Requests that a limit in shadow mode let pass, and would have refused.",
)
LIMIT_LEFT: Final = _gauge(
    "router_limit_left_ratio",
    ("scope", "name", "limit"),
    "How much of a limit is left, from 0 to 1: of what may come at one moment, of the places, of the budget. "
    "Of those that somebody has used since the start.",
    unit="ratio",
    across=Across.MIN,
)
LIMIT_LEASE_WAITS: Final = _counter(
    "router_limit_lease_waits_total",
    (),
    "Requests that waited for their part of a limit that several processes share.",
)

REDIS_UP: Final = _gauge(
    "router_redis_up",
    (),
    "1: limits are shared through Redis; 0: this router goes on by itself, as `redis.on_loss` says.",
    across=Across.MIN,
)
REDIS_ROUTERS: Final = _gauge(
    "router_redis_routers", (), "Routers that share limits, as Redis last said.", across=Across.MAX
)
REDIS_LOSSES: Final = _counter("router_redis_losses_total", (), "Times that Redis was lost.")
REDIS_TRIPS: Final = _counter(
    "router_redis_trips_total", ("result",), "Calls of Redis, each for all that was to be asked then."
)
REDIS_TRIP_SECONDS: Final = _gauge(
    "router_redis_trip_seconds", (), "How long the last call took.", unit="seconds", across=Across.MAX
)

# -- attempts, and what steers them

ATTEMPTS: Final = _counter(
    "router_attempts_total", ("cloud", "deployment", "outcome"), "Finished attempts: sends and failed connects."
)
ATTEMPT_FIRST_BYTE: Final = _histogram(
    "router_attempt_first_byte_seconds",
    ("deployment",),
    "From an attempt's begin, the time to connect included, to the first byte of its answer.",
    FIRST_BYTE_BOUNDS_S,
)
ATTEMPTS_IN_FLIGHT: Final = _gauge("router_attempts_in_flight", ("deployment",), "Attempts that run now.")
IN_FLIGHT_MAX: Final = _gauge(
    "router_attempts_in_flight_max",
    ("deployment",),
    "Attempts that may run at one time: learned, or the provider's limit, less what slow start holds back.",
)
RETRIES: Final = _counter(
    "router_retries_total", ("workload",), "Further sends after one that failed, hedges left out."
)
RETRY_BUDGET: Final = _gauge(
    "router_retry_budget_left", ("workload",), "Further sends that the live traffic allows now."
)
HEDGES: Final = _counter("router_hedges_total", ("workload",), "Second copies sent while the first was silent.")
OFFERS: Final = _counter(
    "router_offers_total",
    ("workload", "cloud", "outcome"),
    "Requests offered to a deployment: accepted, or refused for this reason.",
)
DEPARTURES: Final = _counter(
    "router_departures_total",
    ("workload", "cloud"),
    "Requests that went on after the cloud with the right of first refusal had refused; cloud served them.",
)
STRANGERS: Final = _counter(
    "router_strangers_unheard_total",
    (),
    "Requests without a valid key, from addresses that had sent too many of them: answered 429, and not in the log.",
)
PLACEMENT_VIOLATIONS: Final = _counter(
    "router_placement_violations_total",
    (),
    "Sends that the last check stopped because the permit did not allow their cloud. Must always be 0.",
)

# -- deployments

DEPLOYMENT_AVAILABLE: Final = _gauge(
    "router_deployment_available",
    ("deployment", "cloud"),
    "1 while a deployment may be sent to; 0 while it cools down or drains.",
    across=Across.MAX,
)
VERDICT: Final = _gauge(
    "router_deployment_verdict",
    ("deployment", "cloud", "state"),
    "1 for the state that a deployment is judged to be in, 0 for the others.",
    across=Across.MAX,
)
BREAKER_STATE: Final = _gauge(
    "router_breaker_state",
    ("deployment", "cloud", "state"),
    "1 for the state that a deployment's circuit breaker is in, 0 for the others.",
    across=Across.MAX,
)
QUOTA_LEFT: Final = _gauge(
    "router_quota_left_ratio",
    ("deployment", "limit"),
    "How much of the provider's limit is left for now, from 0 to 1, by the router's model of it.",
    unit="ratio",
    across=Across.MIN,
)
QUOTA_AVOIDED: Final = _counter(
    "router_quota_avoided_total",
    ("deployment",),
    "Sends that would most likely have been answered with 429, and were made elsewhere or later.",
)
CREDENTIAL_FAILURES: Final = _counter(
    "router_credential_failures_total",
    ("endpoint",),
    "Times that an endpoint refused our credential, or that none could be had. An operator has to act.",
)
UPSTREAM_CONNECTIONS: Final = _gauge(
    "router_upstream_connections",
    ("deployment", "state"),
    "Open connections to a deployment, idle in the pool or busy.",
)
UPSTREAM_DIALS: Final = _counter("router_upstream_dials_total", ("deployment",), "Upstream connections dialled.")
UPSTREAM_REUSES: Final = _counter(
    "router_upstream_reuses_total", ("deployment",), "Attempts sent on a pooled connection."
)
UPSTREAM_CONNECT: Final = _histogram(
    "router_upstream_connect_seconds",
    ("deployment",),
    "Until a dialled connection stood, TLS left out; of those that an attempt used.",
    CONNECT_BOUNDS_S,
)
UPSTREAM_TLS: Final = _histogram(
    "router_upstream_tls_seconds", ("deployment",), "The TLS handshake of such a connection.", CONNECT_BOUNDS_S
)

UPSTREAM_DIAL_FAILURES: Final = _counter(
    "router_upstream_dial_failures_total",
    ("deployment", "reason"),
    "Dials that failed: `name`, `refused`, `timeout`, `tls`, `certificate`, `broken`; by the endpoint's proxy "
    "`proxy_unreachable`, `proxy_tls`, `proxy_auth` (407), `proxy_refused`, `proxy_broken`.",
)

# -- the process, and its books

CLIENT_CONNECTIONS: Final = _gauge("router_client_connections", (), "Open connections from clients.")
CLIENT_CONNECTIONS_MAX: Final = _gauge(
    "router_client_connections_max",
    (),
    "So many are taken: `connections_max`, or fewer where the process may open no files for as many.",
)
CLIENT_ENDS: Final = _counter(
    "router_client_connections_ended_total",
    ("reason",),
    "Connections that the router ended of its own accord or did not take: limits that were reached, and requests that "
    "were none.",
)
WAITING_BYTES: Final = _gauge(
    "router_waiting_bytes",
    (),
    "What clients sent that cannot be used yet: heads that are not whole, requests behind a running one.",
    unit="bytes",
)
CLIENTS_ARRIVING: Final = _gauge(
    "router_clients_arriving", (), "Connections whose PROXY header or TLS handshake is not through."
)
HANDSHAKES: Final = _counter(
    "router_tls_handshakes_total", ("result",), "TLS handshakes with clients that ended: `ok`, or why not."
)
PROXY_HEADERS: Final = _counter(
    "router_proxy_headers_total",
    ("result",),
    "Connections that had to begin with a PROXY header: `ok`, `local` (the proxy's own), or why they were ended.",
)
CERTIFICATE_LEFT: Final = _gauge(
    "router_certificate_left_seconds",
    ("certificate",),
    "Until a certificate of our own ends; below 0 it has. By where it stands in the configuration.",
    unit="seconds",
    across=Across.MIN,
)
BUFFERED_BYTES: Final = _gauge(
    "router_buffered_bytes", (), "Request bodies held in memory, over all requests.", unit="bytes"
)
EVENT_LOOP_LAG: Final = _gauge(
    "router_event_loop_lag_seconds",
    ("worker",),
    "By how much the event loop ran a timer late, at the worst within the last 15 to 30 seconds.",
    unit="seconds",
    across=Across.MAX,
)
WORKER_UP: Final = _gauge("router_worker_up", ("worker",), "1 while a worker process serves.", across=Across.MAX)
WORKER_RESTARTS: Final = _counter(
    "router_worker_restarts_total", ("worker",), "Times that a worker process ended and was started anew."
)
WORKER_STUCK: Final = _counter(
    "router_worker_stuck_total",
    ("worker",),
    "Times that a worker's event loop stood still for so long that it was ended.",
)
NEWS_AGE: Final = _histogram(
    "router_worker_news_age_seconds",
    (),
    "How old another worker's news (who is out or must wait, what was spent of quotas) was, at the most, when it was "
    "in force.",
    NEWS_BOUNDS_S,
)
DRAINING: Final = _gauge("router_draining", (), "1 from the start of the shutdown on.", across=Across.MAX)
BUILD: Final = _info("router_build_info", ("version",), "The router that runs.")
CONFIG: Final = _info("router_config_info", ("version",), "The configuration in force.")
CONFIG_LOADED: Final = _gauge(
    "router_config_loaded_timestamp_seconds",
    (),
    "When the configuration in force was loaded, in Unix time.",
    unit="seconds",
    across=Across.MIN,
)
KEYS: Final = _gauge(
    "router_keys",
    ("source",),
    "Clients' keys that are valid now, of the configuration (`file`) and of the ledger's store (`store`).",
    across=Across.MIN,
)
RELOADS: Final = _counter(
    "router_reloads_total",
    ("result", "reason"),
    "Reloads of the configuration, and why they were refused.",
    across=Across.MAX,
)
DECISIONS: Final = _counter(
    "router_decision_log_records_total", (), "Records in the decision log's chain, since it began."
)
DECISIONS_DROPPED: Final = _counter(
    "router_decision_log_dropped_total", (), "Records that the decision log had no room for."
)
ANCHOR_FAILURES: Final = _counter("router_decision_log_anchor_failures_total", (), "Anchors that could not be written.")
LEDGER_UP: Final = _gauge("router_ledger_up", (), "1 while the ledger's entries reach their store.", across=Across.MAX)
LEDGER_ENTRIES: Final = _counter(
    "router_ledger_entries_total", (), "Requests written down for the ledger, where a kill cannot lose them."
)
LEDGER_STORED: Final = _counter("router_ledger_stored_total", (), "Requests taken into the ledger's store.")
LEDGER_LAG: Final = _gauge(
    "router_ledger_lag_seconds",
    (),
    "All that had been written so long ago is in the ledger's store.",
    unit="seconds",
    across=Across.MAX,
)
LEDGER_WAITING: Final = _gauge(
    "router_ledger_waiting_bytes",
    (),
    "Of segments that wait for the ledger's store, as it last told.",
    unit="bytes",
    across=Across.MAX,
)
LEDGER_COST_TODAY: Final = _gauge(
    "router_ledger_cost_today_usd",
    (),
    "What all attempts of the day in UTC have cost, of those that are in the ledger's store; every few seconds.",
    unit="usd",
    across=Across.MAX,
)
LEDGER_HELD: Final = _gauge(
    "router_ledger_held_bytes",
    (),
    "Entries in memory alone, since there is no segment to write them to: a kill would lose them.",
    unit="bytes",
)
LEDGER_DROPPED: Final = _counter(
    "router_ledger_dropped_total", (), "Requests that the ledger has lost, since there was no room to write them."
)
LEDGER_DAMAGED: Final = _counter(
    "router_ledger_damaged_segments_total",
    (),
    "Segments that could not be read to their end, and were set aside.",
    across=Across.MAX,
)
ACCESS_LOG_DROPPED: Final = _counter(
    "router_access_log_dropped_total", (), "Lines lost because the log's sink did not take them."
)
LOG_BUFFERED: Final = _gauge(
    "router_log_buffered_bytes",
    ("log",),
    "Of the access log what is not written yet, of the decision log what is not known to be on the disk yet.",
    unit="bytes",
)
SPANS_DROPPED: Final = _counter(
    "router_spans_dropped_total", (), "Spans lost because the collector of traces did not take them."
)

METRICS: Final = tuple(value for value in tuple(globals().values()) if isinstance(value, Metric))
"""All of the above, in their order."""

PROCESS: Final = (
    _gauge("process_virtual_memory_bytes", (), "Virtual memory.", unit="bytes"),
    _gauge("process_resident_memory_bytes", (), "Memory that is not swapped out.", unit="bytes"),
    _gauge(
        "process_start_time_seconds", (), "When the process began, in Unix time.", unit="seconds", across=Across.MIN
    ),
    _counter("process_cpu_seconds_total", (), "CPU time, of user and system.", unit="seconds"),
    _gauge("process_open_fds", (), "Open file descriptors."),
    _gauge("process_max_fds", (), "File descriptors that may be open."),
    _counter("python_gc_objects_collected_total", ("generation",), "Objects that the garbage collector freed."),
    _counter("python_gc_objects_uncollectable_total", ("generation",), "Objects that it could not free."),
    _counter("python_gc_collections_total", ("generation",), "Its runs."),
)
"""What is told of any process, by the usual names; `process_*` are absent where the system does not tell them."""
