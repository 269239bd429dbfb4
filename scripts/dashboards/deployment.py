"""The places that are sent to: are they well, how fast, how full, and what their connections do."""

from typing import Final

from scripts.dashboards.fleet import VERDICTS
from scripts.dashboards.panels import Dashboard, Panel, Query, Row, Variable, quantile, rate, states

OF: Final = 'deployment=~"$deployment"'
NOT_ITS_FAULT: Final = "served|answered|client_gone|hedge_lost|withdrawn|violation"
BREAKERS: Final = ("closed", "recovering", "probing", "open")  # the worst one last

HEALTH: Final = Row(
    "Well or not",
    (
        Panel(
            "Verdict",
            "What each deployment is judged to be, the worst where routers differ. Green is up, red is left alone.",
            (states("router_deployment_verdict", VERDICTS, "deployment", OF),),
            width=12,
            kind="state-timeline",
            words=VERDICTS,
        ),
        Panel(
            "Circuit breaker",
            "Closed: everybody passes. Open: nobody. Probing: one at a time. Recovering: a growing share.",
            (states("router_breaker_state", BREAKERS, "deployment", OF),),
            width=12,
            kind="state-timeline",
            words=BREAKERS,
        ),
        Panel(
            "Attempts by result",
            "Finished attempts a second. Orange: told to wait; red: failed; yellow: a client's own error.",
            (Query(rate("router_attempts_total", "outcome", OF), "{{outcome}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Attempts that failed",
            "Share of a deployment's attempts that came to nothing by its own fault, not by a client's.",
            (
                Query(
                    "("
                    + rate("router_attempts_total", "deployment", f'{OF}, outcome!~"{NOT_ITS_FAULT}"')
                    + f" or 0 * {rate('router_attempts_total', 'deployment', OF)})"
                    + f" / {rate('router_attempts_total', 'deployment', OF)}",
                    "{{deployment}}",
                ),
            ),
            "percentunit",
        ),
        Panel(
            "Credential refused",
            "Times in five minutes that an endpoint refused our credential, or that no token could be had: act.",
            (Query("sum by (endpoint) (increase(router_credential_failures_total{@}[5m]))", "{{endpoint}}"),),
        ),
    ),
    across=3,
)

SPEED: Final = Row(
    "How fast",
    (
        Panel(
            "To the first byte, p50",
            "From an attempt's begin, the dial included, to the first byte of its answer.",
            (Query(quantile(0.5, "router_attempt_first_byte_seconds", "deployment", OF), "{{deployment}}"),),
            "s",
        ),
        Panel(
            "To the first byte, p99",
            "The slowest of a hundred attempts. Dots are traced requests.",
            (
                Query(
                    quantile(0.99, "router_attempt_first_byte_seconds", "deployment", OF),
                    "{{deployment}}",
                    exemplars=True,
                ),
            ),
            "s",
        ),
        Panel(
            "To the first byte, spread",
            "How many attempts of the chosen deployments took how long.",
            (Query(rate("router_attempt_first_byte_seconds_bucket", "le", OF), "{{le}}"),),
            kind="heatmap",
        ),
    ),
    across=3,
)

FULLNESS: Final = Row(
    "How full",
    (
        Panel(
            "Attempts in flight",
            "Attempts that run now, and how many may at one time: learned, or the provider's limit.",
            (
                Query(f"sum by (deployment) (router_attempts_in_flight{{@, {OF}}})", "{{deployment}}"),
                Query(f"sum by (deployment) (router_attempts_in_flight_max{{@, {OF}}})", "{{deployment}} at most"),
            ),
        ),
        Panel(
            "Quota left",
            "The share of the provider's limit that is left for now, by the router's model of it, where it is least.",
            (
                Query(
                    f"min by (deployment, limit) (router_quota_left_ratio{{@, {OF}}})",
                    "{{deployment}}, {{limit}}",
                ),
            ),
            "percentunit",
            maximum=1,
        ),
        Panel(
            "Throttled",
            "Share of attempts that were answered with 429, over a quarter of an hour.",
            (Query(f'deployment:router_attempts_throttled:ratio_rate15m{{job=~"$job", {OF}}}', "{{deployment}}"),),
            "percentunit",
            steps=((None, "green"), (0.05, "red")),
        ),
        Panel(
            "429 avoided",
            "Sends a second that would most likely have been throttled, and were made elsewhere or later.",
            (Query(rate("router_quota_avoided_total", "deployment", OF), "{{deployment}}"),),
            "reqps",
        ),
    ),
    across=2,
)

CONNECTIONS: Final = Row(
    "Connections",
    (
        Panel(
            "Open",
            "Connections to the chosen deployments, busy or idle in the pool.",
            (Query(f"sum by (state) (router_upstream_connections{{@, {OF}}})", "{{state}}"),),
            stacked="normal",
        ),
        Panel(
            "Reuse",
            "Share of attempts that went out on a pooled connection. Low: the other end closes them early.",
            (
                Query(
                    f"{rate('router_upstream_reuses_total', 'deployment', OF)} / "
                    f"({rate('router_upstream_reuses_total', 'deployment', OF)} "
                    f"+ {rate('router_upstream_dials_total', 'deployment', OF)})",
                    "{{deployment}}",
                ),
            ),
            "percentunit",
            maximum=1,
        ),
        Panel(
            "Connect, p99",
            "Until a dialled connection stood, TLS left out: the network's round trip, and the names' resolution.",
            (Query(quantile(0.99, "router_upstream_connect_seconds", "deployment", OF), "{{deployment}}"),),
            "s",
        ),
        Panel(
            "TLS, p99",
            "The handshake of a dialled connection; a resumed one takes a round trip less.",
            (Query(quantile(0.99, "router_upstream_tls_seconds", "deployment", OF), "{{deployment}}"),),
            "s",
        ),
    ),
    across=2,
)

DASHBOARD: Final = Dashboard(
    "deployment",
    "Inference router: deployments",
    "The places that are sent to: whether they are well, how fast, how full, and what their connections do.",
    (HEALTH, SPEED, FULLNESS, CONNECTIONS),
    (
        Variable("cloud", "router_deployment_available{@}"),
        Variable("deployment", 'router_deployment_available{@, cloud=~"$cloud"}'),
    ),
)
