"""Endpoints and deployments: from sections of the file to the frozen values, with every fault on the way."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path as FilePath
from typing import Final

from router.balancing.prices import list_price
from router.config.auth import read_auth
from router.config.clouds import Hosts
from router.config.document import Document
from router.config.faults import Path, suggest
from router.config.headers import read_headers
from router.config.hosts import BUILT_IN, is_internal, is_loopback, is_nowhere, matches, parse_base_url
from router.config.kinds import operations_of
from router.config.schema import DeploymentSection, EndpointSection, TimeoutsSection
from router.config.server import share
from router.config.stateful import read_stateful
from router.config.tls import read_endpoint_tls, read_proxy
from router.config.words import check_choice, check_model, check_name
from router.model.fleet import BaseUrl, Deployment, Endpoint, Kind, Price, Timeouts
from router.model.operation import OPERATIONS
from router.providers import DIALECTS, dialect

_DATED: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?", re.ASCII)
_AZURE: Final = "azure_openai"
_AZURE_PATHS: Final = ("", "/openai", "/openai/v1")  # people paste the base URL of the SDKs too
# How the path of each cloud's compatible surface ends, and how to write it.
_SURFACES: Final = {
    "oci": (re.compile(r".*/(openai|actions|predict)/v1"), "https://HOST/openai/v1"),
    "bedrock": (re.compile(r".*/v1"), "https://HOST/openai/v1"),
    "vertex": (re.compile(r".*/endpoints/[^/]+"), "https://HOST/v1/projects/P/locations/L/endpoints/openapi"),
}


def read_timeouts(section: TimeoutsSection, default: Timeouts) -> Timeouts:
    return replace(default, **section.model_dump(exclude_none=True))


def read_endpoint(
    doc: Document, name: str, section: EndpointSection, hosts: Hosts, timeouts: Timeouts
) -> Endpoint | None:
    """One endpoint without its deployments; None where so much is wrong that nothing can be said of them."""
    path: Path = ("endpoints", name)
    check_name(doc, path, name)
    for key in ("region", "zone"):
        if word := getattr(section, key):
            check_name(doc, (*path, key), word)
    known_cloud = _check_cloud(doc, (*path, "cloud"), section.cloud, hosts)
    known_provider = check_choice(doc, (*path, "provider"), section.provider, DIALECTS)
    base_url = _read_base_url(doc, path, section, hosts if known_cloud else None)
    credential = read_auth(doc, (*path, "auth"), section)
    api_version = _read_api_version(doc, (*path, "api_version"), section)
    if section.emulator is not None and not section.emulated:
        doc.fault((*path, "emulator"), "is for endpoints with `emulated: true` alone")
    headers = read_headers(doc, (*path, "headers"), section.headers, azure=section.provider == _AZURE)
    tls, proxy = read_endpoint_tls(doc, path, section), read_proxy(doc, (*path, "proxy"), section)
    if section.load is not None and section.provider != "openai":
        doc.fault((*path, "load"), "is for engines of your own, which the provider openai speaks to")
    if base_url is None or api_version is None or not (known_cloud and known_provider):
        return None
    return Endpoint(
        id=name,
        cloud=section.cloud,
        provider=section.provider,
        base_url=base_url,
        credential=credential,
        region=section.region,
        zone=section.zone,
        api_version=api_version,
        headers=headers,
        timeouts=read_timeouts(section.timeouts, timeouts),
        load=section.load or "",
        stateful=read_stateful(doc, (*path, "stateful"), section),
        probe=section.probe,
        ca_file=str(FilePath(doc.file).parent / section.ca_file) if section.ca_file is not None else None,
        tls=tls,
        proxy=proxy,
        emulated=section.emulated,
        private=section.private,
    )


def read_deployments(doc: Document, endpoint: Endpoint, section: EndpointSection, workers: int) -> Iterator[Deployment]:
    """The sound deployments of an endpoint, as one of so many workers sees them."""
    names: dict[str, int] = {}
    for index, item in enumerate(section.deployments):
        if item is None:
            continue
        path = ("endpoints", endpoint.id, "deployments", index)
        check_model(doc, (*path, "model"), item.model)
        check_model(doc, (*path, "name"), item.name)
        if (first := names.setdefault(item.name, index)) != index:
            doc.fault((*path, "name"), f"{doc.shown((*path, 'name'))} is the name of deployments[{first}] here already")
            continue
        if item.quota_pool is not None:
            check_name(doc, (*path, "quota_pool"), item.quota_pool)
        deployment = Deployment(
            endpoint=endpoint,
            model=item.model,
            name=item.name,
            operations=_read_operations(doc, (*path, "operations"), item),
            kind=Kind(item.kind),
            tier=item.tier,
            tpm=item.tpm,
            rpm=item.rpm,
            quota_pool=item.quota_pool,
            connections_max=share(item.connections_max, workers),
            concurrent_max=share(item.concurrent, workers) if item.concurrent is not None else None,
            ttft_objective_ms=item.ttft_objective_ms,
            price=_read_price(doc, (*path, "price"), item) or list_price(endpoint.provider, item.model, item.name),
            flat_nano_usd_per_month=_nano_usd(item.price.flat_usd_per_month or 0.0) if item.price is not None else 0,
        )
        yield _operation_faults(doc, path, deployment, explicit=item.operations is not None)


def check_fleet(doc: Document, deployments: Mapping[str, Deployment]) -> None:
    """What must hold between endpoints: an address and a quota belong to one cloud; nothing is listed twice."""
    clouds: dict[tuple[str, int], Endpoint] = {}
    pools: dict[str, Deployment] = {}
    served: dict[tuple[BaseUrl, str, str], Deployment] = {}
    for endpoint in {deployment.endpoint.id: deployment.endpoint for deployment in deployments.values()}.values():
        url = endpoint.base_url
        first = clouds.setdefault((url.host, url.port), endpoint)
        if first.cloud != endpoint.cloud:
            message = f"is the address of {first.id!r}, which is at another cloud: an address belongs to one cloud"
            doc.fault(("endpoints", endpoint.id, "base_url"), message)
    for deployment in deployments.values():
        path = ("endpoints", deployment.endpoint.id, "deployments")
        if deployment.quota_pool is not None:
            pool = pools.setdefault(deployment.quota_pool, deployment)
            if pool.cloud != deployment.cloud:
                doc.fault(path, f"share a quota_pool with endpoint {pool.endpoint.id!r}, which is at another cloud")
        for operation in sorted(deployment.operations):
            twin = served.setdefault((deployment.endpoint.base_url, deployment.name, operation), deployment)
            if twin is not deployment:
                doc.fault(path, f"list one that endpoint {twin.endpoint.id!r} lists too: it would be counted twice")
                break


def _check_cloud(doc: Document, path: Path, cloud: str, hosts: Hosts) -> bool:
    if cloud in hosts:
        return True
    hint = suggest(cloud, hosts) if doc.literal(path) else ""
    doc.fault(path, f"{doc.shown(path)} is not built in and not under `clouds`, where its hosts must be listed{hint}")
    return False


def _read_base_url(doc: Document, path: Path, section: EndpointSection, hosts: Hosts | None) -> BaseUrl | None:
    """The URL, if its host is one that the cloud may be dialled at. `hosts`: None if the cloud is not known."""
    here = (*path, "base_url")
    url = parse_base_url(section.base_url)
    if isinstance(url, str):
        doc.fault(here, url)
        return None
    shown = f"{url.host!r}" if doc.literal(here) else "its host"
    if section.provider == _AZURE and url.path not in _AZURE_PATHS:
        doc.fault(here, "has a path that is not Azure's: write https://HOST alone, or with /openai/v1 as in the SDKs")
    if section.provider in _SURFACES and not _SURFACES[section.provider][0].fullmatch(url.path):
        doc.fault(here, f"has no path that is compatible with OpenAI: write {_SURFACES[section.provider][1]}")
    if section.emulated:
        # An emulator is the cloud only as far as this machine: nothing that it is sent can leave.
        if not is_loopback(url.host):
            doc.fault(here, f"{shown} is not a loopback address, as an emulated endpoint's must be")
        return url
    if is_nowhere(url.host):
        doc.fault(here, f"{shown} is not an address that can be dialled")
    elif is_internal(url.host) and not section.private:
        doc.fault(
            here, f"{shown} is a loopback, private or reserved address: that needs `private: true` (or `emulated`)"
        )
    own = hosts.get(section.cloud, ()) if hosts is not None else ()
    if hosts is not None and not any(matches(url.host, pattern) for pattern in own):
        doc.fault(here, f"{shown} is not a host of the cloud {doc.shown((*path, 'cloud'))}: {', '.join(own)}")
    built_in = any(matches(url.host, pattern) for pattern in BUILT_IN.get(section.cloud, ()))
    if not url.tls and (built_in or not section.private):
        doc.fault(here, "must be https: only emulated and private endpoints may be spoken to in the clear")
    return url


def _read_api_version(doc: Document, path: Path, section: EndpointSection) -> str | None:
    version = section.api_version
    if section.provider != _AZURE:
        if version is not None:
            doc.fault(path, "is Azure's alone: it says nothing to this provider")
        return "v1"
    if version is None or version == "v1":
        return "v1"
    if (match := _DATED.fullmatch(version)) and _is_date(match[1]):
        return version
    hint = ": v1 asks for previews by itself where an operation needs it" if version == "preview" else ""
    doc.fault(
        path,
        f"{doc.shown(path)} is not an api-version: write v1, or a date as in 2024-10-21 or 2025-04-01-preview{hint}",
    )
    return None


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _read_operations(doc: Document, path: Path, section: DeploymentSection) -> frozenset[str]:
    if section.operations is None:
        return operations_of(section.model)
    known = [
        operation
        for index, operation in enumerate(section.operations)
        if check_choice(doc, (*path, index), operation, OPERATIONS)
    ]
    if len(set(known)) != len(known):
        doc.fault(path, "names an operation twice")
    return frozenset(known)


def _read_price(doc: Document, path: Path, deployment: DeploymentSection) -> Price | None:
    """What a deployment's tokens cost, where its section says so."""
    section = deployment.price
    if section is None:
        return None
    prompt, completion, cached = (
        section.prompt_usd_per_mtok,
        section.completion_usd_per_mtok,
        section.cached_usd_per_mtok,
    )
    audio = (
        section.audio_prompt_usd_per_mtok,
        section.audio_completion_usd_per_mtok,
        section.audio_cached_usd_per_mtok,
    )
    if section.flat_usd_per_month is not None:
        if deployment.kind != Kind.PROVISIONED.value:
            doc.fault((*path, "flat_usd_per_month"), "is for `kind: provisioned` alone")
        if (prompt, completion, cached, *audio) == (None,) * 6:
            return Price(0, 0)  # it is paid for, whatever is sent to it
    if prompt is None or completion is None:
        missing = "prompt_usd_per_mtok" if prompt is None else "completion_usd_per_mtok"
        doc.fault((*path, missing), "is missing")
        return None
    others = (_nano_usd(each) if each is not None else None for each in (cached, *audio))
    return Price(_nano_usd(prompt), _nano_usd(completion), *others)


def _nano_usd(usd: float) -> int:
    return round(usd * 1e9)


def _operation_faults(doc: Document, path: Path, deployment: Deployment, *, explicit: bool) -> Deployment:
    """Leaves the operations that the dialect has; one that the file asks for and that it lacks is a fault."""
    speaks = dialect(deployment.endpoint.provider)
    routed = frozenset(name for name in deployment.operations if speaks.route(deployment, OPERATIONS[name]) is not None)
    lacking = sorted(deployment.operations - routed)
    endpoint = deployment.endpoint
    surface = f"{endpoint.provider} {endpoint.api_version}" if endpoint.provider == _AZURE else endpoint.provider
    if lacking and (explicit or not routed):
        doc.fault((*path, "operations"), f"{', '.join(lacking)}: {surface} has no such operation")
    return replace(deployment, operations=routed)
