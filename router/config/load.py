"""From a file to a snapshot, or to all of its faults at once."""

import hashlib
import json
import os
from collections.abc import Collection, Mapping
from types import MappingProxyType

from router.config import check
from router.config.auth import written_secrets
from router.config.clouds import Hosts, read_clouds
from router.config.document import Document
from router.config.faults import ConfigError
from router.config.fleet import check_fleet, read_deployments, read_endpoint, read_timeouts
from router.config.hosts import is_internal
from router.config.schema import File
from router.config.server import read_server
from router.config.shape import check_shape
from router.config.snapshot import Snapshot, Workload
from router.config.traffic import check_aliases, check_key_models, check_workload, read_keys, read_rule
from router.config.words import check_name
from router.model.fleet import Deployment, Endpoint, Timeouts
from router.model.keys import ApiKey
from router.model.operation import OPERATIONS
from router.model.plan import Plan
from router.placement import Rule, make_permit, make_plan


def load(path: str | os.PathLike[str], environ: Mapping[str, str]) -> Snapshot:
    """Reads and checks a configuration. Raises ConfigError with every fault; there is no half of a snapshot."""
    doc = Document(os.fspath(path), environ)
    doc.read()
    file, lost = check_shape(doc)
    snapshot = _compose(doc, file, lost) if file is not None else None
    if doc.faults or snapshot is None:
        raise ConfigError(doc.faults)
    check.verify_plans(doc.file, snapshot.workloads, snapshot.plans.values())
    return snapshot


def _compose(doc: Document, file: File, lost: Collection[str]) -> Snapshot | None:
    """All that the file means, or None. `lost`: the sections that are not whole, for faults of their shape."""
    server = read_server(doc, file.server)
    timeouts = read_timeouts(file.timeouts, Timeouts())
    if file.conditions:
        doc.fault(("conditions",), "are not in this version yet: they would not act, so the file is refused")
    hosts, warnings = read_clouds(doc, file.clouds)
    endpoints, deployments = _read_fleet(doc, file, hosts, timeouts)
    # With a part of the fleet lost nobody can say what is served: one mistake would be named many times.
    sure = "endpoints" not in lost and 0 < len(endpoints) == len(file.endpoints)
    models = frozenset(deployment.model for deployment in deployments.values()) if sure else None
    check_aliases(doc, file.aliases, models)
    rules = _read_rules(doc, file, hosts)
    keys = read_keys(doc, file.keys, None if "workloads" in lost else file.workloads, file.aliases)
    if models is None:
        return None

    clouds = {deployment.cloud for deployment in deployments.values()}
    for name, rule in rules.items():
        warnings += check_workload(doc, name, rule, clouds)
    reach = _reach(hosts, endpoints)
    workloads = {
        name: Workload(name, make_permit(name, rule, reach), file.workloads[name].reveal == "upstream", rule.reason)
        for name, rule in rules.items()
    }
    plans = _make_plans(rules, workloads, deployments)
    for index, key in keys.items():
        placed = {model for workload, model, _ in plans if workload == key.workload}
        section = file.keys[index]
        assert section is not None  # a key was made of it
        check_key_models(doc, index, section, rules.get(key.workload), placed, models)
    warnings += _endpoint_warnings(doc, endpoints, keys)
    if server is None:
        return None
    return Snapshot(
        version=_version(file),
        server=server,
        timeouts=timeouts,
        endpoints=MappingProxyType(endpoints),
        deployments=MappingProxyType(deployments),
        workloads=MappingProxyType(workloads),
        keys=MappingProxyType({key.sha256: key for key in keys.values()}),
        aliases=MappingProxyType(dict(file.aliases)),
        plans=MappingProxyType(plans),
        warnings=tuple(warnings),
    )


def _read_fleet(
    doc: Document, file: File, hosts: Hosts, timeouts: Timeouts
) -> tuple[dict[str, Endpoint], dict[str, Deployment]]:
    endpoints: dict[str, Endpoint] = {}
    deployments: dict[str, Deployment] = {}
    for name, section in file.endpoints.items():
        endpoint = read_endpoint(doc, name, section, hosts, timeouts)
        if endpoint is not None:
            endpoints[name] = endpoint
            deployments |= {found.id: found for found in read_deployments(doc, endpoint, section)}
    check_fleet(doc, deployments)
    return endpoints, deployments


def _read_rules(doc: Document, file: File, hosts: Hosts) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for name, section in file.workloads.items():
        check_name(doc, ("workloads", name), name)
        rule = read_rule(doc, name, section.placement, hosts)
        if rule is not None:
            rules[name] = rule
    return rules


def _reach(hosts: Hosts, endpoints: Mapping[str, Endpoint]) -> dict[str, list[str]]:
    """All that may be dialled as a cloud: its hosts, and the loopback ports that stand for it."""
    reach = {cloud: list(patterns) for cloud, patterns in hosts.items()}
    for endpoint in endpoints.values():
        if endpoint.emulated:
            reach[endpoint.cloud].append(endpoint.base_url.authority)
    return reach


def _make_plans(
    rules: Mapping[str, Rule], workloads: Mapping[str, Workload], deployments: Mapping[str, Deployment]
) -> dict[tuple[str, str, str], Plan]:
    """A plan for all that is served; what is missing here is served nowhere that its workload may go."""
    fleet = tuple(deployments.values())
    plans: dict[tuple[str, str, str], Plan] = {}
    for name, rule in rules.items():
        for model in dict.fromkeys(deployment.model for deployment in fleet):
            for operation in OPERATIONS:
                plan = make_plan(workloads[name].permit, rule, model, operation, fleet)
                if plan.tiers:
                    plans[name, model, operation] = plan
    return plans


def _endpoint_warnings(doc: Document, endpoints: Mapping[str, Endpoint], keys: Mapping[int, ApiKey]) -> list[str]:
    warnings: list[str] = []
    for endpoint in endpoints.values():
        path, address = f"endpoints.{endpoint.id}", endpoint.base_url.authority
        if endpoint.emulated:
            warnings.append(f"{path}: {address} is an emulator that stands for {endpoint.cloud}")
        elif not endpoint.base_url.tls:
            warnings.append(f"{path}: {address} is private and spoken to in the clear")
        elif endpoint.private or is_internal(endpoint.base_url.host):
            warnings.append(f"{path}: {address} may be at a private address")
        if not endpoint.emulated:
            warnings += [
                f"{path}.auth.{key}: the secret stands in the file: write it as ${{NAME}} or file:PATH"
                for key in written_secrets(doc, endpoint)
            ]
        if endpoint.provider == "openai" and not endpoint.base_url.path:
            warnings.append(f"{path}: its base_url has no path; most compatible servers want /v1")
    if not keys:
        warnings.append("keys: there are none, so every request is answered 401")
    return warnings


def _version(file: File) -> str:
    """A short hash of what the file means; comments, order of keys and written-out defaults make no difference."""
    meaning = json.dumps(file.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(meaning.encode()).hexdigest()[:12]
