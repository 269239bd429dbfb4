"""`inference-router keys` and what other commands say of keys that end."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from router.cli import main
from router.config.keys import digest
from tests.unit.config.workbench import ENVIRON, GOOD

OF_ACME = f'sha256: "{"a" * 64}"'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration with a ledger."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / "router.yaml"
    path.write_text(GOOD)
    return str(path)


def keys(*words: str) -> Result:
    return CliRunner().invoke(main, ["keys", *words])


def listed(file: str, *words: str) -> dict[str, dict[str, Any]]:
    shown = json.loads(keys("list", "--json", "--config", file, *words).stdout)
    return {key["name"]: key for key in shown}


def test_each_option_is_a_word_of_the_file(file: str) -> None:
    words = "--models gpt-4o,llama-70b --rpm 600 --tpm 9000 --concurrent 5 --burst-share 0.5 --day-usd 5 --month-usd 50"
    more = "--shadow --weight 2 --priority high --expires 2036-01-01"
    done = keys("add", "shop", "--workload", "internal", *words.split(), *more.split(), "--config", file)

    assert done.exit_code == 0, done.output
    (secret,) = re.findall(r"sk-ir-[\w-]+", done.stdout)
    shown = listed(file)["shop"]
    assert shown["terms"] == {
        "workload": "internal",
        "models": ["gpt-4o", "llama-70b"],
        "limits": {"rpm": 600, "tpm": 9000, "concurrent": 5, "burst_share": 0.5, "shadow": True},
        "budget": {"day_usd": 5.0, "month_usd": 50.0, "shadow": True},
        "weight": 2.0,
        "priority": "high",
        "expires": "2036-01-01",
    }
    assert shown["secrets"] == [{"sha256": digest(secret).hex()[:12], "ends": None}]
    assert shown["state"] == "active"


def test_what_is_left_out_is_as_the_file_has_it_and_all_models_are_allowed(file: str) -> None:
    keys("add", "shop", "--workload", "api", "--config", file)

    assert listed(file)["shop"]["terms"] == {"workload": "api", "models": ["*"]}


def test_the_life_of_a_key_as_its_operator_sees_it(file: str) -> None:
    here = ("--config", file)
    assert keys("add", "shop", "--workload", "api", *here).exit_code == 0
    rotated = keys("rotate", "shop", "--overlap", "90m", *here)
    assert re.search(r"The secret of digest [0-9a-f]{12}… ends at 2\d{3}-", rotated.stdout)
    assert len(listed(file)["shop"]["secrets"]) == 2
    table = keys("list", *here).stdout
    assert re.search(r"^shop +api +\* .* active +store", table, re.MULTILINE)
    assert re.search(r"^acme +api +gpt-4o .* active +file", table, re.MULTILINE)
    assert keys("revoke", "shop", *here).stdout == "shop is revoked. Its name is not given again.\n"
    assert "shop" not in listed(file)
    assert listed(file, "--all")["shop"]["state"] == "revoked"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("add shop --workload gone", 1, "workload: 'gone' is no workload"),
        ("add shop --workload api --rpm 0", 1, "limits.rpm: must be above 0"),
        ("add shop --workload api --shadow", 2, "goes with a limit"),
        ("add acme --workload api", 1, "is that of a key of the configuration"),
        ("add shop --workload api --sha256 short", 1, "is no SHA-256"),
        ("rotate nobody", 1, "the store has no key named 'nobody'"),
        ("rotate acme", 1, "stands in the configuration"),
        ("rotate shop --overlap soon", 2, "is no span of time"),
        ("rotate shop --overlap 900d", 1, "must be from 0 to"),
        ("revoke nobody", 1, "the store has no key named 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(file: str, words: str, status: int, said: str) -> None:
    done = keys(*words.split(), "--config", file)

    assert (done.exit_code, said in done.stderr) == (status, True), done.output


def test_a_command_must_know_whom_to_ask(file: str) -> None:
    assert "Give one of" in keys("list").stderr
    assert "Give one of" in keys("list", "--config", file, "--admin", "http://127.0.0.1:1").stderr
    away = keys("list", "--admin", "http://127.0.0.1:1")
    assert (away.exit_code, "does not answer" in away.stderr) == (1, True)


def test_without_a_ledger_there_is_nothing_to_add_to(file: str) -> None:
    Path(file).write_text(re.sub(r"^ledger: .*\n", "", GOOD, flags=re.MULTILINE))
    done = keys("add", "shop", "--workload", "api", "--config", file)

    assert (done.exit_code, "no `ledger`" in done.stderr) == (1, True)


def test_a_store_that_cannot_be_opened_is_named(file: str, tmp_path: Path) -> None:
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "ledger.db").write_text("no database")
    done = keys("list", "--config", file)

    assert (done.exit_code, "not a database" in done.stderr) == (1, True)


def test_check_and_explain_say_when_keys_end(file: str) -> None:
    Path(file).write_text(GOOD.replace(OF_ACME, f'{OF_ACME[:-1]}"\n    expires: 2020-01-01'))
    run = CliRunner().invoke
    assert "key: acme has ended at 2020-01-01T00:00:00Z" in run(main, ["check", file]).stdout
    explained = run(main, ["explain", file, "--key", "acme", "--model", "gpt-4o"])
    assert "the key 'acme' has ended at 2020-01-01T00:00:00Z" in explained.stderr
    Path(file).write_text(GOOD.replace(OF_ACME, f'sha256: ["{"a" * 64}", "{"c" * 64}"]\n    expires: 2036-01-01'))
    shown = run(main, ["check", file]).stdout
    assert "key: acme ends at 2036-01-01T00:00:00Z" in shown
    assert "2 keys" in shown
