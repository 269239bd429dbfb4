"""What endpoints store for clients: which of it each has, and plans for requests that name no model."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from router.config.document import Document
from router.config.faults import Path
from router.config.kinds import operations_of
from router.config.schema import EndpointSection
from router.config.snapshot import Workload
from router.config.words import check_choice
from router.model.fleet import Deployment, Endpoint
from router.model.plan import Plan
from router.model.stored import RESOURCES, RESPONSES
from router.placement import make_plan

STATE: Final = "(state)"  # beside an endpoint's deployments, whose names have no such characters
_ALL: Final = frozenset(RESOURCES)
_BY_PROVIDER: Final[Mapping[str, frozenset[str]]] = {
    "azure_openai": _ALL,
    "oci": frozenset({"conversations", "containers", "files"}),
}
_DATED: Final = frozenset({"files", "batches", "vector_stores", "fine_tuning"})  # of Azure's classic shape
_STATELESS: Final = frozenset({"bedrock", "vertex"})


def read_stateful(doc: Document, path: Path, section: EndpointSection) -> frozenset[str]:
    """The resources that an endpoint has; left out: what is known of its provider, and responses where it has them."""
    if section.stateful is None:
        return _usual(section)
    names = [name for index, name in enumerate(section.stateful) if check_choice(doc, (*path, index), name, RESOURCES)]
    if len(set(names)) != len(names):
        doc.fault(path, "names a resource twice")
    if names and section.provider in _STATELESS:
        doc.fault(path, f"is for endpoints that keep something: {section.provider} does not, in this dialect")
    return frozenset(names)


def _usual(section: EndpointSection) -> frozenset[str]:
    usual = _BY_PROVIDER.get(section.provider, frozenset())
    if section.provider == "azure_openai" and section.api_version not in (None, "v1"):
        usual = _DATED
    elif section.provider == "openai" and section.cloud == "openai":
        usual = _ALL
    deployments = [each for each in section.deployments if each is not None]
    responds = any(RESPONSES.name in (each.operations or operations_of(each.model)) for each in deployments)
    if responds and section.provider not in _STATELESS:
        return usual | {RESPONSES.name}
    return usual - {RESPONSES.name}


def make_stored_plans(workload: Workload, fleet: Iterable[Deployment]) -> Mapping[str, Plan]:
    """By resource, where a workload may go for it: the endpoints of `fleet`, as if each were a deployment."""
    tiers: dict[str, int] = {}
    endpoints: dict[str, Endpoint] = {}
    for deployment in fleet:
        endpoint = endpoints.setdefault(deployment.endpoint.id, deployment.endpoint)
        tiers[endpoint.id] = min(deployment.tier, tiers.get(endpoint.id, deployment.tier))
    stores = [
        Deployment(endpoint, "", STATE, endpoint.stateful, tier=tiers[endpoint.id])
        for endpoint in endpoints.values()
        if endpoint.stateful
    ]
    plans = (make_plan(workload.permit, workload.period.rule, "", resource, stores) for resource in RESOURCES)
    return MappingProxyType({plan.operation: plan for plan in plans if plan.tiers})
