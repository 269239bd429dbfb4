"""From a file to a snapshot, or to all of its faults at once."""

import hashlib
import json
import math
import os
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import chain
from types import MappingProxyType

from router.config import check
from router.config.allowances import budget_warnings, read_allowance, read_model_limits
from router.config.changes import check_fixed, fixed
from router.config.clouds import Hosts, read_clouds
from router.config.document import Document
from router.config.faults import ConfigError
from router.config.fleet import check_fleet, read_deployments, read_endpoint, read_timeouts
from router.config.hosts import is_internal
from router.config.ledger import read_ledger
from router.config.policy import read_policy
from router.config.redis import read_redis
from router.config.schedules import ScheduleReader, check_prices, check_reach, check_zones, read_conditions
from router.config.schema import File, WorkloadSection
from router.config.secrets import secret_warnings
from router.config.server import read_server, read_workers
from router.config.settings import check_recording, read_decision_log, read_health, read_limits, read_resilience
from router.config.shape import check_shape
from router.config.snapshot import Phase, ServerSettings, Snapshot, Source, Workload
from router.config.stateful import make_stored_plans
from router.config.system import check_system
from router.config.tls import certificate_warnings
from router.config.tracing import read_tracing
from router.config.traffic import check_aliases, check_key_models, read_keys
from router.config.words import check_name
from router.leasing.settings import RedisSettings
from router.ledger.settings import LedgerSettings
from router.model.fleet import Deployment, Endpoint, Timeouts
from router.model.keys import ApiKey
from router.model.limits import Limits
from router.model.operation import OPERATIONS
from router.model.plan import Plan
from router.model.policy import Policy
from router.placement import Schedule, make_permit, make_plan
from router.telemetry.decision_log import DecisionLogSettings
from router.telemetry.tracing import TracingSettings

Plans = dict[tuple[str, str, str], Plan]


def load(
    path: str | os.PathLike[str],
    environ: Mapping[str, str],
    wall: float | None = None,
    source: Source | None = None,
    running: Snapshot | None = None,
    *,
    divided: bool = True,
) -> Snapshot:
    """Reads and checks a configuration. Raises ConfigError with every fault; there is no half of a snapshot.

    `wall`: the moment, in wall seconds, whose phase the snapshot is to show; left out, the present one.
    `source`: is taken instead of what file and environment hold by now; `path` still is what relative paths start at.
    `running`: what this one is to take over from. `workers: auto` means what it meant there, and what needs a restart
    is a fault, named beside the others.
    `divided`: bounds for all workers are one worker's part; False: they are what the file says, to be compared.
    """
    doc = Document(os.fspath(path), environ, source, running.source.cores if running is not None else None)
    doc.read()
    file, lost = check_shape(doc)
    snapshot = _compose(doc, file, lost, running, divided=divided) if file is not None else None
    if doc.faults or snapshot is None:
        raise ConfigError(doc.faults)
    for phase in snapshot.phases:
        stored = chain.from_iterable(workload.stored.values() for workload in phase.workloads.values())
        check.verify_plans(doc.file, phase.workloads, chain(phase.plans.values(), stored))
    wall = time.time() if wall is None else wall
    warnings = (*snapshot.warnings, *certificate_warnings(snapshot, wall))
    return replace(snapshot, warnings=warnings).seen_at(wall)


