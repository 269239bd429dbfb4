"""What a good file becomes."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from router.config import check
from router.config.faults import ConfigError
from router.config.keys import digest, new_key
from router.config.load import load
from router.config.moments import parse_moment
from router.config.schema import Section
from router.config.shape import keys_of
from router.config.snapshot import Address
from router.model.fleet import AuthKind, Kind, Price
from router.model.plan import Plan, Removed
from router.model.policy import Hedge, Policy, Prefer, Priority
from router.placement import Condition
from tests.unit.config.workbench import GOOD, Workbench

CONFIG = Path(__file__).parents[3] / "config"
EXAMPLE_ENVIRON = {
    **dict.fromkeys(("AZURE_EASTUS2_KEY", "AZURE_SWEDENCENTRAL_KEY", "AZURE_WESTUS3_KEY"), "x"),
    **dict.fromkeys(("COREWEAVE_KEY", "ORACLE_KEY", "SOFTBANK_KEY"), "x"),
    "BENCH_ACCESS_LOG": "off",
    "BENCH_DECISIONS": "decisions",
    "BENCH_LEDGER": "ledger",
    "ACME_KEY_SHA256": "a" * 64,
    "EVALUATION_KEY_SHA256": "b" * 64,
    "FIRST_KEY_SHA256": "c" * 64,
    "RESEARCH_KEY_SHA256": "d" * 64,
}


def test_everything_arrives(bench: Workbench) -> None:
    snapshot = bench.load()

    assert (snapshot.server.listen.host, snapshot.server.listen.port) == ("127.0.0.1", 8080)
    assert [str(Address(host, 8080)) for host in ("::1", "10.0.0.1")] == ["[::1]:8080", "10.0.0.1:8080"]
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


def test_the_keys_of_policies_settings_and_capacity_arrive(bench: Workbench) -> None:
    text = (
        GOOD.replace("tpm: 1000", "concurrent: 40, ttft_objective_ms: 900, price: "
                     "{prompt_usd_per_mtok: 2.5, completion_usd_per_mtok: 10, cached_usd_per_mtok: 0.075}")
        .replace("    zone: ord\n", "    zone: ord\n    load: vllm\n    probe: false\n")
        .replace("affinity: true", "affinity: true\n    priority: high\n    max_wait_ms: 0\n    ttft_objective_ms: 700")
        .replace("then: [coreweave]", "then: [oracle, [softbank, coreweave]]\n      holder_attempts: 4")
        .replace("hedge: {after_ms: 800}", "hedge: {after_ms: p95, share_max: 0.1}\n    priority: low")
        .replace("open_s: 2,", "open_s: 3, probe_every_s: 7,")
        .replace("budget_share: 0.2", "budget_share: 0.1, budget_window_s: 5")
        .replace("concurrency: adaptive", "concurrency: off, waiting_max: 0, quota_twin: false")
    )  # fmt: skip
    snapshot = bench.load(text, wall=0.0)

    ptu = snapshot.deployments["eastus2/gpt-4o-ptu"]
    assert (ptu.concurrent_max, ptu.ttft_objective_ms) == (40, 900)
    assert ptu.price == Price(2_500_000_000, 10_000_000_000, 75_000_000)
    assert (snapshot.endpoints["ord"].load, snapshot.endpoints["ord"].probe) == ("vllm", False)
    assert (snapshot.endpoints["eastus2"].load, snapshot.endpoints["eastus2"].probe) == ("", True)
    assert snapshot.workloads["api"].policy == Policy()
    assert snapshot.workloads["internal"].policy == Policy(Priority.HIGH, 0, 700, affinity=True)
    assert snapshot.workloads["research"].policy == Policy(
        Priority.LOW, holder_attempts=4, hedge=Hedge(None, share_max=0.1)
    )
    assert (snapshot.health.open_s, snapshot.health.probe_every_s, snapshot.health.open_s_max) == (3, 7, 60)
    assert (snapshot.retries.budget_share, snapshot.retries.budget_window_s) == (0.1, 5)
    assert not snapshot.limits.adaptive
    assert not snapshot.limits.quota_twin
    assert snapshot.limits.waiting_max == 0
    log = snapshot.decision_log
    assert log is not None
    assert (log.folder, log.keep_bytes) == (str(bench.file.parent / "decisions"), 512 << 20)
    assert (log.anchors, log.signing_key) == (None, None)


def test_the_weight_and_the_priority_of_a_key_arrive(bench: Workbench) -> None:
    plain = next(iter(bench.load(GOOD).keys.values()))
    assert (plain.weight, plain.priority) == (1.0, None), "as its workload has it"
    key = next(
        iter(
            bench.load(
                GOOD.replace("    models: [gpt-4o]", "    weight: 2.5\n    priority: low\n    models: [gpt-4o]")
            ).keys.values()
        )
    )
    assert (key.weight, key.priority) == (2.5, Priority.LOW)


def test_a_signed_log_has_its_paths_from_the_files_folder(bench: Workbench) -> None:
    (bench.file.parent / "key.pem").write_text("x")
    text = GOOD.replace("dir: decisions", "dir: decisions, anchors: elsewhere/a.jsonl, signing_key: key.pem")
    snapshot = bench.load(text)

    log = snapshot.decision_log
    assert log is not None
    assert log.anchors == str(bench.file.parent / "elsewhere" / "a.jsonl")
    assert log.signing_key == str(bench.file.parent / "key.pem")


def test_a_folder_for_anchors_that_is_not_there_is_marked(bench: Workbench) -> None:
    (bench.file.parent / "key.pem").write_text("x")
    text = GOOD.replace("dir: decisions", "dir: decisions, anchors: elsewhere/a.jsonl, signing_key: key.pem")

    (warning,) = (each for each in bench.load(text).warnings if "anchor" in each)

    assert warning.endswith(f"nothing is anchored until there is a folder {bench.file.parent / 'elsewhere'}")
    (bench.file.parent / "elsewhere").mkdir()
    assert not any("anchor" in each for each in bench.load(text).warnings)


def test_first_refusal_needs_the_log_in_whatever_phase_it_holds(bench: Workbench) -> None:
    without = GOOD.replace("decision_log: {dir: decisions, keep_bytes: 512MiB}\n", "")
    (fault,) = bench.faults(without)
    assert fault.path == "workloads.research.placement"
    assert "needs the top-level `decision_log`" in fault.message

    later = GOOD[GOOD.index("      rule: first_refusal") : GOOD.index("      until: clause-7")]
    swapped = without.replace(later, "      rule: spread\n      clouds: [azure, coreweave]\n")
    assert bench.load(swapped).decision_log is None
    nested = swapped.replace(
        "{rule: spread, clouds: [coreweave]}", "{rule: first_refusal, holder: azure, then: [coreweave]}"
    )
    assert [fault.path for fault in bench.faults(nested)] == ["workloads.research.placement"]


def test_a_list_price_is_the_default_and_the_file_overrides_it(bench: Workbench) -> None:
    listed = bench.load().deployments["eastus2/gpt-4o-std"].price
    assert listed is not None
    assert listed.prompt_nano_usd_per_mtok > 0
    own = GOOD.replace("rpm: 60", "rpm: 60, price: {prompt_usd_per_mtok: 0, completion_usd_per_mtok: 0}")
    assert bench.load(own).deployments["eastus2/gpt-4o-std"].price == Price(0, 0)
    assert bench.load().deployments["ord/llama-70b"].price is None
    priced = GOOD.replace("prefer: balanced", "prefer: cost").replace(
        "{model: gpt-4o, name: llama-70b}",
        "{model: gpt-4o, name: llama-70b, price: {prompt_usd_per_mtok: 1, completion_usd_per_mtok: 1}}",
    )
    assert "ord/llama-70b-own" in str(bench.faults(priced)[0])  # each one in reach needs a price
    priced = priced.replace("name: llama-70b-own", "name: llama-70b-own, price: {prompt_usd_per_mtok: 1, completion_usd_per_mtok: 1}")  # fmt: skip  # noqa: E501
    assert bench.load(priced).plans["internal", "gpt-4o", "chat"].prefer is Prefer.COST


def test_capacity_that_is_paid_by_the_month_has_tokens_for_nothing(bench: Workbench) -> None:
    flat = GOOD.replace("kind: provisioned", "kind: provisioned, price: {flat_usd_per_month: 26000}")
    deployment = bench.load(flat).deployments["eastus2/gpt-4o-ptu"]
    assert (deployment.price, deployment.flat_nano_usd_per_month) == (Price(0, 0), 26_000_000_000_000)
    both = flat.replace("month: 26000", "month: 26000, prompt_usd_per_mtok: 1, completion_usd_per_mtok: 2")
    deployment = bench.load(both).deployments["eastus2/gpt-4o-ptu"]
    assert (deployment.price, deployment.flat_nano_usd_per_month) == (
        Price(1_000_000_000, 2_000_000_000),
        26_000_000_000_000,
    )
    assert bench.load().deployments["eastus2/gpt-4o-ptu"].flat_nano_usd_per_month == 0


def test_a_rule_that_waits_needs_its_prices_and_deployments_too(bench: Workbench) -> None:
    waiting = GOOD.replace(", declared: 2031-02-01, by: legal", "")
    for otherwise, message in (
        ("{rule: spread, clouds: [coreweave], prefer: cost}", "cannot be by cost: ord/llama-70b"),
        ("{rule: spread, clouds: [oracle]}", "no endpoint in ord or us is at oracle"),
    ):
        faults = bench.faults(waiting.replace("{rule: spread, clouds: [coreweave]}", otherwise))
        assert {fault.path for fault in faults} == {"workloads.research.placement"}
        assert message in faults[0].message


MET = parse_moment("2031-02-01")
assert MET is not None


def test_a_rule_ends_when_its_condition_is_declared_met(bench: Workbench) -> None:
    before, after = bench.load(wall=MET - 1), bench.load(wall=MET)

    assert before.workloads["research"].reason == "first_refusal:azure"
    assert after.workloads["research"].reason == "spread:coreweave"
    assert (before.since, before.until) == (-math.inf, MET)
    assert (after.since, after.until) == (MET, math.inf)
    assert before.at(MET - 0.001) is before
    assert before.at(MET) == after
    assert after.at(0.0) == before
    assert before.version == after.version
    assert before.workloads["api"] is before.at(MET).workloads["api"]
    assert before.plans["research", "gpt-4o", "chat"].permit.clouds == {"azure", "coreweave"}
    assert after.plans["research", "gpt-4o", "chat"].permit.clouds == {"coreweave"}
    assert before.conditions == (Condition("clause-7", MET, "legal"),)


def test_a_condition_that_nobody_declared_ends_nothing(bench: Workbench) -> None:
    snapshot = bench.load(GOOD.replace(", declared: 2031-02-01, by: legal", ""), wall=1e12)

    assert snapshot.workloads["research"].reason == "first_refusal:azure"
    assert len(snapshot.phases) == 1


@pytest.mark.parametrize(
    "moment",
    ["2031-02-01", "'2031-02-01'", "2031-02-01T00:00:00Z", "'2031-02-01T00:00:00Z'", "2031-02-01T01:00:00+01:00"],
)
def test_a_moment_may_be_written_in_all_these_ways(bench: Workbench, moment: str) -> None:
    text = GOOD.replace("until: clause-7", f"until: {moment}")
    assert bench.load(text, wall=0.0).until == MET


def test_windows_of_several_workloads_cut_one_row_of_phases(bench: Workbench) -> None:
    text = GOOD.replace(
        "{rule: exclusive, cloud: azure}",
        "{rule: exclusive, cloud: azure, from: 2026-01-01, until: 2035-01-01, then_rule: "
        "{rule: spread, clouds: [azure, coreweave], from: 2036-01-01, then_rule: {rule: exclusive, cloud: coreweave}}}",
    )
    snapshot = bench.load(text, wall=0.0)

    assert [phase.workloads["api"].reason for phase in snapshot.phases] == [
        "exclusive:coreweave",  # before all windows
        "exclusive:azure",
        "exclusive:azure",  # cut by the other workload's condition
        "exclusive:coreweave",
        "spread:azure+coreweave",
    ]
    assert [phase.since for phase in snapshot.phases[1:]] == [phase.until for phase in snapshot.phases[:-1]]
    assert (snapshot.phases[0].since, snapshot.phases[-1].until) == (-math.inf, math.inf)
    assert snapshot.workloads is snapshot.phases[0].workloads
    # llama-70b is not at azure: the key of `api` may list it all the same, for the time after.
    bench.load(text.replace("models: [gpt-4o]", "models: [gpt-4o, llama-70b]"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("zones: [us, ord]", "zones: [us, ord, eu]"),
        ("holder: azure", "holder: azure\n      holder_attempts: 3"),
        ("then: [coreweave]", "then: [coreweave, oracle]"),
        ("then: [coreweave]", "then: [coreweave]\n      prefer: latency"),
        ("until: clause-7", "until: 2031-02-01"),
        ("until: clause-7", "from: 2026-01-01\n      until: clause-7"),
        ("declared: 2031-02-01", "declared: 2031-02-02"),
        (", declared: 2031-02-01, by: legal", ""),
        ("by: legal", "by: the board"),
        ("{rule: spread, clouds: [coreweave]}", "{rule: spread, clouds: [azure, coreweave]}"),
    ],
)
def test_whatever_a_rule_says_is_in_its_version(bench: Workbench, old: str, new: str) -> None:
    assert GOOD.count(old) == 1
    text = GOOD.replace("api_version: v1", "api_version: v1\n    region: x").replace("    region: eastus2\n", "")
    text = text.replace("  ord:\n", OTHER_ZONE + "  ord:\n")
    before, after = bench.load(text, wall=0.0).phases, bench.load(text.replace(old, new), wall=0.0).phases

    assert {phase.workloads["research"].permit.rule_version for phase in before}.isdisjoint(
        phase.workloads["research"].permit.rule_version for phase in after
    )
    assert before[0].workloads["api"].permit == after[0].workloads["api"].permit


OTHER_ZONE = """\
  sweden:
    cloud: azure
    provider: azure_openai
    zone: eu
    base_url: https://sweden.openai.azure.com
    auth: {api_key: "${AZURE_KEY}"}
    deployments: [{model: gpt-4o, name: gpt-4o}]
