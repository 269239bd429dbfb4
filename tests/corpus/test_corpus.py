"""Bytes that once broke us, one file each: what broke, the reads in which they came, and what is right.

`side`: `client` (requests, to a handler that echoes), `stream` (a deployment's answer to a chat stream), `body` (a
JSON body), `form` (a content type, and the form). Bytes are written as Latin-1.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.wire.fakes import Client
from tests.wire.test_relay import read
from tests.wire.whole_router import Exchange, body_of, request

CASES = {file.stem: json.loads(file.read_text()) for file in sorted(Path(__file__).parent.glob("*.json"))}


def replay_client(reads: list[bytes], expect: dict[str, Any]) -> None:
    client = Client()
    for data in reads:
        client.feed(data)
    assert client.statuses == expect["statuses"]
    assert [each.target.decode() for each in client.handler.seen] == expect["targets"]
    client.check()


def replay_stream(reads: list[bytes], expect: dict[str, Any]) -> None:
    one = Exchange(request(body_of(stream=True)))
    for data in reads:
        one.answer(data)
    found = read(one)
    assert (found.status >= 500) if expect["status"] >= 500 else (found.status == expect["status"])
    assert found.whole is expect["whole"]
    if expect["payload"] is not None:
        assert found.payload.decode() == expect["payload"]
    one.check()


def replay_body(reads: list[bytes], expect: dict[str, Any]) -> None:
    assert Exchange(request(reads[0])).refusal[:2] == (expect["status"], expect["code"])


def replay_form(reads: list[bytes], expect: dict[str, Any]) -> None:
    sent = request(reads[1], path="/v1/audio/transcriptions", content_type=reads[0].decode())
    assert Exchange(sent, deployment="whisper-dep").refusal[:2] == (expect["status"], expect["code"])


REPLAYS = {"client": replay_client, "stream": replay_stream, "body": replay_body, "form": replay_form}


@pytest.mark.parametrize("name", CASES)
def test_what_broke_once_is_right_now(name: str) -> None:
    case = CASES[name]
    REPLAYS[case["side"]]([data.encode("latin-1") for data in case["reads"]], case["expect"])