def _compose(
    doc: Document, file: File, lost: Collection[str], running: Snapshot | None, *, divided: bool
) -> Snapshot | None:
    """All that the file means, or None. `lost`: the sections that are not whole, for faults of their shape."""
    server, parts = _read_server(doc, file, divided=divided)
    timeouts = read_timeouts(file.timeouts, Timeouts())
    hosts, warnings = read_clouds(doc, file.clouds)
    endpoints, deployments = _read_fleet(doc, file, hosts, timeouts, parts)
    # With a part of the fleet lost nobody can say what is served: one mistake would be named many times.
    sure = "endpoints" not in lost and 0 < len(endpoints) == len(file.endpoints)
    models = frozenset(deployment.model for deployment in deployments.values()) if sure else None
    check_aliases(doc, file.aliases, models)
    model_limits = read_model_limits(doc, file.models, models, file.aliases)
    conditions = read_conditions(doc, file.conditions)
    reader = ScheduleReader(doc, hosts, None if "conditions" in lost else conditions)
    schedules, policies, allowances = _read_workloads(doc, file.workloads, reader)
    whole = None if "workloads" in lost else file.workloads
    keys = read_keys(doc, file.keys, whole, file.aliases, known_by_certificate=file.server.asks_clients)
    health, limits = read_health(doc, file.health), read_limits(doc, file.limits, parts)
    decision_log, ledger, redis, tracing, unsafe = _read_outward(doc, file, whole)
    check_fixed(doc, running, fixed(server, decision_log, ledger, redis, tracing))
    if models is None:
        return None
    warnings += _check_workloads(doc, file.workloads, schedules, endpoints, tuple(deployments.values()))
    if "decision_log" not in lost:
        warnings += check_recording(doc, decision_log, file.workloads)
    warnings += [*reader.warnings(), *unsafe, *secret_warnings(doc, file, endpoints.values())]
    reach = _reach(hosts, endpoints)
    phases = _make_phases(file, schedules, policies, allowances, reach, tuple(deployments.values()))
    _check_keys(doc, file, keys, schedules, phases, models)
    warnings += _endpoint_warnings(endpoints, has_keys=bool(keys) or ledger is not None)
    file_keys = tuple(chain.from_iterable(keys.values()))
    warnings += budget_warnings(file_keys, allowances, model_limits, phases[0].plans.values(), kept=ledger is not None)
    return Snapshot(
        version=_version(file, doc.source()),
        server=server,
        timeouts=timeouts,
        endpoints=MappingProxyType(endpoints),
        deployments=MappingProxyType(deployments),
        workloads=phases[0].workloads,
        keys=MappingProxyType({key.sha256: key for key in file_keys}),
        file_keys=file_keys,
        aliases=MappingProxyType(dict(file.aliases)),
        plans=phases[0].plans,
        health=health,
        retries=read_resilience(file.resilience),
        limits=limits,
        model_limits=MappingProxyType(model_limits),
        hosts=MappingProxyType({cloud: tuple(patterns) for cloud, patterns in reach.items()}),
        decision_log=decision_log,
        ledger=ledger,
        tracing=tracing,
        redis=redis,
        conditions=tuple(conditions.values()),
        since=phases[0].since,
        until=phases[0].until,
        phases=phases,
        warnings=tuple(warnings),
        source=doc.source(),
    )


def _read_server(doc: Document, file: File, *, divided: bool) -> tuple[ServerSettings, int]:
    """The process's own settings, and into how many parts other bounds for all workers are divided."""
    workers = read_workers(doc, file.server)
    check_system(doc, file, workers)
    parts = workers if divided else 1
    return read_server(doc, file.server, workers, parts), parts


def _read_outward(
    doc: Document, file: File, workloads: Collection[str] | None
) -> tuple[DecisionLogSettings | None, LedgerSettings | None, RedisSettings | None, TracingSettings | None, list[str]]:
    """What is kept outside of this process, or sent there, and warnings."""
    decision_log = read_decision_log(doc, file.decision_log)
    ledger, of_ledger = read_ledger(doc, file.ledger)
    redis, of_redis = read_redis(doc, file.redis)
    tracing, of_tracing = read_tracing(doc, file.tracing, workloads)
    return decision_log, ledger, redis, tracing, [*of_ledger, *of_redis, *of_tracing]


def _read_fleet(
    doc: Document, file: File, hosts: Hosts, timeouts: Timeouts, workers: int
) -> tuple[dict[str, Endpoint], dict[str, Deployment]]:
    endpoints: dict[str, Endpoint] = {}
    deployments: dict[str, Deployment] = {}
    for name, section in file.endpoints.items():
        endpoint = read_endpoint(doc, name, section, hosts, timeouts)
        if endpoint is not None:
            endpoints[name] = endpoint
            deployments |= {found.id: found for found in read_deployments(doc, endpoint, section, workers)}
    check_fleet(doc, deployments)
    return endpoints, deployments


def _read_workloads(
    doc: Document, sections: Mapping[str, WorkloadSection], reader: ScheduleReader
) -> tuple[dict[str, Schedule], dict[str, Policy], dict[str, Limits]]:
    schedules: dict[str, Schedule] = {}
    policies: dict[str, Policy] = {}
    allowances: dict[str, Limits] = {}
    for name, section in sections.items():
        check_name(doc, ("workloads", name), name)
        policies[name] = read_policy(doc, name, section)
        allowances[name] = read_allowance(doc, ("workloads", name), section.limits, section.budget)
        schedule = reader.read(name, section)
        if schedule is not None:
            schedules[name] = schedule
    return schedules, policies, allowances


def _check_workloads(
    doc: Document,
    sections: Mapping[str, WorkloadSection],
    schedules: Mapping[str, Schedule],
    endpoints: Mapping[str, Endpoint],
    fleet: tuple[Deployment, ...],
) -> list[str]:
    zones = {endpoint.zone for endpoint in endpoints.values() if endpoint.zone}
    warnings: list[str] = []
    for name, section in sections.items():
        check_zones(doc, name, section.zones or (), zones)
        if name in schedules and not doc.has_fault(("workloads", name, "zones")):
            warnings += check_reach(doc, name, schedules[name], fleet)
            check_prices(doc, name, schedules[name], fleet)
    return warnings