"""


def test_plans_keep_to_their_zones_and_say_who_does_not(bench: Workbench) -> None:
    plan = bench.load(GOOD.replace("  ord:\n", OTHER_ZONE + "  ord:\n"), wall=0.0).plans["research", "gpt-4o", "chat"]

    assert [[each.id for each in tier] for tier in plan.tiers] == [
        ["eastus2/gpt-4o-ptu"],
        ["eastus2/gpt-4o-std"],
        ["ord/llama-70b"],
    ]
    assert (plan.holder, plan.holder_tiers) == ("azure", 2)
    assert [(each.deployment.id, each.why) for each in plan.removed] == [
        ("sweden/gpt-4o", "its zone eu is not among ord, us")
    ]


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
    keys = {key for section in Section.__subclasses__() for key in keys_of(section)}

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
    assert clouds == {"azure", "coreweave", "oracle", "softbank"}
    own = {each.cloud for plan in snapshot.plans.values() if plan.workload == "api" for t in plan.tiers for each in t}
    assert own == {"azure"}


def test_all_faults_come_at_once(bench: Workbench) -> None:
    """Of shape, of meaning, of references and of YAML keys: one run names them all, in the order of the file."""
    text = (
        GOOD.replace("listen:", "listne:")
        .replace("connect_s: 5", "connect_s: 5, connect_s: 6")
        .replace("{x-team: one}", "{cookie: x}")
        .replace("${CW_KEY}", "${NOWHERE}")
        .replace("gpt-4o-latest: gpt-4o", "gpt-4o-latest: gpt-9")
        .replace("rule: exclusive", "rule: frist_refusal")
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
    text = text.replace("[coreweave]", "[self]").replace("zones: [us, ord]", "zones: [us]", 1)
    text = text.replace("then_rule: {rule: spread, clouds: [self]}", "then_rule: {rule: exclusive, cloud: azure}")
    text = text.replace("    hedge: {after_ms: 800}\n", "").replace(
        "name: clause-7,", "name: clause-8}, {name: clause-7,"
    )
    text = text.replace("https://api.inference.wandb.ai/v1", "http://10.1.2.3:8000")

    assert bench.load(text).warnings == (
        "clouds.softbank: inference.example.jp counts as softbank because the file says so",
        "clouds.self: 10.1.2.3 counts as self because the file says so",
        "workloads.internal: no endpoint is at oracle, which its rule names",
        "workloads.research: no endpoint in us is at self, which its rule names",
        "decision_log: without `signing_key` nobody can prove that it was not rewritten",
        "conditions: clause-8 ends no rule",
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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda plan: {"tiers": plan.tiers[::-1]}, "on the wrong side of the holder's refusal"),
        (lambda plan: {"tiers": plan.tiers[::-1], "holder_tiers": 0}, "out of their order"),
        (lambda plan: {"tiers": (sum(plan.tiers, ()),), "holder_tiers": 1}, "has the clouds of tier 1 out of their"),
        (lambda plan: {"holder": ""}, "offers to nobody first"),
        (lambda plan: {"holder_tiers": 3}, "has ord/llama-70b on the wrong side of the holder's refusal"),
        (
            lambda plan: {"tiers": plan.tiers[1:], "holder_tiers": 1, "removed": (Removed(plan.tiers[0][0], ""),)},
            "leaves out eastus2/gpt-4o-ptu, which is the holder's",
        ),
    ],
)
def test_the_first_barrier_knows_who_is_asked_first(
    bench: Workbench, wrong: Callable[[Plan], dict[str, Any]], message: str
) -> None:
    snapshot = bench.load(wall=0.0)
    plan = snapshot.plans["research", "gpt-4o", "chat"]
    assert [tier[0].id for tier in plan.tiers] == ["eastus2/gpt-4o-ptu", "eastus2/gpt-4o-std", "ord/llama-70b"]

    with pytest.raises(ConfigError, match=re.escape(message)):
        check.verify_plans("f", snapshot.workloads, [replace(plan, **wrong(plan))])


def test_the_first_barrier_stands_in_every_phase(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that is broken holds from 2031 on; the load refuses it today."""
    from router.placement import rules

    text = GOOD.replace(
        "then_rule: {rule: spread, clouds: [coreweave]}", "then_rule: {rule: exclusive, cloud: coreweave}"
    ).replace("    hedge: {after_ms: 800}\n", "")
    monkeypatch.setattr(
        rules.Exclusive, "tiers", lambda self, able: (tuple(able),) if self.cloud == "coreweave" else ()
    )
    with pytest.raises(ConfigError, match=r"names eastus2/gpt-4o-ptu at azure, against exclusive:coreweave"):
        bench.load(text.replace("models: [gpt-4o]", "models: ['*']"), wall=0.0)


def test_the_first_barrier_knows_the_zones(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapper is broken on purpose, so that plans leave their zones; in any phase, the load refuses."""
    from router.placement import rules

    monkeypatch.setattr(rules.Within, "tiers", lambda self, able: self.rule.tiers(able))
    text = GOOD.replace("zones: [us, ord]", "zones: [us]").replace(
        "then_rule: {rule: spread, clouds: [coreweave]}", "then_rule: {rule: spread, clouds: [azure, coreweave]}"
    )
    with pytest.raises(ConfigError, match=r"names ord/llama-70b in the zone ord, against first_refusal:azure"):
        bench.load(text)


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
