"""Permits and plans, made once when the configuration loads."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from router.model.fleet import Deployment
from router.model.plan import Permit, Plan, Removed
from router.placement.rules import Rule
from router.placement.schedule import Schedule


def make_permit(
    workload: str, rule: Rule, hosts: Mapping[str, Iterable[str]], schedule: Schedule | None = None
) -> Permit:
    """What a workload's bytes may reach while `rule` holds. `hosts`: by cloud, all that it may be dialled at.

    The rule version is a short hash over all that the rule means: another cloud, another order, another zone, another
    host that counts as the cloud, another window of its `schedule` or a condition that was declared met gives another
    version, and so do logs and decisions made under it.
    """
    clouds = rule.clouds()
    meaning = [
        rule.meaning(),
        {cloud: sorted(set(hosts.get(cloud, ()))) for cloud in sorted(clouds)},
        schedule.clause.meaning() if schedule is not None else [],
    ]
    digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
    return Permit(workload, clouds, rule_version=digest[:12])


def make_plan(permit: Permit, rule: Rule, model: str, operation: str, fleet: Sequence[Deployment]) -> Plan:
    """The tiers of one workload for one canonical model and operation; no tiers: nothing that is allowed serves it."""
    able = [deployment for deployment in fleet if deployment.model == model and operation in deployment.operations]
    tiers = rule.tiers(able)
    placed = {deployment.id for tier in tiers for deployment in tier}
    return Plan(
        workload=permit.workload,
        model=model,
        operation=operation,
        tiers=tiers,
        permit=permit,
        reason=rule.reason,
        holder=rule.holder,
        holder_tiers=sum(any(each.cloud == rule.holder for each in tier) for tier in tiers),
        prefer=rule.prefer,
        removed=tuple(Removed(each, rule.objection(each)) for each in able if each.id not in placed),
    )