def _check_keys(
    doc: Document,
    file: File,
    keys: Mapping[int, tuple[ApiKey, ...]],
    schedules: Mapping[str, Schedule],
    phases: tuple[Phase, ...],
    models: Collection[str],
) -> None:
    placed: dict[str, set[str]] = {}
    for phase in phases:
        for workload, model, _ in phase.plans:
            placed.setdefault(workload, set()).add(model)
    for index in keys:
        section = file.keys[index]
        assert section is not None  # keys were made of it
        periods = schedules[section.workload].periods if section.workload in schedules else ()
        clouds = {cloud for period in periods for cloud in period.rule.clouds()}
        check_key_models(doc, index, section, clouds, placed.get(section.workload, ()), models)


def _reach(hosts: Hosts, endpoints: Mapping[str, Endpoint]) -> dict[str, list[str]]:
    """All that may be dialled as a cloud: its hosts, and the loopback ports that stand for it."""
    reach = {cloud: list(patterns) for cloud, patterns in hosts.items()}
    for endpoint in endpoints.values():
        if endpoint.emulated:
            reach[endpoint.cloud].append(endpoint.base_url.authority)
    return reach


def _make_phases(
    file: File,
    schedules: Mapping[str, Schedule],
    policies: Mapping[str, Policy],
    allowances: Mapping[str, Limits],
    reach: Mapping[str, list[str]],
    fleet: tuple[Deployment, ...],
) -> tuple[Phase, ...]:
    """All that will hold, in order: cut wherever the rule of any workload changes. Nothing is decided later."""
    cuts = sorted({start for schedule in schedules.values() for start in schedule.starts()} | {-math.inf})
    made: dict[tuple[str, float], tuple[Workload, Plans]] = {}  # by workload and the start of its period
    phases = []
    for since, until in zip(cuts, [*cuts[1:], math.inf], strict=True):
        workloads: dict[str, Workload] = {}
        plans: Plans = {}
        for name, schedule in schedules.items():
            period = schedule.at(since)
            if (name, period.since) not in made:
                rule, policy = period.rule, policies[name]
                workload = Workload(
                    name=name,
                    permit=make_permit(name, rule, reach, schedule),
                    reveal_upstream=file.workloads[name].reveal == "upstream",
                    reason=rule.reason,
                    policy=replace(policy, holder_attempts=rule.holder_attempts) if rule.holder else policy,
                    period=period,
                    schedule=schedule,
                    limits=allowances[name],
                )
                workload = replace(workload, stored=make_stored_plans(workload, fleet))
                made[name, period.since] = workload, _make_plans(workload, fleet)
            workloads[name], own = made[name, period.since]
            plans |= own
        phases.append(Phase(since, until, MappingProxyType(workloads), MappingProxyType(plans)))
    return tuple(phases)


def _make_plans(workload: Workload, fleet: tuple[Deployment, ...]) -> Plans:
    """A plan for all that is served; what is missing here is served nowhere that its workload may go."""
    plans: Plans = {}
    for model in dict.fromkeys(deployment.model for deployment in fleet):
        for operation in OPERATIONS:
            plan = make_plan(workload.permit, workload.period.rule, model, operation, fleet)
            if plan.tiers:
                plans[workload.name, model, operation] = plan
    return plans


def _endpoint_warnings(endpoints: Mapping[str, Endpoint], *, has_keys: bool) -> list[str]:
    warnings: list[str] = []
    for endpoint in endpoints.values():
        path, address = f"endpoints.{endpoint.id}", endpoint.base_url.authority
        if endpoint.emulated:
            warnings.append(f"{path}: {address} is an emulator that stands for {endpoint.cloud}")
        elif not endpoint.base_url.tls:
            warnings.append(f"{path}: {address} is private and spoken to in the clear")
        elif endpoint.private or is_internal(endpoint.base_url.host):
            warnings.append(f"{path}: {address} may be at a private address")
        if endpoint.provider == "openai" and not endpoint.base_url.path:
            warnings.append(f"{path}: its base_url has no path; most compatible servers want /v1")
    if not has_keys:
        warnings.append("keys: there are none, so every request is answered 401")
    return warnings


def _version(file: File, source: Source) -> str:
    """A short hash of what the file means; comments, order of keys and written-out defaults make no difference.

    A certificate that was renewed does: its files are named as before.
    """
    meaning = json.dumps([file.model_dump(mode="json"), dict(source.files)], sort_keys=True)
    return hashlib.sha256(meaning.encode()).hexdigest()[:12]
