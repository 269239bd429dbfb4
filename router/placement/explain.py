"""Why a request would go where it goes, as plain JSON values: for people, and in their words."""

from collections.abc import Mapping

from router.model.fleet import Deployment
from router.model.plan import Plan
from router.placement.schedule import Condition, Period, Schedule, written


def explain(
    plan: Plan, period: Period, schedule: Schedule, refusals: Mapping[str, str] | None = None
) -> dict[str, object]:
    """The candidates of a plan in their order, what keeps every other deployment out, and how long the rule holds.

    `refusals`: by `Deployment.id`, why each would not be asked now (empty: it would); None where nobody knows, and
    then each `refusal` is null. A moment that never comes, or always was, is null.
    """
    rule = period.rule
    return {
        "rule": plan.reason,
        "rule_version": plan.permit.rule_version,
        "clouds": sorted(plan.permit.clouds),
        "zones": sorted(rule.zones),
        "holder": plan.holder,
        "holder_attempts": rule.holder_attempts,
        "prefer": plan.prefer.value,
        "window": _window(period),
        "schedule": [{"rule": each.rule.reason, **_window(each)} for each in schedule.periods],
        "tiers": [
            {
                "of_the_holder": number < plan.holder_tiers,
                "deployments": [
                    {**_deployment(each), "refusal": refusals.get(each.id, "") if refusals is not None else None}
                    for each in tier
                ],
            }
            for number, tier in enumerate(plan.tiers)
        ],
        "removed": [{**_deployment(removed.deployment), "why": removed.why} for removed in plan.removed],
    }


def _window(period: Period) -> dict[str, object]:
    condition, otherwise = period.clause.condition, period.clause.otherwise
    return {
        "since": written(period.since),
        "until": written(period.until),
        "condition": _condition(condition) if condition is not None else None,
        "otherwise": otherwise.rule.reason if otherwise is not None else None,
    }


def _condition(condition: Condition) -> dict[str, object]:
    return {"name": condition.name, "declared": written(condition.declared), "by": condition.by}


def _deployment(deployment: Deployment) -> dict[str, object]:
    return {
        "deployment": deployment.id,
        "cloud": deployment.cloud,
        "endpoint": deployment.endpoint.id,
        "zone": deployment.endpoint.zone,
        "tier": deployment.tier,
        "kind": deployment.kind.value,
    }
