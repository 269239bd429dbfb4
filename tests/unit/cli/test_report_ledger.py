"""Reports from the ledger's store, as people and as programs read them."""

import asyncio
import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner, Result

from router.cli.report import report
from router.cli.report.period import Moment
from router.cli.report.usage import PARTS
from router.ledger import reports
from router.ledger.rows import SUMS
from router.ledger.store import Position, Store
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from tests.router_kit import write_config

DAY: Final = 1_609_459_200.0  # 2021-01-01, UTC
ENDPOINTS: Final[dict[str, dict[str, Any]]] = {
    "east": {
        "cloud": "azure",
        "provider": "azure_openai",
        "base_url": "http://127.0.0.1:9",
        "auth": "none",
        "emulated": True,
        "deployments": [
            {
                "model": "gpt-4o",
                "name": "ptu",
                "kind": "provisioned",
                "tpm": 1000,
                "price": {"flat_usd_per_month": 7300},
            },
            {
                "model": "gpt-4o",
                "name": "std",
                "price": {"prompt_usd_per_mtok": 2.5, "completion_usd_per_mtok": 10},
            },
        ],
    },
    "ord": {
        "cloud": "coreweave",
        "provider": "openai",
        "base_url": "http://127.0.0.1:10",
        "auth": "none",
        "emulated": True,
        "deployments": [{"model": "gpt-4o", "name": "llama"}],
    },
}


def spilt(number: int, at: float, **more: Any) -> RequestRecord:
    """Refused at azure, served at coreweave."""
    usage = Usage(1_000_000, 100_000, 0, 7)
    attempts = (
        AttemptRecord("east/std", "azure", "throttled", 429),
        AttemptRecord("ord/llama", "coreweave", "served", 200, usage=usage, cost_nano_usd=1_250_000_000, price="abc"),
    )
    fields: dict[str, Any] = {
        "key": "acme",
        "workload": "internal",
        "model": "gpt-4o",
        "plan": "first_refusal:azure",
        "served_by": "ord/llama",
        "cloud": "coreweave",
        "attempts": attempts,
        "usage": usage,
        "cost_nano_usd": 1_250_000_000,
    }
    return RequestRecord(f"req-{number}", at, "ok", 200, 12.5, **{**fields, **more})


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "router.yaml"
    write_config(file, ENDPOINTS, Path("off"), ledger={"dir": "ledger"})
    return file


def fill(config: Path, *records: RequestRecord) -> None:
    async def run() -> None:
        store = Store(f"sqlite:///{config.parent}/ledger/ledger.db")
        await store.migrate()
        await store.add(records, Position("0", 1, 1))
        await store.close()

    (config.parent / "ledger").mkdir()
    asyncio.run(run())


