"""The proof behind the splice: whatever a body looks like, only the model and the ask for usage change in it."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.proxy.json_keys import top_level_values
from tests.wire.whole_router import CLASSIC, Exchange, request

LAW = settings(deadline=None, max_examples=300)

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(
        ['"model":"x"', '{"model":"gpt-4o"}', '\\"model\\": ', "model", "\\", '"', "gpt-4o", "\\u006d", "stream"]
    ),
)
NAMES = st.one_of(TEXTS, st.sampled_from(["model", "stream", "stream_options", "include_usage", "store", "x"]))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=12,
)
# What stands at the top level beside the fields that are read: never one of their names.
MORE = st.dictionaries(
    st.one_of(
        TEXTS.map(lambda text: text + "_"), st.sampled_from(["messages", "tools", "Modell", "model ", "metadata"])
    ),
    VALUES,
    max_size=4,
)
OPTIONS = st.one_of(
    st.none(),
    st.fixed_dictionaries({}, optional={"include_usage": st.sampled_from([None, True, False]), "x": VALUES}),
)
READ = st.fixed_dictionaries(
    {"model": st.just("gpt-4o")},
    optional={"stream": st.sampled_from([None, True, False]), "stream_options": OPTIONS, "user": TEXTS},
)
SPACES = st.sampled_from(["", "", "", " ", "\n", "\t \r\n"])


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """The same JSON string with some of its characters as escapes."""
    if not draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    escaped = draw(st.sets(st.integers(0, max(0, len(text) - 1)), max_size=2))
    upper = draw(st.booleans())
    out = ""
    for at, char in enumerate(text):
        if at in escaped and ord(char) < 0x10000:
            code = f"{ord(char):04X}" if upper else f"{ord(char):04x}"
            out += f"\\u{code}"
        else:
            out += json.dumps(char, ensure_ascii=False)[1:-1]
    return f'"{out}"'


@st.composite
def written(draw: st.DrawFn, pairs: list[tuple[str, Any]]) -> bytes:
    """An object's text: its keys spelled and spaced in any way, its values as `json.dumps` writes them."""
    parts = []
    for name, value in pairs:
        text = draw(spelled(value)) if isinstance(value, str) else json.dumps(value, ensure_ascii=draw(st.booleans()))
        parts.append(draw(SPACES) + draw(spelled(name)) + draw(SPACES) + ":" + draw(SPACES) + text + draw(SPACES))
    return (draw(SPACES) + "{" + (",".join(parts) or draw(SPACES)) + "}" + draw(SPACES)).encode()


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    pairs = [*draw(READ).items(), *draw(MORE).items()]
    return draw(written(draw(st.permutations(pairs))))


def exact(body: bytes) -> dict[str, Any]:
    """Numbers as they are written: no digit may change."""
    value: dict[str, Any] = json.loads(body, parse_float=str, parse_int=str)
    return value


def expected(body: bytes) -> dict[str, Any]:
    found = exact(body)
    if found.get("stream") is True:
        options = found.get("stream_options") or {}
        found["stream_options"] = {**options, "include_usage": True}
    return {**found, "model": "dep"}


@LAW
@given(bodies())
@example(b'{"m\\u006fdel":"gpt-4o","metadata":{"model":"x"}}')
@example(b'{"metadata":{"model":"gpt-4o"},"x":"\\"model\\":","model":"gpt-4o"}')
@example(b'{"stream_options":{"x":{"include_usage":false}},"stream":true,"model":"gpt\\u002d4o"}')
@example(b'{"x\\\\":"\\\\\\"","model":"gpt-4o"}')
def test_only_the_model_and_the_ask_for_usage_change(body: bytes) -> None:
    one = Exchange(request(body))
    sent = one.sent[1]
    assert exact(sent) == expected(body), one.client.out
    # And the order of the rest stays, whatever a reader makes of it.
    assert [key for key in exact(sent) if key != "stream_options"] == [
        key for key in exact(body) if key != "stream_options"
    ]


@LAW
@given(bodies(), st.sampled_from(["v1", CLASSIC]))
def test_the_same_where_the_path_names_the_model(body: bytes, api_version: str) -> None:
    path = "/openai/deployments/gpt-4o/chat/completions?api-version=x"
    one = Exchange(request(body, path=path), api_version=api_version)
    assert exact(one.sent[1]) == expected(body)


@LAW
@given(READ, MORE, st.sampled_from(["model", "stream", "stream_options", "store"]), st.data())
def test_a_field_that_stands_twice_is_always_refused(
    read: dict[str, Any], more: dict[str, Any], name: str, data: st.DataObject
) -> None:
    """However the two are spelled, wherever they stand, whether or not their values are the same."""
    values: dict[str, Any] = {"model": "gpt-4o", "stream": True, "stream_options": None, "store": False}
    pairs = [*{name: values[name], **read}.items(), *more.items(), (name, values[name])]
    body = data.draw(written(data.draw(st.permutations(pairs))))
    assert Exchange(request(body)).refusal == (400, "duplicate_key", name)


@LAW
@given(st.lists(st.tuples(NAMES, VALUES), max_size=6), st.data())
def test_values_stand_where_they_are_said_to(pairs: list[tuple[str, Any]], data: st.DataObject) -> None:
    body = data.draw(written(pairs))
    found: dict[str, list[Any]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    spans = top_level_values(body)
    assert {name: [json.loads(body[a:b]) for a, b in places] for name, places in spans.items()} == found


@LAW
@given(bodies(), st.integers(0, 400), st.binary(max_size=2), st.integers(0, 2))
def test_a_damaged_body_is_answered_clearly_or_sent_as_it_is(body: bytes, at: int, junk: bytes, gone: int) -> None:
    """Never our own failure, and never a change elsewhere than where the splice was proved."""
    at = min(at, len(body))
    damaged = body[:at] + junk + body[at + gone :]
    one = Exchange(request(damaged))
    if one.transport.out:
        assert b"dep" in one.sent[1]
    else:
        assert one.refusal[0] in (400, 404)
