"""Whether keys get what they were sold and no more, and whether all that was answered is on the books."""

from typing import Final

from scripts.dashboards.panels import Dashboard, Panel, Query, Row, Variable, rate

OF: Final = 'scope=~"$scope", name=~"$name"'

NOW: Final = Row(
    "Now",
    (
        Panel(
            "Refused by a limit",
            "Requests a second that were answered 429 since a limit or a budget was used up.",
            (Query(f"{rate('router_limit_refusals_total', selectors=OF)} or vector(0)"),),
            "reqps",
            kind="stat",
        ),
        Panel(
            "Least left of a budget",
            "Of all budgets of a day or a month that somebody has used, the smallest part that is left.",
            (Query(f'min(router_limit_left_ratio{{@, {OF}, limit=~"day_usd|month_usd"}})'),),
            "percentunit",
            kind="stat",
            decimals=1,
            steps=((None, "red"), (0.1, "orange"), (0.3, "green")),
        ),
        Panel(
            "Spent today",
            "What all attempts of the day in UTC have cost, of those that are in the ledger's store.",
            (Query("sum(max by (instance) (router_ledger_cost_today_usd{@}))"),),
            "currencyUSD",
            kind="stat",
            decimals=2,
        ),
        Panel(
            "Ledger behind",
            "All that had been written so long ago is in the store, at the router that is furthest behind.",
            (Query("max(router_ledger_lag_seconds{@})"),),
            "s",
            kind="stat",
            steps=((None, "green"), (60, "orange"), (300, "red")),
        ),
        Panel(
            "Lost to the ledger",
            "Requests that there was no room to write down, since the routers began. Anything but 0 is a loss.",
            (Query("sum(router_ledger_dropped_total{@})"),),
            kind="stat",
            steps=((None, "green"), (1, "red")),
        ),
        Panel(
            "Routers without Redis",
            "They go on by themselves, as `redis.on_loss` says.",
            (Query("sum(1 - router_redis_up{@})"),),
            kind="stat",
            steps=((None, "green"), (1, "orange")),
        ),
    ),
    across=6,
    height=4,
)

LIMITS: Final = Row(
    "Who runs into what",
    (
        Panel(
            "Refused",
            "Requests a second that were answered 429, by the limit that was reached.",
            (Query(rate("router_limit_refusals_total", "scope, name, limit", OF), "{{scope}} {{name}} {{limit}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Would have been refused",
            "Requests a second that a limit in shadow mode let pass.",
            (Query(rate("router_limit_shadowed_total", "scope, name, limit", OF), "{{scope}} {{name}} {{limit}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "Waited for their part",
            "Requests a second that waited for their part of a limit which workers or routers share.",
            (Query(rate("router_limit_lease_waits_total", "instance"), "{{instance}}"),),
            "reqps",
        ),
        Panel(
            "Left of requests and tokens a minute",
            "Of what may come at one moment. At 0 % the next request is refused.",
            (
                Query(
                    f'min by (scope, name, limit) (router_limit_left_ratio{{@, {OF}, limit=~"rpm|tpm"}})',
                    "{{scope}} {{name}} {{limit}}",
                ),
            ),
            "percentunit",
            maximum=1,
        ),
        Panel(
            "Left of places",
            "Of requests at one time.",
            (
                Query(
                    f'min by (scope, name) (router_limit_left_ratio{{@, {OF}, limit="concurrent"}})',
                    "{{scope}} {{name}}",
                ),
            ),
            "percentunit",
            maximum=1,
        ),
        Panel(
            "Left of budgets",
            "Of the day's and the month's money, UTC.",
            (
                Query(
                    f'min by (scope, name, limit) (router_limit_left_ratio{{@, {OF}, limit=~"day_usd|month_usd"}})',
                    "{{scope}} {{name}} {{limit}}",
                ),
            ),
            "percentunit",
            maximum=1,
        ),
    ),
    across=3,
)

LEDGER: Final = Row(
    "The ledger",
    (
        Panel(
            "Written and stored",
            "Requests a second that were written down, where a kill cannot lose them, and that reached the store.",
            (
                Query(rate("router_ledger_entries_total"), "written"),
                Query(rate("router_ledger_stored_total"), "stored"),
            ),
            "reqps",
        ),
        Panel(
            "Behind",
            "All that had been written so long ago is in the store.",
            (Query("max by (instance) (router_ledger_lag_seconds{@})", "{{instance}}"),),
            "s",
        ),
        Panel(
            "Waiting for the store",
            "Bytes of segments on the disk, and of entries in memory alone, which a kill would lose.",
            (
                Query("max by (instance) (router_ledger_waiting_bytes{@})", "{{instance}} on the disk"),
                Query("sum by (instance) (router_ledger_held_bytes{@})", "{{instance}} in memory"),
            ),
            "bytes",
        ),
        Panel(
            "Lost, and segments set aside",
            "In five minutes.",
            (
                Query("sum by (instance) (increase(router_ledger_dropped_total{@}[5m]))", "{{instance}} requests"),
                Query(
                    "max by (instance) (increase(router_ledger_damaged_segments_total{@}[5m]))", "{{instance}} segments"
                ),
            ),
        ),
    ),
    across=4,
)

REDIS: Final = Row(
    "Limits of several routers",
    (
        Panel(
            "Redis",
            "1: limits are shared through it; 0: a router goes on by itself.",
            (Query("min by (instance) (router_redis_up{@})", "{{instance}}"),),
            maximum=1,
        ),
        Panel(
            "Calls",
            "A second, each for all that was to be asked then.",
            (Query(rate("router_redis_trips_total", "result"), "{{result}}"),),
            "reqps",
            stacked="normal",
        ),
        Panel(
            "The last call took",
            "A request waits for one only where its limit has nothing left at its own router.",
            (Query("max by (instance) (router_redis_trip_seconds{@})", "{{instance}}"),),
            "s",
        ),
    ),
    across=3,
)

DASHBOARD: Final = Dashboard(
    "limits",
    "Inference router: limits, budgets and the ledger",
    "Whether keys get what they were sold and no more, and whether all that was answered is on the books.",
    (NOW, LIMITS, LEDGER, REDIS),
    (Variable("scope", "router_limit_left_ratio{@}"), Variable("name", 'router_limit_left_ratio{@, scope=~"$scope"}')),
)
