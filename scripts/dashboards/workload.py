"""One class of traffic, as its clients know it: answered or not, how fast, by whom, for how much."""

from typing import Final

from scripts.dashboards.fleet import COUNTED, FAILED, SERVED
from scripts.dashboards.panels import Dashboard, Panel, Query, Row, Variable, quantile, quantiles, rate

OF: Final = 'workload=~"$workload"'
MODEL: Final = f'{OF}, model=~"$model"'

SERVICE: Final = Row(
    "Answered or not",
    (
        Panel(
            "Requests by outcome",
            "Finished requests a second. Orange is capacity, red a cloud, purple a bug of ours.",
            (Query(rate("router_requests_total", "outcome", MODEL), "{{outcome}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Failed",
            "Share of requests that the router or a cloud failed. The dashed line is the objective, 1 of 1,000.",
            (
                Query(
                    f"({rate('router_requests_total', 'workload', f'{MODEL}, {FAILED}')} "
                    f"or 0 * {rate('router_requests_total', 'workload', MODEL)}) "
                    f"/ {rate('router_requests_total', 'workload', f'{MODEL}, {COUNTED}')}",
                    "{{workload}}",
                ),
            ),
            "percentunit",
            steps=((None, "green"), (0.001, "red")),
        ),
        Panel(
            "Error budget burn",
            "How many times too fast the month's failures are spent. Pages: 14.4 in an hour, 6 in six hours.",
            tuple(
                Query(
                    f'workload:router_request_failures:ratio_rate{window}{{job=~"$job", {OF}}} / 0.001',
                    f"{{{{workload}}}}, {window}",
                )
                for window in ("1h", "6h")
            ),
            steps=((None, "green"), (6, "orange"), (14.4, "red")),
        ),
    ),
    across=3,
)

LATENCY: Final = Row(
    "How fast",
    (
        Panel(
            "To the first byte",
            "Of served requests: from arrival to the first byte that the client is sent. Dots are traced requests.",
            quantiles("router_first_byte_seconds", f"{OF}, {SERVED}"),
            "s",
        ),
        Panel(
            "To the first token, p99 by model",
            "Of streams: from a request's arrival to the first event that has content.",
            (Query(quantile(0.99, "router_first_token_seconds", "model", MODEL), "{{model}}", exemplars=True),),
            "s",
        ),
        Panel(
            "Between events",
            "The time between events of a stream as they come from the cloud; waits for a slow client are left out.",
            quantiles("router_chunk_gap_seconds", OF),
            "s",
        ),
        Panel(
            "To the first byte, spread",
            "How many served requests took how long: two bands are two clouds, or a cache that some prompts meet.",
            (Query(rate("router_first_byte_seconds_bucket", "le", f"{OF}, {SERVED}"), "{{le}}"),),
            kind="heatmap",
        ),
        Panel(
            "To the end, p99 by operation",
            "From a request's arrival to its end: mostly the length of the answer.",
            (Query(quantile(0.99, "router_request_seconds", "operation", OF), "{{operation}}"),),
            "s",
        ),
        Panel(
            "In the waiting room",
            "Time that requests waited until a deployment could be asked; those that did not wait are left out.",
            quantiles("router_waited_seconds", OF),
            "s",
        ),
    ),
    across=3,
)

WHERE: Final = Row(
    "By whom",
    (
        Panel(
            "Served by cloud",
            "Share of the served requests.",
            (Query(rate("router_requests_total", "cloud", f'{MODEL}, cloud!="none"'), "{{cloud}}"),),
            "reqps",
            stacked="percent",
        ),
        Panel(
            "Served by endpoint",
            "Served requests a second.",
            (Query(rate("router_requests_total", "endpoint", f'{MODEL}, endpoint!="none"'), "{{endpoint}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Refused offers",
            "Offers to a deployment that were not taken, a second, by reason.",
            (Query(rate("router_offers_total", "outcome", f'{OF}, outcome!="accepted"'), "{{outcome}}"),),
            "reqps",
            stacked="normal",
        ),
    ),
    across=3,
)

SECOND_SENDS: Final = Row(
    "Second sends, and answers that were not heard to the end",
    (
        Panel(
            "Retries and hedges",
            "Further sends a second: after one that failed, or while one was silent.",
            (
                Query(rate("router_retries_total", "workload", OF), "{{workload}} retries"),
                Query(rate("router_hedges_total", "workload", OF), "{{workload}} hedges"),
            ),
            "reqps",
        ),
        Panel(
            "Retry budget left",
            "Further sends that the live traffic allows now, where they are fewest. At 0 nothing is retried.",
            (Query(f"min by (workload) (router_retry_budget_left{{@, {OF}}})", "{{workload}}"),),
        ),
        Panel(
            "Cut short",
            "Clients that hung up before the end, and answers that broke off after the commit point, a second.",
            (
                Query(rate("router_client_disconnects_total", selectors=OF), "clients that hung up"),
                Query(rate("router_truncated_streams_total", "cloud", OF), "broken off by {{cloud}}"),
            ),
            "reqps",
        ),
        Panel(
            "In flight and waiting",
            "Requests that run now, and those for the chosen models, of any workload, that wait.",
            (
                Query(f"sum by (workload) (router_requests_in_flight{{@, {OF}}})", "{{workload}}"),
                Query('sum by (model) (router_waiting_requests{@, model=~"$model"})', "waiting for {{model}}"),
            ),
        ),
    ),
    across=2,
)

USAGE: Final = Row(
    "For how much",
    (
        Panel(
            "Requests by model and operation",
            "Finished requests a second.",
            (Query(rate("router_requests_total", "model, operation", MODEL), "{{model}}, {{operation}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Tokens",
            "Tokens a second. Prompt holds cached, completion holds reasoning.",
            (Query(rate("router_tokens_total", "kind", MODEL), "{{kind}}"),),
        ),
        Panel(
            "Cost an hour",
            "What the last hour's tokens cost at each moment, by model and cloud.",
            (
                Query(
                    f'sum by (model, cloud) (workload_model_cloud:router_cost_usd:increase1h{{job=~"$job", {MODEL}}})',
                    "{{model}} at {{cloud}}",
                ),
            ),
            "currencyUSD",
            stacked="normal",
        ),
    ),
    across=3,
)

DASHBOARD: Final = Dashboard(
    "workload",
    "Inference router: workloads",
    "A class of traffic as its clients know it: answered or not, how fast, by whom, and for how much.",
    (SERVICE, LATENCY, WHERE, SECOND_SENDS, USAGE),
    (Variable("workload", "router_requests_total{@}"), Variable("model", f"router_requests_total{{@, {OF}}}")),
)
