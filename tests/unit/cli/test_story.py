"""The demo's story judges itself: what it counts, what it draws, and what it calls wrong."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import orjson
import pytest

from router.cli.demo import ANCHORS, LOG, SIGNING_KEY, _report
from router.cli.story.script import DEATH_AT, STORY_S
from router.cli.story.tally import Tally
from router.cli.story.telling import Story
from router.cli.story.traffic import CUT, Seen
from router.cli.story.view import History
from router.model.decision import Decision, Offer
from router.telemetry.anchors import new_key
from router.telemetry.decision_log import DecisionLog, DecisionLogSettings


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_bytes(b'{"id":"before","workload":"api"}\n')
    return path


def write(log: Path, *records: dict[str, Any]) -> None:
    with log.open("ab") as file:
        file.writelines(orjson.dumps(record) + b"\n" for record in records)


def request(cloud: str, plan: str = "first_refusal:azure", **more: Any) -> dict[str, Any]:
    workload = "api" if plan.startswith("exclusive") else "internal"
    attempt = {"deployment": f"{cloud}-1/m", "cloud": cloud, "outcome": "served", "first_byte_ms": 10.0}
    return {"id": "r1", "workload": workload, "plan": plan, "cloud": cloud, "attempts": [attempt], **more}


def test_the_tally_takes_whole_lines_that_are_new(log: Path) -> None:
    tally = Tally(log, 2.0)
    write(log, request("azure"), request("oracle", refusals=[["azure-1/m", "azure", "busy"]]))
    with log.open("ab") as file:
        file.write(b'{"id":"half')

    assert len(tally.read(1.0)) == 2
    assert tally.read(1.0) == []
    assert tally.clouds == {"internal": {"azure": 1, "oracle": 1}}
    lately = tally.lately()
    assert lately.served["internal"] == {"azure-1/m": 1, "oracle-1/m": 1}
    assert lately.refused == {"azure-1/m": {"busy": 1}}
    assert lately.first_byte_ms["oracle-1/m"] == 10.0
    tally.read(3.5)
    assert not tally.lately().requests


def test_an_exclusive_request_that_was_sent_elsewhere_is_a_stray(log: Path) -> None:
    tally = Tally(log, 2.0)
    write(log, request("azure", "exclusive:azure"), request("oracle", "exclusive:azure"), request("oracle"))
    tally.read(1.0)

    assert tally.strays == ["request r1 of api was sent to oracle"]


def test_each_column_is_as_high_as_the_others_and_filled_in_proportion() -> None:
    history = History()
    for cloud in ("azure",) * 3 + ("oracle",) * 2:
        history.add("internal", cloud, 0.0)
    history.add("internal", "coreweave", STORY_S)

    lines = [str(line) for line in history.chart("internal")]

    assert [line[0] for line in lines] == ["▒", "▒", "█", "█", "█"]
    assert [line[-1] for line in lines] == ["▓"] * 5
    assert {len(line) for line in lines} == {38}
    assert not "".join(map(str, history.chart("api"))).strip()


def story(log: Path, *seen: Seen) -> Story:
    clouds = {"azure-1": Mock(cloud="azure"), "oracle-1": Mock(cloud="oracle")}
    told = Story(STORY_S, clouds, Mock(), "http://127.0.0.1:1/v1", dict, log)
    told._clients.seen.extend(seen)
    return told


@pytest.mark.parametrize(
    ("sent_at", "ended_at", "problem", "wrong"),
    [
        (DEATH_AT - 1, DEATH_AT + 1, CUT, False),
        (DEATH_AT + 1, DEATH_AT + 2, CUT, True),
        (DEATH_AT - 1, DEATH_AT + 1, "status 503, no_capacity", True),
        (0.0, 1.0, "", False),
    ],
)
def test_only_a_stream_that_ran_when_its_region_died_may_break(
    log: Path, sent_at: float, ended_at: float, problem: str, wrong: bool
) -> None:
    told = story(log, Seen("api", sent_at, ended_at, 0.1, problem))

    assert bool(list(told._wrong({"azure-1": 1}))) is wrong


def test_the_clouds_word_counts_and_not_the_routers(log: Path) -> None:
    assert list(story(log)._wrong({"azure-1": 5, "oracle-1": 2})) == [
        "oracle-1 saw 2 requests of a key that may use azure only"
    ]


def decisions(folder: Path) -> Iterator[DecisionLog]:
    new_key(folder / SIGNING_KEY)
    settings = DecisionLogSettings(
        str(folder / LOG), anchors=str(folder / ANCHORS), signing_key=str(folder / SIGNING_KEY), segment_bytes=1 << 20
    )
    log = DecisionLog(settings)
    yield log
    log.close()


@pytest.mark.parametrize("cloud", ["azure", "oracle"])
def test_a_log_that_shows_a_violation_makes_the_demo_fail(
    cloud: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    offers = (Offer(f"{cloud}-1/m", cloud, "accepted"),)
    asked = ("gpt-4o", "chat", "exclusive:azure", "v1")
    for log in decisions(tmp_path):
        log.write(Decision("r1", 1.0, "k", "api", *asked, offers, offers[0].deployment, cloud, "ok"))

    problems = _report(tmp_path, 10.0)

    assert bool(problems) is (cloud != "azure")
    out = capsys.readouterr().out
    assert "$ inference-router audit verify" in out
    assert ("exclusivity: request r1" in out) is (cloud != "azure")
