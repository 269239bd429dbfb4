"""`config/kubernetes/`: each object against the API's own schemas (1.37), and the numbers that must agree.

The schemas come as dataclasses that were made from the API's OpenAPI document: a field that the API does not know, one
that it needs, and one of another type is each a fault here. Enumerations are text there, and not judged.
"""

import dataclasses
import sys
import typing
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from router.config.load import load

FOLDER = Path(__file__).parents[3] / "config" / "kubernetes"
SERVICE_MONITOR = {  # of the Prometheus Operator's monitoring.coreos.com/v1, what is used here
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "monitoring.coreos.com/v1"},
        "kind": {"const": "ServiceMonitor"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "required": ["selector", "endpoints"],
            "additionalProperties": False,
            "properties": {
                "selector": {"type": "object", "properties": {"matchLabels": {"type": "object"}}},
                "endpoints": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "port": {"type": "string"},
                            "path": {"type": "string"},
                            "interval": {"type": "string", "pattern": "^[0-9]+(ms|s|m)$"},
                            "authorization": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "type": {"type": "string"},
                                    "credentials": {"type": "object", "required": ["name", "key"]},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
NOT_OF_THE_API = ("kustomization.yaml", "router.yaml", "servicemonitor.yaml")


def models(api_version: str) -> ModuleType:
    # The schemas need three names of a client for Kubernetes that nothing else here needs.
    schema = ModuleType("lightkube.core.schema")
    schema.DictMixin, schema.field, schema.dataclass = object, dataclasses.field, dataclasses.dataclass  # type: ignore[attr-defined]
    sys.modules.setdefault("lightkube.core", ModuleType("lightkube.core"))
    sys.modules.setdefault("lightkube.core.schema", schema)
    group, _, version = api_version.rpartition("/")
    return import_module(f"lightkube.models.{(group or 'core').partition('.')[0]}_{version}")


def documents(name: str) -> list[dict[str, Any]]:
    return list(YAML(typ="safe").load_all(FOLDER / name))


def faults(value: Any, kind: Any, path: str) -> list[str]:
    """How a document's value differs from what the API takes there."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union:
        tried = [faults(value, each, path) for each in inner if each is not type(None)]
        return min(tried, key=len)
    if origin is list:
        if not isinstance(value, list):
            return [f"{path} is no list"]
        return [fault for index, each in enumerate(value) for fault in faults(each, inner[0], f"{path}[{index}]")]
    if origin is dict or kind is dict:
        return [] if isinstance(value, dict) else [f"{path} is no object"]
    if dataclasses.is_dataclass(kind):
        return _faults_of_object(value, kind, path)
    return [] if kind is Any or (type(value) is kind) else [f"{path} is no {kind.__name__}"]


def _faults_of_object(value: Any, kind: Any, path: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{path} is no object"]
    types = typing.get_type_hints(kind)
    fields = {field.metadata.get("json", field.name): field for field in dataclasses.fields(kind)}
    wrong = [f"{path}.{name} is not of the API" for name in value if name not in fields]
    wrong += [
        f"{path}.{name} is missing"
        for name, field in fields.items()
        if field.default is field.default_factory is dataclasses.MISSING and name not in value
    ]
    for name in value:
        if name in fields:
            wrong += faults(value[name], types[fields[name].name], f"{path}.{name}")
    return wrong


def of_api(document: dict[str, Any]) -> list[str]:
    return faults(document, getattr(models(document["apiVersion"]), document["kind"]), document["kind"])


OF_THE_API = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name not in NOT_OF_THE_API)


@pytest.mark.parametrize("name", OF_THE_API)
def test_objects_are_what_the_api_takes(name: str) -> None:
    assert [fault for document in documents(name) for fault in of_api(document)] == []


def test_what_the_api_does_not_take_is_found() -> None:
    (deployment,) = documents("deployment.yaml")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readynessProbe"] = container.pop("readinessProbe")
    container["ports"][0]["containerPort"] = "8080"
    del deployment["spec"]["selector"]

    assert sorted(of_api(deployment)) == [
        "Deployment.spec.selector is missing",
        "Deployment.spec.template.spec.containers[0].ports[0].containerPort is no int",
        "Deployment.spec.template.spec.containers[0].readynessProbe is not of the API",
    ]


def test_the_service_monitor_is_what_the_operator_takes() -> None:
    (monitor,) = documents("servicemonitor.yaml")

    jsonschema.validate(monitor, SERVICE_MONITOR)


def test_all_files_are_applied() -> None:
    (kustomization,) = documents("kustomization.yaml")

    listed = {*kustomization["resources"], *kustomization["configMapGenerator"][0]["files"], "kustomization.yaml"}

    assert listed == {path.name for path in FOLDER.iterdir()}


def test_a_pod_outlives_its_drain() -> None:
    (deployment,) = documents("deployment.yaml")
    server = load(FOLDER / "router.yaml", VARIABLES).server

    assert (
        deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        >= server.drain_delay_s + server.drain_s + 10
    )


def test_ports_and_paths_are_the_router_s() -> None:
    (deployment,) = documents("deployment.yaml")
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    server = load(FOLDER / "router.yaml", VARIABLES).server
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}

    assert ports == {"http": server.listen.port, "admin": server.admin.port}
    assert container["resources"]["requests"]["cpu"] == str(server.workers)
    assert "/var/lib/inference-router" in mounts
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_selectors_find_the_pods() -> None:
    (deployment,) = documents("deployment.yaml")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    services = documents("service.yaml")
    (monitor,) = documents("servicemonitor.yaml")
    (budget,) = documents("poddisruptionbudget.yaml")
    (policy,) = documents("networkpolicy.yaml")

    assert all(service["spec"]["selector"].items() <= labels for service in services)
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert [service["metadata"]["name"] for service in services if wanted <= service["metadata"]["labels"].items()] == [
        "inference-router-admin"
    ]


VARIABLES = {
    "ROUTER_ADMIN_TOKEN": "t" * 32,
    "LEDGER_URL": "postgresql://u:p@postgres.db.svc/router",
    "AZURE_EASTUS2_KEY": "k",
}
