"""What is read of a JSON body, and which bodies are refused: clearly, with the field at fault, and at once."""

from time import perf_counter

import pytest

from router.base.errors import InvalidRequestError
from router.model.operation import CHAT, EMBEDDINGS, RESPONSES
from router.proxy.facts import LARGE_BYTES, Facts, json_facts, names_file


def facts(body: bytes, path_model: str | None = None) -> Facts:
    return json_facts(body, CHAT, path_model)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"   ", "invalid_json", None),
        (b"null", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b'"x"', "invalid_json", None),
        (b"1", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b'{"model":"a"', "invalid_json", None),
        (b'{"model":"a"} x', "invalid_json", None),
        (b'{"model":"a"}{"model":"b"}', "invalid_json", None),
        (b'{"model":"a",}', "invalid_json", None),
        (b"{'model':'a'}", "invalid_json", None),
        (b'{"model":"a","x":NaN}', "invalid_json", None),
        (b'{"model":"a","x":tru}', "invalid_json", None),
        (b'{"model":"a","x":"\x01"}', "invalid_json", None),
        (b'{"model":"a","x":"\n"}', "invalid_json", None),
        (b'\xef\xbb\xbf{"model":"a"}', "invalid_json", None),
        ('{"model":"a"}'.encode("utf-16"), "invalid_json", None),
        (b'{"model":"\xff"}', "invalid_json", None),
        (b'{"model":"a\\ud800"}', "invalid_json", None),
        (b'{"\xff":1,"mod\\u0065l":"a"}', "invalid_json", None),
        (b"{}", "missing_model", "model"),
        (b'{"model":null}', "missing_model", "model"),
        (b'{"model":""}', "missing_model", "model"),
        (b'{"Model":"a"}', "missing_model", "model"),
        (b'{"x":{"model":"a"}}', "missing_model", "model"),
        (b'{"model":1}', "invalid_type", "model"),
        (b'{"model":["a"]}', "invalid_type", "model"),
        (b'{"model":"a","stream":1}', "invalid_type", "stream"),
        (b'{"model":"a","stream":"true"}', "invalid_type", "stream"),
        (b'{"model":"a","stream_options":[]}', "invalid_type", "stream_options"),
        (b'{"model":"a","stream_options":{"include_usage":1}}', "invalid_type", "stream_options.include_usage"),
        (b'{"model":"a","store":0}', "invalid_type", "store"),
        (b'{"model":"a","model":"a"}', "duplicate_key", "model"),
        (b'{"model":"a","model":"b"}', "duplicate_key", "model"),
        (b'{"model":"a","mod\\u0065l":"b"}', "duplicate_key", "model"),
        (b'{"\\u006Dodel":"a","mod\\u0065l":"b"}', "duplicate_key", "model"),
        (b'{"model":"a","stream":true,"stream":false}', "duplicate_key", "stream"),
        (b'{"model":"a","stream":true,"strea\\u006d":null}', "duplicate_key", "stream"),
        (b'{"model":"a","stream_options":{},"stream_options":null}', "duplicate_key", "stream_options"),
        (b'{"model":"a","stream_options":{},"stream\\u005foptions":null}', "duplicate_key", "stream_options"),
        (b'{"model":"a","store":true,"store":false}', "duplicate_key", "store"),
        (
            b'{"model":"a","stream":true,"stream_options":{"include_usage":false,"include_usage":null}}',
            "duplicate_key",
            "stream_options.include_usage",
        ),
    ],
)
def test_a_bad_body_is_refused_with_the_field_at_fault(body: bytes, code: str, param: str | None) -> None:
    for each in (body, bytearray(body)):
        with pytest.raises(InvalidRequestError) as caught:
            facts(each)
        assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
        assert "gpt" not in caught.value.message


