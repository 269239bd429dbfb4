"""What one process adds to its numbers for the console: its plans, its verdicts, its last requests."""

from math import inf
from typing import Final

from router.admin.picture import Brief, Placing, Scene, Stand, Standing
from router.model.outcome import RequestRecord
from router.proxy.backend import Backend
from router.proxy.runtime import Runtime
from router.telemetry.recent import Recent

BRIEFS: Final = 30  # requests of each list


def scene_of(rt: Runtime, recent: Recent, now: float) -> Scene:
    """`now`: monotonic seconds. What it costs grows with the fleet, and is the same whatever the traffic."""
    snapshot, log = rt.snapshot, rt.snapshot.decision_log
    return Scene(
        config_version=snapshot.version,
        decision_log=log is not None,
        signed=log is not None and log.signing_key is not None,
        workloads=_placings(rt),
        deployments=[_stand(backend, now) for backend in rt.fleet.backends.values()],
        recent=[_brief(record) for record in recent.newest(BRIEFS)],
        notable=[_brief(record) for record in recent.newest(BRIEFS, _is_notable)],
    )


def _placings(rt: Runtime) -> list[Placing]:
    models: dict[str, dict[str, dict[str, None]]] = {name: {} for name in rt.snapshot.workloads}
    for (workload, model, _), plan in rt.fleet.plans.items():
        models[workload].setdefault(model, {}).update((target.id, None) for target in plan.targets())
    return [
        Placing(
            name=name,
            rule=workload.reason,
            rule_version=workload.permit.rule_version,
            clouds=sorted(workload.permit.clouds),
            models={model: list(targets) for model, targets in models[name].items()},
        )
        for name, workload in rt.snapshot.workloads.items()
    ]


def _stand(backend: Backend, now: float) -> Stand:
    deployment, verdict = backend.deployment, backend.verdict(now)
    return Stand(
        id=deployment.id,
        cloud=deployment.cloud,
        region=deployment.endpoint.region,
        model=deployment.model,
        standing=Standing(
            state=verdict.state.value,
            reason=verdict.reason,
            for_s=max(0.0, verdict.until - now) if verdict.until != inf else None,
        ),
        refusal=backend.refusal(now),
        draining=backend.draining,
    )


def _is_notable(record: RequestRecord) -> bool:
    return record.outcome != "ok" or bool(record.refusals)


def _brief(record: RequestRecord) -> Brief:
    return Brief(
        id=record.id,
        at=record.at + record.total_ms / 1000,
        key=record.key,
        workload=record.workload,
        model=record.model,
        operation=record.operation,
        outcome=record.outcome,
        status=record.status,
        code=record.code,
        cloud=record.cloud,
        served_by=record.served_by,
        left_holder=record.left_holder,
        attempts=len(record.attempts),
        refusals=[(offer.deployment, offer.cloud, offer.outcome) for offer in record.refusals],
        first_byte_ms=record.first_byte_ms,
        total_ms=record.total_ms,
    )
