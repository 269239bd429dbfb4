"""What a good file becomes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from router.config import check
from router.config.faults import ConfigError
from router.config.keys import digest, new_key
from router.config.load import load
from router.config.schema import Section
from router.model.fleet import AuthKind, Kind
from tests.unit.config.workbench import GOOD, Workbench

CONFIG = Path(__file__).parents[3] / "config"
EXAMPLE_ENVIRON = {
    **dict.fromkeys(("AZURE_EASTUS2_KEY", "AZURE_SWEDENCENTRAL_KEY", "AZURE_WESTUS3_KEY"), "x"),
    **dict.fromkeys(("COREWEAVE_KEY", "SOFTBANK_KEY"), "x"),
    "BENCH_ACCESS_LOG": "off",
    "ACME_KEY_SHA256": "a" * 64,
    "EVALUATION_KEY_SHA256": "b" * 64,
    "FIRST_KEY_SHA256": "c" * 64,
}


def test_everything_arrives(bench: Workbench) -> None:
    snapshot = bench.load()

    assert (snapshot.server.listen.host, snapshot.server.listen.port) == ("127.0.0.1", 8080)
    assert snapshot.server.body_bytes_max == 64 << 20
    endpoint = snapshot.endpoints["eastus2"]
    assert (endpoint.cloud, endpoint.provider, endpoint.api_version) == ("azure", "azure_openai", "v1")
    assert (endpoint.base_url.host, endpoint.base_url.port, endpoint.base_url.path) == (
        "contoso.openai.azure.com",
        443,
        "",
    )
    assert endpoint.credential.kind is AuthKind.API_KEY
    assert dict(endpoint.headers) == {"x-team": "one"}
    assert (endpoint.timeouts.idle_s, endpoint.timeouts.connect_s) == (30, 5)  # its own over the file's
    assert snapshot.endpoints["ord"].base_url.path == "/v1"
    ptu = snapshot.deployments["eastus2/gpt-4o-ptu"]
    assert (ptu.kind, ptu.tpm, ptu.operations) == (Kind.PROVISIONED, 1000, {"chat"})
    std = snapshot.deployments["eastus2/gpt-4o-std"]
    assert (std.tier, std.rpm, std.quota_pool, std.operations) == (1, 60, "pool-a", {"chat", "responses"})
    acme = snapshot.keys[bytes.fromhex("a" * 64)]
    assert (acme.name, acme.workload, acme.models) == ("acme", "api", {"gpt-4o"})
    assert snapshot.keys[bytes.fromhex("b" * 64)].models is None
    assert snapshot.aliases == {"gpt-4o-latest": "gpt-4o"}
    assert not snapshot.workloads["api"].reveal_upstream
    assert snapshot.workloads["internal"].reveal_upstream


def test_plans_follow_the_rules(bench: Workbench) -> None:
    plans = bench.load().plans

    chat = plans["api", "gpt-4o", "chat"]
    assert [[each.id for each in tier] for tier in chat.tiers] == [["eastus2/gpt-4o-ptu"], ["eastus2/gpt-4o-std"]]
    assert chat.permit.clouds == {"azure"}
    assert chat.reason == "exclusive:azure"
    spread = plans["internal", "gpt-4o", "chat"]
    assert [[each.id for each in tier] for tier in spread.tiers] == [
        ["eastus2/gpt-4o-ptu", "ord/llama-70b"],
        ["eastus2/gpt-4o-std"],
    ]
    assert ("api", "llama-70b", "chat") not in plans  # served, but not where this workload must stay
    assert ("api", "gpt-4o", "embeddings") not in plans


@pytest.mark.parametrize("name", sorted(str(file.relative_to(CONFIG)) for file in CONFIG.rglob("*.yaml") if "prometheus" not in file.parts and "grafana" not in file.parts and "kubernetes" not in file.parts))  # fmt: skip  # noqa: E501
def test_every_example_loads(name: str) -> None:
    snapshot = load(CONFIG / name, EXAMPLE_ENVIRON)

    assert snapshot.plans
    for key in snapshot.keys.values():
        assert any(workload == key.workload and key.may_use(model) for workload, model, _ in snapshot.plans)


def test_the_annotated_file_has_every_key() -> None:
    text = (CONFIG / "router.yaml").read_text(encoding="utf-8")
    keys = {key for section in Section.__subclasses__() for key in section.model_fields} - {"conditions"}  # never acts

    assert [key for key in sorted(keys) if not re.search(rf"\b{key}: |\b{key}:$", text, re.MULTILINE)] == []


@pytest.mark.parametrize(
    ("name", "key"), [("demo", "sk-ir-demo-api"), ("demo", "sk-ir-demo-internal"), ("bench", "sk-ir-bench")]
)
def test_the_published_keys_are_those_of_the_files(name: str, key: str) -> None:
    assert digest(key) in load(CONFIG / f"{name}.yaml", EXAMPLE_ENVIRON).keys


def test_the_demo_serves_every_kind_and_keeps_api_at_azure() -> None:
    snapshot = load(CONFIG / "demo.yaml", {})

    operations = {operation for workload, _, operation in snapshot.plans if workload == "api"}
    assert operations >= {"chat", "responses", "embeddings", "images_generations", "transcriptions", "speech"}
    clouds = {each.cloud for plan in snapshot.plans.values() for tier in plan.tiers for each in tier}
    assert clouds == {"azure", "coreweave"}


def test_all_faults_come_at_once(bench: Workbench) -> None:
    """Of shape, of meaning, of references and of YAML keys: one run names them all, in the order of the file."""
    text = (
        GOOD.replace("listen:", "listne:")
        .replace("connect_s: 5", "connect_s: 5, connect_s: 6")
        .replace("{x-team: one}", "{cookie: x}")
        .replace("${CW_KEY}", "${NOWHERE}")
        .replace("gpt-4o-latest: gpt-4o", "gpt-4o-latest: gpt-9")
        .replace("rule: exclusive", "rule: first_refusal")
        .replace("models: [gpt-4o]", "models: [gpt-7]")
        .replace("reveal: upstream", "reveal: some")
        .replace("b" * 64, "b" * 63)
    )
    faults = bench.faults(text)

    assert [fault.path for fault in faults] == [
        "server.listne",
        "timeouts.connect_s",
        "endpoints.eastus2.headers.cookie",
        "endpoints.ord.auth.bearer",
        "aliases.gpt-4o-latest",
        "workloads.api.placement.rule",
        "workloads.internal.reveal",
        "keys[0].models[0]",
        "keys[1].sha256",
    ]
    assert [fault.line for fault in faults] == sorted(fault.line for fault in faults)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "is empty"),
        ("# nothing\n", 1, "is empty"),
        ("- a\n", 1, "must be a mapping"),
        ("just text\n", 1, "must be a mapping"),
        ("server: {listen: 1\nx: [", 2, "is not valid YAML"),
        ("server:\n\tlisten: a\n", 2, "is not valid YAML"),
        ("server: {}\n---\nserver: {}\n", 2, "is not valid YAML"),
        ("a: 1\nb: \x07\n", 2, "is not valid YAML"),
        ("server: *nobody\n", 1, "is not valid YAML"),
        ("server: &a {listen: *a}\n", 1, "refers to itself"),
        ("server: {listen: !!binary aGk=}\n", 1, "has a YAML tag"),
        ("server: {}\n", 1, "is missing"),
        ("[" * 5000, 0, "is nested too deeply"),
    ],
)
def test_a_file_that_is_no_configuration(bench: Workbench, text: str, line: int, message: str) -> None:
    faults = bench.faults(text)

    assert any(fault.line == line and message in fault.message for fault in faults), [str(fault) for fault in faults]


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml", {})


def test_a_file_that_is_not_text_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "router.yaml"
    file.write_bytes(b"server: \xff\xfe")
    with pytest.raises(ConfigError, match="is not UTF-8"):
        load(file, {})


def test_a_section_without_endpoints_has_its_other_faults_named_too(bench: Workbench) -> None:
    faults = bench.faults("server: {listen: nowhere}\nworkloads: {api: {placement: {rule: exclusiv}}}\n")

    assert {fault.path for fault in faults} == {"server.listen", "endpoints", "workloads.api.placement.rule"}


def test_the_version_is_of_the_meaning(bench: Workbench) -> None:
    version = bench.load().version

    assert len(version) == 12
    assert (
        bench.load("# a comment\n" + GOOD.replace("body_bytes_max: 64MiB", "body_bytes_max: 67108864")).version
        == version
    )
    assert bench.load(GOOD.replace("tpm: 1000", "tpm: 1001")).version != version


def test_the_rule_version_is_of_all_that_the_rule_means(bench: Workbench) -> None:
    """Another host that counts as the cloud is another rule; another deployment at it is not."""
    before = bench.load().workloads
    added = bench.load(
        GOOD.replace("softbank: {hosts: [", 'azure: {hosts: ["*.openai.azure.us"]}\n  softbank: {hosts: [')
    )
    after = added.workloads

    assert after["api"].permit.rule_version != before["api"].permit.rule_version
    assert any("*.openai.azure.us was added to the hosts that count as azure" in each for each in added.warnings)
    other = bench.load(GOOD.replace("name: gpt-4o-std", "name: gpt-4o-other")).workloads
    assert other["api"].permit.rule_version == before["api"].permit.rule_version
    emulated = GOOD.replace("https://contoso.openai.azure.com", "http://127.0.0.1:18101\n    emulated: true")
    assert bench.load(emulated).workloads["api"].permit.rule_version != before["api"].permit.rule_version


def test_what_is_unusual_is_marked(bench: Workbench) -> None:
    text = GOOD.replace("[inference.example.jp]", "[inference.example.jp]}\n  self: {hosts: [10.1.2.3]")
    text = text.replace("cloud: coreweave\n", "cloud: self\n    private: true\n").replace(
        "azure, coreweave", "azure, self, oracle"
    )
    text = text.replace("https://api.inference.wandb.ai/v1", "http://10.1.2.3:8000")

    assert bench.load(text).warnings == (
        "clouds.softbank: inference.example.jp counts as softbank because the file says so",
        "clouds.self: 10.1.2.3 counts as self because the file says so",
        "workloads.internal: no endpoint is at oracle, which its rule names",
        "endpoints.ord: 10.1.2.3:8000 is private and spoken to in the clear",
        "endpoints.ord: its base_url has no path; most compatible servers want /v1",
    )


def test_a_secret_that_is_written_out_is_marked_and_not_shown(bench: Workbench) -> None:
    text = GOOD.replace("${CW_KEY}", "canary-written-out")

    (warning,) = (each for each in bench.load(text).warnings if "auth" in each)
    assert warning == "endpoints.ord.auth.bearer: the secret stands in the file: write it as ${NAME} or file:PATH"
    emulated = text.replace("https://api.inference.wandb.ai/v1", "http://127.0.0.1:9/v1\n    emulated: true")
    assert not any("auth" in each for each in bench.load(emulated).warnings)


@pytest.mark.parametrize("path", ["/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
def test_azure_takes_the_base_url_of_the_sdks_too(bench: Workbench, path: str) -> None:
    bench.load(GOOD.replace("https://contoso.openai.azure.com", f"https://contoso.openai.azure.com{path}"))


def test_an_emulated_address_belongs_to_one_cloud(bench: Workbench) -> None:
    """Or a request that must stay at one cloud would reach the emulator that stands for another."""
    text = GOOD.replace("https://contoso.openai.azure.com", "http://127.0.0.1:18101\n    emulated: true")
    text = text.replace("https://api.inference.wandb.ai/v1", "http://127.0.0.1:18101/v1\n    emulated: true")
    faults = bench.faults(text)

    assert [fault.path for fault in faults] == ["endpoints.ord.base_url"]
    assert "an address belongs to one cloud" in faults[0].message


def test_one_deployment_under_two_endpoints_is_a_fault(bench: Workbench) -> None:
    twin = GOOD[GOOD.index("  eastus2:") : GOOD.index("  ord:")].replace("  eastus2:", "  twin:")
    faults = bench.faults(GOOD.replace("  ord:", f"{twin}  ord:"))

    assert [fault.path for fault in faults] == ["endpoints.twin.deployments"] * 2


def test_an_exclusive_plan_that_names_another_cloud_stops_the_load(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first barrier, alone: the rules are broken on purpose, and the load still refuses."""
    from router.placement import rules

    monkeypatch.setattr(rules.Exclusive, "tiers", lambda self, able: (tuple(able),))
    with pytest.raises(ConfigError, match=r"names ord/llama-70b at coreweave, against exclusive:azure"):
        bench.load()
    monkeypatch.setattr(check, "verify_plans", lambda *_: None)
    assert bench.load()