@pytest.mark.parametrize(
    ("body", "model", "span"),
    [
        (b'{"model":"a"}', "a", b'"a"'),
        (b' \r\n\t{ "model" \n:\t "a" } \n', "a", b'"a"'),
        (b'{"messages":[{"content":"\\"model\\":\\"x\\""}],"model":"a"}', "a", b'"a"'),
        (b'{"tools":[{"properties":{"model":{"type":"string"}}}],"model":"a"}', "a", b'"a"'),
        (b'{"model":"a","metadata":{"model":"b"}}', "a", b'"a"'),
        (b'{"metadata":{"model":"b"},"model":"a"}', "a", b'"a"'),
        (b'{"metadata":{"model":"a"},"mod\\u0065l":"a"}', "a", b'"a"'),
        (b'{"\\u006dodel":"a","x":"\\u0061"}', "a", b'"a"'),
        (b'{"model":"a\\/b"}', "a/b", b'"a\\/b"'),
        (b'{"model":"\\u0061"}', "a", b'"\\u0061"'),
        ('{"model":"ä"}'.encode(), "ä", '"ä"'.encode()),
        (b'{"x":["model","a"],"y":"model","model":"a"}', "a", b'"a"'),
        (b'{"x":"\\\\","model":"a","y":"\\\\\\""}', "a", b'"a"'),
        (b'{"x":1e99999,"model":"a"}', "a", b'"a"'),
        (b'{"x":' + b"9" * 100_000 + b',"model":"a"}', "a", b'"a"'),
    ],
)
def test_the_models_place_is_the_values_own(body: bytes, model: str, span: bytes) -> None:
    found = facts(body)
    assert found.model == model
    assert found.model_at is not None
    assert body[found.model_at.start : found.model_at.end] == span
    key = body[: found.model_at.start].rstrip().removesuffix(b":").rstrip()
    assert key.endswith((b'"model"', b'"mod\\u0065l"', b'"\\u006dodel"'))


def test_the_path_names_the_model_before_the_body_does() -> None:
    assert facts(b'{"model":"b"}', "a").model == "a"
    assert facts(b"{}", "a").model_at is None
    found = facts(b'{"model":null}', "a")
    assert found.model_at is not None
    assert b'{"model":null}'[found.model_at.start : found.model_at.end] == b"null"


@pytest.mark.parametrize(
    ("options", "spliced"),
    [
        (b"", b'{"stream_options":{"include_usage":true},"model":"a","stream":true}'),
        (b',"stream_options":null', b'{"model":"a","stream":true,"stream_options":{"include_usage":true}}'),
        (b',"stream_options":{}', b'{"model":"a","stream":true,"stream_options":{"include_usage":true}}'),
        (b',"stream_options":{ }', b'{"model":"a","stream":true,"stream_options":{"include_usage":true }}'),
        (b',"stream_options":{"x":1}', b'{"model":"a","stream":true,"stream_options":{"include_usage":true,"x":1}}'),
        (
            b',"stream_options":{"include_usage": false ,"x":{"include_usage":false}}',
            b'{"model":"a","stream":true,"stream_options":{"include_usage": true ,"x":{"include_usage":false}}}',
        ),
        (
            b',"stream_options":{"include_usag\\u0065":null}',
            b'{"model":"a","stream":true,"stream_options":{"include_usag\\u0065":true}}',
        ),
    ],
)
def test_usage_is_asked_for_where_the_client_did_not(options: bytes, spliced: bytes) -> None:
    body = b'{"model":"a","stream":true' + options + b"}"
    at = facts(body).usage_at
    assert at is not None
    assert body[: at.start] + at.text + body[at.end :] == spliced


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a"}',
        b'{"model":"a","stream":false}',
        b'{"model":"a","stream":null}',
        b'{"model":"a","stream":true,"stream_options":{"include_usage":true}}',
    ],
)
def test_usage_is_not_asked_for_where_there_is_no_stream_or_the_client_did(body: bytes) -> None:
    assert facts(body).usage_at is None
    assert json_facts(body.replace(b"false", b"true"), RESPONSES, None).usage_at is None


def test_fields_that_are_null_are_as_if_they_were_left_out() -> None:
    body = (
        b'{"model":"a","stream":null,"stream_options":null,"store":null,"background":null,"previous_response_id":null}'
    )
    found = json_facts(body, RESPONSES, None)
    assert (found.stream, found.stores, found.names_stored_state) == (False, False, False)


