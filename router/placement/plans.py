"""Permits and plans, made once when the configuration loads."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from router.model.fleet import Deployment
from router.model.plan import Permit, Plan
from router.placement.rules import Rule


def make_permit(workload: str, rule: Rule, hosts: Mapping[str, Iterable[str]]) -> Permit:
    """What a workload's bytes may reach. `hosts`: by cloud, all that it may be dialled at.

    The rule version is a short hash over all that the rule means: another cloud, another order or another host
    that counts as the cloud gives another version, and so do logs and decisions made under it.
    """
    clouds = rule.clouds()
    meaning = [rule.reason, {cloud: sorted(set(hosts.get(cloud, ()))) for cloud in sorted(clouds)}]
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
    return Permit(workload, clouds, rule_version=digest[:12])


def make_plan(permit: Permit, rule: Rule, model: str, operation: str, fleet: Sequence[Deployment]) -> Plan:
    """The tiers of one workload for one canonical model and operation; no tiers: nothing that is allowed serves it."""
    able = [deployment for deployment in fleet if deployment.model == model and operation in deployment.operations]
    return Plan(permit.workload, model, operation, rule.tiers(able), permit, rule.reason)
