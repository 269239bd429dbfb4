"""One picture of several workers: sums of what they count, the gravest of what they judge."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

# From what keeps no request away to what keeps all of them away. `unknown` knows least of all.
GRAVITY: Final = ("unknown", "up", "degraded", "probing", "throttled", "ejected", "draining")

Status = Mapping[str, Any]  # as `Worker.status` makes it


def merged_status(parts: Mapping[int, Status]) -> dict[str, object]:
    """What the workers (by their number) say as one. Beside a deployment's gravest verdict stands whose it is."""
    statuses = list(parts.values())
    return {
        "draining": any(status["draining"] for status in statuses),
        "client_connections": sum(status["client_connections"] for status in statuses),
        "in_flight": _sums(status["in_flight"] for status in statuses),
        "placement_violations": sum(status["placement_violations"] for status in statuses),
        "decisions": _sums(status["decisions"] for status in statuses),
        "waiting": sum(status["waiting"] for status in statuses),
        "workloads": _workloads(statuses),
        "deployments": _deployments(parts),
    }


def _sums(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for each in counts:
        for name, count in each.items():
            sums[name] = sums.get(name, 0) + count
    return sums


def _workloads(statuses: Iterable[Status]) -> dict[str, object]:
    """Servable where any worker can serve it: connections meet them all."""
    models: dict[str, dict[str, bool]] = {}
    for status in statuses:
        for name, told in status["workloads"].items():
            known = models.setdefault(name, {})
            for model, up in told["models"].items():
                known[model] = known.get(model, False) or up
    return {name: {"servable": any(known.values()), "models": known} for name, known in models.items()}


def _deployments(parts: Mapping[int, Status]) -> list[dict[str, object]]:
    told: dict[str, list[tuple[int, Status]]] = {}
    for worker, status in parts.items():
        for deployment in status["deployments"]:
            told.setdefault(deployment["id"], []).append((worker, deployment))
    return [_deployment(each) for each in told.values()]


def _deployment(told: list[tuple[int, Status]]) -> dict[str, object]:
    worker, gravest = max(told, key=lambda each: _gravity(each[1]))
    return {
        **gravest,
        "available": all(each["available"] for _, each in told),
        "worker": worker,
        "in_flight_max": sum(each["in_flight_max"] for _, each in told),
        "in_flight": sum(each["in_flight"] for _, each in told),
        "connections": _sums(each["connections"] for _, each in told),
    }


def _gravity(deployment: Status) -> tuple[bool, int, float]:
    """What is not available is graver than what is; of the same verdict, the longer one."""
    verdict = deployment["verdict"]
    left_s = verdict["for_s"]
    return not deployment["available"], GRAVITY.index(verdict["state"]), left_s if left_s is not None else 0.0