@pytest.mark.parametrize(
    ("more", "stored"),
    [
        (b'"previous_response_id":"resp_1"', True),
        (b'"conversation":{"id":"conv_1"}', True),
        (b'"conversation":"conv_1"', True),
        (b'"background":true', True),
        (b'"background":false', False),
        (b'"input":[{"type":"input_file","file_id":"file-1"}]', True),
        (b'"tools":[{"type":"file_search","vector_store_ids": [ "vs_1"]}]', True),
        (b'"tools":[{"container":"cntr_1"}]', True),
        (b'"tools":[{"container":{"type":"auto"}}]', False),
        (b'"input":"write \\"file_id\\": \\"x\\" into the file"', False),
        (b'"tools":[{"properties":{"file_id":{"type":"string"}}}]', False),
        (b'"prompt_cache_key":"previous_response_id"', False),
    ],
)
def test_state_that_one_endpoint_stores_is_noticed(more: bytes, stored: bool) -> None:
    body = b'{"model":"a",%b}' % more
    found = json_facts(body, RESPONSES, None).names_stored_state or names_file(body, RESPONSES.stored_words)
    assert found is stored


LONG = "x" * LARGE_BYTES


@pytest.mark.parametrize(
    "body",
    [
        '{"messages":[{"content":"LONG \\"model\\": \\u006d"}],"model":"a"}',
        '{"model":"a","messages": [{"model":"b","content":"LONG","n":"\\u006dodel"}]}',
        '{"input":"LONG","model":"a","metadata":{"x":"LONG"}}',
        '{"metadata":{"messages":["LONG"]},"model":"a","messages":["LONG"]}',
        '{"prompt":["LONG"],"model":"a","messages":["LONG","LONG"]}',
    ],
)
def test_what_stands_in_a_large_value_is_no_key_of_the_body(body: str) -> None:
    raw = body.replace("LONG", LONG).encode()
    place = json_facts(raw, CHAT, None).model_at
    assert place is not None
    assert raw[place.start - 8 : place.end] == b'"model":"a"'


@pytest.mark.parametrize(
    "body",
    [
        '{"model":"a","messages":["LONG"],"model":"a"}',
        '{"messages":["LONG"],"model":"a","\\u006dodel":"a"}',
        '{"\\u006dodel":"b","model":"a","messages":["LONG"]}',
        '{"model":"a","stream":true,"messages":["LONG"],"stream":true}',
        '{"messages":["LONG"],"messages":["LONG"],"model":"a","model":"a"}',
    ],
)
def test_a_key_that_stands_twice_around_a_large_value_is_refused(body: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        json_facts(body.replace("LONG", LONG).encode(), CHAT, None)
    assert caught.value.code == "duplicate_key"


NESTED = b'{"model":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (NESTED, "invalid_json"),
        (b'{"model":"a","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "invalid_json"),
        (b"[" * 1_000_000, "invalid_json"),
        (b'{"a":' * 1_000_000, "invalid_json"),
        (b'{"model":"a","model":"b","x":[' + b"[]," * 1_000_000 + b"1]}", "body_too_complex"),
        (b'{"mod\\u0065l":"a","x":[' + b'"",' * 1_000_000 + b"1]}", "body_too_complex"),
    ],
)
def test_a_body_made_to_be_slow_is_refused_in_no_time(body: bytes, code: str) -> None:
    began = perf_counter()
    with pytest.raises(InvalidRequestError) as caught:
        facts(body)
    assert caught.value.code == code
    assert perf_counter() - began < 1.0  # 0.1 s at most on an idle machine


def test_a_long_list_of_tokens_is_no_complex_body() -> None:
    """Embeddings take arrays of numbers, millions of them."""
    body = b'{"user":{"model":1},"input":[[' + b"1234, " * 2_000_000 + b'1]],"mod\\u0065l":"a"}'
    began = perf_counter()
    assert json_facts(body, EMBEDDINGS, None).model == "a"
    assert perf_counter() - began < 2.0
