"""The clouds of a file and the hosts they may be dialled at, built-in and added."""

from collections.abc import Mapping

from router.config.document import Document
from router.config.hosts import BUILT_IN, FRONTS, overlap, pattern_fault
from router.config.schema import CloudSection
from router.config.words import check_name

Hosts = dict[str, tuple[str, ...]]


def read_clouds(doc: Document, sections: Mapping[str, CloudSection]) -> tuple[Hosts, list[str]]:
    """All hosts by cloud, and a warning for each that an operator added: it widens what counts as the cloud."""
    hosts: Hosts = dict(BUILT_IN)
    warnings: list[str] = []
    for cloud, section in sections.items():
        check_name(doc, ("clouds", cloud), cloud)
        added: list[str] = []
        for index, written in enumerate(section.hosts):
            path = ("clouds", cloud, "hosts", index)
            pattern = written.lower()
            if reason := pattern_fault(pattern):
                doc.fault(path, reason)
            elif cloud == "azure" and any(overlap(pattern, front) for front in FRONTS):
                doc.fault(path, "is API Management, which may front any cloud: azure must be dialled at its own hosts")
            elif other := _owner(hosts, cloud, pattern):
                doc.fault(path, f"is a host of the cloud {other!r} already: a host belongs to one cloud")
            else:
                added.append(pattern)
                if cloud in BUILT_IN:
                    warnings.append(f"clouds.{cloud}: {pattern} was added to the hosts that count as {cloud}")
                else:
                    warnings.append(f"clouds.{cloud}: {pattern} counts as {cloud} because the file says so")
        hosts[cloud] = (*hosts.get(cloud, ()), *added)
    return hosts, warnings


def _owner(hosts: Hosts, cloud: str, pattern: str) -> str:
    others = (other for other in hosts if other != cloud)
    return next((other for other in others if any(overlap(pattern, host) for host in hosts[other])), "")
