"""The section `tracing`: where spans are sent, and of which requests."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from router.config.document import Document
from router.config.faults import Path, suggest
from router.config.hosts import is_loopback, parse_base_url
from router.config.schema import TracingSection
from router.config.words import check_name, check_secret, read_ca_file
from router.model.fleet import BaseUrl, Secret
from router.telemetry.tracing import INSTALL, TracingSettings, missing_package

_HERE: Final[Path] = ("tracing",)
_NAME: Final = re.compile(r"[0-9a-z][0-9a-z_.-]*", re.ASCII)
_EXPORTERS_OWN: Final = frozenset({"host", "connection", "transfer-encoding", "user-agent"})


def read_tracing(
    doc: Document, section: TracingSection | None, workloads: Collection[str] | None
) -> tuple[TracingSettings | None, list[str]]:
    """Returns the settings, and warnings. `workloads`: None where some were lost to faults of their own."""
    if section is None:
        return None, []
    if missing_package():
        doc.fault(_HERE, f"needs a package that is not installed: {INSTALL}")
    clear = _check_endpoint(doc, section.endpoint)
    if section.service_name is not None:
        check_name(doc, (*_HERE, "service_name"), section.service_name)
    for index, workload in enumerate(section.respect_parent):
        if workloads is not None and workload not in workloads:
            path = (*_HERE, "respect_parent", index)
            hint = suggest(workload, workloads) if doc.literal(path) else ""
            doc.fault(path, f"{doc.shown(path)} is no workload of this file{hint}")
    headers = _headers(doc, section.headers)
    ca_file = read_ca_file(doc, (*_HERE, "ca_file"), section.ca_file)
    settings = replace(
        TracingSettings(section.endpoint, headers, ca_file, respect_parent=frozenset(section.respect_parent)),
        **section.model_dump(exclude_none=True, include={"sample", "service_name"}),
    )
    warning = "tracing.headers: are sent in the clear, since the endpoint is http"
    return settings, [warning] if clear and headers else []


def _check_endpoint(doc: Document, endpoint: str) -> bool:
    """Whether it is beyond this machine and spoken to in the clear. What is no endpoint becomes a fault."""
    path = (*_HERE, "endpoint")
    url = parse_base_url(endpoint)
    if "@" in endpoint:
        doc.fault(path, "holds user information: credentials belong to `headers`")
    elif isinstance(url, str):
        doc.fault(path, url)
    elif not url.path:
        doc.fault(path, "has no path: spans go to one of their own, usually /v1/traces")
    return isinstance(url, BaseUrl) and not url.tls and not is_loopback(url.host)


def _headers(doc: Document, written: Mapping[str, str]) -> Mapping[str, Secret]:
    headers: dict[str, Secret] = {}
    for name, value in written.items():
        here, low = (*_HERE, "headers", name), name.lower()
        if low in headers:
            doc.fault(here, "stands here twice: header names differ by more than their case")
        elif not _NAME.fullmatch(low):
            doc.fault(here, "is no header name: letters, digits and hyphens")
        elif low in _EXPORTERS_OWN or low.startswith("content-"):
            doc.fault(here, "is the exporter's own to write")
        else:
            for word in value.split(" "):
                check_secret(doc, here, word)
        headers[low] = Secret(value)
    return MappingProxyType(headers)
