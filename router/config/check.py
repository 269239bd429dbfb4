"""The first of three barriers: a second opinion on plans, which shares no code with the rules that made them.

The other two stand where candidates are chosen and where bytes are sent.
"""

from collections.abc import Iterable, Mapping

from router.config.faults import ConfigError, Fault
from router.config.snapshot import Workload
from router.model.plan import Plan


def verify_plans(file: str, workloads: Mapping[str, Workload], plans: Iterable[Plan]) -> None:
    """Raises ConfigError for each deployment of a plan that is at a cloud which its workload may not use."""
    faults = [
        Fault(
            file,
            0,
            f"workloads.{plan.workload}",
            f"the plan for {plan.model} names {deployment.id} at {deployment.cloud}, against {plan.reason}",
        )
        for plan in plans
        for tier in plan.tiers
        for deployment in tier
        if deployment.cloud not in workloads[plan.workload].permit.clouds
        or deployment.endpoint.cloud not in plan.permit.clouds
    ]
    if faults:
        raise ConfigError(faults)
