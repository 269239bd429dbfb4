"""How a workload's requests are treated on their way: its priority, waits, hedges and affinity."""

from router.config.document import Document
from router.config.rules import kinds_in
from router.config.schema import WorkloadSection
from router.model.policy import Hedge, Policy, Priority


def read_policy(doc: Document, workload: str, section: WorkloadSection) -> Policy:
    """The policy of a workload, but for how often its holder is asked: that is its rule's to say."""
    hedge = None
    if section.hedge is not None:
        hedge = Hedge(section.hedge.after_ms, section.hedge.share_max)
        if "exclusive" in kinds_in(section.placement):
            doc.fault(("workloads", workload, "hedge"), "is for internal workloads only: this one is exclusive")
    return Policy(
        priority=Priority[section.priority.upper()],
        max_wait_ms=section.max_wait_ms,
        ttft_objective_ms=section.ttft_objective_ms,
        hedge=hedge,
        affinity=section.affinity,
    )
