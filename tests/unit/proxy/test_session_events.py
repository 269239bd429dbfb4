"""What a session's head and events say, and how what they say is read."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.accounting.usage import session_usage_of
from router.balancing.prices import cost_nano_usd, spoken_cost_nano_usd
from router.base.errors import InvalidRequestError, UnauthorizedError
from router.model.fleet import Price
from router.model.outcome import Usage
from router.proxy.realtime.events import (
    ServerEvent,
    may_be_event,
    model_places,
    read_client_event,
    read_server_event,
    spliced,
    type_of,
)
from router.proxy.realtime.paths import beta, model_of, presented, spoken

KEY = b"openai-insecure-api-key."


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, {}),
        ({b"api-key": b"a"}, {b"api-key": b"a"}),
        ({b"sec-websocket-protocol": b"realtime"}, {}),
        ({b"sec-websocket-protocol": b"realtime, " + KEY + b"sk-1"}, {b"api-key": b"sk-1"}),
        # Beside a header the two are compared by whoever authenticates.
        (
            {b"sec-websocket-protocol": KEY + b"sk-1", b"authorization": b"Bearer x"},
            {b"api-key": b"sk-1", b"authorization": b"Bearer x"},
        ),
        (
            {b"sec-websocket-protocol": KEY + b"sk-1", b"api-key": b"x"},
            {b"api-key": b"x", b"authorization": b"Bearer sk-1"},
        ),
        ({b"sec-websocket-protocol": KEY}, {}),  # a key of no characters is none
    ],
)
def test_a_key_may_be_told_as_a_subprotocol(fields: dict[bytes, bytes], shown: dict[bytes, bytes]) -> None:
    found = {name: value for name, value in presented(fields).items() if name != b"sec-websocket-protocol"}

    assert found == shown


def test_two_keys_in_subprotocols_are_none() -> None:
    with pytest.raises(UnauthorizedError):
        presented({b"sec-websocket-protocol": KEY + b"a, " + KEY + b"b"})


@given(st.lists(st.sampled_from([b"realtime", KEY + b"sk-1", b"openai-beta.realtime-v1", b"chat"])))
def test_no_key_is_ever_agreed_on(offered: list[bytes]) -> None:
    fields = {b"sec-websocket-protocol": b", ".join(offered)}

    assert spoken(fields) == (b"realtime" if b"realtime" in offered else b"")
    assert KEY not in beta(fields)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({}, b""),
        ({b"openai-beta": b"realtime=v1"}, b"realtime=v1"),
        ({b"sec-websocket-protocol": b"realtime, openai-beta.realtime-v1"}, b"realtime=v1"),
        ({b"sec-websocket-protocol": b"openai-beta.nothing"}, b""),
    ],
)
def test_a_beta_is_told_by_header_or_subprotocol(fields: dict[bytes, bytes], value: bytes) -> None:
    assert beta(fields) == value


@pytest.mark.parametrize(
    ("target", "model"),
    [
        (b"/v1/realtime?model=gpt-realtime", "gpt-realtime"),
        (b"/v1/realtime?model=a%2Fb+c", "a/b c"),
        (b"/openai/realtime?api-version=x&deployment=voice", "voice"),
        (b"/v1/realtime?%6dodel=voice", "voice"),
    ],
)
def test_the_query_names_the_model(target: bytes, model: str) -> None:
    assert model_of(target) == model


@pytest.mark.parametrize(
    ("query", "code"),
    [
        (b"", "missing_model"),
        (b"model=", "missing_model"),
        (b"model=a&deployment=a", "duplicate_key"),
        (b"model=a&model=a", "duplicate_key"),
        (b"model=a&Model=b", "unsupported_query"),
        (b"model=a&intent=transcription", "unsupported_query"),
        (b"model=%ff", "invalid_query"),
        (b"model=\xff", "invalid_query"),
    ],
)
def test_a_query_that_says_something_else_is_refused(query: bytes, code: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        model_of(b"/v1/realtime?" + query)
    assert raised.value.code == code


def test_each_model_that_an_event_names_is_found_where_it_stands() -> None:
    payload = b'{ "model" : "x","session":{"a":{"model":"no"},"model": "y" },"response":{"model":"z"},"type":"t"}'
    event, places = read_client_event(payload)

    found = model_places(event, payload, places)

    assert [model for model, _ in found] == ["x", "y", "z"]
    changed = orjson.loads(spliced(payload, [place for _, place in found], b'"mine"'))
    assert changed == {
        "model": "mine",
        "session": {"a": {"model": "no"}, "model": "mine"},
        "response": {"model": "mine"},
        "type": "t",
    }


@given(
    st.dictionaries(
        st.text(max_size=8).filter(lambda name: name not in ("type", "event_id", "stream_id", "model")),
        st.recursive(
            st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=12,
        ),
        max_size=6,
    ).filter(lambda fields: not {"session", "response", "previous_response_id", "background"} & fields.keys())
)
def test_an_event_is_read_whatever_else_stands_in_it(fields: dict[str, Any]) -> None:
    payload = orjson.dumps({**fields, "type": "response.create"}, option=orjson.OPT_INDENT_2)

    event, places = read_client_event(payload)

    assert event.type == "response.create"
    assert model_places(event, payload, places) == []


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"a","type":"b"}',
        b'{"type":"a","t\\u0079pe":"b"}',
        b'{"type":"a","stream_id":"1","stream_id":"2"}',
        b'{"type":"a","session":{},"session":{}}',
        b'{"type":1}',
        b"{}",
        b"[]",
        b'{"type":"a"} {"type":"b"}',
        b'\xef\xbb\xbf{"type":"a"}',
        b'{"type":"a","x":NaN}',
        b"[" * 100_000,
        b'{"type":"a","session":' + b"[" * 100_000,
        b'{"type":"\xff"}',
    ],
)
def test_what_two_parsers_could_read_differently_is_no_event(payload: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        read_client_event(payload)


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_an_object_in_any_coding_is_taken_for_an_event(coding: str) -> None:
    assert may_be_event(' \n{"type":"response.create"}'.encode(coding))


@given(st.binary(max_size=60))
def test_what_a_deployment_sends_never_raises(payload: bytes) -> None:
    assert isinstance(type_of(payload), str)
    assert read_server_event(payload) is None or isinstance(read_server_event(payload), ServerEvent)


def test_usage_tells_audio_apart() -> None:
    usage = session_usage_of(
        {
            "input_tokens": 132,
            "output_tokens": 121,
            "input_token_details": {
                "text_tokens": 119,
                "audio_tokens": 13,
                "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 60, "audio_tokens": 4},
            },
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        }
    )

    assert usage == Usage(132, 121, 64, 0, 13, 91, 4)
    price = Price(4_000_000_000, 16_000_000_000, 400_000_000, 32_000_000_000, 64_000_000_000, 300_000_000)
    text = (119 - 60) * 4000 + 60 * 400 + 30 * 16_000
    audio = (13 - 4) * 32_000 + 4 * 300 + 91 * 64_000
    assert spoken_cost_nano_usd(price, usage) == text + audio


@given(st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000), st.integers(0, 1000))
def test_audio_without_a_price_of_its_own_costs_what_text_does(
    prompt: int, completion: int, cached: int, audio: int, audio_completion: int
) -> None:
    price = Price(4_000_000, 16_000_000, 1_000_000)
    usage = Usage(prompt, completion, min(cached, prompt), 0, audio, audio_completion, 0)

    assert spoken_cost_nano_usd(price, usage) >= 0
    if min(cached, prompt) <= prompt - min(audio, prompt):
        assert spoken_cost_nano_usd(price, usage) == cost_nano_usd(price, prompt, completion, min(cached, prompt))


def test_a_prices_version_is_what_it_was_where_it_has_no_audio() -> None:
    assert Price(1, 2, 3).version == Price(1, 2, 3, None, None, None).version
    assert Price(1, 2, 3).version != Price(1, 2, 3, 4).version


@pytest.mark.parametrize(
    "reported", [None, 5, {}, {"input_tokens": "x"}, {"input_tokens": 1, "input_token_details": 7}]
)
def test_odd_usage_is_no_error(reported: object) -> None:
    assert session_usage_of(reported) in (None, Usage(1), Usage(0))
