"""The commands as people call them."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console
from ruamel.yaml import YAML

from router.cli import main
from router.cli.check import show
from router.config.keys import digest
from router.config.load import load

ROOT = Path(__file__).parents[3]
DEMO = str(ROOT / "config" / "demo.yaml")
FIRST_REFUSAL = str(ROOT / "config" / "examples" / "first-refusal.yaml")
ENVIRON = {
    **dict.fromkeys(("AZURE_EASTUS2_KEY", "AZURE_WESTUS3_KEY", "AZURE_SWEDENCENTRAL_KEY"), "x"),
    **dict.fromkeys(("ORACLE_KEY", "SOFTBANK_KEY", "COREWEAVE_KEY"), "x"),
    "ACME_KEY_SHA256": "a" * 64,
    "EVALUATION_KEY_SHA256": "b" * 64,
    "FIRST_KEY_SHA256": "c" * 64,
    "RESEARCH_KEY_SHA256": "d" * 64,
}


def run(*arguments: str):
    return CliRunner().invoke(main, arguments)


def test_check_shows_the_routes_and_why() -> None:
    done = run("check", DEMO)

    assert done.exit_code == 0
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(map(len, lines)) <= 100
    api = lines[: next(at for at, line in enumerate(lines) if line.startswith("internal: "))]
    assert re.fullmatch(r"api: exclusive:azure \(rule version [0-9a-f]{12}\)", api[0])
    table = "\n".join(re.sub(r" +", " ", line).strip() for line in api)
    assert "gpt-4o 1 azure: azure-eastus2/gpt-4o-ptu\nchat azure: azure-swedencentral/gpt-4o\nresponses " in table
    assert "\n2 azure: azure-eastus2/gpt-4o-std\n" in table
    assert "coreweave" not in table
    assert "alias: gpt-4o-latest means gpt-4o" in done.stdout
    assert "warning: endpoints.coreweave-ord: 127.0.0.1:18104 is an emulator" in done.stdout
    assert "good; 6 endpoints, 15 deployments, 2 keys; version " in done.stdout
    assert not done.stderr


def test_the_table_fits_a_terminal_of_80_columns() -> None:
    out = io.StringIO()
    show(load(DEMO, {}), Console(file=out, width=80))

    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("api: exclusive:azure (rule version ") for line in lines)
    for whole in ("azure: azure-westus3/gpt-4o-classic", "coreweave: coreweave-ord/llama-3.3-70b"):
        assert any(line.rstrip().endswith(whole) for line in lines)


def test_check_writes_json_for_machines() -> None:
    shown = json.loads(run("check", DEMO, "--json").stdout)

    assert shown["workloads"]["api"]["clouds"] == ["azure"]
    for route in shown["routes"]:
        if route["workload"] == "api":
            assert {each["cloud"] for tier in route["tiers"] for each in tier} == {"azure"}
            assert route["rule_version"] == shown["workloads"]["api"]["rule_version"]
    assert {"name": "demo-api", "workload": "api", "expires": None, "limits": {}} in shown["keys"]


def test_check_shows_windows_conditions_and_rule_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in ENVIRON.items():
        monkeypatch.setenv(variable, value)
    lines = run("check", FIRST_REFUSAL).stdout.splitlines()

    windows = [line for line in lines if line.startswith("window: internal: from ")]
    assert [line.endswith(" (now)") for line in windows].count(True) == 1
    told = [line.removeprefix("window: internal: from ").removesuffix(" (now)") for line in windows]
    assert [re.sub(r"[0-9a-f]{12}", "VERSION", line) for line in told] == [
        "the beginning to 2026-01-01T00:00:00Z: spread:azure+coreweave+oracle+softbank, rule version VERSION",
        "2026-01-01T00:00:00Z to 2031-02-01T00:00:00Z: first_refusal:azure, rule version VERSION",
        "2031-02-01T00:00:00Z to the end: spread:azure+coreweave+oracle+softbank, rule version VERSION",
    ]
    versions = re.findall(r"[0-9a-f]{12}", "".join(windows))
    assert versions[0] == versions[2] != versions[1]
    assert "condition: exclusivity-ends: not declared met" in lines
    assert not any(line.startswith("window: research") for line in lines)  # it has one rule, without an end
    shown = json.loads(run("check", FIRST_REFUSAL, "--json").stdout)
    assert [each["rule_version"] for each in shown["workloads"]["internal"]["windows"]] == versions
    assert (shown["workloads"]["research"]["zones"], shown["workloads"]["research"]["holder"]) == (["eu"], "azure")
    assert shown["conditions"] == [{"name": "exclusivity-ends", "declared": None, "by": "legal"}]


def test_check_names_all_faults_on_standard_error(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("server: {listne: 1}\nendpoints: {}\nworkloads: 5\n")
    done = run("check", str(file))

    assert done.exit_code == 1
    assert not done.stdout
    assert done.stderr.splitlines() == [
        f"{file}:1: server.listne: is not a known key (did you mean 'listen'?)",
        f"{file}:2: endpoints: lists nothing",
        f"{file}:3: workloads: must be a mapping",
        f"{file}: 3 faults",
    ]


def test_check_writes_faults_as_json_too(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("server: {listne: 1}\nendpoints: {}\nworkloads: 5\n")
    done = run("check", "--json", str(file))

    assert (done.exit_code, done.stderr) == (1, "")
    shown = json.loads(done.stdout)
    assert list(shown) == ["faults"]
    assert shown["faults"][1:] == [
        {"file": str(file), "line": 2, "path": "endpoints", "message": "lists nothing"},
        {"file": str(file), "line": 3, "path": "workloads", "message": "must be a mapping"},
    ]


def test_one_is_not_counted_as_many(tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    file.write_text(
        "endpoints: {one: {cloud: azure, provider: azure_openai, base_url: 'http://127.0.0.1:1', emulated: true,\n"
        "  auth: {api_key: x}, deployments: [{model: gpt-4o, name: gpt-4o}]}}\n"
        "workloads: {api: {placement: {rule: exclusive, cloud: azure}}}\n"
    )

    assert "good; 1 endpoint, 1 deployment, 0 keys; version " in run("check", str(file)).stdout


def test_check_of_no_file(tmp_path: Path) -> None:
    done = run("check", str(tmp_path / "none.yaml"))

    assert done.exit_code == 1
    assert "none.yaml: cannot be read (No such file or directory)" in done.stderr


@pytest.mark.parametrize("name", ["azure-only", "azure-and-own-vllm", "first-refusal"])
def test_examples_are_good(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in ENVIRON.items():
        monkeypatch.setenv(variable, value)

    assert run("check", str(ROOT / "config" / "examples" / f"{name}.yaml")).exit_code == 0


def test_keys_new_prints_a_key_and_the_yaml_to_paste() -> None:
    done = run("keys", "new", "--workload", "api", "--name", "acme", "--models", "gpt-4o,o3", "--models", "tts-1")

    (key,) = re.findall(r"sk-ir-[\w-]{43}", done.stdout)
    assert done.stdout.count(key) == 1
    (entry,) = YAML(typ="safe").load(done.stdout[done.stdout.index("  - {") :])
    assert entry == {
        "name": "acme",
        "workload": "api",
        "sha256": digest(key).hex(),
        "models": ["gpt-4o", "o3", "tts-1"],
    }


def test_what_keys_new_prints_can_be_pasted(tmp_path: Path) -> None:
    entry = re.search(r"  - \{.*\}", run("keys", "new", "--workload", "api").stdout)
    assert entry is not None
    file = tmp_path / "router.yaml"
    file.write_text(f"{Path(DEMO).read_text(encoding='utf-8')}{entry[0]}\n", encoding="utf-8")

    assert run("check", str(file)).exit_code == 0


def test_keys_new_needs_a_workload() -> None:
    assert run("keys", "new").exit_code == 2


def test_help_names_all_commands_and_imports_none() -> None:
    """What a command needs is imported when it is called: `--help` must not pay for pydantic, YAML and rich."""
    code = (
        "import sys; from router.cli import main\n"
        "try: main(['--help'], prog_name='inference-router')\n"
        "except SystemExit: pass\n"
        "print([name for name in ('pydantic', 'ruamel', 'rich', 'aiohttp', 'uvloop') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    for name in ("serve", "check", "explain", "keys", "demo", "emulate"):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)
    assert done.stdout.endswith("[]\n")


def test_an_unknown_command_is_refused() -> None:
    assert run("chekc").exit_code == 2


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "router", "--version"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("inference-router ")