def run(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(report, [arguments[0], "--config", str(config), *arguments[1:]])


def told(config: Path, *arguments: str) -> str:
    found = run(config, *arguments, "--since", "2021-01-01")
    assert found.exit_code == 0, found.output
    return found.stdout


def test_the_parts_that_are_offered_are_those_that_there_are() -> None:
    assert set(PARTS) == set(reports.PARTS)


def test_usage_for_people(config: Path) -> None:
    fill(config, spilt(1, DAY + 5), spilt(2, DAY + 90_000, key="other"))
    text = told(config, "usage", "--by", "key,cloud")
    assert "Requests that arrived from 2021-01-01T00:00:00Z until now." in text
    rows = [line.split() for line in text.splitlines() if line.startswith(("acme", "other", "all"))]
    assert rows == [
        ["acme", "azure", "0", "1", "0", "0", "0.0000", "0.0000"],
        ["acme", "coreweave", "1", "1", "1,000,000", "100,000", "1.2500", "1.2500"],
        ["other", "azure", "0", "1", "0", "0", "0.0000", "0.0000"],
        ["other", "coreweave", "1", "1", "1,000,000", "100,000", "1.2500", "1.2500"],
        ["all", "2", "4", "2,000,000", "200,000", "2.5000", "2.5000"],
    ]


def test_usage_for_programs(config: Path, tmp_path: Path) -> None:
    fill(config, spilt(1, DAY + 5), spilt(2, DAY + 90_000, key='=cmd|"x"'))
    lines = json.loads(told(config, "usage", "--by", "day", "--format", "json", "--key", "acme"))
    assert [(line["day"], line["requests"], line["cost_nano_usd"]) for line in lines] == [
        ("2021-01-01", 1, 1_250_000_000)
    ]
    out = tmp_path / "usage.csv"
    assert told(config, "usage", "--by", "key,cloud", "--format", "csv", "--output", str(out)) == ""
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert list(rows[0]) == ["key", "cloud", *SUMS]
    assert {row["key"] for row in rows} == {"acme", '\'=cmd|"x"'}, "a spreadsheet would run it"
    assert sum(int(row["cost_nano_usd"]) for row in rows) == 2_500_000_000
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("report", ["usage", "cost"])
def test_a_period_that_is_longer_than_time_is_all_there_is(config: Path, report: str) -> None:
    fill(config, spilt(1, DAY + 5))
    found = run(config, report, "--since", "99999999d", "--until", "9999-12-31T23:59:59Z")
    assert (found.exit_code, "1970-01-01" in found.stdout) == (0, True)


def test_a_period_ends_where_it_is_told_to(config: Path) -> None:
    fill(config, spilt(1, DAY + 5), spilt(2, DAY + 90_000))
    until = told(config, "usage", "--by", "day", "--format", "csv", "--until", "2021-01-02")
    assert [line.split(",")[0] for line in until.splitlines()] == ["day", "2021-01-01"]


def test_cost_says_what_refusals_and_capacity_cost(config: Path) -> None:
    fill(config, spilt(1, DAY + 5))
    found = json.loads(told(config, "cost", "--format", "json", "--until", "2021-01-02"))
    azure, coreweave = found["clouds"]
    assert (azure["cloud"], azure["flat_nano_usd"], azure["request_share"]) == ("azure", 240_000_000_000, 0.0)
    assert (coreweave["cost_nano_usd"], coreweave["request_share"]) == (1_250_000_000, 1.0)
    (row,) = found["spill_over"]
    assert (row["holder"], row["cloud"], row["requests"]) == ("azure", "coreweave", 1)
    assert (row["at_holder_nano_usd"], row["dearer_nano_usd"]) == (3_500_000_000, -2_250_000_000)
    assert found["capacity"] == [
        {
            "deployment": "east/ptu",
            "cloud": "azure",
            "flat_nano_usd": 240_000_000_000,
            "tokens": 0,
            "by_token_nano_usd": 0,
            "utilisation": 0.0,
        }
    ]
    text = told(config, "cost", "--until", "2021-01-02")
    assert re.search(r"azure +0 +0\.0% +0 +0\.0000 +240\.0000 +240\.0000 +99\.5%", text)
    assert re.search(r"internal +gpt-4o +azure +coreweave +1 +1,100,000 +1\.2500 +3\.5000 +-2\.2500", text)
    assert re.search(r"east/ptu +240\.0000 +0 +0\.0% +0\.0000", text)


@pytest.mark.parametrize(("of", "ids"), [("requests", ["req-1", "req-2"]), ("attempts", ["req-1/1", "req-1/2"])])
def test_entries_are_written_as_they_are(config: Path, tmp_path: Path, of: str, ids: list[str]) -> None:
    fill(config, spilt(1, DAY + 5.25), spilt(2, DAY + 6, client_request_id="-1+1", attempts=()), spilt(3, DAY + 90_000))
    out = tmp_path / "entries"
    arguments = "entries", "--of", of, "--until", "2021-01-02", "--output", str(out)
    told(config, *arguments)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert [row["id"] for row in rows] == ids
    assert rows[0]["at"] == "2021-01-01T00:00:05.250000+00:00"
    told(config, *arguments, "--format", "jsonl")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["id"] for line in lines] == ids
    if of == "requests":
        assert (rows[1]["client_request_id"], lines[1]["client_request_id"]) == ("'-1+1", "-1+1")
    else:
        assert (rows[1]["price"], lines[1]["cost_nano_usd"]) == ("abc", 1_250_000_000)


def test_a_report_writes_nothing_into_the_store(config: Path) -> None:
    fill(config, spilt(1, DAY + 5))
    store = config.parent / "ledger" / "ledger.db"
    before = store.read_bytes()
    for command in ("usage", "cost", "entries"):
        told(config, command)
    assert store.read_bytes() == before


@pytest.mark.parametrize("command", ["usage", "cost", "entries"])
def test_what_stands_in_the_way_is_said_in_a_line(config: Path, command: str) -> None:
    missing = run(config, command)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "there is no store at" in missing.stderr
    assert not (config.parent / "ledger").exists(), "to look for it does not make it"
    (config.parent / "ledger").mkdir()
    (config.parent / "ledger" / "ledger.db").write_bytes(b"")
    empty = run(config, command)
    assert (empty.exit_code, "ledger.db cannot be read: " in empty.stderr) == (1, True)
    assert "`inference-router ledger migrate` makes them" in empty.stderr
    text = config.read_text().replace('"ledger"', '"tracing"')
    config.write_text(re.sub(r',\s*"tracing": \{[^}]*\}', "", text))
    off = run(config, command)
    assert (off.exit_code, "has no `ledger`" in off.stderr) == (2, True)


def test_an_output_that_cannot_be_written_is_none(config: Path, tmp_path: Path) -> None:
    fill(config, spilt(1, DAY + 5))
    found = run(config, "usage", "--output", str(tmp_path / "no" / "such"))
    assert (found.exit_code, "No such file or directory" in found.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--since", "yesterday"), "is no moment"),
        (("--since", "2021-01-01T00:00:00"), "is no moment"),
        (("--since", "2021-01-02", "--until", "2021-01-02"), "--since is not before --until"),
        (("--by", "colour"), "'colour' is not"),
    ],
)
def test_wrong_words_are_refused(config: Path, arguments: tuple[str, ...], said: str) -> None:
    found = run(config, "usage", *arguments)
    assert (found.exit_code, said in found.stderr) == (2, True)


def test_moments_are_dates_or_so_long_ago() -> None:
    assert Moment().convert("2021-01-01", None, None) == DAY
    assert Moment().convert("2021-01-01T01:00:00+01:00", None, None) == DAY
    assert Moment().convert("2w", None, None) < Moment().convert("13d", None, None)
    assert Moment().convert("0001-01-01", None, None) == Moment().convert("99999999d", None, None) == 0.0
