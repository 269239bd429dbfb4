"""All routers at a glance: is it well, how much, how fast, who serves, what it costs, and the processes themselves."""

from typing import Final

from scripts.dashboards.panels import Dashboard, Panel, Query, Row, quantile, quantiles, rate, states

FAILED: Final = 'outcome=~"refused|upstream_error|stream_broken|internal_error"'
COUNTED: Final = 'outcome!~"client_error|client_gone"'
SERVED: Final = 'cloud!="none"'  # what the router itself refuses is quick, and would make an outage look fast
KNOWN: Final = 'workload!="other"'
VERDICTS: Final = ("unknown", "up", "degraded", "probing", "throttled", "draining", "ejected")  # the worst one last

NOW: Final = Row(
    "Now",
    (
        Panel(
            "Violations",
            "Sends that the last check stopped because their cloud was forbidden. Anything but 0 is a bug.",
            (Query("sum(router_placement_violations_total{@})"),),
            kind="stat",
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Failed",
            "Share of requests that the router or a cloud failed. Clients' own faults are left out.",
            (
                Query(
                    f"({rate('router_requests_total', selectors=FAILED)} or vector(0)) "
                    f"/ {rate('router_requests_total', selectors=COUNTED)}"
                ),
            ),
            "percentunit",
            kind="stat",
            steps=((None, "green"), (0.001, "yellow"), (0.0144, "red")),
            decimals=2,
        ),
        Panel("Requests", "Finished requests a second.", (Query(rate("router_requests_total")),), "reqps", kind="stat"),
        Panel(
            "First byte, p99",
            "Of served requests: from arrival to the first byte of the answer, the clouds' time included.",
            (Query(quantile(0.99, "router_first_byte_seconds", selectors=SERVED)),),
            "s",
            kind="stat",
        ),
        Panel(
            "Own overhead, p99",
            "The router's own share of a request: all of it less the waits for client and clouds.",
            (Query(quantile(0.99, "router_overhead_seconds")),),
            "s",
            kind="stat",
            steps=((None, "green"), (0.005, "yellow"), (0.05, "red")),
        ),
        Panel(
            "Deployments out",
            "Deployments that at least one router may not send to now: ejected, cooling down or drained.",
            (Query("count(min by (deployment) (router_deployment_available{@}) == 0) or vector(0)"),),
            kind="stat",
            steps=((None, "green"), (1, "yellow")),
        ),
        Panel(
            "Workers down",
            "Worker processes that should serve and do not.",
            (Query("count(router_worker_up{@} == 0) or vector(0)"),),
            kind="stat",
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Cost an hour",
            "What the last hour's tokens cost, by the configured prices or else by the public list's.",
            (Query("sum(increase(router_cost_usd_total{@}[1h]))"),),
            "currencyUSD",
            kind="stat",
            decimals=2,
        ),
    ),
    across=8,
    height=4,
)