def test_verify_plans_asks_the_workload_and_the_plan(bench: Workbench) -> None:
    snapshot = bench.load()
    internal = snapshot.workloads["internal"]
    disguised = replace(snapshot.plans["internal", "gpt-4o", "chat"], workload="api")

    check.verify_plans("f", snapshot.workloads, snapshot.plans.values())
    with pytest.raises(ConfigError):
        check.verify_plans("f", snapshot.workloads, [disguised])
    narrowed = replace(disguised, workload="internal", permit=snapshot.workloads["api"].permit)
    with pytest.raises(ConfigError):
        check.verify_plans("f", {"internal": internal}, [narrowed])


def test_what_an_api_version_lacks_is_dropped_unless_asked_for(bench: Workbench) -> None:
    classic = GOOD.replace("api_version: v1", "api_version: 2024-10-21")
    assert bench.load(classic).deployments["eastus2/gpt-4o-std"].operations == {"chat"}  # no responses before 2025

    asked = bench.faults(classic.replace("rpm: 60", "rpm: 60, operations: [responses]"))
    assert "responses: azure_openai 2024-10-21 has no such operation" in asked[0].message
    nothing_left = bench.faults(classic.replace("name: gpt-4o-std", "name: tts").replace("{model: gpt-4o, name: tts", "{model: tts-1, name: tts"))  # fmt: skip  # noqa: E501
    assert "speech: azure_openai 2024-10-21 has no such operation" in nothing_left[0].message


def test_a_date_may_stand_without_quotes(bench: Workbench) -> None:
    snapshot = bench.load(GOOD.replace("api_version: v1", "api_version: 2025-04-01-preview"))
    assert snapshot.endpoints["eastus2"].api_version == "2025-04-01-preview"


def test_new_keys_are_long_and_never_the_same() -> None:
    first, second = new_key(), new_key()
    assert first.startswith("sk-ir-")
    assert len(first) == len("sk-ir-") + 43  # 256 bits in base64url
    assert first != second
    assert digest(first) == digest(first.encode())
