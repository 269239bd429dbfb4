"""How a dashboard of Grafana is put together: rows of panels, laid out from left to right, each of a few kinds.

In an expression `@` stands for the selectors of every query: the job and instances that were chosen above the panels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

SCOPE: Final = 'job=~"$job", instance=~"$instance"'
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSION: Final = 42  # what Grafana 13 writes; older ones load it, and ignore what they do not know
COLUMNS: Final = 24
TAG: Final = "inference-router"

# The same word has the same colour on every panel: what is well, a client's doing, capacity, a cloud's fault, our bug.
COLOURS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ok", "served", "up", "closed"), "green"),
    **dict.fromkeys(("client_error", "answered", "degraded", "probing", "recovering"), "yellow"),
    **dict.fromkeys(("client_gone", "hedge_lost", "draining", "unknown"), "text"),
    **dict.fromkeys(("throttled", "over_quota", "refused"), "orange"),
    **dict.fromkeys(("upstream_error", "server_error", "failed", "unhealthy", "ejected", "open"), "red"),
    **dict.fromkeys(("stream_broken", "broken"), "dark-red"),
    **dict.fromkeys(("internal_error", "violation"), "purple"),
}
# The words that name series by themselves.
OUTCOMES: Final[Mapping[str, Sequence[str]]] = {
    "router_requests_total": (
        *("ok", "client_error", "client_gone", "refused", "upstream_error", "stream_broken", "internal_error"),
    ),
    "router_attempts_total": (
        *("served", "answered", "client_gone", "hedge_lost", "throttled", "server_error", "broken", "violation"),
    ),
    "router_offers_total": ("draining", "throttled", "over_quota", "unhealthy", "failed"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """`legend`: what a series is called, by its labels: `{{cloud}}`. `exemplars`: of a histogram, as dots."""

    expr: str
    legend: str = ""
    exemplars: bool = False

    def json(self, ref: str, *, instant: bool = False, form: str = "time_series") -> Json:
        return {
            "datasource": SOURCE,
            "refId": ref,
            "editorMode": "code",
            "expr": scoped(self.expr),
            "legendFormat": self.legend or "__auto",
            "format": form,
            "instant": instant,
            "range": not instant,
            "exemplar": self.exemplars,
        }


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `width`: of 24 columns; 0: what its row gives. `steps`: (from, colour), for numbers and lines."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    width: int = 0
    kind: str = "timeseries"
    stacked: str = ""  # `normal`, or `percent`
    steps: tuple[tuple[float | None, str], ...] = ()
    decimals: int | None = None
    maximum: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  # of a table: label or `Value` -> heading
    words: tuple[str, ...] = ()  # of a timeline: what 1, 2, 3 … mean

    def json(self, number: int, place: Json) -> Json:
        form = {"heatmap": "heatmap", "table": "table"}.get(self.kind, "time_series")
        instant = self.kind in ("stat", "table")
        queries = self.queries
        if (
            self.kind == "stat"
        ):  # ratios of a quiet fleet are 0 / 0: what is compared with 0 is left out, not shown as NaN
            queries = tuple(replace(query, expr=f"({query.expr}) >= 0") for query in queries)
        targets = [query.json(chr(65 + n), instant=instant, form=form) for n, query in enumerate(queries)]
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": place,
            "targets": targets,
            "fieldConfig": {"defaults": self._defaults(), "overrides": self._colours()},
            "options": _OPTIONS[self.kind],
            **({"transformations": self._transformations()} if self.kind == "table" else {}),
        }

    def _defaults(self) -> Json:
        steps = self.steps or ((None, "text" if self.kind == "stat" else "green"),)
        defaults: Json = {
            "unit": self.unit,
            "min": 0,
            "color": {"mode": "thresholds" if self.kind in ("stat", "state-timeline") else "palette-classic"},
            "thresholds": {
                "mode": "absolute",
                "steps": [{"value": start, "color": colour} for start, colour in steps],
            },
            "custom": self._drawing(),
            "noValue": "–",
        }
        if self.words:
            shown = {str(n): {"text": word, "color": COLOURS[word], "index": n} for n, word in enumerate(self.words, 1)}
            defaults["mappings"] = [{"type": "value", "options": shown}]
        if self.decimals is not None:
            defaults["decimals"] = self.decimals
        if self.maximum is not None:
            defaults["max"] = self.maximum
        return defaults

    def _drawing(self) -> Json:
        if self.kind == "state-timeline":
            return {"fillOpacity": 80, "lineWidth": 0}
        if self.kind != "timeseries":
            return {}
        return {
            "lineWidth": 1,
            "fillOpacity": 35 if self.stacked else 8,
            "showPoints": "never",
            "spanNulls": 60_000,  # milliseconds: a scrape that was missed is no gap
            "stacking": {"mode": self.stacked or "none"},
            "thresholdsStyle": {"mode": "dashed" if self.steps else "off"},
        }

    def _colours(self) -> list[Json]:
        """Fixed colours, where a series is named by its outcome alone."""
        named = [query.expr for query in self.queries if query.legend == "{{outcome}}"]
        words = [word for metric, words in OUTCOMES.items() for word in words if any(metric in expr for expr in named)]
        return [
            {
                "matcher": {"id": "byName", "options": word},
                "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": COLOURS[word]}}],
            }
            for word in words
        ]

    def _transformations(self) -> list[Json]:
        hidden = {"Time": True, "Value": "Value" not in self.columns}
        order = {name: place for place, name in enumerate(self.columns)}
        organised = {"excludeByName": hidden, "indexByName": order, "renameByName": dict(self.columns)}
        return [{"id": "organize", "options": organised}]


_LEGEND: Final = {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]}
_OPTIONS: Final[Mapping[str, Json]] = {
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "stat": {
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
        "wideLayout": True,
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    },
    "state-timeline": {
        "mergeValues": True,
        "showValue": "never",
        "rowHeight": 0.85,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False, "calcs": []},
        "tooltip": {"mode": "single", "sort": "none"},
    },
    "heatmap": {
        "calculate": False,
        "color": {
            "mode": "scheme",
            "scheme": "Turbo",
            "reverse": False,
            "steps": 64,
            "fill": "dark-orange",
            "scale": "exponential",
            "exponent": 0.5,
        },
        "yAxis": {"unit": "s", "axisPlacement": "left"},
        "cellGap": 1,
        "legend": {"show": True},
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "tooltip": {"mode": "single", "yHistogram": True, "showColorScale": True},
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
}


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a title, so many `across`, and on the next line what does not fit."""

    title: str
    panels: tuple[Panel, ...]
    across: int
    height: int = 9


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice above the panels: the values that a label of a metric has."""

    name: str
    metric: str
    label: str = ""
    many: bool = True

    def json(self) -> Json:
        query = f"label_values({scoped(self.metric)}, {self.label or self.name})"
        return {
            "type": "query",
            "name": self.name,
            "label": self.name.capitalize(),
            "datasource": SOURCE,
            "query": {"query": query, "refId": f"Variable-{self.name}"},
            "refresh": 2,  # whenever the time range changes: what has gone is not offered any more
            "sort": 1,
            "multi": self.many,
            "includeAll": self.many,
            "current": {"text": ["All"], "value": ["$__all"]} if self.many else {},
        }


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page."""

    name: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()

    def json(self) -> Json:
        source: Json = {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
        scope = (
            Variable("job", "router_build_info"),
            Variable("instance", 'router_build_info{job=~"$job"}'),
        )
        return {
            "uid": f"{TAG}-{self.name}",
            "title": self.title,
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": SCHEMA_VERSION,
            "editable": True,
            "graphTooltip": 1,  # one crosshair over all panels
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "timezone": "browser",
            "links": [_links()],
            "annotations": {"list": _annotations()},
            "templating": {"list": [source, *(variable.json() for variable in (*scope, *self.variables))]},
            "panels": self._panels(),
        }

    def _panels(self) -> list[Json]:
        panels: list[Json] = []
        top = 0
        for row in self.rows:
            place = {"x": 0, "y": top, "w": COLUMNS, "h": 1}
            panels.append({"id": len(panels) + 1, "type": "row", "title": row.title, "gridPos": place, "panels": []})
            top += 1
            left = 0
            for panel in row.panels:
                width = panel.width or COLUMNS // row.across
                if left + width > COLUMNS:
                    left, top = 0, top + row.height
                place = {"x": left, "y": top, "w": width, "h": row.height}
                panels.append(panel.json(len(panels) + 1, place))
                left += width
            top += row.height
        return panels


def _links() -> Json:
    """The other dashboards, with the same choices and time."""
    return {
        "type": "dashboards",
        "title": "Inference router",
        "tags": [TAG],
        "icon": "dashboard",
        "tooltip": "",
        "targetBlank": False,
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
    }


def _annotations() -> list[Json]:
    loaded = scoped("router_config_loaded_timestamp_seconds{@}") + " * 1000"
    firing = 'ALERTS{alertname=~"Router.*", alertstate="firing", severity="page", job=~"$job"}'
    return [
        _annotation("Configuration loaded", loaded, "blue", "{{instance}}", at_value=True),
        _annotation("Pages", firing, "red", "{{alertname}}"),
    ]


def _annotation(name: str, expr: str, colour: str, text: str, *, at_value: bool = False) -> Json:
    """A line across all panels, at the times when `expr` has a value, or that its value says (Unix milliseconds)."""
    return {
        "name": name,
        "datasource": SOURCE,
        "enable": True,
        "iconColor": colour,
        "target": {"refId": "Annotation", "expr": expr},
        "titleFormat": name,
        "textFormat": text,
        "useValueForTime": at_value,
    }


def scoped(expr: str) -> str:
    return expr.replace("@", SCOPE)


def quantile(share: float, metric: str, by: str = "", selectors: str = "") -> str:
    """The expression for a quantile of a histogram, for each of the labels `by`."""
    labels = f"le, {by}" if by else "le"
    where = f"@, {selectors}" if selectors else "@"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{{{where}}}[$__rate_interval])))"


def quantiles(metric: str, selectors: str = "", shares: Sequence[float] = (0.5, 0.9, 0.99)) -> tuple[Query, ...]:
    """Quantiles over all series that are chosen, the last one with its exemplars."""
    return tuple(
        Query(quantile(share, metric, selectors=selectors), f"p{share * 100:g}", exemplars=share == shares[-1])
        for share in shares
    )


def states(metric: str, words: Sequence[str], by: str, selectors: str = "") -> Query:
    """Of a gauge that is 1 for one word and 0 for the others: that word's number, the worst where routers differ."""
    where = f"@, {selectors}" if selectors else "@"
    each = (f'{n} * ({metric}{{{where}, state="{word}"}} > bool 0)' for n, word in enumerate(words, 1))
    return Query(f"max by ({by}) ({' or '.join(each)})", f"{{{{{by}}}}}")


def rate(metric: str, by: str = "", selectors: str = "") -> str:
    """The expression for events a second, for each of the labels `by`."""
    where = f"@, {selectors}" if selectors else "@"
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}{{{where}}}[$__rate_interval]))"