TRAFFIC: Final = Row(
    "Traffic",
    (
        Panel(
            "Requests by workload",
            "Finished requests a second. `other`: refused before its key was known.",
            (Query(rate("router_requests_total", "workload"), "{{workload}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Requests by outcome",
            "Yellow and grey are the clients' own doing, orange is capacity, red a cloud, purple a bug of ours.",
            (Query(rate("router_requests_total", "outcome"), "{{outcome}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Requests in flight",
            "Requests that run now, streams that flow among them, and those that wait for capacity.",
            (
                Query("sum by (workload) (router_requests_in_flight{@})", "{{workload}}"),
                Query("sum(router_waiting_requests{@})", "waiting"),
            ),
        ),
        Panel(
            "Tokens",
            "Tokens a second as the deployments reported them. Prompt holds cached, completion holds reasoning.",
            (Query(rate("router_tokens_total", "kind"), "{{kind}}"),),
        ),
    ),
    across=2,
)

LATENCY: Final = Row(
    "Latency",
    (
        Panel(
            "To the first byte",
            "Of served requests: from arrival to the first byte that the client is sent. Dots are traced requests.",
            quantiles("router_first_byte_seconds", SERVED),
            "s",
        ),
        Panel(
            "To the first token",
            "Of streams: from a request's arrival to the first event that has content.",
            quantiles("router_first_token_seconds"),
            "s",
        ),
        Panel(
            "Own overhead",
            "What the router itself takes: tens of microseconds. Milliseconds: big bodies, or a loop that was held up.",
            quantiles("router_overhead_seconds"),
            "s",
        ),
    ),
    across=3,
)

CLOUDS: Final = Row(
    "Clouds",
    (
        Panel(
            "Served by",
            "Share of the served requests that each cloud had.",
            (Query(rate("router_requests_total", "cloud", 'cloud!="none"'), "{{cloud}}"),),
            "reqps",
            stacked="percent",
        ),
        Panel(
            "Attempts a request",
            "Sends for each request with a known key. Above 1 are retries, hedges and failed connects.",
            (
                Query(
                    f"{rate('router_attempts_total')} / {rate('router_requests_total', selectors=KNOWN)}",
                    "attempts",
                ),
            ),
            decimals=2,
        ),
        Panel(
            "Cost an hour by cloud",
            "What the last hour's tokens cost at each moment.",
            (Query('sum by (cloud) (workload_model_cloud:router_cost_usd:increase1h{job=~"$job"})', "{{cloud}}"),),
            "currencyUSD",
            stacked="normal",
        ),
        Panel(
            "Verdicts",
            "What each deployment is judged to be, the worst where routers differ. Green is up, red is left alone.",
            (states("router_deployment_verdict", VERDICTS, "deployment"),),
            width=12,
            kind="state-timeline",
            words=VERDICTS,
        ),
        Panel(
            "Firing",
            "Alerts that fire now. docs/operations.md says for each what to do.",
            (
                Query(
                    'sum by (alertname, severity, instance) (ALERTS{alertname=~"Router.*", alertstate="firing", '
                    'job=~"$job"})'
                ),
            ),
            width=12,
            kind="table",
            columns={"severity": "Severity", "alertname": "Alert", "instance": "Router"},
        ),
    ),
    across=3,
)

PROCESSES: Final = Row(
    "Processes",
    (
        Panel(
            "Event loop, worst lateness",
            "By how much a worker's loop ran a timer late, at the worst within half a minute.",
            (Query("max by (instance, worker) (router_event_loop_lag_seconds{@})", "{{instance}} worker {{worker}}"),),
            "s",
            steps=((None, "green"), (0.05, "red")),
        ),
        Panel(
            "CPU",
            "Cores that a router keeps busy, all its processes together. A worker can use one.",
            (Query(rate("process_cpu_seconds_total", "instance"), "{{instance}}"),),
            decimals=2,
        ),
        Panel(
            "Memory",
            "Resident memory of a router's processes, and the request bodies within it.",
            (
                Query("sum by (instance) (process_resident_memory_bytes{@})", "{{instance}}"),
                Query("sum by (instance) (router_buffered_bytes{@})", "{{instance}} bodies"),
            ),
            "bytes",
        ),
        Panel(
            "Connections",
            "From clients, and to deployments: idle in the pools or busy. Beside them the open files.",
            (
                Query("sum(router_client_connections{@})", "clients"),
                Query("sum by (state) (router_upstream_connections{@})", "deployments, {{state}}"),
                Query("sum(process_open_fds{@})", "open files"),
            ),
        ),
        Panel(
            "Logs waiting to be written",
            "Bytes that the access log and the decision log hold in memory.",
            (Query("sum by (log) (router_log_buffered_bytes{@})", "{{log}}"),),
            "bytes",
        ),
        Panel(
            "Lost",
            "Log lines, decision records and spans that no room was left for, and workers that died, in five minutes.",
            (
                Query("sum(increase(router_access_log_dropped_total{@}[5m]))", "access log lines"),
                Query("sum(increase(router_decision_log_dropped_total{@}[5m]))", "decision records"),
                Query("sum(increase(router_spans_dropped_total{@}[5m]))", "spans"),
                Query("sum(increase(router_worker_restarts_total{@}[5m]))", "workers"),
            ),
        ),
    ),
    across=3,
)

RELEASES: Final = Row(
    "Releases",
    (
        Panel(
            "Versions",
            "Which router runs where.",
            (Query("max by (instance, version) (router_build_info{@})"),),
            kind="table",
            columns={"instance": "Router", "version": "Release"},
        ),
        Panel(
            "Configurations",
            "Which configuration is in force where. All of a fleet should have the same.",
            (Query("max by (instance, version) (router_config_info{@})"),),
            kind="table",
            columns={"instance": "Router", "version": "Configuration"},
        ),
        Panel(
            "Reloads",
            "Reloads in five minutes. A refused one changed nothing: the old configuration serves on.",
            (Query("sum by (result) (increase(router_reloads_total{@}[5m]))", "{{result}}"),),
        ),
    ),
    across=3,
    height=6,
)

DASHBOARD: Final = Dashboard(
    "fleet",
    "Inference router: fleet",
    "All routers at a glance. Begin here: the first line says whether anything is wrong, the rows below say where.",
    (NOW, TRAFFIC, LATENCY, CLOUDS, PROCESSES, RELEASES),
)
