"""Whether the contract is kept, and can be proved: who was offered what, who refused it, and the log that says so."""

from typing import Final

from scripts.dashboards.panels import Dashboard, Panel, Query, Row, Variable, rate

OF: Final = 'workload=~"$workload"'
REFUSED: Final = 'outcome!="accepted"'

KEPT: Final = Row(
    "Kept, and on record",
    (
        Panel(
            "Violations",
            "Sends that the last check stopped because their cloud was forbidden. Anything but 0 is a bug.",
            (Query("sum(router_placement_violations_total{@})"),),
            kind="stat",
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Records lost",
            "Decision records that no room was left for, since the routers began. A full log lets nothing depart.",
            (Query("sum(router_decision_log_dropped_total{@})"),),
            kind="stat",
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Anchors failed",
            "Times that the log's newest hash could not be signed and stored, since the routers began.",
            (Query("sum(router_decision_log_anchor_failures_total{@})"),),
            kind="stat",
            steps=((None, "green"), (1, "orange")),
        ),
        Panel(
            "Records",
            "Decisions written to the log, a second.",
            (Query(rate("router_decision_log_records_total")),),
            "reqps",
            kind="stat",
        ),
        Panel(
            "Offers refused",
            "Share of all offers that were not taken.",
            (
                Query(
                    f"({rate('router_offers_total', selectors=f'{OF}, {REFUSED}')} or vector(0)) "
                    f"/ {rate('router_offers_total', selectors=OF)}"
                ),
            ),
            "percentunit",
            kind="stat",
            decimals=1,
        ),
        Panel(
            "Left the holder",
            "Requests a second that went on after the cloud with the right of first refusal had refused.",
            (Query(f"{rate('router_departures_total', selectors=OF)} or vector(0)"),),
            "reqps",
            kind="stat",
        ),
    ),
    across=6,
    height=4,
)

SERVED: Final = Row(
    "Who serves whom",
    (
        Panel(
            "Share of the served requests by workload and cloud",
            "An exclusive workload has one line, at 100 %.",
            (
                Query(
                    f'workload_cloud:router_requests_served:share_rate5m{{job=~"$job", {OF}}}',
                    "{{workload}} by {{cloud}}",
                ),
            ),
            "percentunit",
            maximum=1,
        ),
        Panel(
            "Departures",
            "Requests a second that the holder had refused, by the cloud that then served them; `none`: nobody did.",
            (Query(rate("router_departures_total", "workload, cloud", OF), "{{workload}} to {{cloud}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Served in the chosen time",
            "Requests by workload and cloud, whatever became of them; `none`: no cloud served them.",
            (Query(f"sum by (workload, cloud) (increase(router_requests_total{{@, {OF}}}[$__range]))"),),
            decimals=0,
            kind="table",
            columns={"workload": "Workload", "cloud": "Cloud", "Value": "Requests"},
        ),
    ),
    across=3,
)

REFUSALS: Final = Row(
    "Who refuses what, and why",
    (
        Panel(
            "Refusals by reason",
            "Offers a second that were not taken. Throttled, over quota, busy: capacity. Failed, unhealthy: faults.",
            (Query(rate("router_offers_total", "outcome", f"{OF}, {REFUSED}"), "{{outcome}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Refused share by cloud",
            "Of the offers that a workload made to a cloud, the share that it did not take.",
            (
                Query(
                    f'workload_cloud:router_offers_refused:ratio_rate5m{{job=~"$job", {OF}}}',
                    "{{workload}} at {{cloud}}",
                ),
            ),
            "percentunit",
            maximum=1,
        ),
        Panel(
            "Offers in the chosen time",
            "Every offer that was made: who asked, whom, and what came of it.",
            (Query(f"sum by (workload, cloud, outcome) (increase(router_offers_total{{@, {OF}}}[$__range]))"),),
            decimals=0,
            kind="table",
            columns={"workload": "Workload", "cloud": "Cloud", "outcome": "Outcome", "Value": "Offers"},
        ),
        Panel(
            "429 avoided",
            "Offers a second that the router's model of a quota refused before the provider had to, by deployment.",
            (Query(rate("router_quota_avoided_total", "deployment"), "{{deployment}}"),),
            "reqps",
            width=12,
        ),
        Panel(
            "Deployments that may be asked",
            "By cloud, where the fewest may: what cools down, is ejected or drained is not counted.",
            (
                Query(
                    "min by (cloud) (sum by (instance, cloud) (router_deployment_available{@}))",
                    "{{cloud}}",
                ),
            ),
            width=12,
        ),
    ),
    across=3,
)

LOG: Final = Row(
    "The log",
    (
        Panel(
            "Records",
            "Decisions written, a second.",
            (Query(rate("router_decision_log_records_total", "instance"), "{{instance}}"),),
            "reqps",
        ),
        Panel(
            "Not known to be on the disk yet",
            "Bytes of the decision log that a power cut now could take. A crash of the router alone loses none.",
            (
                Query(
                    'sum by (instance) (router_log_buffered_bytes{@, log="decisions"})',
                    "{{instance}}",
                ),
            ),
            "bytes",
        ),
        Panel(
            "Lost records and anchors",
            "In five minutes.",
            (
                Query("sum by (instance) (increase(router_decision_log_dropped_total{@}[5m]))", "{{instance}} records"),
                Query(
                    "sum by (instance) (increase(router_decision_log_anchor_failures_total{@}[5m]))",
                    "{{instance}} anchors",
                ),
            ),
        ),
    ),
    across=3,
)

DASHBOARD: Final = Dashboard(
    "placement",
    "Inference router: placement and refusals",
    "Whether the contract is kept and can be proved: who was offered what, who refused it and why, and who served it.",
    (KEPT, SERVED, REFUSALS, LOG),
    (Variable("workload", "router_requests_total{@}"),),
)
