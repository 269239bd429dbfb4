"""Decides where a request may go: which clouds a workload may use and when, and its deployments in tiers.

It speaks of clouds only, never of dialects, health or load; those narrow and order what it left over, and
never widen it.
"""

from router.placement.explain import explain
from router.placement.plans import make_permit, make_plan
from router.placement.rules import Exclusive, FirstRefusal, Rule, Spread, Within
from router.placement.schedule import Clause, Condition, Period, Schedule, written

__all__ = [
    "Clause",
    "Condition",
    "Exclusive",
    "FirstRefusal",
    "Period",
    "Rule",
    "Schedule",
    "Spread",
    "Within",
    "explain",
    "make_permit",
    "make_plan",
    "written",
]
