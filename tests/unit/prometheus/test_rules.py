"""Prometheus' own checker on the files that operators load, and what it cannot know: that nothing is left untested."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.promql_kit import ALERTS, RECORDED, ROOT, RULES, faults, read_yaml

TESTS: Final = sorted(Path(__file__).parent.glob("*_test.yml"))


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs the tool of Debian's package `prometheus`. Skips without it; in CI that is a failure."""
    if shutil.which("promtool") is None:
        if os.environ.get("CI"):
            pytest.fail("there is no `promtool`, and in CI these tests must run")
        pytest.skip("there is no `promtool`")
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, cwd=ROOT)


def test_prometheus_takes_the_configuration_and_its_rules() -> None:
    done = promtool("check", "config", "--lint=all", "--lint-fatal", RULES / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_yaml(RULES / "prometheus.yml")["rule_files"] == ["recording.yml", "alerts.yml"]


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_say_what_their_data_is_for(file: Path) -> None:
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_to_be_silent() -> None:
    seen: dict[bool, set[str]] = {True: set(), False: set()}
    for file in TESTS:
        for case in (case for test in read_yaml(file)["tests"] for case in test.get("alert_rule_test", [])):
            seen[bool(case["exp_alerts"])].add(case["alertname"])
    healthy = {
        case["alertname"]
        for case in read_yaml(Path(__file__).parent / "healthy_test.yml")["tests"][0]["alert_rule_test"]
    }
    assert seen[True] == seen[False] == healthy == ALERTS.keys()


def test_every_recording_rule_is_reckoned_by_hand() -> None:
    (test,) = read_yaml(Path(__file__).parent / "recording_test.yml")["tests"]
    reckoned = [re.findall(r"\w+:\w+:\w+", case["expr"]) for case in test["promql_expr_test"]]
    assert sorted(name for names in reckoned for name in names) == sorted(RECORDED)


def test_a_recorded_name_begins_with_the_labels_that_are_left() -> None:
    for name, rule in RECORDED.items():
        by = re.findall(r"sum by \(([^)]*)\)", rule["expr"])
        left = {tuple(label for label in labels.split(", ") if label not in ("le", "job")) for labels in by}
        assert name.split(":")[0] in {"_".join(labels) or "job" for labels in left}, name


@pytest.mark.parametrize("rule", [*ALERTS.values(), *RECORDED.values()], ids=[*ALERTS, *RECORDED])
def test_a_rule_asks_for_what_there_is(rule: dict[str, str]) -> None:
    assert not list(faults(rule["expr"]))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_tells_who_must_act_what_is_wrong_and_what_to_do(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    found = re.search(r"^## Alerts$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    sections = re.findall(r"^### (\w+)\n\n(.+?)(?=^### |\Z)", found[1], re.MULTILINE | re.DOTALL)
    assert [heading for heading, _ in sections] == list(ALERTS), "the sections stand in the order of the file"
    for heading, words in sections:
        assert len(words.split()) >= 15, f"{heading}: what to do?"
