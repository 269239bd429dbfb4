"""The section `tracing`: what stands in it, and what must not."""

import re
from pathlib import Path

import certifi
import pytest

from router.config import tracing
from router.config.load import load
from router.config.schema import TracingSection
from router.model.fleet import Secret
from router.telemetry.tracing import TracingSettings
from tests.unit.config.workbench import ENVIRON, GOOD, Workbench

ENDPOINT = "http://127.0.0.1:4318/v1/traces"
TOKEN = "collector-canary-0123456789"


def with_section(section: str) -> str:
    return f"tracing: {section}\n{GOOD}"


def test_without_the_section_nothing_is_traced(bench: Workbench) -> None:
    assert bench.load().tracing is None


def test_an_endpoint_is_all_that_it_needs(bench: Workbench) -> None:
    settings = bench.load(with_section(f"{{endpoint: '{ENDPOINT}'}}")).tracing
    assert settings is not None
    assert (settings.endpoint, settings.sample, settings.service_name) == (ENDPOINT, 0.01, "inference-router")
    assert (dict(settings.headers), settings.respect_parent) == ({}, frozenset())


def test_every_key_acts(bench: Workbench) -> None:
    section = (
        "{endpoint: 'https://traces.example.com/otlp/v1/traces', headers: {Authorization: 'Bearer ${TOKEN}'},"
        " sample: 0.5, service_name: gateway-1, respect_parent: [internal]}"
    )
    snapshot = bench.load(with_section(section), {**ENVIRON, "TOKEN": TOKEN})
    settings = snapshot.tracing
    assert settings is not None
    assert settings.headers == {"authorization": Secret(f"Bearer {TOKEN}")}
    assert (settings.sample, settings.service_name, settings.respect_parent) == (0.5, "gateway-1", {"internal"})
    assert TOKEN not in repr(settings)
    assert not [warning for warning in snapshot.warnings if "tracing" in warning]


@pytest.mark.parametrize(
    ("section", "path", "message"),
    [
        ("{}", "endpoint", "is missing"),
        ("{endpoint: 4318}", "endpoint", "must be text"),
        ("{endpoint: '127.0.0.1:4318'}", "endpoint", "is not a URL"),
        ("{endpoint: 'grpc://127.0.0.1:4317/v1/traces'}", "endpoint", "is not a URL"),
        ("{endpoint: 'http://127.0.0.1:4318'}", "endpoint", "has no path"),
        ("{endpoint: 'http://127.0.0.1:4318/'}", "endpoint", "has no path"),
        ("{endpoint: 'http://127.0.0.1:4318/v1/traces?a=b'}", "endpoint", "query"),
        ("{endpoint: 'http://me:pass@127.0.0.1:4318/v1/traces'}", "endpoint", "belong to `headers`"),
        ("{endpoint: 'http://127.0.0.1:0/v1/traces'}", "endpoint", "no valid port"),
        ("{endpoint: '%', sample: 1.5}", "sample", "must be at most 1"),
        ("{endpoint: '%', sample: -0.1}", "sample", "must be at least 0"),
        ("{endpoint: '%', sample: .nan}", "sample", "must be"),
        ("{endpoint: '%', sampling: 0.1}", "sampling", "did you mean 'sample'?"),
        ("{endpoint: '%', ca_file: missing.pem}", "ca_file", "PEM certificates"),
        ("{endpoint: '%', service_name: 'a b'}", "service_name", "is no name"),
        ("{endpoint: '%', respect_parent: true}", "respect_parent", "must be a list"),
        ("{endpoint: '%', respect_parent: [intern]}", "respect_parent[0]", "did you mean 'internal'?"),
        ("{endpoint: '%', headers: {'a b': c}}", "headers.a b", "is no header name"),
        ("{endpoint: '%', headers: {Content-Type: c}}", "headers.Content-Type", "the exporter's own"),
        ("{endpoint: '%', headers: {host: c}}", "headers.host", "the exporter's own"),
        ("{endpoint: '%', headers: {x: a, X: b}}", "headers.X", "stands here twice"),
        ('{endpoint: "%", headers: {x: "a\\r\\nb: c"}}', "headers.x", "cannot have"),
        ("{endpoint: '%', headers: {x: Bearer $TOKEN}}", "headers.x", "write ${NAME}, with braces"),
        ("{endpoint: '%', headers: {x: '${NOT_SET}'}}", "headers.x", "is not set"),
    ],
)
def test_each_fault_has_its_place(bench: Workbench, section: str, path: str, message: str) -> None:
    [fault] = bench.faults(with_section(section.replace("%", ENDPOINT)))
    assert fault.path == f"tracing.{path}"
    assert fault.line == 1
    assert message in fault.message


def test_no_fault_shows_a_secret(bench: Workbench) -> None:
    section = "{endpoint: 'http://127.0.0.1/${TOKEN}?', headers: {'a b': '${TOKEN}', x: '${TOKEN} é'}}"
    faults = bench.faults(with_section(section), {**ENVIRON, "TOKEN": TOKEN})
    assert len(faults) == 3
    assert not [fault for fault in faults if TOKEN in str(fault)]


@pytest.mark.parametrize(
    ("url", "warned"),
    [("http://collector:4318/v1/traces", True), ("https://collector/v1/traces", False), (ENDPOINT, False)],
)
def test_a_secret_on_the_wire_is_warned_of(bench: Workbench, url: str, warned: bool) -> None:
    snapshot = bench.load(with_section(f"{{endpoint: '{url}', headers: {{x: secret}}}}"))
    assert ("tracing.headers: are sent in the clear, since the endpoint is http" in snapshot.warnings) == warned


def test_without_the_extra_the_file_is_refused(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "missing_package", lambda: True)
    [fault] = bench.faults(with_section(f"{{endpoint: '{ENDPOINT}'}}"))
    assert str(fault).endswith("tracing: needs a package that is not installed: pip install '.[otel]'")
    bench.file.write_text(GOOD, encoding="utf-8")
    assert load(bench.file, ENVIRON).tracing is None, "nobody else needs it"


def test_the_example_of_the_annotated_file_is_right(bench: Workbench) -> None:
    annotated = (Path(__file__).parents[3] / "config" / "router.yaml").read_text(encoding="utf-8")
    found = re.search(r"^# tracing:\n(?:#   .*\n)+", annotated, re.MULTILINE)
    assert found is not None
    example = re.sub(r"^# ", "", found[0], flags=re.MULTILINE).replace("collector-ca.pem", certifi.where())
    settings = bench.load(f"{example}{GOOD}", {**ENVIRON, "COLLECTOR_TOKEN": TOKEN}).tracing
    assert settings is not None
    assert set(TracingSection.model_fields) == set(re.findall(r"^  (\w+):", example, re.MULTILINE))
    assert settings.headers == {"authorization": Secret(f"Bearer {TOKEN}")}
    defaults = TracingSettings(ENDPOINT)
    assert (settings.sample, settings.service_name) == (defaults.sample, defaults.service_name)
