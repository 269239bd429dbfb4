"""`inference-router ledger`, as an operator calls it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from router.cli.ledger import ledger
from router.ledger.store import Position, Store
from tests.router_kit import write_config
from tests.unit.ledger.test_store import record

ENDPOINT = {
    "cloud": "azure",
    "provider": "azure_openai",
    "base_url": "http://127.0.0.1:9",
    "api_version": "v1",
    "auth": {"api_key": "k" * 32},
    "emulated": True,
    "deployments": [{"model": "gpt-4o", "name": "gpt-4o"}],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "router.yaml"
    write_config(path, {"azure-a": ENDPOINT}, tmp_path / "log", ledger={"dir": "ledger"})
    return path


def run(command: str, file: Path) -> tuple[int, list[str]]:
    done = CliRunner().invoke(ledger, [command, "--config", str(file)])
    return done.exit_code, done.output.splitlines()


async def stored(url: str, *numbers: int) -> None:
    store = Store(url)
    await store.add([record(number, 5, 6) for number in numbers], Position("w", 1, 1))
    await store.close()


def test_tables_are_made_once_and_then_what_they_hold_is_told(file: Path, tmp_path: Path) -> None:
    status, lines = run("status", file)
    assert (status, lines) == (1, [f"Error: there is no store at {tmp_path}/ledger/ledger.db yet: the router makes it"])

    status, lines = run("migrate", file)
    assert (status, lines[0][:6], lines[-1]) == (0, "v0001:", f"{len(lines) - 1} steps taken")
    assert run("migrate", file) == (0, ["nothing to do"])

    url = f"sqlite:///{tmp_path}/ledger/ledger.db"
    assert run("status", file)[1][:3] == [
        f"store:    {url}",
        "tables:   up to date",
        "stored:   0 requests, 0 attempts",
    ]
    asyncio.run(stored(url, 1, 2))
    (tmp_path / "ledger" / "0").mkdir()
    (tmp_path / "ledger" / "0" / "00000001.seg").write_bytes(bytes(1 << 20))
    assert run("status", file)[1][2:] == [
        "stored:   2 requests, 4 attempts",
        "entries:  of 2026-03-10T12:30:00Z to 2026-03-10T12:30:00Z; sums by the hour stay for ever",
        "segments: 1 file, of which at most 1.0 MiB wait for the store",
    ]


def test_a_password_is_not_shown_and_a_store_that_is_away_is_said(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    url = f"postgresql://somebody:a-secret@/usage?host={tmp_path}"
    write_config(path, {"azure-a": ENDPOINT}, tmp_path / "log", ledger={"dir": "ledger", "store": url})

    for command in ("status", "migrate"):
        status, lines = run(command, path)
        assert status == 1
        assert "FileNotFoundError" in lines[-1]
        assert "a-secret" not in "".join(lines)


def test_a_configuration_without_a_ledger_has_none_to_look_at(tmp_path: Path) -> None:
    path = tmp_path / "router.yaml"
    write_config(path, {"azure-a": ENDPOINT}, tmp_path / "log")

    for command in ("status", "migrate"):
        status, lines = run(command, path)
        assert (status, lines[-1]) == (2, f"Error: {path} has no `ledger`")
