"""The live fleet in numbers: what is a state and not a request's doing, as it is at this moment."""

from typing import Final

from router.config.stateful import STATE
from router.health.breaker import Phase
from router.health.verdict import State
from router.proxy.backend import Backend
from router.proxy.fleet import Fleet
from router.proxy.limiting import Limiting
from router.telemetry import names
from router.telemetry.reading import Labels, Number, Numbers

_STATES: Final = tuple(state.value for state in State)
_PHASES: Final = tuple(phase.value for phase in Phase)


def fleet_numbers(fleet: Fleet, now: float) -> Numbers:
    """Of all deployments, workloads and queues. `now`: monotonic seconds."""
    traffic = fleet.traffic
    return {
        **_deployment_numbers(list(fleet.backends.values()), now),
        names.RETRIES.name: {(name,): workload.retried for name, workload in traffic.items()},
        names.HEDGES.name: {(name,): workload.hedged for name, workload in traffic.items()},
        names.RETRY_BUDGET.name: {(name,): workload.retries.left(now) for name, workload in traffic.items()},
        names.WAITING.name: {(model or STATE,): len(queue) for model, queue in fleet.queues.items()},
    }


def limit_numbers(limits: Limiting) -> Numbers:
    """Of all limits that were used since the start."""
    gates = limits.gates.values()
    return {
        names.LIMIT_REFUSALS.name: {(gate.scope, gate.name, gate.limit): gate.refused for gate in gates},
        names.LIMIT_SHADOWED.name: {(gate.scope, gate.name, gate.limit): gate.shadowed for gate in gates},
        names.LIMIT_LEASE_WAITS.name: {(): limits.waits},
    }


def limits_left(limits: Limiting, now: float) -> Numbers:
    """How much is left of them, where this process is the one that knows."""
    left: dict[Labels, Number] = {
        (gate.scope, gate.name, gate.limit): min(1.0, max(0.0, gate.left(now) / gate.full))
        for gate in limits.gates.values()
    }
    return {names.LIMIT_LEFT.name: left}


def _deployment_numbers(backends: list[Backend], now: float) -> Numbers:
    numbers: Numbers = {
        names.ATTEMPTS_IN_FLIGHT.name: {(b.deployment.id,): b.in_flight for b in backends},
        names.IN_FLIGHT_MAX.name: {(b.deployment.id,): int(b.in_flight_max(now)) for b in backends},
        names.QUOTA_AVOIDED.name: {(b.deployment.id,): b.avoided for b in backends},
        names.UPSTREAM_DIALS.name: {(b.deployment.id,): b.pool.dials for b in backends},
        names.UPSTREAM_REUSES.name: {(b.deployment.id,): b.pool.reuses for b in backends},
        names.UPSTREAM_DIAL_FAILURES.name: {
            (b.deployment.id, reason): count for b in backends for reason, count in b.pool.failures.items()
        },
    }
    connections = numbers[names.UPSTREAM_CONNECTIONS.name] = {}
    available = numbers[names.DEPLOYMENT_AVAILABLE.name] = {}
    verdicts = numbers[names.VERDICT.name] = {}
    breakers = numbers[names.BREAKER_STATE.name] = {}
    quotas = numbers[names.QUOTA_LEFT.name] = {}
    for backend in backends:
        deployment, cloud = backend.deployment.id, backend.deployment.cloud
        connections[deployment, "idle"] = backend.pool.idle
        connections[deployment, "busy"] = backend.pool.busy
        available[deployment, cloud] = int(not backend.refusal(now))
        verdict, phase = backend.verdict(now).state.value, backend.health.phase(now).value
        for state in _STATES:
            verdicts[deployment, cloud, state] = int(state == verdict)
        for state in _PHASES:
            breakers[deployment, cloud, state] = int(state == phase)
        if backend.quota.twin is not None:
            for limit, left in backend.quota.twin.left_ratios(now):
                quotas[deployment, limit] = left
    return numbers
