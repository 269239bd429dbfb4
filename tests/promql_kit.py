"""What an expression of PromQL asks for, held against what the router has: metrics, labels, and the words they take."""

import enum
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from router.admin.control import Refusal
from router.health.breaker import Phase
from router.health.verdict import State
from router.model.decision import ACCEPTED, REFUSALS
from router.model.outcome import AttemptRecord, RequestRecord
from router.telemetry.metrics import NO_CLOUD, UNKNOWN
from router.telemetry.names import METRICS, Kind

ROOT: Final = Path(__file__).parents[1]
RULES: Final = ROOT / "config" / "prometheus"

_OF_A_TARGET: Final = {"job", "instance"}
_FOREIGN: Final = {  # of Prometheus itself, and of any process
    "ALERTS": {"alertname", "alertstate", "severity", *_OF_A_TARGET},
    "up": _OF_A_TARGET,
    **dict.fromkeys(("process_cpu_seconds_total", "process_resident_memory_bytes"), _OF_A_TARGET),
    **dict.fromkeys(("process_open_fds", "process_max_fds"), _OF_A_TARGET),
}
_WORDS_OF_THE_LANGUAGE: Final = frozenset(
    [
        "sum",
        "min",
        "max",
        "avg",
        "count",
        "rate",
        "increase",
        "changes",
        "absent",
        "vector",
        "histogram_quantile",
        "round",
        "min_over_time",
        "max_over_time",
        "avg_over_time",
        "and",
        "or",
        "unless",
        "bool",
    ]
)


def read_yaml(file: Path) -> Any:
    return YAML(typ="safe").load(file.read_text("utf-8"))


def rules(file: str) -> list[dict[str, Any]]:
    return [rule for group in read_yaml(RULES / file)["groups"] for rule in group["rules"]]


ALERTS: Final[dict[str, dict[str, Any]]] = {rule["alert"]: rule for rule in rules("alerts.yml")}
RECORDED: Final[dict[str, dict[str, Any]]] = {rule["record"]: rule for rule in rules("recording.yml")}


def known_series() -> dict[str, set[str]]:
    """All names that an expression may ask for, each with its labels."""
    series = {name: set(labels) for name, labels in _FOREIGN.items()}
    for metric in METRICS:
        labels = {*metric.labels, *_OF_A_TARGET}
        if metric.kind is Kind.HISTOGRAM:
            series |= {f"{metric.name}_bucket": {*labels, "le"}}
            series |= {f"{metric.name}_{part}": labels for part in ("sum", "count")}
        else:
            series[metric.name] = labels
    words = {label for metric in METRICS for label in metric.labels}
    for name in RECORDED:
        level = name.split(":")[0]
        series[name] = {"job", *(label for label in words if f"_{label}_" in f"_{level}_")}
    return series


def _outcomes(record: type) -> set[str]:
    found = re.search(r"`outcome`: (.*)\Z", record.__doc__ or "", re.DOTALL)
    assert found is not None
    return set(re.findall(r"`(\w+)`", found[1]))


def _values(words: type[enum.Enum]) -> set[str]:
    return {word.value for word in words}


# Labels whose words the code fixes; those of the others come from a configuration, beside the two that stand for none.
_WORDS: Final[dict[tuple[str, str], set[str]]] = {
    ("router_requests_total", "outcome"): _outcomes(RequestRecord),
    ("router_attempts_total", "outcome"): _outcomes(AttemptRecord),
    ("router_offers_total", "outcome"): {ACCEPTED, *REFUSALS},
    ("router_deployment_verdict", "state"): _values(State),
    ("router_breaker_state", "state"): _values(Phase),
    ("router_reloads_total", "result"): {"ok", "refused"},
    ("router_reloads_total", "reason"): {"", *_values(Refusal)},
    ("router_limit_left_ratio", "limit"): {"rpm", "tpm", "concurrent", "day_usd", "month_usd"},
    ("router_log_buffered_bytes", "log"): {"access", "decisions"},
}


def faults(expr: str) -> Iterator[str]:
    """What an expression names that is not there."""
    known = known_series()
    grouping = re.compile(r"\b(?:by|on|ignoring|group_left|group_right|without)\s*\(([^)]*)\)")
    grouped = {label for labels in grouping.findall(expr) for label in re.findall(r"\w+", labels)}
    bare = re.sub(r"\[[^\]]*\]", "", grouping.sub("", expr))
    asked: set[str] = set()
    for name, braces in re.findall(r"([A-Za-z_:][\w:]*)\s*(\{[^}]*\})?", bare):
        if name in _WORDS_OF_THE_LANGUAGE:
            continue
        if name not in known:
            yield f"{name} is no metric"
            continue
        asked |= known[name]
        for label, value in re.findall(r'(\w+)\s*[=!]~?\s*"([^"]*)"', braces):
            yield from _label_faults(name, label, value, known[name])
    yield from (f"{label} in a grouping is no label of any metric beside it" for label in sorted(grouped - asked))


def _label_faults(name: str, label: str, value: str, labels: set[str]) -> Iterator[str]:
    if label not in labels:
        yield f"{name} has no label {label}"
    elif not value.startswith("$") and label not in ("job", "instance", "alertname", "alertstate", "severity"):
        words = _WORDS.get((name, label), {NO_CLOUD, UNKNOWN})
        yield from (f"{label} of {name} is never {word}" for word in value.split("|") if word not in words)
