"""The first of three barriers: a second opinion on plans, which shares no code with the rules that made them.

It reads what a rule says, by its kind, and asks none of its methods. The other two barriers stand where candidates
are chosen and where bytes are sent.
"""

from collections.abc import Iterable, Iterator, Mapping

from router.config.faults import ConfigError, Fault
from router.config.snapshot import Workload
from router.model.plan import Plan
from router.placement import Exclusive, FirstRefusal, Rule, Spread, Within


def verify_plans(file: str, workloads: Mapping[str, Workload], plans: Iterable[Plan]) -> None:
    """Raises ConfigError for each deployment of a plan that its workload may not use, or not so early.

    That is one at another cloud or in another zone than the rule names, and one that stands before the holder of a
    first refusal, or before a cloud that the rule has earlier.
    """
    faults = [
        Fault(file, 0, f"workloads.{plan.workload}", f"the plan for {plan.model} {violation}, against {plan.reason}")
        for plan in plans
        for violation in _violations(plan, workloads[plan.workload])
    ]
    if faults:
        raise ConfigError(faults)


def _violations(plan: Plan, workload: Workload) -> Iterator[str]:
    order, zones, holder = _as_written(workload.period.rule)
    latest = 0
    for number, tier in enumerate(plan.tiers):
        places = set()
        for deployment in tier:
            cloud = deployment.endpoint.cloud
            place = next((index for index, clouds in enumerate(order) if cloud in clouds), None)
            if place is None or cloud not in workload.permit.clouds or cloud not in plan.permit.clouds:
                yield f"names {deployment.id} at {cloud}"
                continue
            if zones and deployment.endpoint.zone not in zones:
                yield f"names {deployment.id} in the zone {deployment.endpoint.zone or 'of no name'}"
            places.add(place)
            if (cloud == holder) != (number < plan.holder_tiers):
                yield f"has {deployment.id} on the wrong side of the holder's refusal"
        if len(places) > 1 or any(place < latest for place in places):
            yield f"has the clouds of tier {number + 1} out of their order"
        latest = max(places, default=latest)
    if plan.holder != holder:
        yield f"offers to {plan.holder or 'nobody'} first"
    for removed in plan.removed:
        if removed.deployment.endpoint.cloud == holder and (not zones or removed.deployment.endpoint.zone in zones):
            yield f"leaves out {removed.deployment.id}, which is the holder's"


def _as_written(rule: Rule) -> tuple[tuple[tuple[str, ...], ...], frozenset[str], str]:
    """The groups of clouds in their order, the zones (none: all), and the holder."""
    match rule:
        case Within(inner, zones):
            order, _, holder = _as_written(inner)
            return order, zones, holder
        case Exclusive(cloud):
            return ((cloud,),), frozenset(), ""
        case FirstRefusal(holder, then):
            return ((holder,), *then), frozenset(), holder
        case Spread(names):
            return (names,), frozenset(), ""
    raise AssertionError(rule)  # a rule that has no second opinion yet: our bug, and nothing may start with it
